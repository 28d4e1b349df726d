//! Writes JSON text straight from the author's types: exact numbers, no value tree in between, and unsent columns
//! left out of the top-level object.

mod compound;
mod text;

use std::fmt::{self, Display, Write};

use serde::ser::{Error as _, Serialize, SerializeStruct, Serializer};

use crate::column::SENTINEL;
use compound::Compound;

/// The name under which serde_json passes text that is JSON already (that of its `RawValue`), both ways.
pub(crate) const RAW: &str = "$serde_json::private::RawValue";
/// The same for a number, in a build where somebody asked serde_json for arbitrary precision.
const RAW_NUMBER: &str = "$serde_json::private::Number";

/// Serialises text that is known to be JSON as the JSON itself, as `RawValue` does, without reading it again.
pub(crate) fn json_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let mut raw = serializer.serialize_struct(RAW, 1)?;
    raw.serialize_field(RAW, text)?;
    raw.end()
}

/// Writes a value's text behind what the buffer holds. Answers whether unsent columns were left out.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<bool, Error> {
    let mut writer = Writer { out: buffer, depth: 0, raw: false, unsent: false, left_out: false };
    value.serialize(&mut writer)?;
    if writer.unsent {
        return Err(Error::custom("a column that was not sent is no value by itself"));
    }
    Ok(writer.left_out)
}

/// The same by itself, as text.
pub(crate) fn to_text<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    let mut buffer = Vec::new();
    to_json(value, &mut buffer)?;
    text(buffer)
}

/// What was written, as the text that it is.
pub(crate) fn text(written: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(written).map_err(Error::custom)
}

/// Why a value has no JSON text.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// How many objects and arrays are open.
    depth: usize,
    /// The next text is JSON already.
    raw: bool,
    /// The value written last was an unsent column: nothing stands in `out` for it.
    unsent: bool,
    /// An unsent column was left out of the top-level object.
    left_out: bool,
}

impl<'a> Writer<'a> {
    /// Opens an object or an array, inside the object of an enum's variant if it has one.
    fn open<'w>(&'w mut self, variant: Option<&str>, bracket: u8) -> Compound<'w, 'a> {
        if let Some(variant) = variant {
            self.out.push(b'{');
            text::write(self.out, variant);
            self.out.push(b':');
        }
        self.out.push(bracket);
        let close = match (variant, bracket) {
            (None, b'{') => "}",
            (None, _) => "]",
            (Some(_), b'{') => "}}",
            (Some(_), _) => "]}",
        };
        self.depth += close.len();
        Compound { writer: self, close, entry: 0 }
    }

    fn integer(&mut self, value: impl itoa::Integer) {
        text::append(self.out, itoa::Buffer::new().format(value));
    }

    fn float(&mut self, value: f64, finite: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        if !value.is_finite() {
            return Err(Error::custom(format!("{value} is no JSON number")));
        }
        finite(self.out);
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident $type:ty)*) => {$(
        fn $method(self, value: $type) -> Result<(), Error> {
            self.integer(value);
            Ok(())
        }
    )*};
}

impl<'w, 'a> Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'w, 'a>;
    type SerializeTuple = Compound<'w, 'a>;
    type SerializeTupleStruct = Compound<'w, 'a>;
    type SerializeTupleVariant = Compound<'w, 'a>;
    type SerializeMap = Compound<'w, 'a>;
    type SerializeStruct = Compound<'w, 'a>;
    type SerializeStructVariant = Compound<'w, 'a>;

    integers! {
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64 serialize_i128 i128
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64 serialize_u128 u128
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        text::append(self.out, if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.float(f64::from(value), |out| text::append(out, zmij::Buffer::new().format_finite(value)))
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.float(value, |out| text::append(out, zmij::Buffer::new().format_finite(value)))
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        if self.raw {
            text::append(self.out, value);
        } else if value.starts_with('\0') && value == SENTINEL {
            self.unsent = true;
        } else {
            text::write(self.out, value);
        }
        Ok(())
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.out.push(b'"');
        write!(text::Escaping(self.out), "{value}").map_err(Error::custom)?;
        self.out.push(b'"');
        Ok(())
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<(), Error> {
        Err(Error::custom("bytes have no form in JSON: use the type `Bytes` of this crate, or text"))
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut object = self.open(None, b'{');
        object.field(variant, value)?;
        object.close()
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Compound<'w, 'a>, Error> {
        Ok(self.open(None, b'['))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Compound<'w, 'a>, Error> {
        Ok(self.open(None, b'['))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Compound<'w, 'a>, Error> {
        Ok(self.open(None, b'['))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Compound<'w, 'a>, Error> {
        Ok(self.open(Some(variant), b'['))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Compound<'w, 'a>, Error> {
        Ok(self.open(None, b'{'))
    }

    fn serialize_struct(self, name: &'static str, _len: usize) -> Result<Compound<'w, 'a>, Error> {
        if name == RAW || name == RAW_NUMBER {
            self.raw = true;
            return Ok(Compound { writer: self, close: "", entry: 0 });
        }
        Ok(self.open(None, b'{'))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Compound<'w, 'a>, Error> {
        Ok(self.open(Some(variant), b'{'))
    }
}

#[cfg(test)]
mod tests;
