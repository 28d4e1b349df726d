//! A cache in Redis that is away, closed, full, read-only, or empty again.

use ::redis::{Commands as _, Connection, FromRedisValue, cmd};
use xtask::services::{Redis, Running};

use super::support::{Broker, Folder, ORDER_CACHE, Stream, cache_of, orders, repeated};

/// A pipeline into a Redis of its own.
struct Case {
    server: Running,
    stream: Stream,
    _folder: Folder,
}

impl Case {
    fn new(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let server = Redis { arguments, ..Redis::default() }.start(folder.path()).unwrap();
        let config = format!(
            "[sinks.cache.redis]\nurl = \"{}\"\n[[pipelines]]\nname = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\n\
             format = \"debezium-flattened\"\nsinks = {{ cache = \"cache\" }}\n{ORDER_CACHE}",
            server.url()
        );
        let stream = Stream::new(&Broker::shared(), "orders", orders(), &config);
        Self { server, stream, _folder: folder }
    }

    fn connection(&self) -> Connection {
        ::redis::Client::open(self.server.url()).unwrap().get_connection().unwrap()
    }

    fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).unwrap()
    }

    /// The cache is what it should be, and no record went elsewhere.
    fn check(&self) {
        let mut connection = self.connection();
        let keys: Vec<String> = connection.keys("order:*").unwrap();
        let mut entries: Vec<(String, String)> =
            keys.into_iter().map(|key| (key.clone(), connection.get(&key).unwrap())).collect();
        entries.sort();
        assert_eq!(entries, cache_of(&self.stream.produced, ORDER_CACHE));
        assert_eq!(self.stream.program.dead_letters(), 0);
    }

    /// The pipeline waits in mid-stream while `trouble` lasts, says so once, and goes on when `cure` is done.
    fn waits(mut self, trouble: impl FnOnce(&mut Self), parts: &[&str], cure: impl FnOnce(&mut Self)) {
        let mut run = self.stream.program.start();
        self.stream.settled(&mut run);
        trouble(&mut self);
        self.stream.produce(&repeated(&orders(), 20));
        run.complains(&[&self.stream.pipeline, "sink `cache`"]);
        run.complains(parts);
        cure(&mut self);
        self.stream.settled(&mut run);
        self.check();
        let troubles = run.stop();
        assert_eq!(troubles.len(), 1, "{troubles:#?}");
    }
}

#[test]
fn a_wrong_password_stops_the_pipeline() {
    let mut case = Case::new(&["--requirepass", "of-the-test"]);
    let open = case.server.url().to_owned();
    let with = |password: &str| open.replace("redis://", &format!("redis://:{password}@"));
    case.stream.program.change(&open, &with("hunter2"));
    let said = case.stream.program.start().fails(&[
        &case.stream.pipeline,
        "sink `cache`",
        "Redis at",
        "WRONGPASS",
        "password in `url`",
    ]);
    assert!(!said.contains("hunter2"), "{said}");
    case.stream.program.change("hunter2", "of-the-test");
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    assert_eq!(run.stop(), [""; 0]);
    assert_eq!(case.stream.program.dead_letters(), 0);
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut case = Case::new(&[]);
    case.server.stop().unwrap();
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "sink `cache`", "Redis at", "refused", "is it running"]);
    case.server.restart().unwrap();
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_server_that_crashes_and_keeps_its_data_is_waited_for() {
    Case::new(&["--appendonly", "yes", "--appendfsync", "always"]).waits(
        |case| case.server.kill().unwrap(),
        &["waiting for the store"],
        |case| case.server.restart().unwrap(),
    );
}

#[test]
fn a_server_that_crashes_and_loses_its_data_is_filled_again() {
    let mut case = Case::new(&[]);
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    case.server.kill().unwrap();
    case.stream.produce(&repeated(&orders(), 20));
    run.complains(&[&case.stream.pipeline, "sink `cache`", "waiting for the store"]);
    case.server.restart().unwrap();
    run.says(&[" WARN ", &case.stream.pipeline, "cache", "the ledger of the cache is gone"]);
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 2, "{troubles:#?}");
}

#[test]
fn a_server_that_becomes_a_replica_is_waited_for() {
    Case::new(&[]).waits(
        |case| case.command(&["REPLICAOF", "127.0.0.1", "1"]),
        &["READONLY", "primary"],
        |case| case.command(&["REPLICAOF", "NO", "ONE"]),
    );
}

#[test]
fn a_server_without_memory_is_waited_for() {
    Case::new(&[]).waits(
        |case| case.command(&["CONFIG", "SET", "maxmemory", "1"]),
        &["OOM", "raise maxmemory"],
        |case| case.command(&["CONFIG", "SET", "maxmemory", "0"]),
    );
}

#[test]
fn a_cache_that_is_emptied_in_mid_stream_is_filled_again() {
    let mut case = Case::new(&[]);
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    case.command::<()>(&["FLUSHALL"]);
    case.stream.produce(&orders());
    run.complains(&[&case.stream.pipeline, "cache", "the ledger of the cache is gone", "filling it from the start"]);
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_cache_that_is_emptied_while_nothing_comes_is_filled_again() {
    let case = Case::new(&[]);
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    case.command::<()>(&["FLUSHALL"]);
    let entries = cache_of(&case.stream.produced, ORDER_CACHE).len();
    run.until("the cache to be filled again", || {
        (case.command::<Vec<String>>(&["KEYS", "order:*"]).len() == entries).then_some(())
    });
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert!(matches!(troubles.as_slice(), [one] if one.contains("the ledger of the cache is gone")), "{troubles:#?}");
}

#[test]
fn row_of_a_caches_ledger_that_is_deleted_has_the_cache_cleared_and_filled_again() {
    let case = Case::new(&[]);
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    // An entry that nobody would take away.
    case.command::<()>(&["SET", "order:of-a-row-that-was-deleted", "v"]);
    let rows: Vec<String> = case.command(&["KEYS", &format!("*{}:ledger:*:0", case.stream.pipeline)]);
    assert_eq!(rows.len(), 1);
    case.command::<()>(&["DEL", &rows[0]]);
    run.complains(&[&case.stream.pipeline, "the ledger of the cache is gone"]);
    run.until("the cache to be filled again", || {
        let entries = case.command::<Vec<String>>(&["KEYS", "order:*"]).len();
        (entries == cache_of(&case.stream.produced, ORDER_CACHE).len()).then_some(())
    });
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "cleared once, though three partitions are begun again: {troubles:#?}");
}

#[test]
fn a_cache_that_is_emptied_stops_the_pipeline_where_that_is_configured() {
    let mut case = Case::new(&[]);
    case.stream.program.change("format = ", "on_lost_cache = \"stop\"\nformat = ");
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    case.command::<()>(&["FLUSHALL"]);
    case.stream.produce(&orders());
    run.fails(&[&case.stream.pipeline, "sink `cache`", "was emptied", "Restore it"]);
    assert_eq!(case.stream.program.dead_letters(), 0);
    // As long as nobody has decided anything, it stays so.
    case.stream.program.start().fails(&[&case.stream.pipeline, "sink `cache`", "is gone", "Restore it"]);
    case.stream.program.change("on_lost_cache = \"stop\"", "on_lost_cache = \"rebuild\"");
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "the ledger of the cache is gone"]);
    case.stream.settled(&mut run);
    case.check();
    run.stop();
}

#[test]
fn hung_server_is_told_while_nothing_comes() {
    let mut case = Case::new(&[]);
    let mut run = case.stream.program.start();
    case.stream.settled(&mut run);
    let pid = case.server.pid().unwrap().to_string();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    run.complains(&[&case.stream.pipeline, "sink `cache`", "waiting for the store"]);
    signal("-CONT");
    run.says(&[&case.stream.pipeline, "sink `cache`", "the store answers again"]);
    case.stream.produce(&orders());
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}
