//! The embedded default: one SQLite file that serves all four ports, and anyone with a SQL shell.
//!
//! - Rows go to real tables, named `{table_prefix}{table}`, made from the declared names and keys, with a column as it
//!   appears. Columns have no affinity. Integers of 64 bits are INTEGER, every other number is TEXT with its
//!   exact digits, strings are TEXT, booleans INTEGER 1 and 0, null is NULL, objects and arrays are their JSON as TEXT.
//! - Cache entries, documents and messages go to `tidegate_cache`, `tidegate_documents` and `tidegate_messages`. An
//!   expired cache entry counts as missing; the sink's next write, of whatever kind, deletes it.
//! - Several sinks may share a file; their names keep their ledgers, entries, documents and messages apart. A table
//!   belongs to the sink that made it.
//!
//! A batch and its ledger are one transaction. With the write-ahead log and `synchronous = NORMAL`, what was
//! acknowledged outlives the death of the process. A loss of power may take the last transactions back, each whole,
//! with its ledger.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use self::error::Problem;
use self::tables::Tables;
use super::{
    BadWrite, Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written,
    blocking, now,
};
use crate::command::Command;
use crate::inspection::Inspection;
use crate::private;

mod cache;
mod documents;
mod error;
mod ledger;
mod messages;
mod schema;
mod seed;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod value;

/// How long to wait for another connection's transaction before the write is to be tried again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements to keep: one a table, kind of command and set of columns.
const STATEMENTS: usize = 256;

/// How to open the sink.
#[derive(Debug, Clone)]
pub struct Options {
    /// The sink's name in the configuration. It keeps the contents of sinks that share a file apart.
    pub name: String,
    /// The file; made when it is missing.
    pub path: PathBuf,
    /// Put before the name of each table.
    pub table_prefix: String,
    /// Initial content for previews and demos: cache entries that are written in the transaction that makes this
    /// sink's first ledger, and never again. A JSON object a line, `{"key": …, "value": …, "ttl_seconds": …}`; a value
    /// that is a string is stored as its text, any other as its JSON; `ttl_seconds` may be left out.
    pub seed: Option<PathBuf>,
}

/// The sink.
pub struct Sqlite {
    options: Options,
    store: Mutex<Store>,
    /// Milliseconds since 1970.
    clock: Box<dyn Fn() -> i64 + Send + Sync>,
}

struct Store {
    connection: Connection,
    tables: Tables,
}

impl Sqlite {
    /// Opens the file, or makes it for its owner alone; SQLite gives the files beside it the same rights.
    ///
    /// # Errors
    /// `Stop` when the file cannot be opened or is something else; `Retry` when it is locked for long.
    pub fn open(options: Options) -> Result<Self, SinkError> {
        Self::open_with_clock(options, Box::new(now))
    }

    pub(super) fn open_with_clock(
        options: Options,
        clock: Box<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<Self, SinkError> {
        let open = || -> Result<Connection, Problem> {
            // SQLite tells better why it cannot be made.
            let _ = private::make(&options.path);
            let flags =
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(&options.path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            schema::ensure(&mut connection)?;
            Ok(connection)
        };
        let connection = blocking(open).map_err(|problem| problem.in_file(&options.path))?;
        let tables = Tables::new(options.table_prefix.clone());
        Ok(Self { options, store: Mutex::new(Store { connection, tables }), clock })
    }

    /// Runs one transaction's work off the runtime, under the lock, and puts the place before what went wrong.
    fn run<T>(&self, work: impl FnOnce(&mut Store, i64) -> Result<T, Problem>) -> Result<T, SinkError> {
        blocking(|| {
            let mut store = self.lock();
            let answer = work(&mut store, (self.clock)());
            if answer.is_err() {
                // The transaction is rolled back, and with it columns that were taken for added.
                store.tables.forget();
            }
            answer.map_err(|problem| problem.in_file(&self.options.path))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked rolled back; only what was remembered of the tables may be wrong.
            let mut store = PoisonError::into_inner(poisoned);
            store.tables.forget();
            store
        })
    }

    fn prepare_in(&self, store: &mut Store, now: i64, pipeline: &str, declared: &Declared) -> Result<(), Problem> {
        let name = &self.options.name;
        let transaction = begin(&mut store.connection)?;
        if !ledger::has_head(&transaction, pipeline, name)?
            && ledger::make_head(&transaction, pipeline, name, now)?
            && let Some(path) = &self.options.seed
        {
            seed::load(&transaction, name, path, now)?;
        }
        for table in &declared.tables {
            store.tables.declare(&transaction, name, table)?;
        }
        for index in &declared.indexes {
            documents::declare(&transaction, name, index)?;
        }
        Ok(transaction.commit()?)
    }

    fn write_in(&self, store: &mut Store, now: i64, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, Problem> {
        let name = &self.options.name;
        let Store { connection, tables } = store;
        let transaction = begin(connection)?;
        if let Some(refused) = ledger::advance(&transaction, name, step, now)? {
            return Ok(refused);
        }
        cache::purge(&transaction, name, now)?;
        match writes.iter().try_for_each(|write| execute(&transaction, name, tables, now, &write.command)) {
            Ok(()) => {}
            Err(Problem::Bad(_) | Problem::Clash(_)) => {
                drop(transaction);
                tables.forget();
                return self.write_one_by_one(connection, tables, now, step, writes);
            }
            Err(other) => return Err(other),
        }
        transaction.commit()?;
        Ok(Written::Applied)
    }

    /// Tries each command by itself to find all the bad ones. Only when there is none after all (another partition
    /// has just made the row that a merge missed) is anything kept.
    fn write_one_by_one(
        &self,
        connection: &mut Connection,
        tables: &mut Tables,
        now: i64,
        step: &Step<'_>,
        writes: &[Write<'_>],
    ) -> Result<Written, Problem> {
        let name = &self.options.name;
        let transaction = begin(connection)?;
        if let Some(refused) = ledger::advance(&transaction, name, step, now)? {
            return Ok(refused);
        }
        cache::purge(&transaction, name, now)?;
        let mut bad = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            transaction.execute_batch("SAVEPOINT command")?;
            match execute(&transaction, name, tables, now, &write.command) {
                Ok(()) => transaction.execute_batch("RELEASE command")?,
                Err(problem @ (Problem::Bad(_) | Problem::Clash(_))) => {
                    transaction.execute_batch("ROLLBACK TO command; RELEASE command")?;
                    tables.forget();
                    let clash = matches!(problem, Problem::Clash(_));
                    if let Problem::Bad(reason) | Problem::Clash(reason) = problem {
                        bad.push(BadWrite { index, clash, by_trigger: false, reason });
                    }
                }
                Err(other) => return Err(other),
            }
        }
        if bad.is_empty() {
            transaction.commit()?;
            return Ok(Written::Applied);
        }
        drop(transaction);
        tables.forget();
        Ok(Written::Rejected(bad))
    }
}

/// Begins by taking the lock that writers need, so that nothing read in the transaction is out of date.
fn begin(connection: &mut Connection) -> Result<Transaction<'_>, Problem> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn execute(
    transaction: &Transaction<'_>,
    sink: &str,
    tables: &mut Tables,
    now: i64,
    command: &Command,
) -> Result<(), Problem> {
    match command {
        Command::CacheSet { key, value, ttl_seconds } => {
            cache::set(transaction, sink, key, value, cache::expiry(now, *ttl_seconds))
        }
        Command::CacheMerge { key, fields, ttl_seconds } => {
            cache::merge(transaction, sink, key, fields, cache::expiry(now, *ttl_seconds))
        }
        Command::CacheDelete { key } => cache::delete(transaction, sink, key),
        Command::RowUpsert(row) => tables.upsert(transaction, row),
        Command::RowMerge(row) => tables.merge(transaction, row),
        Command::RowDelete(row) => tables.delete(transaction, row),
        Command::DocumentIndex { index, id, body } => documents::index(transaction, sink, index, id, body.get()),
        Command::DocumentMerge { index, id, fields } => documents::merge(transaction, sink, index, id, fields),
        Command::DocumentDelete { index, id } => documents::delete(transaction, sink, index, id),
        Command::Publish { topic, key, value, headers } => {
            messages::publish(transaction, sink, topic, key.as_deref(), value.as_deref(), headers)
        }
    }
}

#[async_trait]
impl Sink for Sqlite {
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        self.run(|store, _| ledger::has_head(&store.connection, pipeline, &self.options.name))
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        self.run(|store, now| self.prepare_in(store, now, pipeline, declared))
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        self.run(|store, _| {
            let transaction = begin(&mut store.connection)?;
            let held = ledger::enter_topic(&transaction, &self.options.name, pipeline, topic, head, replace)?;
            transaction.commit()?;
            Ok(held)
        })
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        self.run(|store, now| {
            let transaction = begin(&mut store.connection)?;
            let standing = ledger::claim(&transaction, &self.options.name, key, token, start, now)?;
            transaction.commit()?;
            Ok(standing)
        })
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        self.run(|store, _| {
            keys.iter().map(|key| ledger::position(&store.connection, &self.options.name, key)).collect()
        })
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        self.run(|store, now| self.write_in(store, now, step, writes))
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        self.run(|store, _| ledger::history(&store.connection, &self.options.name, pipeline))
    }

    async fn clear_cache(&self, pipeline: &str, keys: &[String]) -> Result<(), SinkError> {
        self.run(|store, now| {
            let name = &self.options.name;
            let transaction = begin(&mut store.connection)?;
            for key in keys {
                cache::clear(&transaction, name, key)?;
            }
            ledger::forget(&transaction, name, pipeline)?;
            if !ledger::has_head(&transaction, pipeline, name)? {
                ledger::make_head(&transaction, pipeline, name, now)?;
            }
            Ok(transaction.commit()?)
        })
    }

    async fn inspect(&self, _pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        self.run(|store, _| {
            // Declared for a look, and taken back.
            let transaction = begin(&mut store.connection)?;
            let mut inspection = Inspection::default();
            for table in &declared.tables {
                match store.tables.declare(&transaction, &self.options.name, table) {
                    Ok(()) => {}
                    Err(Problem::Stop(fault)) => inspection.faults.push(fault),
                    Err(other) => return Err(other),
                }
            }
            Ok(inspection)
        })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("options", &self.options).finish_non_exhaustive()
    }
}
