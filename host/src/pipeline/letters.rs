//! Which dead letters of a partition have been filed. A record may be read again: for a sink that was added, a cache that is
//! filled again, a store that was set back, a batch that is retried.
//!
//! - Records refused before any sink, by a module or because they cannot be decoded: the metadata of the group's commit has
//!   a range of offsets for each transform, within which everything that it refuses has been filed. A range is valid for one
//!   module under one configuration, since another one refuses other records.
//! - Records refused by a sink are filed each time. A sink is asked only for what is not below its ledger, and its ledger
//!   passes a record only after the letter was filed: so the refusal is new, or the store has lost its ledger's last moves.
//!   Until the ledger has passed them, these refusals are kept in memory, so that a batch that is retried files them once.
//!
//! If too little is known here, a letter is filed twice, under the same id. Too much is never known, which would lose one.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::serving::Serving;
use super::write::Refused;
use crate::command::collapse::Origin;

/// By transform, the range in which everything that it refuses has been filed. The empty name is for records that reached no
/// transform.
pub(super) type Stretches = BTreeMap<String, Stretch>;

/// A range of offsets of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    /// The identity of what refused there: a hash of module and configuration.
    by: String,
    /// The first offset.
    pub(super) from: u64,
    /// The offset behind the last one.
    pub(super) to: u64,
}

/// What may refuse a record before any sink, by name and identity: the transforms in their order, then the host.
pub(super) struct Refusers(Vec<(String, String)>);

/// The dead letters that are filed.
#[derive(Debug, Clone, Default)]
pub(super) struct Letters {
    stretches: Stretches,
    /// Refused responses, with the place of the sink that refused them, of batches that are not durable there yet.
    of_sinks: HashSet<(usize, Origin)>,
}

impl Refusers {
    /// Those of a set of modules, under a configuration.
    pub(super) fn new(serving: &Serving, configured: &str) -> Self {
        let identity = |digest: &str| {
            let hash = Sha256::new().chain_update(configured).chain_update([0]).chain_update(digest).finalize();
            hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let transforms = serving.transforms().iter().map(|(name, digest)| (name.clone(), identity(digest)));
        Self(transforms.chain([(String::new(), identity(""))]).collect())
    }
}

impl Letters {
    /// What is still known when the partition is read from `lowest` on. A range that ends below `lowest` is dropped: another
    /// process may have read the records in between.
    pub(super) fn begin(mut self, lowest: u64, refusers: &Refusers) -> Self {
        self.stretches.retain(|name, _| refusers.0.iter().any(|(other, _)| other == name));
        for stretch in self.stretches.values_mut().filter(|stretch| stretch.to < lowest) {
            (stretch.from, stretch.to) = (lowest, lowest);
        }
        self
    }

    /// For the commit.
    pub(super) fn stretches(&self) -> &Stretches {
        &self.stretches
    }

    /// Whether this is filed, of the record at this offset.
    pub(super) fn have(&self, refused: &Refused, offset: u64, refusers: &Refusers) -> bool {
        match refused.of_sink(offset) {
            Some(answer) => self.of_sinks.contains(&answer),
            None => {
                let refuser =
                    refused.transform.map_or_else(|| refusers.0.last(), |transform| refusers.0.get(transform));
                refuser.is_some_and(|(name, by)| {
                    let stretch = self.stretches.get(name).filter(|stretch| stretch.by == *by);
                    stretch.is_some_and(|stretch| (stretch.from..stretch.to).contains(&offset))
                })
            }
        }
    }

    /// This is filed now.
    pub(super) fn add(&mut self, refused: &Refused, offset: u64) {
        self.of_sinks.extend(refused.of_sink(offset));
    }

    /// Everything has been filed that these refuse before any sink, from `from` to before `to`. Called for the batches of a
    /// partition in order, so offsets between two batches have no records.
    pub(super) fn pass(&mut self, refusers: &Refusers, from: u64, to: u64) {
        for (name, by) in &refusers.0 {
            match self.stretches.get_mut(name) {
                Some(known) if known.by == *by => {
                    if to >= known.from {
                        known.from = known.from.min(from);
                    }
                    known.to = known.to.max(to);
                }
                // Others were further.
                Some(known) if to <= known.to => {}
                _ => {
                    self.stretches.insert(name.clone(), Stretch { by: by.clone(), from, to });
                }
            }
        }
    }

    /// The sinks stand at `next`: what they refused below is not asked of them again.
    pub(super) fn settle(&mut self, next: &[u64]) {
        self.of_sinks.retain(|(place, origin)| next.get(*place).is_some_and(|next| origin.offset >= *next));
    }
}

impl From<Stretches> for Letters {
    fn from(stretches: Stretches) -> Self {
        Self { stretches, of_sinks: HashSet::new() }
    }
}

impl Refused {
    /// The sink that refused, by its place, and the answer of the record at this offset; none when it came to no sink.
    fn of_sink(&self, offset: u64) -> Option<(usize, Origin)> {
        self.sink.map(|place| (place, Origin { offset, transform: self.transform.unwrap_or_default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::dead_letter::Stage;
    use super::*;
    use crate::contract::{Fault, Rejection};

    fn refusers(digest: &str, configured: &str) -> Refusers {
        Refusers::new(&Serving::named(0, &[("first", digest)]), configured)
    }

    fn refused(transform: Option<usize>, sink: Option<usize>) -> Refused {
        Refused { place: 0, transform, stage: Stage::Transform, sink, why: Rejection::new(Fault::Refused, "no") }
    }

    #[test]
    fn refusals_of_the_same_module_and_configuration_are_known_in_their_stretch_alone() {
        let one = refusers("d1", "as it is");
        let mut letters = Letters::default();
        letters.pass(&one, 10, 20);
        letters.pass(&one, 25, 30);
        let refusal = refused(Some(0), None);
        let known = |letters: &Letters, refusers: &Refusers| {
            (0..40).filter(|offset| letters.have(&refusal, *offset, refusers)).collect::<Vec<_>>()
        };
        assert_eq!(known(&letters, &one), (10..30).collect::<Vec<_>>(), "what lies between two batches is no record");
        for other in [refusers("d2", "as it is"), refusers("d1", "another")] {
            assert_eq!(known(&letters, &other), [0; 0]);
        }
        assert!(letters.have(&refused(None, None), 29, &refusers("d2", "as it is")), "no module has seen it");

        // Others take what lies before, and what comes after it.
        let other = refusers("d2", "as it is");
        letters.pass(&other, 0, 10);
        assert_eq!(known(&letters, &one), (10..30).collect::<Vec<_>>());
        letters.pass(&other, 30, 35);
        assert_eq!((known(&letters, &other), known(&letters, &one)), ((30..35).collect(), vec![]));
    }

    #[test]
    fn what_was_read_without_it_is_not_known() {
        let one = refusers("d1", "");
        let mut letters = Letters::default();
        letters.pass(&one, 0, 10);
        let mut letters = letters.begin(50, &one);
        letters.pass(&one, 50, 60);
        let refusal = refused(Some(0), None);
        assert!(!letters.have(&refusal, 9, &one) && !letters.have(&refusal, 30, &one));
        assert!(letters.have(&refusal, 55, &one));
    }

    #[test]
    fn what_a_sink_refuses_is_known_until_its_ledger_has_passed() {
        let one = refusers("d1", "");
        let mut letters = Letters::default();
        letters.pass(&one, 0, 10);
        let (first, second) = (refused(Some(0), Some(0)), refused(Some(0), Some(1)));
        assert!(!letters.have(&first, 5, &one), "that a module's are filed says nothing of a sink's");
        letters.add(&first, 5);
        letters.add(&second, 5);
        letters.settle(&[6, 5]);
        assert!(!letters.have(&first, 5, &one) && letters.have(&second, 5, &one));
    }
}
