//! One transform in four forms: native on typed structs, native through `serde_json::Value`, in WebAssembly, and in
//! WebAssembly with all that the host does around it.
//!
//! The transform keeps `{table}:{id}` in a cache, with the columns that it reads: a third of them, or all. Native code
//! is charged for its own parse of the same record, WebAssembly for the host's scan. What they make of each record is
//! compared before anything is measured. Deadlines are armed as in production; the 1,024 records, the instance and
//! the caches of the processor are warm.
//!
//! `cargo xtask bench -- transform`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Duration;

use bench_guest::{Company, CompanyThird};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate::command::check::Checker;
use tidegate::command::collapse::{Parts, Reach, Tagged, collapse};
use tidegate::command::grants::Grants;
use tidegate::contract::RawCommand;
use tidegate::engine::{Batch, Compiler, Engine, Limits, Outcome, Transform};
use tidegate::event::{Change, Decoder, Event, Format, Options, Projected, Projection};
use tidegate::source::Record;
use tidegate_sdk::value::{Decimal, Json, ZonedTimestamp};

const RECORDS: usize = 1_024;
const BATCHES: [usize; 5] = [1, 16, 64, 256, 1_024];
/// The batch of the targets.
const BATCH: usize = 64;

/// A table as the benchmarks read it.
struct Table {
    name: &'static str,
    topic: &'static str,
    format: Format,
    records: Vec<Record>,
    third: Reading,
    all: Reading,
}

/// The native forms of one reading.
struct Reading {
    typed: fn(&Record) -> RawCommand,
    columns: Option<&'static [&'static str]>,
}

fn transform(criterion: &mut Criterion) {
    let bytes = std::fs::read(support::module()).expect("the guest is built: run `cargo xtask bench`");
    let module = Engine::new(None, Compiler::Here).unwrap().load("bench-guest", &bytes, &Limits::default()).unwrap();
    let tables = [
        Table {
            name: "orders",
            topic: "dbserver1.public.orders",
            format: Format::Flattened,
            records: support::orders(RECORDS),
            third: Reading {
                typed: flattened::<FlatOrderThird>,
                columns: Some(&["id", "customer_id", "status", "fee"]),
            },
            all: Reading { typed: flattened::<FlatOrder>, columns: None },
        },
        Table {
            name: "company",
            topic: "app.public.company",
            format: Format::Envelope,
            records: support::companies(RECORDS),
            third: Reading { typed: enveloped::<CompanyThird>, columns: Some(&["id", "name", "industry", "revenue"]) },
            all: Reading { typed: enveloped::<Company>, columns: None },
        },
    ];
    for table in &tables {
        for (name, reading) in [("third", &table.third), ("all", &table.all)] {
            let start = |stage: &str| {
                module.start(&format!(r#"{{"reading":"{name}","stage":"{stage}"}}"#)).expect("the settings are right")
            };
            let mut group = criterion.benchmark_group(format!("transform/{}/{name}", table.name));
            group
                .throughput(Throughput::Elements(RECORDS as u64))
                .warm_up_time(Duration::from_millis(300))
                .measurement_time(Duration::from_millis(1_500))
                .sample_size(50);
            measure(&mut group, table, reading, start);
            group.finish();
        }
    }
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    table: &Table,
    reading: &Reading,
    start: impl Fn(&str) -> Transform,
) {
    let records = &table.records;
    let mut whole = start("write");
    let mut scan = Scan::new(table, &whole);
    assert_same(reading, records, &whole.apply(table.batch(), &scan.project(records)).unwrap());

    let native = |name, of: &dyn Fn(&Record) -> RawCommand, group: &mut BenchmarkGroup<'_, WallTime>| {
        group.bench_function(BenchmarkId::new("native", name), |bencher| {
            bencher.iter(|| {
                for batch in records.chunks(BATCH) {
                    black_box(batch.iter().map(of).collect::<Vec<_>>());
                }
            });
        });
    };
    native("typed", &reading.typed, group);
    native("value", &|record| by_value(table, reading.columns, record), group);

    group.bench_function(BenchmarkId::new("scan", BATCH), |bencher| {
        bencher.iter(|| {
            for batch in records.chunks(BATCH) {
                black_box(scan.project(batch));
            }
        });
    });
    let changes = scan.project(records);
    for (stage, batches) in [("call", &[BATCH][..]), ("answer", &[BATCH]), ("read", &[BATCH]), ("write", &BATCHES)] {
        let mut transform = start(stage);
        for &size in batches {
            let name = if stage == "write" { "wasm".to_owned() } else { format!("wasm-{stage}") };
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    for batch in changes.chunks(size) {
                        black_box(transform.apply(table.batch(), batch).unwrap());
                    }
                });
            });
        }
    }
    for size in BATCHES {
        group.bench_function(BenchmarkId::new("scan+wasm", size), |bencher| {
            bencher.iter(|| {
                for batch in records.chunks(size) {
                    black_box(whole.apply(table.batch(), &scan.project(batch)).unwrap());
                }
            });
        });
    }
    let checker = checker(&whole);
    group.bench_function(BenchmarkId::new("scan+wasm+check+collapse", BATCH), |bencher| {
        bencher.iter(|| {
            for batch in records.chunks(BATCH) {
                let outcomes = whole.apply(table.batch(), &scan.project(batch)).unwrap();
                let mut commands = Vec::with_capacity(batch.len());
                for (record, outcome) in batch.iter().zip(outcomes) {
                    for command in outcome.unwrap() {
                        let command = checker.check(command).unwrap();
                        commands.push(Tagged { offset: record.offset, transform: 0, command });
                    }
                }
                black_box(collapse(&commands, &Parts::of(&commands), &HashSet::new(), &Reach::default()));
            }
        });
    });
}

impl Table {
    fn batch(&self) -> Batch<'_> {
        Batch { topic: self.topic, partition: 0, table: self.name, columns: None }
    }
}

/// What the host does before the call.
struct Scan {
    decoder: Decoder,
    projection: Projection,
}

impl Scan {
    fn new(table: &Table, transform: &Transform) -> Self {
        let decoder = Decoder::new(Options { format: table.format, ..Options::default() });
        Self { decoder, projection: Projection::new(&transform.description().inputs) }
    }

    fn project<'r>(&mut self, records: &'r [Record]) -> Vec<Projected<'r>> {
        let mut changes: Vec<Change<'r>> = Vec::with_capacity(records.len());
        for record in records {
            match self.decoder.decode(record).unwrap() {
                Event::Change(change) => changes.push(change),
                other => panic!("{} is {other:?}", record.position()),
            }
        }
        changes.iter().map(|change| change.project(&mut self.projection)).collect()
    }
}

fn checker(transform: &Transform) -> Checker {
    let cache = transform.description().cache_keys.clone();
    Checker::new(transform.description(), &Grants { cache, ..Grants::default() }).unwrap()
}

fn assert_same(reading: &Reading, records: &[Record], outcomes: &[Outcome]) {
    assert_eq!(outcomes.len(), records.len());
    for (record, outcome) in records.iter().zip(outcomes) {
        assert_eq!(outcome.as_deref(), Ok(&[(reading.typed)(record)][..]), "{}", record.position());
    }
}

/// The typed native consumer of a flattened topic.
fn flattened<T: DeserializeOwned + Serialize + Flattened>(record: &Record) -> RawCommand {
    let Key { id } = key::<String>(record);
    let row: T = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    command(format!("orders:{id}"), if row.is_deleted() { None } else { Some(&row) })
}

/// The typed native consumer of a topic with envelopes.
fn enveloped<T: DeserializeOwned + Serialize>(record: &Record) -> RawCommand {
    let Key { id } = key::<i64>(record);
    let Envelope::<T> { after } = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    command(format!("company:{id}"), after.as_ref())
}

/// The untyped native consumer. Beside nesting what a `json` column holds as text it passes values on as they came:
/// it turns neither decimals into numbers nor days into dates.
fn by_value(table: &Table, columns: Option<&[&str]>, record: &Record) -> RawCommand {
    let key: Value = serde_json::from_slice(record.key.as_deref().unwrap()).unwrap();
    let key = match &key["id"] {
        Value::String(id) => format!("{}:{id}", table.name),
        id => format!("{}:{id}", table.name),
    };
    let mut value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    let row = if table.format == Format::Envelope { value["after"].take() } else { value };
    let Value::Object(mut row) = row else { return command(key, None::<&Value>) };
    if row.remove("__deleted").is_some_and(|deleted| deleted == "true") {
        return command(key, None::<&Value>);
    }
    let mut row = match columns {
        None => row,
        Some(columns) => columns.iter().filter_map(|name| row.remove_entry(*name)).collect::<Map<_, _>>(),
    };
    row.remove("__op");
    for name in ["points", "attributes"] {
        if let Some(Value::String(text)) = row.get(name) {
            let nested = serde_json::from_str(text).unwrap();
            row.insert(name.to_owned(), nested);
        }
    }
    command(key, Some(&row))
}

fn command(key: String, row: Option<&impl Serialize>) -> RawCommand {
    match row {
        Some(row) => RawCommand::CacheSet { key, value: serde_json::to_vec(row).unwrap(), ttl_seconds: Some(600) },
        None => RawCommand::CacheDelete { key },
    }
}

fn key<K: DeserializeOwned>(record: &Record) -> Key<K> {
    serde_json::from_slice(record.key.as_deref().unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Key<K> {
    id: K,
}

#[derive(Deserialize)]
struct Envelope<T> {
    after: Option<T>,
}

trait Flattened {
    fn is_deleted(&self) -> bool;
}

/// As the guest's `OrderThird`, with the field that flattening adds.
#[derive(Deserialize, Serialize)]
struct FlatOrderThird {
    id: String,
    customer_id: String,
    status: String,
    fee: Option<Decimal<2>>,
    #[serde(rename = "__deleted", skip_serializing)]
    deleted: String,
}

/// As the guest's `Order`, with the field that flattening adds.
#[derive(Deserialize, Serialize)]
struct FlatOrder {
    id: String,
    service_id: i32,
    service_type: String,
    customer_id: String,
    driver_id: Option<String>,
    status: String,
    points: Json,
    fee: Option<Decimal<2>>,
    note: Option<String>,
    receipt: Option<String>,
    created_at: ZonedTimestamp,
    updated_at: ZonedTimestamp,
    #[serde(rename = "__deleted", skip_serializing)]
    deleted: String,
}

impl Flattened for FlatOrderThird {
    fn is_deleted(&self) -> bool {
        self.deleted == "true"
    }
}

impl Flattened for FlatOrder {
    fn is_deleted(&self) -> bool {
        self.deleted == "true"
    }
}

criterion_group!(benches, transform);
criterion_main!(benches);
