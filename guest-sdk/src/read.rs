//! Reads rows and keys in one pass, as they nearly always are.
//!
//! The host has scanned each text before a transform sees it, so that nothing has to be checked twice: this reader
//! finds where values end, and hands on text, whole numbers and words as they lie there. What is rare (escapes,
//! fractions, nested values) it cuts out and leaves to serde_json. It has no messages: whatever it cannot read is
//! [`Unread`], and the caller reads it again with serde_json, which either can or says why not.

mod objects;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::de::StrRead;

use self::objects::{Key, Row};
use crate::decode::{Columns, Context};
use crate::encode::RAW;
use crate::words;

/// This reader cannot read it.
#[derive(Debug)]
pub(crate) struct Unread;

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("to be read again")
    }
}

impl std::error::Error for Unread {}

impl Error for Unread {
    #[cold]
    fn custom<T: std::fmt::Display>(_message: T) -> Self {
        Self
    }
}

/// Reads a row.
pub(crate) fn row<'de, T: Deserialize<'de>>(text: &'de str, context: Context<'_>) -> Result<T, Unread> {
    let mut reader = Reader::new(text);
    let row = T::deserialize(Row { reader: &mut reader, context })?;
    reader.end()?;
    Ok(row)
}

/// Reads a key of one column, or a bare scalar.
pub(crate) fn key<'de, T: Deserialize<'de>>(text: &'de str, columns: Option<&Columns>) -> Result<T, Unread> {
    let mut reader = Reader::new(text);
    let key = if reader.peek() == Some(b'{') {
        T::deserialize(Key { reader: &mut reader, columns })?
    } else {
        T::deserialize(&mut reader)?
    };
    reader.end()?;
    Ok(key)
}

/// Stands in a text, at the start of a value.
struct Reader<'de> {
    text: &'de str,
    at: usize,
}

impl<'de> Reader<'de> {
    fn new(text: &'de str) -> Self {
        let mut reader = Self { text, at: 0 };
        reader.skip_space();
        reader
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes this byte, and the space behind it.
    #[inline]
    fn pass(&mut self, byte: u8) -> Result<(), Unread> {
        if self.peek() != Some(byte) {
            return Err(Unread);
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    #[inline]
    fn word(&mut self, word: &str) -> Result<(), Unread> {
        let end = self.at + word.len();
        if self.text.as_bytes().get(self.at..end) != Some(word.as_bytes()) {
            return Err(Unread);
        }
        self.at = end;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unread> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Unread) }
    }

    #[inline]
    fn slice(&self, start: usize, end: usize) -> Result<&'de str, Unread> {
        self.text.get(start..end).ok_or(Unread)
    }

    /// Passes a string that has no escapes, and answers what stands between its quotes. None = it has some, and nothing
    /// was passed.
    #[inline]
    fn plain(&mut self) -> Result<Option<&'de str>, Unread> {
        if self.peek() != Some(b'"') {
            return Err(Unread);
        }
        let start = self.at + 1;
        let end = words::end_of_plain(self.text.as_bytes(), start).ok_or(Unread)?;
        if self.text.as_bytes()[end] != b'"' {
            return Ok(None);
        }
        self.at = end + 1;
        self.slice(start, end).map(Some)
    }

    /// Passes a string, whatever is in it.
    fn skip_string(&mut self) -> Result<(), Unread> {
        let bytes = self.text.as_bytes();
        let mut from = self.at + 1;
        loop {
            let end = words::end_of_plain(bytes, from).ok_or(Unread)?;
            if bytes[end] == b'"' {
                self.at = end + 1;
                return Ok(());
            }
            from = end + 2;
        }
    }

    /// Passes one value, and answers its text.
    fn skip(&mut self) -> Result<&'de str, Unread> {
        let start = self.at;
        match self.peek().ok_or(Unread)? {
            b'"' => self.skip_string()?,
            b'{' | b'[' => {
                let mut open = 0_usize;
                loop {
                    match self.peek().ok_or(Unread)? {
                        b'"' => {
                            self.skip_string()?;
                            continue;
                        }
                        b'{' | b'[' => open += 1,
                        b'}' | b']' => open -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if open == 0 {
                        break;
                    }
                }
            }
            _ => {
                while !matches!(self.peek(), None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r')) {
                    self.at += 1;
                }
            }
        }
        self.slice(start, self.at)
    }

    /// Has serde_json read one value.
    fn rare<V>(
        &mut self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'de>>) -> Result<V, serde_json::Error>,
    ) -> Result<V, Unread> {
        let mut json = serde_json::Deserializer::from_str(self.skip()?);
        let value = read(&mut json).map_err(|_| Unread)?;
        json.end().map_err(|_| Unread)?;
        Ok(value)
    }

    /// Reads a whole number of up to 18 digits, which any 64 bits hold.
    #[inline]
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Unread> {
        let bytes = self.text.as_bytes();
        let negative = self.peek() == Some(b'-');
        let start = self.at + usize::from(negative);
        let (mut at, mut number) = (start, 0_i64);
        while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
            && at - start < 18
        {
            number = number * 10 + i64::from(digit);
            at += 1;
        }
        let is_whole = at > start && !matches!(bytes.get(at), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
        if !is_whole || (bytes[start] == b'0' && (negative || at - start > 1)) {
            return self.rare(|json| json.deserialize_any(visitor));
        }
        self.at = at;
        if negative { visitor.visit_i64(-number) } else { visitor.visit_u64(number.unsigned_abs()) }
    }

    #[inline]
    fn string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Unread> {
        match self.plain()? {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.rare(|json| json.deserialize_str(visitor)),
        }
    }

    #[inline]
    fn boolean<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Unread> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        visitor.visit_bool(value)
    }
}

macro_rules! forward {
    ($form:ident: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
            self.$form(visitor)
        }
    )*};
}

macro_rules! leave {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
            self.rare(|json| json.$method(visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Unread;

    forward! { number:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }
    forward! { string: deserialize_char deserialize_str deserialize_string deserialize_identifier }
    forward! { boolean: deserialize_bool }
    leave! {
        deserialize_i128 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_bytes deserialize_byte_buf
        deserialize_seq deserialize_map
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.peek() {
            Some(b'"') => self.string(visitor),
            Some(b'-' | b'0'..=b'9') => self.number(visitor),
            Some(b'n') => self.deserialize_unit(visitor),
            Some(b't' | b'f') => self.boolean(visitor),
            _ => self.rare(|json| json.deserialize_any(visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        if self.peek() != Some(b'n') {
            return visitor.visit_some(self);
        }
        self.word("null")?;
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        self.word("null")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Unread> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unread> {
        if name == RAW { visitor.visit_map(Raw(Some(self.skip()?))) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unread> {
        self.rare(|json| json.deserialize_tuple(length, visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Unread> {
        self.rare(|json| json.deserialize_tuple_struct(name, length, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        self.rare(|json| json.deserialize_struct(name, fields, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        self.rare(|json| json.deserialize_enum(name, variants, visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// The text of a value, handed over as serde_json does it.
struct Raw<'de>(Option<&'de str>);

impl<'de> MapAccess<'de> for Raw<'de> {
    type Error = Unread;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unread> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(RAW)).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unread> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0.take().ok_or(Unread)?))
    }
}

#[cfg(test)]
mod tests;
