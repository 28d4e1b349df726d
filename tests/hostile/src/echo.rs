//! Tells what the transform was given, as messages: so a test sees exactly what arrived.

use serde_json::{Value, json};

use crate::bindings::exports::tidegate::transform::transformer::{
    Batch, Change, Column, Command, Header, Message, Operation, ValueType,
};

/// The batch, as a message to the topic `batch`.
pub(crate) fn batch(batch: &Batch) -> Command {
    let columns = batch.columns.as_ref().map(|columns| columns.iter().map(column).collect::<Vec<_>>());
    publish("batch", &json!([batch.topic, batch.partition, batch.table, columns]), None)
}

/// The change, as a message to the topic `change`, with its headers as they came.
pub(crate) fn change(change: Change) -> Command {
    let operation = match change.operation {
        Operation::Create => "create",
        Operation::Read => "read",
        Operation::Update => "update",
        Operation::Delete => "delete",
    };
    let fields = json!({
        "offset": change.offset,
        "timestamp": change.timestamp,
        "operation": operation,
        "key": change.key,
        "moved": change.moved,
        "before": change.before,
        "after": change.after,
        "unsent": change.unsent,
        "source": change.source,
    });
    publish("change", &fields, change.headers)
}

fn publish(topic: &str, value: &Value, headers: Option<Vec<Header>>) -> Command {
    Command::Publish(Message { topic: topic.into(), key: None, value: Some(value.to_string().into_bytes()), headers })
}

fn column(column: &Column) -> Value {
    json!([column.name, value_type(&column.of), column.element.as_ref().map(value_type)])
}

fn value_type(of: &ValueType) -> Value {
    json!([of.connect_type, of.logical_type, of.scale])
}
