//! Commands as JSON text that is equal where the meaning is: members sorted, numbers by their digits, no blanks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::joined_lines;
use crate::contract::{RawCommand, Rejection};
use crate::limits::COMPARED;

/// JSON that is nested deeper is taken as it is written, and so is longer text than [`COMPARED`].
const MAX_DEPTH: usize = 100;

/// A transform's answer to one change as JSON text: its commands by target, or its rejection.
pub fn answer(outcome: &Result<Vec<RawCommand>, Rejection>) -> String {
    match outcome {
        Ok(commands) => format!("[{}]", by_target(commands).join(",")),
        Err(rejection) => format!("{{{}}}", rejected(rejection)),
    }
}

/// The members that tell a rejection.
pub fn rejected(rejection: &Rejection) -> String {
    format!("\"rejected\":{},\"reason\":{}", quoted(rejection.fault.label()), quoted(&rejection.reason))
}

/// A command as one line of JSON: `{"cache-set":{"key":…,"value":…,"ttl-seconds":…}}`, under the contract's names.
/// Bytes that are JSON stand as such, others as a string of their text, or of their base64.
pub fn to_json(command: &RawCommand) -> String {
    let ttl = |ttl: &Option<u32>| ttl.map_or_else(|| "null".to_owned(), |seconds| seconds.to_string());
    let (kind, members) = match command {
        RawCommand::CacheSet { key, value, ttl_seconds } => {
            ("cache-set", vec![("key", quoted(key)), ("value", bytes(Some(value))), ("ttl-seconds", ttl(ttl_seconds))])
        }
        RawCommand::CacheMerge { key, fields, ttl_seconds } => (
            "cache-merge",
            vec![("key", quoted(key)), ("fields", canonical(fields, 0)), ("ttl-seconds", ttl(ttl_seconds))],
        ),
        RawCommand::CacheDelete { key } => return format!("{{\"cache-delete\":{}}}", quoted(key)),
        RawCommand::RowUpsert(row) | RawCommand::RowMerge(row) | RawCommand::RowDelete(row) => {
            let kind = match command {
                RawCommand::RowUpsert(_) => "row-upsert",
                RawCommand::RowMerge(_) => "row-merge",
                _ => "row-delete",
            };
            (kind, vec![("table", quoted(&row.table)), ("values", canonical(&row.values, 0))])
        }
        RawCommand::DocumentIndex(document) | RawCommand::DocumentMerge(document) => {
            let set = matches!(command, RawCommand::DocumentIndex(_));
            let members = vec![
                ("index", quoted(&document.index)),
                ("id", quoted(&document.id)),
                ("body", canonical(&document.body, 0)),
            ];
            (if set { "document-index" } else { "document-merge" }, members)
        }
        RawCommand::DocumentDelete { index, id } => {
            ("document-delete", vec![("index", quoted(index)), ("id", quoted(id))])
        }
        RawCommand::Publish { topic, key, value, headers } => {
            let headers: Vec<String> = headers
                .iter()
                .map(|header| format!("[{},{}]", quoted(&header.name), bytes(header.value.as_deref())))
                .collect();
            let members = vec![
                ("topic", quoted(topic)),
                ("key", bytes(key.as_deref())),
                ("value", bytes(value.as_deref())),
                ("headers", format!("[{}]", headers.join(","))),
            ];
            ("publish", members)
        }
    };
    let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{\"{kind}\":{{{}}}}}", members.join(","))
}

/// Brings commands into the order of their targets. Only among the commands of one target does the order mean
/// anything; rows of a table count as one target, since a bare command does not say which columns are its key.
fn by_target(commands: &[RawCommand]) -> Vec<String> {
    let mut sorted: Vec<&RawCommand> = commands.iter().collect();
    sorted.sort_by_key(|command| target(command));
    sorted.into_iter().map(to_json).collect()
}

fn target(command: &RawCommand) -> (u8, &str, &[u8]) {
    match command {
        RawCommand::CacheSet { key, .. } | RawCommand::CacheMerge { key, .. } | RawCommand::CacheDelete { key } => {
            (0, key, b"")
        }
        RawCommand::RowUpsert(row) | RawCommand::RowMerge(row) | RawCommand::RowDelete(row) => (1, &row.table, b""),
        RawCommand::DocumentIndex(document) | RawCommand::DocumentMerge(document) => {
            (2, &document.index, document.id.as_bytes())
        }
        RawCommand::DocumentDelete { index, id } => (2, index, id.as_bytes()),
        RawCommand::Publish { topic, key, .. } => (3, topic, key.as_deref().unwrap_or_default()),
    }
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "null".to_owned(),
        Some(Ok(text)) => canonical(text, 0),
        Some(Err(_)) => quoted(&BASE64_STANDARD.encode(bytes.unwrap_or_default())),
    }
}

/// JSON text without its accidents; what is no JSON, as a string.
fn canonical(text: &str, depth: usize) -> String {
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return quoted(text) };
    let raw = raw.get();
    let as_written = || joined_lines(raw).unwrap_or_else(|| raw.to_owned());
    if depth == MAX_DEPTH || raw.len() > COMPARED.most {
        return as_written();
    }
    match raw.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) {
            Ok(members) => {
                let member = |(name, value): (&String, &&RawValue)| {
                    format!("{}:{}", quoted(name), canonical(value.get(), depth + 1))
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
            Err(_) => as_written(),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(raw) {
            Ok(items) => {
                let items: Vec<String> = items.iter().map(|item| canonical(item.get(), depth + 1)).collect();
                format!("[{}]", items.join(","))
            }
            Err(_) => as_written(),
        },
        Some(b'"') => serde_json::from_str::<String>(raw).map_or_else(|_| raw.to_owned(), |text| quoted(&text)),
        _ => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_members_blanks_and_escapes_mean_nothing_and_digits_do() {
        assert_eq!(
            canonical(r#"{ "b" : [1, {"d":2,"c":"\u0041"}], "a":1.10 }"#, 0),
            r#"{"a":1.10,"b":[1,{"c":"A","d":2}]}"#
        );
        assert_eq!(canonical("9007199254740993", 0), "9007199254740993");
        assert_eq!(canonical("no json", 0), "\"no json\"");
    }

    #[test]
    fn what_is_taken_as_it_is_written_is_on_one_line_too() {
        assert_eq!(canonical("{\"\\ud83d\":[1,\n2]}", 0), r#"{"\ud83d":[1,2]}"#);
        let deep = format!("{}1,\n2{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        assert_eq!(canonical(&deep, 0), deep.replace('\n', ""));
    }

    #[test]
    fn order_matters_among_the_commands_of_one_target_alone() {
        let set =
            |key: &str, value: &str| RawCommand::CacheSet { key: key.into(), value: value.into(), ttl_seconds: None };
        let delete = |key: &str| RawCommand::CacheDelete { key: key.into() };
        assert_eq!(by_target(&[set("a", "1"), delete("b")]), by_target(&[delete("b"), set("a", "1")]));
        assert_ne!(by_target(&[set("a", "1"), delete("a")]), by_target(&[delete("a"), set("a", "1")]));
    }
}
