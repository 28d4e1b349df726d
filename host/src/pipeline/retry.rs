//! Waits between tries: ever longer, with jitter, so that many lanes do not come back to a store in step.

use std::time::Duration;

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
