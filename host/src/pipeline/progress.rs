//! What a run has made durable, counted by kind, for reports and for the summary file.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts by name.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// What one pipeline has made durable in this run. A batch that had to be tried again counts once; one that a store
/// lost after it was durable counts again.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct PipelineSummary {
    /// The pipeline.
    pub name: String,
    /// Records by what they mean: create, read, update, delete, tombstone, truncate, …
    pub events: BTreeMap<&'static str, u64>,
    /// Commands by kind, as the transforms gave them: before they are folded by target.
    pub commands: BTreeMap<&'static str, u64>,
    /// Commands by kind that were refused, or left out with a refused one.
    #[serde(skip)]
    pub(super) left_out: Counts,
    /// Dead letters by fault.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// What all pipelines have done in this run.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Summary {
    /// By pipeline, in the order of the configuration.
    pub pipelines: Vec<PipelineSummary>,
}

impl PipelineSummary {
    /// Adds what another lane of the pipeline has done.
    pub(super) fn add(&mut self, other: &Self) {
        add(&mut self.events, &other.events);
        add(&mut self.commands, &other.commands);
        add(&mut self.left_out, &other.left_out);
        add(&mut self.rejected, &other.rejected);
    }
}

/// Counts one more of a kind.
pub(super) fn count(counts: &mut Counts, kind: &'static str) {
    *counts.entry(kind).or_default() += 1;
}

/// Adds one table of counts to another.
fn add(counts: &mut Counts, more: &Counts) {
    for (kind, number) in more {
        *counts.entry(kind).or_default() += number;
    }
}
