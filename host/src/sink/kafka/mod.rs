//! Messages to Kafka, at least once; `exactly_once` is the same with a ledger.
//!
//! This sink keeps no ledger ([`Sink::keeps_ledger`]). A write is done when every replica in sync has every message of it;
//! what a crash leaves between that and the source's commit is published again. Each message bears the header
//! `tidegate.id`, which is the same each time: `{pipeline}/{topic}-{partition}@{offset}/{transform}/{n}`, where `transform`
//! is the transform's number in the pipeline and `n` the message's number within that transform's answer to the event, both
//! from 0.
//! Messages of one topic and key are published in order; after a failure the messages from the failed one on are
//! published again in order, so that the last one of a key is always the newest.

mod context;
pub mod exactly_once;
mod failure;
pub(crate) mod producer;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::message::Header;

use self::failure::Failure;
use self::producer::{Outgoing, Producer, headers_of};
use super::{
    BadWrite, Declared, HistoryRow, LedgerKey, Sink, SinkError, Standing, Step, Token, TopicHead, Write, Written,
};
use crate::command::Command;
use crate::command::collapse::Origin;
use crate::config::{KafkaClient, Text};
use crate::inspection::Inspection;
use crate::source::Lease;

/// The header that names a message.
pub const ID: &str = "tidegate.id";

/// A message of more bytes is sent by itself, so that it fails by itself where a topic does not take it. As large as
/// librdkafka makes a batch.
const ALONE: usize = 900_000;

/// The sink.
pub struct Kafka {
    producer: Arc<Producer>,
    /// Of writes that failed in part: what needs no second try.
    tries: Mutex<HashMap<LedgerKey, Try>>,
}

/// What an earlier try of a write has published.
#[derive(Debug)]
struct Try {
    token: Token,
    digest: String,
    published: HashSet<Id>,
}

/// A message, within a partition and a claim: what it comes from, and its number there.
type Id = (Origin, u32);

/// A message of a write.
struct Message<'a> {
    /// Its place among the writes.
    index: usize,
    id: Id,
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [crate::source::Header],
}

/// These settings, and each message acknowledged or failed within so long, unless the operator says otherwise: so that
/// none is under way any more when another process may have the partition.
pub fn settled_within(bound: Duration, client: &KafkaClient) -> KafkaClient {
    let mut client = client.clone();
    if bound < producer::MESSAGE_TIMEOUT && !client.properties.contains_key(producer::MESSAGE_TIMEOUT_NAME) {
        let mut set = |name: &str, value: Duration| {
            client.properties.entry(name.to_owned()).or_insert_with(|| Text::plain(value.as_millis().to_string()));
        };
        set(producer::MESSAGE_TIMEOUT_NAME, bound);
        // A topic that is missing is found before its messages have waited too long.
        set("topic.metadata.propagation.max.ms", bound / 2);
    }
    client
}

impl Kafka {
    /// Opens the sink. It connects by itself, and shares its connection with whatever has the same settings.
    ///
    /// # Errors
    /// When librdkafka does not take a setting.
    pub fn open(client: &KafkaClient) -> Result<Self, SinkError> {
        let producer = Producer::shared(client)?;
        Ok(Self { producer, tries: Mutex::default() })
    }

    /// The messages of a write that no earlier try has published.
    fn messages<'a>(&self, step: &Step<'_>, writes: &'a [Write<'_>]) -> Result<Vec<Message<'a>>, SinkError> {
        let mut messages = messages_of(writes)?;
        if let Some(earlier) = self.tries().get(step.key).filter(|earlier| earlier.is_of(step)) {
            messages.retain(|message| !earlier.published.contains(&message.id));
        }
        Ok(messages)
    }

    /// Sends messages of one run, each one that fails for its own sake by itself once more. Answers what was published
    /// and what is bad; the failure is of a topic or of the cluster.
    async fn send(
        &self,
        step: &Step<'_>,
        run: &[Message<'_>],
        lease: &Lease,
        done: &mut Done,
    ) -> Result<(), SinkError> {
        let failed = self.producer.send(run.iter().map(|message| message.outgoing(step)), lease).await?;
        let mut failures = failed.into_iter().peekable();
        // After a failed message those of its key have to come again, or an older one would be the last.
        let mut again: Vec<&Message<'_>> = Vec::new();
        let mut keys: HashSet<(&str, Option<&[u8]>)> = HashSet::new();
        let mut worst = None;
        for (place, message) in run.iter().enumerate() {
            let failure = failures.next_if(|(of, _)| *of == place).map(|(_, failure)| failure);
            match failure {
                None if message.key.is_none() || !keys.contains(&(message.topic, message.key)) => {
                    done.published.insert(message.id);
                }
                None => again.push(message),
                Some(failure) => {
                    if !failure.is_of_message() {
                        worst = Some(worse(worst, failure.about(message.topic)));
                    }
                    keys.insert((message.topic, message.key));
                    again.push(message);
                }
            }
        }
        if let Some(error) = worst {
            return Err(error);
        }
        for message in again {
            match self.producer.send_alone(message.outgoing(step), lease).await? {
                Ok(()) => {
                    done.published.insert(message.id);
                }
                Err(failure) if failure.is_of_message() => done.reject(message, &failure),
                Err(failure) => return Err(failure.about(message.topic)),
            }
        }
        Ok(())
    }

    fn tries(&self) -> std::sync::MutexGuard<'_, HashMap<LedgerKey, Try>> {
        // Nothing is left half-done under this lock.
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a write that has to come again has published.
    fn keep(&self, step: &Step<'_>, published: HashSet<Id>) {
        let mut tries = self.tries();
        match tries.get_mut(step.key).filter(|earlier| earlier.is_of(step)) {
            Some(earlier) => earlier.published.extend(published),
            None => {
                let new = Try { token: step.token, digest: step.digest.to_owned(), published };
                tries.insert(step.key.clone(), new);
            }
        }
    }
}

/// Messages to topics that no transform writes: Kafka's own, and the sink's ledger.
fn reserved(messages: &[Message<'_>], ledger: Option<&str>) -> Vec<BadWrite> {
    let taken = messages.iter().filter(|message| message.topic.starts_with("__") || Some(message.topic) == ledger);
    let bad = taken.map(|message| BadWrite {
        index: message.index,
        clash: false,
        by_trigger: false,
        reason: format!("topic {:?} is Kafka's or tidegate's own, which no transform writes", message.topic),
    });
    bad.collect()
}

/// What is wrong with declared topics by their names.
fn reserved_topics(declared: &Declared) -> Vec<String> {
    let taken = declared.topics.iter().filter(|topic| topic.starts_with("__"));
    taken.map(|topic| format!("topic {topic:?} is Kafka's own: grant the transforms another one")).collect()
}

/// The messages of a write, numbered by what they come from.
fn messages_of<'a>(writes: &'a [Write<'_>]) -> Result<Vec<Message<'a>>, SinkError> {
    let mut numbers: HashMap<Origin, u32> = HashMap::new();
    let mut messages = Vec::with_capacity(writes.len());
    for (index, write) in writes.iter().enumerate() {
        let (Command::Publish { topic, key, value, headers }, Some(origin)) = (&*write.command, write.origins.first())
        else {
            let kind = write.command.kind();
            return Err(SinkError::Stop(format!("it cannot execute {kind}; please report this")));
        };
        let number = numbers.entry(*origin).or_default();
        let id = (*origin, *number);
        *number += 1;
        messages.push(Message { index, id, topic, key: key.as_deref(), value: value.as_deref(), headers });
    }
    Ok(messages)
}

/// How far a write has come.
#[derive(Default)]
struct Done {
    published: HashSet<Id>,
    bad: Vec<BadWrite>,
}

impl Done {
    fn reject(&mut self, message: &Message<'_>, failure: &Failure) {
        let reason = failure.reason(message.topic, message.size());
        self.bad.push(BadWrite { index: message.index, clash: false, by_trigger: false, reason });
    }
}

impl Try {
    /// Whether it is an earlier try of this step, or of one that this is the rest of.
    fn is_of(&self, step: &Step<'_>) -> bool {
        self.token == step.token && self.digest == step.digest
    }
}

impl Message<'_> {
    fn size(&self) -> usize {
        let header = |header: &crate::source::Header| header.name.len() + header.value.as_ref().map_or(0, Vec::len);
        self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + self.headers.iter().map(header).sum::<usize>()
    }

    fn outgoing(&self, step: &Step<'_>) -> Outgoing<'_> {
        let (origin, number) = self.id;
        let mut id = String::with_capacity(96);
        let LedgerKey { pipeline, partition } = step.key;
        // Writing to a string does not fail.
        let _ = write!(id, "{pipeline}/{partition}@{}/{}/{number}", origin.offset, origin.transform);
        let headers = headers_of(self.headers).insert(Header { key: ID, value: Some(&id) });
        Outgoing { topic: self.topic, key: self.key, value: self.value, headers }
    }
}

/// The one that waiting does not help against.
fn worse(known: Option<SinkError>, other: SinkError) -> SinkError {
    match known {
        Some(stop @ SinkError::Stop(_)) => stop,
        Some(retry) if matches!(other, SinkError::Retry(_)) => retry,
        _ => other,
    }
}

#[async_trait]
impl Sink for Kafka {
    fn keeps_ledger(&self) -> bool {
        false
    }

    async fn knows(&self, _pipeline: &str) -> Result<bool, SinkError> {
        Err(self.no_ledger())
    }

    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError> {
        let faults = self.inspect(pipeline, declared).await?.faults;
        if faults.is_empty() { Ok(()) } else { Err(SinkError::Stop(faults.join("; "))) }
    }

    async fn enter_topic(
        &self,
        _pipeline: &str,
        _topic: &str,
        _head: &TopicHead,
        _replace: bool,
    ) -> Result<TopicHead, SinkError> {
        Err(self.no_ledger())
    }

    async fn claim(&self, _key: &LedgerKey, _token: Token, _start: u64) -> Result<Standing, SinkError> {
        Err(self.no_ledger())
    }

    async fn positions(&self, _keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError> {
        Err(self.no_ledger())
    }

    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError> {
        self.publish(step, writes, &Lease::default()).await
    }

    async fn publish(&self, step: &Step<'_>, writes: &[Write<'_>], lease: &Lease) -> Result<Written, SinkError> {
        step.check()?;
        let messages = self.messages(step, writes)?;
        let bad = reserved(&messages, None);
        if !bad.is_empty() {
            return Ok(Written::Rejected(bad));
        }
        let mut done = Done::default();
        for run in messages.chunk_by(|one, next| one.size() <= ALONE && next.size() <= ALONE) {
            if let Err(error) = self.send(step, run, lease, &mut done).await {
                self.keep(step, done.published);
                return Err(error);
            }
        }
        if done.bad.is_empty() {
            self.tries().remove(step.key);
            return Ok(Written::Applied);
        }
        self.keep(step, done.published);
        Ok(Written::Rejected(done.bad))
    }

    async fn history(&self, _pipeline: &str) -> Result<Vec<HistoryRow>, SinkError> {
        Err(self.no_ledger())
    }

    async fn clear_cache(&self, _pipeline: &str, _keys: &[String]) -> Result<(), SinkError> {
        Err(self.no_ledger())
    }

    async fn inspect(&self, _pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError> {
        let mut faults = reserved_topics(declared);
        faults.extend(self.producer.inspect(declared.topics.iter().map(String::as_str))?);
        Ok(Inspection { faults, notes: Vec::new() })
    }
}

impl Kafka {
    fn no_ledger(&self) -> SinkError {
        SinkError::Stop("Kafka keeps no ledger; please report this".into())
    }
}
