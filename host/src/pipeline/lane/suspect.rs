//! Partitions whose first records may have ended the processes that claimed them. They are tried one at a time, record by
//! record, so that what a process dies of is known: nothing else that is suspected is given meanwhile, by any lane of any
//! pipeline. What has died of its trials is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Running;
use crate::pipeline::commit::Claims;
use crate::source::{Control, TopicPartition};

/// What a lane does about a partition.
#[derive(Debug, Default)]
pub(super) enum Suspicion {
    /// It is given.
    #[default]
    None,
    /// It is not, until it is its turn.
    Waits,
    /// It is its turn, and the source has been asked to count the trial in a commit before anything is given.
    Asked(Turn),
    /// It is given, record by record, until something at or behind this offset is done.
    Tried(u64, Turn),
    /// It is not given any more.
    GivenUp,
}

impl Suspicion {
    /// That of a partition which this process has claimed, for the first time or, from `before`, again.
    pub(super) fn after(before: Option<Self>, claims: Claims, offset: u64) -> Self {
        match before {
            // What has gone on is beyond suspicion.
            Some(Self::Asked(turn) | Self::Tried(_, turn)) => Self::Tried(offset, turn),
            Some(before) => before,
            None if claims.has_failed_its_trials() => Self::GivenUp,
            None if claims.are_suspect() => Self::Waits,
            None => Self::None,
        }
    }
}

/// The right to try a partition; the next one may be taken when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<AtomicBool>);

impl Turn {
    fn take(taken: &Arc<AtomicBool>) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel)).then(|| Self(taken.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Running {
    /// Whether records of a partition that was claimed are to be given now. Tells where they are not as usual.
    pub(super) fn is_given(&mut self, partition: &TopicPartition) -> bool {
        let Some(held) = self.held.get_mut(partition) else { return false };
        let pipeline = self.lane.stores.pipeline.as_str();
        let (offset, claims) = (held.standing.lowest(), &mut held.standing.claims);
        match &held.suspicion {
            Suspicion::None => true,
            Suspicion::Tried(..) => {
                tracing::warn!(pipeline, %partition, offset, "handling one record at a time, since the processes that claimed the partition have died");
                held.one_by_one = self.lane.batch.records;
                true
            }
            Suspicion::GivenUp => {
                if claims.has_failed_its_trials() {
                    let died = claims.count - 1;
                    claims.forget_trials();
                    let why = format!(
                        "{died} processes in a row have died with the record at or behind {partition}@{offset}: it is not \
                         read any more. Mend the module, or give the process more memory, and start again"
                    );
                    self.lane.stores.observed.waiting.is_news(&partition.to_string(), &why);
                    tracing::error!("pipeline `{pipeline}`: {why}; the other partitions go on");
                }
                false
            }
            Suspicion::Waits | Suspicion::Asked(_) => false,
        }
    }

    /// Ends the trial that has come to something, and begins the next.
    pub(super) fn try_suspects(&mut self) {
        for held in self.held.values_mut() {
            if let Suspicion::Tried(from, _) = &held.suspicion
                && (held.done > *from || held.clashing.is_some())
            {
                held.suspicion = Suspicion::None;
            }
        }
        let waits = self.held.iter_mut().filter(|(_, held)| matches!(held.suspicion, Suspicion::Waits) && !held.lost);
        let Some((partition, held)) = waits.min_by(|(one, _), (other, _)| one.cmp(other)) else { return };
        let Some(turn) = Turn::take(&self.lane.stores.trial) else { return };
        (held.suspicion, held.lost) = (Suspicion::Asked(turn), true);
        held.claim = self.lane.stores.next_claim();
        // The source may have ended in the meantime; then nobody tries.
        let _ = self.lane.control.send(Control::Try { partition: partition.clone() });
    }
}
