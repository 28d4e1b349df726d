//! The group's commits: what lag tools see, and where the positions of sinks without a ledger are kept. They follow
//! what the lanes tell, also backwards.
//!
//! While a partition is proved, the commit that proves it is the only one: another one at that time could be overtaken by
//! it, and the group would go back to what was.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::fetch::number;
use crate::source::{Committed, TopicPartition};

const INTERVAL: Duration = Duration::from_millis(100);
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is to be committed.
#[derive(Debug)]
pub(super) struct Commits {
    latest: HashMap<TopicPartition, Latest>,
    /// The partitions that are being proved.
    proving: HashSet<TopicPartition>,
    due: Instant,
    /// The last failure that was told.
    told: Option<RDKafkaErrorCode>,
}

#[derive(Debug)]
struct Latest {
    commit: Committed,
    sent: bool,
}

impl Commits {
    pub(super) fn new() -> Self {
        Self { latest: HashMap::new(), proving: HashSet::new(), due: Instant::now(), told: None }
    }

    /// Everything below this offset is durable.
    pub(super) fn durable(&mut self, partition: TopicPartition, offset: u64, metadata: String) {
        let commit = Committed { offset, metadata };
        let sent = self.latest.get(&partition).is_some_and(|latest| latest.commit == commit && latest.sent);
        self.latest.insert(partition, Latest { commit, sent });
    }

    /// Has the commit of this partition made by what proves it from now on. Answers what that has to commit, where this
    /// process knows it better than the group.
    pub(super) fn hand_over(&mut self, partition: &TopicPartition) -> Option<Committed> {
        self.proving.insert(partition.clone());
        let latest = self.latest.get_mut(partition)?;
        latest.sent = true;
        Some(latest.commit.clone())
    }

    /// Makes the commits of this partition again: it was proved by this commit, or was not proved.
    pub(super) fn take_over(&mut self, partition: &TopicPartition, proved: Option<&Committed>) {
        self.proving.remove(partition);
        match (self.latest.get_mut(partition), proved) {
            // What has become durable in the meantime is newer.
            (Some(latest), Some(proved)) if latest.sent => proved.clone_into(&mut latest.commit),
            (Some(latest), None) => latest.sent = false,
            (None, Some(proved)) => {
                self.latest.insert(partition.clone(), Latest { commit: proved.clone(), sent: true });
            }
            _ => {}
        }
    }

    /// Something that was sent already and may be committed once more, if nothing newer waits to be.
    pub(super) fn standing(&self) -> Option<TopicPartitionList> {
        let may_repeat =
            |(partition, latest): &(&TopicPartition, &Latest)| latest.sent && !self.proving.contains(*partition);
        let (partition, latest) = self.latest.iter().find(may_repeat)?;
        Some(list(std::iter::once((partition, &latest.commit)))).filter(|list| list.count() > 0)
    }

    /// Commits what is new, without waiting for the answer, if it is time.
    pub(super) fn send(&mut self, member: &BaseConsumer<Context>) {
        if self.due > Instant::now() {
            return;
        }
        self.due = Instant::now() + INTERVAL;
        let proving = &self.proving;
        let mut new: HashMap<_, _> = self
            .latest
            .iter_mut()
            .filter(|(partition, latest)| !latest.sent && !proving.contains(*partition))
            .collect();
        let list = list(new.iter().map(|(partition, latest)| (*partition, &latest.commit)));
        if list.count() == 0 {
            return;
        }
        match member.commit(&list, CommitMode::Async) {
            Ok(()) => new.values_mut().for_each(|latest| latest.sent = true),
            Err(error) => self.failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        }
    }

    /// A commit was not taken: it is sent again in a while.
    pub(super) fn failed(&mut self, code: RDKafkaErrorCode) {
        if self.told.replace(code) != Some(code) {
            tracing::warn!("Kafka does not take a commit: {code}; trying again. The stores' ledgers are not affected");
        }
        let proving = &self.proving;
        let latest = self.latest.iter_mut().filter(|(partition, _)| !proving.contains(*partition));
        latest.for_each(|(_, latest)| latest.sent = false);
        self.due = Instant::now() + AFTER_FAILURE;
    }

    /// Commits these partitions' last positions and forgets them.
    pub(super) fn finish(&mut self, member: &BaseConsumer<Context>, partitions: &[TopicPartition], commit: bool) {
        self.proving.retain(|partition| !partitions.contains(partition));
        let last: Vec<_> = partitions.iter().filter_map(|partition| self.latest.remove_entry(partition)).collect();
        let list = list(last.iter().map(|(partition, latest)| (partition, &latest.commit)));
        if commit
            && list.count() > 0
            && let Err(error) = member.commit(&list, CommitMode::Sync)
        {
            tracing::warn!("Kafka does not take the last commit: {error}. The stores' ledgers are not affected");
        }
    }
}

fn list<'a>(entries: impl Iterator<Item = (&'a TopicPartition, &'a Committed)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, commit) in entries {
        let (Ok(number), Ok(offset)) = (number(partition), i64::try_from(commit.offset)) else { continue };
        let mut element = list.add_partition(&partition.topic, number);
        if element.set_offset(Offset::Offset(offset)).is_ok() {
            element.set_metadata(&commit.metadata);
        }
    }
    list
}
