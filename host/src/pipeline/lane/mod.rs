//! The loop of a lane: take what waits, transform it while the batch before is being written, write it, go on.
//!
//! A lane is a thread that owns its partitions: their claims, their standing in the ledgers, and the one batch that
//! is being written. Never more than two batches are in memory: one being written, one being transformed.

mod held;
mod ledger_check;
mod replay;
mod suspect;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use self::held::Held;
use self::ledger_check::LedgerChecks;
use self::suspect::Suspicion;
use super::claim::Standing;
use super::progress::PipelineSummary;
use super::serving::Serving;
use super::trial::By;
use super::write::{Ended, Prepared, Stores};
use crate::source::{Bounds, Control, Item, LaneQueue, Record, TopicPartition};

/// Sinks that got no commands are moved along after this long, so that a restart does not read days again.
const ADVANCE_AFTER: Duration = Duration::from_secs(1);

/// Which ledgers [`Running::advance`] moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advance {
    /// Those that lag. Partitions without new records also have one note how far the sinks without a ledger are.
    Lagging,
    /// The same, and all partitions have that noted.
    All,
}

/// The first half of a lane: records of one partition in, checked commands out.
pub(super) trait Prepare: Send {
    /// Handles the records by these modules.
    ///
    /// # Errors
    /// When the pipeline has to stop.
    fn prepare(&mut self, records: Vec<Record>, by: By) -> anyhow::Result<Prepared>;

    /// Takes the newest modules, and answers which those are.
    ///
    /// # Errors
    /// When an instance of one cannot be made.
    fn renew(&mut self) -> anyhow::Result<Arc<Serving>>;
}

/// A lane before it runs.
pub(super) struct Lane {
    pub(super) queue: Arc<LaneQueue>,
    pub(super) control: Sender<Control>,
    pub(super) prepare: Box<dyn Prepare>,
    /// What serves at the start.
    pub(super) serving: Arc<Serving>,
    pub(super) stores: Arc<Stores>,
    pub(super) runtime: Handle,
    /// What one batch may hold.
    pub(super) batch: Bounds,
}

struct Running {
    lane: Lane,
    held: HashMap<TopicPartition, Held>,
    /// How often in a row a partition's log seemed to end before where a ledger stands.
    doubts: HashMap<TopicPartition, u32>,
    /// How many batches have been begun; the last one may be in flight.
    batches: u64,
    in_flight: Option<JoinHandle<Finished>>,
    /// The modules that handled the last batch.
    serving: Arc<Serving>,
    /// Those that handle the next one, where they are others and have handled nothing yet.
    ahead: Option<Arc<Serving>>,
    /// What has become durable.
    summary: PipelineSummary,
    /// When the ledgers of all partitions were last moved along.
    advanced: Instant,
    /// Whether the ledgers are as they were left.
    ledger_checks: LedgerChecks,
}

/// A batch that has been written, or not.
struct Finished {
    partition: TopicPartition,
    standing: Standing,
    to: u64,
    /// When the last event of it happened.
    happened: Option<i64>,
    stop: Option<anyhow::Error>,
    /// What the batch came to, if it is durable.
    summary: PipelineSummary,
    ended: anyhow::Result<Ended>,
}

/// Lets go of the source when a lane ends, however it ends: nobody else would free one that waits for room, or for an
/// answer.
struct Closing {
    queue: Arc<LaneQueue>,
    control: Sender<Control>,
    stores: Arc<Stores>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pipeline = &self.stores.pipeline;
            self.stores.stop.fail(anyhow!("pipeline `{pipeline}`: a lane panicked, as said above; please report this"));
        }
        self.queue.close();
        // The source may have ended in the meantime; then nobody waits.
        let _ = self.control.send(Control::Ended);
    }
}

impl Lane {
    /// Runs until the queue is closed or the pipeline is stopped, and answers what has become durable. A failure
    /// stops the pipeline.
    pub(super) fn run(self) -> PipelineSummary {
        let stores = self.stores.clone();
        let closing = Closing { queue: self.queue.clone(), control: self.control.clone(), stores: stores.clone() };
        let summary = PipelineSummary { name: stores.pipeline.clone(), ..PipelineSummary::default() };
        let mut running = Running {
            serving: self.serving.clone(),
            ahead: None,
            lane: self,
            held: HashMap::new(),
            doubts: HashMap::new(),
            batches: 0,
            in_flight: None,
            summary,
            advanced: Instant::now(),
            ledger_checks: LedgerChecks::new(),
        };
        let served = running.serve();
        let failed = served.is_err();
        stores.stop.fail_with(served);
        drop(closing);
        // What is in flight is awaited even after a failure: no write goes on behind the back of a stopped lane.
        let settled = running.settle();
        stores.stop.fail_with(settled.and_then(|()| if failed { Ok(()) } else { running.advance(Advance::All) }));
        running.release_all();
        running.summary
    }
}

impl Running {
    fn serve(&mut self) -> anyhow::Result<()> {
        // Who wishes to stop is the source's to hear: it takes the partitions back, or closes the queue.
        while let Some(item) = self.lane.queue.take(self.lane.batch, self.patience()) {
            match item {
                Item::Assigned(assigned) => {
                    self.settle()?;
                    self.claim(&assigned)?;
                }
                Item::Revoked(partition) => {
                    self.settle()?;
                    self.release(&partition)?;
                }
                Item::Records(records) => self.handle_all(records)?,
                Item::Reached { partition, offset, claim } => {
                    self.settle()?;
                    if let Some(held) = self.held.get_mut(&partition).filter(|held| held.claim == claim) {
                        // What is not there any more was compacted away.
                        held.unseen.retain(|(_, unseen)| unseen.offset >= offset);
                        held.done = held.done.max(offset);
                        held.position.reached(held.done, None);
                    }
                }
                Item::Replay(replay) => {
                    self.settle()?;
                    self.replay(replay)?;
                }
                Item::End => {
                    self.settle()?;
                    self.advance(Advance::All)?;
                    self.end_rests();
                    // The source may have ended in the meantime; then nobody waits for this.
                    let _ = self.lane.control.send(Control::Drained);
                }
                // An older number is of a batch that has been settled since.
                Item::Written(batch) if batch == self.batches => self.settle()?,
                Item::Written(_) => {}
                Item::Idle => self.follow()?,
            }
            self.wake(Instant::now());
            self.try_suspects();
            if self.advanced.elapsed() >= ADVANCE_AFTER {
                self.settle()?;
                self.advance(Advance::Lagging)?;
            }
            self.check_ledgers()?;
        }
        Ok(())
    }

    /// Handles records of one partition: together, or each by itself where one of them may end the process.
    fn handle_all(&mut self, mut records: Vec<Record>) -> anyhow::Result<()> {
        while let Some(partition) = records.first().map(|record| record.partition.clone())
            && let Some(held) = self.held.get_mut(&partition).filter(|held| held.one_by_one > 0)
        {
            held.one_by_one -= 1;
            let rest = records.split_off(1);
            self.handle(std::mem::replace(&mut records, rest))?;
            self.settle()?;
        }
        self.handle(records)
    }

    /// Transforms records of one partition while the batch before is being written, then has them written.
    fn handle(&mut self, mut records: Vec<Record>) -> anyhow::Result<()> {
        let Some(partition) = records.first().map(|record| record.partition.clone()) else { return Ok(()) };
        let Some(claim) = self.held.get(&partition).map(|held| held.claim) else { return Ok(()) };
        records.retain(|record| record.claim == claim);
        if records.is_empty() || !self.may_handle(&partition) {
            return Ok(());
        }
        self.recognize(&partition, &mut records)?;
        if records.is_empty() {
            return Ok(());
        }
        let (by, rest) = self.by_which(&partition, &mut records);
        let batch = self.lane.prepare.prepare(records, by)?;
        if by != By::Before {
            self.take_notice(&batch.serving, &partition);
        }
        if let Some(held) = self.held.get_mut(&partition) {
            held.handled = held.handled.max(batch.to);
        }
        self.settle()?;
        // Else the batch before has set the partition back: the source will give these records again.
        if let Some(held) = self.held.get(&partition)
            && held.claim == claim
        {
            let standing = held.standing.clone();
            self.begin(partition, standing, batch);
        }
        if rest.is_empty() { Ok(()) } else { self.handle(rest) }
    }

    /// By which modules records are to be handled, so that each event is handled by the same in every sink: what was
    /// handled before an exchange and comes again, by those before it. Leaves the records that go together, and answers
    /// the rest.
    fn by_which(&mut self, partition: &TopicPartition, records: &mut Vec<Record>) -> (By, Vec<Record>) {
        let by_before = self.held.get(partition).map_or(0..0, |held| match self.ahead {
            None => held.by_before.clone(),
            Some(_) => held.by_before.end..held.handled,
        });
        let first = records.first().map_or(0, |record| record.offset);
        let ends = if first < by_before.start { by_before.start } else { by_before.end };
        let rest = match records.partition_point(|record| record.offset < ends) {
            0 => Vec::new(),
            together => records.split_off(together),
        };
        if by_before.contains(&first) {
            return (By::Before, rest);
        }
        // What comes again goes to those that had it.
        let again = self.held.get(partition).is_some_and(|held| first < held.handled);
        (if !again && self.may_follow() { By::Newest } else { By::Current }, rest)
    }

    /// Whether newer modules may be taken. A lane keeps one set beside the one that serves: every sink must have what that
    /// one handled before another is taken.
    fn may_follow(&self) -> bool {
        self.held.values().all(|held| held.by_before.end <= held.standing.lowest())
    }

    /// Takes the newest modules where that may be: a lane that gets no records would go on with those it has. What it has
    /// handled so far, it has handled by those before.
    fn follow(&mut self) -> anyhow::Result<()> {
        if self.may_follow() {
            let serving = self.lane.prepare.renew()?;
            self.ahead = (!serving.is_of(&self.serving)).then_some(serving);
        }
        Ok(())
    }

    /// Notes where other modules begin to serve.
    fn take_notice(&mut self, serving: &Arc<Serving>, partition: &TopicPartition) {
        self.ahead = None;
        if serving.is_of(&self.serving) {
            // The same, perhaps gone from and come back to.
            self.serving = serving.clone();
        } else {
            self.held.values_mut().for_each(|held| held.by_before = held.by_before.end..held.handled);
            let digests = serving.digests();
            tracing::info!(pipeline = self.lane.stores.pipeline, %partition, digests, "served by other modules from here");
            self.serving = serving.clone();
        }
    }

    fn begin(&mut self, partition: TopicPartition, mut standing: Standing, mut batch: Prepared) {
        let (stores, queue) = (self.lane.stores.clone(), self.lane.queue.clone());
        let before = self.held.get_mut(&partition).map(|held| {
            let before = std::mem::replace(&mut held.by, batch.serving.clone());
            standing.unverified = held.unverified();
            (before, held.done)
        });
        self.batches += 1;
        let number = self.batches;
        self.in_flight = Some(self.lane.runtime.spawn(async move {
            let mut summary = std::mem::take(&mut batch.summary);
            // A sink that had nothing to write of what other modules handled gets that under their digests.
            let moved = match before {
                Some((before, done)) if before.digests() != batch.serving.digests() => {
                    stores.advance(&mut standing, done, &before).await
                }
                _ => Ok(Ended::Durable),
            };
            let ended = match moved {
                Ok(Ended::Durable) => stores.write(&mut standing, &batch, &mut summary).await,
                other => other,
            };
            queue.written(number);
            Finished {
                partition,
                standing,
                to: batch.to,
                happened: batch.happened,
                stop: batch.stop.take(),
                summary,
                ended,
            }
        }));
    }

    /// Waits until nothing is in flight, and draws the consequences.
    fn settle(&mut self) -> anyhow::Result<()> {
        let Some(task) = self.in_flight.take() else { return Ok(()) };
        let finished = self.wait(task).map_err(|panic| {
            anyhow!("pipeline `{}`: writing a batch failed unexpectedly: {panic}", self.lane.stores.pipeline)
        })?;
        match finished.ended? {
            Ended::Durable => {
                if let Some(held) = self.held.get_mut(&finished.partition) {
                    let claims = held.standing.claims;
                    held.standing = Standing { claims, ..finished.standing };
                    held.done = finished.to;
                    held.position.reached(finished.to, finished.happened);
                }
                self.lane.stores.observed.durable(&finished.summary);
                self.summary.add(&finished.summary);
                self.tell(&finished.partition);
            }
            Ended::ClaimAgain(why) => {
                self.note_filed(finished.summary);
                if let Some(held) = self.held.get_mut(&finished.partition) {
                    (held.standing.letters, held.standing.clashes) =
                        (finished.standing.letters, finished.standing.clashes);
                }
                self.claim_again(&finished.partition, &why);
            }
            Ended::Rest(why) => {
                self.note_filed(finished.summary);
                self.rest(&finished.partition, finished.standing, &why);
            }
        }
        finished.stop.map_or(Ok(()), Err)
    }

    /// Counts the dead letters of a batch that is tried again: they are filed, and will not be once more.
    fn note_filed(&mut self, tried: PipelineSummary) {
        let filed = PipelineSummary { rejected: tried.rejected, ..PipelineSummary::default() };
        let seen = &self.lane.stores.observed.dead_letters;
        filed.rejected.iter().for_each(|(fault, number)| seen.add(fault, *number));
        self.summary.add(&filed);
    }

    /// Moves the ledgers of sinks that had nothing to write.
    fn advance(&mut self, which: Advance) -> anyhow::Result<()> {
        self.advanced = Instant::now();
        let partitions: Vec<_> = self.held.keys().cloned().collect();
        partitions.iter().try_for_each(|partition| self.advance_one(partition, which))
    }

    fn advance_one(&mut self, partition: &TopicPartition, which: Advance) -> anyhow::Result<()> {
        // As long as a last record is to be seen again, the offsets may be about another log: nothing of them is made durable.
        let may_move = |held: &&mut Held| !held.lost && held.rests_until.is_none() && held.unseen.is_empty();
        let Some(held) = self.held.get_mut(partition).filter(may_move) else { return Ok(()) };
        held.standing.unverified.clear();
        // Where records come, the write of the next batch notes it.
        let rests = std::mem::replace(&mut held.advanced, held.done) == held.done;
        let notes = (rests || which == Advance::All) && !self.lane.stores.notes_positions(&held.standing);
        if held.standing.lowest() >= held.done && !notes {
            self.tell(partition);
            return Ok(());
        }
        let (stores, mut standing, done, by) =
            (self.lane.stores.clone(), held.standing.clone(), held.done, held.by.clone());
        let ended = self.wait(stores.advance(&mut standing, done, &by));
        if let Some(held) = self.held.get_mut(partition) {
            standing.claims = held.standing.claims;
            held.standing = standing;
        }
        match ended? {
            Ended::Durable => self.tell(partition),
            Ended::ClaimAgain(why) | Ended::Rest(why) => self.claim_again(partition, &why),
        }
        Ok(())
    }

    /// Tells the source how far a partition has become durable, where that is new.
    fn tell(&mut self, partition: &TopicPartition) {
        // What waits for its trial has the count of it in the source's hands.
        let is_told = |held: &Held| !held.lost && !matches!(held.suspicion, Suspicion::Waits);
        if self.held.get(partition).is_some_and(is_told) {
            self.say(partition);
        }
    }

    fn say(&mut self, partition: &TopicPartition) {
        let Some(held) = self.held.get_mut(partition) else { return };
        let durable = (held.standing.lowest(), self.lane.stores.commit_metadata(&held.standing));
        if held.told.as_ref() == Some(&durable) {
            return;
        }
        let (offset, metadata) = durable.clone();
        held.told = Some(durable);
        // The source may have ended in the meantime; then nobody commits.
        let _ = self.lane.control.send(Control::Durable { partition: partition.clone(), offset, metadata });
    }
}
