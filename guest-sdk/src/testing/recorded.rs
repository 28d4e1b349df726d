//! Reads recorded Kafka records into events: a small decoder for tests, which prefers plainness to speed. The host has
//! its own.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{Column, Event, Fields, Type};
use super::placeholder::is_placeholder;
use crate::change::Operation;
use crate::decode;

/// A line of a recording.
#[derive(Deserialize)]
struct Record {
    topic: String,
    partition: u32,
    offset: u64,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    key: Option<String>,
    value: Option<String>,
}

impl Event {
    /// Reads one line of a recording; see [`Tester::replay`](super::Tester::replay) for its form. None for a record
    /// that is no change of a row.
    ///
    /// # Errors
    /// Says what is no JSON, or is no record of Debezium.
    pub fn recorded(line: &str) -> Result<Option<Self>, String> {
        let record: Record = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let Some(value) = record.value.as_deref() else { return Ok(None) };
        let (schema, payload) = unwrap(value).map_err(|error| format!("the value: {error}"))?;
        let Some(fields) = object(&payload)? else { return Ok(None) };
        let Some(image) = Image::of(fields, schema.as_deref(), &record.topic)? else { return Ok(None) };

        let moved = ["__debezium.newkey", "__debezium.oldkey"].iter().find_map(|header| {
            let (_, value) = record.headers.iter().find(|(name, _)| name == header)?;
            value.clone()
        });
        let key = match &record.key {
            Some(key) => Some(unwrap(key).map_err(|error| format!("the key: {error}"))?.1).filter(|key| key != "null"),
            None => None,
        };
        let (unsent, after) = match image.after {
            Some(row) => split_unsent(row)?,
            None => (Vec::new(), None),
        };
        let table = image.table.unwrap_or_else(|| record.topic.rsplit('.').next().unwrap_or_default().to_owned());
        Ok(Some(Self {
            partition: record.partition,
            table,
            columns: image.columns,
            offset: record.offset,
            timestamp: record.timestamp,
            operation: image.operation,
            key,
            moved: moved.filter(|_| matches!(image.operation, Operation::Create | Operation::Delete)),
            before: image.before,
            after,
            unsent,
            source: image.source,
            topic: record.topic,
            headers: record.headers,
        }))
    }
}

/// What a value says, whichever its format.
struct Image {
    operation: Operation,
    before: Option<String>,
    after: Option<Fields>,
    source: Option<String>,
    table: Option<String>,
    columns: Option<Vec<Column>>,
}

impl Image {
    fn of(fields: Fields, schema: Option<&str>, topic: &str) -> Result<Option<Self>, String> {
        let schema = schema.map(serde_json::from_str::<Schema>).transpose().map_err(|error| error.to_string())?;
        if fields.get("op").is_some() && (fields.get("before").is_some() || fields.get("after").is_some()) {
            return Self::of_envelope(&fields, schema);
        }
        let is_control = topic.starts_with("__debezium-heartbeat")
            || fields.get("ddl").is_some()
            || fields.get("op").is_some_and(|op| op.get() == "\"m\"")
            || (topic.ends_with(".transaction") && fields.get("status").is_some());
        if is_control {
            return Ok(None);
        }
        Self::of_row(fields, schema)
    }

    fn of_envelope(fields: &Fields, schema: Option<Schema>) -> Result<Option<Self>, String> {
        let operation = match operation(fields.get("op"))? {
            Some(operation) => operation,
            None => return Ok(None),
        };
        let text = |name| fields.get(name).map(RawValue::get).filter(|text| *text != "null");
        let source = text("source").map(str::to_owned);
        let table = match &source {
            Some(source) => {
                #[derive(Deserialize)]
                struct Source {
                    table: Option<String>,
                }
                serde_json::from_str::<Source>(source).map_err(|error| format!("`source`: {error}"))?.table
            }
            None => None,
        };
        let columns = schema.and_then(|schema| {
            let after = schema.fields?.into_iter().find(|field| field.field.as_deref() == Some("after"))?;
            Some(columns(after.fields?))
        });
        Ok(Some(Self {
            operation,
            before: text("before").map(str::to_owned),
            after: text("after").map(object).transpose()?.flatten().filter(|_| operation != Operation::Delete),
            source,
            table,
            columns,
        }))
    }

    /// A flattened row, or one that says nothing of what happened to it, which is taken for a row as read.
    fn of_row(mut fields: Fields, schema: Option<Schema>) -> Result<Option<Self>, String> {
        let deleted = fields.get("__deleted").is_some_and(|deleted| deleted.get().trim_matches('"') == "true");
        let operation = match fields.get("__op") {
            _ if deleted => Operation::Delete,
            None => Operation::Read,
            op => match operation(op)? {
                Some(operation) => operation,
                None => return Ok(None),
            },
        };
        fields.0.retain(|(name, _)| !name.starts_with("__"));
        let mut columns = schema.and_then(|schema| schema.fields).map(columns);
        if let Some(columns) = &mut columns {
            columns.retain(|column| !column.name.starts_with("__"));
        }
        let (before, after) = match operation {
            Operation::Delete => (Some(serde_json::to_string(&fields).map_err(|error| error.to_string())?), None),
            _ => (None, Some(fields)),
        };
        Ok(Some(Self { operation, before, after, source: None, table: None, columns }))
    }
}

/// None for a truncate or a message, which are no changes of a row.
fn operation(op: Option<&RawValue>) -> Result<Option<Operation>, String> {
    match op.map(RawValue::get).unwrap_or_default() {
        "\"c\"" => Ok(Some(Operation::Create)),
        "\"r\"" => Ok(Some(Operation::Read)),
        "\"u\"" => Ok(Some(Operation::Update)),
        "\"d\"" => Ok(Some(Operation::Delete)),
        "\"t\"" | "\"m\"" => Ok(None),
        other => Err(format!("the operation {other} is unknown")),
    }
}

/// Takes off the converter's `{"schema": …, "payload": …}`, if it is there.
fn unwrap(text: &str) -> Result<(Option<String>, String), String> {
    let Some(fields) = object(text)? else { return Ok((None, text.to_owned())) };
    match (fields.get("schema"), fields.get("payload"), fields.0.len()) {
        (Some(schema), Some(payload), 2) => Ok((Some(schema.get().to_owned()), payload.get().to_owned())),
        _ => Ok((None, text.to_owned())),
    }
}

/// The fields of an object; none for every other JSON value.
fn object(text: &str) -> Result<Option<Fields>, String> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map(Some).map_err(|error| error.to_string())
    } else {
        serde_json::from_str::<&RawValue>(text).map(|_| None).map_err(|error| decode::cause(&error))
    }
}

fn split_unsent(mut row: Fields) -> Result<(Vec<String>, Option<String>), String> {
    let mut unsent = Vec::new();
    row.0.retain(|(name, value)| {
        let keep = !is_placeholder(value);
        if !keep {
            unsent.push(name.clone());
        }
        keep
    });
    Ok((unsent, Some(serde_json::to_string(&row).map_err(|error| error.to_string())?)))
}

/// Kafka Connect's schema, as far as it matters.
#[derive(Deserialize)]
struct Schema {
    #[serde(rename = "type")]
    connect_type: String,
    name: Option<String>,
    field: Option<String>,
    fields: Option<Vec<Schema>>,
    items: Option<Box<Schema>>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    scale: Option<String>,
}

fn columns(fields: Vec<Schema>) -> Vec<Column> {
    let of = |schema: &Schema| Type {
        connect_type: schema.connect_type.clone(),
        logical_type: schema.name.clone(),
        scale: schema.parameters.as_ref().and_then(|parameters| parameters.scale.as_ref()?.parse().ok()),
    };
    fields
        .into_iter()
        .filter_map(|field| {
            let (of, element) = (of(&field), field.items.as_deref().map(of));
            Some(Column { name: field.field?, of, element })
        })
        .collect()
}
