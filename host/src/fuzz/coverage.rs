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

    /// Whether a branch was taken since the last call that never was before, or about twice as often as ever. The
    /// counters are at zero afterwards.
    pub(super) fn is_new(&mut self) -> bool {
        let mut new = false;
        for (counters, seen) in counters::all().iter().zip(&mut self.seen) {
            counters.take(|branch, times| {
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
    use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
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

        /// Hands on each branch that was taken, and how often, and begins anew. Nearly all are at zero, so that they
        /// are looked at by eights.
        pub(super) fn take(self, mut each: impl FnMut(usize, u8)) {
            // SAFETY: integers of any size may be read of bytes that are integers, and atomics share them.
            let (first, eights, last) = unsafe { self.0.align_to::<AtomicU64>() };
            let mut one = |branch: usize, counter: &AtomicU8| match counter.swap(0, Ordering::Relaxed) {
                0 => {}
                times => each(branch, times),
            };
            first.iter().enumerate().for_each(|(at, counter)| one(at, counter));
            for (at, eight) in eights.iter().enumerate() {
                if eight.load(Ordering::Relaxed) != 0 {
                    let at = first.len() + at * 8;
                    (at..at + 8).for_each(|at| one(at, &self.0[at]));
                }
            }
            let end = self.0.len() - last.len();
            last.iter().enumerate().for_each(|(at, counter)| one(end + at, counter));
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

        pub(super) fn take(&self, _each: impl FnMut(usize, u8)) {
            match *self {}
        }
    }
}
