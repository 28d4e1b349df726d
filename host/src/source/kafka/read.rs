//! Reads a topic from its start, or from given offsets, to where it ends now, outside of any group.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{check_token, client_config, refused, remedy};
use super::context::{Context, Noted, hear};
use super::fetch::record;
use super::metadata;
use crate::config::KafkaClient;
use crate::source::{Claim, Record, TopicPartition};

/// How long the cluster may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands on every record of a topic up to where its partitions end now, in order within a partition, until `on_record`
/// breaks off. A partition begins at its start, or where `from` says if that is later.
///
/// # Errors
/// When there is no such topic. When the cluster cannot be reached, refuses this client, or falls silent; the text names the remedy. Or when
/// `on_record` fails.
pub fn read_all(
    client: &KafkaClient,
    topic: &str,
    from: &BTreeMap<u32, u64>,
    mut on_record: impl FnMut(Record) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let noted = Arc::new(Noted::default());
    let consumer = consumer(client, &noted)?;
    let mut left = assign(&consumer, (client, &noted), topic, from)?;
    let mut heard = Instant::now();
    while !left.is_empty() {
        let polled = consumer.poll(Duration::from_millis(100));
        if let Some(failure) = noted.failure() {
            return Err(failure);
        }
        let (partition, next) = match &polled {
            Some(Ok(message)) => {
                let number = u32::try_from(message.partition())?;
                let partition = TopicPartition { topic: topic.into(), partition: number };
                let record = record(&partition, message, Claim(0))?;
                let next = record.offset + 1;
                if left.get(&message.partition()).is_some_and(|end| record.offset < *end)
                    && on_record(record)?.is_break()
                {
                    return Ok(());
                }
                (message.partition(), next)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => (*partition, u64::MAX),
            Some(Err(_)) | None => {
                if heard.elapsed() > PATIENCE {
                    let brokers = client.brokers.shown();
                    bail!(
                        "Kafka ({brokers}) has not answered for {PATIENCE:?}: is it running, and reachable from here?"
                    );
                }
                continue;
            }
        };
        heard = Instant::now();
        if left.get(&partition).is_some_and(|end| next >= *end) {
            left.remove(&partition);
        }
    }
    Ok(())
}

fn consumer(client: &KafkaClient, noted: &Arc<Noted>) -> anyhow::Result<BaseConsumer<Context>> {
    check_token(client)?;
    let mut config = client_config(client);
    // librdkafka asks for a group. It is never joined.
    config.set("group.id", "tidegate");
    config.set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "error");
    config.set("enable.partition.eof", "true");
    config.set("isolation.level", "read_committed");
    let context = Context::new(client.clone(), noted.clone(), false);
    config.create_with_context(context).map_err(|error| refused(client, &error))
}

/// Has every partition fetched that has records, and answers where each ends.
fn assign(
    consumer: &BaseConsumer<Context>,
    (client, noted): (&KafkaClient, &Noted),
    topic: &str,
    from: &BTreeMap<u32, u64>,
) -> anyhow::Result<HashMap<i32, u64>> {
    let brokers = client.brokers.shown();
    let place = |error: KafkaError| {
        let remedy = error.rdkafka_error_code().and_then(remedy);
        let remedy = remedy.unwrap_or("is it running, and reachable from here?");
        hear(consumer, noted).unwrap_or_else(|| anyhow!("Kafka ({brokers}): cannot read {topic}: {error}; {remedy}"))
    };
    // Gives the client its token.
    let _ = consumer.poll(Duration::ZERO);
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(place)?;
    let (mut list, mut ends) = (TopicPartitionList::new(), HashMap::new());
    let partitions = metadata::partitions(&metadata, topic).map_err(|error| {
        let is_unknown = metadata::is_unknown(error.rdkafka_error_code());
        if is_unknown { anyhow!("there is no topic {topic:?}: create it, or correct its name") } else { place(error) }
    })?;
    for partition in partitions {
        let (start, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).map_err(place)?;
        let from = u32::try_from(partition.id()).ok().and_then(|number| from.get(&number));
        let start = start.max(from.and_then(|from| i64::try_from(*from).ok()).unwrap_or_default());
        if start < end {
            list.add_partition_offset(topic, partition.id(), Offset::Offset(start))?;
            ends.insert(partition.id(), u64::try_from(end)?);
        }
    }
    consumer.assign(&list).with_context(|| format!("cannot read {topic}"))?;
    Ok(ends)
}
