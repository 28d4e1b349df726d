//! How far the source of a pipeline reaches, against how far the fill has come.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::config::{self, Config};
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
