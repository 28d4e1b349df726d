//! What a transform writes to the operator's log: named, cut, escaped and rate-limited.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::bindings::tidegate::transform::log::Level;

/// Messages that may come at once.
const BURST: f64 = 100.0;
/// Messages a second that may come for ever.
const RATE: f64 = 20.0;

/// The log of one module. All its instances share it, and so the rate.
#[derive(Debug)]
pub(super) struct GuestLog {
    module: String,
    digest: String,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    dropped: u64,
}

impl GuestLog {
    pub(super) fn new(module: &str, digest: &str) -> Self {
        let bucket = Bucket { tokens: BURST, filled: Instant::now(), dropped: 0 };
        Self { module: module.to_owned(), digest: digest.to_owned(), bucket: Mutex::new(bucket) }
    }

    /// Writes a message, which must be printable.
    pub(super) fn write(&self, level: Level, message: &str) {
        let Some(dropped) = self.admit(Instant::now()) else { return };
        let (module, digest) = (self.module.as_str(), self.digest.as_str());
        if dropped > 0 {
            tracing::warn!(module, digest, "{dropped} messages of the transform were dropped: it writes too many");
        }
        match level {
            Level::Error => tracing::error!(module, digest, "{message}"),
            Level::Warn => tracing::warn!(module, digest, "{message}"),
            Level::Info => tracing::info!(module, digest, "{message}"),
            Level::Debug => tracing::debug!(module, digest, "{message}"),
        }
    }

    /// Whether one more message may be written; if so, how many were dropped before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * RATE).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            bucket.dropped += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.dropped))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let log = GuestLog::new("m", "d");
        let start = Instant::now();
        let admitted = (0..1000).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(admitted, 100);
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(900));
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(0));
    }
}
