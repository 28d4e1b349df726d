//! Which branches of the host a run has taken, where it was built to count them (`cargo xtask fuzz` does so).

/// Which branches have been taken so far, each with the magnitudes of how often in one run.
pub(super) struct Coverage {
    seen: Vec<Vec<u8>>,
}

impl Coverage {
    pub(super) fn new() -> Self {
        Self { seen: counters::all().iter().map(|counters| vec![0; counters.len()]).collect() }
    }

    /// Whether branches are counted at all.
    pub(super) fn is_counted(&self) -> bool {
        !self.seen.is_empty()
    }

    /// How many branches have been taken, of how many.
    pub(super) fn taken(&self) -> (usize, usize) {
        let all = self.seen.iter().flatten();
        (all.clone().filter(|magnitudes| **magnitudes != 0).count(), all.count())
    }

    /// Forgets what was counted before a run.
    #[allow(clippy::unused_self)] // it is of one run after the other
    pub(super) fn begin(&self) {
        counters::all().iter().for_each(|counters| counters.clear());
    }

    /// Whether the run has taken a branch that none before has, or one about twice as often.
    pub(super) fn is_new(&mut self) -> bool {
        let mut new = false;
        for (counters, seen) in counters::all().iter().zip(&mut self.seen) {
            counters.taken(|branch, times| {
                let magnitude = 1 << (7 - times.leading_zeros().min(7));
                new |= seen[branch] & magnitude == 0;
                seen[branch] |= magnitude;
            });
        }
        new
    }
}

/// The counters that the compiler lays out, a byte a branch, one stretch for each unit of code.
#[cfg(fuzzing)]
#[allow(unsafe_code)]
mod counters {
    use std::slice;
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::sync::{Mutex, PoisonError};

    #[derive(Clone, Copy)]
    pub(super) struct Counters(&'static [AtomicU8]);

    static ALL: Mutex<Vec<Counters>> = Mutex::new(Vec::new());

    /// Called by each unit of code before `main`, with the first of its counters and the end behind the last.
    // SAFETY: the name is the one that the instrumentation calls; nothing else defines it.
    #[unsafe(no_mangle)]
    extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const AtomicU8, end: *const AtomicU8) {
        let length = end.addr() - start.addr();
        // SAFETY: the counters lie there for as long as the program runs; atomics are shared with the code that
        // raises them by plain additions of a byte, of which one may be lost when two threads meet.
        let counters = Counters(unsafe { slice::from_raw_parts(start, length) });
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(counters);
    }

    pub(super) fn all() -> Vec<Counters> {
        ALL.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    impl Counters {
        pub(super) fn len(self) -> usize {
            self.0.len()
        }

        pub(super) fn clear(self) {
            self.0.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        }

        pub(super) fn taken(self, mut each: impl FnMut(usize, u8)) {
            for (branch, counter) in self.0.iter().enumerate() {
                let times = counter.load(Ordering::Relaxed);
                if times != 0 {
                    each(branch, times);
                }
            }
        }
    }
}

/// Nothing is counted.
#[cfg(not(fuzzing))]
mod counters {
    pub(super) enum Counters {}

    pub(super) fn all() -> Vec<Counters> {
        Vec::new()
    }

    impl Counters {
        pub(super) fn len(&self) -> usize {
            match *self {}
        }

        pub(super) fn clear(&self) {
            match *self {}
        }

        pub(super) fn taken(&self, _each: impl FnMut(usize, u8)) {
            match *self {}
        }
    }
}
