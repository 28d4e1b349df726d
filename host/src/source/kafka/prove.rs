//! Proves that this process is still a member of its group before a partition is claimed, and looks up what a lane
//! has to know of the partition. It asks the broker, and so it runs on a thread of its own: whatever waits here, the
//! other partitions go on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Noted};
use super::fetch::number;
use crate::config::KafkaClient;
use crate::source::queue::Bell;
use crate::source::{Assigned, Committed, Counted, TopicFacts, TopicPartition};

/// How long one question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried whether a broker that was away is there again.
const PROBE: Duration = Duration::from_secs(1);

/// A partition to prove, the number of its assignment, so that an answer that comes too late is known, and what the
/// commit counts.
pub(super) type Question = (TopicPartition, u64, Option<Counted>);

/// What is known of the partition, or why nothing is.
pub(super) type Answer = (TopicPartition, u64, anyhow::Result<Assigned>);

/// The thread that proves.
pub(super) struct Prover {
    pub(super) member: Arc<BaseConsumer<Context>>,
    pub(super) client: KafkaClient,
    pub(super) noted: Arc<Noted>,
    pub(super) bell: Arc<Bell>,
    pub(super) count: fn(&str, Counted) -> String,
}

impl Prover {
    /// Answers questions until nobody asks any more.
    pub(super) fn run(self, questions: &Receiver<Question>, answers: &Sender<Answer>) {
        loop {
            match questions.recv_timeout(PROBE) {
                Ok((partition, number, counted)) => {
                    let proved = self.prove(&partition, counted);
                    if proved.is_ok() {
                        self.noted.answered(&self.client);
                    }
                    let _ = answers.send((partition, number, proved));
                    self.bell.ring();
                }
                Err(RecvTimeoutError::Timeout) => self.probe(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn probe(&self) {
        if self.noted.is_away() && self.member.client().fetch_metadata(Some("__consumer_offsets"), PROBE).is_ok() {
            self.noted.answered(&self.client);
        }
    }

    fn prove(&self, partition: &TopicPartition, counted: Option<Counted>) -> anyhow::Result<Assigned> {
        let watermarks = self.member.fetch_watermarks(&partition.topic, number(partition)?, PATIENCE);
        let (start, end) = answered(watermarks, || format!("cannot ask where {partition} begins and ends"))?;
        let metadata = self.member.fetch_metadata(Some(&partition.topic), PATIENCE);
        let metadata = answered(metadata, || format!("cannot ask how many partitions {} has", partition.topic))?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let before = self.committed(partition)?;
        let (offset, mut kept) = before.unwrap_or((start, String::new()));
        if let Some(counted) = counted.filter(|_| offset < end) {
            kept = (self.count)(&kept, counted);
        }
        self.commit(partition, offset, &kept)?;
        Ok(Assigned {
            partition: partition.clone(),
            log_start: u64::try_from(start)?,
            log_end: Some(u64::try_from(end)?),
            topic: Some(TopicFacts { partitions: u32::try_from(partitions)?, id: None }),
            committed: (!kept.is_empty())
                .then(|| u64::try_from(offset).map(|offset| Committed { offset, metadata: kept }))
                .transpose()?,
        })
    }

    /// The group's last commit of a partition.
    fn committed(&self, partition: &TopicPartition) -> anyhow::Result<Option<(i64, String)>> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, number(partition)?);
        let list = self.member.committed_offsets(list, PATIENCE);
        let list = answered(list, || format!("cannot ask for the group's commit of {partition}"))?;
        let Some(element) = list.elements().into_iter().next() else { return Ok(None) };
        answered(element.error(), || format!("cannot read the group's commit of {partition}"))?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        })
    }

    /// A commit that moves nothing, and is refused to those who are no members any more.
    fn commit(&self, partition: &TopicPartition, offset: i64, metadata: &str) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&partition.topic, number(partition)?);
        element.set_offset(Offset::Offset(offset))?;
        element.set_metadata(metadata);
        let committed = self.member.commit(&list, CommitMode::Sync);
        answered(committed, || format!("the group does not take this process as the owner of {partition}"))
    }
}

/// The answer to a question to the cluster, or what could not be done and why.
pub(super) fn answered<T>(answer: KafkaResult<T>, what: impl FnOnce() -> String) -> anyhow::Result<T> {
    answer.map_err(|error| match error.rdkafka_error_code() {
        Some(code) => anyhow::Error::new(code).context(what()),
        None => anyhow::Error::new(error).context(what()),
    })
}

/// Why the cluster could not answer.
pub(super) fn code(failure: &anyhow::Error) -> Option<RDKafkaErrorCode> {
    failure.downcast_ref().copied()
}
