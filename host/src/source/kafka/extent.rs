//! How far the topics of a pipeline reach, and whether anybody reads them in its group: for those that are no members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaSource;
use super::client::remedy;
use super::context::{Context, Noted};
use super::fetch::number;
use super::prove::{answered, code};
use super::{metadata, topic_id};
use crate::source::topics::Topics;
use crate::source::{Committed, TopicFacts, TopicPartition};

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a topic may have no answer: a broker that comes up, or a partition that gets another leader, takes seconds.
const COMES_UP: Duration = Duration::from_secs(30);
/// How soon it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A client that asks about the topics and the group of one pipeline.
pub struct Extent {
    source: KafkaSource,
    topics: Topics,
    consumer: BaseConsumer<Context>,
    noted: Arc<Noted>,
    /// The topics that were found before, with their partitions: they are there, whatever a broker says.
    found: Mutex<BTreeMap<String, u32>>,
}

/// The topics that are there, and where each of their partitions ends.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// The topics.
    pub topics: BTreeMap<String, TopicFacts>,
    /// The offset after the newest of each partition.
    pub ends: BTreeMap<TopicPartition, u64>,
}

impl KafkaSource {
    /// A client that looks on from outside of the group.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn extent(self) -> anyhow::Result<Extent> {
        let noted = Arc::new(Noted::default());
        let consumer = self.create(&self.consumer(), &noted, false)?;
        let topics = Topics::new(&self.topics).map_err(|cause| anyhow!("`topics`: {cause}"))?;
        Ok(Extent { source: self, topics, consumer, noted, found: Mutex::default() })
    }
}

impl Extent {
    /// The client that asks.
    pub(super) fn client(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// Where the topics end now. A topic that gives no answer is asked for again, for a while.
    ///
    /// # Errors
    /// When the brokers do not answer, or refuse this client.
    pub fn ends(&self) -> anyhow::Result<Ends> {
        let until = Instant::now() + COMES_UP;
        let mut missing = 0;
        loop {
            let failure = match self.look(missing >= metadata::CONFIRMED)? {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            let code = code(&failure);
            if Instant::now() >= until || code.and_then(remedy).is_some() {
                return Err(failure);
            }
            missing = if metadata::is_unknown(code) { missing + 1 } else { 0 };
            thread::sleep(ASK_AGAIN);
        }
    }

    /// Asks once: the inner error is of a topic that gives no answer now. `without` those that are not there.
    fn look(&self, without: bool) -> anyhow::Result<anyhow::Result<Ends>> {
        let names = if self.topics.has_patterns() {
            self.source.there(&self.consumer, &self.noted, &self.topics)?
        } else {
            // Also says how the brokers are reached, if they are not.
            self.source.there(&self.consumer, &self.noted, &self.topics)?;
            self.topics.written().to_vec()
        };
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Ends::default();
        let names: BTreeSet<_> = names.into_iter().chain(known.keys().cloned()).collect();
        for topic in names {
            match self.ends_of(&topic, known.get(&topic).copied()) {
                Ok((facts, ends)) => {
                    found.ends.extend(ends);
                    found.topics.insert(topic, facts);
                }
                Err(failure) => {
                    let is_missing = metadata::is_unknown(code(&failure)) && !known.contains_key(&topic);
                    if !(without && is_missing) {
                        return Ok(Err(failure));
                    }
                }
            }
        }
        if found.topics.is_empty() && !without {
            return Ok(Err(anyhow::Error::new(RDKafkaErrorCode::UnknownTopicOrPartition)
                .context("cannot find the pipeline's topics")));
        }
        known.extend(found.topics.iter().map(|(topic, facts)| (topic.clone(), facts.partitions)));
        Ok(Ok(found))
    }

    /// Where a topic ends, which had at least so many partitions before.
    fn ends_of(&self, topic: &str, before: Option<u32>) -> anyhow::Result<(TopicFacts, Vec<(TopicPartition, u64)>)> {
        let what = || format!("cannot ask how many partitions {topic} has");
        let metadata = answered(self.consumer.fetch_metadata(Some(topic), PATIENCE), what)?;
        let partitions = answered(metadata::partitions(&metadata, topic), what)?;
        let partitions = u32::try_from(partitions.len())?;
        if before.is_some_and(|before| partitions < before) {
            bail!("{topic} has {partitions} partitions, and had more");
        }
        let mut ends = Vec::new();
        for partition in 0..partitions {
            let found = self.consumer.fetch_watermarks(topic, i32::try_from(partition)?, PATIENCE);
            let (_, end) = answered(found, || format!("cannot ask where {topic}-{partition} ends"))?;
            ends.push((TopicPartition { topic: topic.into(), partition }, u64::try_from(end)?));
        }
        let id = topic_id::of(&self.consumer, topic, PATIENCE);
        Ok((TopicFacts { partitions, id }, ends))
    }

    /// What the pipeline's group has committed of these partitions, where it has.
    ///
    /// # Errors
    /// When the brokers do not answer, or refuse this client.
    pub fn committed<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> anyhow::Result<BTreeMap<TopicPartition, Committed>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&partition.topic, number(partition)?);
        }
        let group = &self.source.group;
        let list = self.consumer.committed_offsets(list, PATIENCE);
        let list = answered(list, || format!("cannot ask for the commits of the group {group}"))?;
        let mut committed = BTreeMap::new();
        for element in list.elements() {
            let (topic, number) = (element.topic(), element.partition());
            answered(element.error(), || format!("cannot read the commit of {topic}-{number} of the group {group}"))?;
            let Offset::Offset(offset) = element.offset() else { continue };
            let partition = TopicPartition { topic: topic.into(), partition: u32::try_from(number)? };
            let metadata = element.metadata().to_owned();
            committed.insert(partition, Committed { offset: u64::try_from(offset)?, metadata });
        }
        Ok(committed)
    }

    /// How many processes read as members of the pipeline's group.
    ///
    /// # Errors
    /// When the brokers do not answer, or refuse this client.
    pub fn members(&self) -> anyhow::Result<usize> {
        let group = &self.source.group;
        let groups = self.consumer.fetch_group_list(Some(group), PATIENCE);
        let groups = groups.with_context(|| format!("cannot ask for the members of the group {group}"))?;
        Ok(groups.groups().iter().filter(|one| one.name() == group).map(|one| one.members().len()).sum())
    }
}
