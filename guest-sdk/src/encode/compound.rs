//! Objects and arrays while they are open.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Error, Writer, text};

/// An open object or array.
pub(super) struct Compound<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    /// What closes it; nothing where the "object" is JSON text that is written as it is.
    pub(super) close: &'static str,
    /// Where the entry begins whose name was written last.
    pub(super) entry: usize,
}

impl Compound<'_, '_> {
    /// Writes a comma unless this is the first entry: only an opening bracket can stand before that.
    #[inline]
    fn separate(&mut self) {
        if !matches!(self.writer.out.last(), Some(b'{' | b'[')) {
            self.writer.out.push(b',');
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.separate();
        value.serialize(&mut *self.writer)?;
        if self.writer.unsent {
            return Err(Error::custom("a column that was not sent cannot be an element of an array"));
        }
        Ok(())
    }

    /// Writes one field; an unsent column leaves no trace of it.
    #[inline]
    pub(super) fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        if self.writer.raw {
            value.serialize(&mut *self.writer)?;
            self.writer.raw = false;
            return Ok(());
        }
        self.entry = self.writer.out.len();
        self.separate();
        text::write_name(self.writer.out, name);
        self.value(value)
    }

    /// Writes the value of the entry.
    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.writer)?;
        if self.writer.unsent {
            self.leave_out()?;
        }
        Ok(())
    }

    #[cold]
    fn leave_out(&mut self) -> Result<(), Error> {
        if self.writer.depth != 1 {
            let field = String::from_utf8_lossy(self.writer.out.get(self.entry..).unwrap_or_default());
            let field = field.trim_matches([',', ':']);
            return Err(Error::custom(format!(
                "the field {field} is a column that was not sent: it can be left out of a row, but not of an object \
                 within"
            )));
        }
        self.writer.out.truncate(self.entry);
        self.writer.unsent = false;
        self.writer.left_out = true;
        Ok(())
    }

    pub(super) fn close(self) -> Result<(), Error> {
        self.writer.out.extend_from_slice(self.close.as_bytes());
        self.writer.depth -= self.close.len();
        Ok(())
    }

    /// Writes the name of a map's entry. JSON has names of text only; numbers are put in quotes.
    fn name<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Error> {
        self.entry = self.writer.out.len();
        self.separate();
        let start = self.writer.out.len();
        name.serialize(&mut *self.writer)?;
        match self.writer.out.get(start) {
            Some(b'"') => Ok(()),
            Some(b'0'..=b'9' | b'-') => {
                self.writer.out.insert(start, b'"');
                self.writer.out.push(b'"');
                Ok(())
            }
            _ => Err(Error::custom("the name of an object's field must be text or a number")),
        }
    }
}

macro_rules! array {
    ($($kind:ident $method:ident)*) => {$(
        impl $kind for Compound<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

array! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

macro_rules! object {
    ($($kind:ident)*) => {$(
        impl $kind for Compound<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

object! { SerializeStruct SerializeStructVariant }

impl SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Error> {
        self.name(name)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.writer.out.push(b':');
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}
