//! Copies of a pipeline's tables, filled beside them, and the one transaction that brings the tables to what the copies
//! hold: [`Replacement`] of this store.
//!
//! The copies are in a schema of their own. The switch locks the ledger's rows, waits for the fill, and then deletes,
//! updates and inserts what differs, in the order of the foreign keys, and only that: the tables stay the same tables, with their views, foreign keys,
//! rights, triggers and publications, and readers are never kept waiting. Columns that the transforms never write keep
//! their values. All of it, the ledger and the end of the copies too, is one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex as AsyncMutex;

use super::connect::Address;
use super::copies::Copies;
use super::error::Problem;
use super::ledger::Ledger;
use super::name::quoted;
use super::session::Session;
use super::tls::TlsFiles;
use super::{Options, Postgres};
use crate::sink::replace::{COPIES, Replacement, Stand, Stands, beside, next_head};
use crate::sink::{Sink, SinkError, TopicHead};
use crate::source::{TopicFacts, TopicPartition};

mod order;
mod switch;

/// How long a statement of the switch may take: it goes through whole tables.
const STATEMENT: Duration = Duration::from_secs(3600);
/// How long it waits for a lock that somebody else has.
const LOCK_MS: u32 = 20_000;

/// The tables of one pipeline on one sink, to be replaced.
pub struct Rewind {
    pipeline: String,
    address: Address,
    real: Ledger,
    fresh_ledger: Ledger,
    /// The schema of the tables, and that of their copies.
    schema: String,
    copies: String,
    fresh: Arc<Postgres>,
    /// Whose lock says that nobody else replaces these tables.
    guard: AsyncMutex<Option<Session>>,
    /// For looks at the ledger.
    looking: AsyncMutex<Option<Session>>,
    /// In the middle of the switch.
    switching: AsyncMutex<Switching>,
}

/// How far the switch is.
#[derive(Default)]
enum Switching {
    #[default]
    Not,
    /// The rows of the ledger are locked.
    Held(Session),
    /// The transaction was cut off.
    Lost,
    /// It was to be committed, and nobody has heard whether it was: what is told if so, and what went wrong.
    Asked(Vec<String>, String),
}

impl Rewind {
    /// Opens the sink, without connecting.
    ///
    /// # Errors
    /// `Stop` when the options cannot be used.
    pub fn open(options: Options, pipeline: &str) -> Result<Self, SinkError> {
        let files =
            TlsFiles { ca: options.ca.clone(), certificate: options.certificate.clone(), key: options.key.clone() };
        let address = Address::new(&options.url, &files, options.statement_timeout)
            .map_err(|problem| problem.at("PostgreSQL"))?;
        let name = beside(&options.name);
        let digest = Sha256::digest(format!("{pipeline}/{}/{}", options.name, options.ledger_schema));
        let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let copies = format!("{COPIES}{digest}");
        let schema = options.schema.clone();
        let real = Ledger::new(&options.name, &options.ledger_schema);
        let fresh_ledger = Ledger::new(&name, &options.ledger_schema);
        let mut fresh = Postgres::open(Options { name, schema: copies.clone(), ..options })?;
        fresh.copies = Some(Copies::new(&schema));
        Ok(Self {
            pipeline: pipeline.to_owned(),
            address,
            real,
            fresh_ledger,
            schema,
            copies,
            fresh: Arc::new(fresh),
            guard: AsyncMutex::default(),
            looking: AsyncMutex::default(),
            switching: AsyncMutex::default(),
        })
    }

    fn placed(&self, problem: Problem) -> SinkError {
        problem.at(&self.address.shown)
    }

    /// Keeps everybody else from replacing these tables, as long as this lives.
    async fn be_alone(&self) -> Result<(), Problem> {
        let mut guard = self.guard.lock().await;
        if guard.is_some() {
            return Ok(());
        }
        let mut session = self.address.connect().await?;
        let sql = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
        let rows = session.query(sql, &[&self.copies]).await?;
        if rows.first().map(|row| row.try_get(0)).transpose()? != Some(true) {
            return Err(Problem::Stop(format!(
                "another rewind of pipeline {} into these tables is running: let it end",
                self.pipeline
            )));
        }
        *guard = Some(session);
        Ok(())
    }

    async fn look<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T, Problem>) -> Result<T, SinkError> {
        let attempt = async {
            let mut looking = self.looking.lock().await;
            let mut session = match looking.take() {
                Some(session) => session,
                None => self.address.connect().await?,
            };
            let answer = work(&mut session).await?;
            *looking = Some(session);
            Ok(answer)
        };
        attempt.await.map_err(|problem| self.placed(problem))
    }

    async fn discard_in(&self, session: &mut Session) -> Result<bool, Problem> {
        let there = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        let there = !session.query(there, &[&self.copies]).await?.is_empty();
        session.run("BEGIN").await?;
        if there {
            session.run(&format!("DROP SCHEMA {} CASCADE", quoted(&self.copies))).await?;
        }
        session.run("SAVEPOINT ledger").await?;
        match self.forget(session).await {
            Ok(()) => {}
            // Nobody has started on this ledger.
            Err(Problem::NoTable(_)) => session.run("ROLLBACK TO SAVEPOINT ledger").await?,
            Err(other) => return Err(other),
        }
        session.run("COMMIT").await?;
        Ok(there)
    }

    /// Deletes the fresh ledger.
    async fn forget(&self, session: &mut Session) -> Result<(), Problem> {
        for table in ["ledger", "topics", "history", "pipelines"] {
            let sql = format!("DELETE FROM {}.{table} WHERE pipeline = $1 AND sink = $2", self.real.schema);
            session.execute(&sql, &[&self.pipeline, &self.fresh_ledger.sink]).await?;
        }
        Ok(())
    }

    async fn stands_in(&self, session: &mut Session) -> Result<Vec<Stands>, Problem> {
        let sql = format!(
            "SELECT topic, partition, sink = $2, next_offset, digest FROM {}.ledger
             WHERE pipeline = $1 AND sink IN ($2, $3) ORDER BY topic, partition",
            self.real.schema
        );
        let rows = session.query(&sql, &[&self.pipeline, &self.real.sink, &self.fresh_ledger.sink]).await?;
        let tampered = |_| Problem::Stop("the ledger holds numbers that are none: restore it".into());
        let mut stands: BTreeMap<TopicPartition, Stands> = BTreeMap::new();
        for row in &rows {
            let topic: &str = row.try_get(0)?;
            let partition = u32::try_from(row.try_get::<_, i64>(1)?).map_err(tampered)?;
            let next = u64::try_from(row.try_get::<_, i64>(3)?).map_err(tampered)?;
            let stand = Stand { next, sent: next, digest: row.try_get(4)? };
            let partition = TopicPartition { topic: topic.into(), partition };
            let both = stands.entry(partition.clone()).or_insert(Stands { partition, real: None, fresh: None });
            *(if row.try_get(2)? { &mut both.real } else { &mut both.fresh }) = Some(stand);
        }
        Ok(stands.into_values().collect())
    }

    async fn topics(&self, session: &mut Session) -> Result<BTreeMap<String, TopicHead>, Problem> {
        let sql = format!(
            "SELECT topic, partitions, topic_id, epoch FROM {}.topics WHERE pipeline = $1 AND sink = $2",
            self.real.schema
        );
        let rows = session.query(&sql, &[&self.pipeline, &self.real.sink]).await?;
        let tampered = |_| Problem::Stop("the ledger holds numbers that are none: restore it".into());
        let each = rows.iter().map(|row| {
            let partitions = u32::try_from(row.try_get::<_, i64>(1)?).map_err(tampered)?;
            let epoch = u16::try_from(row.try_get::<_, i32>(3)?).map_err(tampered)?;
            let head = TopicHead { facts: TopicFacts { partitions, id: row.try_get(2)? }, epoch };
            Ok((row.try_get(0)?, head))
        });
        each.collect()
    }

    /// Locks head and rows, in a transaction that stays open.
    async fn lock(&self) -> Result<Session, Problem> {
        let mut session = self.address.connect().await?;
        session
            .run(&format!(
                "SET idle_in_transaction_session_timeout = 60000; SET lock_timeout = {LOCK_MS};
                 BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL DEFERRED"
            ))
            .await?;
        self.lock_rows(&mut session, &self.real.sink).await?;
        Ok(session)
    }

    /// Locks the head of a ledger, without which no row is made, and its rows.
    async fn lock_rows(&self, session: &mut Session, sink: &String) -> Result<(), Problem> {
        let schema = &self.real.schema;
        let head = format!("SELECT 1 FROM {schema}.pipelines WHERE pipeline = $1 AND sink = $2 FOR UPDATE");
        session.query(&head, &[&self.pipeline, sink]).await?;
        let rows = format!(
            "SELECT 1 FROM {schema}.ledger WHERE pipeline = $1 AND sink = $2 ORDER BY topic, partition FOR UPDATE"
        );
        session.query(&rows, &[&self.pipeline, sink]).await?;
        Ok(())
    }

    /// Whether the switch has left the fresh ledger's head, which it deletes. A commit that is under way is waited for.
    async fn is_fresh_head_left(&self, session: &mut Session) -> Result<bool, Problem> {
        let schema = &self.real.schema;
        let sql = format!("SELECT 1 FROM {schema}.pipelines WHERE pipeline = $1 AND sink = $2 FOR UPDATE");
        Ok(!session.query(&sql, &[&self.pipeline, &self.fresh_ledger.sink]).await?.is_empty())
    }

    fn lost(&self) -> SinkError {
        self.placed(Problem::Stop(
            "the connection that held the ledger was lost, and the tables are as they were: rewind again".into(),
        ))
    }
}

#[async_trait]
impl Replacement for Rewind {
    fn fresh(&self) -> Arc<dyn Sink> {
        self.fresh.clone()
    }

    async fn discard(&self) -> Result<Vec<String>, SinkError> {
        self.be_alone().await.map_err(|problem| self.placed(problem))?;
        let there = self.look(async |session| self.discard_in(session).await).await?;
        Ok(if there { vec![format!("schema {}", self.copies)] } else { Vec::new() })
    }

    async fn begin(&self, topics: &[(String, TopicFacts)]) -> Result<(), SinkError> {
        self.look(async |session| {
            if !self.real.has_head(session, &self.pipeline).await? {
                return Err(Problem::Stop(format!(
                    "the ledger {}.pipelines does not know pipeline {}, so that there is nothing to replace: `tidegate \
                     run` fills its tables from the start",
                    self.real.schema, self.pipeline
                )));
            }
            session.run(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&self.copies))).await.map_err(|problem| {
                problem.map(|text| format!("the copies of the tables need a schema {}: {text}", self.copies))
            })?;
            let held = self.topics(session).await?;
            for (topic, facts) in topics {
                let head = next_head(held.get(topic), facts).map_err(|error| Problem::Stop(error.to_string()))?;
                self.fresh_ledger.enter_topic(session, &self.pipeline, topic, &head, true).await?;
            }
            Ok(())
        })
        .await
    }

    async fn stands(&self) -> Result<Vec<Stands>, SinkError> {
        self.look(async |session| self.stands_in(session).await).await
    }

    async fn hold(&self) -> Result<(), SinkError> {
        let mut switching = self.switching.lock().await;
        match std::mem::take(&mut *switching) {
            Switching::Not => {
                *switching = Switching::Held(self.lock().await.map_err(|problem| self.placed(problem))?);
                Ok(())
            }
            Switching::Held(mut session) => {
                let alive = session.query("SELECT 1", &[]).await;
                *switching = if alive.is_ok() { Switching::Held(session) } else { Switching::Lost };
                if alive.is_ok() { Ok(()) } else { Err(self.lost()) }
            }
            Switching::Lost | Switching::Asked(..) => Err(self.lost()),
        }
    }

    async fn release(&self) -> Result<(), SinkError> {
        // Dropped, the connection is closed, and the server rolls back.
        *self.switching.lock().await = Switching::Not;
        Ok(())
    }

    async fn put_in_place(&self) -> Result<Vec<String>, SinkError> {
        let mut switching = self.switching.lock().await;
        match std::mem::take(&mut *switching) {
            Switching::Held(mut session) => {
                let replaced = async {
                    session.give_time(STATEMENT).await?;
                    self.replace(&mut session).await
                };
                let told = replaced.await.map_err(|problem| self.placed(problem))?;
                match session.run("COMMIT").await {
                    Ok(()) => return Ok(told),
                    Err(problem) => *switching = Switching::Asked(told, problem.text().to_owned()),
                }
            }
            asked @ Switching::Asked(..) => *switching = asked,
            Switching::Not | Switching::Lost => return Err(self.lost()),
        }
        // The answer was lost, or the commit. As long as nobody can tell, this is asked again.
        let is_left = self.look(async |session| self.is_fresh_head_left(session).await).await?;
        match std::mem::take(&mut *switching) {
            Switching::Asked(told, _) if !is_left => Ok(told),
            Switching::Asked(_, cause) => Err(self.placed(Problem::Stop(format!(
                "the switch was not committed, and the tables are as they were: rewind again: {cause}"
            )))),
            _ => Err(self.lost()),
        }
    }
}
