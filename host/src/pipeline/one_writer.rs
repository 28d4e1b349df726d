//! Looks out, by samples, for targets that two partitions write: their order is nobody's, so that a store may end in
//! the older state. A transform is told to derive a target's key from the record's key alone; this tells when one
//! does not. A target that is only ever deleted may come from anywhere.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use crate::command::Command;
use crate::source::TopicPartition;

/// One target in so many is watched, chosen by its hash.
const ONE_IN: u64 = 64;
/// Targets to remember.
const TARGETS: usize = 4096;

/// The targets that are watched, and who writes them.
#[derive(Debug, Default)]
pub(super) struct OneWriter {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    writers: HashMap<u64, TopicPartition>,
    told: bool,
}

impl OneWriter {
    /// Takes note of who writes a command's target. The first time that two partitions write one, says so.
    pub(super) fn look(&self, command: &Command, partition: &TopicPartition) -> Option<String> {
        if matches!(command, Command::CacheDelete { .. } | Command::RowDelete(_) | Command::DocumentDelete { .. }) {
            return None;
        }
        let target = command.target()?;
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        let hash = hasher.finish();
        if !hash.is_multiple_of(ONE_IN) {
            return None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.told {
            return None;
        }
        let room = seen.writers.len() < TARGETS;
        match seen.writers.entry(hash) {
            Entry::Vacant(entry) => {
                if room {
                    entry.insert(partition.clone());
                }
                None
            }
            Entry::Occupied(entry) if entry.get() == partition => None,
            Entry::Occupied(entry) => {
                let other = entry.get().clone();
                seen.told = true;
                Some(format!("{partition} and {other} both write {target:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(partition: u32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn looks(writer: &OneWriter, partition: u32, command: impl Fn(String) -> Command) -> usize {
        (0..1000).filter(|key| writer.look(&command(format!("k{key}")), &of(partition)).is_some()).count()
    }

    fn set(key: String) -> Command {
        Command::CacheSet { key, value: Vec::new(), ttl_seconds: None }
    }

    #[test]
    fn two_writers_of_one_target_are_told_once() {
        let writer = OneWriter::default();
        assert_eq!(looks(&writer, 0, set), 0);
        assert_eq!(looks(&writer, 0, set), 0, "the same writer again");
        assert_eq!(looks(&writer, 1, |key| Command::CacheDelete { key }), 0, "deletes may come from anywhere");
        assert_eq!(looks(&writer, 1, set), 1);
        assert_eq!(looks(&writer, 2, set), 0, "told once");
    }
}
