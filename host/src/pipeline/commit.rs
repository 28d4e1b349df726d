//! What goes with a commit of the consumer group: where those stand that have no ledger of their own.
//!
//! Messages and dead letters are in no transaction with a ledger. Their positions are kept as the metadata of the
//! group's commit, and below them nothing is published or filed again. The sinks that do keep a ledger are named
//! there too: a sink that is named in a commit and has no ledger has lost it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::source::Counted;

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
    /// How many claims in a row have found something to handle, and have brought nothing to its end.
    #[serde(default, skip_serializing_if = "Claims::is_none")]
    pub(super) claims: Claims,
}

/// How many claims may come to nothing before the records are suspected, and how many trials before they are given up.
const CLAIMS: u32 = 3;
const TRIALS: u32 = 3;

/// Claims in a row that came to nothing: after some of them one that was suspected, and then its trials. A process that
/// dies takes its claim back by no word; one that ends, or that has come further, does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// How many, the last one included.
    pub(super) count: u32,
    /// Where all of them began, once a lane has found out.
    pub(super) at: Option<u64>,
}

impl Claims {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the records may have ended the processes.
    pub(super) fn are_suspect(self) -> bool {
        self.count > CLAIMS
    }

    /// Whether so many processes have died while nothing else that is suspected was given.
    pub(super) fn has_failed_its_trials(self) -> bool {
        self.count > CLAIMS + TRIALS
    }

    /// The next start tries once more.
    pub(super) fn forget_trials(&mut self) {
        self.count = self.count.min(CLAIMS);
    }

    /// The claim that has just been counted, of a partition that is found to begin here.
    pub(super) fn found_at(self, offset: u64) -> Self {
        let none_came_further = self.at.is_none_or(|at| at == offset);
        Self { count: if none_came_further { self.count } else { self.count.min(1) }, at: Some(offset) }
    }
}

impl CommitMetadata {
    /// What a commit holds. Of one that another program made nothing is known.
    pub(super) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The text with one more claim or trial in it, for the commit that proves it. Of claims no more are counted than
    /// make the records suspect: who has not been tried has done nothing.
    pub(super) fn count(text: &str, counted: Counted) -> String {
        let mut metadata = Self::read(text);
        let Claims { count, .. } = &mut metadata.claims;
        match counted {
            Counted::Claim if *count > CLAIMS => {}
            Counted::Claim | Counted::Trial => *count = count.saturating_add(1),
        }
        metadata.write()
    }

    /// The text without the claims that were counted in it.
    pub(super) fn forget_claims(text: &str) -> String {
        Self { claims: Claims::default(), ..Self::read(text) }.write()
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
            claims: Claims::default(),
        };
        assert_eq!(
            metadata.write(),
            r#"{"sinks":["cache"],"positions":{"events":18446744073709551615},"dead_letters":7}"#
        );
        assert_eq!(CommitMetadata::read(&metadata.write()), metadata);
        for foreign in ["", "leader epoch 3", "[1]", "{\"sinks\":3}"] {
            assert_eq!(CommitMetadata::read(foreign), CommitMetadata::default(), "{foreign}");
        }
    }

    #[test]
    fn claims_are_counted_as_long_as_they_begin_at_one_place() {
        let text = (0..6).fold(String::new(), |text, _| CommitMetadata::count(&text, Counted::Claim));
        let counted = CommitMetadata::read(&text).claims;
        assert_eq!(counted, Claims { count: 4, at: None });
        let found = counted.found_at(7);
        assert_eq!(found, Claims { count: 4, at: Some(7) });
        let metadata = CommitMetadata { claims: found, ..CommitMetadata::default() };
        let again = CommitMetadata::read(&CommitMetadata::count(&metadata.write(), Counted::Trial)).claims;
        assert_eq!((again.found_at(7).count, again.found_at(8).count), (5, 1));
        assert_eq!(Claims::default().found_at(3).count, 0);
    }
}
