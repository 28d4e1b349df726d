//! A cache in Redis 7 or 8, or in Valkey.
//!
//! An entry is a string under the key that the transform gives it. The ledger is hashes beside the entries, which
//! `HGETALL` shows: `{prefix}{pipeline}:ledger:{sink}:{topic}:{partition}` a partition, `…:head:{sink}` a pipeline,
//! `…:topic:{sink}:{topic}` a topic. Its history is lists, `…:history:{sink}:{topic}:{partition}` a partition.
//!
//! A batch is one transaction (`WATCH`, `MULTI`, `EXEC`): the row of the ledger and the entries that are merged into are
//! watched and read before, so that a change by anyone else leaves everything as it was. Types and values are judged
//! there too, since Redis takes nothing back once it executes. `WATCH` belongs to a connection: each serves one
//! transaction at a time, and none is connected again. Right behind `EXEC` goes the watch for the partition's next batch,
//! which then takes one round trip. What a batch leaves of each entry is worked out here, so that plain entries go
//! together, in one `MSET`.
//!
//! Of the forms that `benches/redis_forms.rs` compares, this is the fastest that keeps the fence: entries a second,
//! against a bare pipeline of `SET`, on Redis 7.0 over loopback (batches of 500 entries of 350 bytes, a shared machine of
//! two cores):
//!
//! | | no fence | watched, watch ahead | watched, two trips | script |
//! |---|---|---|---|---|
//! | `SET` each | 1.00 | 1.01 | 0.97 | 0.82 |
//! | `MSET` | 2.22 | 2.20 | 1.97 | 1.10 |
//! | `SET … EX` each | 0.84 | 0.76 | | 0.62 |
//!
//! A ledger packed into a string instead of a hash makes 2.27 of 2.20, which is not worth a row that nobody can read.
//! The script also could not take back what it did before a command that is refused.
//!
//! There is no Cluster: it executes a transaction in one slot, and a batch has keys of many. It would need a ledger a
//! slot, each moved with its own slot's part of a batch, and a batch that is done when all of them are.
//!
//! What Redis acknowledged it may lose, with a crash or a failover: the ledger is lost with the entries, the next write
//! is told where it stands, and goes on from there. A server that keeps nothing over a restart is filled afresh.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::{Client, ClientTlsConfig, IntoConnectionInfo, Pipeline, TlsCertificates};
use async_trait::async_trait;

use self::clear::Turn;
use self::connection::{Connection, Pool, begin};
use self::ledger::Names;
pub use self::replace::Rewind;
use super::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written, now};
use crate::inspection::Inspection;
use crate::source::TopicPartition;

mod cache;
mod clear;
mod connection;
mod error;
mod history;
mod inspect;
mod ledger;
mod replace;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write;

/// How to open the sink.
#[derive(Clone)]
pub struct Options {
    /// The sink's name in the configuration, a part of its ledger's keys.
    pub name: String,
    /// `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database. Never shown.
    pub url: String,
    /// PEM file of the certificates to trust; none trusts the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of the client's own certificate and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What the ledger's keys begin with; not empty. No entry may begin so.
    pub prefix: String,
    /// How long to wait for a connection or an answer.
    pub timeout: Duration,
}

/// The sink.
pub struct Redis {
    client: Client,
    names: Names,
    timeout: Duration,
    /// The place, for messages.
    place: String,
    user: String,
    /// The keys that the transforms declared last.
    declared: Mutex<Vec<String>>,
    /// The partitions claimed through this, where it fills entries beside others.
    claimed: Mutex<BTreeSet<TopicPartition>>,
    /// Another process was clearing the cache when this one wanted to.
    met_clearing: AtomicBool,
    idle: Pool,
}

impl Redis {
    /// Reads the certificates; connects to nothing yet.
    ///
    /// # Errors
    /// `Stop` when the URL or a file cannot be used.
    pub fn open(options: Options) -> Result<Self, SinkError> {
        let stop = |text: String| SinkError::Stop(format!("Redis: {text}"));
        // The client's own words may quote the URL.
        let info = options.url.as_str().into_connection_info().map_err(|_| {
            stop("`url` is no address of Redis: write redis://[user:password@]host[:port][/db], rediss:// or unix:///path".into())
        })?;
        let place = format!("Redis at {}", info.addr());
        let settings = info.redis_settings().clone().set_lib_name("tidegate", env!("CARGO_PKG_VERSION"));
        let user = settings.username().unwrap_or("default").to_owned();
        let info = info.set_redis_settings(settings);
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|e| stop(format!("cannot read {}: {e}", path.display())));
        let client = if options.ca.is_some() || options.identity.is_some() {
            let identity = options.identity.as_ref().map(|(certificate, key)| {
                Ok(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            });
            let certificates = TlsCertificates {
                client_tls: identity.transpose()?,
                root_cert: options.ca.as_ref().map(read).transpose()?,
            };
            Client::build_with_tls(info, certificates)
        } else {
            Client::open(info)
        };
        let client = client.map_err(|e| stop(format!("{e}: correct `url`, `ca`, `certificate` and `key`")))?;
        let names = Names { prefix: options.prefix, sink: options.name, entries: String::new() };
        let (declared, claimed, idle) = (Mutex::default(), Mutex::default(), Pool::default());
        let met_clearing = AtomicBool::default();
        Ok(Self { client, names, timeout: options.timeout, place, user, declared, claimed, met_clearing, idle })
    }

    /// A connection for a transaction on this row.
    async fn connection(&self, row: &str) -> Result<Connection, SinkError> {
        self.taken(self.idle.take(row)).await
    }

    /// A connection for what needs no row.
    async fn any_connection(&self) -> Result<Connection, SinkError> {
        self.taken(self.idle.take_any()).await
    }

    async fn taken(&self, idle: Option<Connection>) -> Result<Connection, SinkError> {
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.client, self.timeout).await.map_err(|e| self.placed(e)),
        }
    }

    /// Keeps a connection for its next use, unless it met an error.
    fn finish<T>(&self, connection: Connection, answer: Result<T, SinkError>) -> Result<T, SinkError> {
        match answer {
            Ok(answer) => {
                self.idle.put(connection);
                Ok(answer)
            }
            Err(error) => {
                self.idle.clear();
                Err(self.placed(error))
            }
        }
    }

    fn placed(&self, error: SinkError) -> SinkError {
        let Self { place, .. } = self;
        match error {
            SinkError::Retry(text) => SinkError::Retry(format!("{place}: {text}")),
            SinkError::Stop(text) => SinkError::Stop(format!("{place}: {text}")),
        }
    }

    async fn prepare_on(
        &self,
        connection: &mut Connection,
        pipeline: &str,
        declared: &Declared,
    ) -> Result<(), SinkError> {
        let Inspection { mut faults, notes } = inspect::server(connection).await?;
        for note in notes {
            tracing::warn!(pipeline, sink = self.names.sink, "{note}");
        }
        faults.extend(inspect::declaration(&self.names, declared));
        if faults.is_empty() {
            faults.extend(inspect::rehearse(connection, &self.names, &self.user, declared).await?);
        }
        if !faults.is_empty() {
            return Err(SinkError::Stop(faults.join("; ")));
        }
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&declared.cache_keys);
        let clearing = self.names.clearing(pipeline);
        let mut commands = Pipeline::new();
        commands.cmd("UNWATCH").cmd("WATCH").arg(&clearing).cmd("EXISTS").arg(&clearing);
        if connection.demand(&commands).await?.pop() != Some(::redis::Value::Int(0)) {
            return Err(is_being_cleared());
        }
        let mut change = begin();
        change.cmd("HSETNX").arg(self.names.head(pipeline)).arg("started_at").arg(now()).cmd("EXEC");
        let executed = connection.demand(&change).await?.pop();
        if executed == Some(::redis::Value::Nil) { Err(is_being_cleared()) } else { Ok(()) }
    }

    async fn enter_topic_on(
        &self,
        connection: &mut Connection,
        key: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        for _ in 0..write::TRIES {
            let mut commands = Pipeline::new();
            commands.cmd("UNWATCH").cmd("WATCH").arg(key);
            ledger::read_topic(&mut commands, key);
            let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
            if let Some(held) = ledger::topic(&answer, key)?
                && !replace
            {
                return Ok(held);
            }
            let mut change = begin();
            ledger::set_topic(&mut change, key, head);
            change.cmd("EXEC");
            if connection.demand(&change).await?.pop() != Some(::redis::Value::Nil) {
                return Ok(head.clone());
            }
        }
        Err(SinkError::Retry(format!("something else changes {key} all the time")))
    }

    async fn claim_on(
        &self,
        connection: &mut Connection,
        key: &LedgerKey,
        token: Token,
        start: u64,
    ) -> Result<Standing, SinkError> {
        let (head, row) = (self.names.head(&key.pipeline), self.names.row(key));
        let (hold, clearing) = (self.names.hold(&key.pipeline), self.names.clearing(&key.pipeline));
        for _ in 0..write::TRIES {
            let mut commands = Pipeline::new();
            commands.cmd("UNWATCH").cmd("WATCH").arg(&head).arg(&row).arg(&hold).arg(&clearing);
            commands.cmd("EXISTS").arg(&clearing).cmd("EXISTS").arg(&hold).cmd("EXISTS").arg(&head);
            commands.cmd("HMGET").arg(&row).arg("note");
            ledger::read(&mut commands, &row);
            let answers = connection.demand(&commands).await?;
            let [.., cleared, replaced, exists, note, held] = answers.as_slice() else {
                return Err(SinkError::Retry("the claim was not answered".into()));
            };
            if *cleared != ::redis::Value::Int(0) {
                return Err(is_being_cleared());
            }
            if *replaced != ::redis::Value::Int(0) {
                return Err(SinkError::Retry("its entries are being replaced by `tidegate rewind`".into()));
            }
            if *exists != ::redis::Value::Int(1) {
                return Err(SinkError::Stop(format!(
                    "pipeline {} has no key {head}: its ledger was deleted while it ran; restart to fill the cache \
                     afresh",
                    key.pipeline
                )));
            }
            let mut change = begin();
            let standing = match ledger::row(held, &row)? {
                Some(held) => {
                    ledger::take_over(&mut change, &row, token, now());
                    let note = ledger::fields::<(Option<String>,)>(note, &row)?.0.unwrap_or_default();
                    Standing { next: held.next, known: true, note }
                }
                None => {
                    ledger::enter(&mut change, &row, token, start, now());
                    Standing { next: start, known: false, note: String::new() }
                }
            };
            if connection.commit(&row, change).await? {
                return Ok(standing);
            }
        }
        Err(SinkError::Retry(format!("others claim {} all the time", key.partition)))
    }

    /// The ledger goes first: owners are set back before an entry is gone, and a clearing that is cut short is begun again
    /// by whoever finds no head.
    async fn clear_on(&self, connection: &mut Connection, pipeline: &str, keys: &[String]) -> Result<(), SinkError> {
        let head = self.names.head(pipeline);
        let Some(turn) = Turn::to_clear(connection, self.names.clearing(pipeline)).await? else {
            self.met_clearing.store(true, Ordering::Relaxed);
            return Err(is_being_cleared());
        };
        let mut commands = Pipeline::new();
        commands.cmd("EXISTS").arg(&head);
        let is_done = connection.demand(&commands).await?.pop() == Some(::redis::Value::Int(1));
        if self.met_clearing.swap(false, Ordering::Relaxed) && is_done {
            return turn.end(connection, begin()).await;
        }
        turn.unlink(connection, &[&head]).await?;
        turn.beginning(connection, &self.names.rows(pipeline), None).await?;
        turn.beginning(connection, &self.names.topics(pipeline), None).await?;
        if !self.names.entries.is_empty() {
            turn.beginning(connection, &self.names.entries, None).await?;
        }
        for key in keys.iter().filter(|_| self.names.entries.is_empty()) {
            match key.strip_suffix('*') {
                Some(start) => turn.beginning(connection, start, Some(&self.names.prefix)).await?,
                None => turn.unlink(connection, &[key]).await?,
            }
        }
        let mut change = begin();
        change.cmd("HSETNX").arg(&head).arg("started_at").arg(now());
        turn.end(connection, change).await
    }

    async fn inspect_on(&self, connection: &mut Connection, declared: &Declared) -> Result<Inspection, SinkError> {
        let Inspection { mut faults, notes } = inspect::server(connection).await?;
        faults.extend(inspect::declaration(&self.names, declared));
        faults.extend(inspect::rehearse(connection, &self.names, &self.user, declared).await?);
        let placed =
            |lines: Vec<String>| lines.into_iter().map(|line| format!("{}: {line}", self.place)).collect::<Vec<_>>();
        Ok(Inspection { faults: placed(faults), notes: placed(notes) })
    }
}

fn is_being_cleared() -> SinkError {
    SinkError::Retry("another process is clearing the cache, to fill it from the start".into())
}

#[async_trait]
impl Sink for Redis {
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        let mut connection = self.any_connection().await?;
        let mut commands = Pipeline::new();
        commands.cmd("EXISTS").arg(self.names.head(pipeline));
        let answer = connection.demand(&commands).await;
        Ok(self.finish(connection, answer)?.first() == Some(&::redis::Value::Int(1)))
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        let mut connection = self.any_connection().await?;
        let answer = self.prepare_on(&mut connection, pipeline, declared).await;
        self.finish(connection, answer)
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        let mut connection = self.any_connection().await?;
        let key = self.names.topic(pipeline, topic);
        let answer = self.enter_topic_on(&mut connection, &key, head, replace).await;
        self.finish(connection, answer)
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        if !self.names.entries.is_empty() {
            self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.partition.clone());
        }
        let mut connection = self.connection(&self.names.row(key)).await?;
        let answer = self.claim_on(&mut connection, key, token, start).await;
        self.finish(connection, answer)
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.any_connection().await?;
        let rows: Vec<String> = keys.iter().map(|key| self.names.row(key)).collect();
        let mut commands = Pipeline::new();
        rows.iter().for_each(|row| ledger::read(&mut commands, row));
        let answer = connection.demand(&commands).await;
        let answers = self.finish(connection, answer)?;
        let position = |(row, answer): (&String, _)| Ok(ledger::row(answer, row)?.map(|row| (row.token, row.next)));
        rows.iter().zip(&answers).map(position).collect()
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        step.check()?;
        let mut connection = self.connection(&self.names.row(step.key)).await?;
        let beside = (!self.names.entries.is_empty()).then(|| replace::beside_keys(&self.names.entries, writes));
        let writes = beside.as_deref().unwrap_or(writes);
        let answer = write::write(&mut connection, &self.names, step, writes, now()).await;
        self.finish(connection, answer)
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        let mut connection = self.any_connection().await?;
        let answer = history::read(&mut connection, &self.names, pipeline).await;
        self.finish(connection, answer)
    }

    async fn clear_cache(&self, pipeline: &str, keys: &[String]) -> Result<(), SinkError> {
        let mut connection = self.any_connection().await?;
        let answer = self.clear_on(&mut connection, pipeline, keys).await;
        self.finish(connection, answer)
    }

    async fn inspect(&self, _pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        let mut connection = self.any_connection().await?;
        let answer = self.inspect_on(&mut connection, declared).await;
        self.finish(connection, answer)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("place", &self.place).finish_non_exhaustive()
    }
}
