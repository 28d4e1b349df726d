//! Waits between tries: ever longer, with jitter, so that many lanes do not come back to a store in step.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::stop::Interrupted;
use super::write::{BoundSink, Stores};
use crate::sink::SinkError;
use crate::source::Lease;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// A try that takes so long is told when it fails, also the first one.
const LONG: Duration = Duration::from_secs(1);
/// A try that has not been answered for so long is told while it lasts.
const QUIET: Duration = Duration::from_secs(15);
/// So long after the end was asked for, a store that does not answer is waited for no more.
const LAST_WORD: Duration = Duration::from_secs(5);
/// What begins later yet has this long.
const SHORT: Duration = Duration::from_secs(1);
/// Another cause of the same trouble is told after this: a server that comes up again passes through several.
const ANOTHER_CAUSE_AFTER: Duration = Duration::from_secs(30);

/// What a pipeline waits for: told once, however many of its lanes wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By the name of the store: when its trouble was told last, and with which cause.
    told: Mutex<HashMap<String, (Instant, String)>>,
}

impl Waiting {
    /// Whether this has not been told yet; then it counts as told.
    pub(super) fn is_news(&self, store: &str, cause: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.get(store);
        if known.is_some_and(|(when, known)| known == cause || when.elapsed() < ANOTHER_CAUSE_AFTER) {
            return false;
        }
        told.insert(store.to_owned(), (Instant::now(), cause.to_owned()));
        true
    }

    /// What is waited for, each with its cause.
    pub(super) fn current(&self) -> Vec<(String, String)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current: Vec<_> = told.iter().map(|(store, (_, cause))| (store.clone(), cause.clone())).collect();
        current.sort();
        current
    }

    /// Nothing is waited for.
    pub(super) fn forget(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The store has answered. Whether it was told that it is waited for.
    pub(super) fn is_over(&self, store: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(store).is_some()
    }
}

/// The waits of one operation that is tried again and again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait: between half and all of a time that doubles with each try.
    pub(super) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        let half = full / 2;
        half + half.mul_f64(f64::from(jitter()) / f64::from(u32::MAX))
    }
}

/// Any number. Without a source of randomness there is no jitter, and nothing worse.
fn jitter() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

impl Stores {
    /// Has a sink try until it answers, the pipeline is stopped, or it says that waiting will not help.
    pub(super) async fn patiently<T, F>(&self, bound: &BoundSink, attempt: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        self.retry(&format!("sink `{}`", bound.name), attempt).await
    }

    /// The same as long as a partition is this process's; nothing where it was lost meanwhile.
    pub(super) async fn patiently_under<T, F>(
        &self,
        lease: &Lease,
        bound: &BoundSink,
        attempt: impl Fn() -> F,
    ) -> anyhow::Result<Option<T>>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        self.retry_under(lease, &format!("sink `{}`", bound.name), attempt).await
    }

    /// The same for any store, under its name in messages.
    pub(super) async fn retry<T, F>(&self, store: &str, attempt: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let answer = self.retry_under(&Lease::default(), store, attempt).await?;
        answer.ok_or_else(|| anyhow!("pipeline `{}`: {store}: given up; please report this", self.pipeline))
    }

    async fn retry_under<T, F>(&self, lease: &Lease, store: &str, attempt: impl Fn() -> F) -> anyhow::Result<Option<T>>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let mut backoff = Backoff::default();
        let mut again = false;
        loop {
            let begun = Instant::now();
            let cause = match self.answer(store, attempt()).await {
                Ok(answer) => {
                    if again || begun.elapsed() >= QUIET {
                        self.tell_answer(store);
                    }
                    return Ok(Some(answer));
                }
                Err(SinkError::Retry(cause)) => cause,
                Err(SinkError::Stop(cause)) => {
                    return Err(anyhow!("pipeline `{}`: {store}: {cause}", self.pipeline));
                }
            };
            // A connection that was closed while nobody looked is opened by the second try, and no trouble.
            if again || begun.elapsed() >= LONG {
                self.tell_waiting(store, &cause);
            }
            again = true;
            let stopped = tokio::select! {
                stopped = self.stop.wait(backoff.next()) => stopped,
                () = lease.lost() => {
                    // Another lane that waits tells it once more.
                    self.observed.waiting.is_over(store);
                    return Ok(None);
                }
            };
            if stopped {
                let waited = format!("pipeline `{}`: {store}: stopped while waiting: {cause}", self.pipeline);
                return Err(Interrupted(waited).into());
            }
        }
    }

    /// Logs that a store is waited for, unless that was logged before.
    pub(super) fn tell_waiting(&self, store: &str, cause: &str) {
        if self.observed.waiting.is_news(store, cause) {
            tracing::warn!(pipeline = self.pipeline, store, cause, "waiting for the store");
        }
    }

    /// Logs that it has answered, if it was logged that it is waited for.
    pub(super) fn tell_answer(&self, store: &str) {
        if self.observed.waiting.is_over(store) {
            tracing::info!(pipeline = self.pipeline, store, "the store answers again");
        }
    }

    /// The answer to one try. It is given up for the end of the pipeline alone: whatever a store does is bounded by its
    /// sink, and cut off in the middle nobody would know what came of it.
    async fn answer<T>(
        &self,
        store: &str,
        attempt: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        let unanswered = async {
            tokio::time::sleep(QUIET).await;
            self.tell_waiting(store, &format!("no answer for {} s", QUIET.as_secs()));
            std::future::pending::<()>().await;
        };
        let end = async {
            let short = tokio::time::sleep(SHORT);
            self.stop.overdue(LAST_WORD).await;
            short.await;
        };
        tokio::select! {
            biased;
            answer = attempt => answer,
            () = end => Err(SinkError::Retry("it gave no answer".into())),
            () = unanswered => Err(SinkError::Retry("it gave no answer".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_never_vanish() {
        let mut backoff = Backoff::default();
        let mut full = FIRST;
        for _ in 0..100 {
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            full = (full * 2).min(LONGEST);
        }
    }
}
