//! The loop of a lane: take what waits, transform it while the batch before is being written, write it, go on.
//!
//! A lane is a thread that owns its partitions: their claims, their standing in the ledgers, and the one batch that
//! is being written. Never more than two batches are in memory: one being written, one being transformed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::progress::PipelineSummary;
use super::retry::Backoff;
use super::write::{Ended, Prepared, Standing, Stores};
use crate::sink::LedgerKey;
use crate::source::{Assigned, Bounds, Claim, Control, Item, LaneQueue, Record, TopicPartition};

/// Sinks that got no commands are moved along after this long, so that a restart does not read days again.
const ADVANCE_AFTER: Duration = Duration::from_secs(1);

/// The first half of a lane: records of one partition in, checked commands out.
pub(super) type Prepare = Box<dyn FnMut(Vec<Record>) -> anyhow::Result<Prepared> + Send>;

/// A lane before it runs.
pub(super) struct Lane {
    pub(super) queue: Arc<LaneQueue>,
    pub(super) control: Sender<Control>,
    pub(super) prepare: Prepare,
    pub(super) stores: Arc<Stores>,
    pub(super) runtime: Handle,
    /// What one batch may hold.
    pub(super) batch: Bounds,
}

/// A partition that the lane has claimed.
struct Held {
    claim: Claim,
    log_start: u64,
    standing: Standing,
    /// Everything below is durable.
    done: u64,
}

struct Running {
    lane: Lane,
    held: HashMap<TopicPartition, Held>,
    in_flight: Option<JoinHandle<Finished>>,
    /// What has become durable.
    summary: PipelineSummary,
    /// When the ledgers of all partitions were last moved along.
    advanced: Instant,
}

/// A batch that has been written, or not.
struct Finished {
    partition: TopicPartition,
    standing: Standing,
    to: u64,
    stop: Option<anyhow::Error>,
    /// What the batch came to, if it is durable.
    summary: PipelineSummary,
    ended: anyhow::Result<Ended>,
}

/// Lets go of the source when a lane ends, however it ends: nobody else would free one that waits for room.
struct Closing {
    queue: Arc<LaneQueue>,
    stores: Arc<Stores>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pipeline = &self.stores.pipeline;
            self.stores.stop.fail(anyhow!("pipeline `{pipeline}`: a lane panicked, as said above; please report this"));
        }
        self.queue.close();
    }
}

impl Lane {
    /// Runs until the queue is closed or the pipeline is stopped, and answers what has become durable. A failure
    /// stops the pipeline.
    pub(super) fn run(self) -> PipelineSummary {
        let stores = self.stores.clone();
        let closing = Closing { queue: self.queue.clone(), stores: stores.clone() };
        let summary = PipelineSummary { name: stores.pipeline.clone(), ..PipelineSummary::default() };
        let mut running =
            Running { lane: self, held: HashMap::new(), in_flight: None, summary, advanced: Instant::now() };
        let served = running.serve();
        let failed = served.is_err();
        stores.stop.fail_with(served);
        drop(closing);
        // What is in flight is awaited even after a failure: no write goes on behind the back of a stopped lane.
        let settled = running.settle();
        stores.stop.fail_with(settled.and_then(|()| if failed { Ok(()) } else { running.advance() }));
        running.summary
    }
}

impl Running {
    fn serve(&mut self) -> anyhow::Result<()> {
        while !self.lane.stores.stop.is_set()
            && let Some(item) = self.lane.queue.take(self.lane.batch, ADVANCE_AFTER)
        {
            match item {
                Item::Assigned(Assigned { partition, log_start, .. }) => {
                    self.settle()?;
                    self.claim(partition, log_start, Claim(1))?;
                }
                Item::Revoked(_) | Item::Reached { .. } => {}
                Item::Records(records) => self.handle(records)?,
                Item::End => {
                    self.settle()?;
                    self.advance()?;
                    // The source may have ended in the meantime; then nobody waits for this.
                    let _ = self.lane.control.send(Control::Drained);
                }
                Item::Idle => {}
            }
            if self.advanced.elapsed() >= ADVANCE_AFTER {
                self.settle()?;
                self.advance()?;
            }
        }
        Ok(())
    }

    /// Transforms records of one partition while the batch before is being written, then has them written.
    fn handle(&mut self, mut records: Vec<Record>) -> anyhow::Result<()> {
        let Some(partition) = records.first().map(|record| record.partition.clone()) else { return Ok(()) };
        let Some(claim) = self.held.get(&partition).map(|held| held.claim) else { return Ok(()) };
        records.retain(|record| record.claim == claim);
        if records.is_empty() {
            return Ok(());
        }
        let batch = (self.lane.prepare)(records)?;
        self.settle()?;
        // Else the batch before has set the partition back: the source will give these records again.
        if let Some(held) = self.held.get(&partition)
            && held.claim == claim
        {
            let standing = held.standing.clone();
            self.begin(partition, standing, batch);
        }
        Ok(())
    }

    fn begin(&mut self, partition: TopicPartition, mut standing: Standing, mut batch: Prepared) {
        let stores = self.lane.stores.clone();
        self.in_flight = Some(self.lane.runtime.spawn(async move {
            let mut summary = std::mem::take(&mut batch.summary);
            let ended = stores.write(&mut standing, &batch, &mut summary.rejected).await;
            Finished { partition, standing, to: batch.to, stop: batch.stop.take(), summary, ended }
        }));
    }

    /// Waits until nothing is in flight, and draws the consequences.
    fn settle(&mut self) -> anyhow::Result<()> {
        let Some(task) = self.in_flight.take() else { return Ok(()) };
        let finished = self.lane.runtime.block_on(task).map_err(|panic| {
            anyhow!("pipeline `{}`: writing a batch failed unexpectedly: {panic}", self.lane.stores.pipeline)
        })?;
        match finished.ended? {
            Ended::Durable => {
                if let Some(held) = self.held.get_mut(&finished.partition) {
                    held.standing = finished.standing;
                    held.done = finished.to;
                }
                self.summary.add(&finished.summary);
            }
            Ended::ClaimAgain(why) => return self.claim_again(finished.partition, &why),
        }
        finished.stop.map_or(Ok(()), Err)
    }

    /// Moves the ledgers of sinks that had nothing to write.
    fn advance(&mut self) -> anyhow::Result<()> {
        self.advanced = Instant::now();
        let mut again = Vec::new();
        for (partition, held) in &mut self.held {
            let ended = self.lane.runtime.block_on(self.lane.stores.advance(&mut held.standing, held.done))?;
            if let Ended::ClaimAgain(why) = ended {
                again.push((partition.clone(), why));
            }
        }
        again.into_iter().try_for_each(|(partition, why)| self.claim_again(partition, &why))
    }

    fn claim_again(&mut self, partition: TopicPartition, why: &str) -> anyhow::Result<()> {
        let Some(held) = self.held.get(&partition) else { return Ok(()) };
        tracing::warn!(pipeline = self.lane.stores.pipeline, %partition, why, "claiming the partition again");
        // Two owners that take it from each other must not do so in step.
        if self.lane.runtime.block_on(self.lane.stores.stop.wait(Backoff::default().next())) {
            return Ok(());
        }
        let (log_start, claim) = (held.log_start, Claim(held.claim.0 + 1));
        self.claim(partition, log_start, claim)
    }

    /// Takes the partition over in all sinks, and has the source begin where the one furthest behind stands.
    fn claim(&mut self, partition: TopicPartition, log_start: u64, claim: Claim) -> anyhow::Result<()> {
        let key = LedgerKey { pipeline: self.lane.stores.pipeline.clone(), partition: partition.clone() };
        let standing = self.lane.runtime.block_on(self.lane.stores.claim(key, log_start))?;
        let offset = standing.next.iter().copied().min().unwrap_or(log_start);
        tracing::info!(pipeline = self.lane.stores.pipeline, %partition, offset, "claimed");
        self.held.insert(partition.clone(), Held { claim, log_start, standing, done: offset });
        // The source may have ended in the meantime; then nothing will come.
        let _ = self.lane.control.send(Control::Begin { partition, offset, claim });
        Ok(())
    }
}
