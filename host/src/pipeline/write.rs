//! The second half of a lane: brings a batch into each sink in turn, and files what is rejected.
//!
//! The sinks are written in the order tables, documents, cache, messages. A record that one of them rejects is filed
//! as a dead letter before that sink's ledger moves, and goes to none of the later ones: a note in the ledger says so,
//! for a process that dies between the two. What other transforms answered to the same record is not touched by that.
//! A sink whose ledger is already past a part of the batch gets the rest alone.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use anyhow::anyhow;

use super::breaker::Breaker;
use super::claim::Standing;
use super::dead_letter::{DeadLetters, Stage};
use super::fence::write_once;
use super::letters::Refusers;
use super::memo::{LastRecord, Memo};
use super::observe::ObservedPipeline;
use super::one_writer::OneWriter;
use super::partial::Partial;
use super::progress::{PipelineSummary, count};
use super::reject::refused_by;
use super::serving::{Serving, Slot};
use super::start::declared;
use super::stop::Stop;
use crate::command::Port;
use crate::command::collapse::{Origin, Parts, Tagged, collapse, judge};
use crate::config::{OnLost, OnLostCache};
use crate::contract::Rejection;
use crate::sink::{BadWrite, Declared, Sink, Step, Write, Written};
use crate::source::Record;

/// A sink, and what a pipeline sends there.
pub(super) struct BoundSink {
    /// Its name in the configuration.
    pub(super) name: String,
    /// The ports that are bound to it.
    pub(super) ports: Vec<Port>,
    /// The store.
    pub(super) sink: Arc<dyn Sink>,
}

impl BoundSink {
    /// Whether it holds a cache and nothing else.
    pub(super) fn is_cache(&self) -> bool {
        self.ports == [Port::Cache]
    }

    /// Why a partition has to be claimed again whose ledger has another offset.
    pub(super) fn stands_at(&self, at: u64, left: u64) -> String {
        format!("the ledger of sink `{}` stands at {at}, not at {left}", self.name)
    }

    /// Why one has to be whose ledger has another token.
    pub(super) fn is_fenced(&self) -> String {
        format!("another claim owns it in sink `{}`", self.name)
    }

    /// Why one is given up that the group has taken back.
    fn is_given_up(&self) -> String {
        format!("the group has taken it back while sink `{}` was to be written", self.name)
    }
}

/// What the operator decided for the sad cases.
#[derive(Debug, Clone)]
pub(super) struct Policies {
    /// The source lacks records that a sink lacks too.
    pub(super) on_lost_records: OnLost,
    /// A topic is not what it was.
    pub(super) on_changed_topic: OnLost,
    /// A cache has lost its ledger.
    pub(super) on_lost_cache: OnLostCache,
    /// How long a clash is tried again, before it is rejected.
    pub(super) clash_patience: Duration,
}

/// Where a pipeline's batches go.
pub(super) struct Stores {
    /// The pipeline.
    pub(super) pipeline: String,
    /// In the order in which they are written.
    pub(super) sinks: Vec<BoundSink>,
    /// The modules that serve.
    pub(super) slot: Arc<Slot>,
    /// Where rejected records go.
    pub(super) dead_letters: Arc<DeadLetters>,
    /// Ends the waiting for a store.
    pub(super) stop: Arc<Stop>,
    /// What the operator decided.
    pub(super) policies: Policies,
    /// What of the configuration decides, beside the modules, which records are refused.
    pub(super) configured: String,
    /// Stops what rejects too much.
    pub(super) breaker: Breaker,
    /// Looks out for targets of two partitions.
    pub(super) one_writer: OneWriter,
    /// Whether the stores have been made ready for the pipeline.
    pub(super) is_ready: AtomicBool,
    /// The number of the last claim, over all lanes: a partition may come back to another lane.
    pub(super) claims: AtomicU64,
    /// Whether a partition is being tried that may have ended the processes before; of all pipelines.
    pub(super) trial: Arc<AtomicBool>,
    /// What is seen of it from outside.
    pub(super) observed: Arc<ObservedPipeline>,
    /// Held while a cache that lost its ledger is cleared.
    pub(super) beginning_afresh: tokio::sync::Mutex<()>,
    /// Held while a topic is held against what the ledgers know of it.
    pub(super) entering_topics: tokio::sync::Mutex<()>,
}

/// A batch of one partition, transformed and checked.
pub(super) struct Prepared {
    /// The records, for the dead letters of those that a store rejects.
    pub(super) records: Vec<Record>,
    /// The offset after the last record.
    pub(super) to: u64,
    /// The modules that handled it.
    pub(super) serving: Arc<Serving>,
    /// The commands in the order of the events.
    pub(super) commands: Vec<Tagged>,
    /// The answers with merges that come from changes of which not all was sent.
    pub(super) partial: BTreeMap<Origin, Partial>,
    /// The records that were refused so far.
    pub(super) refused: Vec<Refused>,
    /// What it comes to, to be counted once it is durable; what is rejected is counted where it is filed.
    pub(super) summary: PipelineSummary,
    /// When its last event happened, ms since 1970.
    pub(super) happened: Option<i64>,
    /// Why the pipeline must stop after this batch.
    pub(super) stop: Option<anyhow::Error>,
}

/// A record that goes to the dead letters.
pub(super) struct Refused {
    /// Its place among the batch's records.
    pub(super) place: usize,
    /// The transform that refused it; none when it could not be understood at all.
    pub(super) transform: Option<usize>,
    /// Where it failed.
    pub(super) stage: Stage,
    /// The sink that refused it, by its place among the pipeline's.
    pub(super) sink: Option<usize>,
    /// Why.
    pub(super) why: Rejection,
}

impl Prepared {
    /// The responses that have no commands, since their records were refused before any sink.
    fn refused_by_modules(&self) -> HashSet<Origin> {
        let mut origins = HashSet::new();
        for refused in &self.refused {
            let Some(record) = self.records.get(refused.place) else { continue };
            let transforms = match refused.transform {
                Some(transform) => transform..transform + 1,
                None => 0..self.serving.transforms().len(),
            };
            origins.extend(transforms.map(|transform| Origin { offset: record.offset, transform }));
        }
        origins
    }

    /// The last record that was taken.
    fn last(&self) -> Option<LastRecord> {
        self.records.iter().rfind(|record| record.offset < self.to).map(LastRecord::of)
    }
}

/// What one sink made of a write.
pub(super) enum Answer {
    /// It is durable.
    Durable,
    /// Nothing is changed, and these are bad.
    Rejected(Vec<BadWrite>),
    /// Nothing is changed, and the partition cannot go on from here.
    Not(Ended),
}

/// How a write ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Durable in every sink that had something to write.
    Durable,
    /// A sink stands elsewhere, or another claim took the partition: claim it again.
    ClaimAgain(String),
    /// It clashes with what another partition may still change: let it rest, and give it again.
    Rest(String),
}

impl Stores {
    /// Makes a batch durable. Sinks without a command in it are left where they stand, which costs a restart some
    /// reading and saves a write; [`Stores::advance`] moves them along.
    ///
    /// # Errors
    /// When the pipeline has to stop. The partition's ledgers then stand where they stood, or at the batch's end.
    pub(super) async fn write(
        &self,
        standing: &mut Standing,
        batch: &Prepared,
        summary: &mut PipelineSummary,
    ) -> anyhow::Result<Ended> {
        let mut places: HashSet<usize> = batch.refused.iter().map(|refused| refused.place).collect();
        let refused: Vec<_> = batch.refused.iter().collect();
        let refusers = self.refusers(&batch.serving);
        self.file(batch, (&mut standing.letters, &refusers), &refused, &places, &mut summary.rejected).await?;

        let refused_before = refused_before(standing, &batch.serving);
        // What goes to none of the sinks that are still to come.
        let mut omitted = batch.refused_by_modules();
        standing.last = batch.last().or(standing.last);
        let parts = Parts::of(&batch.commands);
        let mut is_fenced = false;
        for (place, bound) in self.sinks.iter().enumerate() {
            let from = standing.next[place];
            if from >= batch.to {
                continue;
            }
            omitted.extend(refused_before.iter().filter(|(by, _)| *by < place).map(|(_, origin)| *origin));
            let mine = |tagged: &&Tagged| tagged.offset >= from && bound.ports.contains(&tagged.command.port());
            let mut commands: Vec<&Tagged> = batch.commands.iter().filter(mine).collect();
            if commands.is_empty() {
                self.mark(&mut standing.memos[place], place, batch, from, &omitted);
                continue;
            }
            if !bound.sink.keeps_ledger() && !is_fenced {
                match self.fence(standing, batch).await? {
                    Ended::Durable => is_fenced = true,
                    ended => return Ok(ended),
                }
            }
            for command in &commands {
                if let Some(two) = self.one_writer.look(&command.command, &standing.key.partition) {
                    self.tell_two_writers(bound, &two);
                }
            }
            let mut unfolded = HashSet::new();
            let mut left_out = standing.clashes.filed(place, batch.to);
            omitted.extend(left_out.iter().copied());
            let records = batch.records.iter().enumerate();
            let filed = records.filter(|(_, record)| left_out.iter().any(|origin| origin.offset == record.offset));
            places.extend(filed.map(|(place, _)| place));
            let memo = loop {
                commands.retain(|tagged| {
                    let stays = !omitted.contains(&tagged.origin());
                    if !stays {
                        count(&mut summary.left_out, tagged.command.kind());
                    }
                    stays
                });
                let writes = collapse(commands.iter().copied(), &parts, &unfolded, &bound.sink.reach());
                let mut memo = standing.memos[place].clone();
                memo.left_out.add(&left_out, batch.serving.transforms());
                self.mark(&mut memo, place, batch, from, &omitted);
                (memo.last, memo.positions) = (standing.last, self.positions_noted(standing, place));
                let bad = match self.execute(standing, place, batch.to, &writes, (&batch.serving, &memo)).await? {
                    Answer::Durable => break memo,
                    Answer::Rejected(bad) => bad,
                    Answer::Not(ended) => return Ok(ended),
                };
                let mut verdict = judge(commands.iter().copied(), &writes, &bad);
                if let Some(why) = standing.clashes.rest(&writes, &bad, &mut verdict, self.policies.clash_patience) {
                    return Ok(Ended::Rest(format!("sink `{}`: {why}", bound.name)));
                }
                if verdict.rejected.is_empty() && verdict.unfold.is_empty() {
                    return Err(self.refused_nothing(bound));
                }
                unfolded.extend(verdict.unfold.iter().cloned());
                let refused = refused_by(place, bound, batch, verdict);
                let origins: Vec<Origin> = refused.iter().map(|(origin, _)| *origin).collect();
                left_out.extend_from_slice(&origins);
                omitted.extend(origins.iter().copied());
                places.extend(refused.iter().map(|(_, refused)| refused.place));
                let refused: Vec<_> = refused.iter().map(|(_, refused)| refused).collect();
                let letters = (&mut standing.letters, &refusers);
                self.file(batch, letters, &refused, &places, &mut summary.rejected).await?;
                standing.clashes.file(place, &origins);
            };
            (standing.next[place], standing.memos[place]) = (batch.to, memo);
            is_fenced |= Some(place) == self.fencing();
            match self.mark_at_keeper(standing, place, batch, from, &omitted).await? {
                Ended::Durable => {}
                ended => return Ok(ended),
            }
        }
        // Not before: a module may fail at another record when the batch comes again.
        standing.letters.pass(&refusers, batch.records.first().map_or(batch.to, |record| record.offset), batch.to);
        standing.letters.settle(&standing.next);
        self.breaker.passed(batch.records.len(), &places);
        standing.clashes.pass(batch.to);
        Ok(Ended::Durable)
    }

    /// What the transforms that serve declare of a sink's ports.
    pub(super) fn declared(&self, bound: &BoundSink) -> Declared {
        declared(&bound.ports, self.slot.serving().started().iter().map(|one| one.description()))
    }

    /// Those of a set of modules that may refuse a record before any sink.
    pub(super) fn refusers(&self, serving: &Serving) -> Refusers {
        Refusers::new(serving, &self.configured)
    }

    fn tell_two_writers(&self, bound: &BoundSink, two: &str) {
        tracing::warn!(
            pipeline = self.pipeline,
            sink = bound.name,
            "{two}: whichever comes last stands, older or not. Derive the target from the record's key alone"
        );
    }

    /// Moves the ledgers that lag behind `to`, since their sinks had nothing to write of what `serving` handled, and has one
    /// of them note how far those without a ledger have come.
    ///
    /// # Errors
    /// As [`Stores::write`].
    pub(super) async fn advance(&self, standing: &mut Standing, to: u64, serving: &Serving) -> anyhow::Result<Ended> {
        for (place, bound) in self.sinks.iter().enumerate() {
            if standing.next[place] < to && !bound.sink.keeps_ledger() {
                let memo = &mut standing.memos[place];
                memo.last = standing.last.filter(|last| last.offset < to).or(memo.last);
                standing.next[place] = to;
            }
        }
        for place in (0..self.sinks.len()).filter(|place| self.sinks[*place].sink.keeps_ledger()) {
            let to = standing.next[place].max(to);
            let notes = Some(place) == self.fencing() && !self.notes_positions(standing);
            if standing.next[place] == to && !notes {
                continue;
            }
            let memo = self.memo_at(standing, place, to);
            match self.move_ledger(standing, place, to, memo, serving).await? {
                Ended::Durable => {}
                ended => return Ok(ended),
            }
        }
        Ok(Ended::Durable)
    }

    /// What a ledger is to keep once it has moved to `to`.
    pub(super) fn memo_at(&self, standing: &Standing, place: usize, to: u64) -> Memo {
        let mut memo = standing.memos[place].clone();
        // A ledger that is ahead of the batch has taken a later record already.
        let last = standing.last.filter(|last| last.offset < to);
        memo.last = last.into_iter().chain(memo.last).max_by_key(|last| last.offset);
        memo.positions = self.positions_noted(standing, place);
        memo
    }

    /// Moves one ledger to `to` and has it keep `memo`, without a command: so it also shows that no later claim was there.
    ///
    /// # Errors
    /// As [`Stores::write`].
    pub(super) async fn move_ledger(
        &self,
        standing: &mut Standing,
        place: usize,
        to: u64,
        memo: Memo,
        serving: &Serving,
    ) -> anyhow::Result<Ended> {
        match self.execute(standing, place, to, &[], (serving, &memo)).await? {
            Answer::Durable => {
                (standing.next[place], standing.memos[place]) = (to, memo);
                Ok(Ended::Durable)
            }
            Answer::Rejected(_) => Err(self.refused_nothing(&self.sinks[place])),
            Answer::Not(ended) => Ok(ended),
        }
    }

    /// Has one sink execute what is left for it and move its ledger.
    pub(super) async fn execute(
        &self,
        standing: &Standing,
        place: usize,
        to: u64,
        writes: &[Write<'_>],
        (serving, memo): (&Serving, &Memo),
    ) -> anyhow::Result<Answer> {
        let (bound, from) = (&self.sinks[place], standing.next[place]);
        let (key, token, epoch) = (&standing.key, standing.token, standing.epochs[place]);
        let note = memo.write();
        let step = Step { key, token, from, to, epoch, digest: serving.digests(), note: &note };
        let write = || self.observed.timed(&bound.name, write_once(bound, &step, writes, &standing.lease));
        let Some(written) = self.patiently_under(&standing.lease, bound, write).await? else {
            return Ok(Answer::Not(Ended::ClaimAgain(bound.is_given_up())));
        };
        Ok(match written {
            Written::Applied | Written::AlreadyApplied => Answer::Durable,
            Written::Rejected(bad) | Written::Clashes(bad) => Answer::Rejected(bad),
            Written::StandsAt(at) => Answer::Not(Ended::ClaimAgain(bound.stands_at(at, from))),
            Written::Fenced => Answer::Not(Ended::ClaimAgain(bound.is_fenced())),
            Written::LedgerMissing => Answer::Not(Ended::ClaimAgain(self.ledger_missing(bound, key).await?)),
        })
    }

    /// Trying again would come to the same for ever.
    pub(super) fn refused_nothing(&self, bound: &BoundSink) -> anyhow::Error {
        anyhow!(
            "pipeline `{}`: sink `{}` refuses a batch and names no command of it; please report this",
            self.pipeline,
            bound.name
        )
    }
}

/// What sinks have refused that are ahead of others, by the sink's place: it goes to none of the later sinks.
fn refused_before(standing: &Standing, serving: &Serving) -> Vec<(usize, Origin)> {
    let lowest = standing.lowest();
    let mut refused = Vec::new();
    for (place, (memo, next)) in standing.memos.iter().zip(&standing.next).enumerate() {
        if *next > lowest {
            let ahead = memo.left_out.of(serving.transforms()).into_iter().filter(|origin| origin.offset < *next);
            refused.extend(ahead.map(|origin| (place, origin)));
        }
    }
    refused
}
