//! What goes with a commit of the consumer group: where those stand that have no ledger of their own.
//!
//! Messages and dead letters are in no transaction with a ledger. Their positions are kept as the metadata of the
//! group's commit: what they say is done is not published or filed again. The sinks that do keep a ledger are named
//! there too: a sink that is named in a commit and has no ledger has lost it. A commit may be lost itself, or be another
//! program's; so whatever it does not say costs messages and dead letters that come again, and loses none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::letters::Stretches;
use super::memo::LastRecord;
use crate::source::{Counted, TopicFacts};

/// The most bytes that a broker takes, as it comes.
const MOST: usize = 4096;

/// The metadata of a commit, as JSON of a few hundred bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommitMetadata {
    /// The sinks that keep a ledger, with the topic's epoch there.
    #[serde(default)]
    pub(super) sinks: BTreeMap<String, u16>,
    /// By sink without a ledger: everything below is published.
    #[serde(default)]
    pub(super) positions: BTreeMap<String, u64>,
    /// By sink of messages that keeps a ledger: everything below was published. The ledger outranks this; it is for the
    /// day on which the sink keeps none any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) kept: BTreeMap<String, u64>,
    /// By sink without a ledger: the last record below its position.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) last: BTreeMap<String, LastRecord>,
    /// The topic whose offsets all this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<TopicFacts>,
    /// What is filed of what is refused before any sink.
    #[serde(default, skip_serializing_if = "Stretches::is_empty")]
    pub(super) filed: Stretches,
    /// How many claims in a row have found something to handle, and have brought nothing to its end.
    #[serde(default, skip_serializing_if = "Claims::is_none")]
    pub(super) claims: Claims,
    /// The modules that serve the process which commits, as [`shortened`]. A ledger says what wrote last, which in a
    /// partition without events is what served long ago.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) modules: String,
}

/// How much of a digest tells modules apart, and leaves room for many of them in a commit.
const DIGEST: usize = 16;

/// Digests joined by a comma, the beginning of each.
pub(crate) fn shortened(digests: &str) -> String {
    let short = |digest| str::get(digest, ..DIGEST).unwrap_or(digest);
    digests.split(',').map(short).collect::<Vec<_>>().join(",")
}

/// Which modules serve the process that made a commit; none where it does not say.
pub(crate) fn serving(metadata: &str) -> Option<String> {
    Some(CommitMetadata::read(metadata).modules).filter(|modules| !modules.is_empty())
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

    /// The trial that was counted has not come to its end.
    pub(super) fn take_trial_back(&mut self) {
        if self.count > CLAIMS + 1 {
            self.count -= 1;
        }
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
    /// make the records suspect: who has not been tried has done nothing. Of what the process survives the claims are taken
    /// out; what is suspected stays so, and what its trial has come to is the lane's to say.
    pub(super) fn count(text: &str, counted: Counted) -> String {
        let mut metadata = Self::read(text);
        let Claims { count, .. } = &mut metadata.claims;
        match counted {
            Counted::Claim if *count > CLAIMS => {}
            Counted::Claim | Counted::Trial => *count = count.saturating_add(1),
            Counted::Survived if (1..=CLAIMS).contains(count) => metadata.claims = Claims::default(),
            Counted::Survived => return text.to_owned(),
        }
        metadata.write()
    }

    /// The text without the claims that were counted in it.
    pub(super) fn forget_claims(text: &str) -> String {
        Self { claims: Claims::default(), ..Self::read(text) }.write()
    }

    /// The text for a commit. Where dozens of transforms make it too large, what is filed is left out: then a letter
    /// comes again where its record is read again. After that the modules are left out.
    pub(super) fn write(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.len() < MOST || (self.filed.is_empty() && self.modules.is_empty()) {
            return text;
        }
        let modules = if self.filed.is_empty() { String::new() } else { self.modules.clone() };
        Self { filed: Stretches::new(), modules, ..self.clone() }.write()
    }
}

#[cfg(test)]
mod tests {
    use super::super::letters::{Letters, Refusers};
    use super::super::serving::Serving;
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_foreign_text_says_nothing() {
        let metadata = CommitMetadata {
            sinks: [("cache".to_owned(), 3)].into(),
            positions: [("events".to_owned(), u64::MAX)].into(),
            modules: shortened("0123456789abcdef01,b"),
            ..CommitMetadata::default()
        };
        assert_eq!(
            metadata.write(),
            r#"{"sinks":{"cache":3},"positions":{"events":18446744073709551615},"modules":"0123456789abcdef,b"}"#
        );
        assert_eq!(CommitMetadata::read(&metadata.write()), metadata);
        for foreign in ["", "leader epoch 3", "[1]", "{\"sinks\":3}"] {
            assert_eq!(CommitMetadata::read(foreign), CommitMetadata::default(), "{foreign}");
        }
    }

    #[test]
    fn metadata_that_would_be_too_large_for_a_broker_leaves_out_what_is_filed() {
        let name = |number: usize| format!("{number:064}");
        let with = |transforms: usize| {
            let mut letters = Letters::default();
            let names: Vec<_> = (0..transforms).map(name).collect();
            let transforms: Vec<_> = names.iter().map(|name| (name.as_str(), "digest")).collect();
            letters.pass(&Refusers::new(&Serving::named(0, &transforms), ""), u64::MAX - 1, u64::MAX);
            let positions = [(name(0), u64::MAX)].into();
            let sinks = (1..4).map(|number| (name(number), u16::MAX)).collect();
            CommitMetadata { sinks, positions, filed: letters.stretches().clone(), ..CommitMetadata::default() }
        };
        let (some, many) = (with(20), with(40));
        assert_eq!(CommitMetadata::read(&some.write()), some);
        assert!(many.write().len() < 4096);
        assert_eq!(CommitMetadata::read(&many.write()), CommitMetadata { filed: Stretches::new(), ..many });
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

    #[test]
    fn what_the_process_survives_counts_for_nothing_and_a_suspect_stays_one() {
        let count = |count| {
            let metadata = CommitMetadata { claims: Claims { count, at: Some(7) }, ..CommitMetadata::default() };
            CommitMetadata::read(&CommitMetadata::count(&metadata.write(), Counted::Survived)).claims.count
        };
        assert_eq!([0, 1, 3, 4, 5].map(count), [0, 0, 0, 4, 5]);
        assert_eq!(CommitMetadata::count("another program's", Counted::Survived), "another program's");
    }
}
