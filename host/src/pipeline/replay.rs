//! Brings a dead letter into the stores that lack it, as long as nothing of its key was handled since.
//!
//! It is done by the owner of the partition, under its claim, with a write that leaves the ledger's offset where it is
//! and takes the mark away in the same transaction. When the answer to that is lost, it is done once more, which comes
//! to the same: nothing else is written in between.

use super::claim::Standing;
use super::memo::Memo;
use super::write::{Answer, Ended, Prepared, Stores};
use crate::command::collapse::{Tagged, collapse};
use crate::source::{Fate, Record};

impl Stores {
    /// Whether some sink may still take this record.
    pub(super) fn is_open(&self, standing: &Standing, record: &Record) -> bool {
        let serving = self.slot.serving();
        let names = serving.transforms().iter().map(|(name, _)| name.as_str());
        names.into_iter().any(|name| standing.memos.iter().any(|memo| is_open(memo, name, record)))
    }

    /// Writes what the transforms made of one record into the sinks that lack it. Where it cannot be done from here, the
    /// answer says how it ended.
    ///
    /// # Errors
    /// When the pipeline has to stop.
    pub(super) async fn replay(
        &self,
        standing: &mut Standing,
        batch: &Prepared,
    ) -> anyhow::Result<Result<Fate, Ended>> {
        let Some(record) = batch.records.first() else { return Ok(Ok(Fate::Superseded)) };
        let names: Vec<&str> = batch.serving.transforms().iter().map(|(name, _)| name.as_str()).collect();
        let refused = |transform: usize| {
            batch.refused.iter().find(|refused| refused.transform.is_none_or(|refused| refused == transform))
        };
        // Messages have no ledger to keep a mark in: they go with what another sink lacks.
        let lacking: Vec<bool> =
            names.iter().map(|name| standing.memos.iter().any(|memo| is_open(memo, name, record))).collect();
        let mut rejected = None;
        for (place, bound) in self.sinks.iter().enumerate() {
            let keeps_ledger = bound.sink.keeps_ledger();
            let mut memo = standing.memos[place].clone();
            let mut taken = Vec::new();
            for (transform, name) in names.iter().enumerate() {
                if !(if keeps_ledger { is_open(&memo, name, record) } else { lacking[transform] }) {
                    continue;
                }
                match refused(transform) {
                    Some(refused) => rejected = Some(refused.why.reason.clone()),
                    None => taken.push(transform),
                }
            }
            for transform in &taken {
                memo.open.close(names[*transform], record.key.as_deref().unwrap_or_default(), record.offset);
            }
            let mine =
                |tagged: &&Tagged| taken.contains(&tagged.transform) && bound.ports.contains(&tagged.command.port());
            let commands: Vec<&Tagged> = batch.commands.iter().filter(mine).collect();
            if taken.is_empty() || (commands.is_empty() && !keeps_ledger) {
                continue;
            }
            let writes = collapse(commands.iter().copied(), &Default::default());
            let to = standing.next[place];
            match self.execute(standing, place, to, &writes, (&batch.serving, &memo), false).await? {
                Answer::Durable => standing.memos[place] = memo,
                Answer::Rejected(bad) => {
                    let reason = bad.into_iter().next().map_or_else(String::new, |bad| bad.reason);
                    return Ok(Ok(Fate::Rejected(format!("sink `{}`: {reason}", bound.name))));
                }
                Answer::Not(ended) => return Ok(Err(ended)),
            }
        }
        Ok(Ok(rejected.map_or(Fate::Applied, Fate::Rejected)))
    }
}

fn is_open(memo: &Memo, transform: &str, record: &Record) -> bool {
    record.key.as_deref().is_some_and(|key| memo.open.is_open(transform, key, record.offset))
}
