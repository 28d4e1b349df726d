//! What is PostgreSQL's own beside the contract that all sinks share, on the real server.

#![allow(clippy::unwrap_used, clippy::panic)]

mod catalog;
mod cluster;
mod deferred;
mod faults;
mod ledger;
mod order;
mod refusals;
mod rewind;
mod values;

use std::borrow::Cow;

use super::Postgres;
use super::testing::PostgresBench;
use crate::command::collapse::Origin;
use crate::command::json::parse_fields;
use crate::command::{Command, Row};
use crate::contract::Table;
use crate::inspection::Inspection;
use crate::sink::{BadWrite, Declared, LedgerKey, Sink, SinkError, Step, Token, Write, Written};
use crate::source::TopicPartition;

fn table(name: &str, key: &[&str]) -> Declared {
    let key = key.iter().map(ToString::to_string).collect();
    Declared { tables: vec![Table { name: name.into(), key }], ..Declared::default() }
}

fn row(table: &str, key: &str, values: &str) -> Row {
    let fields = |text| parse_fields(text).unwrap();
    Row { table: table.into(), key: fields(key), values: fields(values) }
}

fn upsert(table: &str, key: &str, values: &str) -> Command {
    Command::RowUpsert(row(table, key, values))
}

fn merge(table: &str, key: &str, values: &str) -> Command {
    Command::RowMerge(row(table, key, values))
}

fn delete(table: &str, key: &str) -> Command {
    Command::RowDelete(row(table, key, "{}"))
}

fn ledger_key() -> LedgerKey {
    LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } }
}

/// A sink that was prepared and claimed, and writes one batch after the other.
struct Run {
    sink: Postgres,
    key: LedgerKey,
    next: u64,
}

impl Run {
    async fn new(bench: &PostgresBench, declared: &Declared) -> Self {
        Self::with(Postgres::open(bench.options()).unwrap(), declared).await
    }

    async fn with(sink: Postgres, declared: &Declared) -> Self {
        let key = ledger_key();
        sink.prepare("p", declared).await.unwrap();
        sink.claim(&key, Token(1), 0).await.unwrap();
        Self { sink, key, next: 0 }
    }

    async fn try_write(&mut self, commands: &[Command]) -> Result<Written, SinkError> {
        let writes: Vec<_> = commands
            .iter()
            .map(|c| Write { command: Cow::Borrowed(c), origins: vec![Origin { offset: self.next, transform: 0 }] })
            .collect();
        let (key, from) = (&self.key, self.next);
        let step = Step { key, token: Token(1), from, to: from + 1, epoch: 0, digest: "d", note: "" };
        let written = self.sink.write(&step, &writes).await?;
        self.next += u64::from(written == Written::Applied);
        Ok(written)
    }

    async fn write(&mut self, commands: &[Command]) -> Written {
        self.try_write(commands).await.unwrap()
    }

    async fn applied(&mut self, commands: &[Command]) {
        assert_eq!(self.write(commands).await, Written::Applied);
    }

    async fn rejected(&mut self, commands: &[Command]) -> Vec<BadWrite> {
        match self.write(commands).await {
            Written::Rejected(bad) => bad,
            other => panic!("{other:?}"),
        }
    }
}

fn stopped<T: std::fmt::Debug>(result: Result<T, SinkError>) -> String {
    match result {
        Err(SinkError::Stop(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn passing<T: std::fmt::Debug>(result: Result<T, SinkError>) -> String {
    match result {
        Err(SinkError::Retry(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn texts(row: &[Option<String>]) -> Vec<&str> {
    row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect()
}

/// The one row that a query gives.
fn one(bench: &PostgresBench, sql: &str) -> Vec<Option<String>> {
    let rows = bench.sql(sql);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().unwrap()
}
