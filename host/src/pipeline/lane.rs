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

use super::prepare::Stage;
use super::progress::{Counts, PipelineSummary};
use super::write::{Ended, Prepared, Standing, Stores};
use crate::sink::LedgerKey;
use crate::source::{Bounds, Claim, Control, Item, LaneQueue, Record, TopicPartition};

/// Sinks that got no commands are moved along after this long, so that a restart does not read days again.
const ADVANCE_AFTER: Duration = Duration::from_secs(1);

/// A lane before it runs.
pub(super) struct Lane {
    pub(super) queue: Arc<LaneQueue>,
    pub(super) control: Sender<Control>,
    pub(super) stage: Stage,
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
    /// When all ledgers were last moved.
    advanced: Instant,
}

struct Running {
    lane: Lane,
    held: HashMap<TopicPartition, Held>,
    in_flight: Option<JoinHandle<Finished>>,
    rejected: Counts,
}

/// A batch that has been written, or not.
struct Finished {
    partition: TopicPartition,
    standing: Standing,
    to: u64,
    stop: Option<anyhow::Error>,
    rejected: Counts,
    ended: anyhow::Result<Ended>,
}

impl Lane {
    /// Runs until the queue is closed or the pipeline is stopped. Answers what was done, and why it failed if it did;
    /// a failure stops the pipeline.
    pub(super) fn run(self) -> (PipelineSummary, anyhow::Result<()>) {
        let mut running = Running { lane: self, held: HashMap::new(), in_flight: None, rejected: Counts::new() };
        let result = running.serve();
        if result.is_err() {
            running.lane.stores.stop.set();
        }
        running.lane.queue.close();
        // What is in flight is awaited even after a failure: no write goes on behind the back of a stopped lane.
        let settled = running.settle();
        let mut summary = running.lane.stage.summary();
        summary.rejected = running.rejected;
        (summary, result.and(settled))
    }
}

impl Running {
    fn serve(&mut self) -> anyhow::Result<()> {
        while !self.lane.stores.stop.is_set()
            && let Some(item) = self.lane.queue.take(self.lane.batch, ADVANCE_AFTER)
        {
            match item {
                Item::Assigned { partition, log_start } => {
                    self.settle()?;
                    self.claim(partition, log_start, Claim(1))?;
                }
                Item::Records(records) => self.handle(records)?,
                Item::End => {
                    self.settle()?;
                    self.advance()?;
                    // The source may have ended in the meantime; then nobody waits for this.
                    let _ = self.lane.control.send(Control::Drained);
                }
                Item::Idle => {
                    self.settle()?;
                    self.advance()?;
                }
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
        let batch = self.lane.stage.prepare(records)?;
        self.settle()?;
        match self.held.get_mut(&partition) {
            // Set back by the batch before: the source will give these records again.
            Some(held) if held.claim != claim => Ok(()),
            Some(held) => {
                let advance_all = held.advanced.elapsed() >= ADVANCE_AFTER;
                if advance_all {
                    held.advanced = Instant::now();
                }
                let standing = held.standing.clone();
                self.begin(partition, standing, batch, advance_all);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn begin(&mut self, partition: TopicPartition, mut standing: Standing, mut batch: Prepared, advance_all: bool) {
        let stores = self.lane.stores.clone();
        self.in_flight = Some(self.lane.runtime.spawn(async move {
            let mut rejected = Counts::new();
            let ended = stores.write(&mut standing, &batch, advance_all, &mut rejected).await;
            Finished { partition, standing, to: batch.to, stop: batch.stop.take(), rejected, ended }
        }));
    }

    /// Waits until nothing is in flight, and draws the consequences.
    fn settle(&mut self) -> anyhow::Result<()> {
        let Some(task) = self.in_flight.take() else { return Ok(()) };
        let finished = self.lane.runtime.block_on(task).map_err(|panic| {
            anyhow!("pipeline `{}`: writing a batch failed unexpectedly: {panic}", self.lane.stores.pipeline)
        })?;
        super::progress::add(&mut self.rejected, &finished.rejected);
        match finished.ended? {
            Ended::Durable => {
                if let Some(held) = self.held.get_mut(&finished.partition) {
                    held.standing = finished.standing;
                    held.done = finished.to;
                }
            }
            Ended::ClaimAgain(why) => return self.claim_again(finished.partition, &why),
        }
        finished.stop.map_or(Ok(()), Err)
    }

    /// Moves the ledgers of sinks that had nothing to write.
    fn advance(&mut self) -> anyhow::Result<()> {
        let mut again = Vec::new();
        for (partition, held) in &mut self.held {
            held.advanced = Instant::now();
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
        let (log_start, claim) = (held.log_start, Claim(held.claim.0 + 1));
        self.claim(partition, log_start, claim)
    }

    /// Takes the partition over in all sinks, and has the source begin where the one furthest behind stands.
    fn claim(&mut self, partition: TopicPartition, log_start: u64, claim: Claim) -> anyhow::Result<()> {
        let key = LedgerKey { pipeline: self.lane.stores.pipeline.clone(), partition: partition.clone() };
        let standing = self.lane.runtime.block_on(self.lane.stores.claim(key, log_start))?;
        let offset = standing.next.iter().copied().min().unwrap_or(log_start);
        tracing::info!(pipeline = self.lane.stores.pipeline, %partition, offset, "claimed");
        self.held
            .insert(partition.clone(), Held { claim, log_start, standing, done: offset, advanced: Instant::now() });
        // The source may have ended in the meantime; then nothing will come.
        let _ = self.lane.control.send(Control::Begin { partition, offset, claim });
        Ok(())
    }
}
