//! The databases of a run, each read by a Debezium connector of its own, with the settings of the corpus.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::{corpus, root, service, text};

use super::session::{psql, try_psql};
use super::tables::Table;
use super::{audit, wait_for};

/// A database and its connector, both gone when the value is dropped.
pub(super) struct Source {
    /// The folder of the corpus with its tables, seed and settings.
    pub(super) group: &'static str,
    /// The address of the database.
    pub(super) url: String,
    pub(super) tables: Vec<Table>,
    /// What the names of its topics begin with; `.public.TABLE` follows.
    pub(super) topic_prefix: String,
    /// The last entry of the audit that the snapshot has seen.
    pub(super) snapshot: u64,
    database: String,
    connector: String,
    slot: String,
}

impl Source {
    /// The databases of a group, filled by its seed, each with its connector past the snapshot.
    pub(super) fn all(group: &'static str, run: &str) -> Vec<Self> {
        let file = std::fs::read_to_string(corpus(&format!("{group}/connector.json"))).unwrap();
        let connectors: Vec<Value> = serde_json::from_str(&file).unwrap();
        let several = connectors.len() > 1;
        connectors
            .iter()
            .map(|connector| {
                let name = connector["name"].as_str().unwrap();
                let files = if several { name.replace("connector", "") } else { String::new() };
                Self::new(group, run, name, &files, &connector["config"])
            })
            .collect()
    }

    fn new(group: &'static str, run: &str, name: &str, files: &str, settings: &Value) -> Self {
        let setting = |name: &str| settings[name].as_str().unwrap();
        let server = service("postgres");
        let database = format!("{run}_{}", setting("database.dbname").replace('-', "_"));
        let included = setting("table.include.list");
        let mut tables = Table::all(group);
        tables.retain(|table| included.split(',').any(|name| name == format!("public.{}", table.name)));
        let mut source = Self {
            group,
            url: format!("{server}/{database}"),
            tables,
            topic_prefix: format!("{run}.{}", setting("topic.prefix")),
            snapshot: 0,
            connector: format!("{run}-{name}"),
            slot: format!("{run}_{}", setting("slot.name")),
            database,
        };
        // The server's zone is not ours to choose, and must not matter.
        let zone = "Asia/Kathmandu";
        psql(
            &format!("{server}/postgres"),
            &format!("CREATE DATABASE {0};\nALTER DATABASE {0} SET timezone = '{zone}';", source.database),
        );
        let folder = root().join("tests/corpus").join(group);
        psql(&source.url, &std::fs::read_to_string(folder.join(format!("{files}schema.sql"))).unwrap());
        audit::begin(&source.url, &source.tables);
        psql(&source.url, &std::fs::read_to_string(folder.join(format!("{files}seed.sql"))).unwrap());
        for place in 0..source.tables.len() {
            for row in source.rows(&source.tables[place].name) {
                source.tables[place].add_key(&row);
            }
        }
        source.snapshot = psql(&source.url, "SELECT coalesce(max(seq), 0) FROM audit;").trim().parse().unwrap();
        source.register(&server, settings);
        source
    }

    fn register(&self, server: &str, settings: &Value) {
        let mut settings = settings.clone();
        let (host, port) = server.rsplit(['@', '/']).next().unwrap().split_once(':').unwrap();
        let publication = format!("{}_pub", self.slot);
        for (name, value) in [
            ("database.hostname", host),
            ("database.port", port),
            ("database.dbname", &self.database),
            ("topic.prefix", &self.topic_prefix),
            ("slot.name", &self.slot),
            ("publication.name", &publication),
            ("poll.interval.ms", "20"),
            // The converter and the transformation write a column's default in place of a null, unless told not to.
            ("value.converter.replace.null.with.default", "false"),
            ("transforms.unwrap.replace.null.with.default", "false"),
        ] {
            settings[name] = value.into();
        }
        let url = format!("{}/connectors/{}/config", service("connect"), self.connector);
        // The worker refuses while it moves its connectors about.
        wait_for("the registration", || {
            let output = curl(&["--request", "PUT", "--data", &settings.to_string(), &url]);
            output.is_ok().then_some(()).ok_or_else(|| format!("{output:?}"))
        });
    }

    /// Waits until the connector has taken its snapshot and streams.
    pub(super) fn wait_for_stream(&self) {
        let streams = format!(
            "SELECT count(*) FROM pg_replication_slots JOIN pg_stat_replication ON pid = active_pid \
             WHERE slot_name = '{}' AND state = 'streaming';",
            self.slot
        );
        wait_for("the stream", || {
            (psql(&self.url, &streams).trim() == "1").then_some(()).ok_or_else(|| format!("{} is not used", self.slot))
        });
    }

    /// The rows of a table now.
    pub(super) fn rows(&self, table: &str) -> Vec<xtask::verify::json::Json> {
        rows(&self.url, &format!("\"{table}\""))
    }

    /// The topic of a table.
    pub(super) fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.topic_prefix)
    }

    fn remove(&self) -> Result<(), String> {
        let connector = format!("{}/connectors/{}", service("connect"), self.connector);
        curl(&["--request", "PUT", &format!("{connector}/stop")])?;
        // Its offsets outlive it, and can be removed once its task has ended.
        wait_for("the connector's end", || curl(&["--request", "DELETE", &format!("{connector}/offsets")]));
        curl(&["--request", "DELETE", &connector])?;
        let drop_slot = format!("SELECT pg_drop_replication_slot('{}') \\g /dev/null", self.slot);
        wait_for("the slot", || try_psql(&self.url, &drop_slot));
        let server = self.url.strip_suffix(&format!("/{}", self.database)).unwrap();
        try_psql(&format!("{server}/postgres"), &format!("DROP DATABASE {} WITH (FORCE);", self.database))?;
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let removed = self.remove();
        // A test that has failed says why; a second panic would end all tests.
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// The rows of a query's `FROM`, as PostgreSQL writes them as JSON.
pub(super) fn rows(database: &str, from: &str) -> Vec<xtask::verify::json::Json> {
    let lines = psql(database, &format!("SET timezone = 'UTC';\nSELECT row_to_json(t) FROM {from} AS t;"));
    // "\n" alone: the texts within hold other characters that end a line elsewhere.
    let lines = lines.split('\n').filter(|line| !line.is_empty());
    lines.map(|line| xtask::verify::json::Json::parse(line).unwrap()).collect()
}

/// The answer to a request.
pub(super) fn curl(arguments: &[&str]) -> Result<String, String> {
    let mut client = Command::new("curl");
    client.args(["--silent", "--show-error", "--fail-with-body", "--header", "Content-Type: application/json"]);
    let output = client.args(arguments).output().unwrap();
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(text(&output)) }
}
