//! Brings a dead letter into the stores that lack it, as long as nothing of its key was handled since.
//!
//! It is done by the owner of the partition, under its claim, with a write that leaves the ledger's offset where it is
//! and takes the mark away in the same transaction. When the answer to that is lost, it is done once more, which comes
//! to the same: nothing else is written in between.

use super::claim::Standing;
use super::memo::Memo;
use super::serving::Serving;
use super::write::{Answer, Ended, Prepared, Stores};
use crate::command::collapse::{Origin, Parts, Tagged, collapse};
use crate::sink::Write;
use crate::source::{Fate, Record};

/// What became of one transform's answer.
type Replayed = Result<Fate, Ended>;

impl Stores {
    /// Whether some sink may still take this record from these transforms.
    pub(super) fn is_open(&self, standing: &Standing, serving: &Serving, record: &Record) -> bool {
        serving.transforms().iter().any(|(name, _)| self.lacks(standing, name, record).next().is_some())
    }

    /// The places of the sinks that may still take what this transform makes of a record.
    fn lacks<'a>(
        &'a self,
        standing: &'a Standing,
        transform: &'a str,
        record: &'a Record,
    ) -> impl Iterator<Item = usize> + 'a {
        let lacks =
            move |place: &usize| self.marks(standing, *place).is_some_and(|marks| marks.is_open(transform, record));
        (0..self.sinks.len()).filter(lacks)
    }

    /// Writes what the transforms made of one record into the sinks that lack it, each transform's answer by itself. Where
    /// it cannot be done from here, the answer says how it ended.
    ///
    /// # Errors
    /// When the pipeline has to stop.
    pub(super) async fn replay(
        &self,
        standing: &mut Standing,
        batch: &Prepared,
    ) -> anyhow::Result<Result<Fate, Ended>> {
        let Some(record) = batch.records.first() else { return Ok(Ok(Fate::Superseded)) };
        let (mut rejected, mut fate) = (None, Fate::Superseded);
        for (transform, (name, _)) in batch.serving.transforms().iter().enumerate() {
            let lacking: Vec<usize> = self.lacks(standing, name, record).collect();
            if lacking.is_empty() {
                continue;
            }
            let of_it = |of: Option<usize>| of.is_none_or(|of| of == transform);
            if let Some(refused) = batch.refused.iter().find(|refused| of_it(refused.transform)) {
                rejected = Some(refused.why.reason.clone());
                continue;
            }
            match self.replay_answer(standing, batch, Origin { offset: record.offset, transform }, &lacking).await? {
                Ok(Fate::Rejected(reason)) => rejected = Some(reason),
                Ok(Fate::Applied) => fate = Fate::Applied,
                Ok(_) => {}
                Err(ended) => return Ok(Err(ended)),
            }
        }
        Ok(Ok(rejected.map_or(fate, Fate::Rejected)))
    }

    /// Writes one transform's answer into these sinks, in their order. What one of them refuses goes no further.
    async fn replay_answer(
        &self,
        standing: &mut Standing,
        batch: &Prepared,
        origin: Origin,
        lacking: &[usize],
    ) -> anyhow::Result<Replayed> {
        let transforms = batch.serving.transforms();
        let (Some(record), Some((name, _))) = (batch.records.first(), transforms.get(origin.transform)) else {
            return Ok(Ok(Fate::Superseded));
        };
        // Where some sinks have something newer, and the others were to get nothing, all of it is superseded.
        let mut fate = if lacking.len() == self.sinks.len() { Fate::Applied } else { Fate::Superseded };
        for place in (0..self.sinks.len()).filter(|place| !lacking.contains(place)) {
            // What it refused goes further from now on, also where a later sink is filled again.
            let mut memo = standing.memos[place].clone();
            memo.left_out.remove(name, origin.offset);
            if let Err(ended) = self.note(standing, place, batch, memo).await? {
                return Ok(Err(ended));
            }
        }
        for place in lacking.iter().copied() {
            let (bound, keeper) = (&self.sinks[place], self.keeper(place));
            let mine = |tagged: &&Tagged| tagged.origin() == origin && bound.ports.contains(&tagged.command.port());
            let commands: Vec<&Tagged> = batch.commands.iter().filter(mine).collect();
            let writes = collapse(commands, &Parts::of(&batch.commands), &Default::default(), &bound.sink.reach());
            let mut memo = standing.memos[keeper].clone();
            self.marks_in(&mut memo, place).close(name, record);
            if keeper == place {
                memo.left_out.remove(name, origin.offset);
            }
            let mut answer = Answer::Durable;
            if keeper != place && !writes.is_empty() {
                // Nothing is published under a claim that another one has followed.
                answer = self.replay_into(standing, keeper, &[], batch, &standing.memos[keeper]).await?;
            }
            if matches!(answer, Answer::Durable) && (bound.sink.keeps_ledger() || !writes.is_empty()) {
                answer = self.replay_into(standing, place, &writes, batch, &memo).await?;
            }
            if matches!(answer, Answer::Durable) && keeper != place {
                // What is published is durable before the mark is taken away.
                answer = self.replay_into(standing, keeper, &[], batch, &memo).await?;
            }
            match answer {
                Answer::Durable => {
                    standing.memos[keeper] = memo;
                    if !writes.is_empty() {
                        fate = Fate::Applied;
                    }
                }
                Answer::Rejected(bad) => {
                    let partial = batch.partial.get(&origin).map(ToString::to_string).unwrap_or_default();
                    let reason = bad.into_iter().next().map_or_else(String::new, |bad| bad.reason) + &partial;
                    // The later sinks do not take it either, now or when they are filled again.
                    let mut memo = standing.memos[place].clone();
                    memo.left_out.add(&[origin], transforms);
                    let noted = self.note(standing, place, batch, memo).await?;
                    return Ok(noted.map(|()| Fate::Rejected(format!("sink `{}`: {reason}", bound.name))));
                }
                Answer::Not(ended) => return Ok(Err(ended)),
            }
        }
        Ok(Ok(fate))
    }

    /// Has the ledger of a sink note this, if it is something new.
    async fn note(
        &self,
        standing: &mut Standing,
        place: usize,
        batch: &Prepared,
        memo: Memo,
    ) -> anyhow::Result<Result<(), Ended>> {
        if !self.sinks[place].sink.keeps_ledger() || memo == standing.memos[place] {
            return Ok(Ok(()));
        }
        match self.replay_into(standing, place, &[], batch, &memo).await? {
            Answer::Durable => standing.memos[place] = memo,
            Answer::Rejected(_) => return Err(self.refused_nothing(&self.sinks[place])),
            Answer::Not(ended) => return Ok(Err(ended)),
        }
        Ok(Ok(()))
    }

    /// A write that leaves the ledger's offset where it is.
    async fn replay_into(
        &self,
        standing: &Standing,
        place: usize,
        writes: &[Write<'_>],
        batch: &Prepared,
        memo: &Memo,
    ) -> anyhow::Result<Answer> {
        self.execute(standing, place, standing.next[place], writes, (&batch.serving, memo)).await
    }
}
