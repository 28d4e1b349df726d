//! Reads a topic from its beginning to where it ended when the reading began. For the letters of a topic of dead
//! letters: nothing is committed and no group is joined.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::failure::Failure;
use super::producer::Context;
use crate::config::KafkaClient;
use crate::sink::SinkError;
use crate::source::kafka::client;
use crate::source::{Claim, Header, Record, TopicPartition};

/// How long the brokers may be silent.
const WITHIN: Duration = Duration::from_secs(30);

impl ConsumerContext for Context {}

/// Hands over every record of the topic, in the order of each partition.
///
/// # Errors
/// When there is no such topic, the brokers do not answer for a while, or `each` fails.
pub(crate) fn read_all(
    settings: &KafkaClient,
    topic: &str,
    mut each: impl FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    client::check_token(settings)?;
    let mut config = client::client_config(settings);
    config.set("group.id", "tidegate.dead-letters").set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "error").set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer<Context> =
        config.create_with_context(Context::of(settings)).map_err(|error| client::refused(settings, &error))?;
    let failed = |error: &KafkaError| -> SinkError {
        let code = error.rdkafka_error_code().unwrap_or(rdkafka::error::RDKafkaErrorCode::Unknown);
        Failure::new(code, consumer.context().last().as_ref()).about(topic)
    };
    // A token that the broker wants is given by polling.
    let _ = consumer.poll(Duration::ZERO);
    let metadata = consumer.fetch_metadata(Some(topic), WITHIN).map_err(|error| failed(&error))?;
    let found =
        metadata.topics().iter().find(|found| found.name() == topic).context("the brokers tell nothing of it")?;
    if let Some(code) = found.error() {
        return Err(Failure::new(code.into(), None).about(topic).into());
    }
    let mut list = TopicPartitionList::new();
    // The offset after the last record of each partition that has any.
    let mut ends = std::collections::HashMap::new();
    for partition in found.partitions() {
        let (start, end) = consumer.fetch_watermarks(topic, partition.id(), WITHIN).map_err(|error| failed(&error))?;
        if start < end {
            list.add_partition_offset(topic, partition.id(), Offset::Offset(start))?;
            ends.insert(partition.id(), end);
        }
    }
    consumer.assign(&list).map_err(|error| failed(&error))?;
    let mut heard = Instant::now();
    while !ends.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let Some(end) = ends.get(&message.partition()).copied() else { continue };
                if message.offset() < end {
                    each(record(&message)?)?;
                }
                if message.offset() + 1 >= end {
                    ends.remove(&message.partition());
                }
            }
            // The last offsets may be marks of transactions, which are no messages.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) => match failed(&error) {
                // librdkafka connects again by itself.
                SinkError::Retry(_) if heard.elapsed() <= WITHIN => {}
                error => return Err(error.into()),
            },
            None if heard.elapsed() > WITHIN => bail!("the brokers do not answer"),
            None => {}
        }
    }
    Ok(())
}

fn record(message: &BorrowedMessage<'_>) -> anyhow::Result<Record> {
    let headers = message.headers().map(|headers| {
        let own = |header: rdkafka::message::Header<'_, &[u8]>| Header {
            name: header.key.to_owned(),
            value: header.value.map(<[u8]>::to_vec),
        };
        headers.iter().map(own).collect()
    });
    Ok(Record {
        partition: TopicPartition { topic: message.topic().into(), partition: u32::try_from(message.partition())? },
        offset: u64::try_from(message.offset())?,
        timestamp: message.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        claim: Claim(0),
    })
}
