//! Whether the topics of claimed partitions are still the ones that were claimed. librdkafka goes on at the same offset in a
//! topic that was deleted and made again, or stands still there, and reports neither. So the watch compares what the
//! brokers say with what was claimed, and has a partition claimed again that differs: the claim decides what that means.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::{TopicFacts, TopicPartition};

/// What the topic of each partition was when it was claimed.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    topics: Mutex<HashMap<TopicPartition, TopicFacts>>,
    /// The partitions to be claimed again, and why.
    doubted: Mutex<HashMap<TopicPartition, &'static str>>,
}

/// What the watch has seen last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The partitions whose log ended before where they stand.
    beyond: HashSet<TopicPartition>,
}

impl Claimed {
    /// A partition is claimed, of this topic.
    pub(super) fn insert(&self, partition: TopicPartition, topic: TopicFacts) {
        lock(&self.topics).insert(partition, topic);
    }

    /// It is claimed no more, or asked for again. Whether it was claimed.
    pub(super) fn remove(&self, partition: &TopicPartition) -> bool {
        lock(&self.doubted).remove(partition);
        lock(&self.topics).remove(partition).is_some()
    }

    /// The topics of claimed partitions.
    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        lock(&self.topics).keys().map(|partition| partition.topic.clone()).collect()
    }

    /// Takes the partitions that are to be claimed again.
    pub(super) fn take_doubted(&self) -> HashMap<TopicPartition, &'static str> {
        std::mem::take(&mut *lock(&self.doubted))
    }

    /// Compares what the brokers say of topics with what was claimed.
    pub(super) fn compare(&self, now: &BTreeMap<String, TopicFacts>) {
        for (partition, then) in lock(&self.topics).iter() {
            let Some(now) = now.get(&*partition.topic) else { continue };
            if now.is_another(then) {
                self.doubt(partition, "the topic was made again");
            } else if then.id.is_none() && now.id.is_some() {
                self.doubt(partition, "the topic's id was not known, and is");
            } else if now.partitions != then.partitions {
                self.doubt(partition, "the topic has another number of partitions");
            }
        }
    }

    /// Compares where claimed partitions stand with the ends of their logs, which were asked for afterwards.
    pub(super) fn compare_ends(&self, seen: &mut Seen, beyond: HashSet<TopicPartition>) {
        for partition in beyond.intersection(&seen.beyond) {
            if lock(&self.topics).contains_key(partition) {
                self.doubt(partition, "its log ends before where it stands");
            }
        }
        seen.beyond = beyond;
    }

    fn doubt(&self, partition: &TopicPartition, why: &'static str) {
        lock(&self.doubted).insert(partition.clone(), why);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
