//! How far the topics of a pipeline reach, and whether anybody reads them in its group: for those that are no members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::KafkaSource;
use super::context::{Context, Noted};
use crate::source::topics::Topics;
use crate::source::{TopicFacts, TopicPartition};

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that asks about the topics and the group of one pipeline.
pub struct Extent {
    source: KafkaSource,
    topics: Topics,
    consumer: BaseConsumer<Context>,
    noted: Arc<Noted>,
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
        Ok(Extent { source: self, topics, consumer, noted })
    }
}

impl Extent {
    /// Where the topics end now.
    ///
    /// # Errors
    /// When the brokers do not answer, or refuse this client.
    pub fn ends(&self) -> anyhow::Result<Ends> {
        let mut found = Ends::default();
        for topic in self.source.there(&self.consumer, &self.noted, &self.topics)? {
            let metadata = self.consumer.fetch_metadata(Some(&topic), PATIENCE);
            let metadata = metadata.with_context(|| format!("cannot ask how many partitions {topic} has"))?;
            let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            let partitions = u32::try_from(partitions)?;
            let name: Arc<str> = topic.as_str().into();
            for partition in 0..partitions {
                let ends = self.consumer.fetch_watermarks(&topic, i32::try_from(partition)?, PATIENCE);
                let (_, end) = ends.with_context(|| format!("cannot ask where {topic}-{partition} ends"))?;
                found.ends.insert(TopicPartition { topic: name.clone(), partition }, u64::try_from(end)?);
            }
            found.topics.insert(topic, TopicFacts { partitions, id: None });
        }
        Ok(found)
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
