//! A producer whose messages are acknowledged by every replica that is in sync, and not written twice by its own
//! retries. Sinks and dead letters of one cluster share it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use super::client::client_config;
use super::failure::Failure;
use crate::config::KafkaClient;
use crate::sink::{SinkError, blocking};

/// What is set where the configuration does not say otherwise.
const DEFAULTS: [(&str, &str); 6] = [
    // What a lane sends comes at once: a longer wait would gather nothing more, and each batch would pay for it.
    ("linger.ms", "0.5"),
    // After this a message has failed, and whoever sent it decides what to do. It bounds how late a message of an
    // owner that lost its partition can come.
    ("message.timeout.ms", "20000"),
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
/// How long to wait before trying again when the queue is full.
const FULL: Duration = Duration::from_millis(2);

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
    /// Another one after an error that the idempotent producer cannot get over.
    inner: Mutex<Arc<Inner>>,
}

type Inner = ThreadedProducer<Context>;

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
        let inner = Mutex::new(Arc::new(connect(settings)?));
        let producer = Arc::new(Self { settings: settings.clone(), inner });
        in_use.push(Arc::downgrade(&producer));
        Ok(producer)
    }

    /// Sends messages in order and waits until each is acknowledged or has failed. Answers those that failed, by their
    /// place, rising. Messages of one topic and key that come after a failed one may have been acknowledged.
    pub(crate) async fn send<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = Outgoing<'a>> + Send,
    ) -> Vec<(usize, Failure)> {
        let inner = self.inner();
        let receipts = Arc::new(Receipts::new(messages.len()));
        for (place, message) in messages.enumerate() {
            let receipt = Box::new(Receipt { of: receipts.clone(), place });
            let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(message.topic, receipt);
            (record.key, record.payload, record.headers) = (message.key, message.value, Some(message.headers));
            loop {
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
        let failed = receipts.wait().await;
        let context = inner.client().context();
        if failed.is_empty() {
            context.clear();
            return Vec::new();
        }
        let fatal = inner.client().fatal_error();
        if fatal.is_some() {
            self.replace(&inner);
        }
        let last = context.last();
        let failure = |code| match &fatal {
            Some((_, cause)) => Failure::fatal(code, cause),
            None => Failure::new(code, last.as_ref()),
        };
        failed.into_iter().map(|(place, code)| (place, failure(code))).collect()
    }

    /// What is wrong with topics as places to publish to: one line each, with the remedy.
    ///
    /// # Errors
    /// `Retry` when no broker answers, `Stop` when it does not know who this is.
    pub(crate) fn inspect<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, SinkError> {
        let inner = self.inner();
        let mut findings = Vec::new();
        for topic in topics {
            // The brokers may be asked anew after a topic was made, and answer by what they knew before.
            let found = blocking(|| look_up(inner.client(), topic));
            let code = match found {
                Ok(None) => continue,
                Ok(Some(code)) => code,
                Err(error) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    return Err(Failure::new(code, inner.client().context().last().as_ref()).about(topic));
                }
            };
            match Failure::new(code, None).about(topic) {
                SinkError::Stop(finding) => findings.push(finding),
                passing @ SinkError::Retry(_) => return Err(passing),
            }
        }
        Ok(findings)
    }

    fn inner(&self) -> Arc<Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new one in the place of a broken one, if nobody has yet.
    fn replace(&self, broken: &Arc<Inner>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&inner, broken) {
            return;
        }
        match connect(&self.settings) {
            Ok(new) => *inner = Arc::new(new),
            // The same settings were good before; the next failure tries again.
            Err(error) => tracing::error!("a Kafka producer cannot be made anew: {error}"),
        }
    }
}

fn connect(settings: &KafkaClient) -> Result<Inner, SinkError> {
    let mut config = client_config(settings);
    for (name, value) in DEFAULTS {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config.set("enable.idempotence", "true").set("acks", "all");
    config.create_with_context(Context::default()).map_err(|error| {
        let cause = match error {
            // The value may be a secret.
            KafkaError::ClientConfig(_, cause, name, _) => format!("`{name}`: {cause}"),
            other => other.to_string(),
        };
        SinkError::Stop(format!(
            "librdkafka does not take the settings: {cause}; correct the block or its `properties`"
        ))
    })
}

/// What is wrong with a topic.
fn look_up(client: &Client<Context>, topic: &str) -> KafkaResult<Option<RDKafkaErrorCode>> {
    let metadata = client.fetch_metadata(Some(topic), METADATA_WITHIN)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(match found {
        None => Some(RDKafkaErrorCode::UnknownTopicOrPartition),
        Some(found) => found.error().map(RDKafkaErrorCode::from),
    })
}

/// What librdkafka tells beside the messages' fate.
#[derive(Debug, Default)]
pub(super) struct Context {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Context {
    fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn clear(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes back as an error; this is for those who look for its cause.
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down says less than why one is.
        if last.is_none() || code != RDKafkaErrorCode::AllBrokersDown {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Receipt>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Box<Receipt>) {
        let failed = result.as_ref().err().map(|(error, _)| error.rdkafka_error_code());
        receipt.of.enter(receipt.place, failed.map(|code| code.unwrap_or(RDKafkaErrorCode::Unknown)));
    }
}

/// Whose fate a message's is.
#[derive(Debug)]
pub(super) struct Receipt {
    of: Arc<Receipts>,
    place: usize,
}

/// What became of messages that were sent together.
#[derive(Debug)]
struct Receipts {
    /// How many are still on their way, and those that failed.
    state: Mutex<(usize, Vec<(usize, RDKafkaErrorCode)>)>,
    done: Notify,
}

impl Receipts {
    fn new(messages: usize) -> Self {
        Self { state: Mutex::new((messages, Vec::new())), done: Notify::new() }
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
