//! A producer of transactions. Of those with one `transactional.id` the one that was opened last can write, and what an
//! earlier one had left open is aborted by that, or committed where the commit had begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;
use tokio::runtime::Handle;

use super::unasked;
use crate::config::KafkaClient;
use crate::sink::SinkError;
use crate::sink::kafka::failure::Failure;
use crate::sink::kafka::producer::{self, Context, Inner, Outgoing};
use crate::source::Lease;
use crate::source::kafka::client;

/// How long the brokers leave a transaction open whose process is gone. Longer than `message.timeout.ms`, so that a message
/// fails first.
const OPEN: Duration = Duration::from_secs(30);
/// How much longer a transaction may take than its messages.
const MARGIN: Duration = Duration::from_secs(10);
/// How long the brokers may take to begin or end one.
const WITHIN: Duration = Duration::from_secs(15);

/// The producer.
pub(super) struct Transactional {
    inner: Option<Arc<Inner>>,
    /// Whether the brokers have refused a message. librdkafka does not use its sequence number again, so the brokers refuse
    /// the next transaction as well. After that librdkafka starts over.
    skipped: AtomicBool,
    /// Where it is dropped: whoever lets go of it may be on a thread of their own.
    runtime: Handle,
}

/// Why a transaction has not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// Another producer with the same `transactional.id` was opened.
    Fenced,
    /// It may pass, or not. What came of a commit is not known.
    Failed(SinkError),
}

impl Transactional {
    /// Opens a producer. That fences all earlier ones of this `transactional.id`.
    ///
    /// # Errors
    /// `Stop` where the brokers refuse it, `Retry` where they do not answer.
    pub(super) async fn open(settings: &KafkaClient, id: &str) -> Result<Self, SinkError> {
        let (settings, id) = (settings.clone(), id.to_owned());
        let runtime = Handle::current();
        let opened = tokio::task::spawn_blocking(move || {
            let inner = Some(Arc::new(connect(&settings, &id)?));
            let opened = Self { inner, skipped: AtomicBool::new(false), runtime };
            opened.inner().and_then(|inner| {
                inner.init_transactions(WITHIN).map_err(|error| trouble(inner.client().context(), &error))
            })?;
            Ok(opened)
        });
        opened.await.unwrap_or_else(|_| Err(unasked()))
    }

    fn inner(&self) -> Result<&Arc<Inner>, SinkError> {
        self.inner.as_ref().ok_or_else(unasked)
    }

    /// Whether it is still open.
    #[cfg(test)]
    pub(super) fn watch(&self) -> std::sync::Weak<Inner> {
        self.inner.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> Result<(), Broken> {
        let inner = self.inner().map_err(Broken::Failed)?;
        inner.begin_transaction().map_err(|error| broken(inner, &error))
    }

    /// Sends messages within the transaction and waits until each is acknowledged or has failed. Returns those that failed,
    /// with their places, in order.
    pub(super) async fn send<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = Outgoing<'a>> + Send,
    ) -> Result<Vec<(usize, Failure)>, Broken> {
        let inner = self.inner().map_err(Broken::Failed)?;
        // No lease is needed: the commit fails where another process has the partition.
        let failed = producer::hand_on(inner, messages, &Lease::default()).await;
        if failed.is_empty() {
            return Ok(Vec::new());
        }
        if let Some((code, _)) = inner.client().fatal_error()
            && is_fenced(code)
        {
            return Err(Broken::Fenced);
        }
        let context = inner.client().context();
        let last = context.last();
        let denied = denied(inner);
        let failure = |code| match &denied {
            Some(cause) if matches!(code, Code::PurgeQueue | Code::PurgeInflight) => {
                Failure::denied(cause.clone(), context.refused())
            }
            _ => Failure::new(code, last.as_ref()),
        };
        let failed: Vec<_> = failed.into_iter().map(|(place, code)| (place, failure(code))).collect();
        if failed.iter().any(|(_, failure)| failure.is_of_message()) {
            self.skipped.store(true, Ordering::Relaxed);
        }
        Ok(failed)
    }

    /// Whether a failure may follow from a message that was refused before. True once for each.
    pub(super) fn has_skipped(&self) -> bool {
        self.skipped.swap(false, Ordering::Relaxed)
    }

    /// Commits the transaction, all of whose messages are acknowledged.
    pub(super) async fn commit(&self) -> Result<(), Broken> {
        self.end(|inner| {
            // With a delivery report outstanding, the commit would wait for a tenth of a second.
            while inner.in_flight_count() > 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
            inner.commit_transaction(WITHIN)
        })
        .await
    }

    /// Aborts the transaction.
    pub(super) async fn abort(&self) -> Result<(), Broken> {
        self.end(|inner| inner.abort_transaction(WITHIN)).await
    }

    /// Aborts the transaction for this error, and returns it. Where the brokers have not let the transaction begin, they do not
    /// let it be aborted either: that error says less than why.
    pub(super) async fn abort_for(&self, why: SinkError) -> Result<SinkError, Broken> {
        match (self.abort().await, why) {
            (Ok(()), why) => Ok(why),
            (Err(Broken::Failed(_)), SinkError::Stop(why)) => Err(Broken::Failed(SinkError::Stop(why))),
            (Err(broken), _) => Err(broken),
        }
    }

    async fn end(&self, end: impl FnOnce(&Inner) -> Result<(), KafkaError> + Send + 'static) -> Result<(), Broken> {
        let inner = self.inner().map_err(Broken::Failed)?.clone();
        let ended = tokio::task::spawn_blocking(move || {
            let ended = end(&inner).map_err(|error| broken(&inner, &error));
            if ended.is_ok() {
                inner.client().context().clear();
            }
            ended
        });
        ended.await.unwrap_or_else(|_| Err(Broken::Failed(unasked())))
    }
}

/// On a blocking thread: the producer's own threads take a moment to end.
impl Drop for Transactional {
    fn drop(&mut self) {
        let inner = self.inner.take();
        drop(self.runtime.spawn_blocking(move || drop(inner)));
    }
}

fn connect(settings: &KafkaClient, id: &str) -> Result<Inner, SinkError> {
    let stop = |error: anyhow::Error| SinkError::Stop(format!("{error:#}"));
    client::check_token(settings).map_err(stop)?;
    let mut config = client::client_config(settings);
    for (name, value) in producer::DEFAULTS {
        if !settings.properties.contains_key(name) {
            config.set(name, value);
        }
    }
    if !settings.properties.contains_key(TIMEOUT_NAME) {
        config.set(TIMEOUT_NAME, timeout(settings).as_millis().to_string());
    }
    config.set("enable.idempotence", "true").set("acks", "all").set("transactional.id", id);
    config.create_with_context(Context::of(settings)).map_err(|error| stop(client::refused(settings, &error)))
}

const TIMEOUT_NAME: &str = "transaction.timeout.ms";

/// How long a transaction may be open: longer than its messages and requests may take.
fn timeout(settings: &KafkaClient) -> Duration {
    let set = |name: &str| settings.properties.get(name).and_then(|set| set.as_str().parse().ok());
    let waits = ["message.timeout.ms", "delivery.timeout.ms", "socket.timeout.ms"].iter().filter_map(|name| set(name));
    waits.map(|wait| Duration::from_millis(wait) + MARGIN).fold(OPEN, Duration::max)
}

/// Why the brokers let no partition into the transaction, where the user may not write there. Its messages are purged then,
/// and do not say. What broke a transaction is what librdkafka answers to one that is begun in its place.
fn denied(inner: &Inner) -> Option<String> {
    let error = inner.begin_transaction().err()?;
    let is_denied = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
        )
    );
    is_denied.then(|| error.to_string())
}

fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping)
}

fn broken(inner: &Inner, error: &KafkaError) -> Broken {
    let fatal = inner.client().fatal_error().map(|(code, _)| code);
    if fatal.or(error.rdkafka_error_code()).is_some_and(is_fenced) {
        return Broken::Fenced;
    }
    Broken::Failed(trouble(inner.client().context(), error))
}

/// The error of a call that begins or ends a transaction; `Stop` where only the operator can help.
fn trouble(context: &Context, error: &KafkaError) -> SinkError {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    // What merely took too long is explained by what the client has told of its connection.
    let told = context.last().filter(|_| !is_final(code));
    let (code, cause) = told.map_or_else(|| (code, error.to_string()), |(why, told)| (why, format!("{error}: {told}")));
    let remedy = match code {
        Code::InvalidTransactionTimeout => {
            "the brokers allow no transaction that long: lower `transaction.timeout.ms` among the sink's `properties`, \
             or raise the brokers' transaction.max.timeout.ms"
        }
        Code::TransactionalIdAuthorizationFailed => {
            "allow this user to Write and Describe the transactional ids that begin with the ledger topic's name"
        }
        Code::ClusterAuthorizationFailed | Code::TopicAuthorizationFailed => {
            "allow this user to Write and Describe the topics and the ledger topic"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => "transactions need brokers of Kafka 2.5 or later",
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => "correct `sasl` and `tls`",
        _ => {
            return SinkError::Retry(format!(
                "no transaction: {cause}. The brokers may lack the replicas of __transaction_state \
                 (transaction.state.log.replication.factor, transaction.state.log.min.isr)"
            ));
        }
    };
    SinkError::Stop(format!("no transaction: {cause}: {remedy}"))
}

fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidTransactionTimeout
            | Code::TransactionalIdAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::kafka::testing::reached_at;

    #[test]
    fn transaction_outlasts_what_it_waits_for() {
        assert_eq!(timeout(&reached_at("b:1", &[])), OPEN);
        assert_eq!(timeout(&reached_at("b:1", &[("message.timeout.ms", "60000")])), Duration::from_secs(70));
        for set in ["message.timeout.ms", "socket.timeout.ms", TIMEOUT_NAME] {
            assert!(connect(&reached_at("127.0.0.1:1", &[(set, "60000")]), "tidegate:test").is_ok(), "{set}");
        }
    }
}
