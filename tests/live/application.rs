//! The applications whose caches are invalidated: they read through their cache, and fill it on a miss.

use std::collections::{BTreeMap, BTreeSet};

use xtask::verify::check::Verdict;
use xtask::verify::store::Cache;

use super::random::Random;
use super::session::{Session, psql};
use super::stores::RedisDatabase;

/// An application.
pub(super) struct Application {
    /// Its database.
    database: String,
    /// What its keys begin with.
    prefix: &'static str,
    /// The column whose values follow.
    column: &'static str,
    /// Those values, and at the end some that no row ever has.
    values: Vec<String>,
    /// What it set last, by key.
    filled: BTreeMap<String, Filled>,
    serial: usize,
}

struct Filled {
    content: String,
    /// What of the database was committed once the entry was set, as `pg_current_snapshot()` tells it.
    seen: Snapshot,
}

/// Which transactions were visible.
struct Snapshot {
    from: u64,
    to: u64,
    open: BTreeSet<u64>,
}

impl Snapshot {
    /// Parses `xmin:xmax:xid,xid`.
    fn parse(text: &str) -> Self {
        let mut parts = text.split(':');
        let mut number = || parts.next().unwrap().parse().unwrap();
        let (from, to) = (number(), number());
        let open = text.rsplit(':').next().unwrap().split(',').filter(|xid| !xid.is_empty());
        Self { from, to, open: open.map(|xid| xid.parse().unwrap()).collect() }
    }

    fn has(&self, transaction: u64) -> bool {
        transaction < self.from || transaction < self.to && !self.open.contains(&transaction)
    }
}

impl Application {
    pub(super) fn new(database: &str, prefix: &'static str, column: &'static str, values: Vec<String>) -> Self {
        Self { database: database.to_owned(), prefix, column, values, filled: BTreeMap::new(), serial: 0 }
    }

    /// Reads every entry, so that the cache has all of them.
    pub(super) fn read_all(&mut self, cache: &mut RedisDatabase) {
        let mut session = Session::new(&self.database);
        for value in self.values.clone() {
            self.read(&value, cache, &mut session);
        }
    }

    /// Reads at random as long as it is told to go on.
    pub(super) fn work(&mut self, cache: &mut RedisDatabase, seed: u64, goes_on: impl Fn() -> bool) {
        let mut random = Random::new(seed);
        let mut session = Session::new(&self.database);
        while goes_on() {
            let value = self.values[random.below(self.values.len())].clone();
            self.read(&value, cache, &mut session);
            session.run("SELECT pg_sleep(0.005);");
        }
    }

    fn read(&mut self, value: &str, cache: &mut RedisDatabase, session: &mut Session) {
        let key = format!("{}{value}", self.prefix);
        if cache.get(&key).is_some() {
            return;
        }
        self.serial += 1;
        let content = format!("{{\"read\":{}}}", self.serial);
        cache.set(&key, &content);
        // A change that is not seen now is committed later, and its event comes after the entry was set.
        let seen = Snapshot::parse(session.run("SELECT pg_current_snapshot();").last().unwrap());
        self.filled.insert(key, Filled { content, seen });
    }

    /// Takes the application's entries out of `cache`: none is older than a change of its rows. Where the stores were at
    /// rest when it was set, one whose rows have not changed since is still there; so is always one that no row named.
    pub(super) fn check(&self, verdict: &mut Verdict, cache: &mut Cache, at_rest: bool) {
        let mut changes = BTreeMap::<String, Vec<u64>>::new();
        let sql = format!(
            "SELECT DISTINCT xid, value FROM audit,
             LATERAL (VALUES (old::jsonb ->> '{0}'), (new::jsonb ->> '{0}')) AS named (value) WHERE value IS NOT NULL;",
            self.column
        );
        for line in psql(&self.database, &sql).lines() {
            let (transaction, value) = line.split_once('|').unwrap();
            let key = format!("{}{value}", self.prefix);
            changes.entry(key).or_default().push(transaction.parse().unwrap());
        }
        for (key, filled) in &self.filled {
            let named = changes.get(key).map(Vec::as_slice).unwrap_or_default();
            let changed = named.iter().any(|transaction| !filled.seen.has(*transaction));
            match cache.remove(key) {
                Some(entry) if changed => {
                    verdict.differs(
                        key,
                        None,
                        "nothing, since its row has changed",
                        String::from_utf8_lossy(&entry.value),
                    );
                }
                Some(entry) => verdict.text(key, &filled.content, &String::from_utf8_lossy(&entry.value)),
                None if !changed && (at_rest || named.is_empty()) => {
                    verdict.differs(key, None, "the entry, whose row has not changed", "nothing");
                }
                None => verdict.compared += 1,
            }
        }
    }
}
