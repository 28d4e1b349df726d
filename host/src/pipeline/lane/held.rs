//! The partitions that a lane holds: taken over, set back, resting, given back.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{ADVANCE_AFTER, Running};
use crate::pipeline::claim::Standing;
use crate::pipeline::retry::Backoff;
use crate::pipeline::serving::Serving;
use crate::source::status::Position;
use crate::source::{Assigned, Claim, Control, TopicPartition};

/// How long a partition rests that clashes with another one.
const REST: Duration = Duration::from_millis(200);

/// A partition that the lane has claimed.
pub(super) struct Held {
    /// Records under another claim are not taken.
    pub(super) claim: Claim,
    pub(super) log_start: u64,
    pub(super) standing: Standing,
    /// Everything below is durable, or was nobody's to give.
    pub(super) done: u64,
    /// The modules that handled what lies before the next batch.
    pub(super) by: Arc<Serving>,
    /// Everything below has been handled once; a sink may have to take it again.
    pub(super) handled: u64,
    /// What the modules before have handled, and handle again when it is given again.
    pub(super) by_before: Range<u64>,
    /// To be claimed anew: the source has been asked to assign it again.
    pub(super) lost: bool,
    /// Since when it clashes with another partition, if it does.
    pub(super) clashing: Option<Instant>,
    /// When it is to be given again, while it rests.
    pub(super) rests_until: Option<Instant>,
    /// What the source was last told of it.
    pub(super) told: Option<(u64, String)>,
    /// Where it is seen from outside.
    pub(super) position: Arc<Position>,
}

impl Running {
    /// Takes the partition over in all sinks, and has the source begin where the one furthest behind stands.
    pub(super) fn claim(&mut self, assigned: &Assigned) -> anyhow::Result<()> {
        let partition = &assigned.partition;
        let before = self.held.remove(partition);
        let stores = &self.lane.stores;
        let asked_again = self.asked_again.remove(partition);
        let claimed = stores.claim(assigned, before.as_ref().map(|before| &before.standing), asked_again);
        let Some(standing) = self.lane.runtime.block_on(claimed)? else {
            if let Some(before) = before {
                self.held.insert(partition.clone(), Held { claim: stores.next_claim(), lost: true, ..before });
            }
            self.asked_again.insert(partition.clone());
            let _ = self.lane.control.send(Control::ClaimAgain { partition: partition.clone() });
            return Ok(());
        };
        // Where records were lost, the source has none before its start.
        let offset = standing.lowest().max(assigned.log_start);
        tracing::info!(pipeline = stores.pipeline, %partition, offset, "claimed");
        stores.observed.claims.fetch_add(1, Ordering::Relaxed);
        let held = Held {
            claim: stores.next_claim(),
            log_start: assigned.log_start,
            standing,
            done: offset,
            by: self.serving.clone(),
            handled: before.as_ref().map_or(0, |before| before.handled),
            by_before: before.as_ref().map_or(0..0, |before| before.by_before.clone()),
            lost: false,
            clashing: before.and_then(|before| before.clashing),
            rests_until: None,
            told: None,
            position: stores.observed.source.claimed(partition, offset, assigned.log_end),
        };
        self.held.insert(partition.clone(), held);
        self.give(partition, offset);
        Ok(())
    }

    /// Has the source give a partition from an offset on, under the claim that is held.
    fn give(&self, partition: &TopicPartition, offset: u64) {
        let Some(claim) = self.held.get(partition).map(|held| held.claim) else { return };
        // The source may have ended in the meantime; then nothing will come.
        let _ = self.lane.control.send(Control::Begin { partition: partition.clone(), offset, claim });
    }

    /// Asks the source to assign a partition again: it knows whether it is still this process's to claim.
    pub(super) fn claim_again(&mut self, partition: &TopicPartition, why: &str) {
        let Some(held) = self.held.get_mut(partition) else { return };
        tracing::info!(pipeline = self.lane.stores.pipeline, %partition, why, "claiming the partition again");
        (held.claim, held.lost) = (self.lane.stores.next_claim(), true);
        // Two owners that take it from each other must not do so in step.
        if !self.lane.runtime.block_on(self.lane.stores.stop.wait(Backoff::default().next())) {
            let _ = self.lane.control.send(Control::ClaimAgain { partition: partition.clone() });
        }
    }

    /// Lets a partition wait for another one, while the others go on.
    pub(super) fn rest(&mut self, partition: &TopicPartition, standing: Standing, why: &str) {
        let Some(held) = self.held.get_mut(partition) else { return };
        if held.clashing.is_none() {
            tracing::warn!(pipeline = self.lane.stores.pipeline, %partition, why, "waiting for what it clashes with");
        }
        held.claim = self.lane.stores.next_claim();
        held.standing = standing;
        held.clashing.get_or_insert_with(Instant::now);
        held.rests_until = Some(Instant::now() + REST);
    }

    /// Has the partitions given again that have rested by then.
    pub(super) fn wake(&mut self, now: Instant) {
        let mut woken = Vec::new();
        for (partition, held) in &mut self.held {
            if held.rests_until.is_some_and(|until| until <= now) {
                held.rests_until = None;
                woken.push((partition.clone(), held.standing.lowest().max(held.log_start)));
            }
        }
        for (partition, offset) in woken {
            self.give(&partition, offset);
        }
    }

    /// Waits for the partitions that rest, and has them given again.
    pub(super) fn end_rests(&mut self) {
        while let Some(until) = self.held.values().filter_map(|held| held.rests_until).min() {
            let stopped = self.lane.stores.stop.wait(until.saturating_duration_since(Instant::now()));
            if self.lane.runtime.block_on(stopped) {
                return;
            }
            self.wake(until);
        }
    }

    /// How long to wait for records, before something else is to be done.
    pub(super) fn patience(&self) -> Duration {
        let next = self.held.values().filter_map(|held| held.rests_until).min();
        next.map_or(ADVANCE_AFTER, |next| next.saturating_duration_since(Instant::now()).min(ADVANCE_AFTER))
    }

    /// Gives a partition back: what is durable is told before.
    pub(super) fn release(&mut self, partition: &TopicPartition) -> anyhow::Result<()> {
        self.advance_one(partition)?;
        self.held.remove(partition);
        self.lane.stores.observed.source.released(partition);
        let _ = self.lane.control.send(Control::Released { partition: partition.clone() });
        Ok(())
    }

    /// Gives everything back at the end.
    pub(super) fn release_all(&mut self) {
        for partition in std::mem::take(&mut self.held).into_keys() {
            self.lane.stores.observed.source.released(&partition);
            let _ = self.lane.control.send(Control::Released { partition });
        }
    }
}
