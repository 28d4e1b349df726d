//! What the benchmark with real servers left on disk, in Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

#[derive(Deserialize)]
struct Figures {
    throughput: Vec<Throughput>,
    latency: Vec<Latency>,
}

/// Events a second.
#[derive(Deserialize)]
struct Throughput {
    store: String,
    partitions: u32,
    events: usize,
    tidegate: f64,
    bare: f64,
}

#[derive(Deserialize)]
struct Latency {
    store: String,
    samples: usize,
    tidegate: Quantiles,
    direct: Quantiles,
}

/// Milliseconds.
#[derive(Deserialize)]
struct Quantiles {
    median: f64,
    p99: f64,
    most: f64,
}

/// The tables of the figures in this file; none where the speed was not measured.
pub(super) fn read(file: &Path) -> anyhow::Result<Option<String>> {
    let shown = file.display();
    let text = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let figures: Figures =
        serde_json::from_slice(&text).with_context(|| format!("{shown} is not what the benchmark writes"))?;
    Ok((!figures.throughput.is_empty()).then(|| tables(&figures)))
}

fn tables(figures: &Figures) -> String {
    let mut text = "### From Kafka into a store: events a second\n\n\
        | | partitions | events | tidegate | bare client | ratio | target |\n\
        |---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Throughput { store, partitions, events, tidegate, bare } in &figures.throughput {
        let ratio = tidegate / bare;
        // Writing to a string does not fail, here and below.
        let _ =
            writeln!(text, "| {store} | {partitions} | {events} | {tidegate:.0} | {bare:.0} | {ratio:.2} | ≥ 0.7 |");
    }
    text += "\n### One event alone, from Kafka until the store shows it: ms\n\n\
        | | events | p50 | p99 | most | target | written directly: p50 | p99 | most |\n\
        |---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for Latency { store, samples, tidegate, direct } in &figures.latency {
        let [through, by_itself] =
            [tidegate, direct].map(|of| [of.median, of.p99, of.most].map(|ms| format!("{ms:.2}")).join(" | "));
        let _ = writeln!(text, "| {store} | {samples} | {through} | p99 < 10 | {by_itself} |");
    }
    text
}
