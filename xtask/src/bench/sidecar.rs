//! What the program takes of the machine, and what an exchange costs: what the benchmarks left on disk, in Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Live {
    footprint: Vec<Footprint>,
}

/// Times in milliseconds, memory in MiB.
#[derive(Deserialize)]
struct Footprint {
    store: String,
    cold: f64,
    starts: usize,
    quickest: [f64; 4],
    median: f64,
    processor: f64,
    fresh: f64,
    events: usize,
    idle: f64,
    anonymous: f64,
    threads: u64,
}

#[derive(Deserialize)]
struct Exchange {
    events: u64,
    exchanges: usize,
    usual: Quantiles,
    first: Quantiles,
    stall: Quantiles,
    taking: Quantiles,
    /// Milliseconds.
    candidate: f64,
    promote: Quantiles,
    /// Microseconds.
    counting: f64,
    counting_read: f64,
}

/// Microseconds.
#[derive(Deserialize)]
struct Quantiles {
    median: f64,
    p99: f64,
    most: f64,
}

/// The tables of what these files hold; none where neither was measured.
pub(super) fn read(live: &Path, exchange: &Path) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    if let Some(Live { footprint }) = figures(live)?
        && !footprint.is_empty()
    {
        text += &of_footprint(&footprint);
    }
    if let Some(exchange) = figures(exchange)? {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &of_exchange(&exchange);
    }
    Ok((!text.is_empty()).then_some(text))
}

fn figures<T: DeserializeOwned>(file: &Path) -> anyhow::Result<Option<T>> {
    if !file.exists() {
        return Ok(None);
    }
    let shown = file.display();
    let text = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    serde_json::from_slice(&text).map(Some).with_context(|| format!("{shown} is not what the benchmark writes"))
}

fn of_footprint(figures: &[Footprint]) -> String {
    let events = figures.first().map_or(0, |first| first.events);
    let mut text = format!(
        "### Resident memory with one module: MiB\n\n\
        | from | just ready | idle after {events} events | of it anonymous | threads | target |\n\
        |---|--:|--:|--:|--:|--:|\n"
    );
    // Writing to a string does not fail, here and below.
    for Footprint { store, fresh, idle, anonymous, threads, .. } in figures {
        let _ = writeln!(text, "| {store} | {fresh:.1} | {idle:.1} | {anonymous:.1} | {threads} | < 64 |");
    }
    let starts = figures.first().map_or(0, |first| first.starts);
    let _ = write!(
        text,
        "\n### From the start of the process until it is ready: ms\n\n\
        The quickest of {starts} starts with compiled code on disk.\n\n\
        | from | it answers | has its module | has seen its stores | is ready | median of the starts | processor time | \
        the first start, which compiles |\n\
        |---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for Footprint { store, quickest, median, processor, cold, .. } in figures {
        let quickest = quickest.map(|phase| format!("{phase:.1}")).join(" | ");
        let _ = writeln!(text, "| {store} | {quickest} | {median:.1} | {processor:.1} | {cold:.0} |");
    }
    text
}

fn of_exchange(figures: &Exchange) -> String {
    let Exchange { events, exchanges, usual, first, stall, taking, candidate, promote, counting, counting_read } =
        figures;
    let mut text = format!(
        "### What an exchange of modules costs a lane: µs\n\n\
        {exchanges} exchanges under load, in full batches of {events} orders.\n\n\
        | | p50 | p99 | most | target |\n|---|--:|--:|--:|--:|\n"
    );
    let rows = [
        ("a batch", usual, ""),
        ("the first batch under other modules", first, ""),
        ("the stall: what that one takes longer than the median batch", stall, "p99 < 1000"),
        ("of it: taking the instances that are ready, and dropping those that are not kept", taking, ""),
        ("making a candidate serve, beside the lane", promote, ""),
    ];
    for (name, Quantiles { median, p99, most }, target) in rows {
        let _ = writeln!(text, "| {name} | {median:.0} | {p99:.0} | {most:.0} | {target} |");
    }
    let share = |cost: f64| cost / usual.median * 100.0;
    let _ = write!(
        text,
        "\nVerifying, compiling and starting a candidate takes {candidate:.0} ms beside the lane.\n\n\
        ### What counting costs a batch\n\n\
        | | µs | of a batch of {events} |\n|---|--:|--:|\n\
        | all counters of a batch | {counting:.2} | {:.2} % |\n\
        | while another thread reads them without a pause | {counting_read:.2} | {:.2} % |\n",
        share(*counting),
        share(*counting_read),
    );
    text
}
