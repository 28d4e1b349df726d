//! Rows to PostgreSQL: tables that the user has made, written by the key that the transform declares.
//!
//! - A row is written by `INSERT … ON CONFLICT (key) DO UPDATE`, `UPDATE` and `DELETE`, many a statement. Its values go
//!   as JSON text, and PostgreSQL converts each by the type of its column: text, numbers with all their digits, times,
//!   `jsonb` (a string becomes a JSON string), arrays, enums, composite types. Bytes are base64, as the SDK gives them,
//!   or `\x…`, also in arrays. Columns that a row does not name stay as they are; null is NULL.
//! - The ledger lives in a schema of its own (`tidegate`) and moves in the same transaction, first of all.
//! - `schema.table` names a table of another schema; identifiers are taken exactly, as if quoted.
//! - Rows of a batch change places among statements, but not with what may act on other rows than its own: a delete where
//!   a foreign key cascades or sets null, a change of a column that a foreign key hands on, a command that fires a
//!   trigger. A trigger `BEFORE … FOR EACH ROW` on inserts and updates is taken to see to its own row.
//! - An error whose code does not tell whether it is a row's has each row tried by itself.
//! - A row that PostgreSQL will never take is a bad command. So is a merge into a row that is not there, and a value for
//!   a generated column. What another partition may still clear (a unique value, a foreign key, an exclusion) clashes.
//! - A row that PostgreSQL would refuse, that is all that came of its event, and that a later one of the same batch replaces
//!   column by column, is never sent: the table is as it should be, and its record is no dead letter. Cut elsewhere, it
//!   would have been one.
//! - A row that clashes with another one of its batch, and clashes no more once the batch is written, is taken; cut
//!   elsewhere, its partition would have rested over it, and then it would have been rejected.
//! - Keys that PostgreSQL takes for one, though they are spelt differently (`1.0` and `1`, `citext`), are written in
//!   order where they meet in one statement; a transform that spells one key in two ways is not promised more.
//!
//! A write has a connection to itself, by preference the one that its partition had; after an error that connection is
//! closed. `synchronous_commit` is what server and user say. A pooler between must keep a session to its connection.
//! Tables may be altered while a pipeline runs. What wants a restart is a column that becomes `bytea`, or ceases to be, and
//! a trigger, or a foreign key with an action, that is added.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use self::connect::Address;
use self::copies::Copies;
use self::error::{Problem, READ_ONLY};
use self::ledger::Ledger;
use self::name::TableName;
pub use self::replace::Rewind;
use self::session::{Pool, Session};
use self::tls::TlsFiles;
use self::write::Writer;
use super::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written};
use crate::command::collapse::Reach;
use crate::contract::Table;
use crate::inspection::Inspection;
use crate::source::TopicPartition;

mod catalog;
mod connect;
mod copies;
mod deferred;
mod error;
mod history;
mod ledger;
mod name;
mod replace;
mod rows;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod write;

/// How to open the sink.
#[derive(Clone)]
pub struct Options {
    /// The sink's name in the configuration; part of the ledger's key.
    pub name: String,
    /// `postgres://user:password@host:port/database`, with `sslmode` and the other parameters of libpq that the driver
    /// knows.
    pub url: String,
    /// The schema of tables that are named without one.
    pub schema: String,
    /// The schema of the ledger; made when it is missing.
    pub ledger_schema: String,
    /// Certificates to trust, PEM; none trusts those of the system.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

/// The sink.
pub struct Postgres {
    address: Address,
    schema: String,
    ledger: Ledger,
    pool: Pool,
    /// The tables that these are copies of, where they are to be put in their place.
    copies: Option<Copies>,
    /// Which of the declared tables reach others.
    reach: Mutex<Arc<Reach>>,
    /// Where the ledger's rows lay last.
    ctids: Mutex<HashMap<LedgerKey, String>>,
}

impl Postgres {
    /// A sink that connects when it is first used.
    ///
    /// # Errors
    /// `Stop` when the address or a file for TLS cannot be read.
    pub fn open(options: Options) -> Result<Self, SinkError> {
        let Options { name, url, schema, ledger_schema, ca, certificate, key, statement_timeout } = options;
        let files = TlsFiles { ca, certificate, key };
        let address = Address::new(&url, &files, statement_timeout).map_err(|problem| problem.at("PostgreSQL"))?;
        let ledger = Ledger::new(&name, &ledger_schema);
        let (pool, reach, ctids) = (Pool::default(), Mutex::default(), Mutex::default());
        Ok(Self { address, schema, ledger, pool, copies: None, reach, ctids })
    }

    /// Runs something on a connection of its own, and keeps the connection if it went well.
    async fn run<T>(
        &self,
        wanted: Option<&TopicPartition>,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Problem>,
    ) -> Result<T, SinkError> {
        let attempt = async {
            let mut session = self.pool.take(&self.address, wanted).await?;
            let answer = work(&mut session).await?;
            self.pool.give_back(wanted, session);
            Ok(answer)
        };
        attempt.await.map_err(|problem: Problem| problem.at(&self.address.shown))
    }

    fn ctid(&self, key: &LedgerKey) -> Option<String> {
        self.ctids.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn remember(&self, key: &LedgerKey, ctid: String) {
        self.ctids.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), ctid);
    }
}

#[async_trait]
impl Sink for Postgres {
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        self.run(None, async |session| self.ledger.has_head(session, pipeline).await).await
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        self.run(None, async |session| {
            if let Some(copies) = &self.copies {
                copies.make(session, &declared.tables, &self.schema).await?;
            }
            let mut faults = Vec::new();
            for table in &declared.tables {
                faults.extend(catalog::look(session, table, &self.schema, &self.ledger.schema_name).await?.faults);
            }
            if !faults.is_empty() {
                return Err(Problem::Stop(faults.join("; ")));
            }
            let mut reach = Reach::clone(&self.reach());
            for Table { name, .. } in &declared.tables {
                let facts = catalog::facts(session, &TableName::new(name, &self.schema)).await?;
                reach.note(name, facts.writes_reach, &facts.handed_on);
            }
            *self.reach.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(reach);
            self.ledger.prepare(session, pipeline).await
        })
        .await
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        self.run(None, async |session| self.ledger.enter_topic(session, pipeline, topic, head, replace).await).await
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        let wanted = Some(&key.partition);
        let claimed = self.run(wanted, async |session| self.ledger.claim(session, key, token, start).await).await;
        let (standing, ctid) = claimed?;
        self.remember(key, ctid);
        Ok(standing)
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.run(None, async |session| self.ledger.positions(session, keys).await).await
    }

    fn reach(&self) -> Arc<Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        if let Some(copies) = &self.copies {
            copies.note(writes);
        }
        let ctid = self.ctid(step.key);
        let writer = Writer { ledger: &self.ledger, schema: &self.schema };
        let wanted = Some(&step.key.partition);
        let written = self.run(wanted, async |session| writer.write(session, step, ctid.as_ref(), writes).await).await;
        let (written, ctid) = written?;
        if let Some(ctid) = ctid {
            self.remember(step.key, ctid);
        }
        Ok(written)
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        self.run(None, async |session| self.ledger.history(session, pipeline).await).await
    }

    async fn clear_cache(&self, _pipeline: &str, _keys: &[String]) -> Result<(), SinkError> {
        let problem = Problem::Stop("tables are no cache, and nothing here is cleared; please report this".into());
        Err(problem.at(&self.address.shown))
    }

    async fn inspect(&self, _pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        self.run(None, async |session| {
            let mut inspection = Inspection::default();
            for table in &declared.tables {
                inspection.extend(catalog::look(session, table, &self.schema, &self.ledger.schema_name).await?);
            }
            inspection.faults.extend(self.ledger.inspect(session).await?);
            let rows = session.query("SELECT current_setting('transaction_read_only') = 'on'", &[]).await?;
            if rows.first().map(|row| row.try_get(0)).transpose()? == Some(true) {
                inspection.faults.push(READ_ONLY.to_owned());
            }
            Ok(inspection)
        })
        .await
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("address", &self.address.shown).finish_non_exhaustive()
    }
}
