//! Commands in a form that a test can look into.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::bindings::exports::tidegate::transform::transformer as wire;

/// A command, as the host would get it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of the commands in `Commands`.
pub enum Command {
    /// Sets a cache entry, whole.
    CacheSet { key: String, value: Body, ttl_seconds: Option<u32> },
    /// Changes fields of a cache entry, if it exists.
    CacheMerge { key: String, fields: Body, ttl_seconds: Option<u32> },
    /// Deletes a cache entry.
    CacheDelete { key: String },
    /// Inserts a row, or sets its columns.
    RowUpsert { table: String, values: Body },
    /// Sets columns of a row that exists.
    RowMerge { table: String, values: Body },
    /// Deletes a row; the values are those of its key columns.
    RowDelete { table: String, values: Body },
    /// Sets a document, whole.
    DocumentIndex { index: String, id: String, body: Body },
    /// Replaces fields of a document that exists.
    DocumentMerge { index: String, id: String, body: Body },
    /// Deletes a document.
    DocumentDelete { index: String, id: String },
    /// Publishes a message.
    Publish { topic: String, key: Option<Body>, value: Option<Body>, headers: Vec<(String, Option<Body>)> },
}

/// Text or bytes that a command holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Vec<u8>);

impl Body {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The exact text; empty where the bytes are not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The JSON in it. Bytes that are no JSON come as a string: of their text, or of their base64.
    pub fn to_json(&self) -> Value {
        serde_json::from_slice(&self.0).unwrap_or_else(|_| Value::String(self.to_string()))
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) => f.write_str(text),
            Err(_) => f.write_str(&STANDARD.encode(&self.0)),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Command {
    /// The command as JSON, under the contract's names: `{"cache-set": {"key": …, "value": …, "ttl-seconds": …}}`.
    /// Numbers are JSON numbers, which do not keep all digits of a large decimal: [`Body::text`] does.
    pub fn to_json(&self) -> Value {
        match self {
            Self::CacheSet { key, value, ttl_seconds } => {
                json!({"cache-set": {"key": key, "value": value.to_json(), "ttl-seconds": ttl_seconds}})
            }
            Self::CacheMerge { key, fields, ttl_seconds } => {
                json!({"cache-merge": {"key": key, "fields": fields.to_json(), "ttl-seconds": ttl_seconds}})
            }
            Self::CacheDelete { key } => json!({"cache-delete": key}),
            Self::RowUpsert { table, values } => json!({"row-upsert": {"table": table, "values": values.to_json()}}),
            Self::RowMerge { table, values } => json!({"row-merge": {"table": table, "values": values.to_json()}}),
            Self::RowDelete { table, values } => json!({"row-delete": {"table": table, "values": values.to_json()}}),
            Self::DocumentIndex { index, id, body } => {
                json!({"document-index": {"index": index, "id": id, "body": body.to_json()}})
            }
            Self::DocumentMerge { index, id, body } => {
                json!({"document-merge": {"index": index, "id": id, "body": body.to_json()}})
            }
            Self::DocumentDelete { index, id } => json!({"document-delete": {"index": index, "id": id}}),
            Self::Publish { topic, key, value, headers } => {
                let mut message = Map::new();
                message.insert("topic".to_owned(), json!(topic));
                message.insert("key".to_owned(), json!(key.as_ref().map(Body::to_string)));
                message.insert("value".to_owned(), json!(value.as_ref().map(Body::to_json)));
                if !headers.is_empty() {
                    let headers: Vec<_> = headers
                        .iter()
                        .map(|(name, value)| json!([name, value.as_ref().map(Body::to_string)]))
                        .collect();
                    message.insert("headers".to_owned(), json!(headers));
                }
                json!({"publish": message})
            }
        }
    }

    pub(crate) fn from_wire(command: wire::Command) -> Self {
        let text = |text: String| Body(text.into_bytes());
        match command {
            wire::Command::CacheSet(wire::CacheEntry { key, value, ttl_seconds }) => {
                Self::CacheSet { key, value: Body(value), ttl_seconds }
            }
            wire::Command::CacheMerge(wire::CachePatch { key, fields, ttl_seconds }) => {
                Self::CacheMerge { key, fields: text(fields), ttl_seconds }
            }
            wire::Command::CacheDelete(key) => Self::CacheDelete { key },
            wire::Command::RowUpsert(wire::Row { table, values }) => Self::RowUpsert { table, values: text(values) },
            wire::Command::RowMerge(wire::Row { table, values }) => Self::RowMerge { table, values: text(values) },
            wire::Command::RowDelete(wire::Row { table, values }) => Self::RowDelete { table, values: text(values) },
            wire::Command::DocumentIndex(wire::Document { index, id, body }) => {
                Self::DocumentIndex { index, id, body: text(body) }
            }
            wire::Command::DocumentMerge(wire::Document { index, id, body }) => {
                Self::DocumentMerge { index, id, body: text(body) }
            }
            wire::Command::DocumentDelete(wire::DocumentId { index, id }) => Self::DocumentDelete { index, id },
            wire::Command::Publish(wire::Message { topic, key, value, headers }) => Self::Publish {
                topic,
                key: key.map(Body),
                value: value.map(Body),
                headers: headers
                    .unwrap_or_default()
                    .into_iter()
                    .map(|header| (header.name, header.value.map(Body)))
                    .collect(),
            },
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}
