//! The group's commits: what lag tools see, and where the positions of sinks without a ledger are kept. They follow
//! what the lanes tell, also backwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::fetch::number;
use crate::source::TopicPartition;

const INTERVAL: Duration = Duration::from_millis(100);
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is to be committed.
#[derive(Debug)]
pub(super) struct Commits {
    latest: HashMap<TopicPartition, Latest>,
    due: Instant,
    /// The last failure that was told.
    told: Option<RDKafkaErrorCode>,
}

#[derive(Debug)]
struct Latest {
    offset: u64,
    metadata: String,
    sent: bool,
}

impl Commits {
    pub(super) fn new() -> Self {
        Self { latest: HashMap::new(), due: Instant::now(), told: None }
    }

    /// Everything below this offset is durable.
    pub(super) fn durable(&mut self, partition: TopicPartition, offset: u64, metadata: String) {
        let sent = self
            .latest
            .get(&partition)
            .is_some_and(|latest| latest.offset == offset && latest.metadata == metadata && latest.sent);
        self.latest.insert(partition, Latest { offset, metadata, sent });
    }

    /// Commits what is new, without waiting for the answer, if it is time.
    pub(super) fn send(&mut self, member: &BaseConsumer<Context>) {
        if self.due > Instant::now() {
            return;
        }
        self.due = Instant::now() + INTERVAL;
        let list = list(self.latest.iter().filter(|(_, latest)| !latest.sent));
        if list.count() == 0 {
            return;
        }
        match member.commit(&list, CommitMode::Async) {
            Ok(()) => self.latest.values_mut().for_each(|latest| latest.sent = true),
            Err(error) => self.failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        }
    }

    /// A commit was not taken: it is sent again in a while.
    pub(super) fn failed(&mut self, code: RDKafkaErrorCode) {
        if self.told.replace(code) != Some(code) {
            tracing::warn!("Kafka does not take a commit: {code}; trying again. The stores' ledgers are not affected");
        }
        self.latest.values_mut().for_each(|latest| latest.sent = false);
        self.due = Instant::now() + AFTER_FAILURE;
    }

    /// Commits these partitions' last positions and forgets them.
    pub(super) fn finish(&mut self, member: &BaseConsumer<Context>, partitions: &[TopicPartition], commit: bool) {
        let last: Vec<_> = partitions.iter().filter_map(|partition| self.latest.remove_entry(partition)).collect();
        let list = list(last.iter().map(|(partition, latest)| (partition, latest)));
        if commit
            && list.count() > 0
            && let Err(error) = member.commit(&list, CommitMode::Sync)
        {
            tracing::warn!("Kafka does not take the last commit: {error}. The stores' ledgers are not affected");
        }
    }
}

fn list<'a>(entries: impl Iterator<Item = (&'a TopicPartition, &'a Latest)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, latest) in entries {
        let (Ok(number), Ok(offset)) = (number(partition), i64::try_from(latest.offset)) else { continue };
        let mut element = list.add_partition(&partition.topic, number);
        if element.set_offset(Offset::Offset(offset)).is_ok() {
            element.set_metadata(&latest.metadata);
        }
    }
    list
}
