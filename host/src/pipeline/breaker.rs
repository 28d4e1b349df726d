//! Stops a pipeline that rejects so much that the fault must lie elsewhere: a topic is never drained into the dead
//! letters.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::config;

/// The events over which a share is taken.
const WINDOW: usize = 1000;

/// Counts what is rejected, over all lanes of a pipeline.
#[derive(Debug)]
pub(super) struct Breaker {
    bounds: config::Breaker,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    in_a_row: u32,
    /// Of the last events, whether each was rejected.
    window: VecDeque<bool>,
    rejected: usize,
}

impl Breaker {
    /// Nothing has been rejected yet.
    pub(super) fn new(bounds: config::Breaker) -> Self {
        Self { bounds, state: Mutex::default() }
    }

    /// Why a batch must not be filed: with these of its `events` rejected, by their places, too much is.
    pub(super) fn trips(&self, events: usize, rejected: &HashSet<usize>) -> Option<String> {
        if rejected.is_empty() {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (0..events).find_map(|place| state.count(rejected.contains(&place), self.bounds))
    }

    /// A batch has become durable, with these of its events rejected.
    pub(super) fn passed(&self, events: usize, rejected: &HashSet<usize>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for place in 0..events {
            let _ = state.count(rejected.contains(&place), self.bounds);
        }
    }
}

impl State {
    /// Counts one event, and says what is too much.
    fn count(&mut self, rejected: bool, bounds: config::Breaker) -> Option<String> {
        self.in_a_row = if rejected { self.in_a_row.saturating_add(1) } else { 0 };
        self.window.push_back(rejected);
        self.rejected += usize::from(rejected);
        if self.window.len() > WINDOW {
            self.rejected -= usize::from(self.window.pop_front().unwrap_or_default());
        }
        if bounds.in_a_row > 0 && self.in_a_row >= bounds.in_a_row {
            return Some(format!("{} events in a row are rejected", self.in_a_row));
        }
        let percent = usize::try_from(bounds.percent).unwrap_or_default();
        if percent > 0 && self.window.len() == WINDOW && self.rejected * 100 >= percent * WINDOW {
            return Some(format!("{} of the last {WINDOW} events are rejected", self.rejected));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(in_a_row: u32, percent: u32) -> Breaker {
        Breaker::new(config::Breaker { in_a_row, percent })
    }

    fn all(events: usize) -> HashSet<usize> {
        (0..events).collect()
    }

    #[test]
    fn so_many_in_a_row_are_too_much_also_over_batches() {
        let breaker = breaker(5, 0);
        assert_eq!(breaker.trips(4, &all(4)), None);
        breaker.passed(4, &all(4));
        assert_eq!(breaker.trips(2, &[1].into()), None, "one that passes begins a new row");
        assert_eq!(breaker.trips(1, &all(1)).as_deref(), Some("5 events in a row are rejected"));
        breaker.passed(1, &HashSet::new());
        assert_eq!(breaker.trips(4, &all(4)), None);
    }

    #[test]
    fn a_share_is_taken_of_a_whole_window_alone() {
        let breaker = breaker(0, 50);
        let every_other: HashSet<usize> = (0..998).step_by(2).collect();
        assert_eq!(breaker.trips(998, &every_other), None);
        breaker.passed(998, &every_other);
        assert_eq!(breaker.trips(1, &all(1)), None, "999 events are no window");
        assert_eq!(breaker.trips(2, &all(2)).as_deref(), Some("501 of the last 1000 events are rejected"));
        breaker.passed(1000, &HashSet::new());
        assert_eq!(breaker.trips(499, &all(499)), None, "what is long ago does not count");
    }

    #[test]
    fn asking_changes_nothing() {
        let breaker = breaker(3, 0);
        for _ in 0..10 {
            assert_eq!(breaker.trips(2, &all(2)), None);
        }
    }
}
