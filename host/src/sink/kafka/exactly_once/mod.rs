//! Messages to Kafka, exactly once for those who read with `isolation.level=read_committed`.
//!
//! The ledger is a compacted topic of one partition on the sink's cluster, and the row of a partition is written in one Kafka
//! transaction with its messages. Offsets of a consumer group, which Kafka can put into a transaction too, would not do:
//! they expire, and hold 4,096 bytes.
//!
//! Each partition that this process owns has a producer, whose `transactional.id` names ledger, pipeline, sink and partition
//! (`transaction.rs`). A claim opens a new one, by which the brokers fence the former owner's and end what it had left open;
//! then it reads the ledger topic to its end (`reader.rs`), and writes the row under its token. From then on nobody else
//! can move the row while the producer is not fenced, so that a write compares with the row as this process knows it
//! (`write.rs`). A process that is fenced reads the ledger: another token there means that another claim owns the partition.
//!
//! A transaction that its process has left open keeps readers from the end of the ledger topic. A claim aborts it after two
//! seconds, by opening a producer with its `transactional.id` (`reader.rs`). That may fence an owner that is merely slow: it
//! finds its own token in the ledger, and goes on. Nothing but a claim aborts one: checks come every few seconds, and would
//! keep a slow owner from ever committing.

mod entry;
mod reader;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod topic;
mod transaction;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use self::entry::{Key, Ledger, Row, topic_value};
use self::reader::Reader;
use self::transaction::Transactional;
use self::write::Unsettled;
use super::producer::Producer;
use super::reserved_topics;
use crate::config::KafkaClient;
use crate::inspection::Inspection;
use crate::sink::{Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written};

/// How often entries are tried at once where other processes write the same ones in between.
const TRIES: usize = 3;

/// How the sink is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in the configuration.
    pub name: String,
    /// The cluster.
    pub client: KafkaClient,
    /// The topic that holds the ledger.
    pub ledger_topic: String,
}

/// The sink.
pub struct ExactlyOnce(Shared);

struct Shared {
    name: String,
    settings: KafkaClient,
    ledger_topic: String,
    /// Looks topics up.
    producer: Arc<Producer>,
    reader: Arc<Reader>,
    owners: Mutex<HashMap<LedgerKey, Arc<tokio::sync::Mutex<Owner>>>>,
}

/// What this process knows of a partition that it claimed.
#[derive(Default)]
struct Owner {
    /// None where it was fenced, or has failed.
    producer: Option<Transactional>,
    /// The row as the last write of this process has left it.
    row: Option<Row>,
    /// The row that the last write was to leave, where its outcome is unknown.
    unsettled: Option<Unsettled>,
}

impl ExactlyOnce {
    /// Opens the sink. librdkafka connects in the background.
    ///
    /// # Errors
    /// `Stop` when librdkafka does not accept a setting.
    pub fn open(options: Options) -> Result<Self, SinkError> {
        let Options { name, client, ledger_topic } = options;
        let producer = Producer::shared(&client)?;
        let reader = Arc::new(Reader::new(&client, &producer, &ledger_topic, &name));
        Ok(Self(Shared { name, settings: client, ledger_topic, producer, reader, owners: Mutex::default() }))
    }
}

impl Shared {
    fn owners(&self) -> std::sync::MutexGuard<'_, HashMap<LedgerKey, Arc<tokio::sync::Mutex<Owner>>>> {
        // Nothing is left half-done under this lock.
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the value that `missing` finds the ledger to lack. The producer that it opens fences all others that write
    /// these entries, so that what it then reads is the newest.
    async fn enter_missing(
        &self,
        key: &Key,
        missing: impl Fn(&Ledger) -> Option<String> + Send + Sync + Clone + 'static,
    ) -> Result<(), SinkError> {
        let mut tries = 0;
        while self.reader.read_enough(missing.clone(), Option::is_none).await?.is_some() {
            let entered = async {
                let producer = Transactional::open(&self.settings, &key.transactional_id(&self.ledger_topic)).await?;
                match self.reader.read(missing.clone()).await? {
                    Some(value) => self.enter(&producer, vec![(key.clone(), value)]).await,
                    None => Ok(()),
                }
            };
            tries += 1;
            match entered.await {
                Ok(()) => return Ok(()),
                Err(SinkError::Retry(_)) if tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is wrong with the topics to publish to, apart from missing ones.
    fn unfit(&self, declared: &Declared) -> Option<String> {
        declared.topics.contains(&self.ledger_topic).then(|| {
            format!(
                "topic {:?} holds the ledger: grant the transforms another one, or name another `ledger_topic`",
                self.ledger_topic
            )
        })
    }
}

#[async_trait]
impl Sink for ExactlyOnce {
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError> {
        let pipeline = pipeline.to_owned();
        // The entry stays as it is once it is there.
        self.0.reader.read_enough(move |ledger| ledger.pipelines.contains(&pipeline), |known| *known).await
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        let shared = &self.0;
        let mut faults = shared.producer.inspect(declared.topics.iter().map(String::as_str))?;
        faults.extend(shared.unfit(declared));
        faults.extend(reserved_topics(declared));
        if !faults.is_empty() {
            return Err(SinkError::Stop(faults.join("; ")));
        }
        topic::ensure(&shared.settings, &shared.producer, &shared.ledger_topic).await?;
        let key = Key::Pipeline { pipeline: pipeline.to_owned(), sink: shared.name.clone() };
        let pipeline = pipeline.to_owned();
        let missing = move |ledger: &Ledger| (!ledger.pipelines.contains(&pipeline)).then(|| "{}".to_owned());
        shared.enter_missing(&key, missing).await
    }

    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError> {
        let shared = &self.0;
        let (of, wanted) = ((pipeline.to_owned(), topic.to_owned()), head.clone());
        let key = Key::Topic { pipeline: of.0.clone(), sink: shared.name.clone(), topic: of.1.clone() };
        let missing = {
            let of = of.clone();
            move |ledger: &Ledger| {
                let is_there = ledger.topics.get(&of).is_some_and(|held| !replace || *held == wanted);
                (!is_there).then(|| topic_value(&wanted))
            }
        };
        shared.enter_missing(&key, missing).await?;
        let held = shared.reader.read_enough(move |ledger| ledger.topics.get(&of).cloned(), Option::is_some).await?;
        held.ok_or_else(|| SinkError::Retry(format!("the ledger topic {:?} was emptied just now", shared.ledger_topic)))
    }

    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError> {
        self.0.claim(key, token, start).await
    }

    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        let wanted = keys.to_vec();
        let look = move |ledger: &Ledger| -> Vec<_> {
            let rows = wanted.iter().map(|key| ledger.rows.get(key));
            rows.map(|row| row.map(|row| (row.token(), row.next))).collect()
        };
        // Whoever asks before a claim asks whether the rows are there; the claim itself ends an open transaction.
        let is_owner = keys.iter().any(|key| self.0.known_owner(key).is_some());
        self.0.reader.read_enough(look, |rows| !is_owner && rows.iter().all(Option::is_some)).await
    }

    fn release(&self, key: &LedgerKey) {
        // A write that is still under way has its own hold of it.
        drop(self.0.owners().remove(key));
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        self.0.write(step, writes).await
    }

    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        let pipeline = pipeline.to_owned();
        self.0.reader.read(move |ledger| ledger.history(&pipeline)).await
    }

    async fn clear_cache(&self, _pipeline: &str, _keys: &[String]) -> Result<(), SinkError> {
        Err(SinkError::Stop("Kafka is no cache; please report this".into()))
    }

    async fn inspect(&self, pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        let shared = &self.0;
        let mut faults = shared.producer.inspect(declared.topics.iter().map(String::as_str))?;
        faults.extend(shared.unfit(declared));
        faults.extend(reserved_topics(declared));
        let (fault, note) = topic::inspect(&shared.settings, &shared.producer, &shared.ledger_topic).await?;
        faults.extend(fault);
        // An id of its own, which fences nobody. The brokers forget it after a week.
        let id = format!("{}:{pipeline}:{}::check", shared.ledger_topic, shared.name);
        let is_there = faults.is_empty() && note.is_none();
        let tried = async {
            let producer = Transactional::open(&shared.settings, &id).await?;
            if is_there { shared.try_ledger(&producer).await } else { Ok(()) }
        };
        if let Err(SinkError::Stop(cause) | SinkError::Retry(cause)) = tried.await {
            faults.push(cause);
        }
        Ok(Inspection { faults, notes: note.into_iter().collect() })
    }
}

/// The blocking task that called Kafka was cancelled, or panicked.
fn unasked() -> SinkError {
    SinkError::Retry("Kafka could not be asked".into())
}
