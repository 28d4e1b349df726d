//! Reads the ledger topic, and keeps what it holds: each reading goes on where the last one ended.
//!
//! A reading ends at the high watermark that the topic had when it began, so that it sees every write that had been answered
//! by then. Consumers see nothing past the beginning of an open transaction, so the reading waits for each that had begun.
//! Most take a moment. That of a process that was killed stays open until another producer is opened with the same
//! `transactional.id`, or until the brokers' timeout: the reading opens one, see [`Progress::HeldUp`].

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
    /// A transaction of this `transactional.id` has been open for too long.
    HeldUp(String),
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

    /// Reads to the end, and returns what `look` finds. An open transaction is aborted after a while.
    ///
    /// # Errors
    /// `Stop` where the user may not read the topic, or an entry is broken; `Retry` where the brokers do not answer.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl Fn(&Ledger) -> T + Send + Sync + 'static,
    ) -> Result<T, SinkError> {
        let look = Arc::new(look);
        let mut patience = PATIENCE;
        for _ in 0..MOST {
            let (reader, look) = (self.clone(), look.clone());
            let reading = tokio::task::spawn_blocking(move || reader.catch_up(patience, &*look));
            match reading.await.unwrap_or_else(|_| Err(unasked()))? {
                Progress::Read(found) => return Ok(found),
                Progress::HeldUp(id) => {
                    tracing::info!(sink = self.sink, id, "aborting a transaction that holds up the ledger topic");
                    drop(Transactional::open(&self.settings, &id).await?);
                    patience = LESS_PATIENCE;
                }
            }
        }
        Err(SinkError::Retry(format!("{MOST} transactions hold up the ledger topic {:?}", self.topic)))
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
            if let Some(stable) = self.wait_for(&clients.committed, goal, patience)? {
                return self.holder(&clients.any, stable).map(Progress::HeldUp);
            }
            self.take(&clients.committed, next, ledger)?;
            *end = goal;
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
        self.records(client, offset, |at, key, _| {
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

    fn take(&self, client: &BaseConsumer<Context>, next: &mut i64, ledger: &mut Ledger) -> Result<(), SinkError> {
        let from = *next;
        self.records(client, from, |at, key, value| {
            ledger.take(&self.sink, key, value)?;
            *next = at + 1;
            Ok(true)
        })
    }

    /// Passes records to `each` from an offset on, to the end or until it returns false.
    fn records(
        &self,
        client: &BaseConsumer<Context>,
        from: i64,
        mut each: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<bool, SinkError>,
    ) -> Result<(), SinkError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(from)).map_err(|error| self.error(&error))?;
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
                    Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
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
