//! Which modules serve a pipeline, and how its lanes change from one set of them to the next.
//!
//! A set is made ready away from the data: modules compiled, transforms started, an instance of each for every lane,
//! the stores held against what they declare. A lane looks between two batches whether there is a newer set, and then
//! takes its own part of it: that is all that an exchange costs it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::prepare::LaneTransform;
use super::start::Started;

/// A set of modules that serve together. What a batch comes to is said under its name: in the ledgers, the dead letters
/// and the log.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// Rises by one with each exchange; 0 is the first set of a run.
    number: u64,
    /// The transforms in the pipeline's order: name, and digest of the module.
    transforms: Vec<(String, String)>,
    /// The digests joined by a comma, for the ledger.
    digests: String,
}

impl Serving {
    /// The set of these transforms, names and digests in the pipeline's order.
    pub(super) fn new(number: u64, transforms: Vec<(String, String)>) -> Self {
        let digests: Vec<_> = transforms.iter().map(|(_, digest)| digest.as_str()).collect();
        Self { number, digests: digests.join(","), transforms }
    }

    /// Which set of the run it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Name and digest of each transform, in the pipeline's order.
    pub(super) fn transforms(&self) -> &[(String, String)] {
        &self.transforms
    }

    /// The digests as the ledger keeps them.
    pub(super) fn digests(&self) -> &str {
        &self.digests
    }
}

/// The set that serves a pipeline now.
#[derive(Debug)]
pub(super) struct Slot {
    /// The number of the newest set: lanes look at this alone as long as it is their own.
    newest: AtomicU64,
    state: Mutex<State>,
}

struct State {
    serving: Arc<Serving>,
    /// What each lane has still to take of it.
    ready: Vec<Vec<LaneTransform>>,
}

impl Slot {
    /// The first set of a run.
    pub(super) fn new(transforms: Vec<(String, String)>) -> Self {
        let state = State { serving: Arc::new(Serving::new(0, transforms)), ready: Vec::new() };
        Self { newest: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The set that serves.
    pub(super) fn serving(&self) -> Arc<Serving> {
        self.lock().serving.clone()
    }

    /// Has each lane serve by these from its next batch on; `ready` has the instances of each.
    pub(super) fn exchange(&self, transforms: Vec<(String, String)>, ready: Vec<Vec<LaneTransform>>) -> Arc<Serving> {
        let mut state = self.lock();
        let serving = Arc::new(Serving::new(state.serving.number + 1, transforms));
        *state = State { serving: serving.clone(), ready };
        self.newest.store(serving.number, Ordering::Release);
        serving
    }

    /// What a lane changes to that serves by `mine`: nothing while that is the newest set.
    pub(super) fn newer_than(&self, mine: &Serving) -> Option<(Arc<Serving>, Vec<LaneTransform>)> {
        if self.newest.load(Ordering::Acquire) == mine.number {
            return None;
        }
        let mut state = self.lock();
        let transforms = state.ready.pop()?;
        Some((state.serving.clone(), transforms))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("serving", &self.serving).field("ready", &self.ready.len()).finish()
    }
}

/// An instance of each transform for so many lanes.
///
/// # Errors
/// When an instance cannot be made.
pub(super) fn fork(started: &[Arc<Started>], lanes: usize) -> anyhow::Result<Vec<Vec<LaneTransform>>> {
    (0..lanes).map(|_| started.iter().map(|one| one.fork()).collect()).collect()
}
