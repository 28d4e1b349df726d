//! Stops a pipeline that rejects so much that the fault must lie elsewhere: a topic is never drained into the dead
//! letters.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::config;

/// The events over which a share is taken.
const WINDOW: u32 = 1000;

/// Counts what is rejected, over all lanes of a pipeline.
#[derive(Debug)]
pub(super) struct Breaker {
    bounds: config::Breaker,
    /// The events over which a share is taken.
    window: u32,
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
        Self { bounds, window: WINDOW, state: Mutex::default() }
    }

    /// One for the modules on trial in one of so many lanes: it trips in each lane before all of them together trip the
    /// pipeline's.
    pub(super) fn on_trial(bounds: config::Breaker, lanes: usize) -> Self {
        let lanes = u32::try_from(lanes).unwrap_or(u32::MAX).max(1);
        let half = |bound: u32, parts: u32| if bound == 0 { 0 } else { (bound / 2 / parts).max(1) };
        let bounds = config::Breaker { in_a_row: half(bounds.in_a_row, lanes), percent: half(bounds.percent, 1) };
        Self { bounds, window: (WINDOW / lanes).max(1), state: Mutex::default() }
    }

    /// Counts from zero again.
    pub(super) fn begin_again(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// Why a batch must not be filed: with these of its `events` rejected, by their places, too much is.
    pub(super) fn trips(&self, events: usize, rejected: &HashSet<usize>) -> Option<String> {
        if rejected.is_empty() {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (0..events).find_map(|place| state.count(rejected.contains(&place), self.bounds, self.window))
    }

    /// A batch has become durable, with these of its events rejected.
    pub(super) fn passed(&self, events: usize, rejected: &HashSet<usize>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for place in 0..events {
            let _ = state.count(rejected.contains(&place), self.bounds, self.window);
        }
    }
}

impl State {
    /// Counts one event, and says what is too much.
    fn count(&mut self, rejected: bool, bounds: config::Breaker, window: u32) -> Option<String> {
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        self.in_a_row = if rejected { self.in_a_row.saturating_add(1) } else { 0 };
        self.window.push_back(rejected);
        self.rejected += usize::from(rejected);
        if self.window.len() > window {
            self.rejected -= usize::from(self.window.pop_front().unwrap_or_default());
        }
        if bounds.in_a_row > 0 && self.in_a_row >= bounds.in_a_row {
            return Some(format!("{} events in a row are rejected", self.in_a_row));
        }
        let percent = usize::try_from(bounds.percent).unwrap_or_default();
        if percent > 0 && self.window.len() == window && self.rejected * 100 >= percent * window {
            return Some(format!("{} of the last {window} events are rejected", self.rejected));
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
    fn modules_on_trial_are_left_before_the_pipeline_stops() {
        // Two lanes, each of which rejects as much as it may before it leaves.
        let bounds = config::Breaker { in_a_row: 100, percent: 50 };
        let (whole, lane) = (Breaker::new(bounds), Breaker::on_trial(bounds, 2));
        assert_eq!(lane.trips(24, &all(24)), None);
        assert_eq!(lane.trips(25, &all(25)).as_deref(), Some("25 events in a row are rejected"));
        assert_eq!(whole.trips(48, &all(48)), None);
        let some = |events: usize| (0..events).filter(|place| place % 4 == 0).skip(1).collect::<HashSet<_>>();
        assert_eq!(lane.trips(500, &some(500)), None, "less than a quarter");
        let quarter = (0..500).step_by(4).collect();
        assert_eq!(lane.trips(500, &quarter).as_deref(), Some("125 of the last 500 events are rejected"));
        assert_eq!(Breaker::on_trial(config::Breaker { in_a_row: 0, percent: 0 }, 2).trips(2000, &all(2000)), None);
        assert!(Breaker::on_trial(config::Breaker { in_a_row: 1, percent: 0 }, 8).trips(1, &all(1)).is_some());
    }

    #[test]
    fn asking_changes_nothing() {
        let breaker = breaker(3, 0);
        for _ in 0..10 {
            assert_eq!(breaker.trips(2, &all(2)), None);
        }
    }
}
