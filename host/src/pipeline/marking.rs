//! Which dead letters each sink lacks, and which ledger records that.
//!
//! The marks of a sink with a ledger are in its own ledger. Those of a sink without one (messages) are in the ledger that
//! fences it ([`Stores::fencing`]), its keeper, as of that ledger's offset. Where there is none, they are in memory, as long
//! as this process keeps the partition.

use std::collections::HashSet;

use super::claim::Standing;
use super::memo::Memo;
use super::open_marks::OpenMarks;
use super::write::{Ended, Prepared, Stores};
use crate::command::Port;
use crate::command::collapse::{Origin, Tagged};

impl Stores {
    /// The place of the sink whose memo has the marks of this one.
    pub(super) fn keeper(&self, place: usize) -> usize {
        if self.sinks[place].sink.keeps_ledger() {
            return place;
        }
        self.fencing().unwrap_or(place)
    }

    /// The marks of a sink, in the memo of its keeper.
    pub(super) fn marks<'a>(&self, standing: &'a Standing, place: usize) -> Option<&'a OpenMarks> {
        let keeper = self.keeper(place);
        let memo = &standing.memos[keeper];
        if keeper == place { Some(&memo.open) } else { memo.open_elsewhere.get(&self.sinks[place].name) }
    }

    /// The same, to be changed in a copy of that memo.
    pub(super) fn marks_in<'a>(&self, memo: &'a mut Memo, place: usize) -> &'a mut OpenMarks {
        match self.keeper(place) == place {
            true => &mut memo.open,
            false => memo.open_elsewhere.entry(self.sinks[place].name.clone()).or_default(),
        }
    }

    /// Updates a sink's marks in `memo` for a batch from this offset on: adds one for each response that is refused, and
    /// closes those whose key has had a later event that wrote there. The same for each sink whose marks it keeps.
    pub(super) fn mark(&self, memo: &mut Memo, place: usize, batch: &Prepared, from: u64, refused: &HashSet<Origin>) {
        for (other, bound) in self.sinks.iter().enumerate().filter(|(other, _)| self.keeper(*other) == place) {
            update(self.marks_in(memo, other), batch, from, &bound.ports, refused);
        }
        memo.open_elsewhere.retain(|_, marks| !marks.is_empty());
    }

    /// Updates the marks of a sink without a ledger after it has published a batch from this offset on. When its keeper took
    /// the batch, it was not known yet what this sink would refuse; and a keeper that was ahead of the batch has marked
    /// nothing.
    ///
    /// # Errors
    /// As [`Stores::write`].
    pub(super) async fn mark_at_keeper(
        &self,
        standing: &mut Standing,
        place: usize,
        batch: &Prepared,
        from: u64,
        refused: &HashSet<Origin>,
    ) -> anyhow::Result<Ended> {
        let keeper = self.keeper(place);
        let has_marks = self.marks(standing, place).is_some_and(|marks| !marks.is_empty());
        if keeper == place || (refused.is_empty() && !has_marks) {
            return Ok(Ended::Durable);
        }
        let to = standing.next[keeper].max(batch.to);
        let mut memo = self.memo_at(standing, keeper, to);
        update(self.marks_in(&mut memo, place), batch, from, &self.sinks[place].ports, refused);
        memo.open_elsewhere.retain(|_, marks| !marks.is_empty());
        if memo.open_elsewhere == standing.memos[keeper].open_elsewhere {
            return Ok(Ended::Durable);
        }
        self.move_ledger(standing, keeper, to, memo, &batch.serving).await
    }

    /// Has each sink forget the marks of others that it keeps no more: the configuration decides which ledger keeps them.
    pub(super) fn keep_own(&self, standing: &mut Standing) {
        for place in 0..self.sinks.len() {
            let is_kept = |name: &String| {
                let of = self.sinks.iter().position(|bound| bound.name == *name);
                of.is_some_and(|of| of != place && self.keeper(of) == place)
            };
            standing.memos[place].open_elsewhere.retain(|name, _| is_kept(name));
        }
    }
}

fn update(marks: &mut OpenMarks, batch: &Prepared, from: u64, ports: &[Port], refused: &HashSet<Origin>) {
    if refused.is_empty() && marks.is_empty() {
        return;
    }
    let mut wrote: Option<HashSet<Origin>> = None;
    for record in batch.records.iter().filter(|record| (from..batch.to).contains(&record.offset)) {
        for (transform, (name, _)) in batch.serving.transforms().iter().enumerate() {
            let origin = Origin { offset: record.offset, transform };
            if refused.contains(&origin) {
                marks.add(name, record);
            } else if !marks.is_empty() {
                let mine = |tagged: &&Tagged| ports.contains(&tagged.command.port());
                let all = || batch.commands.iter().filter(mine).map(Tagged::origin).collect();
                if wrote.get_or_insert_with(all).contains(&origin) {
                    marks.close(name, record);
                }
            }
        }
    }
}
