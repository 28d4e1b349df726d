//! Which dead letters of a partition have been filed. A record may be read again: for a sink that was added, a cache that is
//! filled again, a store that was set back, a batch that is retried.
//!
//! - Records refused before any sink, by a module or because they cannot be decoded: the metadata of the group's commit has
//!   a range of offsets for each transform, within which everything that it refuses has been filed. A range is valid for one
//!   module under one configuration and one version of the host, since others refuse other records. A batch is added to it
//!   once it is durable: until then it is retried, and the same module may fail at another record of it.
//! - Traps and missed deadlines are not looked up in a range: the module need not have failed there the first time.
//! - Records refused by a sink are filed each time. A sink is asked only for what is not below its ledger, and its ledger
//!   passes a record only after the letter was filed: so the refusal is new, or the store has lost its ledger's last moves.
//!
//! What was filed for a batch that is not durable is kept in memory letter by letter, so that a batch that is retried files
//! it once.
//!
//! If too little is known here, a letter is filed twice, under the same id. Too much is never known, which would lose one.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::serving::Serving;
use super::write::Refused;
use crate::command::Port;
use crate::config;
use crate::contract::Fault;
use crate::engine::Limits;

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
    /// What has been filed for batches that are not durable yet.
    of_batches: HashSet<Answer>,
}

/// What a letter is about, as long as the modules keep their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Answer {
    /// The sink that refused, by its place; none where the record came to none.
    sink: Option<usize>,
    /// The transform, by its place; none where the record came to none.
    transform: Option<usize>,
    /// The record.
    offset: u64,
}

/// What decides beside the modules which records are refused before any sink; it is compared alone. References stand there
/// with their values, so it is for hashing.
pub(super) fn configured(pipeline: &config::Pipeline, limits: &Limits) -> String {
    let transforms = pipeline.transforms.iter().map(|one| {
        let grants = Port::ALL.map(|port| one.grants.of(port).iter().map(|text| text.as_str()).collect::<Vec<_>>());
        json!({ "name": one.name.as_str(), "settings": one.settings.as_str(), "grants": grants })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "events": pipeline.event_options(),
        "call_deadline": limits.call_deadline.as_millis(),
        "memory_bytes": limits.memory_bytes,
        "commands_per_change": limits.commands_per_change,
        "answer_bytes": limits.answer_bytes,
        "transforms": transforms.collect::<Vec<_>>(),
    })
    .to_string()
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

    /// All that is known is of records below this offset.
    pub(super) fn below(&self) -> u64 {
        let of_batches = self.of_batches.iter().map(|answer| answer.offset + 1);
        self.stretches.values().map(|stretch| stretch.to).chain(of_batches).max().unwrap_or_default()
    }

    /// For the commit.
    pub(super) fn stretches(&self) -> &Stretches {
        &self.stretches
    }

    /// Whether this is filed, of the record at this offset.
    pub(super) fn have(&self, refused: &Refused, offset: u64, refusers: &Refusers) -> bool {
        if self.of_batches.contains(&refused.answer(offset)) {
            return true;
        }
        if refused.sink.is_some() || matches!(refused.why.fault, Fault::Trapped | Fault::Deadline) {
            return false;
        }
        let refuser = refused.transform.map_or_else(|| refusers.0.last(), |transform| refusers.0.get(transform));
        refuser.is_some_and(|(name, by)| {
            let stretch = self.stretches.get(name).filter(|stretch| stretch.by == *by);
            stretch.is_some_and(|stretch| (stretch.from..stretch.to).contains(&offset))
        })
    }

    /// This is filed now.
    pub(super) fn add(&mut self, refused: &Refused, offset: u64) {
        self.of_batches.insert(refused.answer(offset));
    }

    /// A batch from `from` to before `to` is durable: everything has been filed that these refuse of it before any sink.
    /// Called for the batches of a partition in order, so offsets between two batches have no records.
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

    /// The sinks stand at `next`: what they refused below is not asked of them again, and where all of them have passed
    /// no module is asked again.
    pub(super) fn settle(&mut self, next: &[u64]) {
        let lowest = next.iter().copied().min().unwrap_or_default();
        let of = |sink: Option<usize>| sink.map_or(Some(lowest), |place| next.get(place).copied());
        self.of_batches.retain(|answer| of(answer.sink).is_some_and(|next| answer.offset >= next));
    }
}

impl From<Stretches> for Letters {
    fn from(stretches: Stretches) -> Self {
        Self { stretches, of_batches: HashSet::new() }
    }
}

impl Refused {
    /// What its letter is about, of the record at this offset.
    fn answer(&self, offset: u64) -> Answer {
        Answer { sink: self.sink, transform: self.transform, offset }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::dead_letter::Stage;
    use super::*;
    use crate::contract::Rejection;

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

    #[test]
    fn configuration_with_another_limit_or_format_is_another() {
        const CONFIG: &str = "[source.file]\npaths = [\"e.jsonl\"]\n[dead_letters.file]\npath = \"d.jsonl\"\n\
            [sinks.s.null]\n[[pipelines]]\nname = \"p\"\ntopics = [\"t\"]\nsinks = { cache = \"s\" }\n\
            [[pipelines.transforms]]\nname = \"first\"\nmodule = \"m.wasm\"\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        for (name, text) in [("tidegate.toml", CONFIG), ("m.wasm", ""), ("e.jsonl", "")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let config = config::Config::load(&path).unwrap();
        let (pipeline, limits) = (&config.pipelines[0], &config.engine.limits);
        let mut all = vec![configured(pipeline, limits)];
        assert_eq!(all[0], configured(&pipeline.clone(), &limits.clone()));
        for change in [
            |limits: &mut Limits| limits.call_deadline *= 2,
            |limits: &mut Limits| limits.memory_bytes *= 2,
            |limits: &mut Limits| limits.commands_per_change *= 2,
            |limits: &mut Limits| limits.answer_bytes *= 2,
        ] {
            let mut limits = limits.clone();
            change(&mut limits);
            all.push(configured(pipeline, &limits));
        }
        let flattened = config::Pipeline { format: crate::event::Format::Flattened, ..pipeline.clone() };
        all.push(configured(&flattened, limits));
        let mut granted = pipeline.clone();
        granted.transforms[0].grants.cache.push(config::Text::plain("a*"));
        all.push(configured(&granted, limits));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 7, "{all:?}");
    }

    #[test]
    fn failure_that_depends_on_the_moment_is_known_until_the_batch_is_durable() {
        let one = refusers("d1", "");
        for fault in [Fault::Trapped, Fault::Deadline] {
            let failure = Refused { why: Rejection::new(fault, "no"), ..refused(Some(0), None) };
            let mut letters = Letters::default();
            letters.add(&failure, 5);
            assert!(letters.have(&failure, 5, &one) && !letters.have(&failure, 4, &one));
            letters.pass(&one, 0, 10);
            letters.settle(&[10, 5]);
            assert!(letters.have(&failure, 5, &one), "a sink lacks it, and its record comes again");
            letters.settle(&[10, 10]);
            assert!(!letters.have(&failure, 5, &one));
        }
    }
}
