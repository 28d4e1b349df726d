//! The servers of a world: its own broker, PostgreSQL and Redis, which may go down, and an index in the Elasticsearch that
//! the tests share.

use std::fs;
use std::path::PathBuf;

use xtask::services::{Kafka, Postgres, Redis, Running};

use super::world::STORES;
use crate::outage::support::{Folder, Http, jars, service, unique};

/// What a cache has after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// What it had.
    All,
    /// What it had some writes ago.
    Some,
    /// Nothing.
    None,
}

/// How many bytes a cache forgets that keeps some: a few dozen writes.
const FORGOTTEN: u64 = 20 << 10;

/// The servers.
pub(super) struct Servers {
    pub(super) broker: Running,
    pub(super) postgres: Running,
    pub(super) redis: Running,
    pub(super) elasticsearch: Http,
    /// What the names of the indexes begin with.
    pub(super) prefix: String,
    folder: Folder,
}

impl Servers {
    pub(super) fn start() -> Self {
        let folder = Folder::new();
        let place = |name: &str| folder.path().join(name);
        // The process may crash, the machine does not.
        let arguments = ["--appendonly", "yes", "--appendfsync", "no"].map(str::to_owned).to_vec();
        Self {
            broker: Kafka::new(jars()).start(&place("kafka")).unwrap(),
            postgres: Postgres::default().start(&place("postgres")).unwrap(),
            redis: Redis { arguments, ..Redis::default() }.start(&place("redis")).unwrap(),
            elasticsearch: Http(service("elasticsearch")),
            prefix: format!("{}-", unique("index")),
            folder,
        }
    }

    /// A folder in which the modules lie.
    pub(super) fn modules(&self) -> PathBuf {
        let modules = self.folder.path().join("modules");
        fs::create_dir_all(&modules).unwrap();
        modules
    }

    /// Where the stores are, in their order.
    pub(super) fn urls(&self) -> [&str; STORES.len()] {
        [self.redis.url(), self.postgres.url(), &self.elasticsearch.0]
    }

    /// Ends the cache as a crash would, and starts it with what it keeps.
    pub(super) fn restart_redis(&mut self, kept: Kept) {
        self.redis.kill().unwrap();
        let files = self.folder.path().join("redis/data/appendonlydir");
        match kept {
            Kept::All => {}
            Kept::Some => {
                let logs = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path());
                let log = logs.into_iter().find(|path| path.to_string_lossy().contains(".incr.")).unwrap();
                let log = fs::OpenOptions::new().write(true).open(log).unwrap();
                log.set_len(log.metadata().unwrap().len().saturating_sub(FORGOTTEN)).unwrap();
            }
            Kept::None => fs::remove_dir_all(&files).unwrap(),
        }
        self.redis.restart().unwrap();
    }

    /// Deletes all that the cache holds.
    pub(super) fn flush_redis(&self) {
        let mut connection = ::redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap();
        ::redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    }

    /// Up to where the cache's ledger has a partition of a pipeline; none where it does not know it.
    pub(super) fn cached_to(&self, pipeline: &str, topic: &str, partition: usize) -> Option<u64> {
        let mut connection = ::redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap();
        let row = format!("tidegate:{pipeline}:ledger:cache:{topic}:{partition}");
        ::redis::cmd("HGET").arg(row).arg("next").query(&mut connection).unwrap()
    }

    /// Has the cache's ledger forget a partition of a pipeline.
    pub(super) fn drop_cached(&self, pipeline: &str, topic: &str, partition: usize) {
        let mut connection = ::redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap();
        let row = format!("tidegate:{pipeline}:ledger:cache:{topic}:{partition}");
        ::redis::cmd("DEL").arg(row).exec(&mut connection).unwrap();
    }

    /// Ends PostgreSQL as a crash would, and starts it again.
    pub(super) fn restart_postgres(&mut self) {
        self.postgres.kill().unwrap();
        self.postgres.restart().unwrap();
    }

    /// Ends the broker as a crash would, and starts it again.
    pub(super) fn restart_broker(&mut self) {
        self.broker.kill().unwrap();
        self.broker.restart().unwrap();
    }

    /// Has the index refuse what is written to it, all of it (`write`) or all but deletes (`read_only_allow_delete`), or
    /// take it again. False where there is no such index yet.
    pub(super) fn block(&self, block: &str, on: bool) -> bool {
        let value = if on { "true" } else { "null" };
        let body = format!("{{\"index.blocks.{block}\": {value}}}");
        let answer = self.elasticsearch.try_send("PUT", &format!("/{}contact/_settings", self.prefix), &body);
        answer.is_some_and(|(status, _)| status == 200)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.elasticsearch.try_send("DELETE", &format!("/{}*", self.prefix), "");
    }
}
