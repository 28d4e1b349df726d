//! Schemas that came with records: recognised by their text, which repeats, and parsed once.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::contract::{Column, ValueType};

/// Schemas remembered of one topic: the current one, those around a change, and as many of the key.
const PER_TOPIC: usize = 8;
/// Topics with remembered schemas. Beyond that all are forgotten and learnt again.
const TOPICS: usize = 4096;
/// A longer schema is not remembered, but parsed each time.
const MAX_TEXT: usize = 1 << 20;

/// The columns of the row that a schema describes; none where it describes no row.
pub(super) type Columns = Option<Arc<Vec<Column>>>;

/// The remembered schemas.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    topics: HashMap<Arc<str>, Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    text: Box<str>,
    columns: Columns,
}

impl Schemas {
    /// If the text begins with a schema that is known of this topic: the schema's length, and the columns.
    pub(super) fn recognise(&mut self, topic: &str, text: &str) -> Option<(usize, Columns)> {
        let known = self.topics.get_mut(topic)?;
        let mut index = known.iter().position(|known| text.as_bytes().starts_with(known.text.as_bytes()))?;
        // Key and value take turns; only what lies further back is brought to the front.
        if index > 1 {
            known[..=index].rotate_right(1);
            index = 0;
        }
        let known = known.get(index)?;
        Some((known.text.len(), known.columns.clone()))
    }

    /// Parses a schema (valid JSON text) and remembers it. The fields that flattening added are no columns.
    pub(super) fn learn(
        &mut self,
        topic: &Arc<str>,
        text: &str,
        is_added: impl Fn(&str) -> bool,
    ) -> Result<Columns, serde_json::Error> {
        let schema: Option<Struct> = serde_json::from_str(text)?;
        let mut columns = schema.and_then(Struct::row).map(|row| {
            let columns = row.fields.into_iter().filter_map(Field::into_column);
            columns.filter(|column| row.in_envelope || !is_added(&column.name)).collect::<Vec<_>>()
        });
        if text.len() > MAX_TEXT {
            return Ok(columns.map(Arc::new));
        }
        if self.topics.len() >= TOPICS && !self.topics.contains_key(topic) {
            self.topics.clear();
        }
        let known = self.topics.entry(topic.clone()).or_default();
        // Schemas that differ in nothing that columns show are one schema to everybody else.
        let same =
            known.iter().filter_map(|known| known.columns.as_ref()).find(|same| Some(&***same) == columns.as_ref());
        let columns = match same {
            Some(same) => Some(same.clone()),
            None => columns.take().map(Arc::new),
        };
        known.truncate(PER_TOPIC - 1);
        known.insert(0, Known { text: text.into(), columns: columns.clone() });
        Ok(columns)
    }
}

/// A Connect schema as JsonConverter writes it, as far as the host looks at it.
#[derive(Debug, Deserialize)]
struct Struct {
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Debug, Deserialize)]
struct Field {
    field: Option<String>,
    #[serde(flatten)]
    of: Type,
}

#[derive(Debug, Deserialize)]
struct Type {
    #[serde(rename = "type")]
    connect_type: String,
    name: Option<String>,
    #[serde(default)]
    parameters: HashMap<String, serde_json::Value>,
    items: Option<Box<Type>>,
    fields: Option<Vec<Field>>,
}

struct Row {
    fields: Vec<Field>,
    in_envelope: bool,
}

impl Struct {
    /// The fields of the row: those of an envelope's `after` (or `before`), else the struct's own.
    fn row(mut self) -> Option<Row> {
        let position = |name: &str| self.fields.iter().position(|field| field.field.as_deref() == Some(name));
        if position("op").is_some() && position("source").is_some() {
            let image = position("after").or_else(|| position("before"))?;
            let fields = self.fields.swap_remove(image).of.fields?;
            return Some(Row { fields, in_envelope: true });
        }
        (!self.fields.is_empty()).then_some(Row { fields: self.fields, in_envelope: false })
    }
}

impl Field {
    fn into_column(self) -> Option<Column> {
        let element = self.of.items.as_deref().map(Type::value_type);
        Some(Column { of: self.of.value_type(), name: self.field?, element })
    }
}

impl Type {
    fn value_type(&self) -> ValueType {
        let scale = self.parameters.get("scale").and_then(|scale| scale.as_str()?.parse().ok());
        ValueType { connect_type: self.connect_type.clone(), logical_type: self.name.clone(), scale }
    }
}
