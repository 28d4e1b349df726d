//! Reads a record's key into the author's type: one column as a bare value, several as a tuple or a struct.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::decode::{self, Columns};
use crate::encode::RAW;
use crate::read;
use crate::reject::{Fault, Reject};
use crate::schema::{self, ColumnType};

/// Decodes a key: an object of the key columns, or a bare scalar.
pub(crate) fn key<'de, T: Deserialize<'de>>(text: &'de str, columns: Option<&Columns>) -> Result<T, Reject> {
    if let Ok(key) = read::key(text, columns) {
        return Ok(key);
    }
    let bare = !text.trim_start().starts_with('{');
    let mut json = serde_json::Deserializer::from_str(text);
    let decoded = if bare { T::deserialize(&mut json) } else { T::deserialize(Key { json: &mut json, text, columns }) };
    decoded.and_then(|key| json.end().map(|()| key)).map_err(|error| {
        Reject::new(
            Fault::Undecodable,
            format!("the key {} as `{}`: {}", shortened(text), decode::short_name::<T>(), decode::cause(&error)),
        )
    })
}

fn shortened(text: &str) -> &str {
    text.get(..200).unwrap_or(text)
}

struct Key<'a, 'de> {
    json: &'a mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
    text: &'de str,
    columns: Option<&'a Columns>,
}

/// How many columns the key has.
fn width(text: &str) -> Result<usize, serde_json::Error> {
    struct Width;
    impl<'de> Visitor<'de> for Width {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of key columns")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
            let mut width = 0;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                width += 1;
            }
            Ok(width)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Width)
}

impl<'de> Key<'_, 'de> {
    /// Reads the value of the key's only column.
    fn value<V: Visitor<'de>>(self, hint: Hint, visitor: V) -> Result<V::Value, serde_json::Error> {
        self.json.deserialize_map(OneColumn { value: Value { hint, visitor }, columns: self.columns })
    }
}

/// What a type wants of the value of a column.
#[derive(Clone, Copy)]
enum Hint {
    Any,
    Bool,
    I64,
    U64,
    I128,
    U128,
    F64,
    Str,
    String,
    Enum(&'static str, &'static [&'static str]),
    /// The text of the value, as it stands.
    Raw,
}

macro_rules! value_by_hint {
    ($($method:ident $hint:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.value(Hint::$hint, visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'_, 'de> {
    type Error = serde_json::Error;

    value_by_hint! {
        deserialize_bool Bool deserialize_i8 I64 deserialize_i16 I64 deserialize_i32 I64 deserialize_i64 I64
        deserialize_u8 U64 deserialize_u16 U64 deserialize_u32 U64 deserialize_u64 U64 deserialize_i128 I128
        deserialize_u128 U128 deserialize_f32 F64 deserialize_f64 F64 deserialize_char Str deserialize_str Str
        deserialize_string String
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if width(self.text)? == 1 { self.value(Hint::Any, visitor) } else { self.deserialize_map(visitor) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.value(Hint::Enum(name, variants), visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match name {
            RAW if width(self.text)? == 1 => self.value(Hint::Raw, visitor),
            RAW => self.json.deserialize_newtype_struct(RAW, visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.json.deserialize_map(InOrder { visitor, columns: self.columns })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        decode::map(self.json, self.columns, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_map(visitor)
    }

    forward_to_deserialize_any! { bytes byte_buf unit unit_struct identifier ignored_any }
}

/// Reads a value as the type wants it.
struct Value<V> {
    hint: Hint,
    visitor: V,
}

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Value<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        match self.hint {
            Hint::Any => value.deserialize_any(self.visitor),
            Hint::Bool => value.deserialize_bool(self.visitor),
            Hint::I64 => value.deserialize_i64(self.visitor),
            Hint::U64 => value.deserialize_u64(self.visitor),
            Hint::I128 => value.deserialize_i128(self.visitor),
            Hint::U128 => value.deserialize_u128(self.visitor),
            Hint::F64 => value.deserialize_f64(self.visitor),
            Hint::Str => value.deserialize_str(self.visitor),
            Hint::String => value.deserialize_string(self.visitor),
            Hint::Raw => value.deserialize_newtype_struct(RAW, self.visitor),
            Hint::Enum(name, variants) => value.deserialize_enum(name, variants, self.visitor),
        }
    }
}

/// Reads the name of the next key column, as far as it matters, and answers the column's type.
fn next_column<'de, A: MapAccess<'de>>(
    map: &mut A,
    columns: Option<&Columns>,
) -> Result<Option<Option<ColumnType>>, A::Error> {
    let Some(columns) = columns else { return Ok(map.next_key::<IgnoredAny>()?.map(|_| None)) };
    let name = map.next_key::<String>()?;
    Ok(name.map(|name| columns.iter().find(|column| column.0 == name).map(|column| column.1)))
}

struct OneColumn<'a, V> {
    value: Value<V>,
    columns: Option<&'a Columns>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OneColumn<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        let of = next_column(&mut map, self.columns)?.ok_or_else(|| A::Error::custom("it has no column"))?;
        let value = schema::with_type(of, || map.next_value_seed(self.value))?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("it has several columns: read them as a tuple or a struct"));
        }
        Ok(value)
    }
}

/// The columns of the key as a tuple.
struct InOrder<'a, V> {
    visitor: V,
    columns: Option<&'a Columns>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for InOrder<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        let value = self.visitor.visit_seq(InOrder { visitor: &mut map, columns: self.columns })?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("it has more columns than the tuple has places"));
        }
        Ok(value)
    }
}

impl<'de, A: MapAccess<'de>> SeqAccess<'de> for InOrder<'_, &mut A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        match next_column(self.visitor, self.columns)? {
            Some(of) => schema::with_type(of, || self.visitor.next_value_seed(seed)).map(Some),
            None => Ok(None),
        }
    }
}
