//! A producer whose messages are acknowledged by every replica that is in sync, and not written twice by its own
//! retries. Sinks and dead letters of one cluster share it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::sync::Notify;

pub(super) use super::context::Context;
use super::failure::Failure;
use crate::config::KafkaClient;
use crate::sink::{SinkError, blocking};
use crate::source::kafka::{client, metadata};
use crate::source::{self, Holds, Lease, Publishing};

/// How long a message may take, where nothing else is said.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// The property that says it.
pub(super) const MESSAGE_TIMEOUT_NAME: &str = "message.timeout.ms";

/// What is set where the configuration does not say otherwise.
pub(super) const DEFAULTS: [(&str, &str); 6] = [
    // What a lane sends comes at once, and gathers while the batch before is on its way. Measured: any wait makes a
    // message that is alone take 1.5 ms instead of 0.2, and nothing faster.
    ("linger.ms", "0"),
    // After this a message has failed, and whoever sent it decides what to do. It bounds how late a message of an
    // owner that lost its partition can come.
    (MESSAGE_TIMEOUT_NAME, "20000"),
    // How long a topic may be unknown before its messages fail.
    ("topic.metadata.propagation.max.ms", "5000"),
    // The broker says what is too large for it; this is what fits into its largest request (socket.request.max.bytes).
    ("message.max.bytes", "100000000"),
    // As Kafka's own clients spread keys over partitions.
    ("partitioner", "murmur2_random"),
    ("allow.auto.create.topics", "false"),
];

/// How long a broker may take to tell what topics it has.
const METADATA_WITHIN: Duration = Duration::from_secs(10);
/// How soon they are asked again for a topic that they do not know.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long to wait before trying again when the queue is full.
const FULL: Duration = Duration::from_millis(2);

/// What to ask where no broker answers and librdkafka knows no cause.
pub(super) const SILENT: &str = "is it running, and does it ask for `tls`?";

/// A message to send.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// The key; messages of one key stay in order.
    pub(crate) key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// The headers.
    pub(crate) headers: OwnedHeaders,
}

/// The producer.
pub(crate) struct Producer {
    settings: KafkaClient,
    /// Each is made anew after an error that an idempotent producer cannot get over.
    together: Mutex<Option<Arc<Inner>>>,
    alone: Mutex<Option<Arc<Inner>>>,
}

/// Which messages may share a batch. A broker takes or refuses a batch as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batches {
    /// As they come, those of other senders too.
    Together,
    /// None.
    Alone,
}

pub(super) type Inner = ThreadedProducer<Context>;

/// Those that are in use, for sinks and dead letters with equal settings.
static IN_USE: Mutex<Vec<Weak<Producer>>> = Mutex::new(Vec::new());

impl Producer {
    /// The producer for these settings: one that is in use, or a new one. It connects by itself.
    ///
    /// # Errors
    /// When librdkafka does not take a property.
    pub(crate) fn shared(settings: &KafkaClient) -> Result<Arc<Self>, SinkError> {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|producer| producer.strong_count() > 0);
        if let Some(known) = in_use.iter().filter_map(Weak::upgrade).find(|known| known.settings == *settings) {
            return Ok(known);
        }
        let producer =
            Arc::new(Self { settings: settings.clone(), together: Mutex::default(), alone: Mutex::default() });
        producer.inner(Batches::Together)?;
        in_use.push(Arc::downgrade(&producer));
        Ok(producer)
    }

    /// Sends messages in order and waits until each is acknowledged or has failed. Answers those that failed, by their
    /// place, rising. Messages of one topic and key that come after a failed one may have been acknowledged. A failure
    /// that is of the message may be of another one that went along with it; [`Producer::send_alone`] tells. From when
    /// the lease does not hold, no message is handed on: those that are left have failed. It counts as publishing until each
    /// message that was handed on is acknowledged or has failed, also where the caller does not wait for that.
    ///
    /// # Errors
    /// When no producer can be made any more.
    pub(crate) async fn send<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = Outgoing<'a>> + Send,
        lease: &Lease,
    ) -> Result<Vec<(usize, Failure)>, SinkError> {
        self.send_in(Batches::Together, messages, lease).await
    }

    /// Sends a message in a batch of its own.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub(crate) async fn send_alone(
        &self,
        message: Outgoing<'_>,
        lease: &Lease,
    ) -> Result<Result<(), Failure>, SinkError> {
        let failed = self.send_in(Batches::Alone, [message].into_iter(), lease).await?.pop();
        Ok(failed.map_or(Ok(()), |(_, failure)| Err(failure)))
    }

    async fn send_in<'a>(
        &self,
        batches: Batches,
        messages: impl ExactSizeIterator<Item = Outgoing<'a>> + Send,
        lease: &Lease,
    ) -> Result<Vec<(usize, Failure)>, SinkError> {
        let inner = self.inner(batches)?;
        let failed = hand_on(&inner, messages, lease).await;
        let context = inner.client().context();
        if failed.is_empty() {
            context.clear();
            return Ok(Vec::new());
        }
        let fatal = inner.client().fatal_error();
        if fatal.is_some() {
            self.discard(batches, &inner);
        }
        let last = context.last();
        let failure = |code| match &fatal {
            Some(fatal) => Failure::fatal(code, fatal),
            None => Failure::new(code, last.as_ref()),
        };
        Ok(failed.into_iter().map(|(place, code)| (place, failure(code))).collect())
    }

    /// What is wrong with topics as places to publish to: one line each, with the remedy.
    ///
    /// # Errors
    /// `Retry` when no broker answers, `Stop` when it does not know who this is.
    pub(crate) fn inspect<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, SinkError> {
        let mut findings = Vec::new();
        for topic in topics {
            let Err(code) = self.partitions(topic)? else { continue };
            match Failure::new(code, None).about(topic) {
                SinkError::Stop(finding) => findings.push(finding),
                passing @ SinkError::Retry(_) => return Err(passing),
            }
        }
        Ok(findings)
    }

    /// How many partitions a topic has, or what is wrong with it.
    ///
    /// # Errors
    /// As [`Producer::inspect`].
    pub(super) fn partitions(&self, topic: &str) -> Result<Result<usize, RDKafkaErrorCode>, SinkError> {
        let inner = self.inner(Batches::Together)?;
        // The brokers may be asked anew after a topic was made, and answer by what they knew before.
        blocking(|| look_up(inner.client(), topic)).map_err(|error| {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            let last = inner.client().context().last().unwrap_or_else(|| (code, SILENT.to_owned()));
            Failure::new(code, Some(&last)).about(topic)
        })
    }

    fn slot(&self, batches: Batches) -> std::sync::MutexGuard<'_, Option<Arc<Inner>>> {
        let slot = if batches == Batches::Together { &self.together } else { &self.alone };
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self, batches: Batches) -> Result<Arc<Inner>, SinkError> {
        let mut slot = self.slot(batches);
        if let Some(inner) = &*slot {
            return Ok(inner.clone());
        }
        Ok(slot.insert(Arc::new(connect(&self.settings, batches)?)).clone())
    }

    /// Has the next message make another one, if no message has yet.
    fn discard(&self, batches: Batches, broken: &Arc<Inner>) {
        let mut slot = self.slot(batches);
        if slot.as_ref().is_some_and(|inner| Arc::ptr_eq(inner, broken)) {
            *slot = None;
        }
    }
}

/// Hands messages on in order, and waits until each is acknowledged or has failed. Answers those that failed, by their
/// place, rising.
pub(super) async fn hand_on<'a>(
    inner: &Inner,
    messages: impl ExactSizeIterator<Item = Outgoing<'a>> + Send,
    lease: &Lease,
) -> Vec<(usize, RDKafkaErrorCode)> {
    let publishing = lease.publish().ok();
    let may_publish = publishing.is_some();
    let receipts = Arc::new(Receipts::new(messages.len(), publishing));
    for (place, message) in messages.enumerate() {
        let receipt = Box::new(Receipt { of: receipts.clone(), place });
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(message.topic, receipt);
        (record.key, record.payload, record.headers) = (message.key, message.value, Some(message.headers));
        loop {
            if !may_publish || lease.holds() != Holds::Yes {
                receipts.enter(place, Some(RDKafkaErrorCode::PurgeQueue));
                break;
            }
            let (error, unsent) = match inner.send(record) {
                Ok(()) => break,
                Err(refused) => refused,
            };
            let code = error.rdkafka_error_code();
            if code != Some(RDKafkaErrorCode::QueueFull) {
                receipts.enter(place, Some(code.unwrap_or(RDKafkaErrorCode::InvalidArgument)));
                break;
            }
            record = unsent;
            tokio::time::sleep(FULL).await;
        }
    }
    receipts.wait().await
}

fn connect(settings: &KafkaClient, batches: Batches) -> Result<Inner, SinkError> {
    let stop = |error: anyhow::Error| SinkError::Stop(format!("{error:#}"));
    client::check_token(settings).map_err(stop)?;
    let mut config = client::client_config(settings);
    for (name, value) in DEFAULTS {
        if !settings.properties.contains_key(name) {
            config.set(name, value);
        }
    }
    if batches == Batches::Alone {
        config.set("batch.num.messages", "1");
    }
    config.set("enable.idempotence", "true").set("acks", "all");
    config.create_with_context(Context::of(settings)).map_err(|error| stop(client::refused(settings, &error)))
}

/// Headers as librdkafka takes them.
pub(crate) fn headers_of(headers: &[source::Header]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len() + 1), |owned, header| {
        owned.insert(Header { key: &header.name, value: header.value.as_ref() })
    })
}

/// How many partitions a topic has, or what is wrong with it. That there is none is said when the brokers have said so
/// several times.
fn look_up(client: &Client<Context>, topic: &str) -> KafkaResult<Result<usize, RDKafkaErrorCode>> {
    let mut tries = 0;
    loop {
        let found = client.fetch_metadata(Some(topic), METADATA_WITHIN)?;
        let error = match metadata::partitions(&found, topic) {
            Ok(partitions) => return Ok(Ok(partitions.len())),
            Err(error) => error,
        };
        let code = error.rdkafka_error_code();
        tries += 1;
        if !metadata::is_unknown(code) || tries >= metadata::CONFIRMED {
            return Ok(Err(code.unwrap_or(RDKafkaErrorCode::Unknown)));
        }
        thread::sleep(ASK_AGAIN);
    }
}

/// Whose fate a message's is.
#[derive(Debug)]
pub(super) struct Receipt {
    of: Arc<Receipts>,
    place: usize,
}

impl Receipt {
    pub(super) fn enter(&self, failed: Option<RDKafkaErrorCode>) {
        self.of.enter(self.place, failed);
    }
}

/// What became of messages that were sent together.
#[derive(Debug)]
struct Receipts {
    /// How many are still on their way, and those that failed.
    state: Mutex<(usize, Vec<(usize, RDKafkaErrorCode)>)>,
    done: Notify,
    /// Whoever waits for them may give up while they are on their way. The source lets go of their partition after them.
    _publishing: Option<Publishing>,
}

impl Receipts {
    fn new(messages: usize, publishing: Option<Publishing>) -> Self {
        Self { state: Mutex::new((messages, Vec::new())), done: Notify::new(), _publishing: publishing }
    }

    fn enter(&self, place: usize, failed: Option<RDKafkaErrorCode>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        state.1.extend(failed.map(|code| (place, code)));
        if state.0 == 0 {
            self.done.notify_one();
        }
    }

    async fn wait(&self) -> Vec<(usize, RDKafkaErrorCode)> {
        loop {
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.0 == 0 {
                    state.1.sort_unstable_by_key(|(place, _)| *place);
                    return std::mem::take(&mut state.1);
                }
            }
            self.done.notified().await;
        }
    }
}
