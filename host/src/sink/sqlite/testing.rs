//! For tests: a SQLite file that is opened, opened again, and read back.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::{Options, Sqlite};
use crate::command::Port;
use crate::sink::Sink;
use crate::sink::contract_tests::Bench;
use crate::sink::model::Model;
use crate::sink::model::strict::SQLITE_COLUMNS;

/// A file in a folder of its own, with a clock that only a test moves.
pub(crate) struct SqliteBench {
    folder: tempfile::TempDir,
    clock: Arc<AtomicI64>,
    /// Whether the table refuses values.
    strict: bool,
}

impl SqliteBench {
    /// No file yet.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(AtomicI64::new(1_000_000)), strict: false }
    }

    /// Its table is to be the model's strict one.
    pub(crate) fn strict() -> Self {
        Self { strict: true, ..Self::new() }
    }

    /// The options of a sink of this name on the file.
    pub(super) fn options(&self, name: &str) -> Options {
        let path = self.folder.path().join("store.db");
        Options { name: name.into(), path, table_prefix: String::new(), seed: None }
    }

    pub(super) fn open_with(&self, options: Options) -> Sqlite {
        let clock = Arc::clone(&self.clock);
        Sqlite::open_with_clock(options, Box::new(move || clock.load(Ordering::SeqCst))).unwrap()
    }

    /// Another connection, as a user would open it.
    pub(super) fn look(&self) -> Connection {
        Connection::open(self.folder.path().join("store.db")).unwrap()
    }

    pub(crate) fn pass(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Bench for SqliteBench {
    fn open(&self) -> Arc<dyn Sink> {
        Arc::new(self.open_with(self.options("store")))
    }

    fn strict(&self) -> &'static [Port] {
        if self.strict { &[Port::Tables] } else { &[] }
    }

    fn prepared(&self) {
        let connection = self.look();
        let mut columns = Vec::new();
        each(&connection, "SELECT name FROM pragma_table_info('t')", |row| {
            columns.push(row.get::<_, String>(0).unwrap());
        });
        if self.strict && columns.len() == 1 {
            for column in SQLITE_COLUMNS {
                connection.execute_batch(&format!("ALTER TABLE t ADD COLUMN {column}")).unwrap();
            }
        }
    }

    fn contents(&self) -> Model {
        let connection = self.look();
        let mut model = Model::default();
        let now = self.clock.load(Ordering::SeqCst);
        each(&connection, "SELECT key, value, expires_at FROM tidegate_cache", |row| {
            let ttl = row.get::<_, Option<i64>>(2).unwrap().map(|at| u32::try_from((at - now) / 1000).unwrap());
            model.cache.insert(row.get(0).unwrap(), (row.get(1).unwrap(), ttl));
        });
        each(&connection, "SELECT index_name, id, body FROM tidegate_documents", |row| {
            model.documents.insert((row.get(0).unwrap(), row.get(1).unwrap()), row.get(2).unwrap());
        });
        each(&connection, "SELECT value FROM tidegate_messages ORDER BY sequence", |row| {
            model.messages.push(row.get(0).unwrap());
        });
        each(&connection, "SELECT * FROM t", |row| {
            let names = row.as_ref().column_names().map(str::to_owned).enumerate();
            let mut columns: std::collections::BTreeMap<_, _> =
                names.filter_map(|(at, name)| Some((name, json(row.get_ref(at).unwrap())?))).collect();
            let id = columns.remove("id").unwrap();
            model.rows.insert(("t".into(), id), columns);
        });
        model
    }
}

fn each(connection: &Connection, sql: &str, mut use_row: impl FnMut(&Row<'_>)) {
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        use_row(row);
    }
}

/// The JSON that a column's value came from, as far as the model's values go: numbers, strings, null.
fn json(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        text => match text.as_str().unwrap() {
            number if number.starts_with(|c: char| c.is_ascii_digit()) && number.parse::<f64>().is_ok() => {
                Some(number.to_owned())
            }
            string => Some(format!("{string:?}")),
        },
    }
}
