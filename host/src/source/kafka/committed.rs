//! Reads what the group has committed, before any partition is claimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::{Context, Noted, hear};
use super::metadata;
use super::prove::{answered, code};
use super::{KafkaSource, client};
use crate::source::topics::Topics;

const PATIENCE: Duration = Duration::from_secs(5);
/// How often a group may have no coordinator before that is told: a cluster that has just come up has none for a second
/// or two. Each try takes a fifth of a second at least.
const COMING_UP: u32 = 10;

impl KafkaSource {
    /// The metadata of the group's commits of this pipeline's topics, as [`crate::source::Control::Durable`] gave it;
    /// commits without metadata are left out. Waits while the cluster is away, unless `stop` is set: then there is
    /// nothing.
    ///
    /// # Errors
    /// When the cluster refuses this client; the text names the remedy.
    pub fn committed(&self, stop: &AtomicBool) -> anyhow::Result<Vec<String>> {
        let noted = Arc::new(Noted::default());
        let consumer = self.create(&self.consumer(), &noted, true)?;
        let topics = Topics::new(&self.topics).map_err(|cause| anyhow!("`topics`: {cause}"))?;
        let brokers = self.config.client.brokers.shown();
        let (mut failures, mut missing, mut told) = (0_u32, 0_u32, false);
        while !stop.load(Ordering::Relaxed) {
            // Also gives the client its token.
            if let Some(failure) = hear(&consumer, &noted) {
                return Err(failure);
            }
            match read(&consumer, &topics, missing >= metadata::CONFIRMED) {
                Ok(metadata) => {
                    noted.answered(&self.config.client);
                    // What the client still has to say is of the time before.
                    noted.close();
                    return Ok(metadata);
                }
                Err(failure) => {
                    if let Some(remedy) = code(&failure).and_then(client::remedy) {
                        return Err(failure.context(format!("Kafka ({brokers}): {remedy}")));
                    }
                    // With a topic that is there what a ledger's loss is known by would be passed over.
                    if metadata::is_unknown(code(&failure)) && missing < metadata::CONFIRMED {
                        missing += 1;
                        continue;
                    }
                    failures += 1;
                    // That no broker can be reached is told by itself, and the first failure may be a connection that
                    // is still being made.
                    let passing = if is_of_coordinator(&failure) { COMING_UP } else { 1 };
                    if failures > passing && !told && !noted.is_away() && !is_of_connection(&failure) {
                        tracing::warn!(brokers, "cannot read the group's commits yet: {failure:#}; trying again");
                        told = true;
                    }
                    // That a broker hangs up at once is no error to librdkafka, so that no cause is known.
                    if failures > 3 && !told && !noted.is_told() && is_of_connection(&failure) {
                        tracing::warn!(
                            brokers,
                            "Kafka hangs up before it answers: does it ask for `tls`? Trying again"
                        );
                        told = true;
                    }
                }
            }
        }
        Ok(Vec::new())
    }
}

/// Whether a broker could not be reached, rather than that it had no answer.
fn is_of_connection(failure: &anyhow::Error) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
    matches!(code(failure), Some(AllBrokersDown | BrokerTransportFailure | Resolve))
}

/// Whether the group has no coordinator yet.
fn is_of_coordinator(failure: &anyhow::Error) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(code(failure), Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator))
}

/// Reads the commits of all topics; `without` those that are not there.
fn read(consumer: &BaseConsumer<Context>, topics: &Topics, without: bool) -> anyhow::Result<Vec<String>> {
    let mut list = TopicPartitionList::new();
    let asked: Vec<Option<&str>> = if topics.has_patterns() {
        vec![None]
    } else {
        topics.written().iter().map(|topic| Some(topic.as_str())).collect()
    };
    for topic in asked {
        let metadata = consumer.fetch_metadata(topic, PATIENCE);
        let metadata = answered(metadata, || "cannot ask for the topics' partitions".into())?;
        for topic in metadata.topics().iter().filter(|topic| topics.contains(topic.name())) {
            let partitions =
                answered(metadata::of(topic), || format!("cannot ask for the partitions of {}", topic.name()));
            let partitions = match partitions {
                Err(failure) if without && metadata::is_unknown(code(&failure)) => continue,
                told => told?,
            };
            for partition in partitions {
                list.add_partition(topic.name(), partition.id());
            }
        }
    }
    if list.count() == 0 {
        let none = Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        return if without { Ok(Vec::new()) } else { answered(none, || "there is none of the topics".into()) };
    }
    let committed = consumer.committed_offsets(list, PATIENCE);
    let committed = answered(committed, || "cannot ask for the group's commits".into())?;
    let mut metadata = Vec::new();
    for element in committed.elements() {
        answered(element.error(), || {
            format!("cannot read the group's commit of {}-{}", element.topic(), element.partition())
        })?;
        if !element.metadata().is_empty() {
            metadata.push(element.metadata().to_owned());
        }
    }
    Ok(metadata)
}
