//! Reads a store the whole time, and holds every state of a row that it meets against those that were produced: none may
//! be older than what was there before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::stream::States;

/// What a store holds of each row: the round, or that it is not there. None while it does not answer.
pub(crate) type Look = Box<dyn FnMut() -> Option<BTreeMap<String, Option<u32>>> + Send>;

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
    /// What each row was last met as.
    met: Mutex<BTreeMap<String, Option<u32>>>,
    regressed: Mutex<Vec<String>>,
}

impl Watcher {
    /// Reads by `look` from now on.
    pub(crate) fn start(name: &'static str, states: States, mut look: Look) -> Self {
        let shared = Arc::new(Shared::default());
        let (mine, produced) = (shared.clone(), states.clone());
        let thread = thread::spawn(move || {
            while !mine.ends.load(Ordering::Relaxed) {
                // The servers and the program have work to do as well.
                thread::park_timeout(Duration::from_millis(1));
                let Some(found) = look() else { continue };
                let states = produced.lock().unwrap();
                for (id, state) in found {
                    let Some(states) = states.get(&id) else { continue };
                    mine.met.lock().unwrap().insert(id.clone(), state);
                    let mut at = mine.at.lock().unwrap();
                    let from = at.get(&id).copied();
                    match place(states, from, state) {
                        Ok(Some(place)) => drop(at.insert(id, place)),
                        Ok(None) => {}
                        Err(why) => mine.regressed.lock().unwrap().push(format!("{name}: {id}: {why}")),
                    }
                }
                drop(states);
                mine.looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { name, states, shared, thread: Some(thread) }
    }

    /// How many states the rows have been through, together.
    pub(crate) fn progress(&self) -> usize {
        self.shared.at.lock().unwrap().values().sum()
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
        self.shared.regressed.lock().unwrap().clone()
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
