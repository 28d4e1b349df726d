//! The whole path on one lane: recorded events in a file, through the transform that reads a third of the columns,
//! into the null sink.
//!
//! Each turn is a run of its own, start included: the module's code comes from the cache on disk, the events from the
//! system's page cache. `read` is the file source's share: reading and parsing the lines alone.
//!
//! `cargo xtask bench -- file`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use tidegate::config::Config;
use tidegate::pipeline::{Observed, Pipelines, Stops};
use tidegate::source::{Record, recorded};

const EVENTS: usize = 100_000;

fn file_to_null(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    write_events(&events, &support::orders(EVENTS));
    let config = config(folder.path(), &events);

    let mut group = criterion.benchmark_group("file");
    group
        .throughput(Throughput::Elements(EVENTS as u64))
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8));
    group.bench_function("read", |bencher| {
        bencher.iter(|| assert_eq!(recorded::read(&events).unwrap().filter(Result::is_ok).count(), EVENTS));
    });
    group.bench_function("file to null", |bencher| {
        bencher.iter(|| {
            let (stops, observed) = (Stops::default(), Observed::new(&config));
            let outcome = Pipelines::open(&config, support::engine(&config), &stops, &observed).unwrap().run();
            let done = &outcome.summary.pipelines[0];
            assert!(outcome.failures.is_empty() && done.rejected.is_empty(), "{outcome:?}");
            assert_eq!(done.commands.values().sum::<u64>(), EVENTS as u64);
        });
    });
    group.finish();
}

fn write_events(path: &Path, records: &[Record]) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|header| (&header.name, text(&header.value))).collect();
        let line = json!({
            "topic": &*record.partition.topic, "partition": record.partition.partition, "offset": record.offset,
            "timestamp": record.timestamp, "headers": headers, "key": text(&record.key), "value": text(&record.value),
        });
        writeln!(file, "{line}").unwrap();
    }
    file.flush().unwrap();
}

fn config(folder: &Path, events: &Path) -> Config {
    let file = folder.join("tidegate.toml");
    let text = format!(
        r#"
        [source.file]
        paths = [{events:?}]
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
    fs::write(&file, text).unwrap();
    Config::load(&file).unwrap_or_else(|error| panic!("{error}"))
}

criterion_group!(benches, file_to_null);
criterion_main!(benches);
