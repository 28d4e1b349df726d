//! What the live stores hold, read with plain clients.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Commands as _, Connection};
use tidegate_tests::service;
use xtask::verify::json::Json;
use xtask::verify::store::{Cache, Entry};

use super::source::curl;

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A database of the shared Redis: its keys are removed at the beginning and at the end.
pub(super) struct RedisDatabase {
    pub(super) url: String,
    connection: Connection,
    /// What the keys of ledgers begin with.
    ledger: String,
}

impl RedisDatabase {
    pub(super) fn new(number: u32, ledger: &str) -> Self {
        let url = format!("{}/{number}", service("redis"));
        let connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
        let mut database = Self { url, connection, ledger: ledger.to_owned() };
        database.clear();
        database
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.connection.set::<_, _, ()>(key, value).unwrap();
    }

    pub(super) fn get(&mut self, key: &str) -> Option<String> {
        self.connection.get(key).unwrap()
    }

    /// All entries, without those of the ledger.
    pub(super) fn entries(&mut self) -> Cache {
        let mut entries = Cache::new();
        for key in self.keys() {
            if key.starts_with(&self.ledger) {
                continue;
            }
            let (value, expires_at): (Option<Vec<u8>>, i64) =
                redis::pipe().get(&key).cmd("PEXPIRETIME").arg(&key).query(&mut self.connection).unwrap();
            if let Some(value) = value {
                entries.insert(key, Entry { value, expires_at: (expires_at >= 0).then_some(expires_at) });
            }
        }
        entries
    }

    fn keys(&mut self) -> Vec<String> {
        self.connection.scan_match("*").unwrap().map(Result::unwrap).collect()
    }

    fn clear(&mut self) {
        for key in self.keys() {
            self.connection.unlink::<_, ()>(&key).unwrap();
        }
    }
}

impl Drop for RedisDatabase {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The indexes of a run in the shared Elasticsearch, removed at the end.
pub(super) struct Indexes {
    pub(super) url: String,
    pub(super) prefix: String,
}

impl Indexes {
    pub(super) fn new(run: &str) -> Self {
        Self { url: service("elasticsearch"), prefix: format!("{run}-") }
    }

    /// The documents of an index by their id.
    pub(super) fn documents(&self, index: &str) -> BTreeMap<String, String> {
        let index = format!("{}/{}{index}", self.url, self.prefix);
        curl(&["--request", "POST", &format!("{index}/_refresh")]).unwrap();
        let answer = Json::parse(&curl(&[&format!("{index}/_search?size=10000")]).unwrap()).unwrap();
        let Some(Json::Array(hits)) = answer.get("hits").and_then(|hits| hits.get("hits")) else {
            panic!("no documents: {answer}");
        };
        let document = |hit: &Json| Some((hit.get("_id")?.text()?.to_owned(), hit.get("_source")?.to_string()));
        hits.iter().map(|hit| document(hit).unwrap()).collect()
    }
}

impl Drop for Indexes {
    fn drop(&mut self) {
        // By their own names: a cluster may refuse to remove what a pattern or an alias names.
        let listed = curl(&[&format!("{}/_cat/indices/{}*?h=index", self.url, self.prefix)]).unwrap_or_default();
        for index in listed.split_whitespace() {
            let removed = curl(&["--request", "DELETE", &format!("{}/{index}", self.url)]);
            assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
        }
    }
}
