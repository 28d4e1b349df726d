//! Reads a store the whole time, and holds every state of a row that it meets against those that were produced: none may
//! be older than what was there before. A store that has lost what it held is excepted until it is filled again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::looks::Look;
use super::stream::States;

/// How long nothing is read after a look.
const BREATH: Duration = Duration::from_millis(2);

/// A store that is read.
pub(crate) struct Watcher {
    name: &'static str,
    states: States,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    /// How often it was read.
    looks: AtomicU64,
    /// How far each row is, by the place of its state; none before its first.
    at: Mutex<BTreeMap<String, usize>>,
    /// How often the store has begun or ended to lose what it held: what is read across that says nothing.
    losses: AtomicU64,
    /// Whether it is being filled again: meanwhile rows are missing, and go through older states.
    fills: AtomicBool,
    /// What each row was last met as.
    met: Mutex<BTreeMap<String, Option<u32>>>,
    regressed: Mutex<BTreeSet<String>>,
}

impl Watcher {
    /// Reads by `look` from now on.
    pub(crate) fn start(name: &'static str, states: States, mut look: Look) -> Self {
        let shared = Arc::new(Shared::default());
        let (mine, produced) = (shared.clone(), states.clone());
        let thread = thread::spawn(move || {
            while !mine.ends.load(Ordering::Relaxed) {
                // The servers and the program have work to do as well.
                thread::park_timeout(BREATH);
                let losses = mine.losses.load(Ordering::SeqCst);
                let Some(found) = look() else { continue };
                let states = produced.lock().unwrap();
                if losses % 2 == 1 || mine.losses.load(Ordering::SeqCst) != losses {
                    continue;
                }
                for (id, state) in found {
                    let Some(states) = states.get(&id) else { continue };
                    mine.met.lock().unwrap().insert(id.clone(), state);
                    let mut at = mine.at.lock().unwrap();
                    let from = at.get(&id).copied();
                    let from = from.filter(|_| !mine.fills.load(Ordering::SeqCst));
                    match place(states, from, state) {
                        Ok(Some(place)) => drop(at.insert(id, place)),
                        Ok(None) => drop(at.remove(&id)),
                        Err(why) => drop(mine.regressed.lock().unwrap().insert(format!("{name}: {id}: {why}"))),
                    }
                }
                drop(states);
                mine.looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { name, states, shared, thread: Some(thread) }
    }

    /// The store loses something of what it holds while `lose` is done, and is filled again from then on.
    pub(super) fn while_it_loses(&self, lose: impl FnOnce()) {
        self.shared.losses.fetch_add(1, Ordering::SeqCst);
        lose();
        self.shared.fills.store(true, Ordering::SeqCst);
        self.shared.losses.fetch_add(1, Ordering::SeqCst);
    }

    /// It has been filled again, and every row is in its last state: nothing steps back from here on.
    pub(super) fn is_filled(&self) {
        let states = self.states.lock().unwrap();
        if self.shared.fills.swap(false, Ordering::SeqCst) {
            let last = states.iter().map(|(id, states)| (id.clone(), states.len() - 1));
            *self.shared.at.lock().unwrap() = last.collect();
        }
    }

    /// The same, where the last state of a row may be one that the store refused: what is there now is where it goes on from.
    pub(super) fn is_filled_as_it_is(&self) {
        if self.shared.fills.swap(false, Ordering::SeqCst) {
            self.shared.at.lock().unwrap().clear();
        }
    }

    /// How many states the rows have been through, together.
    pub(crate) fn progress(&self) -> usize {
        self.shared.at.lock().unwrap().values().sum()
    }

    /// How many states that were produced it has not met yet, nor later ones of their rows.
    pub(super) fn lag(&self) -> usize {
        let states = self.states.lock().unwrap();
        let at = self.shared.at.lock().unwrap();
        states.iter().map(|(id, states)| states.len() - at.get(id).map_or(0, |at| at + 1)).sum()
    }

    /// Forgets every state but the last of each row, when all rows are in their last. Watchers of one stream do so
    /// together: the places of each are those of the stream's states.
    pub(super) fn forget(watchers: &[Arc<Self>]) {
        for watcher in watchers {
            let mut states = watcher.states.lock().unwrap();
            states.values_mut().for_each(|states| drop(states.drain(..states.len() - 1)));
            for one in watchers.iter().filter(|one| Arc::ptr_eq(&one.states, &watcher.states)) {
                one.shared.at.lock().unwrap().values_mut().for_each(|at| *at = 0);
            }
        }
    }

    /// How often the store was read.
    pub(crate) fn looks(&self) -> u64 {
        self.shared.looks.load(Ordering::Relaxed)
    }

    /// The rows that were not met in their last state when they were last read.
    pub(crate) fn behind(&self) -> Vec<String> {
        let states = self.states.lock().unwrap();
        let met = self.shared.met.lock().unwrap();
        let behind =
            states.iter().filter(|(id, states)| met.get(*id).copied().flatten() != states.last().copied().flatten());
        behind.map(|(id, states)| format!("{}: {id} is {:?} of {:?}", self.name, met.get(id), states.last())).collect()
    }

    /// What it met that was older than what was there before.
    pub(crate) fn regressed(&self) -> Vec<String> {
        self.shared.regressed.lock().unwrap().iter().cloned().collect()
    }
}

/// The place of a state that was met, at or after the place that was known. A row that is not there may not have come yet.
fn place(states: &[Option<u32>], from: Option<usize>, met: Option<u32>) -> Result<Option<usize>, String> {
    if from.is_none() && met.is_none() {
        return Ok(None);
    }
    let first = from.unwrap_or_default();
    let found = states.iter().skip(first).position(|state| *state == met);
    found.map(|place| Some(first + place)).ok_or_else(|| {
        let was = from.map(|from| states[from]);
        format!("it is {met:?}, and was {was:?} before")
    })
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_state_that_is_older_than_the_last_is_found() {
    let states = [Some(1), Some(3), None, Some(4), None];
    assert_eq!(place(&states, None, None), Ok(None));
    assert_eq!(place(&states, None, Some(3)), Ok(Some(1)));
    assert_eq!(place(&states, Some(1), Some(3)), Ok(Some(1)));
    assert_eq!(place(&states, Some(1), None), Ok(Some(2)));
    assert_eq!(place(&states, Some(3), None), Ok(Some(4)));
    assert!(place(&states, Some(1), Some(1)).is_err());
    assert!(place(&states, Some(3), Some(3)).is_err());
    assert!(place(&states, Some(4), Some(4)).is_err());
    assert!(place(&[Some(1)], Some(0), None).is_err());
}
