//! Counters that lanes raise and others read, without a lock: tallies by name, and histograms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts by name, of names that are known from the start.
#[derive(Debug)]
pub struct Tally {
    names: &'static [&'static str],
    counts: Box<[AtomicU64]>,
}

impl Tally {
    /// All of these names at 0.
    pub(super) fn new(names: &'static [&'static str]) -> Self {
        Self { names, counts: names.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts so many more of a name. One that is not known counts nowhere.
    pub(super) fn add(&self, name: &str, number: u64) {
        if let Some(place) = self.names.iter().position(|known| *known == name) {
            self.counts[place].fetch_add(number, Ordering::Relaxed);
        }
    }

    /// The counts, in the order of the names.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().zip(&self.counts).map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
    }
}

/// How often a measure fell under each of some bounds. A measure is a whole number of a small unit, so that sums are
/// exact.
#[derive(Debug)]
pub struct Histogram {
    /// In the unit, rising.
    bounds: &'static [u64],
    /// How many units make one of what is shown.
    per_one: u64,
    /// One a bound, and one for what is beyond.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// Microseconds.
const TIMES: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
const SIZES: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

impl Histogram {
    fn new(bounds: &'static [u64], per_one: u64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, per_one, buckets, sum: AtomicU64::new(0) }
    }

    /// Of times, shown in seconds.
    pub(super) fn of_times() -> Self {
        Self::new(TIMES, 1_000_000)
    }

    /// Of numbers of things.
    pub(super) fn of_sizes() -> Self {
        Self::new(SIZES, 1)
    }

    /// Counts a measure.
    pub(super) fn add(&self, measure: u64) {
        let place = self.bounds.partition_point(|bound| *bound < measure);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(measure, Ordering::Relaxed);
    }

    /// Counts a time.
    pub(super) fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Each bound as it is shown, with how many measures were not above it; the last one bounds nothing.
    pub fn cumulated(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().map(|bound| self.shown(*bound)).chain([f64::INFINITY]);
        let counts = self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket.load(Ordering::Relaxed);
            Some(*sum)
        });
        bounds.zip(counts).collect()
    }

    /// The sum of all measures as it is shown.
    pub fn sum(&self) -> f64 {
        self.shown(self.sum.load(Ordering::Relaxed))
    }

    /// Beyond 2^53 units it is rounded, which no graph shows.
    #[allow(clippy::cast_precision_loss)]
    fn shown(&self, units: u64) -> f64 {
        units as f64 / self.per_one as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_counts_at_its_bound_and_at_all_above() {
        let histogram = Histogram::of_times();
        for time in [50, 51, 20_000_000] {
            histogram.add_time(Duration::from_micros(time));
        }
        let counts = histogram.cumulated();
        assert_eq!(counts[..2], [(0.000_05, 1), (0.000_1, 2)]);
        assert_eq!(counts[counts.len() - 2..], [(10.0, 2), (f64::INFINITY, 3)]);
        assert_eq!(histogram.sum(), 20.000_101);
    }

    #[test]
    fn a_tally_counts_what_it_knows() {
        let tally = Tally::new(&["a", "b"]);
        tally.add("b", 2);
        tally.add("c", 1);
        assert_eq!(tally.counts().collect::<Vec<_>>(), [("a", 0), ("b", 2)]);
    }
}
