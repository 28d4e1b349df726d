//! What is Redis's own beside the contract that all sinks share.

#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod ledger;
mod rewind;

use std::borrow::Cow;
use std::sync::Arc;

use super::testing::Server;
use super::{Options, Redis};
use crate::command::Command;
use crate::command::collapse::Origin;
use crate::command::json::parse_fields;
use crate::inspection::Inspection;
use crate::sink::testing::STRANGE_TEXTS;
use crate::sink::testing::proxy::Proxy;
use crate::sink::{Declared, LedgerKey, Sink, SinkError, Step, Token, Write, Written};
use crate::source::TopicPartition;

fn declared(keys: &[&str]) -> Declared {
    Declared { cache_keys: keys.iter().map(ToString::to_string).collect(), ..Declared::default() }
}

fn set(key: &str, value: &str) -> Command {
    Command::CacheSet { key: key.into(), value: value.into(), ttl_seconds: None }
}

fn expiring(key: &str, value: &str, seconds: u32) -> Command {
    Command::CacheSet { key: key.into(), value: value.into(), ttl_seconds: Some(seconds) }
}

fn merge(key: &str, fields: &str, ttl_seconds: Option<u32>) -> Command {
    Command::CacheMerge { key: key.into(), fields: parse_fields(fields).unwrap(), ttl_seconds }
}

fn delete(key: &str) -> Command {
    Command::CacheDelete { key: key.into() }
}

/// A sink that was prepared and claimed, and writes one batch after the other.
struct Run {
    sink: Redis,
    key: LedgerKey,
    token: Token,
    next: u64,
}

impl Run {
    async fn new(options: Options) -> Self {
        Self::under(options, "p", Token(1)).await
    }

    async fn under(options: Options, pipeline: &str, token: Token) -> Self {
        let sink = Redis::open(options).unwrap();
        let key =
            LedgerKey { pipeline: pipeline.into(), partition: TopicPartition { topic: "t".into(), partition: 0 } };
        sink.prepare(pipeline, &declared(&["*"])).await.unwrap();
        let next = sink.claim(&key, token, 0).await.unwrap().next;
        Self { sink, key, token, next }
    }

    async fn attempt(&mut self, commands: &[Command]) -> Result<Written, SinkError> {
        let writes: Vec<_> = commands
            .iter()
            .map(|c| Write { command: Cow::Borrowed(c), origins: vec![Origin { offset: self.next, transform: 0 }] })
            .collect();
        let (from, to) = (self.next, self.next + 1);
        let step = Step { key: &self.key, token: self.token, from, to, epoch: 0, digest: "d", note: "" };
        let written = self.sink.write(&step, &writes).await?;
        self.next += u64::from(matches!(written, Written::Applied | Written::AlreadyApplied));
        Ok(written)
    }

    async fn write(&mut self, commands: &[Command]) -> Written {
        self.attempt(commands).await.unwrap()
    }
}

fn stopped<T: std::fmt::Debug>(result: Result<T, SinkError>) -> String {
    match result {
        Err(SinkError::Stop(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn retried<T: std::fmt::Debug>(result: Result<T, SinkError>) -> String {
    match result {
        Err(SinkError::Retry(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_ledger_can_be_read_by_hand() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    run.write(&[]).await;
    let row: Vec<String> = server.ask("HMGET tidegate:p:ledger:store:t:0 token next digest note");
    assert_eq!(row, ["00000000000000000000000000000001", "1", "d", ""]);
    assert_eq!(server.ask::<i64>("EXISTS tidegate:p:head:store"), 1);
    let history: Vec<String> = server.ask("LRANGE tidegate:p:history:store:t:0 0 -1");
    assert!(history[0].contains(r#""digests":"d","offset":0"#), "{history:?}");
    assert_eq!(server.ask::<Vec<String>>("SMEMBERS tidegate:p:history:store"), ["t:0"]);
}

#[tokio::test]
async fn the_newest_thousand_changes_of_a_partition_are_kept() {
    let server = Server::start(&[]);
    let run = Run::new(server.options()).await;
    for from in 0..1003 {
        let (key, token, digest) = (&run.key, run.token, if from % 2 == 0 { "a" } else { "b" });
        let step = Step { key, token, from, to: from + 1, epoch: 0, digest, note: "" };
        assert_eq!(run.sink.write(&step, &[]).await.unwrap(), Written::Applied);
    }
    let offsets: Vec<_> = run.sink.history("p").await.unwrap().iter().map(|row| row.offset).collect();
    assert_eq!(offsets, (3..1003).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_is_told_at_exec_that_the_row_was_taken_enters_no_change() {
    let server = Server::start(&[]);
    let mut zombie = Run::new(server.options()).await;
    zombie.write(&[]).await;
    let _successor = Run::under(server.options(), "p", Token(2)).await;
    let step = Step { key: &zombie.key, token: Token(1), from: 1, to: 2, epoch: 0, digest: "other", note: "" };
    assert_eq!(zombie.sink.write(&step, &[]).await.unwrap(), Written::Fenced);
    assert_eq!(zombie.sink.history("p").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_takeover_between_watch_and_exec_leaves_everything_as_it_was() {
    let server = Server::start(&[]);
    let mut zombie = Run::new(server.options()).await;
    // Behind this write the row is watched for the next one.
    assert_eq!(zombie.write(&[set("k", "1")]).await, Written::Applied);
    let mut successor = Run::under(server.options(), "p", Token(2)).await;
    server.ask::<()>("CONFIG RESETSTAT");
    assert_eq!(zombie.write(&[set("k", "stale"), set("new", "stale")]).await, Written::Fenced);
    assert!(server.ask::<String>("INFO commandstats").contains("cmdstat_exec:calls=1"), "it was left to EXEC");
    assert_eq!(server.ask::<Vec<Option<String>>>("MGET k new"), [Some("1".into()), None]);
    assert_eq!(successor.write(&[set("k", "2")]).await, Written::Applied);
    assert_eq!(zombie.write(&[delete("k")]).await, Written::Fenced);
    assert_eq!(server.ask::<String>("GET k"), "2");
}

#[tokio::test]
async fn a_batch_without_merges_is_one_transaction_and_nothing_else() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    run.write(&[]).await;
    server.ask::<()>("CONFIG RESETSTAT");
    assert_eq!(run.write(&[set("a", "1"), set("b", "1"), delete("c"), set("a", "2")]).await, Written::Applied);
    let stats: String = server.ask("INFO commandstats");
    let calls: std::collections::BTreeSet<_> =
        stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(",usec").next()).collect();
    let expected = ["exec:calls=1", "hmget:calls=1", "hset:calls=1", "mset:calls=1", "multi:calls=1", "unlink:calls=1"];
    let own = ["config", "info", "client", "hello", "select", "auth"];
    let calls: Vec<_> = calls.into_iter().filter(|call| !own.iter().any(|name| call.starts_with(name))).collect();
    assert_eq!(calls, [&expected[..], &["watch:calls=1"]].concat());
}

#[tokio::test]
async fn a_merge_into_another_type_is_rejected_and_the_rest_is_left_alone() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    server.ask::<()>("RPUSH list 1");
    server.ask::<()>("SET text text");
    let commands = [set("k", "1"), merge("list", "{}", None), merge("text", "{}", None), merge("none", "{}", None)];
    let Written::Rejected(bad) = run.write(&commands).await else { panic!("not rejected") };
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1, 2]);
    assert!(bad[0].reason.contains("\"list\"") && bad[0].reason.contains("type list"), "{bad:?}");
    assert!(bad[1].reason.contains("\"text\"") && bad[1].reason.contains("JSON"), "{bad:?}");
    assert_eq!(server.ask::<i64>("EXISTS k none"), 0);
    assert_eq!(server.ask::<i64>("LLEN list"), 1);
    // What replaces an entry whole may replace any type.
    assert_eq!(run.write(&[set("list", "{}"), merge("list", r#"{"a":1}"#, None)]).await, Written::Applied);
    assert_eq!(server.ask::<String>("GET list"), r#"{"a":1}"#);
}

#[tokio::test]
async fn a_merge_keeps_the_expiry_unless_it_has_its_own() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let ttl = |key: &str| server.ask::<i64>(&format!("TTL {key}")).div_euclid(100);
    let entries =
        [expiring("kept", "{}", 250), expiring("new", "{}", 250), expiring("plain", "{}", 250), set("o", "{}")];
    run.write(&entries).await;
    let merges = [
        merge("kept", r#"{"a":1}"#, None),
        merge("new", r#"{"a":1}"#, Some(950)),
        merge("missing", r#"{"a":1}"#, Some(950)),
        merge("o", r#"{"a":1}"#, None),
        set("plain", "{}"),
        merge("plain", r#"{"a":1}"#, None),
    ];
    assert_eq!(run.write(&merges).await, Written::Applied);
    let values: Vec<Option<String>> = server.ask("MGET kept new missing o plain");
    let merged = || Some(r#"{"a":1}"#.to_owned());
    assert_eq!(values, [merged(), merged(), None, merged(), merged()]);
    assert_eq!((ttl("kept"), ttl("new")), (2, 9));
    assert_eq!((ttl("o"), ttl("plain")), (-1, -1));
}

#[test]
fn pipelines_that_merge_into_one_entry_lose_nothing() {
    let server = Server::start(&[]);
    server.ask::<()>("SET k {}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = ["a", "b"].map(|name| {
            let options = server.options();
            tokio::spawn(async move {
                let mut run = Run::under(options, name, Token(1)).await;
                while run.next < 50 {
                    let command = merge("k", &format!("{{\"{name}{}\":1}}", run.next), None);
                    match run.attempt(&[command]).await {
                        Ok(written) => assert_eq!(written, Written::Applied),
                        Err(error) => assert!(matches!(error, SinkError::Retry(_)), "{error}"),
                    }
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(parse_fields(&server.ask::<String>("GET k")).unwrap().len(), 100);
}

#[tokio::test]
async fn more_entries_than_one_command_takes() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let commands: Vec<_> = (0..2500).map(|n| set(&format!("k{n}"), "1")).collect();
    assert_eq!(run.write(&commands).await, Written::Applied);
    assert_eq!(server.ask::<i64>("DBSIZE"), 2504);
    let commands: Vec<_> = (0..2500).map(|n| delete(&format!("k{n}"))).collect();
    assert_eq!(run.write(&commands).await, Written::Applied);
    assert_eq!(server.ask::<i64>("DBSIZE"), 4);
}

#[tokio::test]
async fn entries_are_kept_from_the_ledgers_keys() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let row = "tidegate:p:ledger:store:t:0";
    let Written::Rejected(bad) = run.write(&[delete(row)]).await else { panic!("not rejected") };
    assert!(bad[0].reason.contains("prefix"), "{bad:?}");
    assert!(stopped(run.sink.prepare("p", &declared(&["tidegate:x*"])).await).contains("prefix"));
    // The grant of everything does not clear others' ledgers.
    Run::under(server.options(), "q", Token(1)).await;
    run.write(&[set("k", "1")]).await;
    run.sink.clear_cache("p", &["*".into()]).await.unwrap();
    assert_eq!(server.ask::<i64>("EXISTS k tidegate:p:ledger:store:t:0"), 0);
    assert_eq!(server.ask::<i64>("EXISTS tidegate:p:head:store tidegate:q:head:store tidegate:q:ledger:store:t:0"), 3);
}

#[tokio::test]
async fn text_of_a_stranger_stays_text() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let texts = || STRANGE_TEXTS.into_iter().chain(["\0", " "]);
    let object = |text: &str| serde_json::json!({ "a": text }).to_string();
    let sets: Vec<_> = texts().map(|text| set(text, text)).collect();
    assert_eq!(run.write(&sets).await, Written::Applied);
    let get = |key: &str| -> String { ::redis::cmd("GET").arg(key).query(&mut server.look()).unwrap() };
    texts().for_each(|text| assert_eq!(get(text), text));
    let merges: Vec<_> = texts().flat_map(|text| [set(text, "{}"), merge(text, &object(text), None)]).collect();
    assert_eq!(run.write(&merges).await, Written::Applied);
    texts().for_each(|text| assert_eq!(get(text), object(text)));
    let deletes: Vec<_> = texts().skip(1).map(delete).collect();
    assert_eq!(run.write(&deletes).await, Written::Applied);
    let left: Vec<String> = server.ask("KEYS *");
    let left: Vec<_> = left.iter().filter(|key| !key.starts_with("tidegate:")).collect();
    assert_eq!(left, [STRANGE_TEXTS[0]]);
}

#[tokio::test]
async fn a_store_that_is_emptied_in_mid_run_is_told_and_filled_afresh() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    run.write(&[set("k", "1")]).await;
    server.ask::<()>("FLUSHALL");
    assert_eq!(run.write(&[set("k", "2")]).await, Written::LedgerMissing);
    assert!(!run.sink.knows("p").await.unwrap());
    assert!(stopped(run.sink.claim(&run.key, Token(2), 0).await).contains("tidegate:p:head:store"));
    assert_eq!(server.ask::<i64>("DBSIZE"), 0);
    run.sink.clear_cache("p", &["*".into()]).await.unwrap();
    assert!(!run.sink.claim(&run.key, Token(2), 0).await.unwrap().known);
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_told() {
    let mut server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    run.write(&[]).await;
    server.restart();
    retried(run.attempt(&[]).await);
    assert_eq!(run.write(&[]).await, Written::LedgerMissing);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_out() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let options = Options { url: format!("redis://{}", proxy.address), ..server.options() };
    let mut run = Run::new(options).await;
    proxy.cut_behind("EXEC", "QUEUED");
    retried(run.attempt(&[set("k", "1")]).await);
    assert_eq!(server.ask::<String>("GET k"), "1");
    assert_eq!(run.write(&[set("k", "1")]).await, Written::AlreadyApplied);
    proxy.cut_before("EXEC");
    retried(run.attempt(&[set("k", "2")]).await);
    assert_eq!(server.ask::<String>("GET k"), "1");
    assert_eq!(run.write(&[set("k", "2")]).await, Written::Applied);
}

#[tokio::test]
async fn connections_that_are_killed_are_made_anew() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    server.ask::<()>("CLIENT KILL TYPE normal SKIPME yes");
    retried(run.attempt(&[set("k", "1")]).await);
    assert_eq!(run.write(&[set("k", "1")]).await, Written::Applied);
}

#[tokio::test]
async fn a_server_that_hangs_is_tried_again() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let hasty = Options { timeout: std::time::Duration::from_millis(200), ..server.options() };
    let patient = std::mem::replace(&mut run.sink, Redis::open(hasty).unwrap());
    server.ask::<()>("CLIENT PAUSE 600000 WRITE");
    retried(run.attempt(&[set("k", "1")]).await);
    server.ask::<()>("CLIENT UNPAUSE");
    run.sink = patient;
    // What was held back may have come through meanwhile.
    assert!(matches!(run.write(&[set("k", "1")]).await, Written::Applied | Written::AlreadyApplied));
    assert_eq!(server.ask::<String>("GET k"), "1");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_waited_for() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    for (begin, end, word) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "maxmemory"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
    ] {
        server.ask::<()>(begin);
        let told = retried(run.attempt(&[delete("k"), set("k", word)]).await);
        assert!(told.contains(word), "{told}");
        server.ask::<()>(end);
        assert_eq!(run.write(&[set("k", word)]).await, Written::Applied);
    }
}
