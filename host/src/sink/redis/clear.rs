//! Deletes by pattern, a bounded number of keys at a time, and clears a cache by one process at a time.

use ::redis::{Pipeline, Value};

use super::connection::{Connection, begin};
use super::ledger;
use crate::sink::SinkError;

/// Keys to look at in one step; meanwhile the server serves nobody else.
const STEP: usize = 1000;
/// How long a turn to clear lasts beyond its last step. So long others wait for one whose process was killed.
const LASTS_MS: u64 = 15_000;

/// A turn at what one process may do at a time. A key says whose it is; each step is executed only while that is so.
pub(super) struct Turn {
    key: String,
    mine: String,
    /// How long the turn lasts beyond each step; none where only another process ends it.
    lasts_ms: Option<u64>,
    /// What it means that it is over.
    over: fn() -> SinkError,
}

impl Turn {
    /// A turn that the key says is this process's already.
    pub(super) fn taken(key: String, mine: String, over: fn() -> SinkError) -> Self {
        Self { key, mine, lasts_ms: None, over }
    }

    /// The turn to clear a cache; none while another process has it. While it lasts nobody claims a partition, so that
    /// nothing is filled that a later step would delete again.
    pub(super) async fn to_clear(connection: &mut Connection, key: String) -> Result<Option<Self>, SinkError> {
        let random =
            getrandom::u64().map_err(|e| SinkError::Stop(format!("the system gives no random numbers: {e}")))?;
        let mine = format!("{random:016x}");
        let mut commands = Pipeline::new();
        commands.cmd("SET").arg(&key).arg(&mine).arg("NX").arg("PX").arg(LASTS_MS);
        let answers = connection.demand(&commands).await?;
        let over = || SinkError::Retry("clearing the cache took too long, and begins again".into());
        Ok((answers.first() != Some(&Value::Nil)).then_some(Self { key, mine, lasts_ms: Some(LASTS_MS), over }))
    }

    /// Deletes the keys that begin so, except those that begin with `spare`.
    pub(super) async fn beginning(
        &self,
        connection: &mut Connection,
        start: &str,
        spare: Option<&str>,
    ) -> Result<(), SinkError> {
        let mut scan = Scan::new(start, spare);
        while let Some(keys) = scan.next(connection).await? {
            self.unlink(connection, &keys).await?;
        }
        Ok(())
    }

    /// Deletes these keys.
    pub(super) async fn unlink(&self, connection: &mut Connection, keys: &[impl AsRef<[u8]>]) -> Result<(), SinkError> {
        let mut change = begin();
        if !keys.is_empty() {
            change.cmd("UNLINK");
            for key in keys {
                change.arg(key.as_ref());
            }
        }
        if let Some(ms) = self.lasts_ms {
            change.cmd("SET").arg(&self.key).arg(&self.mine).arg("PX").arg(ms);
        }
        self.execute(connection, change).await
    }

    /// Makes a last change, and ends the turn with it. [`begin`] began the change.
    pub(super) async fn end(self, connection: &mut Connection, mut change: Pipeline) -> Result<(), SinkError> {
        change.cmd("UNLINK").arg(&self.key);
        self.execute(connection, change).await
    }

    async fn execute(&self, connection: &mut Connection, mut change: Pipeline) -> Result<(), SinkError> {
        let mut commands = Pipeline::new();
        commands.cmd("UNWATCH").cmd("WATCH").arg(&self.key).cmd("GET").arg(&self.key);
        if connection.demand(&commands).await?.pop() != Some(Value::BulkString(self.mine.clone().into_bytes())) {
            return Err((self.over)());
        }
        change.cmd("EXEC");
        let executed = connection.demand(&change).await?.pop();
        if executed.is_none_or(|executed| executed == Value::Nil) { Err((self.over)()) } else { Ok(()) }
    }
}

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
