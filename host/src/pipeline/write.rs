//! The second half of a lane: brings a batch into each sink in turn, and files what is rejected.
//!
//! The sinks are written in the order tables, documents, cache, messages. A record that one of them rejects is filed
//! as a dead letter before that sink's ledger moves, and goes to none of the later ones. What other transforms answered
//! to the same record is not touched by that. A sink whose ledger is already past a part of the batch gets the rest
//! alone.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::dead_letter::{DeadLetter, DeadLetters, Stage};
use super::progress::{Counts, PipelineSummary, count};
use super::retry::Backoff;
use super::stop::Stop;
use crate::command::Port;
use crate::command::collapse::{Origin, Tagged, collapse, judge};
use crate::contract::{Fault, Rejection};
use crate::sink::{BadWrite, LedgerKey, Sink, SinkError, Step, Token, Write, Written};
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

/// Where a pipeline's batches go.
pub(super) struct Stores {
    /// The pipeline.
    pub(super) pipeline: String,
    /// In the order in which they are written.
    pub(super) sinks: Vec<BoundSink>,
    /// Where rejected records go.
    pub(super) dead_letters: Arc<DeadLetters>,
    /// The transforms: name and digest.
    pub(super) transforms: Vec<(String, String)>,
    /// The digests joined by a comma, for the ledger.
    pub(super) digests: String,
    /// Ends the waiting for a store.
    pub(super) stop: Arc<Stop>,
}

/// A batch of one partition, transformed and checked.
pub(super) struct Prepared {
    /// The records, for the dead letters of those that a store rejects.
    pub(super) records: Vec<Record>,
    /// The offset after the last record.
    pub(super) to: u64,
    /// The commands in the order of the events.
    pub(super) commands: Vec<Tagged>,
    /// The records that were refused so far.
    pub(super) refused: Vec<Refused>,
    /// What it comes to, to be counted once it is durable; what is rejected is counted where it is filed.
    pub(super) summary: PipelineSummary,
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

/// Where a lane stands in a partition.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// The row of the ledgers.
    pub(super) key: LedgerKey,
    /// The token of the claim.
    pub(super) token: Token,
    /// The next offset that each sink wants, in the order of the sinks.
    pub(super) next: Vec<u64>,
}

/// What one sink made of a write.
enum Answer {
    /// It is durable.
    Durable,
    /// Nothing is changed, and these are bad.
    Rejected(Vec<BadWrite>),
    /// Nothing is changed: the ledger stands elsewhere, or is another's.
    Elsewhere(String),
}

/// How a write ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Durable in every sink that had something to write.
    Durable,
    /// A sink stands elsewhere, or another claim took the partition: claim it again.
    ClaimAgain(String),
}

impl Stores {
    /// Stores of a pipeline with these sinks, in the order in which they are written.
    pub(super) fn new(
        pipeline: &str,
        sinks: Vec<BoundSink>,
        dead_letters: Arc<DeadLetters>,
        transforms: Vec<(String, String)>,
        stop: Arc<Stop>,
    ) -> Self {
        let digests: Vec<_> = transforms.iter().map(|(_, digest)| digest.as_str()).collect();
        let digests = digests.join(",");
        Self { pipeline: pipeline.to_owned(), sinks, dead_letters, transforms, digests, stop }
    }

    /// Makes a batch durable. Sinks without a command in it are left where they stand, which costs a restart some
    /// reading and saves a write; [`Stores::advance`] moves them along.
    ///
    /// # Errors
    /// When the pipeline has to stop. The partition's ledgers then stand where they stood, or at the batch's end.
    pub(super) async fn write(
        &self,
        standing: &mut Standing,
        batch: &Prepared,
        rejected: &mut Counts,
    ) -> anyhow::Result<Ended> {
        let refused: Vec<_> = batch.refused.iter().collect();
        self.file(&batch.records, &refused, rejected).await?;

        let refused_before = self.refused_before(standing, batch);
        let mut left_out: HashSet<Origin> = HashSet::new();
        for (place, bound) in self.sinks.iter().enumerate() {
            let from = standing.next[place];
            if from >= batch.to {
                continue;
            }
            left_out.extend(refused_before.iter().filter(|(by, _)| *by < place).map(|(_, origin)| *origin));
            let mine = |tagged: &&Tagged| tagged.offset >= from && bound.ports.contains(&tagged.command.port());
            let mut commands: Vec<&Tagged> = batch.commands.iter().filter(mine).collect();
            if commands.is_empty() {
                continue;
            }
            let mut unfolded = HashSet::new();
            loop {
                commands.retain(|tagged| !left_out.contains(&tagged.origin()));
                let writes = collapse(commands.iter().copied(), &unfolded);
                let bad = match self.execute(standing, place, batch.to, &writes).await? {
                    Answer::Durable => break,
                    Answer::Rejected(bad) => bad,
                    Answer::Elsewhere(why) => return Ok(Ended::ClaimAgain(why)),
                };
                let verdict = judge(commands.iter().copied(), &writes, &bad);
                if verdict.rejected.is_empty() && verdict.unfold.is_empty() {
                    return Err(self.refused_nothing(bound));
                }
                let refused: Vec<Refused> = verdict
                    .rejected
                    .into_iter()
                    .filter_map(|(origin, reason)| {
                        left_out.insert(origin);
                        let at = batch.records.binary_search_by_key(&origin.offset, |record| record.offset).ok()?;
                        let why = Rejection::new(Fault::Store, format!("sink `{}`: {reason}", bound.name));
                        Some(Refused {
                            place: at,
                            transform: Some(origin.transform),
                            stage: Stage::Write,
                            sink: Some(place),
                            why,
                        })
                    })
                    .collect();
                self.file(&batch.records, &refused.iter().collect::<Vec<_>>(), rejected).await?;
                unfolded.extend(verdict.unfold);
            }
            standing.next[place] = batch.to;
        }
        Ok(Ended::Durable)
    }

    /// What sinks that are ahead have refused of this batch, in an earlier run or before the partition was set back, by
    /// the sink's place: it goes to none of the later sinks this time either. Another module's answer is
    /// another matter.
    fn refused_before(&self, standing: &Standing, batch: &Prepared) -> Vec<(usize, Origin)> {
        let mut refused = Vec::new();
        let Some(first) = batch.commands.first() else { return refused };
        if standing.next.iter().all(|next| *next <= first.offset) {
            return refused;
        }
        let partition = &standing.key.partition;
        for (transform, (name, digest)) in self.transforms.iter().enumerate() {
            let module = (name.as_str(), digest.as_str());
            for (offset, sink) in self.dead_letters.refusals(&self.pipeline, partition, module, first.offset..batch.to)
            {
                let by = self.sinks.iter().position(|bound| bound.name == sink);
                let ahead = by.filter(|by| standing.next.get(*by).is_some_and(|next| offset < *next));
                refused.extend(ahead.map(|by| (by, Origin { offset, transform })));
            }
        }
        refused
    }

    /// Moves the ledgers that lag behind `to`, since their sinks had nothing to write.
    ///
    /// # Errors
    /// As [`Stores::write`].
    pub(super) async fn advance(&self, standing: &mut Standing, to: u64) -> anyhow::Result<Ended> {
        for place in 0..self.sinks.len() {
            if standing.next[place] >= to {
                continue;
            }
            match self.execute(standing, place, to, &[]).await? {
                Answer::Durable => standing.next[place] = to,
                Answer::Rejected(_) => return Err(self.refused_nothing(&self.sinks[place])),
                Answer::Elsewhere(why) => return Ok(Ended::ClaimAgain(why)),
            }
        }
        Ok(Ended::Durable)
    }

    /// Has one sink execute what is left for it and move its ledger.
    async fn execute(
        &self,
        standing: &Standing,
        place: usize,
        to: u64,
        writes: &[Write<'_>],
    ) -> anyhow::Result<Answer> {
        let (bound, from) = (&self.sinks[place], standing.next[place]);
        let step =
            Step { key: &standing.key, token: standing.token, from, to, epoch: 0, digest: &self.digests, note: "" };
        Ok(match self.patiently(bound, || bound.sink.write(&step, writes)).await? {
            Written::Applied | Written::AlreadyApplied => Answer::Durable,
            Written::Rejected(bad) | Written::Clashes(bad) => Answer::Rejected(bad),
            Written::StandsAt(at) => {
                Answer::Elsewhere(format!("the ledger of sink `{}` stands at {at}, not at {from}", bound.name))
            }
            Written::Fenced => Answer::Elsewhere(format!("another claim owns it in sink `{}`", bound.name)),
            Written::LedgerMissing => return Err(self.ledger_missing(bound, &standing.key)),
        })
    }

    /// Takes a partition over in every sink, under one new token.
    pub(super) async fn claim(&self, key: LedgerKey, log_start: u64) -> anyhow::Result<Standing> {
        let token = Token(
            u128::from(getrandom::u64().context("the system gives no random numbers, which a claim needs")?) << 64
                | u128::from(getrandom::u64().context("the system gives no random numbers, which a claim needs")?),
        );
        let mut next = Vec::new();
        for bound in &self.sinks {
            let found = self.patiently(bound, || bound.sink.claim(&key, token, log_start)).await?;
            if found.known && found.next < log_start {
                return Err(anyhow!(
                    "pipeline `{}`: {} begins at offset {log_start}, but sink `{}` has come to {} only: {} offsets are \
                     gone from the source. Bring the missing records back, or give the sink a fresh target",
                    self.pipeline,
                    key.partition,
                    bound.name,
                    found.next,
                    log_start - found.next
                ));
            }
            next.push(found.next);
        }
        Ok(Standing { key, token, next })
    }

    /// Tries until the store answers, the pipeline is stopped, or the store says that waiting will not help.
    pub(super) async fn patiently<T, F>(&self, bound: &BoundSink, attempt: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        loop {
            let cause = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(SinkError::Retry(cause)) => cause,
                Err(SinkError::Stop(cause)) => {
                    return Err(anyhow!("pipeline `{}`: sink `{}`: {cause}", self.pipeline, bound.name));
                }
            };
            if cause != told {
                tracing::warn!(pipeline = self.pipeline, sink = bound.name, cause, "waiting for the store");
                told.clone_from(&cause);
            }
            if self.stop.wait(backoff.next()).await {
                return Err(anyhow!(
                    "pipeline `{}`: sink `{}`: stopped while waiting: {cause}",
                    self.pipeline,
                    bound.name
                ));
            }
        }
    }

    /// Files records as dead letters; they are durable when this returns.
    async fn file(&self, records: &[Record], refused: &[&Refused], rejected: &mut Counts) -> anyhow::Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let letters: Vec<DeadLetter<'_>> = refused
            .iter()
            .map(|refused| {
                count(rejected, refused.why.fault.label());
                let (transform, digest) = refused
                    .transform
                    .and_then(|transform| self.transforms.get(transform))
                    .map_or(("", ""), |(name, digest)| (name.as_str(), digest.as_str()));
                DeadLetter {
                    record: &records[refused.place],
                    pipeline: &self.pipeline,
                    transform,
                    digest,
                    fault: refused.why.fault,
                    stage: refused.stage,
                    sink: refused.sink.and_then(|sink| self.sinks.get(sink)).map_or("", |bound| bound.name.as_str()),
                    reason: &refused.why.reason,
                }
            })
            .collect();
        for letter in &letters {
            tracing::warn!(
                pipeline = self.pipeline,
                position = letter.record.position(),
                transform = letter.transform,
                fault = letter.fault.label(),
                reason = letter.reason,
                "dead letter"
            );
        }
        self.dead_letters
            .file(&letters)
            .await
            .map(drop)
            .with_context(|| format!("pipeline `{}`: cannot file dead letters; nothing was lost", self.pipeline))
    }

    /// Trying again would come to the same for ever.
    fn refused_nothing(&self, bound: &BoundSink) -> anyhow::Error {
        anyhow!(
            "pipeline `{}`: sink `{}` refuses a batch and names no command of it; please report this",
            self.pipeline,
            bound.name
        )
    }

    fn ledger_missing(&self, bound: &BoundSink, key: &LedgerKey) -> anyhow::Error {
        anyhow!(
            "pipeline `{}`: the ledger of sink `{}` does not know {} any more: the store was emptied or replaced. \
             Restore it, or give the sink a fresh target and start again",
            self.pipeline,
            bound.name,
            key.partition
        )
    }
}
