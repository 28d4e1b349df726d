//! What the SQLite file holds, read with plain SQL.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row};

use super::json::Members;
use super::value;

/// The store, open for reading.
pub(crate) struct Store {
    connection: Connection,
}

/// A cache entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The bytes under its key.
    pub value: Vec<u8>,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// Its key.
    pub key: String,
    /// Its body.
    pub value: String,
}

/// Cache entries by key.
pub type Cache = BTreeMap<String, Entry>;

impl Store {
    /// Opens the file.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("cannot open the store {}", path.display()))?;
        Ok(Self { connection })
    }

    /// The cache entries of a sink, expired ones too.
    pub(crate) fn cache(&self, sink: &str) -> anyhow::Result<Cache> {
        let sql = "SELECT key, value, expires_at FROM tidegate_cache WHERE sink = ?1";
        let entries = self
            .rows(sql, &[sink], |row| Ok((text(row, 0)?, Entry { value: bytes(row, 1)?, expires_at: row.get(2)? })))?;
        Ok(entries.into_iter().collect())
    }

    /// When a sink was first and last written, in milliseconds since 1970.
    pub(crate) fn written(&self, sink: &str) -> anyhow::Result<RangeInclusive<i64>> {
        let sql = "SELECT (SELECT min(created_at) FROM tidegate_pipelines WHERE sink = ?1),
                          (SELECT max(updated_at) FROM tidegate_ledger WHERE sink = ?1)";
        let written = self.rows(sql, &[sink], |row| Ok(row.get(0)?..=row.get(1)?))?;
        written.into_iter().next().context("the store does not say when it was written")
    }

    /// The documents of a sink, by index and id.
    pub(crate) fn documents(&self, sink: &str) -> anyhow::Result<BTreeMap<(String, String), String>> {
        let sql = "SELECT index_name, id, body FROM tidegate_documents WHERE sink = ?1";
        let documents = self.rows(sql, &[sink], |row| Ok(((text(row, 0)?, text(row, 1)?), text(row, 2)?)))?;
        Ok(documents.into_iter().collect())
    }

    /// The messages of a sink, in the order in which they were published.
    pub(crate) fn messages(&self, sink: &str) -> anyhow::Result<Vec<Message>> {
        let sql = "SELECT topic, key, value FROM tidegate_messages WHERE sink = ?1 ORDER BY sequence";
        self.rows(sql, &[sink], |row| Ok(Message { topic: text(row, 0)?, key: text(row, 1)?, value: text(row, 2)? }))
    }

    /// The rows of a table.
    pub(crate) fn table(&self, name: &str) -> anyhow::Result<Vec<Members>> {
        let sql = format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""));
        self.rows(&sql, &[], |row| {
            let names = row.as_ref().column_names();
            let cells = names.into_iter().enumerate().map(|(place, name)| {
                let cell: Value = row.get(place)?;
                Ok((name.to_owned(), value::cell(cell)))
            });
            cells.collect::<rusqlite::Result<Members>>()
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: &[&str],
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let query = || {
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(parameters), read)?;
            rows.collect::<rusqlite::Result<Vec<T>>>()
        };
        query().with_context(|| format!("cannot read the store by `{sql}`"))
    }
}

/// A value as bytes, whether it was stored as text or as a blob.
fn bytes(row: &Row<'_>, place: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get(place)? {
        Value::Null => Vec::new(),
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Real(number) => number.to_string().into_bytes(),
        Value::Text(text) => text.into_bytes(),
        Value::Blob(bytes) => bytes,
    })
}

fn text(row: &Row<'_>, place: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(&bytes(row, place)?).into_owned())
}
