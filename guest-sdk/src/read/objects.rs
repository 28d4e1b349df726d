//! The objects whose entries are columns: rows, and keys of one column.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::{Raw, Reader, Unread};
use crate::decode::{self, Columns, Context};
use crate::encode::RAW;
use crate::schema::{self, ColumnType};

/// The object whose entries are columns.
pub(super) struct Row<'r, 'c, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) context: Context<'c>,
}

impl<'de> Deserializer<'de> for Row<'_, '_, 'de> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        let Row { reader, context } = self;
        reader.pass(b'{')?;
        let unsent = context.unsent.unwrap_or_default();
        visitor.visit_map(Entries { reader, columns: context.columns, position: 0, unsent, of: None, first: true })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unread> {
        // The text as it stands cannot say that a column is missing from it.
        match (name == RAW, self.context.unsent) {
            (false, _) => visitor.visit_newtype_struct(self),
            (true, None) => visitor.visit_map(Raw(Some(self.reader.skip()?))),
            (true, Some(_)) => Err(Unread),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

/// The columns of a row, one after the other. A row with unsent columns begins with these.
struct Entries<'r, 'c, 'de> {
    reader: &'r mut Reader<'de>,
    columns: Option<&'c Columns>,
    /// Where in the schema the next column is expected: rows keep its order.
    position: usize,
    unsent: &'c [String],
    /// The type of the column that comes.
    of: Option<ColumnType>,
    first: bool,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, 'de> {
    type Error = Unread;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unread> {
        if let Some(name) = self.unsent.first() {
            return seed.deserialize(StrDeserializer::new(name)).map(Some);
        }
        match self.reader.peek() {
            Some(b'}') => {
                self.reader.at += 1;
                return Ok(None);
            }
            Some(b',') if !self.first => self.reader.pass(b',')?,
            _ if !self.first => return Err(Unread),
            _ => {}
        }
        self.first = false;
        let name = self.reader.plain()?;
        if let Some(columns) = self.columns {
            // A name with escapes is looked up on the second reading.
            self.of = find(columns, &mut self.position, name.ok_or(Unread)?);
        }
        let key = match name {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name))?,
            None => self.reader.rare(|json| seed.deserialize(json))?,
        };
        self.reader.skip_space();
        self.reader.pass(b':')?;
        Ok(Some(key))
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unread> {
        if let Some((_, rest)) = self.unsent.split_first() {
            self.unsent = rest;
            return decode::unsent(seed);
        }
        let value = match self.of {
            None => seed.deserialize(&mut *self.reader),
            of => schema::with_type(of, || seed.deserialize(&mut *self.reader)),
        }?;
        self.reader.skip_space();
        Ok(value)
    }
}

/// The type of a column. `position` is where it is expected, and then where the next one is.
fn find(columns: &Columns, position: &mut usize, name: &str) -> Option<ColumnType> {
    let expected = columns.get(*position).filter(|column| column.0 == name);
    let (place, column) = match expected {
        Some(column) => (*position, column),
        None => columns.iter().enumerate().find(|(_, column)| column.0 == name)?,
    };
    *position = place + 1;
    Some(column.1)
}

/// The object of a key's one column, read as its value.
pub(super) struct Key<'r, 'c, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) columns: Option<&'c Columns>,
}

impl<'de> Key<'_, '_, 'de> {
    fn value<V>(self, read: impl FnOnce(&mut Reader<'de>) -> Result<V, Unread>) -> Result<V, Unread> {
        let Key { reader, columns } = self;
        reader.pass(b'{')?;
        let name = reader.plain()?.ok_or(Unread)?;
        reader.skip_space();
        reader.pass(b':')?;
        let value = match columns.and_then(|columns| find(columns, &mut 0, name)) {
            None => read(reader),
            of => schema::with_type(of, || read(reader)),
        }?;
        reader.skip_space();
        reader.pass(b'}')?;
        Ok(value)
    }
}

macro_rules! value_of_key {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
            self.value(|reader| reader.$method(visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'_, '_, 'de> {
    type Error = Unread;

    value_of_key! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_char deserialize_str deserialize_string
    }

    /// Whether the key has one column or several matters here, and is asked on the second reading.
    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Unread> {
        Err(Unread)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unread> {
        if name == RAW { Err(Unread) } else { visitor.visit_newtype_struct(self) }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}
