//! Reads the ledger topic, and keeps what it holds: each reading goes on where the last one ended.
//!
//! A reading ends at the high watermark that the topic had when it began, so that it sees every write that had been answered
//! by then. Consumers see nothing past the beginning of an open transaction, so the reading waits for each that had begun.
//! Most take a moment. That of a process that was killed stays open until another producer is opened with the same
//! `transactional.id`, or until the brokers' timeout. The reading of a claim opens one ([`Reader::read_for_claim`]); others
//! are told to try again, since the owner may be merely slow.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::entry::{Key, Ledger};
use super::transaction::Transactional;
use super::unasked;
use crate::config::KafkaClient;
use crate::sink::SinkError;
use crate::sink::kafka::failure::Failure;
use crate::sink::kafka::producer::{Context, Producer};
use crate::source::kafka::client;

/// How long the brokers may take to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a transaction may hold up a reading, before it is aborted.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long each further one may: it was most likely left by the same process.
const LESS_PATIENCE: Duration = Duration::from_millis(250);
/// How often to check whether it has ended.
const LOOK: Duration = Duration::from_millis(2);
/// The most transactions that one reading aborts.
const MOST: usize = 64;

/// The reader of one sink.
pub(super) struct Reader {
    settings: KafkaClient,
    producer: Arc<Producer>,
    topic: String,
    sink: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clients: Option<Clients>,
    /// The offset behind the last record.
    next: i64,
    /// The topic's high watermark when it was last read.
    end: i64,
    ledger: Ledger,
}

struct Clients {
    /// Sees what is committed.
    committed: BaseConsumer<Context>,
    /// Sees everything.
    any: BaseConsumer<Context>,
}

/// How a reading ended.
enum Progress<T> {
    Read(T),
    /// A transaction of this `transactional.id` has been open for too long. What was found lies before it.
    HeldUp(String, T),
}

impl Reader {
    pub(super) fn new(settings: &KafkaClient, producer: &Arc<Producer>, topic: &str, sink: &str) -> Self {
        Self {
            settings: settings.clone(),
            producer: producer.clone(),
            topic: topic.to_owned(),
            sink: sink.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Reads to the end, and returns what `look` finds.
    ///
    /// # Errors
    /// `Stop` where the user may not read the topic, or an entry is broken; `Retry` where the brokers do not answer, or a
    /// transaction stays open.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl Fn(&Ledger) -> T + Send + Sync + 'static,
    ) -> Result<T, SinkError> {
        self.read_enough(look, |_| false).await
    }

    /// As [`Reader::read`]; but what lies before an open transaction is returned where it is `enough`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(super) async fn read_enough<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl Fn(&Ledger) -> T + Send + Sync + 'static,
        enough: impl Fn(&T) -> bool + Send,
    ) -> Result<T, SinkError> {
        let look = Arc::new(look);
        let mut holder = String::new();
        for patience in [LESS_PATIENCE, PATIENCE] {
            match self.reading(patience, look.clone()).await? {
                Progress::Read(found) => return Ok(found),
                Progress::HeldUp(_, found) if enough(&found) => return Ok(found),
                Progress::HeldUp(id, _) => holder = id,
            }
        }
        Err(SinkError::Retry(format!(
            "the ledger topic {:?} cannot be read to its end: the transaction of {holder:?} is open. It ends by itself, \
             or by the brokers' timeout",
            self.topic
        )))
    }

    /// As [`Reader::read`], for a claim, which cannot wait for the brokers' timeout: aborts a transaction that stays open.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(super) async fn read_for_claim<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl Fn(&Ledger) -> T + Send + Sync + 'static,
    ) -> Result<T, SinkError> {
        let look = Arc::new(look);
        let mut patience = PATIENCE;
        for _ in 0..MOST {
            match self.reading(patience, look.clone()).await? {
                Progress::Read(found) => return Ok(found),
                Progress::HeldUp(transactional_id, _) => {
                    drop(Transactional::open(&self.settings, &transactional_id).await?);
                    tracing::info!(sink = self.sink, transactional_id, "open transaction aborted");
                    patience = LESS_PATIENCE;
                }
            }
        }
        Err(SinkError::Retry(format!("{MOST} transactions hold up the ledger topic {:?}", self.topic)))
    }

    async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        look: Arc<impl Fn(&Ledger) -> T + Send + Sync + 'static>,
    ) -> Result<Progress<T>, SinkError> {
        let reader = self.clone();
        let reading = tokio::task::spawn_blocking(move || reader.catch_up(patience, &*look));
        reading.await.unwrap_or_else(|_| Err(unasked()))
    }

    fn catch_up<T>(&self, patience: Duration, look: impl Fn(&Ledger) -> T) -> Result<Progress<T>, SinkError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { clients, next, end, ledger } = &mut *state;
        let clients = match clients {
            Some(clients) => clients,
            None => clients.insert(Clients::connect(&self.settings)?),
        };
        let Some((begin, goal)) = self.ends(&clients.any)? else {
            (*next, *end, *ledger) = (0, 0, Ledger::default());
            return Ok(Progress::Read(look(ledger)));
        };
        if goal < *end {
            // The topic was deleted and created again.
            (*next, *end, *ledger) = (0, 0, Ledger::default());
        }
        if goal > *end {
            *next = begin.max(*next);
            let stable = self.wait_for(&clients.committed, goal, patience)?;
            let readable = stable.unwrap_or(goal);
            if readable > *end {
                self.take(&clients.committed, next, readable, ledger)?;
                *end = readable;
            }
            if let Some(stable) = stable {
                let id = self.holder(&clients.any, stable)?;
                return Ok(Progress::HeldUp(id, look(ledger)));
            }
        }
        Ok(Progress::Read(look(ledger)))
    }

    /// The topic's watermarks, low and high, as this client sees them: to `committed` the high one is the last stable offset.
    /// None where the topic is missing.
    fn ends(&self, client: &BaseConsumer<Context>) -> Result<Option<(i64, i64)>, SinkError> {
        // An OAUTHBEARER token is fetched in a poll.
        let _ = client.poll(Duration::ZERO);
        let error = match client.fetch_watermarks(&self.topic, 0, WITHIN) {
            Ok(ends) => return Ok(Some(ends)),
            Err(error) => self.error(&error),
        };
        // A client does not say for sure that there is no topic.
        match self.producer.partitions(&self.topic)? {
            Err(code) if Failure::new(code, None).is_of_no_topic() => Ok(None),
            _ => Err(error),
        }
    }

    /// Waits until no transaction is open that had begun before `goal`. Returns the offset of one that has not ended in time.
    fn wait_for(
        &self,
        client: &BaseConsumer<Context>,
        goal: i64,
        patience: Duration,
    ) -> Result<Option<i64>, SinkError> {
        let (mut since, mut at) = (Instant::now(), None);
        loop {
            let (_, stable) = self.ends(client)?.ok_or_else(|| self.gone())?;
            if stable >= goal {
                return Ok(None);
            }
            if at != Some(stable) {
                (since, at) = (Instant::now(), Some(stable));
            }
            if since.elapsed() > patience {
                return Ok(Some(stable));
            }
            thread::sleep(LOOK);
        }
    }

    /// The `transactional.id` of the open transaction that begins here.
    fn holder(&self, client: &BaseConsumer<Context>, offset: i64) -> Result<String, SinkError> {
        let mut found = None;
        self.records(client, offset..offset + 1, |at, key, _| {
            found = found.take().or_else(|| Some((at, serde_json::from_slice::<Key>(key).ok())));
            Ok(false)
        })?;
        match found {
            Some((_, Some(key))) => Ok(key.transactional_id(&self.topic)),
            _ => Err(SinkError::Retry(format!(
                "a transaction that is none of tidegate's holds up the ledger topic {:?} at offset {offset}",
                self.topic
            ))),
        }
    }

    fn take(
        &self,
        client: &BaseConsumer<Context>,
        next: &mut i64,
        end: i64,
        ledger: &mut Ledger,
    ) -> Result<(), SinkError> {
        self.records(client, *next..end, |at, key, value| {
            ledger.take(&self.sink, key, value)?;
            *next = at + 1;
            Ok(true)
        })
    }

    /// Passes records to `each`, until it returns false or all of these offsets are read. Some beyond may come too.
    fn records(
        &self,
        client: &BaseConsumer<Context>,
        offsets: Range<i64>,
        mut each: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<bool, SinkError>,
    ) -> Result<(), SinkError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offsets.start)).map_err(|error| self.error(&error))?;
        client.assign(&list).map_err(|error| self.error(&error))?;
        let mut heard = Instant::now();
        let mut read = || {
            loop {
                match client.poll(Duration::from_millis(100)) {
                    Some(Ok(record)) => {
                        heard = Instant::now();
                        if !each(record.offset(), record.key().unwrap_or_default(), record.payload())? {
                            return Ok(());
                        }
                    }
                    // A new leader may take a moment to know how far the log is replicated, and end it too early.
                    Some(Err(KafkaError::PartitionEOF(_))) if is_at(client, offsets.end) => return Ok(()),
                    Some(Err(error)) if heard.elapsed() > WITHIN => return Err(self.error(&error)),
                    None if heard.elapsed() > WITHIN => {
                        let silent = "it gives no records: is the leader of its partition up?";
                        return Err(SinkError::Retry(format!("the ledger topic {:?}: {silent}", self.topic)));
                    }
                    Some(Err(_)) | None => {}
                }
            }
        };
        let read = read();
        // Else it would go on fetching.
        client.unassign().map_err(|error| self.error(&error))?;
        read
    }

    fn error(&self, error: &KafkaError) -> SinkError {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match code {
            Code::TopicAuthorizationFailed => SinkError::Stop(format!(
                "the ledger topic {:?}: {code}: allow this user to Read, Write and Describe it",
                self.topic
            )),
            code => match Failure::new(code, None).about(&self.topic) {
                // What a client does not find may be there a moment later; who knows for sure was asked.
                SinkError::Stop(cause) if Failure::new(code, None).is_of_no_topic() => SinkError::Retry(cause),
                error => error,
            },
        }
    }

    fn gone(&self) -> SinkError {
        SinkError::Retry(format!("the ledger topic {:?} has just been deleted", self.topic))
    }
}

impl Clients {
    fn connect(settings: &KafkaClient) -> Result<Self, SinkError> {
        let stop = |error: anyhow::Error| SinkError::Stop(format!("{error:#}"));
        client::check_token(settings).map_err(stop)?;
        let consumer = |isolation: &str| -> Result<BaseConsumer<Context>, SinkError> {
            let mut config = client::client_config(settings);
            // librdkafka asks for a group. It is never joined.
            config.set("group.id", "tidegate");
            config.set("enable.auto.commit", "false");
            config.set("auto.offset.reset", "earliest");
            config.set("enable.partition.eof", "true");
            config.set("isolation.level", isolation);
            // The end is reported after this wait.
            config.set("fetch.wait.max.ms", "10");
            // A follower may lag behind the watermark.
            config.set("client.rack", "");
            config.create_with_context(Context::of(settings)).map_err(|error| stop(client::refused(settings, &error)))
        };
        Ok(Self { committed: consumer("read_committed")?, any: consumer("read_uncommitted")? })
    }
}

/// Whether the end that a client has just come to is not before this offset. The position behind the last record does not
/// tell: what is aborted, is compacted away, or ends a transaction may follow it.
fn is_at(client: &BaseConsumer<Context>, end: i64) -> bool {
    let told = client.context().last().and_then(|(_, text)| client::end_offset(&text));
    told.is_none_or(|at| i64::try_from(at).is_ok_and(|at| at >= end))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rdkafka::message::OwnedHeaders;

    use super::*;
    use crate::sink::kafka::producer::Outgoing;
    use crate::sink::kafka::testing::{Topic, broker};
    use crate::source::Lease;

    #[tokio::test(flavor = "multi_thread")]
    async fn log_that_seems_to_end_too_early_is_read_on() {
        let topic = Topic::make(1, &[]).await;
        let producer = Producer::shared(&broker()).unwrap();
        let reader = Reader::new(&broker(), &producer, &topic.0, "events");
        let send = |value: &'static [u8]| {
            let message = Outgoing { topic: &topic.0, key: None, value: Some(value), headers: OwnedHeaders::new() };
            let (producer, message) = (&producer, [message].into_iter());
            async move { assert!(producer.send(message, &Lease::default()).await.unwrap().is_empty()) }
        };
        send(b"0").await;
        let clients = Arc::new(Clients::connect(&broker()).unwrap());
        let of = clients.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut values = Vec::new();
            let each = |_, _: &[u8], value: Option<&[u8]>| {
                values.push(value.unwrap().to_vec());
                Ok(true)
            };
            reader.records(&of.committed, 0..2, each).unwrap();
            values
        });
        while clients.committed.context().last().is_none_or(|(code, _)| code != Code::PartitionEOF) {
            assert!(!reading.is_finished(), "it ended by nothing");
            tokio::time::sleep(LOOK).await;
        }
        send(b"1").await;
        assert_eq!(reading.await.unwrap(), [b"0", b"1"]);
    }
}
