//! What is the store's own beside the contract that all sinks share, on Elasticsearch and on OpenSearch.

#![allow(clippy::unwrap_used, clippy::panic)]

mod documents;
mod history;
mod indexes;
mod refusals;
mod replay;
mod rollover;

use std::borrow::Cow;

use super::testing::ElasticBench;
use super::{Elasticsearch, Options};
use crate::command::Command;
use crate::command::collapse::{Origin, Tagged};
use crate::command::json::{parse_fields, parse_object};
use crate::contract::Index;
use crate::inspection::Inspection;
use crate::sink::model::settle;
use crate::sink::{Declared, LedgerKey, Sink, SinkError, Step, Token, Write, Written};
use crate::source::TopicPartition;

/// Runs a test on a bench of its own on each kind of server.
fn on_each_server<F: Future<Output = ()>>(test: impl Fn(ElasticBench) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for server in ["elasticsearch", "opensearch"] {
        runtime.block_on(test(ElasticBench::new(server)));
    }
}

/// An index `i` with a number `n`, and whatever else a document brings.
fn declared() -> Declared {
    defined(r#"{"mappings":{"properties":{"n":{"type":"long"},"s":{"type":"keyword"}}}}"#)
}

fn defined(definition: &str) -> Declared {
    Declared { indexes: vec![Index { name: "i".into(), definition: definition.into() }], ..Declared::default() }
}

fn key() -> LedgerKey {
    LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } }
}

fn index(id: &str, body: &str) -> Command {
    Command::DocumentIndex { index: "i".into(), id: id.into(), body: parse_object(body).unwrap() }
}

fn merge(id: &str, fields: &str) -> Command {
    Command::DocumentMerge { index: "i".into(), id: id.into(), fields: parse_fields(fields).unwrap() }
}

fn delete(id: &str) -> Command {
    Command::DocumentDelete { index: "i".into(), id: id.into() }
}

/// A claim on an open sink.
struct Run {
    sink: Elasticsearch,
    token: Token,
    next: u64,
    /// Of its modules.
    digest: &'static str,
}

impl Run {
    async fn start(options: Options, token: u128) -> Self {
        let sink = Elasticsearch::open(options).unwrap();
        sink.prepare("p", &declared()).await.unwrap();
        Self::claim(sink, token).await
    }

    async fn claim(sink: Elasticsearch, token: u128) -> Self {
        let next = sink.claim(&key(), Token(token), 0).await.unwrap().next;
        Self { sink, token: Token(token), next, digest: "d" }
    }

    /// Writes commands at their offsets, and moves to `to`.
    async fn try_write(&mut self, to: u64, commands: &[(u64, Command)]) -> Result<Written, SinkError> {
        let writes: Vec<_> = commands
            .iter()
            .map(|(offset, command)| Write {
                command: Cow::Borrowed(command),
                origins: vec![Origin { offset: *offset, transform: 0 }],
            })
            .collect();
        let key = key();
        let step = Step { key: &key, token: self.token, from: self.next, to, epoch: 0, digest: self.digest, note: "" };
        let written = self.sink.write(&step, &writes).await?;
        if written == Written::Applied {
            self.next = to;
        }
        Ok(written)
    }

    async fn write(&mut self, to: u64, commands: &[(u64, Command)]) -> Written {
        self.try_write(to, commands).await.unwrap()
    }

    /// Writes a batch until it is through, as the pipeline does; the events that are refused.
    fn settle(&mut self, to: u64, commands: &[(u64, Command)]) -> Vec<u64> {
        let tagged =
            |(offset, command): &(u64, Command)| Tagged { offset: *offset, transform: 0, command: command.clone() };
        let tagged: Vec<_> = commands.iter().map(tagged).collect();
        let (key, runtime) = (key(), tokio::runtime::Handle::current());
        let step = Step { key: &key, token: self.token, from: self.next, to, epoch: 0, digest: self.digest, note: "" };
        let write = |writes: &[Write<'_>]| runtime.block_on(self.sink.write(&step, writes)).unwrap();
        let refused = settle(&tagged.iter(), |writes| tokio::task::block_in_place(|| write(writes)));
        self.next = to;
        refused.into_iter().map(|origin| origin.offset).collect()
    }

    async fn stops(&mut self, to: u64, commands: &[(u64, Command)]) -> String {
        match self.try_write(to, commands).await {
            Err(SinkError::Stop(cause)) => cause,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self, to: u64, commands: &[(u64, Command)]) -> Vec<(usize, String)> {
        match self.write(to, commands).await {
            Written::Rejected(bad) => bad.into_iter().map(|bad| (bad.index, bad.reason)).collect(),
            other => panic!("{other:?}"),
        }
    }
}

/// The documents, as `id:body`.
fn documents(bench: &ElasticBench) -> Vec<String> {
    use crate::sink::contract_tests::Bench as _;
    bench.contents().documents.into_iter().map(|((_, id), body)| format!("{id}:{body}")).collect()
}
