//! What librdkafka reports while it is polled. Nothing here blocks or decides: it is noted, and the consumer's thread
//! takes it from here.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::claimed::Claimed;
use super::client;
use crate::config::KafkaClient;
use crate::source::TopicPartition;
use crate::source::lease::{Lease, Leases};

/// How long to wait for a piece of news.
const REST: Duration = Duration::from_millis(200);
/// The most news to hear at once.
const NEWS: usize = 10;

/// Something the consumer's thread has to see to.
#[derive(Debug)]
pub(super) enum Event {
    /// The group gave these partitions to this process.
    Assigned(Vec<TopicPartition>),
    /// The group takes these back, and waits until they are let go of.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// Under which something may be published for them.
        leases: Vec<Lease>,
        /// The group has given them away already.
        lost: bool,
    },
}

/// What the clients of one source have noted.
#[derive(Debug, Default)]
pub(super) struct Noted {
    events: Mutex<VecDeque<Event>>,
    failure: Mutex<Option<anyhow::Error>>,
    /// The last trouble with a connection: told with the news that no broker can be reached.
    trouble: Mutex<String>,
    away: AtomicBool,
    /// Whether it has been told that no broker can be reached.
    told: AtomicBool,
    closing: AtomicBool,
    /// What the group has given to this process.
    pub(super) leases: Leases,
    /// What has been claimed.
    pub(super) claimed: Claimed,
}

impl Noted {
    /// Nothing yet, of a group whose sessions last this long.
    pub(super) fn lasting(session: Duration) -> Self {
        Self { leases: Leases::lasting(session), ..Self::default() }
    }

    /// The next event.
    pub(super) fn next(&self) -> Option<Event> {
        lock(&self.events).pop_front()
    }

    /// What does not pass by itself.
    pub(super) fn failure(&self) -> Option<anyhow::Error> {
        lock(&self.failure).take()
    }

    /// Whether no broker can be reached.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether it has been told that no broker can be reached.
    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// A broker has answered.
    pub(super) fn answered(&self, client: &KafkaClient) {
        if self.is_away() && self.away.swap(false, Ordering::Relaxed) && self.told.swap(false, Ordering::Relaxed) {
            lock(&self.trouble).clear();
            tracing::info!(brokers = client.brokers.shown(), "Kafka can be reached again");
        }
    }

    /// The client ends: from now on a revocation is agreed to at once, and an error is no news.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Says that no broker can be reached, once, and why: the cause may come before or after that news.
    fn tell_away(&self, brokers: &str) {
        let cause = lock(&self.trouble).clone();
        if self.is_away() && !cause.is_empty() && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                brokers,
                cause,
                "Kafka cannot be reached: is it running, and is `brokers` right? Waiting for it"
            );
        }
    }

    fn note(&self, event: Event) {
        lock(&self.events).push_back(event);
    }

    /// Keeps the first failure that does not pass by itself.
    pub(super) fn fail(&self, failure: anyhow::Error) {
        lock(&self.failure).get_or_insert(failure);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context of a consumer.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) client: KafkaClient,
    pub(super) noted: Arc<Noted>,
    /// Whether it needs the group. Others look for the coordinator all the same, and do without.
    pub(super) member: bool,
    /// The text of the last end of a partition that this client has reached.
    end: Mutex<String>,
}

impl Context {
    pub(super) fn new(client: KafkaClient, noted: Arc<Noted>, member: bool) -> Self {
        Self { client, noted, member, end: Mutex::default() }
    }

    /// The offset of the end that was reached last.
    pub(super) fn end_offset(&self) -> Option<u64> {
        client::end_offset(&lock(&self.end))
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if self.noted.closing.load(Ordering::Acquire) {
            return;
        }
        let code = client::meaning(code, reason);
        let brokers = self.client.brokers.shown();
        match code {
            RDKafkaErrorCode::PartitionEOF => reason.clone_into(&mut lock(&self.end)),
            RDKafkaErrorCode::AllBrokersDown => {
                self.noted.away.store(true, Ordering::Relaxed);
                self.noted.tell_away(brokers);
            }
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut => {
                reason.clone_into(&mut lock(&self.noted.trouble));
                self.noted.tell_away(brokers);
            }
            RDKafkaErrorCode::UnknownTopicOrPartition => {
                tracing::warn!(
                    brokers,
                    cause = reason,
                    "a topic is missing: create it, or correct `topics`; waiting for it"
                );
            }
            // The token may be replaced in a moment, and the old one may still serve.
            RDKafkaErrorCode::Authentication if reason.contains("Failed to acquire SASL OAUTHBEARER token") => {
                tracing::warn!(brokers, cause = reason, "there is no fresh token; trying again");
            }
            // Comes with the partition by another way, and is seen to there.
            RDKafkaErrorCode::AutoOffsetReset => {}
            RDKafkaErrorCode::GroupAuthorizationFailed if !self.member => {}
            _ => match client::remedy(code) {
                Some(remedy) => self.noted.fail(anyhow!("Kafka ({brokers}): {reason}; {remedy}")),
                None => tracing::warn!(brokers, cause = reason, "the Kafka client reports an error; it goes on"),
            },
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        client::token(&self.client)
    }
}

impl ConsumerContext for Context {
    /// librdkafka is never given the partitions themselves: this client is the group's member, and another one
    /// fetches. So an assignment is agreed to at once, and a revocation when the lanes have let go.
    fn rebalance(&self, member: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let partitions = listed(partitions);
            self.noted.leases.begin(&partitions);
            self.noted.note(Event::Assigned(partitions));
            let nothing = TopicPartitionList::new();
            let agreed = match member.rebalance_protocol() {
                RebalanceProtocol::Cooperative => member.incremental_assign(&nothing),
                RebalanceProtocol::Eager | RebalanceProtocol::None => member.assign(&nothing),
            };
            if let Err(error) = agreed {
                self.noted.fail(anyhow!("the Kafka client does not take its assignment: {error}; please report this"));
            }
        } else {
            let partitions = listed(partitions);
            // The lanes see it at once, whatever the source's thread is at.
            let leases = self.noted.leases.end(&partitions);
            self.noted.note(Event::Revoked { partitions, leases, lost: member.assignment_lost() });
            if self.noted.closing.load(Ordering::Acquire) {
                let_go(member);
            }
        }
    }
}

/// Hears what the client has to say: what does not pass by itself, if that is among it. A request that fails says no more
/// than that the connection was closed; why the broker closed it is news, and a poll brings one piece of it.
pub(super) fn hear(consumer: &BaseConsumer<Context>, noted: &Noted) -> Option<anyhow::Error> {
    for _ in 0..NEWS {
        if consumer.poll(REST).is_none() {
            break;
        }
    }
    noted.failure()
}

/// Agrees to a revocation.
pub(super) fn let_go(member: &BaseConsumer<Context>) {
    let agreed = match member.rebalance_protocol() {
        RebalanceProtocol::Cooperative => member.incremental_unassign(&TopicPartitionList::new()),
        RebalanceProtocol::Eager | RebalanceProtocol::None => member.unassign(),
    };
    if let Err(error) = agreed {
        tracing::debug!("the Kafka client does not let go of its partitions: {error}");
    }
}

fn listed(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .filter_map(|element| {
            Some(TopicPartition { topic: element.topic().into(), partition: u32::try_from(element.partition()).ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Text;

    #[test]
    fn the_end_of_a_partition_is_read_from_the_text_of_its_event() {
        let client = KafkaClient { brokers: Text::plain("a:9092"), tls: None, sasl: None, properties: BTreeMap::new() };
        let context = Context::new(client, Arc::default(), false);
        assert_eq!(context.end_offset(), None);
        *lock(&context.end) = "Fetch from broker 1 reached end of partition at offset 42 (HighwaterMark 43)".into();
        assert_eq!(context.end_offset(), Some(42));
    }
}
