//! Where commands are executed, and where the ledger stands.
//!
//! A sink stores, in one transaction with a batch's commands, how far each partition has come. Every store behind
//! this trait keeps the same promises, and one suite of tests holds them all to it:
//!
//! - **Compare and set.** A write names the claim's token, the offset `from` where the ledger must stand, and the
//!   offset `to` where it then stands. Where token or `from` differ, nothing at all is changed, and the answer says
//!   what the ledger holds ([`Written`]). `from` is the `to` of the write before, not the offset of a record:
//!   offsets have gaps.
//! - **All or nothing.** Either every command is durable and the ledger stands at `to`, or nothing has changed.
//! - **Rejects come first.** When commands are bad, nothing is changed and all the bad ones of the batch are named
//!   at once. The caller files their records as dead letters, and only then writes the rest, with a note of what is
//!   left out ([`Step::note`]).
//! - **A ledger that is gone is told**, and never made up for by a sink itself: whether a store is begun afresh is the
//!   pipeline's to say ([`Sink::knows`], [`Sink::clear_cache`]).
//! - **Order.** Commands of one target take effect in the order given.
//! - **A change of modules is recorded**, in the transaction that moves the ledger under other digests than it moved
//!   before ([`Sink::history`]).
//! - **Errors** are of two kinds: try again later, or stop and tell the operator. A bad command is no error.
//!
//! A sink knows partitions, offsets and commands; it never sees a module or a source.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::command::collapse::{Origin, Reach};
use crate::command::{Command, Port};
use crate::contract::{Index, Table};
use crate::inspection::Inspection;
use crate::source::{Lease, TopicFacts, TopicPartition};

#[cfg(test)]
mod contract_tests;
pub mod elasticsearch;
pub mod kafka;
#[cfg(test)]
pub(crate) mod model;
pub mod null;
pub mod postgres;
pub mod redis;
pub mod replace;
pub mod sqlite;
#[cfg(test)]
pub(crate) mod testing;

/// Names one row of a sink's ledger; the sink adds its own name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LedgerKey {
    /// The pipeline.
    pub pipeline: String,
    /// The partition.
    pub partition: TopicPartition,
}

/// A claim's proof: random, made anew for each claim, compared for equality alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u128);

/// What the pipeline's transforms will write through one sink, over all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The ports that are bound to this sink.
    pub ports: Vec<Port>,
    /// The keys of cache entries: literals, or prefixes that end in `*`.
    pub cache_keys: Vec<String>,
    /// The tables, with their keys.
    pub tables: Vec<Table>,
    /// The indexes, with their definitions.
    pub indexes: Vec<Index>,
    /// The topics.
    pub topics: Vec<String>,
}

/// What a sink's ledger holds of a topic: as long as it holds, the offsets of the topic's partitions mean what they
/// meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicHead {
    /// The topic, when the ledger first met it or when the operator last confirmed a change.
    pub facts: TopicFacts,
    /// Rises by one each time the operator confirms a change, from 0, or for a cache from a random number, by which it is
    /// known that the cache was cleared. It is the higher half of a document's version.
    pub epoch: u16,
}

/// What a claim found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The next offset that the sink wants.
    pub next: u64,
    /// Whether the ledger knew the partition before this claim.
    pub known: bool,
    /// The note of the last write that was applied; empty where there was none.
    pub note: String,
}

/// From which offset on a sink holds what these modules made of a partition.
///
/// In the order of [`Sink::history`], what a sink holds of an offset was made under the last row whose offset is not
/// above it: rows of a partition that was begun again below come later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The partition.
    pub partition: TopicPartition,
    /// Where the ledger stood before the first write under these digests.
    pub offset: u64,
    /// The digests of the modules, in the order of the pipeline's transforms.
    pub digests: Vec<String>,
    /// When that write was done, ms since 1970; not before the partition's earlier rows, whatever a host's clock says.
    pub time: i64,
}

/// The most rows of a history that are read at once.
pub const HISTORY_ROWS: usize = 10_000;

impl HistoryRow {
    /// A row from what a store keeps; `digests` as in [`Step::digest`].
    fn new(partition: TopicPartition, offset: u64, digests: &str, time: i64) -> Self {
        Self { partition, offset, digests: digests.split(',').map(str::to_owned).collect(), time }
    }

    /// Brings rows into the order of [`Sink::history`], and leaves the newest that are read at once.
    fn ordered(mut rows: Vec<Self>) -> Vec<Self> {
        rows.sort_by(|a, b| (a.time, a.offset, &a.partition).cmp(&(b.time, b.offset, &b.partition)));
        rows.drain(..rows.len().saturating_sub(HISTORY_ROWS));
        rows
    }
}

/// Where a write begins and ends, and in whose name.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    /// The row of the ledger.
    pub key: &'a LedgerKey,
    /// The claim's token.
    pub token: Token,
    /// Where the ledger must stand: the `to` of the write before.
    pub from: u64,
    /// Where it stands afterwards. The same as `from` for events of before that are made up for: such a write may be
    /// done twice when its answer is lost, and nothing tells. The offsets of its events lie below `from`.
    pub to: u64,
    /// The epoch of the topic, from its [`TopicHead`].
    pub epoch: u16,
    /// The digests of the modules that made the commands, joined by a comma, never empty; kept in the ledger, and in
    /// its history where the ledger held others.
    pub digest: &'a str,
    /// Any text for the ledger, in place of the last write's.
    pub note: &'a str,
}

impl Step<'_> {
    /// Whether the step is one.
    ///
    /// # Errors
    /// `Stop` when it goes backwards.
    pub fn check(&self) -> Result<(), SinkError> {
        if self.from <= self.to {
            return Ok(());
        }
        Err(SinkError::Stop(format!(
            "a write of {} of pipeline {} goes from offset {} back to {}; please report this",
            self.key.partition, self.key.pipeline, self.from, self.to
        )))
    }

    /// What to answer when the ledger, which holds this token and stands at `next`, does not let the step through.
    pub fn refused(&self, token: Token, next: u64) -> Written {
        if token != self.token {
            Written::Fenced
        } else if next == self.to {
            Written::AlreadyApplied
        } else {
            Written::StandsAt(next)
        }
    }
}

/// A command to execute, and what it came from.
#[derive(Debug)]
pub struct Write<'a> {
    /// The command; owned where several were folded into it.
    pub command: Cow<'a, Command>,
    /// The events and transforms it came from, rising. More than one when commands were folded.
    pub origins: Vec<Origin>,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// Durable; the ledger stands at `to`.
    Applied,
    /// The ledger stood at `to` under this very token: an earlier try had come through. Nothing was changed.
    AlreadyApplied,
    /// These commands are bad, and nothing was changed.
    Rejected(Vec<BadWrite>),
    /// These commands clash with rows that another partition may still change: a unique value that moves, a parent
    /// that is to come. Nothing was changed. Commands that are bad for good are among them where the sink found any.
    Clashes(Vec<BadWrite>),
    /// The ledger stands elsewhere, under this token: the store lost writes (below `from`), or they were done
    /// already. Nothing was changed; go on from there.
    StandsAt(u64),
    /// Another claim owns the partition. Nothing was changed.
    Fenced,
    /// The ledger does not know the partition any more. Nothing was changed.
    LedgerMissing,
}

/// A command that the store will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadWrite {
    /// Its place in the writes.
    pub index: usize,
    /// Whether it is so by what stands in other rows: a unique value, a parent.
    pub clash: bool,
    /// Whether a trigger may have refused it, for what that found in other rows.
    pub by_trigger: bool,
    /// Why, for the operator.
    pub reason: String,
}

/// Why a store could not answer. The texts name the store's address and the place in it; the sink is named by whoever
/// calls it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may pass: back off and try the same again. The write may have been applied.
    #[error("{0}")]
    Retry(String),
    /// It will not pass by itself: stop, and say so. The text holds the remedy.
    #[error("{0}")]
    Stop(String),
}

/// A store. The module's documentation is the contract.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Whether this sink keeps a ledger. One that does not is told where to begin by the source's commits; of its
    /// methods [`Sink::prepare`], [`Sink::inspect`] and [`Sink::publish`] alone are called, and a write is done when
    /// every command of it is acknowledged.
    fn keeps_ledger(&self) -> bool {
        true
    }

    /// Whether the ledger is still there when the process has ended. The loss of one that is not is no loss: each start
    /// begins anew.
    fn ledger_outlives_the_process(&self) -> bool {
        self.keeps_ledger()
    }

    /// Whether this pipeline has started on this sink before: whether the ledger has its head.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn knows(&self, pipeline: &str) -> Result<bool, SinkError>;

    /// Holds what the transforms declared against the store, makes what a first start has to make, and enters the
    /// pipeline's head in the ledger if it is not there. Called before the first claim, and again with the same or
    /// another declaration after a change of modules.
    ///
    /// # Errors
    /// `Stop` when the store is not as declared; `Retry` when it cannot be reached.
    async fn prepare(&self, pipeline: &str, declared: &Declared) -> Result<(), SinkError>;

    /// Enters what is known of a topic where the ledger holds nothing of it, or in any case with `replace`, and answers
    /// what the ledger holds then.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn enter_topic(
        &self,
        pipeline: &str,
        topic: &str,
        head: &TopicHead,
        replace: bool,
    ) -> Result<TopicHead, SinkError>;

    /// Takes the partition over under a new token: every write under an older one is fenced from now on. A partition
    /// that the ledger does not know is entered at `start`.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn claim(&self, key: &LedgerKey, token: Token, start: u64) -> Result<Standing, SinkError>;

    /// The pipeline has let go of the partition: what the sink keeps for it in this process may go. Returns at once. A claim
    /// comes before the next write.
    fn release(&self, _key: &LedgerKey) {}

    /// Under which token the ledger has each of these rows, and at which next offset; none where it does not know one.
    /// Locks nothing, so that it may be old by the time that it is read.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn positions(&self, keys: &[LedgerKey]) -> Result<Vec<Option<(Token, u64)>>, SinkError>;

    /// Which writes of rows act on other rows, as far as was found when the sink was prepared: others are not folded over
    /// them.
    fn reach(&self) -> Arc<Reach> {
        Arc::default()
    }

    /// Executes the commands and moves the ledger, or does neither.
    ///
    /// # Errors
    /// As [`SinkError`] says. After `Retry` the write may or may not have been applied; the same call again tells.
    async fn write(&self, step: &Step<'_>, writes: &[Write<'_>]) -> Result<Written, SinkError>;

    /// [`Sink::write`] for a sink that keeps no ledger, and so knows no owner but by this lease: once that does not hold,
    /// it hands on nothing more. What it has handed on counts as publishing until it is known to have arrived or to be gone,
    /// also where the caller does not wait for that.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn publish(&self, step: &Step<'_>, writes: &[Write<'_>], _lease: &Lease) -> Result<Written, SinkError> {
        self.write(step, writes).await
    }

    /// Which modules made what the sink holds of the pipeline: a row a partition at its first write, and at each write
    /// under other digests than the one before. By time, then by offset; of more than [`HISTORY_ROWS`] the newest. A
    /// later change at the same offset replaces its row, since nothing is left of what that one said.
    ///
    /// # Errors
    /// As [`SinkError`] says.
    async fn history(&self, pipeline: &str) -> Result<Vec<HistoryRow>, SinkError>;

    /// Has a cache whose ledger is gone begin afresh: deletes the entries under `keys`, then the pipeline's rows of
    /// the ledger, then enters its head. Whatever is written meanwhile under an older claim is fenced by that, and
    /// written again from the start. The history stays: it says what had run, and the rows of the new beginning come
    /// after it.
    ///
    /// # Errors
    /// As [`SinkError`] says; `Stop` where the sink is no cache.
    async fn clear_cache(&self, pipeline: &str, keys: &[String]) -> Result<(), SinkError>;

    /// Holds what the transforms of a pipeline declared against the store, changing nothing. A fault is what [`Sink::prepare`] or a
    /// write would stop at or wait for; what the store refuses now and then, or what `prepare` mends, is a note.
    ///
    /// # Errors
    /// As [`SinkError`] says; a wrong password is a fault by that.
    async fn inspect(&self, pipeline: &str, declared: &Declared) -> Result<Inspection, SinkError>;
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Runs what blocks for a while (a file, a lock) so that the runtime's other tasks go on.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A runtime of one thread cannot move its other tasks elsewhere, and outside of one there are none.
        _ => work(),
    }
}
