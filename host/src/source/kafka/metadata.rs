//! What brokers say of a topic. A broker that has just come up, or lags behind its controller, answers with an error of
//! the topic, or with a topic that has no partition. Neither is an answer: a topic has one partition at the least.

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};

/// How often in a row the brokers have to say that there is no such topic: one that has just come up says so of each, for
/// a moment.
pub(crate) const CONFIRMED: u32 = 4;

/// The partitions of a topic that was asked for by its name.
///
/// # Errors
/// When the brokers do not tell.
pub(crate) fn partitions<'a>(metadata: &'a Metadata, topic: &str) -> KafkaResult<&'a [MetadataPartition]> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)).and_then(of)
}

/// The partitions of a topic in a list.
///
/// # Errors
/// When the brokers do not tell.
pub(crate) fn of(topic: &MetadataTopic) -> KafkaResult<&[MetadataPartition]> {
    match topic.error() {
        Some(error) => Err(KafkaError::MetadataFetch(error.into())),
        None if topic.partitions().is_empty() => {
            Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))
        }
        None => Ok(topic.partitions()),
    }
}

/// Whether an error says that there is no such topic. A broker may say so of one that is there, for a moment.
pub(crate) fn is_unknown(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(code, Some(UnknownTopic | UnknownTopicOrPartition | UnknownPartition))
}
