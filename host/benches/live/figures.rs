//! What was measured, as `cargo xtask bench` reads it.

use std::fs;
use std::time::Duration;

use serde::Serialize;

#[derive(Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) latency: Vec<Latency>,
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
    /// Writes them to the file that `TIDEGATE_LIVE_FIGURES` names, if it does.
    pub(crate) fn write(&self) {
        if let Some(file) = std::env::var_os("TIDEGATE_LIVE_FIGURES") {
            fs::write(file, serde_json::to_vec_pretty(self).unwrap()).unwrap();
        }
    }
}
