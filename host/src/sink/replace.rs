//! A target that is filled beside the one in use, and put in its place in one step.
//!
//! The fill is a pipeline of its own: it writes through [`Replacement::fresh`], whose ledger stands beside the real one
//! under another sink's name ([`beside`]). Nothing that it does touches the real target or the real ledger. Then, in
//! this order:
//!
//! 1. [`Replacement::hold`]: no owner of a partition can write or claim any more, and none that was writing just now
//!    can move the ledger. Each waits, and tries again.
//! 2. The fill comes to where the real ledger stands, and ends.
//! 3. [`Replacement::put_in_place`]: readers see the fresh target, and the real ledger says what the fresh one said, under
//!    tokens that nobody has. The owners claim again and go on from there.
//!
//! Killed at any moment, it leaves either the old target with the old ledger or the fresh one with its own. A hold whose
//! process was killed is over by itself.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Sink, SinkError, TopicHead};
use crate::source::{TopicFacts, TopicPartition};

/// Where one ledger stands in a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// The next offset that the sink wants.
    pub next: u64,
    /// No offset at or above it can be seen by readers; at least `next`.
    pub sent: u64,
    /// The digests of the modules that made the last commands; empty before the first.
    pub digest: String,
}

/// Where both ledgers stand in a partition; none where one does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// The partition.
    pub partition: TopicPartition,
    /// The real one.
    pub real: Option<Stand>,
    /// The fresh one.
    pub fresh: Option<Stand>,
}

/// Fills a fresh target in the place of a pipeline's on one sink. Methods may be called again after `Retry`.
#[async_trait]
pub trait Replacement: Send + Sync {
    /// The fresh target.
    fn fresh(&self) -> Arc<dyn Sink>;

    /// Removes what an earlier replacement has left that was killed, and answers what that was. A switch that one was
    /// killed in is finished or taken back before.
    ///
    /// # Errors
    /// As [`SinkError`] says; `Retry` while another replacement is just being put in place.
    async fn discard(&self) -> Result<Vec<String>, SinkError>;

    /// Makes ready what the fresh target needs beyond its [`Sink::prepare`]: its ledger knows the topics, under an epoch
    /// above the real one's.
    ///
    /// # Errors
    /// As [`SinkError`] says; `Stop` where the pipeline has not started on this sink, or has what cannot be replaced.
    async fn begin(&self, topics: &[(String, TopicFacts)]) -> Result<(), SinkError>;

    /// Where both ledgers stand, by partition.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn stands(&self) -> Result<Vec<Stands>, SinkError>;

    /// Keeps the owners from the real target, from now on and for some time; called again, for longer.
    ///
    /// # Errors
    /// As [`SinkError`] says; `Stop` where the hold was lost.
    async fn hold(&self) -> Result<(), SinkError>;

    /// Lets the owners go on.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn release(&self) -> Result<(), SinkError>;

    /// Puts the fresh target in place, while held and when nothing writes it any more. Answers what was done, and what
    /// is left for the operator.
    ///
    /// # Errors
    /// As [`SinkError`] says; `Stop` where nothing was changed.
    async fn put_in_place(&self) -> Result<Vec<String>, SinkError>;
}

/// What follows a sink's name in its fresh ledger, and an alias of a fresh index. No name in a configuration has it.
pub(crate) const BESIDE: &str = "~rewind";
/// What the schemas begin with that tables are copied to in PostgreSQL.
pub(crate) const COPIES: &str = "tidegate_rewind_";

/// The name under which the fresh ledger of a sink keeps its rows.
pub fn beside(sink: &str) -> String {
    format!("{sink}{BESIDE}")
}

/// The topic as the fresh ledger is to begin with it.
pub(super) fn next_head(real: Option<&TopicHead>, facts: &TopicFacts) -> Result<TopicHead, SinkError> {
    let epoch = real.map_or(Some(0), |real| real.epoch.checked_add(1));
    let stop =
        || SinkError::Stop("a topic cannot begin anew more than 65,535 times: give the sink a fresh target".into());
    Ok(TopicHead { facts: facts.clone(), epoch: epoch.ok_or_else(stop)? })
}
