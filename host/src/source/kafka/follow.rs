//! What is seen of a pipeline that has stopped: how far its group has come, and where its topics end. Its partitions may be
//! another process's by then, or nobody's, and who watches their lag must see them either way.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;

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
        let committed = self.committed(ends.keys())?;
        for (partition, end) in ends {
            let next = match committed.get(&partition) {
                Some(committed) => committed.offset,
                None => self.log_start(&partition)?,
            };
            status.followed(&partition, next, end);
        }
        Ok(())
    }

    /// Where the log of a partition begins.
    fn log_start(&self, partition: &TopicPartition) -> anyhow::Result<u64> {
        let start = self.client().fetch_watermarks(&partition.topic, number(partition)?, PATIENCE);
        Ok(u64::try_from(answered(start, || format!("cannot ask where {partition} begins"))?.0)?)
    }
}
