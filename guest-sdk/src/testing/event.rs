//! An event of a test: hand-made, or read from a recording.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::change::Operation;
use crate::inputs::Inputs;
use crate::reject::{Fault, Reject};
use crate::{decode, encode};

/// A change of a row, before the host has taken out what the transform does not ask for.
///
/// Rows and keys are JSON objects of columns, with values as Debezium writes them: a `numeric` is base64 or text, a
/// `timestamp` a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) table: String,
    pub(super) columns: Option<Vec<Column>>,
    pub(super) offset: u64,
    pub(super) timestamp: Option<i64>,
    pub(super) operation: Operation,
    pub(super) key: Option<String>,
    pub(super) moved: Option<String>,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) unsent: Vec<String>,
    pub(super) source: Option<String>,
    pub(super) headers: Vec<(String, Option<String>)>,
}

/// A column of the schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) of: Type,
    pub(super) element: Option<Type>,
}

/// A type of the schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Type {
    pub(super) connect_type: String,
    pub(super) logical_type: Option<String>,
    pub(super) scale: Option<i32>,
}

impl Event {
    /// The insert of a row.
    pub fn create(table: &str, key: impl Serialize, row: impl Serialize) -> Self {
        Self { after: Some(text(&row)), ..Self::of(table, Operation::Create, &key) }
    }

    /// A row that a snapshot read.
    pub fn read(table: &str, key: impl Serialize, row: impl Serialize) -> Self {
        Self { after: Some(text(&row)), ..Self::of(table, Operation::Read, &key) }
    }

    /// An update of a row.
    pub fn update(table: &str, key: impl Serialize, row: impl Serialize) -> Self {
        Self { after: Some(text(&row)), ..Self::of(table, Operation::Update, &key) }
    }

    /// The delete of a row.
    pub fn delete(table: &str, key: impl Serialize) -> Self {
        Self::of(table, Operation::Delete, &key)
    }

    /// The row before the change, as a table with REPLICA IDENTITY FULL has it.
    pub fn with_before(mut self, row: impl Serialize) -> Self {
        self.before = Some(text(&row));
        self
    }

    /// Says that columns were not sent. They are not in the row.
    pub fn with_unsent<const N: usize>(mut self, columns: [&str; N]) -> Self {
        self.unsent = columns.map(str::to_owned).into();
        self
    }

    /// Says that this is one half of a change of the row's key, and which is the other key.
    pub fn with_moved(mut self, key: impl Serialize) -> Self {
        self.moved = Some(text(&key));
        self
    }

    /// Debezium's `source` object.
    pub fn with_source(mut self, source: impl Serialize) -> Self {
        self.source = Some(text(&source));
        self
    }

    /// A header of the record.
    pub fn with_header(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.push((name.to_owned(), value.map(str::to_owned)));
        self
    }

    /// Takes the record's key away, as that of a table without a primary key.
    pub fn without_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// What happened to the row.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The topic, the partition and the offset.
    pub fn position(&self) -> (&str, u32, u64) {
        (&self.topic, self.partition, self.offset)
    }

    /// The JSON text of the row after the change.
    pub fn row_text(&self) -> Option<&str> {
        self.after.as_deref()
    }

    fn of(table: &str, operation: Operation, key: &impl Serialize) -> Self {
        Self {
            topic: format!("test.public.{table}"),
            partition: 0,
            table: table.to_owned(),
            columns: None,
            offset: 0,
            timestamp: None,
            operation,
            key: Some(text(key)),
            moved: None,
            before: None,
            after: None,
            unsent: Vec::new(),
            source: None,
            headers: Vec::new(),
        }
    }

    /// The event as the host passes it: with what the transform asks for, and nothing else.
    pub(super) fn seen_with(&self, inputs: &Inputs) -> Result<(wire::Batch, wire::Change), Reject> {
        let reads = inputs.reads.iter().find(|reads| reads.table == self.table);
        let columns = reads.and_then(|reads| reads.columns.as_deref());
        let asked = |column: &str| columns.is_none_or(|columns| columns.iter().any(|asked| asked == column));
        let row = |text: &Option<String>| text.as_deref().map(|text| project(text, asked)).transpose();
        let unsent: Vec<String> = self.unsent.iter().filter(|column| asked(column)).cloned().collect();
        let headers = self.headers.iter().map(|(name, value)| wire::Header {
            name: name.clone(),
            value: value.as_ref().map(|value| value.as_bytes().to_vec()),
        });
        let change = wire::Change {
            offset: self.offset,
            timestamp: self.timestamp,
            operation: match self.operation {
                Operation::Create => wire::Operation::Create,
                Operation::Read => wire::Operation::Read,
                Operation::Update => wire::Operation::Update,
                Operation::Delete => wire::Operation::Delete,
            },
            key: self.key.clone(),
            moved: self.moved.clone(),
            before: if inputs.before { row(&self.before)? } else { None },
            after: row(&self.after)?,
            unsent: (!unsent.is_empty()).then_some(unsent),
            source: self.source.clone().filter(|_| inputs.source),
            headers: inputs.headers.then(|| headers.collect()),
        };
        let of = |of: &Type| wire::ValueType {
            connect_type: of.connect_type.clone(),
            logical_type: of.logical_type.clone(),
            scale: of.scale,
        };
        let columns = self.columns.as_ref().map(|columns| {
            columns
                .iter()
                .map(|column| wire::Column {
                    name: column.name.clone(),
                    of: of(&column.of),
                    element: column.element.as_ref().map(of),
                })
                .collect()
        });
        let batch =
            wire::Batch { topic: self.topic.clone(), partition: self.partition, table: self.table.clone(), columns };
        Ok((batch, change))
    }
}

/// The JSON text of a test's own value. What cannot be written shows as text that no transform can read.
fn text(value: &impl Serialize) -> String {
    encode::to_text(value).unwrap_or_else(|error| error.to_string())
}

/// Leaves the asked columns of a row.
fn project(text: &str, asked: impl Fn(&str) -> bool) -> Result<String, Reject> {
    let undecodable = |error: String| Reject::new(Fault::Undecodable, format!("the event's row: {error}"));
    let mut row: Fields = serde_json::from_str(text).map_err(|error| undecodable(decode::cause(&error)))?;
    row.0.retain(|(name, _)| asked(name));
    serde_json::to_string(&row).map_err(|error| undecodable(error.to_string()))
}

/// A JSON object with its fields in order and their exact text.
pub(super) struct Fields(pub(super) Vec<(String, Box<RawValue>)>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
