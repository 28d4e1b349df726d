//! Which modules serve a pipeline, and how its lanes change from one set of them to the next.
//!
//! A set is made ready away from the data: modules compiled, transforms started, an instance of each for every lane,
//! the stores held against what they declare. A lane looks between two batches whether there is a newer set, and then
//! takes its own part of it: that is all that an exchange costs it. It keeps its part of the set before, to go back to
//! at once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::prepare::LaneTransform;
use super::shadow::Shadow;
use super::start::Started;

/// How many sets that were left are remembered.
const LEFT: usize = 100;

/// A set of modules that serve together. What a batch comes to is said under its name: in the ledgers, the dead letters
/// and the log.
#[derive(Default)]
pub(super) struct Serving {
    /// Rises by one with each exchange; 0 is the first set of a run.
    number: u64,
    /// The number under which its modules served first: another one than `number` after going back to them.
    origin: u64,
    /// Whether its modules have served before: then they are on no trial.
    is_proven: bool,
    /// The transforms in the pipeline's order: name, and digest of the module.
    transforms: Vec<(String, String)>,
    /// The digests joined by a comma, for the ledger.
    digests: String,
    /// What instances are made of.
    started: Vec<Arc<Started>>,
}

/// The set that serves a pipeline now.
pub(super) struct Slot {
    /// The number of the newest set: lanes look at this alone as long as it is their own.
    newest: AtomicU64,
    state: Mutex<State>,
    /// Whether there is a shadow, so that lanes look no further where there is none.
    is_shadowed: AtomicBool,
    shadows: Mutex<Vec<Arc<Shadow>>>,
}

struct State {
    serving: Arc<Serving>,
    before: Option<Arc<Serving>>,
    /// What each lane has still to take of the set.
    ready: Vec<Vec<LaneTransform>>,
    /// Why the set before was left, where it failed.
    failure: Option<String>,
    /// The sets from which the lanes went back, the newest last.
    left: VecDeque<Left>,
}

/// Modules from which the lanes went back to those before.
#[derive(Debug, Clone)]
pub(super) struct Left {
    /// When.
    pub(super) time: SystemTime,
    /// Name and digest of each transform, in the pipeline's order.
    pub(super) transforms: Vec<(String, String)>,
    /// How they failed; none where somebody asked for it.
    pub(super) failure: Option<String>,
}

/// A lane's part of a set.
pub(super) struct Part {
    /// The set.
    pub(super) serving: Arc<Serving>,
    /// An instance of each of its transforms.
    pub(super) transforms: Vec<LaneTransform>,
}

/// A lane's part of the set that serves, and of the one before.
pub(super) struct Parts {
    slot: Arc<Slot>,
    pub(super) current: Part,
    /// Whether this lane has handled anything by the current set.
    has_handled: bool,
    /// What this lane handled by before: what it handled by that and gets again, it handles by that again. It is never one
    /// that failed at the first that it was given.
    pub(super) before: Option<Part>,
    /// What it handled by before that one, until it has handled something by the current set: when that fails at once, the
    /// one before serves again, and this is the one before it.
    earlier: Option<Part>,
    /// What served the pipeline before, where that is another set, which this lane has missed.
    missed: Option<Part>,
}

impl Serving {
    /// The set with which a run begins.
    pub(super) fn first(started: Vec<Arc<Started>>) -> Self {
        Self::new(0, started.iter().map(|one| one.identity()).collect(), started)
    }

    fn new(number: u64, transforms: Vec<(String, String)>, started: Vec<Arc<Started>>) -> Self {
        let digests: Vec<_> = transforms.iter().map(|(_, digest)| digest.as_str()).collect();
        Self { number, origin: number, is_proven: number == 0, digests: digests.join(","), transforms, started }
    }

    /// One whose modules are names alone.
    #[cfg(test)]
    pub(super) fn named(number: u64, transforms: &[(&str, &str)]) -> Self {
        let transforms = transforms.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned()));
        Self::new(number, transforms.collect(), Vec::new())
    }

    /// Whether it is of the same modules, come back to or not.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.origin == other.origin
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

    /// What instances are made of.
    pub(super) fn started(&self) -> &[Arc<Started>] {
        &self.started
    }

    /// An instance of each transform.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(super) fn fork(&self) -> anyhow::Result<Vec<LaneTransform>> {
        self.started.iter().map(|one| one.fork()).collect()
    }

    fn again(&self, number: u64) -> Self {
        let (transforms, digests, started) = (self.transforms.clone(), self.digests.clone(), self.started.clone());
        Self { number, origin: self.origin, is_proven: true, transforms, digests, started }
    }
}

impl Slot {
    /// A slot that begins with this set.
    pub(super) fn new(first: Serving) -> Self {
        let (ready, left) = (Vec::new(), VecDeque::new());
        let state = State { serving: Arc::new(first), before: None, ready, failure: None, left };
        let (is_shadowed, shadows) = (AtomicBool::new(false), Mutex::default());
        Self { newest: AtomicU64::new(0), state: Mutex::new(state), is_shadowed, shadows }
    }

    /// Has lanes show what they handle to this one too.
    pub(super) fn add_shadow(&self, shadow: Arc<Shadow>) {
        let mut shadows = self.lock_shadows();
        shadows.push(shadow);
        self.is_shadowed.store(true, Ordering::Release);
    }

    /// Has lanes show nothing to this one any more.
    pub(super) fn remove_shadow(&self, shadow: &Arc<Shadow>) {
        let mut shadows = self.lock_shadows();
        shadows.retain(|other| !Arc::ptr_eq(other, shadow));
        self.is_shadowed.store(!shadows.is_empty(), Ordering::Release);
    }

    /// Whom to show what is handled.
    fn shadows(&self) -> Vec<Arc<Shadow>> {
        if !self.is_shadowed.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.lock_shadows().clone()
    }

    fn lock_shadows(&self) -> MutexGuard<'_, Vec<Arc<Shadow>>> {
        self.shadows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The set that serves.
    pub(super) fn serving(&self) -> Arc<Serving> {
        self.lock().serving.clone()
    }

    /// The set that served before, which [`Slot::go_back`] brings back, and why it was left where it failed.
    pub(super) fn before(&self) -> Option<(Arc<Serving>, Option<String>)> {
        let state = self.lock();
        Some((state.before.clone()?, state.failure.clone()))
    }

    /// The sets from which the lanes went back, the newest last.
    pub(super) fn left(&self) -> Vec<Left> {
        self.lock().left.iter().cloned().collect()
    }

    /// Has each of so many lanes serve by these transforms from its next batch on, if the set of the number `from` still
    /// serves, of which they were made. Says whether it did.
    ///
    /// # Errors
    /// When an instance cannot be made; then nothing is changed.
    pub(super) fn exchange(&self, from: u64, started: Vec<Arc<Started>>, lanes: usize) -> anyhow::Result<bool> {
        let identities = started.iter().map(|one| one.identity()).collect();
        let mut next = Serving::new(0, identities, started);
        let ready = (0..lanes).map(|_| next.fork()).collect::<anyhow::Result<_>>()?;
        let mut state = self.lock();
        if state.serving.number != from {
            return Ok(false);
        }
        (next.number, next.origin, next.is_proven) = (from + 1, from + 1, false);
        let next = Arc::new(next);
        state.before = Some(std::mem::replace(&mut state.serving, next.clone()));
        (state.ready, state.failure) = (ready, None);
        self.newest.store(next.number, Ordering::Release);
        Ok(true)
    }

    /// Has this set serve, whose modules are names alone.
    #[cfg(test)]
    pub(super) fn serve(&self, serving: Serving) {
        self.lock().serving = Arc::new(serving);
    }

    /// Has each lane go back to the set before, if there is one. Going back again brings the left one back.
    pub(super) fn go_back(&self) -> bool {
        let mut state = self.lock();
        let Some(before) = state.before.clone() else { return false };
        self.leave(&mut state, &before, None);
        true
    }

    /// Has each lane go back to this set, because the one of the number `from` has failed. False when that one does not
    /// serve any more.
    fn fall_back(&self, from: u64, to: &Serving, failure: &str) -> bool {
        let mut state = self.lock();
        if state.serving.number != from {
            return false;
        }
        self.leave(&mut state, to, Some(failure.to_owned()));
        true
    }

    fn leave(&self, state: &mut State, to: &Serving, failure: Option<String>) {
        let back = Arc::new(to.again(state.serving.number + 1));
        let transforms = state.serving.transforms.clone();
        state.left.push_back(Left { time: SystemTime::now(), transforms, failure: failure.clone() });
        if state.left.len() > LEFT {
            state.left.pop_front();
        }
        self.newest.store(back.number, Ordering::Release);
        state.before = Some(std::mem::replace(&mut state.serving, back));
        state.ready.clear();
        state.failure = failure;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    /// A lane's part of what serves now.
    ///
    /// # Errors
    /// When an instance cannot be made.
    pub(super) fn new(slot: Arc<Slot>) -> anyhow::Result<Self> {
        let serving = slot.serving();
        let transforms = serving.fork()?;
        let current = Part { serving, transforms };
        Ok(Self { slot, current, has_handled: true, before: None, earlier: None, missed: None })
    }

    /// Whom to show what the current set handles.
    pub(super) fn shadows(&self) -> Vec<Arc<Shadow>> {
        self.slot.shadows()
    }

    /// Changes to the newest set, and says whether its modules are others, which have never served before.
    ///
    /// # Errors
    /// When an instance cannot be made that was not ready: of a set that this lane has missed.
    pub(super) fn renew(&mut self) -> anyhow::Result<bool> {
        if self.slot.newest.load(Ordering::Acquire) == self.current.serving.number {
            return Ok(false);
        }
        let (serving, ready, before) = {
            let mut state = self.slot.lock();
            (state.serving.clone(), state.ready.pop(), state.before.clone())
        };
        self.missed = None;
        if serving.is_of(&self.current.serving) {
            // It was gone to and back from before this lane came by.
            self.current.serving = serving;
            return Ok(false);
        }
        if let Some(before) = self.before.take_if(|before| before.serving.is_of(&serving)) {
            let left = std::mem::replace(&mut self.current, Part { serving, ..before });
            self.before = if self.has_handled { Some(left) } else { self.earlier.take() };
            self.handled();
            return Ok(!self.current.serving.is_proven);
        }
        let transforms = ready.map_or_else(|| serving.fork(), Ok)?;
        if let Some(before) = before.filter(|before| !before.is_of(&self.current.serving)) {
            self.missed = Some(Part { transforms: before.fork()?, serving: before });
        }
        let left = std::mem::replace(&mut self.current, Part { serving, transforms });
        if std::mem::take(&mut self.has_handled) {
            self.earlier = self.before.replace(left);
        }
        Ok(!self.current.serving.is_proven)
    }

    /// This lane has handled something by the current set.
    pub(super) fn handled(&mut self) {
        self.has_handled = true;
        self.earlier = None;
    }

    /// To go back to: what served the pipeline before, whether this lane served by it or not.
    pub(super) fn fallback(&mut self) -> Option<&mut Part> {
        self.missed.as_mut().or(self.before.as_mut())
    }

    /// Has all lanes leave the set that this one serves by for the one that served before, because it fails, and this one
    /// at once. False when another lane or the operator was first.
    ///
    /// # Errors
    /// As [`Parts::renew`].
    pub(super) fn fall_back(&mut self, why: &str) -> anyhow::Result<bool> {
        let Some(to) = self.fallback().map(|before| before.serving.clone()) else { return Ok(false) };
        let fallen = self.slot.fall_back(self.current.serving.number, &to, why);
        self.renew()?;
        Ok(fallen)
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("number", &self.number).field("transforms", &self.transforms).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_lane_that_missed_sets_goes_back_to_what_served_the_pipeline_and_not_to_what_it_served_by_itself() {
        let slot = Arc::new(Slot::new(Serving::named(0, &[])));
        let [mut busy, mut idle] = [0, 1].map(|_| Parts::new(slot.clone()).unwrap());
        let first = slot.serving();
        // Both lanes take a set that fails in one of them; the other hears of nothing until the next but one.
        assert!(slot.exchange(0, Vec::new(), 2).unwrap());
        assert!(busy.renew().unwrap() && idle.renew().unwrap());
        idle.handled();
        let failed = slot.serving();
        assert!(busy.fall_back("it traps").unwrap());
        assert!(slot.exchange(2, Vec::new(), 2).unwrap());
        assert!(idle.renew().unwrap());
        assert!(idle.fallback().unwrap().serving.is_of(&first));
        assert!(
            idle.before.as_ref().unwrap().serving.is_of(&failed),
            "what it handled by that is handled by that again"
        );
        assert!(idle.fall_back("it traps too").unwrap());
        assert!(slot.serving().is_of(&first) && idle.current.serving.is_of(&first));
        assert!(!busy.renew().unwrap() && busy.current.serving.is_of(&first));
        let left: Vec<_> = slot.left().into_iter().map(|left| left.failure).collect();
        assert_eq!(left, [Some("it traps".to_owned()), Some("it traps too".to_owned())]);
    }

    #[test]
    fn set_that_failed_at_its_first_batch_is_not_the_one_that_handled_what_lies_before() {
        let slot = Arc::new(Slot::new(Serving::named(0, &[])));
        let mut lane = Parts::new(slot.clone()).unwrap();
        let first = slot.serving();
        assert!(slot.exchange(0, Vec::new(), 1).unwrap() && lane.renew().unwrap());
        lane.handled();
        let second = slot.serving();
        assert!(slot.exchange(1, Vec::new(), 1).unwrap() && lane.renew().unwrap());
        assert!(lane.fall_back("it traps").unwrap());
        assert!(lane.current.serving.is_of(&second));
        assert!(lane.before.as_ref().unwrap().serving.is_of(&first));

        // One that has handled something is another matter.
        assert!(slot.exchange(3, Vec::new(), 1).unwrap() && lane.renew().unwrap());
        lane.handled();
        let third = slot.serving();
        assert!(lane.fall_back("it traps later").unwrap());
        assert!(lane.current.serving.is_of(&second) && lane.before.as_ref().unwrap().serving.is_of(&third));
    }
}
