//! Entries filled beside those in use, under keys of the ledger's, and put in their place: [`Replacement`] of this store.
//!
//! The switch is one transaction, in which Redis serves nobody else: every entry under the declared keys goes, every fresh
//! one takes its name, and the ledger becomes the fresh one. While a key is there that says so, and goes by itself, no
//! partition is claimed.
//!
//! What is found by pattern is found in the whole keyspace, whoever else is in it. So rows and topics are looked for in
//! that way once, before anything is filled: later ones are the fill's own. The entries must be looked for while the
//! owners are held, and the hold is renewed between two steps of that.
//!
//! Of two rewinds the one that began later goes on: a key names it, which the other's switch no longer finds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Pipeline, Value};
use async_trait::async_trait;

use super::clear::Turn;
use super::connection::{Connection, begin};
use super::ledger::{self, Names};
use super::{Options, Redis, clear, error, history};
use crate::command::Command;
use crate::sink::replace::{Replacement, Stand, Stands, beside, next_head};
use crate::sink::{Sink, SinkError, Token, TopicHead, Write, now};
use crate::source::{TopicFacts, TopicPartition};

/// How long a hold lasts unless it is renewed. So long the pipeline waits for one whose process was killed.
const HOLD_MS: u64 = 15_000;
/// How often it is renewed while something is looked for.
const RENEW: Duration = Duration::from_secs(3);
/// How long the switch may take.
const SWITCH: Duration = Duration::from_secs(120);
/// So many commands of the switch are sent and queued in a millisecond, at the least: the hold lasts for that too.
const QUEUED_PER_MS: u64 = 20;
/// Keys that one command deletes.
const TOGETHER: usize = 1000;

/// The same writes to entries whose keys begin with `entries`.
pub(super) fn beside_keys<'a>(entries: &str, writes: &[Write<'a>]) -> Vec<Write<'a>> {
    let moved = |write: &Write<'a>| {
        let mut command = write.command.clone().into_owned();
        if let Command::CacheSet { key, .. } | Command::CacheMerge { key, .. } | Command::CacheDelete { key } =
            &mut command
        {
            key.insert_str(0, entries);
        }
        Write { command: Cow::Owned(command), origins: write.origins.clone() }
    };
    writes.iter().map(moved).collect()
}

/// The entries of one pipeline on one sink, to be replaced.
pub struct Rewind {
    pipeline: String,
    real: Redis,
    /// For the fill alone: its connections end with the fill's runtime.
    fresh: Arc<Redis>,
    /// What there was before the fill, and the topics that it began with.
    known: Mutex<Known>,
    /// What the hold says whose it is, once it was taken.
    hold: Mutex<Option<String>>,
    /// What says which rewind fills the fresh entries, where it is this one.
    mine: String,
    /// Whether the fill may have begun.
    has_begun: AtomicBool,
    /// Whether the switch may have been done without anybody's hearing of it.
    asked: AtomicBool,
}

/// Rows and topics of a ledger.
#[derive(Debug, Clone, Default)]
struct Known {
    rows: BTreeSet<TopicPartition>,
    topics: BTreeSet<String>,
}

impl Rewind {
    /// Opens the sink, without connecting.
    ///
    /// # Errors
    /// `Stop` when the options cannot be used.
    pub fn open(options: Options, pipeline: &str) -> Result<Self, SinkError> {
        let entries = format!("{}{pipeline}:rewind:{}:", options.prefix, options.name);
        let mut fresh = Redis::open(Options { name: beside(&options.name), ..options.clone() })?;
        fresh.names.entries = entries;
        let real = Redis::open(Options { timeout: SWITCH, ..options })?;
        let (known, hold, asked) = (Mutex::default(), Mutex::default(), AtomicBool::default());
        let (mine, has_begun) = (text(random()?), AtomicBool::default());
        Ok(Self { pipeline: pipeline.to_owned(), real, fresh: Arc::new(fresh), known, hold, mine, has_begun, asked })
    }

    async fn on<T>(&self, work: impl AsyncFnOnce(&mut Connection) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let mut connection = self.real.any_connection().await?;
        let answer = work(&mut connection).await;
        self.real.finish(connection, answer)
    }

    /// Looks through the whole keyspace for the rows and topics of the ledger in use.
    async fn look_around(&self, connection: &mut Connection) -> Result<Known, SinkError> {
        let names = &self.real.names;
        let mut known = Known::default();
        let start = names.rows(&self.pipeline);
        for key in self.found(connection, &start, None).await? {
            let key = String::from_utf8(key).map_err(|_| ledger::broken(&start))?;
            let (topic, number) = key[start.len()..].rsplit_once(':').ok_or_else(|| ledger::broken(&key))?;
            let partition = number.parse().map_err(|_| ledger::broken(&key))?;
            known.rows.insert(TopicPartition { topic: topic.into(), partition });
        }
        let start = names.topics(&self.pipeline);
        for key in self.found(connection, &start, None).await? {
            let key = String::from_utf8(key).map_err(|_| ledger::broken(&start))?;
            known.topics.insert(key[start.len()..].to_owned());
        }
        Ok(known)
    }

    /// The keys that begin so. Where the owners are held, they stay so meanwhile.
    async fn found(
        &self,
        connection: &mut Connection,
        start: &str,
        spare: Option<&str>,
    ) -> Result<BTreeSet<Vec<u8>>, SinkError> {
        let mut found = BTreeSet::new();
        let mut renewed = Instant::now();
        let mut scan = clear::Scan::new(start, spare);
        while let Some(keys) = scan.next(connection).await? {
            found.extend(keys);
            if self.held().is_some() && renewed.elapsed() >= RENEW {
                self.renew(connection, HOLD_MS).await?;
                renewed = Instant::now();
            }
        }
        Ok(found)
    }

    /// The rows and topics that either ledger may have: nobody but the fill makes a row that was not there before it,
    /// unless the fill makes its own too.
    fn known(&self) -> Known {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.rows.extend(self.fresh.claimed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        known.topics.extend(known.rows.iter().map(|partition| partition.topic.to_string()));
        known
    }

    /// The rows that a ledger has.
    async fn rows(
        &self,
        connection: &mut Connection,
        names: &Names,
    ) -> Result<Vec<(TopicPartition, ledger::Row)>, SinkError> {
        let asked: Vec<_> = self.known().rows.into_iter().map(|one| (self.row(names, &one), one)).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Pipeline::new();
        asked.iter().for_each(|(key, _)| ledger::read(&mut commands, key));
        let answers = connection.demand(&commands).await?;
        let row = |((key, partition), answer): ((String, TopicPartition), &Value)| {
            Ok(ledger::row(answer, &key)?.map(|row| (partition, row)))
        };
        asked.into_iter().zip(&answers).filter_map(|one| row(one).transpose()).collect()
    }

    /// The topics that a ledger has.
    async fn topics(&self, connection: &mut Connection, names: &Names) -> Result<Vec<String>, SinkError> {
        let asked = self.known().topics;
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Pipeline::new();
        for topic in &asked {
            commands.cmd("EXISTS").arg(names.topic(&self.pipeline, topic));
        }
        let answers = connection.demand(&commands).await?;
        Ok(asked
            .into_iter()
            .zip(&answers)
            .filter(|(_, there)| **there == Value::Int(1))
            .map(|(topic, _)| topic)
            .collect())
    }

    fn row(&self, names: &Names, partition: &TopicPartition) -> String {
        format!("{}{}:{}", names.rows(&self.pipeline), partition.topic, partition.partition)
    }

    async fn exists(&self, connection: &mut Connection, key: &str) -> Result<bool, SinkError> {
        let mut commands = Pipeline::new();
        commands.cmd("EXISTS").arg(key);
        Ok(connection.demand(&commands).await?.first() == Some(&Value::Int(1)))
    }

    /// Makes the fresh entries this rewind's to fill and to remove, unless another one's are being put in place.
    async fn take_turn(&self, connection: &mut Connection) -> Result<(), SinkError> {
        let (hold, filler) = (self.real.names.hold(&self.pipeline), self.fresh.names.filler(&self.pipeline));
        let in_place = || SinkError::Retry("another rewind of the pipeline is putting its entries in place".into());
        let mut commands = Pipeline::new();
        commands.cmd("UNWATCH").cmd("WATCH").arg(&hold).cmd("GET").arg(&hold);
        let held = connection.demand(&commands).await?.pop().unwrap_or_default();
        if held != Value::Nil && Some(held) != self.held().map(|mine| Value::BulkString(mine.into_bytes())) {
            return Err(in_place());
        }
        let mut change = begin();
        change.cmd("SET").arg(&filler).arg(&self.mine).cmd("EXEC");
        let executed = connection.demand(&change).await?.pop();
        if executed.is_none_or(|executed| executed == Value::Nil) { Err(in_place()) } else { Ok(()) }
    }

    /// Deletes the fresh entries and their ledger; whether there were any.
    async fn forget(&self, connection: &mut Connection) -> Result<bool, SinkError> {
        let names = &self.fresh.names;
        let head = names.head(&self.pipeline);
        let has_begun = self.has_begun.load(Ordering::Relaxed);
        if !has_begun {
            self.take_turn(connection).await?;
        } else if self.filler(connection).await?.as_ref() != Some(&self.mine) {
            // It was put in place, or is another rewind's.
            return Ok(false);
        }
        let turn = Turn::taken(names.filler(&self.pipeline), self.mine.clone(), overtaken);
        let was = self.exists(connection, &head).await?;
        turn.beginning(connection, &names.entries, None).await?;
        turn.beginning(connection, &names.rows(&self.pipeline), None).await?;
        turn.beginning(connection, &names.topics(&self.pipeline), None).await?;
        for (member, _) in history::lists(connection, names, &self.pipeline).await? {
            turn.unlink(connection, &[format!("{}:{member}", names.histories(&self.pipeline))]).await?;
        }
        turn.unlink(connection, &[names.histories(&self.pipeline), head]).await?;
        if has_begun {
            turn.end(connection, begin()).await?;
        }
        Ok(was)
    }

    async fn stands_on(&self, connection: &mut Connection) -> Result<Vec<Stands>, SinkError> {
        let mut stands: BTreeMap<TopicPartition, Stands> = BTreeMap::new();
        for (names, is_fresh) in [(&self.real.names, false), (&self.fresh.names, true)] {
            for (partition, row) in self.rows(connection, names).await? {
                let stand = Stand { next: row.next, sent: row.next, digest: row.digest };
                let both = stands.entry(partition.clone()).or_insert(Stands { partition, real: None, fresh: None });
                *(if is_fresh { &mut both.fresh } else { &mut both.real }) = Some(stand);
            }
        }
        Ok(stands.into_values().collect())
    }

    /// Which rewind fills the fresh entries; none when the switch was done.
    async fn filler(&self, connection: &mut Connection) -> Result<Option<String>, SinkError> {
        let key = self.fresh.names.filler(&self.pipeline);
        let mut commands = Pipeline::new();
        commands.cmd("GET").arg(&key);
        let answer = connection.demand(&commands).await?.pop().unwrap_or_default();
        Ok(ledger::fields::<(Option<String>,)>(&Value::Array(vec![answer]), &key)?.0)
    }

    fn held(&self) -> Option<String> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the hold last so long from now on.
    async fn renew(&self, connection: &mut Connection, ms: u64) -> Result<(), SinkError> {
        let key = self.real.names.hold(&self.pipeline);
        let mut commands = Pipeline::new();
        commands.cmd("GET").arg(&key).cmd("PEXPIRE").arg(&key).arg(ms);
        let answers = connection.demand(&commands).await?;
        let mine = self.held().map(|mine| Value::BulkString(mine.into_bytes()));
        if mine.is_some() && answers.first() == mine.as_ref() { Ok(()) } else { Err(lost()) }
    }

    async fn hold_on(&self, connection: &mut Connection) -> Result<(), SinkError> {
        if self.held().is_some() {
            self.renew(connection, HOLD_MS).await?;
        } else {
            let key = self.real.names.hold(&self.pipeline);
            let mine = text(random()?);
            let mut commands = Pipeline::new();
            commands.cmd("SET").arg(&key).arg(&mine).arg("NX").arg("PX").arg(HOLD_MS);
            if connection.demand(&commands).await?.first() == Some(&Value::Nil) {
                return Err(SinkError::Retry("another rewind of the pipeline is putting its entries in place".into()));
            }
            *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(mine);
        }
        // Also where the hold was taken before: that try may have lost its connection before it had reached every owner.
        for (partition, _) in self.rows(connection, &self.real.names).await? {
            let mut commands = Pipeline::new();
            ledger::take_over(&mut commands, &self.row(&self.real.names, &partition), random()?, now());
            connection.demand(&commands).await?;
        }
        Ok(())
    }

    /// The keys in use that the transforms declare, and those of the fresh entries.
    async fn entries(&self, connection: &mut Connection) -> Result<(BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>), SinkError> {
        let declared = self.fresh.declared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut used = BTreeSet::new();
        for key in declared {
            match key.strip_suffix('*') {
                Some(start) => {
                    used.append(&mut self.found(connection, start, Some(&self.real.names.prefix)).await?);
                }
                None => drop(used.insert(key.into_bytes())),
            }
        }
        let filled = self.found(connection, &self.fresh.names.entries, None).await?;
        Ok((used, filled))
    }

    async fn replace_on(&self, connection: &mut Connection) -> Result<Vec<String>, SinkError> {
        let (real, fresh) = (&self.real.names, &self.fresh.names);
        let hold = real.hold(&self.pipeline);
        self.renew(connection, HOLD_MS).await?;
        // A write of the fill that was given up may still arrive: it has no row to write under from now on.
        for (partition, _) in self.rows(connection, fresh).await? {
            let mut commands = Pipeline::new();
            ledger::take_over(&mut commands, &self.row(fresh, &partition), random()?, now());
            connection.demand(&commands).await?;
        }
        // Nobody writes: what is found stays so, but for what expires.
        let (used, filled) = self.entries(connection).await?;
        let rows = self.rows(connection, fresh).await?;
        let topics = self.topics(connection, fresh).await?;
        let histories = history::lists(connection, fresh, &self.pipeline).await?;
        let mut old: Vec<String> =
            self.rows(connection, real).await?.iter().map(|(partition, _)| self.row(real, partition)).collect();
        old.extend(self.topics(connection, real).await?.iter().map(|topic| real.topic(&self.pipeline, topic)));

        let queued = u64::try_from(used.len() + filled.len()).unwrap_or(u64::MAX) / QUEUED_PER_MS;
        self.renew(connection, HOLD_MS + queued.min(HOLD_MS * 8)).await?;
        let filler = fresh.filler(&self.pipeline);
        let mut commands = Pipeline::new();
        commands.cmd("UNWATCH").cmd("WATCH").arg(&hold).arg(&filler).cmd("GET").arg(&hold);
        let answer = connection.demand(&commands).await?.pop();
        if answer != self.held().map(|mine| Value::BulkString(mine.into_bytes())) {
            return Err(lost());
        }
        if self.filler(connection).await?.as_ref() != Some(&self.mine) {
            return Err(overtaken());
        }
        let mut change = begin();
        let used: Vec<_> = used.iter().collect();
        for some in used.chunks(TOGETHER) {
            change.cmd("UNLINK").arg(some);
        }
        for key in &filled {
            change.cmd("RENAME").arg(key).arg(key.get(fresh.entries.len()..).unwrap_or_default());
        }
        for some in old.chunks(TOGETHER) {
            change.cmd("UNLINK").arg(some);
        }
        for (partition, _) in &rows {
            let row = self.row(real, partition);
            change.cmd("RENAME").arg(self.row(fresh, partition)).arg(&row);
            ledger::take_over(&mut change, &row, random()?, now());
        }
        for topic in &topics {
            change.cmd("RENAME").arg(fresh.topic(&self.pipeline, topic)).arg(real.topic(&self.pipeline, topic));
        }
        let (all, gone) = (real.histories(&self.pipeline), fresh.histories(&self.pipeline));
        for (member, entries) in &histories {
            change.cmd("RPUSH").arg(format!("{all}:{member}")).arg(entries).cmd("SADD").arg(&all).arg(member);
            change.cmd("UNLINK").arg(format!("{gone}:{member}"));
        }
        change.cmd("UNLINK").arg(&gone).arg(fresh.head(&self.pipeline)).arg(&hold).arg(&filler);
        let exec = change.len();
        change.cmd("EXEC");
        // A fresh entry may have expired since, and is then as it should be: gone.
        let answers = connection.request(&change).await?;
        match answers.get(exec) {
            Some(Value::Nil) | None => Err(lost()),
            Some(Value::Array(_)) => Ok(vec![format!("{} entries took the place of {}", filled.len(), used.len())]),
            Some(other) => {
                error::check(std::slice::from_ref(other))?;
                Err(SinkError::Stop("the switch was not answered as it should be; please report this".into()))
            }
        }
    }
}

#[async_trait]
impl Replacement for Rewind {
    fn fresh(&self) -> Arc<dyn Sink> {
        self.fresh.clone()
    }

    async fn discard(&self) -> Result<Vec<String>, SinkError> {
        let was = self.on(async |connection| self.forget(connection).await).await?;
        Ok(if was { vec![format!("the keys {}*", self.fresh.names.entries)] } else { Vec::new() })
    }

    async fn begin(&self, topics: &[(String, TopicFacts)]) -> Result<(), SinkError> {
        if !self.real.knows(&self.pipeline).await? {
            return Err(SinkError::Stop(format!(
                "there is no key {}, so that there is nothing to replace: `tidegate run` fills the cache from the start",
                self.real.names.head(&self.pipeline)
            )));
        }
        if self.on(async |connection| self.filler(connection).await).await?.as_ref() != Some(&self.mine) {
            return Err(overtaken());
        }
        self.has_begun.store(true, Ordering::Relaxed);
        let mut known = self.on(async |connection| self.look_around(connection).await).await?;
        known.topics.extend(topics.iter().map(|(topic, _)| topic.clone()));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        for (topic, facts) in topics {
            let key = self.real.names.topic(&self.pipeline, topic);
            let held: Option<TopicHead> = self
                .on(async |connection| {
                    let mut commands = Pipeline::new();
                    ledger::read_topic(&mut commands, &key);
                    ledger::topic(&connection.demand(&commands).await?.pop().unwrap_or_default(), &key)
                })
                .await?;
            let head = next_head(held.as_ref(), facts)?;
            let key = self.fresh.names.topic(&self.pipeline, topic);
            self.on(async |connection| {
                let mut commands = Pipeline::new();
                ledger::set_topic(&mut commands, &key, &head);
                connection.demand(&commands).await.map(drop)
            })
            .await?;
        }
        Ok(())
    }

    async fn stands(&self) -> Result<Vec<Stands>, SinkError> {
        self.on(async |connection| self.stands_on(connection).await).await
    }

    async fn hold(&self) -> Result<(), SinkError> {
        self.on(async |connection| self.hold_on(connection).await).await
    }

    async fn release(&self) -> Result<(), SinkError> {
        let Some(mine) = self.held() else { return Ok(()) };
        let key = self.real.names.hold(&self.pipeline);
        self.on(async |connection| {
            let mut commands = Pipeline::new();
            commands.cmd("GET").arg(&key);
            if connection.demand(&commands).await?.first() == Some(&Value::BulkString(mine.into_bytes())) {
                clear::unlink(connection, &[&key]).await?;
            }
            Ok(())
        })
        .await?;
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    async fn put_in_place(&self) -> Result<Vec<String>, SinkError> {
        // The key that names this rewind goes with the switch.
        let is_done = async || match self.on(async |connection| self.filler(connection).await).await? {
            None => Ok(true),
            Some(filler) if filler == self.mine => Ok(false),
            Some(_) => Err(overtaken()),
        };
        let as_told = || Ok(vec!["the entries were replaced".into()]);
        if self.asked.load(Ordering::Relaxed) && is_done().await? {
            return as_told();
        }
        let done = self.on(async |connection| self.replace_on(connection).await).await;
        if matches!(done, Err(SinkError::Retry(_))) {
            // The answer was lost, or the switch.
            self.asked.store(true, Ordering::Relaxed);
        }
        if done.is_err() && self.asked.load(Ordering::Relaxed) && is_done().await? { as_told() } else { done }
    }
}

fn random() -> Result<Token, SinkError> {
    let half = || getrandom::u64().map_err(|e| SinkError::Stop(format!("the system gives no random numbers: {e}")));
    Ok(Token(u128::from(half()?) << 64 | u128::from(half()?)))
}

fn text(token: Token) -> String {
    format!("{:032x}", token.0)
}

fn overtaken() -> SinkError {
    let problem = "another `tidegate rewind` of the pipeline has begun, or has removed what this one filled: nothing is \
                   changed; rewind again when no other one runs";
    SinkError::Stop(problem.into())
}

fn lost() -> SinkError {
    SinkError::Stop(
        "the pipeline took its cache back, since the switch took too long; it is as it was: rewind again".into(),
    )
}
