//! Answers with what the row itself asks for: its column `commands` is a JSON array of them, as text. So a test decides
//! about each event what it comes to.
//!
//! A command is an array: what to do, the port's target in one or two parts, and the fields. Those of a kind that the
//! declaration has no place for are left out, so that a sink can be added later to a stream that asks for it already.

use serde_json::Value;

use crate::bindings::exports::tidegate::transform::transformer::{
    CacheEntry, CachePatch, Change, Command, Document, DocumentId, Message, Row,
};

/// What a row asks for.
pub(crate) fn commands(change: &Change, declared: &Value) -> Vec<Command> {
    let row: Value = parsed(change.after.as_deref().unwrap_or_default());
    let asked = parsed(row["commands"].as_str().unwrap_or_default());
    asked.as_array().into_iter().flatten().filter_map(|one| command(one, declared)).collect()
}

/// Whether a row is one that a module with `picky` set refuses.
pub(crate) fn is_disliked(change: &Change) -> bool {
    parsed(change.after.as_deref().unwrap_or_default())["disliked"] == true
}

fn command(asked: &Value, declared: &Value) -> Option<Command> {
    let part = |place: usize| asked[place].as_str().unwrap_or_default().to_owned();
    let row = || Row { table: part(1), values: asked[2].to_string() };
    let document = || Document { index: part(1), id: part(2), body: asked[3].to_string() };
    let kind = part(0);
    let port = kind.split('-').next().unwrap_or_default();
    let place = match port {
        "row" => "tables",
        "document" => "indexes",
        "cache" => "cache_keys",
        _ => "topics",
    };
    if declared[place].as_array().is_none_or(Vec::is_empty) {
        return None;
    }
    Some(match kind.as_str() {
        "row-upsert" => Command::RowUpsert(row()),
        "row-merge" => Command::RowMerge(row()),
        "row-delete" => Command::RowDelete(row()),
        "document-index" => Command::DocumentIndex(document()),
        "document-merge" => Command::DocumentMerge(document()),
        "document-delete" => Command::DocumentDelete(DocumentId { index: part(1), id: part(2) }),
        "cache-set" => {
            Command::CacheSet(CacheEntry { key: part(1), value: asked[2].to_string().into_bytes(), ttl_seconds: None })
        }
        "cache-merge" => {
            Command::CacheMerge(CachePatch { key: part(1), fields: asked[2].to_string(), ttl_seconds: None })
        }
        "cache-delete" => Command::CacheDelete(part(1)),
        _ => Command::Publish(Message {
            topic: part(1),
            key: Some(part(2).into_bytes()),
            value: Some(asked[3].to_string().into_bytes()),
            headers: None,
        }),
    })
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
