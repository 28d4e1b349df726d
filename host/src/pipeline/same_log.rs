//! Whether the offsets that were noted of a partition mean the records that its log has now. After a topic was made again,
//! or its log was cut off and has grown again, they mean others: what is known of those says nothing of these.

use super::claim::Standing;
use super::commit::CommitMetadata;
use super::write::Stores;
use crate::source::{Assigned, TopicFacts};

/// By how much the epoch of a cache may rise by fills that were put in place. Where a cache was cleared, its epoch is
/// another random number, and the log is the same.
const FILLS: u16 = 64;

/// Of which log something was noted.
pub(super) struct LogOf {
    pub(super) topic: Option<TopicFacts>,
    /// The topic's epoch in each sink, by its place.
    epochs: Vec<Option<u16>>,
}

impl Stores {
    /// The log of what this process knows of a partition, or else its group's commit.
    pub(super) fn log_of(&self, before: Option<&Standing>, committed: &CommitMetadata) -> LogOf {
        match before {
            Some(before) => {
                LogOf { topic: before.topic.clone(), epochs: before.epochs.iter().map(|epoch| Some(*epoch)).collect() }
            }
            None => LogOf {
                topic: committed.topic.clone(),
                epochs: self.sinks.iter().map(|bound| committed.sinks.get(&bound.name).copied()).collect(),
            },
        }
    }

    /// Whether it is the one that is claimed now, and still has what lies below `noted`. The epoch rises when the operator has
    /// a sink filled again because of a topic that is not what it was.
    pub(super) fn is_same_log(&self, of: &LogOf, assigned: &Assigned, standing: &Standing, noted: u64) -> bool {
        let is_other = |known: &TopicFacts| assigned.topic.as_ref().is_some_and(|now| now.is_another(known));
        if of.topic.as_ref().is_some_and(is_other) || assigned.log_end.is_some_and(|end| noted > end) {
            return false;
        }
        let ledgers = self.sinks.iter().zip(&of.epochs).zip(&standing.epochs);
        let mut ledgers = ledgers.filter(|((bound, _), _)| bound.sink.ledger_outlives_the_process());
        ledgers.all(|((bound, known), now)| {
            let risen = known.map_or(0, |known| now.wrapping_sub(known));
            risen == 0 || (bound.is_cache() && risen > FILLS)
        })
    }
}
