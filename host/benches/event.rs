//! Decoding and projecting captured events.
//!
//! Warm: one decoder and one projection for all records, as a lane has them; the records lie in the cache. Cold
//! schema: a new decoder for each record, so that its schema is parsed. Throughput counts the bytes of the values.
//!
//! `cargo bench -p tidegate --bench event`

use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::contract::{Inputs, Reads};
use tidegate::event::{Decoder, Event, Format, Options, Projection};
use tidegate::source::{Claim, Header, Record, TopicPartition};

#[derive(serde::Deserialize)]
struct Line {
    topic: String,
    partition: u32,
    offset: u64,
    timestamp: Option<i64>,
    headers: Vec<(String, Option<String>)>,
    key: Option<String>,
    value: Option<String>,
}

/// The captured records with values of these lengths.
fn records(path: &str, lengths: std::ops::Range<usize>) -> Result<Vec<Record>, Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(path);
    let mut records = Vec::new();
    for line in std::fs::read_to_string(path)?.split('\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_str(line)?;
        if !line.value.as_ref().is_some_and(|value| lengths.contains(&value.len())) {
            continue;
        }
        let headers = line.headers.into_iter();
        records.push(Record {
            partition: TopicPartition { topic: line.topic.into(), partition: line.partition },
            offset: line.offset,
            timestamp: line.timestamp,
            headers: headers.map(|(name, value)| Header { name, value: value.map(String::into_bytes) }).collect(),
            key: line.key.map(String::into_bytes),
            value: line.value.map(String::into_bytes),
            claim: Claim(0),
        });
    }
    Ok(records)
}

fn decoder(format: Format) -> Decoder {
    Decoder::new(Options { format, ..Options::default() })
}

fn run(decoder: &mut Decoder, projection: &mut Projection, records: &[Record]) -> usize {
    let mut bytes = 0;
    for record in records {
        if let Ok(Event::Change(change)) = decoder.decode(record) {
            bytes += change.project(projection).after.map_or(0, |after| after.len());
        }
    }
    bytes
}

fn event(criterion: &mut Criterion) {
    let orders = "order-cache/dbserver1.public.orders.jsonl";
    let trackops = "trackops-cache/trackops_orders.public.orders.jsonl";
    let sinners = "cdc-cascade/cdc-cascade-postgres.public.sinners.jsonl";
    let third: &[&str] = &["id", "customer_id", "status", "fee"];
    let mut group = criterion.benchmark_group("event");
    for (name, path, lengths, format, columns) in [
        ("flattened 400 B, a third", orders, 300..420, Format::Flattened, Some(third)),
        ("flattened 400 B, all", orders, 300..420, Format::Flattened, None),
        ("flattened 2 kB and more, all", orders, 2_000..100_000, Format::Flattened, None),
        (
            "envelope 700 B, all",
            "bookstore-analytics/ecom-connector.public.orders.jsonl",
            600..850,
            Format::Envelope,
            None,
        ),
        ("envelope 2 kB and more, all", trackops, 1_500..100_000, Format::Envelope, None),
        ("envelope 3 kB with schema, all", sinners, 1_000..100_000, Format::Envelope, None),
    ] {
        let Ok(records) = records(path, lengths) else { continue };
        let columns = columns.map(|columns| columns.iter().map(|name| (*name).to_owned()).collect());
        let reads = vec![Reads { table: "orders".to_owned(), columns }];
        let mut projection = Projection::new(&Inputs { reads, ..Inputs::default() });
        let bytes: usize = records.iter().filter_map(|record| record.value.as_ref()).map(Vec::len).sum();
        group.throughput(Throughput::ElementsAndBytes { elements: records.len() as u64, bytes: bytes as u64 });
        let mut warm = decoder(format);
        group.bench_function(name, |bencher| bencher.iter(|| run(&mut warm, &mut projection, &records)));
    }
    if let Ok(records) = records(sinners, 1_000..100_000) {
        let mut projection = Projection::new(&Inputs::default());
        group.throughput(Throughput::Elements(1));
        group.bench_function("envelope 3 kB, cold schema", |bencher| {
            bencher.iter_batched_ref(
                || decoder(Format::Envelope),
                |cold| run(cold, &mut projection, &records[..1]),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, event);
criterion_main!(benches);
