//! Deletes by pattern, a bounded number of keys at a time.

use ::redis::{Pipeline, Value};

use super::connection::Connection;
use super::ledger;
use crate::sink::SinkError;

/// Keys to look at in one step; meanwhile the server serves nobody else.
const STEP: usize = 1000;

/// Deletes the keys that begin so, except those that begin with `spare`.
pub(super) async fn beginning(connection: &mut Connection, start: &str, spare: Option<&str>) -> Result<(), SinkError> {
    let pattern = format!("{}*", escaped(start));
    let mut cursor = "0".to_owned();
    loop {
        let mut commands = Pipeline::new();
        commands.cmd("SCAN").arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
        let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
        let (next, keys): (String, Vec<Vec<u8>>) = ledger::fields(&answer, start)?;
        let keys: Vec<_> =
            keys.into_iter().filter(|key| spare.is_none_or(|spare| !key.starts_with(spare.as_bytes()))).collect();
        unlink(connection, &keys).await?;
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
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
