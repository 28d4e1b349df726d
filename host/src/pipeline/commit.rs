//! What goes with a commit of the consumer group: where those stand that have no ledger of their own.
//!
//! Messages and dead letters are in no transaction with a ledger. Their positions are kept as the metadata of the
//! group's commit, and below them nothing is published or filed again. The sinks that do keep a ledger are named
//! there too: a sink that is named in a commit and has no ledger has lost it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The metadata of a commit, as JSON of a few hundred bytes; brokers take 4,096.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommitMetadata {
    /// The sinks that keep a ledger.
    #[serde(default)]
    pub(super) sinks: BTreeSet<String>,
    /// By sink without a ledger: everything below is published.
    #[serde(default)]
    pub(super) positions: BTreeMap<String, u64>,
    /// Everything below that had to be filed as a dead letter is filed.
    #[serde(default)]
    pub(super) dead_letters: u64,
}

impl CommitMetadata {
    /// What a commit holds. Of one that another program made nothing is known.
    pub(super) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The text for a commit.
    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_foreign_text_says_nothing() {
        let metadata = CommitMetadata {
            sinks: ["cache".to_owned()].into(),
            positions: [("events".to_owned(), u64::MAX)].into(),
            dead_letters: 7,
        };
        assert_eq!(CommitMetadata::read(&metadata.write()), metadata);
        for foreign in ["", "leader epoch 3", "[1]", "{\"sinks\":3}"] {
            assert_eq!(CommitMetadata::read(foreign), CommitMetadata::default(), "{foreign}");
        }
    }
}
