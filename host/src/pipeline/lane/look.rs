//! Looks whether the ledgers are as a lane left them: a store may be emptied or set back, and where nothing comes to be
//! written, nobody else would find out.
//!
//! The stores are asked beside the lane's work, all at once, and a look ends when the last has answered or failed by its
//! own time: one that stands still keeps no lane waiting, and loses no connection to somebody's impatience. What was
//! written meanwhile has been held against the ledger by that, so only what stands as it stood when the look began is
//! compared.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::Running;
use crate::pipeline::claim::Standing;
use crate::sink::{LedgerKey, SinkError, Token};
use crate::source::TopicPartition;

/// How often a lane looks.
const AFTER: Duration = Duration::from_secs(5);
/// A store that took so long to fail is told at once. Another one has a second try: a connection that was closed while
/// nobody looked is no trouble.
const LONG: Duration = Duration::from_secs(1);

/// Where a store's ledger has each of the partitions asked for.
type Positions = Vec<Option<(Token, u64)>>;

/// A look that is under way.
struct Look {
    /// What was left, by partition: the token and where each sink stood.
    left: Vec<(LedgerKey, Token, Vec<u64>)>,
    task: JoinHandle<Vec<Answer>>,
}

/// What one store answered.
struct Answer {
    /// The sink, by its place.
    place: usize,
    positions: Result<Positions, SinkError>,
    took: Duration,
}

/// A lane's looks.
pub(super) struct Looks {
    /// When the last one began.
    begun: Instant,
    under_way: Option<Look>,
    /// The sinks that failed in the last look, by their places.
    failed: Vec<usize>,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), under_way: None, failed: Vec::new() }
    }

    /// Whether there is something to do: a look to begin, or one that has ended.
    fn is_due(&self) -> bool {
        match &self.under_way {
            Some(look) => look.task.is_finished(),
            None => self.begun.elapsed() >= AFTER,
        }
    }
}

impl Running {
    /// Begins a look when it is time for one; when one has ended, claims the partitions again that a store has elsewhere
    /// than this lane left them: what is missing there is written once more.
    ///
    /// # Errors
    /// When that stops the pipeline.
    pub(super) fn look_after_ledgers(&mut self) -> anyhow::Result<()> {
        if !self.looks.is_due() {
            return Ok(());
        }
        // What is in flight moves a ledger before the lane knows of it.
        self.settle()?;
        match self.looks.under_way.take() {
            Some(look) => self.end_look(look),
            None => {
                self.begin_look();
                Ok(())
            }
        }
    }

    fn begin_look(&mut self) {
        self.looks.begun = Instant::now();
        let standings = self.held.values().filter(|held| !held.lost).map(|held| &held.standing);
        let left: Vec<_> =
            standings.map(|standing| (standing.key.clone(), standing.token, standing.next.clone())).collect();
        if left.is_empty() {
            return;
        }
        let keys: Vec<LedgerKey> = left.iter().map(|(key, ..)| key.clone()).collect();
        let stores = self.lane.stores.clone();
        let task = self.lane.runtime.spawn(async move {
            let with_ledgers = stores.sinks.iter().enumerate().filter(|(_, bound)| bound.sink.keeps_ledger());
            let keys = &keys;
            join_all(with_ledgers.map(async |(place, bound)| {
                let asked = Instant::now();
                Answer { place, positions: bound.sink.positions(keys).await, took: asked.elapsed() }
            }))
            .await
        });
        self.looks.under_way = Some(Look { left, task });
    }

    fn end_look(&mut self, look: Look) -> anyhow::Result<()> {
        // One that failed in a way of its own is begun again.
        let Ok(answers) = self.lane.runtime.block_on(look.task) else { return Ok(()) };
        let stores = self.lane.stores.clone();
        let mut failed = Vec::new();
        for Answer { place, positions, took } in answers {
            let Some(bound) = stores.sinks.get(place) else { continue };
            let store = format!("sink `{}`", bound.name);
            let positions = match positions {
                Ok(positions) => positions,
                Err(SinkError::Retry(cause) | SinkError::Stop(cause)) => {
                    let is_told = took >= LONG || self.looks.failed.contains(&place);
                    if is_told && stores.observed.waiting.is_news(&store, &cause) {
                        tracing::warn!(pipeline = stores.pipeline, store, cause, "waiting for the store");
                    }
                    failed.push(place);
                    continue;
                }
            };
            if self.looks.failed.contains(&place) && stores.observed.waiting.is_over(&store) {
                tracing::info!(pipeline = stores.pipeline, store, "the store answers again");
            }
            for ((key, token, next), position) in look.left.iter().zip(positions) {
                let Some(next) = next.get(place).copied() else { continue };
                if !self.stands(&key.partition, *token, place, next) {
                    continue;
                }
                let why = match position {
                    Some((held, at)) if held == *token && at == next => continue,
                    Some((held, at)) if held == *token => bound.stands_at(at, next),
                    Some(_) => bound.is_fenced(),
                    None => self.lane.runtime.block_on(stores.ledger_missing(bound, key))?,
                };
                self.claim_again(&key.partition, &why);
            }
        }
        self.looks.failed = failed;
        Ok(())
    }

    /// Whether the lane has a partition as it had when a look began.
    fn stands(&self, partition: &TopicPartition, token: Token, place: usize, next: u64) -> bool {
        let is_same = |standing: &Standing| standing.token == token && standing.next.get(place) == Some(&next);
        self.held.get(partition).is_some_and(|held| !held.lost && is_same(&held.standing))
    }
}
