//! For tests: a database of one's own on the real server, that a sink is opened on and that is read back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::{Options, Postgres};
use crate::command::Port;
use crate::sink::Sink;
use crate::sink::contract_tests::Bench;
use crate::sink::model::Model;
use crate::sink::model::strict::POSTGRES_TABLE;
use crate::sink::testing::service;

/// A database that goes with the value, and a table `t` for the contract's rows. Its columns are JSON, which shows the
/// exact text that came; the key is text.
pub(crate) struct PostgresBench {
    server: String,
    pub(super) database: String,
    /// Whether the table refuses values.
    strict: bool,
    /// Runs what a test asks directly, also from within another runtime.
    runtime: Option<Runtime>,
}

impl PostgresBench {
    pub(crate) fn new() -> Self {
        Self::on(service("postgres"))
    }

    /// With the model's strict table.
    pub(crate) fn strict() -> Self {
        let mut bench = Self::new();
        bench.strict = true;
        bench.sql(&format!("DROP TABLE t; {POSTGRES_TABLE}"));
        bench
    }

    /// A database of the server at this URL, which names none.
    pub(super) fn on(server: String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("postgres_sink_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bench = Self { server, database, strict: false, runtime: Some(runtime) };
        bench.in_database("postgres", &format!("CREATE DATABASE {}", bench.database));
        bench.sql("CREATE TABLE t (id text PRIMARY KEY, a json, b json, c json)");
        bench
    }

    pub(super) fn url(&self) -> String {
        format!("{}/{}", self.server, self.database)
    }

    pub(super) fn options(&self) -> Options {
        Options {
            name: "store".into(),
            url: self.url(),
            schema: "public".into(),
            ledger_schema: "tidegate".into(),
            ca: None,
            certificate: None,
            key: None,
            statement_timeout: Duration::from_secs(20),
        }
    }

    /// Runs statements as the database's owner; the rows of the last, each value as text.
    pub(super) fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.in_database(&self.database, sql)
    }

    /// Another connection, with what keeps it alive.
    pub(super) async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// As it was when it was new.
    pub(crate) fn empty(&self) {
        self.sql("TRUNCATE t; DROP SCHEMA IF EXISTS tidegate CASCADE");
    }

    fn in_database(&self, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        let url = format!("{}/{database}", self.server);
        let work = async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the server is there");
            tokio::spawn(connection);
            let answers = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            answers
                .iter()
                .filter_map(|answer| match answer {
                    SimpleQueryMessage::Row(row) => Some(values(row)),
                    _ => None,
                })
                .collect()
        };
        let runtime = self.runtime.as_ref().unwrap().handle();
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join().unwrap())
    }
}

fn values(row: &SimpleQueryRow) -> Vec<Option<String>> {
    (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()
}

impl Drop for PostgresBench {
    fn drop(&mut self) {
        self.in_database("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bench for PostgresBench {
    fn ports(&self) -> &'static [Port] {
        &[Port::Tables]
    }

    fn open(&self) -> Arc<dyn Sink> {
        Arc::new(Postgres::open(self.options()).unwrap())
    }

    fn strict(&self) -> &'static [Port] {
        if self.strict { &[Port::Tables] } else { &[] }
    }

    fn contents(&self) -> Model {
        let mut model = Model::default();
        for row in self.sql("SELECT id, to_json(a), to_json(b), to_json(c) FROM t") {
            let mut row = row.into_iter();
            let id = row.next().flatten().unwrap();
            // The model's keys are JSON: a number, or a string.
            let id = if id.parse::<u32>().is_ok() { id } else { format!("{id:?}") };
            let columns = ["a", "b", "c"].into_iter().zip(row).filter_map(|(name, value)| Some((name.into(), value?)));
            model.rows.insert(("t".into(), id), columns.collect::<BTreeMap<_, _>>());
        }
        model
    }
}
