//! A lane handles dead letters again, between two batches.

use super::Running;
use crate::pipeline::trial::By;
use crate::pipeline::write::Ended;
use crate::source::{Fate, Record, Replay, Replayed};

impl Running {
    /// Replays what is of the lane's own partitions.
    ///
    /// # Errors
    /// When the pipeline has to stop.
    pub(super) fn replay(&mut self, replay: Replay) -> anyhow::Result<()> {
        for record in replay.records {
            if !self.held.contains_key(&record.partition) {
                continue;
            }
            let (partition, offset) = (record.partition.clone(), record.offset);
            let fate = self.replay_one(record)?;
            tracing::info!(
                pipeline = self.lane.stores.pipeline,
                position = format!("{partition}@{offset}"),
                ?fate,
                "replayed"
            );
            // Whoever asked may have given up; what is done is done.
            let _ = replay.answers.send(Replayed { partition, offset, fate });
        }
        Ok(())
    }

    fn replay_one(&mut self, record: Record) -> anyhow::Result<Fate> {
        let partition = record.partition.clone();
        // So that every sink stands at the same place, under the modules that handled what lies before it.
        self.advance_one(&partition)?;
        let Some(held) = self.held.get(&partition).filter(|held| !held.lost && held.rests_until.is_none()) else {
            return Ok(Fate::NotNow("the partition changes hands, or waits for another one".into()));
        };
        if !self.lane.stores.is_open(&held.standing, &record) {
            return Ok(Fate::Superseded);
        }
        let batch = self.lane.prepare.prepare(vec![record], By::Current)?;
        if let Some(stop) = batch.stop {
            return Ok(Fate::Rejected(format!("{stop:#}")));
        }
        let Some(held) = self.held.get_mut(&partition) else { return Ok(Fate::NotNow("it was taken".into())) };
        let replayed = self.lane.runtime.block_on(self.lane.stores.replay(&mut held.standing, &batch))?;
        Ok(match replayed {
            Ok(fate) => fate,
            Err(Ended::ClaimAgain(why) | Ended::Rest(why)) => {
                self.claim_again(&partition, &why);
                Fate::NotNow(why)
            }
            Err(Ended::Durable) => Fate::Applied,
        })
    }
}
