//! A lane handles a dead letter again, between two batches, by the modules that serve then.

use super::{Advance, Running};
use crate::pipeline::trial::By;
use crate::pipeline::write::Ended;
use crate::source::{Fate, Record, Replay};

impl Running {
    /// Replays a record of one of the lane's own partitions.
    ///
    /// # Errors
    /// When the pipeline has to stop.
    pub(super) fn replay(&mut self, replay: Replay) -> anyhow::Result<()> {
        let Replay { record, answer } = replay;
        if !self.held.contains_key(&record.partition) {
            return Ok(());
        }
        let position = record.position();
        let fate = self.replay_one(record)?;
        tracing::info!(pipeline = self.lane.stores.pipeline, position, ?fate, "replayed");
        // Whoever asked may have given up; what is done is done.
        let _ = answer.send(fate);
        Ok(())
    }

    fn replay_one(&mut self, record: Record) -> anyhow::Result<Fate> {
        let partition = record.partition.clone();
        // So that every sink stands at the same place, under the modules that handled what lies before it; of all
        // partitions, so that nothing is left of the modules before the newest.
        self.advance(Advance::All)?;
        self.follow()?;
        let Some(held) = self.held.get(&partition).filter(|held| !held.lost && held.rests_until.is_none()) else {
            return Ok(Fate::NotNow("the partition changes hands, or waits for another one".into()));
        };
        if !self.lane.stores.is_open(&held.standing, &self.serving, &record) {
            return Ok(Fate::Superseded);
        }
        if !self.ahead.as_ref().unwrap_or(&self.serving).is_of(&self.lane.stores.slot.serving()) {
            let why = "the stores still lack what older modules handled, so that the lane has not taken the newest";
            return Ok(Fate::NotNow(why.into()));
        }
        let batch = self.lane.prepare.prepare(vec![record], By::Current)?;
        self.take_notice(&batch.serving, &partition);
        if let Some(stop) = batch.stop {
            return Ok(Fate::Rejected(format!("{stop:#}")));
        }
        let Some(held) = self.held.get_mut(&partition) else { return Ok(Fate::NotNow("it was taken".into())) };
        let replayed = self.lane.runtime.block_on(self.lane.stores.replay(&mut held.standing, &batch))?;
        // A ledger may hold its digests by now, and what is moved along later must not take them back.
        held.by = batch.serving;
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
