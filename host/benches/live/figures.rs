//! What was measured, as `cargo xtask bench` reads it.

use std::fs;
use std::time::Duration;

use serde::Serialize;

#[derive(Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) latency: Vec<Latency>,
    pub(crate) footprint: Vec<Footprint>,
}

/// Events a second, the best of all turns.
#[derive(Serialize)]
pub(crate) struct Throughput {
    pub(crate) store: &'static str,
    pub(crate) partitions: u32,
    pub(crate) events: usize,
    pub(crate) tidegate: f64,
    pub(crate) bare: f64,
}

/// Milliseconds.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) store: &'static str,
    pub(crate) samples: usize,
    /// From the acknowledgment of the broker until the store shows the event.
    pub(crate) tidegate: Quantiles,
    /// From a direct write until the store shows it: what storing and watching take by themselves.
    pub(crate) direct: Quantiles,
}

/// What the program takes. Times in milliseconds from its start, memory in MiB.
#[derive(Serialize)]
pub(crate) struct Footprint {
    pub(crate) store: String,
    /// The first start, which compiles the module.
    pub(crate) cold: f64,
    pub(crate) starts: usize,
    /// Of the quickest later start: when it answered, had its module, had seen its stores, and was ready.
    pub(crate) quickest: [f64; 4],
    pub(crate) median: f64,
    /// The processor time of the one that took least.
    pub(crate) processor: f64,
    /// When it was ready.
    pub(crate) fresh: f64,
    /// After so many events and a rest.
    pub(crate) events: usize,
    pub(crate) idle: f64,
    /// Of that, what no file holds.
    pub(crate) anonymous: f64,
    pub(crate) threads: u64,
}

#[derive(Serialize)]
pub(crate) struct Quantiles {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

impl Quantiles {
    pub(crate) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |place: usize| samples[place].as_secs_f64() * 1e3;
        Self { median: at(samples.len() / 2), p99: at(samples.len() * 99 / 100), most: at(samples.len() - 1) }
    }
}

impl Figures {
    pub(crate) fn is_empty(&self) -> bool {
        self.throughput.is_empty() && self.footprint.is_empty()
    }

    /// Writes them to the file that `TIDEGATE_LIVE_FIGURES` names, if it does.
    pub(crate) fn write(&self) {
        if let Some(file) = std::env::var_os("TIDEGATE_LIVE_FIGURES") {
            fs::write(file, serde_json::to_vec_pretty(self).unwrap()).unwrap();
        }
    }
}
