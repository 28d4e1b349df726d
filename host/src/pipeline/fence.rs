//! Keeps an owner that has lost its partition from publishing to the sinks that keep no ledger.
//!
//! A ledger fences by itself: a write under an older token changes nothing. Messages have none. So before any of a batch
//! is published, a ledger of the pipeline moves to the batch's end, which shows that no later claim was there; and a try
//! begins only while the partition is surely this process's by what the group said last.

use super::claim::Standing;
use super::write::{BoundSink, Ended, Prepared, Stores};
use crate::sink::{SinkError, Step, Write, Written};
use crate::source::{Holds, Lease};

impl Stores {
    /// The place of the sink whose ledger moves before anything is published: the last one whose ledger other processes see.
    /// That is a cache where there is one, which answers soonest.
    pub(super) fn fencing(&self) -> Option<usize> {
        self.sinks.iter().rposition(|bound| bound.sink.ledger_outlives_the_process())
    }

    /// Whether that ledger notes how far the sinks without one have come.
    pub(super) fn notes_positions(&self, standing: &Standing) -> bool {
        let Some(place) = self.fencing() else { return true };
        let noted = &standing.memos[place].positions;
        self.positions_noted(standing, place)
            .iter()
            .all(|(name, next)| noted.get(name).copied().unwrap_or_default() >= *next)
    }

    /// Moves a ledger to the end of a batch of which none has written anything. Where messages stand is in the group's
    /// commits, so that a process which ends right after this leaves them to be published by the next one.
    ///
    /// # Errors
    /// As [`Stores::write`].
    pub(super) async fn fence(&self, standing: &mut Standing, batch: &Prepared) -> anyhow::Result<Ended> {
        let Some(place) = self.fencing() else { return Ok(Ended::Durable) };
        let to = standing.next[place].max(batch.to);
        let memo = self.memo_at(standing, place, to);
        self.move_ledger(standing, place, to, memo, &batch.serving).await
    }
}

/// One try of a write.
pub(super) async fn write_once(
    bound: &BoundSink,
    step: &Step<'_>,
    writes: &[Write<'_>],
    lease: &Lease,
) -> Result<Written, SinkError> {
    if bound.sink.keeps_ledger() {
        return bound.sink.write(step, writes).await;
    }
    match lease.publish() {
        Ok(_publishing) => bound.sink.publish(step, writes, lease).await,
        Err(Holds::Lost) => Ok(Written::Fenced),
        Err(_) => Err(SinkError::Retry(format!(
            "the source's group has not confirmed lately that {} is this process's, and so nothing is published for it",
            step.key.partition
        ))),
    }
}
