//! Published messages, in order.

use rusqlite::{Connection, params};
use serde_json::Value;

use super::error::Problem;
use super::value::text_or_blob;
use crate::source::Header;

pub(super) fn publish(
    connection: &Connection,
    sink: &str,
    topic: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header],
) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO tidegate_messages (sink, topic, key, value, headers) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let headers = (!headers.is_empty()).then(|| headers_text(headers));
    statement.execute(params![sink, topic, key.map(text_or_blob), value.map(text_or_blob), headers])?;
    Ok(())
}

/// A JSON array of [name, value] pairs; a value that is not UTF-8 is an array of its bytes.
fn headers_text(headers: &[Header]) -> String {
    let pair = |header: &Header| {
        let value = header.value.as_deref().map_or(Value::Null, |bytes| match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => bytes.into(),
        });
        Value::Array(vec![header.name.as_str().into(), value])
    };
    Value::Array(headers.iter().map(pair).collect()).to_string()
}
