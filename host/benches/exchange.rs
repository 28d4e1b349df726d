//! What an exchange of modules costs a lane, and what counting costs it.
//!
//! A lane runs as it does in the program, from a pipe of recorded orders to the null sink, in full batches. Beside it
//! two modules, which were compiled and started before, are made to serve by turns. Each batch is timed in the lane, by
//! the span that it opens: from the moment when it has its records until it has their commands. Of the first batch
//! under other modules that is all that an exchange adds: taking the new instances, giving back those that are not kept,
//! and the first call of an instance that has never been called. Time in which the lane could run, and other work had the
//! processor, is taken off: it is the machine's.
//!
//! The counters are raised as a lane raises them for one batch, over and over, alone and while another thread reads
//! them all without a pause.
//!
//! `cargo xtask bench -- sidecar/exchange`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tidegate::config::Config;
use tidegate::pipeline::{Exchange, Observed, PipelineSummary, Pipelines, Stops};
use tidegate::source::TopicPartition;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

/// Events of a batch.
const BATCH: u64 = 64;
const EXCHANGES: usize = 600;
/// Batches between two exchanges.
const BETWEEN: u64 = 12;
/// Batches before the first exchange, which are not looked at.
const WARM: usize = 500;
/// Batches whose counting is measured at a time, and how often.
const COUNTED: u32 = 10_000;
const TIMES: usize = 50;

#[derive(Serialize)]
struct Figures {
    events: u64,
    exchanges: usize,
    /// Batches without an exchange.
    usual: Quantiles,
    /// The first ones after an exchange.
    first: Quantiles,
    /// What those took longer than the median of the usual ones.
    stall: Quantiles,
    /// Taking the new instances: a part of it.
    taking: Quantiles,
    /// Compiling and starting a candidate, and having it serve, which no lane waits for: ms.
    candidate: f64,
    promote: Quantiles,
    /// Counting one batch, µs: alone, and with a reader.
    counting: f64,
    counting_read: f64,
}

/// Microseconds.
#[derive(Serialize)]
struct Quantiles {
    median: f64,
    p99: f64,
    most: f64,
}

impl Quantiles {
    fn of(samples: impl IntoIterator<Item = Duration>) -> Self {
        let mut samples: Vec<_> = samples.into_iter().collect();
        samples.sort_unstable();
        let at = |place: usize| samples[place].as_secs_f64() * 1e6;
        Self { median: at(samples.len() / 2), p99: at(samples.len() * 99 / 100), most: at(samples.len() - 1) }
    }
}

fn main() {
    // `cargo test --benches` builds and starts it without this, to see that it starts.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    if !arguments.iter().any(|argument| argument == "--bench") || !"sidecar/exchange".starts_with(filter) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (batches, candidate, promoted) = run(&config, folder.path());

    let full = |first: bool| batches.iter().filter(move |one| one.records == BATCH && one.is_first == first);
    let usual = Quantiles::of(full(false).map(|one| one.took));
    let rest = Duration::from_secs_f64(usual.median / 1e6);
    let figures = Figures {
        events: BATCH,
        exchanges: full(true).count(),
        first: Quantiles::of(full(true).map(|one| one.took)),
        stall: Quantiles::of(full(true).map(|one| one.took.saturating_sub(rest))),
        taking: Quantiles::of(full(true).map(|one| one.taking)),
        usual,
        candidate: candidate.as_secs_f64() * 1e3,
        promote: Quantiles::of(promoted),
        counting: counting(&config, false),
        counting_read: counting(&config, true),
    };
    let figures = serde_json::to_string_pretty(&figures).unwrap();
    println!("{figures}");
    if let Some(file) = std::env::var_os("TIDEGATE_EXCHANGE_FIGURES") {
        fs::write(file, figures).unwrap();
    }
}

/// Runs the pipeline through all exchanges, and answers each batch, how long the first candidate took to be ready, and
/// how long each exchange kept who asked for it.
fn run(config: &Config, folder: &Path) -> (Vec<Batch>, Duration, Vec<Duration>) {
    let batches = Batches::default();
    subscriber::set_global_default(batches.clone()).unwrap();
    let (stops, observed) = (Stops::default(), Observed::new(config));
    let mut pipelines = Pipelines::open(config, support::engine(config), &stops, &observed).unwrap();
    let exchange = pipelines.exchanges().remove(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| feed(&folder.join("events.jsonl"), &done));
        let swapping = scope.spawn(|| {
            let swapped = swap(&exchange, &batches);
            done.store(true, Ordering::Relaxed);
            swapped
        });
        let outcome = pipelines.run();
        assert!(outcome.failures.is_empty() && outcome.summary.pipelines[0].rejected.is_empty(), "{outcome:?}");
        let (candidate, promoted) = swapping.join().unwrap();
        let batches = std::mem::take(&mut *batches.inner.done.lock().unwrap()).split_off(WARM);
        (batches, candidate, promoted)
    })
}

fn swap(exchange: &Exchange, batches: &Batches) -> (Duration, Vec<Duration>) {
    let until = |number: u64| {
        while batches.inner.since.load(Ordering::Relaxed) < number {
            thread::sleep(Duration::from_micros(200));
        }
    };
    until(WARM as u64);
    let module = fs::read(support::module()).unwrap();
    let begun = Instant::now();
    let candidates = [b'a', b'b'].map(|mark| exchange.candidate("bench", &marked(&module, mark)).unwrap());
    let candidate = begun.elapsed() / 2;
    let promoted = candidates.iter().cycle().take(EXCHANGES).map(|candidate| {
        batches.inner.since.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        exchange.promote(candidate).unwrap();
        let took = begun.elapsed();
        until(BETWEEN);
        took
    });
    (candidate, promoted.collect())
}

/// The same module with another digest: a custom section at its end says nothing.
fn marked(module: &[u8], mark: u8) -> Vec<u8> {
    [module, &[0, 2, 1, mark]].concat()
}

/// Writes orders into a pipe for as long as they are wanted.
fn feed(pipe: &Path, done: &AtomicBool) {
    let mut pipe = BufWriter::with_capacity(1 << 16, OpenOptions::new().write(true).open(pipe).unwrap());
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
    let lines: Vec<_> = support::orders(1024)
        .iter()
        .map(|order| {
            let (topic, key, value) = (&*order.partition.topic, text(&order.key), text(&order.value));
            let rest =
                json!({"topic": topic, "partition": 0, "timestamp": order.timestamp, "key": key, "value": value});
            format!(",{}\n", &rest.to_string()[1..])
        })
        .collect();
    for (offset, line) in lines.iter().cycle().enumerate() {
        if done.load(Ordering::Relaxed) {
            break;
        }
        write!(pipe, "{{\"offset\":{offset}{line}").unwrap();
    }
    pipe.flush().unwrap();
}

/// A batch that a lane has prepared.
struct Batch {
    records: u64,
    set: u64,
    is_first: bool,
    taking: Duration,
    took: Duration,
}

/// Times the batches of the one lane.
#[derive(Clone, Default)]
struct Batches {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The batch that is being prepared, and since when.
    present: Mutex<Option<(Clock, Batch)>>,
    done: Mutex<Vec<Batch>>,
    /// How many batches there were since this was set to 0.
    since: AtomicU64,
}

impl Subscriber for Batches {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        of.is_span() && of.name() == "batch"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut numbers = Numbers::default();
        span.record(&mut numbers);
        let nothing = Duration::ZERO;
        let batch = Batch { records: numbers.records, set: 0, is_first: false, taking: nothing, took: nothing };
        *self.inner.present.lock().unwrap() = Some((Clock::start(), batch));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut numbers = Numbers::default();
        values.record(&mut numbers);
        if let Some((clock, batch)) = &mut *self.inner.present.lock().unwrap() {
            (batch.set, batch.taking) = (numbers.set, clock.elapsed());
        }
    }

    fn exit(&self, _: &Id) {
        let Some((clock, mut batch)) = self.inner.present.lock().unwrap().take() else { return };
        batch.took = clock.elapsed();
        let mut done = self.inner.done.lock().unwrap();
        batch.is_first = done.last().is_some_and(|before| before.set != batch.set);
        done.push(batch);
        self.inner.since.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

/// The time of a thread, without that in which it waited for a processor.
struct Clock {
    waited: Duration,
    begun: Instant,
}

impl Clock {
    fn start() -> Self {
        let waited = Self::waited();
        Self { waited, begun: Instant::now() }
    }

    fn elapsed(&self) -> Duration {
        let elapsed = self.begun.elapsed();
        elapsed.saturating_sub(Self::waited() - self.waited)
    }

    /// How long this thread has waited in all.
    fn waited() -> Duration {
        let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(times.split(' ').nth(1).unwrap().parse().unwrap())
    }
}

/// The numbers of a span.
#[derive(Default)]
struct Numbers {
    records: u64,
    set: u64,
}

impl Visit for Numbers {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "records" => self.records = value,
            "set" => self.set = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// How long it takes to count one batch, µs: the quickest of many.
fn counting(config: &Config, is_read: bool) -> f64 {
    let observed = Observed::new(config);
    let pipeline = &observed.pipelines()[0];
    let partition = TopicPartition { topic: "dbserver1.public.orders".into(), partition: 0 };
    let position = pipeline.source.claimed(&partition, 0, None);
    let mut batch = PipelineSummary::default();
    batch.events.extend([("create", 40), ("update", 20), ("delete", 4)]);
    batch.commands.extend([("cache-set", 60), ("cache-delete", 4)]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        if is_read {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    black_box((pipeline.events.counts().count(), pipeline.commands.counts().count()));
                    black_box((pipeline.batches.cumulated(), pipeline.sinks[0].1.cumulated(), pipeline.source.lags()));
                    black_box(pipeline.transforms[0].time.cumulated());
                }
            });
        }
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let times = (0..TIMES).map(|_| {
            let begun = Instant::now();
            for next in 0..u64::from(COUNTED) {
                let called = Instant::now();
                pipeline.transforms[0].applied(called.elapsed(), black_box(2 << 20));
                let write = std::pin::pin!(pipeline.timed("null", std::future::ready(())));
                assert!(write.poll(&mut context).is_ready());
                position.reached(next, Some(black_box(1_795_247_469_337)));
                pipeline.durable(black_box(&batch));
            }
            begun.elapsed()
        });
        let quickest = times.min().unwrap() / COUNTED;
        done.store(true, Ordering::Relaxed);
        quickest.as_secs_f64() * 1e6
    })
}

fn config(folder: &Path) -> Config {
    let pipe = folder.join("events.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = format!(
        r#"
        [source.file]
        paths = [{pipe:?}]
        [sinks.null.null]
        [dead_letters.file]
        path = {dead_letters:?}
        [engine]
        cache = {cache:?}
        [[pipelines]]
        name = "orders"
        topics = ["dbserver1.public.orders"]
        format = "debezium-flattened"
        lanes = 1
        batch = {{ max_events = {BATCH} }}
        sinks = {{ cache = "null" }}
        [[pipelines.transforms]]
        name = "bench"
        module = {module:?}
        settings = {{ reading = "third", stage = "write" }}
        grants = {{ cache = ["orders:*", "company:*"] }}
        "#,
        dead_letters = folder.join("dead-letters.jsonl"),
        cache = folder.join("compiled"),
        module = support::module(),
    );
    let file = folder.join("tidegate.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file).unwrap_or_else(|error| panic!("{error}"))
}
