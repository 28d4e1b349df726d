//! Deletes by pattern, a bounded number of keys at a time.

use ::redis::{Pipeline, Value};

use super::connection::Connection;
use super::ledger;
use crate::sink::SinkError;

/// Keys to look at in one step; meanwhile the server serves nobody else.
const STEP: usize = 1000;

/// A walk through the keyspace, which finds the keys that begin so, except those that begin with `spare`.
pub(super) struct Scan<'a> {
    start: &'a str,
    spare: Option<&'a str>,
    /// Where to go on; none at the end.
    cursor: Option<String>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(start: &'a str, spare: Option<&'a str>) -> Self {
        Self { start, spare, cursor: Some("0".to_owned()) }
    }

    /// Some of the keys, perhaps none; one may be named twice. None at the end.
    pub(super) async fn next(&mut self, connection: &mut Connection) -> Result<Option<Vec<Vec<u8>>>, SinkError> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let pattern = format!("{}*", escaped(self.start));
        let mut commands = Pipeline::new();
        commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
        let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
        let (next, mut keys): (String, Vec<Vec<u8>>) = ledger::fields(&answer, self.start)?;
        keys.retain(|key| self.spare.is_none_or(|spare| !key.starts_with(spare.as_bytes())));
        self.cursor = (next != "0").then_some(next);
        Ok(Some(keys))
    }
}

/// Deletes the keys that begin so, except those that begin with `spare`.
pub(super) async fn beginning(connection: &mut Connection, start: &str, spare: Option<&str>) -> Result<(), SinkError> {
    let mut scan = Scan::new(start, spare);
    while let Some(keys) = scan.next(connection).await? {
        unlink(connection, &keys).await?;
    }
    Ok(())
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
