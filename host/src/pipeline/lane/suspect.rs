//! Partitions whose first records may have ended the processes that claimed them. They are tried one at a time, record by
//! record, so that what a process dies of is known: nothing else that is suspected is given meanwhile, by any lane of any
//! pipeline. What has died of its trials is given up.
//!
//! A partition that waits for a store or a broker gives its turn back: nothing of its module runs then, and what it waits
//! for may be away for long.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Running;
use crate::pipeline::commit::Claims;
use crate::source::{Control, TopicPartition};

/// How long a partition that waits for a store or a broker keeps its turn.
const KEEPS: Duration = Duration::from_secs(2);

/// How long one keeps it of which no record comes. A record that is on its way may be what ends the process.
const KEEPS_WITHOUT_RECORDS: Duration = Duration::from_secs(30);

/// What a lane does about a partition.
#[derive(Debug, Default)]
pub(super) enum Suspicion {
    /// It is given.
    #[default]
    None,
    /// It is not, until it is its turn.
    Waits,
    /// It is its turn, and the source has been asked to count the trial in a commit before anything is given.
    Asked(Kept),
    /// It is given, record by record, until something at or behind this offset is done.
    Tried(u64, Kept),
    /// It is not given any more.
    GivenUp,
}

impl Suspicion {
    /// That of a partition which this process claims for the first time.
    pub(super) fn first(claims: Claims) -> Self {
        if claims.has_failed_its_trials() {
            Self::GivenUp
        } else if claims.are_suspect() {
            Self::Waits
        } else {
            Self::None
        }
    }

    /// Whether it is given, and has its turn: its trial counts.
    pub(super) fn is_tried_now(&self) -> bool {
        matches!(self, Self::Tried(_, kept) if kept.turn.is_some())
    }

    fn kept(&mut self) -> Option<&mut Kept> {
        match self {
            Self::Asked(kept) | Self::Tried(_, kept) => Some(kept),
            Self::None | Self::Waits | Self::GivenUp => None,
        }
    }
}

/// A turn, unless it was given back.
#[derive(Debug)]
pub(super) struct Kept {
    turn: Option<Turn>,
    since: Instant,
}

impl Kept {
    fn new(turn: Turn) -> Self {
        Self { turn: Some(turn), since: Instant::now() }
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
            match &mut held.suspicion {
                Suspicion::Tried(from, _) if held.done > *from || held.standing.clashes.are_there() => {
                    held.suspicion = Suspicion::None;
                }
                Suspicion::Tried(_, kept) if kept.since.elapsed() > KEEPS_WITHOUT_RECORDS => kept.turn = None,
                Suspicion::Asked(kept) if kept.since.elapsed() > KEEPS => kept.turn = None,
                _ => {}
            }
        }
        let waits = self.held.iter_mut().filter(|(_, held)| matches!(held.suspicion, Suspicion::Waits) && !held.lost);
        let Some((partition, held)) = waits.min_by(|(one, _), (other, _)| one.cmp(other)) else { return };
        let Some(turn) = Turn::take(&self.lane.stores.trial) else { return };
        (held.suspicion, held.lost) = (Suspicion::Asked(Kept::new(turn)), true);
        held.claim = self.lane.stores.next_claim();
        // The source may have ended in the meantime; then nobody tries.
        let _ = self.lane.control.send(Control::Try { partition: partition.clone() });
    }

    /// What becomes of the suspicion of a partition that this process has claimed again. `claims` are those of the claim.
    pub(super) fn suspicion_after(&self, before: Suspicion, claims: &mut Claims, offset: u64) -> Suspicion {
        match before {
            // What has gone on is beyond suspicion.
            Suspicion::Asked(Kept { turn: Some(turn), .. }) | Suspicion::Tried(_, Kept { turn: Some(turn), .. }) => {
                Suspicion::Tried(offset, Kept::new(turn))
            }
            // The trial is counted, and another one may be going on.
            Suspicion::Asked(_) => match Turn::take(&self.lane.stores.trial) {
                Some(turn) => Suspicion::Tried(offset, Kept::new(turn)),
                None => {
                    claims.take_trial_back();
                    Suspicion::Waits
                }
            },
            Suspicion::Tried(..) => Suspicion::Waits,
            before => before,
        }
    }

    /// Whether records of this partition may be handled. Where it is tried and has given its turn back, it takes another
    /// one, or waits for it.
    pub(super) fn may_handle(&mut self, partition: &TopicPartition) -> bool {
        let Some(held) = self.held.get_mut(partition) else { return false };
        let Suspicion::Tried(_, kept) = &mut held.suspicion else { return true };
        if kept.turn.is_none() {
            let Some(turn) = Turn::take(&self.lane.stores.trial) else {
                held.suspicion = Suspicion::Waits;
                held.standing.claims.take_trial_back();
                self.say_untried(partition);
                self.claim_again(partition, "another one is tried");
                return false;
            };
            *kept = Kept::new(turn);
        }
        true
    }

    /// Waits for something of a store. The lane's turn is given back when that waits for a store itself.
    pub(super) fn wait<T>(&mut self, done: impl Future<Output = T>) -> T {
        let (mut done, runtime) = (pin!(done), self.lane.runtime.clone());
        loop {
            let keeps =
                self.held.values_mut().any(|held| held.suspicion.kept().is_some_and(|kept| kept.turn.is_some()));
            if !keeps {
                return runtime.block_on(done);
            }
            if let Ok(done) = runtime.block_on(async { timeout(KEEPS, done.as_mut()).await }) {
                return done;
            }
            // A write that takes long without a failure may be what ends the process. Topics have no blanks in their names.
            if self.lane.stores.observed.waiting.current().iter().any(|(what, _)| what.contains(' ')) {
                self.give_turns_back();
            }
        }
    }

    fn give_turns_back(&mut self) {
        let mut untried = Vec::new();
        for (partition, held) in &mut self.held {
            let is_tried = matches!(held.suspicion, Suspicion::Tried(..));
            if held.suspicion.kept().and_then(|kept| kept.turn.take()).is_some() && is_tried {
                held.standing.claims.take_trial_back();
                untried.push(partition.clone());
            }
        }
        untried.iter().for_each(|partition| self.say_untried(partition));
    }

    /// Has the commit of a partition say that its trial has not come to its end: who dies now, dies of something else.
    pub(super) fn say_untried(&self, partition: &TopicPartition) {
        let Some(held) = self.held.get(partition) else { return };
        let (offset, metadata) = (held.standing.lowest(), self.lane.stores.commit_metadata(&held.standing));
        // The source may have ended in the meantime; then nobody commits.
        let _ = self.lane.control.send(Control::Durable { partition: partition.clone(), offset, metadata });
    }
}
