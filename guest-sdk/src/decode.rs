//! Reads a row or a settings object into the author's type: under the batch's schema, with unsent columns, and with
//! errors that name the column. The first reading is the quick one of `read`; what it leaves alone is read here.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::column;
use crate::encode::RAW;
use crate::read;
use crate::reject::{Fault, Reject};
use crate::schema::{self, ColumnType};

/// The types of a table's columns, in the order of the schema.
pub(crate) type Columns = [(String, ColumnType)];

/// What a JSON object is decoded with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Context<'a> {
    /// The table's columns, where the batch has a schema.
    pub(crate) columns: Option<&'a Columns>,
    /// The columns that were not sent.
    pub(crate) unsent: Option<&'a [String]>,
}

/// Decodes a row.
pub(crate) fn row<'de, T: Deserialize<'de>>(text: &'de str, context: Context<'_>) -> Result<T, Reject> {
    read::row(text, context).or_else(|_| reread(text, context))
}

/// The value of an unsent column.
pub(crate) fn unsent<'de, S: DeserializeSeed<'de>, E: Error>(seed: S) -> Result<S::Value, E> {
    seed.deserialize(Unsent { trace: &Trace::default(), error: PhantomData })
}

/// Where decoding stands, for the message of an error.
#[derive(Default)]
struct Trace {
    /// The name of the author's type.
    type_name: Cell<Option<&'static str>>,
    /// The columns of the object so far; the last one is the one being decoded. Filled on the second run only.
    seen: Option<RefCell<Vec<String>>>,
    /// A value is being decoded, as opposed to a key or the object as a whole.
    in_value: Cell<bool>,
    /// An unsent column met a type that has no place for it.
    unsent: Cell<bool>,
}

impl Trace {
    fn saw(&self, column: &str) {
        if let Some(seen) = &self.seen {
            seen.borrow_mut().push(column.to_owned());
        }
    }
}

/// Decodes what the quick reader left alone, and finds out where it fails.
#[cold]
fn reread<'de, T: Deserialize<'de>>(text: &'de str, context: Context<'_>) -> Result<T, Reject> {
    let trace = Trace { seen: Some(RefCell::default()), ..Trace::default() };
    object::<T>(text, context, &trace).map_err(|error| explain::<T>(&error, trace))
}

/// Why a row cannot be decoded, by what was seen on the way.
fn explain<T>(error: &serde_json::Error, trace: Trace) -> Reject {
    let cause = cause(error);
    let row_type = trace.type_name.get().unwrap_or_else(|| short_name::<T>());
    let seen = trace.seen.map(RefCell::into_inner).unwrap_or_default();
    if trace.in_value.get() {
        let column = seen.last().map_or("", String::as_str);
        return if trace.unsent.get() {
            Reject::new(
                Fault::Unsent,
                format!(
                    "column `{column}` of `{row_type}` was not sent, since its large value did not change: make the \
                     field a `Column<…>`, or give the table REPLICA IDENTITY FULL"
                ),
            )
        } else {
            let remedy = remedy(&cause);
            Reject::new(Fault::Undecodable, format!("column `{column}` of `{row_type}`: {cause}{remedy}"))
        };
    }
    if let Some(column) = cause.strip_prefix("missing field ") {
        return Reject::new(
            Fault::Undecodable,
            format!(
                "column {column} of `{row_type}` is not in the row, which has `{}`: is it spelt as in the table, and \
                 among the columns of `inputs()`?",
                seen.join("`, `")
            ),
        );
    }
    Reject::new(Fault::Undecodable, format!("row `{row_type}`: {cause}"))
}

/// What mends a value that does not fit its field, where the two tell it.
fn remedy(cause: &str) -> &'static str {
    let plain = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64", "a string"];
    match cause.strip_prefix("invalid type: ").and_then(|mismatch| mismatch.split_once(", expected ")) {
        Some(("null", _)) => "; a column that may be null is an `Option<…>`",
        Some((found, expected)) if found != "boolean" && plain.contains(&expected) => {
            "; decimals, dates, times, bytes and JSON have types of their own in `tidegate_sdk::value`"
        }
        _ => "",
    }
}

/// Decodes a transform's settings. The error names the setting.
pub(crate) fn settings<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    let trace = Trace { seen: Some(RefCell::default()), ..Trace::default() };
    object(text, Context::default(), &trace).map_err(|error| {
        let cause = cause(&error);
        let seen = trace.seen.map(RefCell::into_inner).unwrap_or_default();
        match seen.last() {
            Some(setting) if trace.in_value.get() => format!("setting `{setting}`: {cause}"),
            _ => match (cause.strip_prefix("missing field "), cause.strip_prefix("unknown field ")) {
                (Some(setting), _) => format!("setting {setting} is missing"),
                (_, Some(setting)) => format!("unknown setting {setting}"),
                _ => format!("the settings: {cause}"),
            },
        }
    })
}

/// The message of an error without serde_json's position in a text that nobody sees.
pub(crate) fn cause(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) if error.line() > 0 => message[..end].to_owned(),
        _ => message,
    }
}

/// The name of a type without its path.
pub(crate) fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

fn object<'de, T: Deserialize<'de>>(
    text: &'de str,
    context: Context<'_>,
    trace: &Trace,
) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let decoded = T::deserialize(Object { json: &mut json, context, trace })?;
    json.end()?;
    Ok(decoded)
}

/// Decodes a key of several columns, for a type that has asked for a map.
pub(crate) fn map<'de, V: Visitor<'de>>(
    json: &mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
    columns: Option<&Columns>,
    visitor: V,
) -> Result<V::Value, serde_json::Error> {
    let context = Context { columns, unsent: None };
    Object { json, context, trace: &Trace::default() }.deserialize_any(visitor)
}

/// A deserializer of one JSON object whose entries are columns.
struct Object<'a, 'de> {
    json: &'a mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
    context: Context<'a>,
    trace: &'a Trace,
}

impl<'de> Deserializer<'de> for Object<'_, 'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.json.deserialize_map(ObjectVisitor { visitor, context: self.context, trace: self.trace })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.trace.type_name.set(Some(name));
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        // The text as it stands cannot say that a column is missing from it.
        if name == RAW && self.context.unsent.is_none() {
            return self.json.deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct ObjectVisitor<'a, V> {
    visitor: V,
    context: Context<'a>,
    trace: &'a Trace,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for ObjectVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.visitor.visit_map(Entries {
            map,
            context: self.context,
            trace: self.trace,
            unsent: self.context.unsent.unwrap_or_default().iter(),
            next: Next::Value(None),
            position: 0,
        })
    }
}

/// An entry for each unsent column, then those of the object.
struct Entries<'a, A> {
    map: A,
    context: Context<'a>,
    trace: &'a Trace,
    unsent: std::slice::Iter<'a, String>,
    next: Next,
    /// Where in the schema the next column is expected: rows keep its order.
    position: usize,
}

/// What the key before announced.
enum Next {
    Value(Option<ColumnType>),
    Unsent,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.trace.in_value.set(false);
        if let Some(name) = self.unsent.next() {
            self.next = Next::Unsent;
            self.trace.saw(name);
            return seed.deserialize(StrDeserializer::<A::Error>::new(name)).map(Some);
        }
        let (columns, position) = (self.context.columns, &mut self.position);
        let mut of = None;
        let key = self.map.next_key_seed(Name { seed, columns, position, of: &mut of, trace: self.trace })?;
        self.next = Next::Value(of);
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.trace.in_value.set(true);
        let value = match self.next {
            Next::Value(None) => self.map.next_value_seed(seed),
            Next::Value(of) => schema::with_type(of, || self.map.next_value_seed(seed)),
            Next::Unsent => seed.deserialize(Unsent { trace: self.trace, error: PhantomData }),
        }?;
        self.trace.in_value.set(false);
        Ok(value)
    }
}

/// Reads a key as the author's type does, and looks its column up on the way.
struct Name<'a, K> {
    seed: K,
    columns: Option<&'a Columns>,
    position: &'a mut usize,
    of: &'a mut Option<ColumnType>,
    trace: &'a Trace,
}

impl<K> Name<'_, K> {
    fn found(&mut self, name: &str) {
        self.trace.saw(name);
        let Some(columns) = self.columns else { return };
        let expected = columns.get(*self.position).filter(|column| column.0 == name);
        let found = match expected {
            Some(column) => Some((*self.position, column)),
            None => columns.iter().enumerate().find(|(_, column)| column.0 == name),
        };
        if let Some((position, column)) = found {
            *self.position = position + 1;
            *self.of = Some(column.1);
        }
    }
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Name<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        let Name { seed, columns, position, of, trace } = self;
        seed.deserialize(NameReader { inner: deserializer, name: Name { seed: (), columns, position, of, trace } })
    }
}

struct NameReader<'a, I> {
    inner: I,
    name: Name<'a, ()>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for NameReader<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_str(NameReader { inner: visitor, name: self.name })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NameReader<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_str<E: Error>(mut self, name: &str) -> Result<V::Value, E> {
        self.name.found(name);
        self.inner.visit_str(name)
    }

    fn visit_borrowed_str<E: Error>(mut self, name: &'de str) -> Result<V::Value, E> {
        self.name.found(name);
        self.inner.visit_borrowed_str(name)
    }
}

/// The value of an unsent column: a [`Column`](crate::Column) takes it, every other type refuses.
struct Unsent<'a, E> {
    trace: &'a Trace,
    error: PhantomData<E>,
}

impl<'de, E: Error> Deserializer<'de> for Unsent<'_, E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, E> {
        self.trace.unsent.set(true);
        Err(E::custom("the column was not sent"))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, E> {
        match name {
            column::NEWTYPE => visitor.visit_unit(),
            RAW => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier
    }
}
