//! What is Redis's own beside the contract that all sinks share.

#![allow(clippy::unwrap_used, clippy::panic)]

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
    let options = Options { timeout: std::time::Duration::from_millis(200), ..server.options() };
    let mut run = Run::new(options).await;
    server.ask::<()>("CLIENT PAUSE 600000 WRITE");
    retried(run.attempt(&[set("k", "1")]).await);
    server.ask::<()>("CLIENT UNPAUSE");
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

#[tokio::test]
async fn a_user_needs_no_more_than_the_remedy_says() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER app on >secret");
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
    let options = Options { url, ..server.options() };
    let sink = Redis::open(options.clone()).unwrap();
    let keys = declared(&["order:*", "all"]);
    let told = stopped(sink.prepare("p", &keys).await);
    assert!(!told.contains("secret"), "{told}");
    assert!(sink.inspect(&keys).await.unwrap().faults[0].contains("ACL SETUSER app"));
    let remedy = told.split('`').nth(1).unwrap().replace('\'', "");
    server.ask::<()>(&remedy);
    assert_eq!(sink.inspect(&keys).await.unwrap(), Inspection::default());
    sink.prepare("p", &keys).await.unwrap();
    let key = LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } };
    sink.claim(&key, Token(1), 0).await.unwrap();
    let mut run = Run { sink, key, token: Token(1), next: 0 };
    let commands = [set("order:1", "{}"), merge("all", "{}", None), merge("order:2", "{}", Some(1)), delete("order:3")];
    assert_eq!(run.write(&commands).await, Written::Applied);
    run.sink.clear_cache("p", &["order:*".into(), "all".into()]).await.unwrap();
    // What is not the user's is found before anything is changed.
    run.sink.claim(&run.key, Token(1), 0).await.unwrap();
    run.next = 0;
    let told = stopped(run.attempt(&[set("order:1", "1"), set("theirs", "1")]).await);
    assert!(told.contains("NOPERM") && told.contains("ACL SETUSER"), "{told}");
    assert_eq!(server.ask::<i64>("EXISTS order:1"), 0);
}

#[tokio::test]
async fn who_may_not_come_in_is_told_without_the_password() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER app on >right ~* +@all");
    let sink = |url: String| Redis::open(Options { url, ..server.options() });
    let port = server.port();
    for url in [format!("redis://app:hushed@127.0.0.1:{port}"), format!("redis://app:right@127.0.0.1:{port}/99")] {
        let told = stopped(sink(url).unwrap().knows("p").await);
        assert!(told.contains("url") && !told.contains("hushed") && !told.contains("right@"), "{told}");
    }
    server.ask::<()>("CONFIG SET requirepass hushed");
    assert!(stopped(sink(server.url()).unwrap().knows("p").await).contains("NOAUTH"));
    let told = retried(sink("redis://app:hushed@127.0.0.1:1".into()).unwrap().knows("p").await);
    assert!(told.contains("127.0.0.1:1") && !told.contains("hushed"), "{told}");
    let told = stopped(sink("redis//app:hushed@x".into()));
    assert!(told.contains("redis://") && !told.contains("hushed"), "{told}");
    assert!(!format!("{:?}", sink(format!("redis://app:hushed@127.0.0.1:{port}")).unwrap()).contains("hushed"));
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_tried_again() {
    let server = Server::start(&[]);
    server.ask::<()>("ACL SETUSER app on >secret ~* +@all");
    let _held = server.look();
    server.ask::<()>("CONFIG SET maxclients 1");
    for user in ["", "app:secret@"] {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        retried(Redis::open(Options { url, ..server.options() }).unwrap().knows("p").await);
    }
}

#[tokio::test]
async fn a_granted_beginning_is_cleared_as_it_is_written() {
    let server = Server::start(&[]);
    let mut run = Run::new(server.options()).await;
    let keys = ["a[b]*:1", "ab:1", "a[b]:1", "a[b]*", "x?y\\:1", "xzy\\:1", "^-:1"];
    assert_eq!(run.write(&keys.map(|key| set(key, "1"))).await, Written::Applied);
    run.sink.clear_cache("p", &["a[b]*:*".into(), "x?y\\*".into(), "^-*".into()]).await.unwrap();
    assert_eq!(server.ask::<Vec<Option<i32>>>("MGET ab:1 a[b]:1 a[b]* xzy\\:1"), [Some(1); 4]);
    // Beside them the head, and the history in two keys.
    assert_eq!(server.ask::<i64>("DBSIZE"), 4 + 3);
}

#[tokio::test]
async fn a_socket_and_a_database_can_be_named() {
    let server = Server::start(&[]);
    let url = format!("unix://{}?db=3", server.socket().display());
    let mut run = Run::new(Options { url, ..server.options() }).await;
    assert_eq!(run.write(&[set("k", "1")]).await, Written::Applied);
    assert!(server.ask::<String>("INFO keyspace").contains("db3:keys=5"));
}

#[tokio::test]
async fn tls_wants_the_certificates_that_it_was_told() {
    let server = Server::start_with_tls();
    let file = |name: &str| server.folder().join(name);
    let url = format!("rediss://localhost:{}", server.tls_port());
    let options = Options {
        url,
        ca: Some(file("ca.pem")),
        identity: Some((file("cert.pem"), file("key.pem"))),
        ..server.options()
    };
    let mut run = Run::new(options.clone()).await;
    assert_eq!(run.write(&[set("k", "1")]).await, Written::Applied);

    let without = Options {
        url: format!("redis://localhost:{}", server.tls_port()),
        ca: None,
        identity: None,
        ..options.clone()
    };
    let told = retried(Redis::open(without).unwrap().inspect(&declared(&["k"])).await);
    assert!(told.contains("write `url` with rediss://"), "{told}");
    let stranger = Options { ca: None, identity: None, ..options.clone() };
    assert!(stopped(Redis::open(stranger).unwrap().knows("p").await).contains("`ca`"));
    let plain = Options { url: server.url(), ..options.clone() };
    assert!(stopped(Redis::open(plain)).contains("rediss://"));
    let missing = Options { ca: Some(file("none.pem")), ..options };
    assert!(stopped(Redis::open(missing)).contains("none.pem"));
}

#[tokio::test]
async fn a_cluster_is_told_at_once() {
    let server = Server::start(&["--cluster-enabled", "yes"]);
    let sink = Redis::open(server.options()).unwrap();
    assert!(stopped(sink.prepare("p", &declared(&["*"])).await).contains("Cluster"));
}

#[tokio::test]
async fn inspection_notes_what_endangers_the_ledger_and_changes_nothing() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let sink = Arc::new(Redis::open(server.options()).unwrap());
    let Inspection { faults, notes } = sink.inspect(&declared(&["*"])).await.unwrap();
    assert!(faults.is_empty() && notes.len() == 1 && notes[0].contains("volatile-lru"), "{faults:?} {notes:?}");
    server.ask::<()>("CONFIG SET maxmemory-policy volatile-lru");
    assert_eq!(sink.inspect(&declared(&["order:*", "all"])).await.unwrap(), Inspection::default());
    assert_eq!(server.ask::<i64>("DBSIZE"), 0);
}
