//! What is seen of a pipeline that has stopped: how far its group has come, and where its topics end. Its partitions may be
//! another process's by then, or nobody's, and who watches their lag must see them either way.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::extent::Extent;
use super::fetch::number;
use super::prove::answered;
use super::{Ends, KafkaSource};
use crate::source::TopicPartition;
use crate::source::status::Status;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);

impl KafkaSource {
    /// Asks again and again, on a thread of its own, until the answer of this is dropped.
    ///
    /// # Errors
    /// When the client or the thread cannot be made.
    pub fn follow(self) -> anyhow::Result<Sender<()>> {
        let (following, ended) = mpsc::channel();
        let (status, span) = (self.status.clone(), tracing::Span::current());
        let extent = self.extent()?;
        status.follow();
        let follow = move || {
            let _inside = span.enter();
            loop {
                if let Err(failure) = extent.show(&status) {
                    tracing::debug!("cannot ask how far the stopped pipeline is behind: {failure:#}");
                }
                if ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        thread::Builder::new().name("tidegate-follow".into()).spawn(follow)?;
        Ok(following)
    }
}

impl Extent {
    /// Has the lag of every partition seen.
    pub(super) fn show(&self, status: &Status) -> anyhow::Result<()> {
        let Ends { topics, ends } = self.ends()?;
        topics.iter().for_each(|(topic, facts)| status.has_partitions(topic, facts.partitions));
        for (partition, next) in self.committed(ends.keys())? {
            if let Some(end) = ends.get(&partition) {
                status.followed(&partition, next, *end);
            }
        }
        Ok(())
    }

    /// Where the group stands in these partitions; at the start of the log where it has committed nothing.
    fn committed<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> anyhow::Result<Vec<(TopicPartition, u64)>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&partition.topic, number(partition)?);
        }
        let committed = self.client().committed_offsets(list, PATIENCE);
        let committed = answered(committed, || "cannot ask for the group's commits".into())?;
        let mut found = Vec::new();
        for element in committed.elements() {
            let (topic, number) = (element.topic(), element.partition());
            answered(element.error(), || format!("cannot read the group's commit of {topic}-{number}"))?;
            let next = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => {
                    let start = self.client().fetch_watermarks(topic, number, PATIENCE);
                    answered(start, || format!("cannot ask where {topic}-{number} begins"))?.0
                }
            };
            found.push((
                TopicPartition { topic: topic.into(), partition: u32::try_from(number)? },
                u64::try_from(next)?,
            ));
        }
        Ok(found)
    }
}
