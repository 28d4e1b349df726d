//! Deletes by pattern, a bounded number of keys at a time.

use ::redis::{Pipeline, Value};

use super::connection::Connection;
use super::ledger;
use crate::sink::SinkError;

/// Keys to look at in one step; meanwhile the server serves nobody else.
const STEP: usize = 1000;

/// Deletes the keys that begin so, except those that begin with `spare`.
pub(super) async fn beginning(connection: &mut Connection, start: &str, spare: Option<&str>) -> Result<(), SinkError> {
    let mut cursor = "0".to_owned();
    loop {
        let (next, keys) = step(connection, start, spare, &cursor).await?;
        unlink(connection, &keys).await?;
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

/// The same keys. One may be named twice.
pub(super) async fn found(
    connection: &mut Connection,
    start: &str,
    spare: Option<&str>,
) -> Result<Vec<Vec<u8>>, SinkError> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let (next, keys) = step(connection, start, spare, &cursor).await?;
        found.extend(keys);
        if next == "0" {
            return Ok(found);
        }
        cursor = next;
    }
}

/// Some of these keys, and where to go on.
async fn step(
    connection: &mut Connection,
    start: &str,
    spare: Option<&str>,
    cursor: &str,
) -> Result<(String, Vec<Vec<u8>>), SinkError> {
    let pattern = format!("{}*", escaped(start));
    let mut commands = Pipeline::new();
    commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
    let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
    let (next, mut keys): (String, Vec<Vec<u8>>) = ledger::fields(&answer, start)?;
    keys.retain(|key| spare.is_none_or(|spare| !key.starts_with(spare.as_bytes())));
    Ok((next, keys))
}

pub(super) async fn unlink(connection: &mut Connection, keys: &[impl AsRef<[u8]>]) -> Result<(), SinkError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut commands = Pipeline::new();
    commands.cmd("UNLINK");
    for key in keys {
        commands.arg(key.as_ref());
    }
    let _: Vec<Value> = connection.demand(&commands).await?;
    Ok(())
}

/// A text that matches itself alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
