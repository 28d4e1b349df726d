//! The wish to stop: set once by a signal or by a failure, seen by every part of a pipeline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The end was asked for while something was waited for. What was not done is done by the next start: that is no failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Interrupted(pub(super) String);

/// Whether a pipeline shall end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    set: AtomicBool,
    changed: Notify,
    /// When it was first asked for, since the pipeline began or began again.
    since: Mutex<Option<Instant>>,
    failure: Mutex<Option<anyhow::Error>>,
}

/// The pipelines of a run, to be stopped together.
#[derive(Debug, Default)]
pub struct Stops {
    state: Mutex<(bool, Vec<Arc<Stop>>)>,
}

impl Stop {
    /// Asks for the end.
    pub(super) fn set(&self) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.set.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Asks for the end because of a failure. The first one is why the pipeline failed; later ones follow from it, or
    /// are the same seen by another lane, and are told to the log alone. What was interrupted has not failed.
    pub(super) fn fail(&self, failure: anyhow::Error) {
        if failure.is::<Interrupted>() {
            tracing::info!("{failure:#}; the next start goes on from there");
            return self.set();
        }
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*first {
            None => *first = Some(failure),
            Some(_) => tracing::debug!("a further failure: {failure:#}"),
        }
        drop(first);
        self.set();
    }

    /// [`Stop::fail`], if this failed.
    pub(super) fn fail_with(&self, result: anyhow::Result<()>) {
        if let Err(failure) = result {
            self.fail(failure);
        }
    }

    /// Why the pipeline failed, if it did.
    pub(super) fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the end was asked for.
    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// The flag itself, for code that only looks.
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.set
    }

    /// Comes back when the end has been asked for this long ago.
    pub(super) async fn overdue(&self, by: Duration) {
        let notified = self.changed.notified();
        if !self.is_set() {
            notified.await;
        }
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = since.map_or(Duration::ZERO, |since| since.elapsed());
        tokio::time::sleep(by.saturating_sub(since)).await;
    }

    /// Waits this long, or until the end is asked for; says whether it was.
    pub(super) async fn wait(&self, time: Duration) -> bool {
        let notified = self.changed.notified();
        if !self.is_set() {
            let _ = tokio::time::timeout(time, notified).await;
        }
        self.is_set()
    }
}

impl Stops {
    /// Asks every pipeline to finish what is in flight and to end; those that start later end at once.
    pub fn set(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        state.1.iter().for_each(|stop| stop.set());
    }

    /// Takes the wish of one pipeline back, which has stopped. Not where all are to end: then it answers false.
    pub(super) fn begin_again(&self, stop: &Stop) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.0 {
            *stop.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
            stop.set.store(false, Ordering::Release);
        }
        !state.0
    }

    /// Whether every pipeline was asked to end.
    pub fn are_set(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The wish of one more pipeline.
    pub(super) fn add(&self) -> Arc<Stop> {
        let stop = Arc::new(Stop::default());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            stop.set();
        }
        state.1.push(stop.clone());
        stop
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn stop_of_a_pipeline_that_began_again_is_asked_for_when_it_is() {
        let stops = Stops::default();
        let stop = stops.add();
        stop.set();
        assert!(stops.begin_again(&stop) && !stop.is_set());
        let later = Instant::now();
        stop.set();
        let since = *stop.since.lock().unwrap();
        assert!(since.unwrap() >= later, "what it waits for has its time from here on");
        stop.set();
        assert_eq!(*stop.since.lock().unwrap(), since);
    }
}
