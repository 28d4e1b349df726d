//! Cache entries with their expiry.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::Problem;
use super::value::text_or_blob;
use crate::command::Fields;
use crate::command::json::merge_into;

/// When an entry written now expires, ms since 1970.
pub(super) fn expiry(now: i64, ttl_seconds: Option<u32>) -> Option<i64> {
    ttl_seconds.map(|seconds| now.saturating_add(i64::from(seconds) * 1000))
}

pub(super) fn set(
    connection: &Connection,
    sink: &str,
    key: &str,
    value: &[u8],
    expires_at: Option<i64>,
) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO tidegate_cache (sink, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (sink, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
    )?;
    statement.execute(params![sink, key, text_or_blob(value), expires_at])?;
    Ok(())
}

/// Changes the fields of an entry that is there; another stays missing.
pub(super) fn merge(
    connection: &Connection,
    sink: &str,
    key: &str,
    fields: &Fields,
    expires_at: Option<i64>,
) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached("SELECT value FROM tidegate_cache WHERE sink = ?1 AND key = ?2")?;
    let bytes = |row: &Row<'_>| Ok(row.get_ref(0)?.as_bytes().map(<[u8]>::to_vec)?);
    let Some(stored) = statement.query_row([sink, key], bytes).optional()? else {
        return Ok(());
    };
    let merged = merge_into(&stored, fields)
        .map_err(|e| Problem::Bad(format!("cache entry {key:?} cannot be merged into: {e}")))?;
    let mut statement = connection.prepare_cached(
        "UPDATE tidegate_cache SET value = ?3, expires_at = coalesce(?4, expires_at) WHERE sink = ?1 AND key = ?2",
    )?;
    statement.execute(params![sink, key, merged, expires_at])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, sink: &str, key: &str) -> Result<(), Problem> {
    connection.prepare_cached("DELETE FROM tidegate_cache WHERE sink = ?1 AND key = ?2")?.execute([sink, key])?;
    Ok(())
}

/// Deletes what has expired: first in each write, so that the commands find it missing.
pub(super) fn purge(connection: &Connection, sink: &str, now: i64) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached("DELETE FROM tidegate_cache WHERE sink = ?1 AND expires_at <= ?2")?;
    statement.execute(params![sink, now])?;
    Ok(())
}

/// Deletes the entries under a key, or under all keys of a prefix that ends in `*`.
pub(super) fn clear(connection: &Connection, sink: &str, key: &str) -> Result<(), Problem> {
    match key.strip_suffix('*') {
        None => delete(connection, sink, key),
        Some(prefix) => {
            connection.execute(
                "DELETE FROM tidegate_cache WHERE sink = ?1 AND substr(key, 1, length(?2)) = ?2",
                [sink, prefix],
            )?;
            Ok(())
        }
    }
}
