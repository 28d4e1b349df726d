//! Checks that the ledgers are as a lane left them: a store may be emptied or set back, and while nothing is written,
//! nothing else would find out.
//!
//! The stores are asked beside the lane's work, all at once. A check ends when the last of them has answered, or has failed
//! within its own timeout: a store that hangs blocks no lane, and no connection is dropped because the lane lost patience.
//! Every write compares the ledger itself, so a check compares only the partitions that were not written since it began.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::Running;
use crate::pipeline::claim::Standing;
use crate::sink::{LedgerKey, SinkError, Token};
use crate::source::TopicPartition;

/// How often a lane checks.
const EVERY: Duration = Duration::from_secs(5);
/// A store that took this long to fail is reported at once. One that failed sooner has a second try: a connection that the
/// server closed while it was idle is no trouble.
const LONG: Duration = Duration::from_secs(1);

/// Token and offset of each partition in a store's ledger; none where the ledger does not know it.
type Positions = Vec<Option<(Token, u64)>>;

/// A check that is under way.
struct Check {
    /// By partition: the token, and the next offset of each sink, when the check began.
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

/// A lane's checks.
pub(super) struct LedgerChecks {
    /// When the last one began.
    begun: Instant,
    under_way: Option<Check>,
    /// The sinks that failed in the last check, by their places.
    failed: Vec<usize>,
}

impl LedgerChecks {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), under_way: None, failed: Vec::new() }
    }

    /// Whether there is something to do: a check to begin, or one that has ended.
    fn is_due(&self) -> bool {
        match &self.under_way {
            Some(check) => check.task.is_finished(),
            None => self.begun.elapsed() >= EVERY,
        }
    }
}

impl Running {
    /// Begins a check when it is time for one. When one has ended, claims those partitions again whose ledger is not as
    /// this lane left it: what is missing in the store is written once more.
    ///
    /// # Errors
    /// When that stops the pipeline.
    pub(super) fn check_ledgers(&mut self) -> anyhow::Result<()> {
        if !self.ledger_checks.is_due() {
            return Ok(());
        }
        // What is in flight moves a ledger before the lane knows of it.
        self.settle()?;
        match self.ledger_checks.under_way.take() {
            Some(check) => self.end_check(check),
            None => {
                self.begin_check();
                Ok(())
            }
        }
    }

    fn begin_check(&mut self) {
        self.ledger_checks.begun = Instant::now();
        let standings = self.held.values().filter(|held| !held.lost).map(|held| &held.standing);
        let left: Vec<_> =
            standings.map(|standing| (standing.key.clone(), standing.token, standing.next.clone())).collect();
        if left.is_empty() {
            self.take_back_failures();
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
        self.ledger_checks.under_way = Some(Check { left, task });
    }

    /// This lane has nothing to ask the stores for, so it would never find that they answer again. Another lane that still
    /// waits says so with its next try.
    fn take_back_failures(&mut self) {
        let stores = &self.lane.stores;
        for bound in self.ledger_checks.failed.drain(..).filter_map(|place| stores.sinks.get(place)) {
            stores.observed.waiting.is_over(&format!("sink `{}`", bound.name));
        }
    }

    fn end_check(&mut self, check: Check) -> anyhow::Result<()> {
        // A task that panicked is begun again.
        let Ok(answers) = self.lane.runtime.block_on(check.task) else { return Ok(()) };
        let stores = self.lane.stores.clone();
        let mut failed = Vec::new();
        for Answer { place, positions, took } in answers {
            let Some(bound) = stores.sinks.get(place) else { continue };
            let store = format!("sink `{}`", bound.name);
            let positions = match positions {
                Ok(positions) => positions,
                Err(SinkError::Retry(cause) | SinkError::Stop(cause)) => {
                    if took >= LONG || self.ledger_checks.failed.contains(&place) {
                        stores.tell_waiting(&store, &cause);
                    }
                    failed.push(place);
                    continue;
                }
            };
            if self.ledger_checks.failed.contains(&place) {
                stores.tell_answer(&store);
            }
            for ((key, token, next), position) in check.left.iter().zip(positions) {
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
        self.ledger_checks.failed = failed;
        Ok(())
    }

    /// Whether nothing was written of a partition, for one sink, since a check began.
    fn stands(&self, partition: &TopicPartition, token: Token, place: usize, next: u64) -> bool {
        let is_same = |standing: &Standing| standing.token == token && standing.next.get(place) == Some(&next);
        self.held.get(partition).is_some_and(|held| !held.lost && is_same(&held.standing))
    }
}
