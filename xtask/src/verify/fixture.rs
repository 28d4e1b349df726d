//! For tests: the captured events of the repository, and a store made by plain code that is as it should be.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::json::{self, Json, Members};
use super::recorded::{self, Change, Images, Operation};
use super::source::Source;
use crate::seeds;

/// The captured events of the repository.
pub(crate) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus")
}

/// The source tables of a system.
pub(crate) fn source(folder: &str) -> Source {
    Source::read(&corpus().join(folder)).unwrap()
}

fn changes(folder: &str) -> Vec<Change> {
    recorded::read(&corpus().join(folder)).unwrap()
}

/// A store that equals the source, for as long as the folder lives.
pub(crate) struct CorrectStore {
    _folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) connection: Connection,
}

impl CorrectStore {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let connection = Connection::open(&path).unwrap();
        let tables = "
            CREATE TABLE tidegate_pipelines (pipeline TEXT, sink TEXT, created_at INTEGER);
            CREATE TABLE tidegate_ledger (pipeline TEXT, sink TEXT, updated_at INTEGER);
            INSERT INTO tidegate_pipelines VALUES ('order-cache', 'order-cache', 4000), ('trackops-cache', 'trackops-cache', 4000);
            INSERT INTO tidegate_ledger VALUES ('order-cache', 'order-cache', 6000), ('trackops-cache', 'trackops-cache', 6000);
            CREATE TABLE tidegate_cache (sink TEXT, key TEXT, value BLOB, expires_at INTEGER);
            CREATE TABLE tidegate_documents (sink TEXT, index_name TEXT, id TEXT, body TEXT);
            CREATE TABLE tidegate_messages (sequence INTEGER PRIMARY KEY, sink TEXT, topic TEXT, key BLOB, value BLOB);";
        connection.execute_batch(&format!("PRAGMA synchronous = OFF; BEGIN; {tables}")).unwrap();
        let store = Self { _folder: folder, path, connection };
        store.order_cache();
        store.cache_invalidation();
        store.bookstore_analytics();
        store.trackops_cache();
        store.company_search();
        store.connection.execute_batch("COMMIT").unwrap();
        store
    }

    fn entry(&self, sink: &str, key: &str, value: &str, expires_at: Option<i64>) {
        let sql = "INSERT INTO tidegate_cache VALUES (?1, ?2, ?3, ?4)";
        self.connection.execute(sql, params![sink, key, value.as_bytes(), expires_at]).unwrap();
    }

    fn order_cache(&self) {
        for row in &source("order-cache").table("orders").unwrap().rows {
            let key = format!("order:{}", json::get(row, "id").unwrap().bare());
            self.entry("order-cache", &key, &Json::Object(row.clone()).to_string(), Some(605_000));
        }
    }

    fn cache_invalidation(&self) {
        let changes = changes("cdc-cascade");
        let named = seeds::named(&changes, "code");
        for seed in seeds::cache_invalidation(&changes).unwrap() {
            if !named.contains(&seed.key) {
                self.entry("cache-invalidation", &seed.key, &seed.value, None);
            }
        }
    }

    fn bookstore_analytics(&self) {
        let source = source("bookstore-analytics");
        let changes = changes("bookstore-analytics");
        for (from, into) in [
            ("orders", "fact_orders"),
            ("order_items", "fact_order_items"),
            ("books", "dim_books"),
            ("inventory", "fact_inventory"),
        ] {
            let table = source.table(from).unwrap();
            let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            self.connection.execute_batch(&format!("CREATE TABLE {into} ({})", names.join(","))).unwrap();
            // What the last event of a key said is what the table must hold, whether the row lives or not.
            for (_, row) in Images::follow(&changes, from, true).whole() {
                let cells =
                    table.columns.iter().map(|column| sql_cell(&column.of, json::get(row, &column.name).unwrap()));
                let cells: Vec<String> = cells.collect();
                self.connection.execute_batch(&format!("INSERT INTO {into} VALUES ({})", cells.join(","))).unwrap();
            }
        }
    }

    fn trackops_cache(&self) {
        let sink = "trackops-cache";
        for row in &source(sink).table("orders").unwrap().rows {
            let text = |name: &str| json::get(row, name).unwrap().bare();
            self.entry(
                sink,
                &format!("order:entity:{}", text("id")),
                &Json::Object(row.clone()).to_string(),
                Some(3_605_000),
            );
            self.entry(sink, &format!("order:status:{}", text("id")), &text("status"), Some(1_805_000));
        }
        self.entry(sink, "orders:customer:00000000-0000-4000-8000-000000000000", "[]", None);
        for change in changes(sink) {
            let status = |row: &Option<Members>| row.as_ref().map(|row| json::get(row, "status").unwrap().bare());
            let cancelled = status(&change.after).as_deref() == Some("CANCELLED");
            let kind = match change.operation {
                Operation::Create if !change.moved_here => "ORDER_CREATED",
                Operation::Update if cancelled && status(&change.before).as_deref() != Some("CANCELLED") => {
                    "ORDER_CANCELLED"
                }
                _ => continue,
            };
            let after = change.after.as_ref().unwrap();
            let text = |name: &str| json::get(after, name).unwrap().bare();
            let body = format!(
                r#"{{"type":"{kind}","order_id":"{}","customer_id":"{}","status":"{}"}}"#,
                text("id"),
                text("customer_id"),
                text("status")
            );
            let sql = "INSERT INTO tidegate_messages (sink, topic, key, value) VALUES (?1, 'order-events', ?2, ?3)";
            self.connection.execute(sql, params![sink, text("id").as_bytes(), body.as_bytes()]).unwrap();
        }
    }

    fn company_search(&self) {
        let source = source("company-search");
        for (index, renames) in [
            ("company", vec![("name", "company_name"), ("description", "about")]),
            ("contact", vec![("full_name", "name")]),
            ("job_posting", vec![("body", "description")]),
        ] {
            let table = source.table(index).unwrap();
            for row in &table.rows {
                let renamed = |name: &str| {
                    renames.iter().find(|(from, _)| *from == name).map_or(name, |(_, into)| into).to_owned()
                };
                let body = row.iter().map(|(name, value)| (renamed(name), value.clone())).collect();
                let sql = "INSERT INTO tidegate_documents VALUES ('company-search', ?1, ?2, ?3)";
                let body = Json::Object(body).to_string();
                self.connection.execute(sql, params![index, table.identity(row), body]).unwrap();
            }
        }
    }
}

/// A value as the table of a SQLite store holds it, as SQL.
fn sql_cell(of: &str, value: &Json) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match value {
        Json::Null => "NULL".to_owned(),
        Json::Number(milliseconds) if of.starts_with("timestamp") => {
            let milliseconds: i64 = milliseconds.parse().unwrap();
            format!(
                "strftime('%Y-%m-%dT%H:%M:%S', {}, 'unixepoch') || '.{:03}Z'",
                milliseconds.div_euclid(1000),
                milliseconds.rem_euclid(1000)
            )
        }
        Json::Number(digits) if of.starts_with("numeric") => quoted(digits),
        Json::Number(digits) => digits.clone(),
        other => quoted(&other.bare()),
    }
}
