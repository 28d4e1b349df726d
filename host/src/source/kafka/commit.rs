//! The group's commits: what lag tools see, and where the positions of sinks without a ledger are kept. They follow
//! what the lanes tell, also backwards.
//!
//! While a partition is proved, the commit that proves it is the only one: another one at that time could be overtaken by
//! it, and the group would go back to what was.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::committer::Outcome;
use super::context::Context;
use super::fetch::number;
use crate::source::{Committed, TopicPartition};

const INTERVAL: Duration = Duration::from_millis(100);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// For how long commits may fail before a warning is logged.
const PASSES: Duration = Duration::from_secs(30);

/// A commit, and its partitions.
pub(super) type Due = (TopicPartitionList, HashSet<TopicPartition>);

/// What is to be committed.
#[derive(Debug)]
pub(super) struct Commits {
    latest: HashMap<TopicPartition, Latest>,
    /// The partitions that are being proved.
    proving: HashSet<TopicPartition>,
    due: Instant,
    /// Since when commits fail.
    failing: Option<Instant>,
    /// Whether that has been logged.
    told: bool,
}

#[derive(Debug)]
struct Latest {
    commit: Committed,
    sent: bool,
}

impl Commits {
    pub(super) fn new() -> Self {
        Self { latest: HashMap::new(), proving: HashSet::new(), due: Instant::now(), failing: None, told: false }
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
    pub(super) fn standing(&self) -> Option<Due> {
        let may_repeat =
            |(partition, latest): &(&TopicPartition, &Latest)| latest.sent && !self.proving.contains(*partition);
        let (partition, latest) = self.latest.iter().find(may_repeat)?;
        due([(partition, &latest.commit)])
    }

    /// What is new, if it is time to commit it. It counts as sent from now on.
    pub(super) fn due(&mut self) -> Option<Due> {
        if self.due > Instant::now() {
            return None;
        }
        self.due = Instant::now() + INTERVAL;
        let proving = &self.proving;
        let new = self.latest.iter_mut().filter(|(partition, latest)| !latest.sent && !proving.contains(*partition));
        due(new.map(|(partition, latest)| {
            latest.sent = true;
            (partition, &latest.commit)
        }))
    }

    /// Notes the outcome of a commit. After a failure everything is sent again in a second: most are transient, as that of a
    /// rebalance is.
    pub(super) fn ended(&mut self, outcome: Outcome) {
        let Err(code) = outcome else {
            (self.failing, self.told) = (None, false);
            return;
        };
        tracing::debug!("a commit has failed: {code}");
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() > PASSES && !std::mem::replace(&mut self.told, true) {
            tracing::warn!("Kafka takes no commit: {code}; trying again. The stores' ledgers are not affected");
        }
        let proving = &self.proving;
        let latest = self.latest.iter_mut().filter(|(partition, _)| !proving.contains(*partition));
        latest.for_each(|(_, latest)| latest.sent = false);
        self.due = Instant::now() + AFTER_FAILURE;
    }

    /// Commits these partitions' last positions, the metadata as it is then, and forgets them.
    pub(super) fn finish(
        &mut self,
        member: &BaseConsumer<Context>,
        partitions: &[TopicPartition],
        commit: bool,
        survived: impl Fn(&str) -> String,
    ) {
        self.proving.retain(|partition| !partitions.contains(partition));
        let mut last: Vec<_> = partitions.iter().filter_map(|partition| self.latest.remove_entry(partition)).collect();
        last.iter_mut().for_each(|(_, Latest { commit, .. })| commit.metadata = survived(&commit.metadata));
        let list = list(last.iter().map(|(partition, latest)| (partition, &latest.commit)));
        if commit
            && list.count() > 0
            && let Err(error) = member.commit(&list, CommitMode::Sync)
        {
            tracing::warn!("Kafka does not take the last commit: {error}. The stores' ledgers are not affected");
        }
    }
}

/// None where there is nothing to commit.
fn due<'a>(entries: impl IntoIterator<Item = (&'a TopicPartition, &'a Committed)>) -> Option<Due> {
    let mut partitions = HashSet::new();
    let list = list(entries.into_iter().inspect(|(partition, _)| {
        partitions.insert((*partition).clone());
    }));
    (list.count() > 0).then_some((list, partitions))
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
