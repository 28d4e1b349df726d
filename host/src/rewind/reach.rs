//! How far the source of a pipeline reaches, against how far the fill has come.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::config::{self, Config};
use crate::pipeline::commit;
use crate::sink::replace::{Stand, Stands};
use crate::source::kafka::{Ends, Extent};
use crate::source::{KafkaSource, TopicFacts, TopicPartition};

/// The source, as it is asked from outside.
pub(super) struct Reach(Option<Extent>);

/// What the source said.
pub(super) struct Looked {
    /// The topics; none where the source is files.
    pub(super) topics: BTreeMap<String, TopicFacts>,
    ends: Option<BTreeMap<TopicPartition, u64>>,
}

impl Reach {
    /// Of the source of this pipeline.
    pub(super) fn of(config: &Config, pipeline: &config::Pipeline) -> anyhow::Result<Self> {
        Ok(Self(match &config.source {
            config::Source::File(_) => None,
            config::Source::Kafka(source) => Some(KafkaSource::new(source, pipeline).extent()?),
        }))
    }

    /// Where it ends now.
    pub(super) fn look(&self) -> anyhow::Result<Looked> {
        let Some(extent) = &self.0 else { return Ok(Looked { topics: BTreeMap::new(), ends: None }) };
        let Ends { topics, ends } = extent.ends().context("the source")?;
        Ok(Looked { topics, ends: Some(ends) })
    }

    /// Which modules the processes serve by that run the pipeline, by partition, where their commits say so.
    pub(super) fn serving(&self, stands: &[Stands]) -> anyhow::Result<BTreeMap<TopicPartition, String>> {
        let Some(extent) = &self.0 else { return Ok(BTreeMap::new()) };
        let committed = extent.committed(stands.iter().map(|stands| &stands.partition))?;
        let serving = committed.into_iter();
        Ok(serving.filter_map(|(partition, commit)| Some((partition, commit::serving(&commit.metadata)?))).collect())
    }

    /// How many processes run the pipeline. From files, nobody knows.
    pub(super) fn members(&self) -> anyhow::Result<usize> {
        self.0.as_ref().map_or(Ok(0), Extent::members)
    }
}

impl Looked {
    /// Whether the fill has yet to write anything of a partition of which the real ledger says who wrote it.
    pub(super) fn has_unwritten(&self, stands: &[Stands]) -> bool {
        stands.iter().any(|Stands { partition, real, fresh }| {
            let (Some(real), Some(fresh), Some(ends)) = (real, fresh, &self.ends) else { return false };
            let is_there = ends.get(partition).is_some_and(|end| fresh.next < *end);
            is_there && !real.digest.is_empty() && fresh.digest.is_empty()
        })
    }

    /// How many offsets the fill is behind the real ledger, of which `wanted` says how far it is to come. A ledger that is
    /// beyond the end of the log is of another topic: then the end is wanted. None while the fill has not begun
    /// everywhere.
    pub(super) fn behind(&self, stands: &[Stands], wanted: impl Fn(&Stand) -> u64) -> Option<u64> {
        let mut behind = 0;
        let Some(ends) = &self.ends else {
            for Stands { real, fresh, .. } in stands {
                let fresh = fresh.as_ref().map_or(0, |fresh| fresh.next);
                behind += real.as_ref().map_or(0, |real| real.next).saturating_sub(fresh);
            }
            return Some(behind);
        };
        for (partition, end) in ends {
            let stands = stands.iter().find(|stands| stands.partition == *partition)?;
            let wanted = stands.real.as_ref().map_or(0, &wanted).min(*end);
            behind += wanted.saturating_sub(stands.fresh.as_ref()?.next);
        }
        Some(behind)
    }
}

/// Where the fill stands now, and the owners when they were held: partition by partition, since topics that are met
/// meanwhile stand between the others.
pub(super) fn as_held(now: Vec<Stands>, held: &[Stands]) -> Vec<Stands> {
    let then = |partition: &TopicPartition| held.iter().find(|then| then.partition == *partition);
    let one = |now: Stands| Stands { real: then(&now.partition).and_then(|then| then.real.clone()), ..now };
    now.into_iter().map(one).collect()
}

/// Whether somebody had claimed a partition of which nothing was known when the owners were held: that owner may have
/// written since.
pub(super) fn has_another_owner(now: &[Stands], held: &[Stands]) -> bool {
    let was_held =
        |partition: &TopicPartition| held.iter().any(|then| then.partition == *partition && then.real.is_some());
    now.iter().any(|now| now.real.is_some() && !was_held(&now.partition))
}

/// A partition in which other modules serve than the fill was made by.
pub(super) struct Differs {
    pub(super) partition: TopicPartition,
    /// What serves there, the beginning of each digest.
    pub(super) serving: String,
    /// What the fill was made by.
    pub(super) filled: String,
}

/// The first partition that has others. `serving` is what the commits say; where they say nothing, the ledger says what
/// wrote last.
pub(super) fn other_modules(stands: &[Stands], serving: &BTreeMap<TopicPartition, String>) -> Option<Differs> {
    stands.iter().find_map(|Stands { partition, real, fresh }| {
        let (real, fresh) = (real.as_ref()?, fresh.as_ref()?);
        let told = serving.get(partition).cloned().unwrap_or_else(|| commit::shortened(&real.digest));
        let filled = commit::shortened(&fresh.digest);
        let differ = !told.is_empty() && !filled.is_empty() && told != filled;
        differ.then(|| Differs { partition: partition.clone(), serving: told, filled })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(topic: &str, real: Option<(u64, &str)>, fresh: Option<(u64, &str)>) -> Stands {
        let stand = |(next, digest): (u64, &str)| Stand { next, sent: next, digest: digest.to_owned() };
        let partition = TopicPartition { topic: topic.into(), partition: 0 };
        Stands { partition, real: real.map(stand), fresh: fresh.map(stand) }
    }

    #[test]
    fn topic_met_during_hold_leaves_others_at_their_own_offsets() {
        let held = [stands("b", Some((5000, "x")), None), stands("c", Some((10, "x")), None)];
        let now = vec![
            stands("a", None, Some((0, ""))),
            stands("b", Some((5000, "x")), Some((4500, "x"))),
            stands("c", Some((10, "x")), Some((10, "x"))),
        ];
        let next: Vec<_> = as_held(now.clone(), &held).into_iter().map(|one| one.real.map(|real| real.next)).collect();
        assert_eq!(next, [None, Some(5000), Some(10)]);
        let ends = now.iter().map(|one| (one.partition.clone(), 6000)).collect();
        let looked = Looked { topics: BTreeMap::new(), ends: Some(ends) };
        assert_eq!(looked.behind(&as_held(now, &held), |real| real.sent), Some(500));
    }

    #[test]
    fn modules_are_compared_by_commit_and_by_ledger_without_one() {
        let one = [stands("t", Some((7, "old")), Some((7, "new")))];
        let says = |modules: &str| [(one[0].partition.clone(), modules.to_owned())].into();
        assert!(other_modules(&one, &says("new")).is_none());
        let differs = other_modules(&one, &says("third")).map(|differs| (differs.serving, differs.filled));
        assert_eq!(differs, Some(("third".into(), "new".into())));
        assert!(other_modules(&one, &BTreeMap::new()).is_some());
        // What has written nothing yet names no modules.
        assert!(other_modules(&[stands("t", Some((7, "old")), Some((7, "")))], &BTreeMap::new()).is_none());
    }
}
