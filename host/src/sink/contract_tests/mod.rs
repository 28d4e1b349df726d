//! The suite that holds every store to the contract in the sink module's documentation.
//!
//! The ledger's cases run on each sink; what can only be seen in a store's contents runs on those that can be read
//! back as a [`Model`].

#![allow(clippy::unwrap_used)]

mod history;
mod run;
mod stores;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::model::Model;
use super::model::strict::INDEX;
use super::{BadWrite, Declared, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written};
use crate::command::collapse::Origin;
use crate::command::{Command, Port, Row};
use crate::contract::{Index, Table};
use crate::source::{TopicFacts, TopicPartition};

/// A store that can be opened again and read back.
pub(in crate::sink) trait Bench: Send + Sync {
    /// The ports that it serves; the suite sends it commands of these alone.
    fn ports(&self) -> &'static [Port] {
        &Port::ALL
    }
    fn open(&self) -> Arc<dyn Sink>;
    fn contents(&self) -> Model;
    /// The ports whose targets are those of `model/strict.rs`.
    fn strict(&self) -> &'static [Port] {
        &[]
    }
    /// Does what is left to be done for that once the sink was prepared for the first time.
    fn prepared(&self) {}
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn key(pipeline: &str, partition: u32) -> LedgerKey {
    LedgerKey { pipeline: pipeline.into(), partition: TopicPartition { topic: "topic".into(), partition } }
}

fn declared() -> Declared {
    Declared {
        ports: Port::ALL.to_vec(),
        cache_keys: vec!["*".into()],
        tables: vec![Table { name: "t".into(), key: vec!["id".into()] }],
        indexes: vec![Index { name: "i".into(), definition: r#"{"mappings":{"dynamic":false}}"#.into() }],
        topics: vec!["topic".into()],
    }
}

/// The same with the strict index.
fn strictly_declared() -> Declared {
    Declared { indexes: vec![Index { name: "i".into(), definition: INDEX.into() }], ..declared() }
}

fn stands(next: u64, known: bool) -> Standing {
    Standing { next, known, note: String::new() }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

fn set(key: &str, value: &str) -> Command {
    Command::CacheSet { key: key.into(), value: value.into(), ttl_seconds: None }
}

/// Sets the one target `name` of this port.
fn put(port: Port, name: &str, value: &str) -> Command {
    match port {
        Port::Cache => set(name, value),
        Port::Tables => Command::RowUpsert(row(&format!("{name:?}"), "a", value)),
        Port::Documents => {
            let body = raw(&format!("{{\"a\":{value:?}}}"));
            Command::DocumentIndex { index: "i".into(), id: name.into(), body }
        }
        Port::Messages => Command::Publish {
            topic: "topic".into(),
            key: Some(name.into()),
            value: Some(value.into()),
            headers: vec![],
        },
    }
}

fn row(id: &str, column: &str, value: &str) -> Row {
    Row { table: "t".into(), key: vec![("id".into(), raw(id))], values: vec![(column.into(), raw(value))] }
}

fn writes(commands: &[Command]) -> Vec<Write<'_>> {
    commands
        .iter()
        .zip(0..)
        .map(|(c, offset)| Write { command: Cow::Borrowed(c), origins: vec![Origin { offset, transform: 0 }] })
        .collect()
}

/// One claim of partition 0 of pipeline `p`, and steps under it.
struct Owner<'a> {
    sink: &'a dyn Sink,
    key: LedgerKey,
    token: Token,
}

impl<'a> Owner<'a> {
    async fn claim(sink: &'a dyn Sink, token: u128) -> (Self, Standing) {
        let owner = Self { sink, key: key("p", 0), token: Token(token) };
        let standing = sink.claim(&owner.key, owner.token, 0).await.unwrap();
        (owner, standing)
    }

    async fn write(&self, from: u64, to: u64, commands: &[Command]) -> Written {
        let step = Step { key: &self.key, token: self.token, from, to, epoch: 0, digest: "d", note: "" };
        self.sink.write(&step, &writes(commands)).await.unwrap()
    }
}

/// The cases of a ledger by itself.
async fn the_ledger_is_compared_and_set(sink: &dyn Sink, port: Port) {
    assert!(matches!(sink.claim(&key("p", 0), Token(1), 0).await, Err(SinkError::Stop(_))), "claimed before prepare");
    sink.prepare("p", &declared()).await.unwrap();

    // A partition that is not known is entered where the claim says.
    assert_eq!(sink.claim(&key("p", 1), Token(1), 40).await.unwrap(), stands(40, false));
    assert_eq!(sink.claim(&key("p", 1), Token(2), 7).await.unwrap(), stands(40, true));

    let (owner, standing) = Owner::claim(sink, 10).await;
    assert_eq!(standing, stands(0, false));
    assert_eq!(owner.write(0, 5, &[put(port, "k", "1")]).await, Written::Applied);
    // The same again, as after an answer that was lost.
    assert_eq!(owner.write(0, 5, &[put(port, "k", "1")]).await, Written::AlreadyApplied);
    // The store lost writes: the ledger is below; or they were done: it is above.
    assert_eq!(owner.write(6, 9, &[put(port, "k", "2")]).await, Written::StandsAt(5));
    assert_eq!(owner.write(0, 3, &[put(port, "k", "3")]).await, Written::StandsAt(5));
    // Gaps between offsets are nothing to the ledger, and neither are batches without commands.
    assert_eq!(owner.write(5, 1000, &[]).await, Written::Applied);
    // What is made up for leaves it where it is, once or twice, and no step goes back.
    for _ in 0..2 {
        assert_eq!(owner.write(1000, 1000, &[put(port, "made up for", "1")]).await, Written::Applied);
    }
    assert_eq!(owner.write(5, 5, &[put(port, "k", "4")]).await, Written::StandsAt(1000));
    let still = Step { key: &owner.key, token: owner.token, from: 1000, to: 1000, epoch: 0, digest: "d", note: "" };
    let back = Step { to: 999, ..still };
    assert!(matches!(sink.write(&back, &[]).await, Err(SinkError::Stop(_))));

    // A second claim fences the first in mid-stream, at any offset, and goes on where it stood.
    let (successor, standing) = Owner::claim(sink, 11).await;
    assert_eq!(standing, stands(1000, true));
    for (from, to) in [(1000, 1001), (1000, 1000), (5, 1000), (0, 5)] {
        assert_eq!(owner.write(from, to, &[put(port, "k", "0")]).await, Written::Fenced);
    }
    assert_eq!(successor.write(1000, 1001, &[]).await, Written::Applied);

    // The note of the last write is kept, and each write has its own.
    let noted = Step { from: 1001, to: 1002, token: Token(11), note: "left out", ..still };
    assert_eq!(sink.write(&noted, &[]).await.unwrap(), Written::Applied);
    let (successor, standing) = Owner::claim(sink, 12).await;
    assert_eq!((standing.next, standing.note.as_str()), (1002, "left out"));
    assert_eq!(successor.write(1002, 1003, &[]).await, Written::Applied);
    assert_eq!(Owner::claim(sink, 13).await.1.note, "");

    // A topic is entered once, and replaced on demand alone.
    let head = |partitions, epoch| TopicHead { facts: TopicFacts { partitions, id: Some("id".into()) }, epoch };
    assert_eq!(sink.enter_topic("p", "topic", &head(3, 0), false).await.unwrap(), head(3, 0));
    assert_eq!(sink.enter_topic("p", "topic", &head(4, 0), false).await.unwrap(), head(3, 0));
    assert_eq!(sink.enter_topic("p", "topic", &head(4, 1), true).await.unwrap(), head(4, 1));
    assert_eq!(sink.enter_topic("p", "other", &head(1, 0), false).await.unwrap(), head(1, 0));

    // Pipelines and partitions have rows of their own.
    assert!(sink.knows("p").await.unwrap());
    assert!(!sink.knows("q").await.unwrap());
    let positions = sink.positions(&[key("p", 0), key("p", 9), key("q", 0)]).await.unwrap();
    assert_eq!(positions, [Some((Token(13), 1003)), None, None]);
    assert_eq!(sink.positions(&[]).await.unwrap(), []);
    // An index belongs to one pipeline.
    sink.prepare("q", &Declared { indexes: vec![], ..declared() }).await.unwrap();
    assert_eq!(sink.claim(&key("q", 0), Token(1), 3).await.unwrap(), stands(3, false));
    assert_eq!(sink.enter_topic("q", "topic", &head(5, 0), false).await.unwrap(), head(5, 0));
    let unknown = key("p", 9);
    let step = Step { key: &unknown, token: Token(1), from: 0, to: 1, epoch: 0, digest: "d", note: "" };
    assert_eq!(sink.write(&step, &[]).await.unwrap(), Written::LedgerMissing);
}

/// Several lanes write partitions of their own through one sink at once.
async fn lanes_do_not_disturb_each_other(sink: Arc<dyn Sink>, port: Port, batches: u64) {
    sink.prepare("p", &declared()).await.unwrap();
    let lanes: Vec<_> = (0..4)
        .map(|partition| {
            let sink = Arc::clone(&sink);
            tokio::spawn(async move {
                let key = key("p", partition);
                sink.claim(&key, Token(1), 0).await.unwrap();
                for from in 0..batches {
                    let commands = [put(port, &format!("{partition}:{from}"), "1")];
                    let step = Step { key: &key, token: Token(1), from, to: from + 1, epoch: 0, digest: "d", note: "" };
                    assert_eq!(sink.write(&step, &writes(&commands)).await.unwrap(), Written::Applied);
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

/// The cases that show in what a store holds.
async fn contents_follow_the_contract(bench: &dyn Bench) {
    let port = bench.ports()[0];
    let mine = |commands: &[Command]| -> Vec<Command> {
        commands.iter().filter(|command| bench.ports().contains(&command.port())).cloned().collect()
    };
    let sink = bench.open();
    sink.prepare("p", &declared()).await.unwrap();
    let (owner, _) = Owner::claim(sink.as_ref(), 1).await;

    // All or nothing: the bad ones are named at once, and nothing changes, the ledger included.
    let before = bench.contents();
    let missing = |id: &str| Command::DocumentMerge { index: "i".into(), id: id.into(), fields: vec![] };
    let (k1, k2) = (put(port, "k", "1"), put(port, "k", "2"));
    let mixed = mine(&[k1, missing("1"), Command::RowMerge(row("1", "a", "1")), k2, missing("2")]);
    let merge = |command: &Command| matches!(command, Command::RowMerge(_) | Command::DocumentMerge { .. });
    let expected: Vec<_> = mixed.iter().enumerate().filter(|(_, command)| merge(command)).map(|(at, _)| at).collect();
    if !expected.is_empty() {
        let Written::Rejected(bad) = owner.write(0, 5, &mixed).await else { unreachable!("not rejected") };
        assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), expected);
        assert!(bad.iter().all(|BadWrite { reason, .. }| !reason.is_empty()));
        assert_eq!(bench.contents(), before);
    }
    let twice = [put(port, "k", "1"), put(port, "k", "2")];
    assert_eq!(owner.write(0, 5, &twice).await, Written::Applied);
    let mut model = Model::default();
    twice.iter().for_each(|command| model.apply(command).unwrap());
    assert_eq!(bench.contents(), model, "commands of one target in order");

    // What is refused for the ledger's sake changes nothing.
    let before = bench.contents();
    for (from, to) in [(0, 5), (4, 9), (6, 9)] {
        assert_ne!(owner.write(from, to, &[put(port, "k", "3"), put(port, "new", "3")]).await, Written::Applied);
    }
    let (successor, _) = Owner::claim(sink.as_ref(), 2).await;
    assert_eq!(owner.write(5, 6, &[put(port, "k", "3")]).await, Written::Fenced);
    assert_eq!(bench.contents(), before);

    // What is made up for is there with its note, and all or nothing too.
    let noted = Step { key: &successor.key, token: Token(2), from: 5, to: 5, epoch: 0, digest: "d", note: "made up" };
    let late = [put(port, "late", "1")];
    assert_eq!(sink.write(&noted, &writes(&late)).await.unwrap(), Written::Applied);
    model.apply(&late[0]).unwrap();
    assert_eq!(bench.contents(), model);
    let (successor, standing) = Owner::claim(sink.as_ref(), 2).await;
    assert_eq!((standing.next, standing.note.as_str()), (5, "made up"));

    // Opened again, it stands where it stood.
    let commands = mine(&[
        Command::RowUpsert(row("1", "a", "1")),
        Command::RowMerge(row("1", "b", "9.50")),
        put(port, "last", "1"),
    ]);
    assert_eq!(successor.write(5, 6, &commands).await, Written::Applied);
    let before = bench.contents();
    drop(sink);
    let sink = bench.open();
    sink.prepare("p", &declared()).await.unwrap();
    assert_eq!(bench.contents(), before);
    let (_, standing) = Owner::claim(sink.as_ref(), 3).await;
    assert_eq!(standing, stands(6, true));
}

/// A cache that begins afresh has lost what it was granted, and its ledger, and nothing else.
async fn a_cleared_cache_begins_afresh(bench: &dyn Bench) {
    let sink = bench.open();
    sink.prepare("p", &declared()).await.unwrap();
    sink.prepare("q", &declared()).await.unwrap();
    let (owner, _) = Owner::claim(sink.as_ref(), 1).await;
    let entries = ["a:1", "a:2", "a%", "b", "c[d]", "c"].map(|key| set(key, "1"));
    assert_eq!(owner.write(0, 5, &entries).await, Written::Applied);
    let other = key("q", 0);
    sink.claim(&other, Token(7), 3).await.unwrap();
    let head = |epoch| TopicHead { facts: TopicFacts { partitions: 1, id: None }, epoch };
    for pipeline in ["p", "q"] {
        sink.enter_topic(pipeline, "topic", &head(3), false).await.unwrap();
    }

    sink.clear_cache("p", &["a:*".into(), "c[d]".into()]).await.unwrap();
    assert_eq!(bench.contents().cache.keys().collect::<Vec<_>>(), ["a%", "b", "c"]);
    assert_eq!(sink.positions(&[key("p", 0)]).await.unwrap(), [None]);
    assert_eq!(owner.write(5, 6, &[set("b", "late")]).await, Written::LedgerMissing);
    assert!(sink.knows("p").await.unwrap());
    assert_eq!(Owner::claim(sink.as_ref(), 2).await.1, stands(0, false));
    assert_eq!(sink.claim(&other, Token(8), 0).await.unwrap(), stands(3, true), "another pipeline's ledger");
    // By another epoch other processes see that the cache was cleared.
    assert_eq!(sink.enter_topic("p", "topic", &head(9), false).await.unwrap(), head(9));
    assert_eq!(sink.enter_topic("q", "topic", &head(9), false).await.unwrap(), head(3));

    // What had run stays on record; a new beginning at the same offset takes the old one's place.
    let key = key("p", 0);
    let step = Step { key: &key, token: Token(2), from: 0, to: 2, epoch: 0, digest: "e", note: "" };
    let before = sink.history("p").await.unwrap();
    assert_eq!((before.len(), before[0].offset, &*before[0].digests), (1, 0, &["d".to_owned()][..]));
    assert_eq!(sink.write(&step, &[]).await.unwrap(), Written::Applied);
    let after = sink.history("p").await.unwrap();
    assert_eq!((after.len(), after[0].offset, &*after[0].digests), (1, 0, &["e".to_owned()][..]));
}
