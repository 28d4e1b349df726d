//! The records and the module that the benchmarks share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // each benchmark is a program of its own, and needs a part of this

use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use tidegate::config::Config;
use tidegate::engine::{Compiler, Engine};
use tidegate::source::{Record, recorded};

/// Captured orders: flattened, 12 columns, values of 300 to 420 bytes. So many of them, over and over, with rising
/// offsets.
pub(crate) fn orders(count: usize) -> Vec<Record> {
    let fits = |value: &[u8]| (300..420).contains(&value.len());
    repeated(captured("order-cache/dbserver1.public.orders.jsonl").into_iter().filter(|of| sent(of, fits)), count)
}

/// Captured companies: in the envelope, 13 columns. Their descriptions are replaced by parts of one captured long
/// description, which makes rows of some 2 kB: the capture has shorter and longer ones.
pub(crate) fn companies(count: usize) -> Vec<Record> {
    let all = captured("company-search/app.public.company.jsonl");
    let long = all.iter().map(text).max_by_key(|text| text.len()).unwrap();
    let (start, end) = description(long).unwrap();
    let long = long[start..end].trim_matches('"').to_owned();
    let usual = all.into_iter().filter(|record| sent(record, |value| value.len() < 1_200)).filter_map(|mut record| {
        let value = text(&record);
        let (start, end) = description(value)?;
        let part = &long[usize::try_from(record.offset).unwrap() % 1_000..][..1_700];
        record.value = Some(format!("{}\"{part}\"{}", &value[..start], &value[end..]).into_bytes());
        Some(record)
    });
    repeated(usual, count)
}

/// The benchmark's guest, as `cargo xtask guests` builds it.
pub(crate) fn module() -> PathBuf {
    let folder = std::env::var_os("TIDEGATE_GUESTS");
    PathBuf::from(folder.expect("TIDEGATE_GUESTS names the folder of the modules: run `cargo xtask bench`"))
        .join("bench_guest.wasm")
}

/// The engine of a configuration, as the program has it.
pub(crate) fn engine(config: &Config) -> Engine {
    let cache = config.engine.cache.as_ref().map(|folder| folder.to_path_buf());
    Engine::new(cache, Compiler::Child(env!("CARGO_BIN_EXE_tidegate").into())).unwrap()
}

fn captured(path: &str) -> Vec<Record> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(path);
    recorded::read(&path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Whether the record has a row, all columns of which were sent, in a value that fits.
fn sent(record: &Record, fits: impl FnOnce(&[u8]) -> bool) -> bool {
    record.value.as_deref().is_some_and(fits) && !text(record).contains("__debezium_unavailable_value")
}

fn text(record: &Record) -> &str {
    std::str::from_utf8(record.value.as_deref().unwrap_or_default()).unwrap()
}

/// Where the description of the row after the change lies; none of a delete.
fn description(value: &str) -> Option<(usize, usize)> {
    const NAME: &str = "\"description\":";
    let after = value.find("\"after\":{")?;
    let start = after + value[after..].find(NAME)? + NAME.len();
    let mut values = serde_json::Deserializer::from_str(&value[start..]).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some((start, start + values.byte_offset()))
}

fn repeated(records: impl Iterator<Item = Record>, count: usize) -> Vec<Record> {
    let records: Vec<Record> = records.collect();
    let mut repeated: Vec<Record> = records.into_iter().cycle().take(count).collect();
    for (offset, record) in (0..).zip(&mut repeated) {
        record.offset = offset;
    }
    assert_eq!(repeated.len(), count, "the capture has no such records");
    repeated
}
