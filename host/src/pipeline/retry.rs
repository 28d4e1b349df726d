//! Waits between tries: ever longer, with jitter, so that many lanes do not come back to a store in step.

use std::time::Duration;

use anyhow::anyhow;

use super::write::{BoundSink, Stores};
use crate::sink::SinkError;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

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

    /// The same for any store, under its name in messages.
    pub(super) async fn retry<T, F>(&self, store: &str, attempt: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        loop {
            let cause = match attempt().await {
                Ok(answer) => {
                    if !told.is_empty() {
                        tracing::info!(pipeline = self.pipeline, store, "the store answers again");
                    }
                    return Ok(answer);
                }
                Err(SinkError::Retry(cause)) => cause,
                Err(SinkError::Stop(cause)) => {
                    return Err(anyhow!("pipeline `{}`: {store}: {cause}", self.pipeline));
                }
            };
            if cause != told {
                tracing::warn!(pipeline = self.pipeline, store, cause, "waiting for the store");
                told.clone_from(&cause);
            }
            if self.stop.wait(backoff.next()).await {
                return Err(anyhow!("pipeline `{}`: {store}: stopped while waiting: {cause}", self.pipeline));
            }
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
