//! Initial cache entries from a file, for previews and demos.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::cache;
use super::error::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
    ttl_seconds: Option<u32>,
}

/// Writes the file's entries.
pub(super) fn load(connection: &Connection, sink: &str, path: &Path, now: i64) -> Result<(), Problem> {
    let text = fs::read_to_string(path).map_err(|e| Problem::Stop(format!("the seed {}: {e}", path.display())))?;
    for (line, number) in text.split_terminator('\n').zip(1..) {
        let wrong = |problem: String| Problem::Stop(format!("the seed {}, line {number}: {problem}", path.display()));
        let entry: Entry<'_> = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        if entry.ttl_seconds == Some(0) {
            return Err(wrong("ttl_seconds must be at least 1".into()));
        }
        let json = entry.value.get();
        let expires_at = cache::expiry(now, entry.ttl_seconds);
        if json.starts_with('"') {
            let text: String = serde_json::from_str(json).map_err(|e| wrong(e.to_string()))?;
            cache::set(connection, sink, &entry.key, text.as_bytes(), expires_at)?;
        } else {
            cache::set(connection, sink, &entry.key, json.as_bytes(), expires_at)?;
        }
    }
    Ok(())
}
