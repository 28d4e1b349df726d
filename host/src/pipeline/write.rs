//! The second half of a lane: brings a batch into each sink in turn, and files what is rejected.
//!
//! The sinks are written in the order tables, documents, cache, messages. A record that one of them rejects is filed
//! as a dead letter before that sink's ledger moves, and goes to none of the later ones. A sink whose ledger is
//! already past a part of the batch gets the rest alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::dead_letter::{DeadLetter, DeadLetterFile};
use super::progress::{Counts, count};
use super::retry::Backoff;
use super::stop::Stop;
use crate::command::{Port, Tagged, collapse};
use crate::contract::{Fault, Rejection};
use crate::sink::{LedgerKey, Sink, SinkError, Step, Token, Write, Written};
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
    pub(super) dead_letters: Arc<DeadLetterFile>,
    /// The transforms: name and digest.
    pub(super) transforms: Vec<(String, String)>,
    /// The digests joined, for the ledger.
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
    /// Why the pipeline must stop after this batch.
    pub(super) stop: Option<anyhow::Error>,
}

/// A record that goes to the dead letters.
pub(super) struct Refused {
    /// Its place among the batch's records.
    pub(super) place: usize,
    /// The transform that refused it; none when it could not be understood at all.
    pub(super) transform: Option<usize>,
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

/// How a write ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Durable in every sink that had something to write.
    Durable,
    /// A sink stands elsewhere, or another claim took the partition: claim it again.
    ClaimAgain(String),
}

impl Stores {
    /// Makes a batch durable. Sinks without a command in it are moved along when `advance_all` is set; else they are
    /// left where they stand, which costs a restart some reading and saves a write.
    ///
    /// # Errors
    /// When the pipeline has to stop. The partition's ledgers then stand where they stood, or at the batch's end.
    pub(super) async fn write(
        &self,
        standing: &mut Standing,
        batch: &Prepared,
        advance_all: bool,
        rejected: &mut Counts,
    ) -> anyhow::Result<Ended> {
        let by_offset: HashMap<u64, usize> =
            batch.records.iter().enumerate().map(|(place, record)| (record.offset, place)).collect();
        let letters = batch
            .refused
            .iter()
            .map(|refused| self.letter(&batch.records[refused.place], refused.transform, refused.why.clone(), "transform"));
        self.file(letters.collect(), rejected)?;

        let mut refused = HashSet::new();
        for (place, bound) in self.sinks.iter().enumerate() {
            let from = standing.next[place];
            if from >= batch.to {
                continue;
            }
            let mut commands: Vec<&Tagged> = batch
                .commands
                .iter()
                .filter(|tagged| tagged.offset >= from && bound.ports.contains(&tagged.command.port()))
                .collect();
            if commands.is_empty() && !advance_all {
                continue;
            }
            let step = Step { key: &standing.key, token: standing.token, from, to: batch.to, digest: &self.digests };
            let mut unfolded = HashSet::new();
            loop {
                commands.retain(|tagged| !refused.contains(&tagged.offset));
                let writes = collapse(&commands, &unfolded);
                let bad = match self.write_once(bound, &step, &writes).await? {
                    Written::Applied | Written::AlreadyApplied => break,
                    Written::Rejected(bad) => bad,
                    Written::StandsAt(at) => {
                        return Ok(Ended::ClaimAgain(format!(
                            "the ledger of sink `{}` stands at {at}, not at {from}",
                            bound.name
                        )));
                    }
                    Written::Fenced => {
                        return Ok(Ended::ClaimAgain(format!("another claim owns it in sink `{}`", bound.name)));
                    }
                    Written::LedgerMissing => return Err(self.ledger_missing(bound, &standing.key)),
                };
                let mut letters = Vec::new();
                for bad in bad {
                    let Some(write) = writes.get(bad.index) else { continue };
                    if let [offset] = write.offsets[..] {
                        if refused.insert(offset)
                            && let Some(record) = by_offset.get(&offset)
                        {
                            let transform = commands.iter().find(|tagged| tagged.offset == offset);
                            let why = Rejection::new(Fault::Store, format!("sink `{}`: {}", bound.name, bad.reason));
                            letters.push(self.letter(
                                &batch.records[*record],
                                transform.map(|tagged| tagged.transform),
                                why,
                                "sink",
                            ));
                        }
                    } else {
                        unfolded.extend(write.command.target());
                    }
                }
                self.file(letters, rejected)?;
            }
            standing.next[place] = batch.to;
        }
        Ok(Ended::Durable)
    }

    /// Moves the ledgers that lag behind `to`, since their sinks had nothing to write.
    pub(super) async fn advance(&self, standing: &mut Standing, to: u64) -> anyhow::Result<Ended> {
        let batch = Prepared { records: Vec::new(), to, commands: Vec::new(), refused: Vec::new(), stop: None };
        self.write(standing, &batch, true, &mut Counts::new()).await
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

    async fn write_once(&self, bound: &BoundSink, step: &Step<'_>, writes: &[Write<'_>]) -> anyhow::Result<Written> {
        self.patiently(bound, || bound.sink.write(step, writes)).await
    }

    /// Tries until the store answers, the pipeline is stopped, or the store says that waiting will not help.
    pub(super) async fn patiently<T, F>(&self, bound: &BoundSink, attempt: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let mut backoff = Backoff::default();
        loop {
            let cause = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(SinkError::Retry(cause)) => cause,
                Err(SinkError::Stop(cause)) => {
                    return Err(anyhow!("pipeline `{}`: sink `{}`: {cause}", self.pipeline, bound.name));
                }
            };
            if backoff.is_first() {
                tracing::warn!(pipeline = self.pipeline, sink = bound.name, cause, "waiting for the store");
            }
            if self.stop.wait(backoff.next()).await {
                return Err(anyhow!("pipeline `{}`: sink `{}`: stopped while waiting: {cause}", self.pipeline, bound.name));
            }
        }
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
