//! The partitions that a lane holds: taken over, set back, resting, given back.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::suspect::Suspicion;
use super::{ADVANCE_AFTER, Advance, Running};
use crate::pipeline::claim::Standing;
use crate::pipeline::commit::{Claims, CommitMetadata};
use crate::pipeline::memo::LastRecord;
use crate::pipeline::retry::Backoff;
use crate::pipeline::serving::Serving;
use crate::pipeline::topic::AnotherLog;
use crate::sink::LedgerKey;
use crate::source::status::Position;
use crate::source::{Assigned, Claim, Control, Record, TopicPartition};

/// How often it is asked again where a log ends that seems to end too early: answers to earlier questions may still come.
const DOUBTS: u32 = 2;

/// How long a partition rests that clashes with another one.
const REST: Duration = Duration::from_millis(200);

/// A partition that the lane has claimed.
pub(super) struct Held {
    /// Records under another claim are not taken.
    pub(super) claim: Claim,
    pub(super) log_start: u64,
    pub(super) standing: Standing,
    /// The records that sinks took last, by the sinks' places, as long as nobody has seen them again.
    pub(super) unseen: Vec<(usize, LastRecord)>,
    /// Everything below is durable, or was nobody's to give.
    pub(super) done: u64,
    /// `done` when the ledgers were last moved along.
    pub(super) advanced: u64,
    /// The modules that handled what lies before the next batch.
    pub(super) by: Arc<Serving>,
    /// Everything below has been handled once; a sink may have to take it again.
    pub(super) handled: u64,
    /// What the modules before have handled, and handle again when it is given again.
    pub(super) by_before: Range<u64>,
    /// To be claimed anew: the source has been asked to assign it again.
    pub(super) lost: bool,
    /// Whether its records may have ended the processes before.
    pub(super) suspicion: Suspicion,
    /// How many records are to be handled one by one: one of them has ended the process again and again.
    pub(super) one_by_one: usize,
    /// When it is to be given again, while it rests.
    pub(super) rests_until: Option<Instant>,
    /// What the source was last told of it.
    pub(super) told: Option<(u64, String)>,
    /// Where it is seen from outside.
    pub(super) position: Arc<Position>,
}

impl Held {
    /// The sinks whose last record nobody has seen again.
    pub(super) fn unverified(&self) -> Vec<usize> {
        self.unseen.iter().map(|(place, _)| *place).collect()
    }
}

impl Running {
    /// Takes the partition over in all sinks, and has the source begin where the one furthest behind stands.
    pub(super) fn claim(&mut self, assigned: &Assigned) -> anyhow::Result<()> {
        let partition = &assigned.partition;
        let stores = self.lane.stores.clone();
        let before = self.held.get_mut(partition).map(|before| {
            if let (Suspicion::Asked(_), Some(commit)) = (&before.suspicion, &assigned.committed) {
                // The trial is counted there.
                before.standing.claims = CommitMetadata::read(&commit.metadata).claims;
            }
            before.standing.clone()
        });
        let mut standing = match self.wait(stores.claim(assigned, before.as_ref())) {
            Err(problem) if problem.is::<AnotherLog>() && self.doubts(partition) => {
                if let Some(held) = self.held.get_mut(partition) {
                    (held.claim, held.lost) = (stores.next_claim(), true);
                }
                self.ask_again(partition);
                return Ok(());
            }
            Err(problem) => {
                self.held.remove(partition);
                self.let_sinks_go(partition);
                // The pipeline stops for that, and the process has not died.
                if let Some(commit) = &assigned.committed {
                    let (partition, offset) = (partition.clone(), commit.offset);
                    let metadata = CommitMetadata::forget_claims(&commit.metadata);
                    let _ = self.lane.control.send(Control::Durable { partition, offset, metadata });
                }
                return Err(problem);
            }
            Ok(standing) => standing,
        };
        let before = self.held.remove(partition);
        self.doubts.remove(partition);
        // Where records were lost, the source has none before its start.
        let offset = standing.lowest().max(assigned.log_start);
        let unseen = standing.seen_last(assigned);
        standing.unverified = unseen.iter().map(|(place, _)| *place).collect();
        // From the one that was taken last, to see that it is still the same topic.
        let first = unseen.iter().map(|(_, last)| last.offset).fold(offset, u64::min);
        tracing::info!(pipeline = stores.pipeline, %partition, offset, "claimed");
        stores.observed.claims.fetch_add(1, Ordering::Relaxed);
        let (mut suspicion, mut was_asked) = (Suspicion::first(standing.claims), false);
        let (mut handled, mut by_before) = (0, 0..0);
        if let Some(before) = before {
            // Its turn, and the trial with it, may have been given back while the claim waited.
            standing.claims = before.standing.claims.found_at(standing.lowest());
            was_asked = matches!(before.suspicion, Suspicion::Asked(_));
            suspicion = self.suspicion_after(before.suspicion, &mut standing.claims, offset);
            (handled, by_before) = (before.handled, before.by_before);
        }
        let held = Held {
            claim: stores.next_claim(),
            log_start: assigned.log_start,
            standing,
            unseen,
            done: offset,
            advanced: offset,
            by: self.serving.clone(),
            handled,
            by_before,
            lost: false,
            suspicion,
            one_by_one: 0,
            rests_until: None,
            told: None,
            position: stores.observed.source.claimed(partition, offset, assigned.log_end),
        };
        let is_untried = was_asked && matches!(held.suspicion, Suspicion::Waits);
        self.held.insert(partition.clone(), held);
        if is_untried {
            self.say_untried(partition);
        }
        if self.is_given(partition) {
            self.give(partition, first);
        }
        self.tell(partition);
        Ok(())
    }

    /// Takes a partition's claim back, and its trial, also where it was lost meanwhile: what ends now has not died of its
    /// records. Who has it next counts on from there; a commit that comes after theirs is refused by the group.
    fn end_claim(&mut self, partition: &TopicPartition) {
        self.lane.stores.observed.waiting.is_over(&partition.to_string());
        let Some(held) = self.held.get_mut(partition) else { return };
        match &held.suspicion {
            // Nothing was tried, and so the commits have it right.
            Suspicion::Waits => {}
            // The source may have counted the trial.
            Suspicion::Asked(_) => self.say_untried(partition),
            Suspicion::Tried(..) => {
                if held.suspicion.is_tried_now() {
                    held.standing.claims.take_trial_back();
                }
                self.say(partition);
            }
            Suspicion::None | Suspicion::GivenUp => {
                held.standing.claims = Claims::default();
                self.say(partition);
            }
        }
    }

    /// Holds records against those that the sinks took last, and leaves those that a sink wants.
    ///
    /// # Errors
    /// When one is another: the offsets of this topic are not those that the ledgers mean.
    pub(super) fn recognize(&mut self, partition: &TopicPartition, records: &mut Vec<Record>) -> anyhow::Result<()> {
        // Where all were of an earlier claim, none is left: that says nothing of those that come under this one.
        let Some(last) = records.last().map(|record| record.offset) else { return Ok(()) };
        let Some(held) = self.held.get_mut(partition) else { return Ok(()) };
        let another = |(_, last): &&(usize, LastRecord)| {
            let place = records.binary_search_by_key(&last.offset, |record| record.offset);
            place.is_ok_and(|place| LastRecord::of(&records[place]) != *last)
        };
        if let Some((place, last)) = held.unseen.iter().find(another) {
            let (pipeline, bound) = (&self.lane.stores.pipeline, &self.lane.stores.sinks[*place]);
            return Err(anyhow!(
                "pipeline `{pipeline}`: the record at {partition}@{} is not the one that sink `{}` took there: the topic \
                 was made anew, or this is another cluster. {}",
                last.offset,
                bound.name,
                bound.remedy()
            ));
        }
        // What is not there any more was compacted away, or ends a transaction.
        held.unseen.retain(|(_, unseen)| unseen.offset > last);
        // What every sink has was given to be recognized, and has been handled and counted before.
        let lowest = held.standing.lowest();
        records.drain(..records.partition_point(|record| record.offset < lowest));
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
        self.ask_again(partition);
    }

    /// Whether it is to be asked once more where a log ends: whoever asks in answer to this lane's claim gets an end
    /// that is later than what the ledger says, unless the records of before are gone.
    fn doubts(&mut self, partition: &TopicPartition) -> bool {
        let doubts = self.doubts.entry(partition.clone()).or_default();
        *doubts += 1;
        *doubts <= DOUBTS
    }

    fn ask_again(&self, partition: &TopicPartition) {
        // Two owners that take it from each other must not do so in step.
        if !self.lane.runtime.block_on(self.lane.stores.stop.wait(Backoff::default().next())) {
            let _ = self.lane.control.send(Control::ClaimAgain { partition: partition.clone() });
        }
    }

    /// Lets a partition wait for another one, while the others go on.
    pub(super) fn rest(&mut self, partition: &TopicPartition, standing: Standing, why: &str) {
        let Some(held) = self.held.get_mut(partition) else { return };
        if !held.standing.clashes.are_there() {
            tracing::warn!(pipeline = self.lane.stores.pipeline, %partition, why, "waiting for what it clashes with");
        }
        held.claim = self.lane.stores.next_claim();
        held.standing = Standing { claims: held.standing.claims, ..standing };
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
        self.advance_one(partition, Advance::All)?;
        self.end_claim(partition);
        self.held.remove(partition);
        self.let_sinks_go(partition);
        self.lane.stores.observed.source.released(partition);
        let _ = self.lane.control.send(Control::Released { partition: partition.clone() });
        Ok(())
    }

    /// Before the source hears of it: it may give the partition to another lane at once, which claims it in the same sinks.
    fn let_sinks_go(&self, partition: &TopicPartition) {
        let stores = &self.lane.stores;
        let key = LedgerKey { pipeline: stores.pipeline.clone(), partition: partition.clone() };
        for bound in &stores.sinks {
            bound.sink.release(&key);
        }
    }

    /// Gives everything back at the end.
    pub(super) fn release_all(&mut self) {
        let partitions: Vec<_> = self.held.keys().cloned().collect();
        for partition in partitions {
            self.end_claim(&partition);
            self.held.remove(&partition);
            self.let_sinks_go(&partition);
            self.lane.stores.observed.source.released(&partition);
            let _ = self.lane.control.send(Control::Released { partition });
        }
    }
}
