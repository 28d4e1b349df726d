//! The hostile guest's bytes, modules and transforms made of it, and real changes to hand them.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tidegate::contract::{Operation, RawCommand};
use tidegate::engine::{ApplyError, Batch, Compiler, Engine, Limits, Module, Outcome, Transform};
use tidegate::event::Projected;

/// The bytes of the hostile guest: from the folder `TIDEGATE_GUESTS` where the build tool names one, else built here.
pub(crate) fn hostile() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = std::env::var_os("TIDEGATE_GUESTS").map_or_else(build, PathBuf::from);
        let path = folder.join("hostile.wasm");
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "hostile", "--target", "wasm32-unknown-unknown", "--profile", "wasm"]);
    let output = cargo.arg("--target-dir").arg(target).output().expect("cargo runs");
    assert!(output.status.success(), "the guest does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join("wasm32-unknown-unknown/wasm")
}

pub(crate) fn engine() -> Engine {
    Engine::new(None, compiler()).unwrap()
}

/// As the program has modules compiled: in a child of it.
pub(crate) fn compiler() -> Compiler {
    Compiler::Child(env!("CARGO_BIN_EXE_tidegate").into())
}

/// The hostile guest, compiled once for the default limits.
pub(crate) fn module(limits: &Limits) -> Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    let load = |limits| engine().load("hostile", hostile(), limits).unwrap();
    if *limits == Limits::default() { MODULE.get_or_init(|| load(limits)).clone() } else { load(limits) }
}

/// The hostile guest, started with these settings under the default limits.
pub(crate) fn transform(settings: &Value) -> Transform {
    limited(settings, &Limits::default())
}

pub(crate) fn limited(settings: &Value, limits: &Limits) -> Transform {
    module(limits).start(&settings.to_string()).unwrap()
}

/// Limits with a short deadline, for guests that never answer. Ten times of it is long enough for one that does, also on
/// a machine that is busy with other things.
pub(crate) fn hasty() -> Limits {
    Limits { call_deadline: Duration::from_millis(30), ..Limits::default() }
}

pub(crate) const BATCH: Batch<'_> =
    Batch { topic: "dbserver1.public.orders", partition: 0, table: "orders", columns: None };

/// So many changes with the rows of captured orders, at the offsets 0, 1, 2, …
pub(crate) fn changes(count: u64) -> Vec<Projected<'static>> {
    (0..).zip(rows()).take(usize::try_from(count).unwrap()).map(|(offset, row)| change(offset, row)).collect()
}

fn change(offset: u64, row: &'static str) -> Projected<'static> {
    Projected {
        offset,
        timestamp: None,
        operation: Operation::Update,
        key: None,
        moved: None,
        before: None,
        after: Some(Cow::Borrowed(row)),
        unsent: Vec::new(),
        source: None,
        headers: &[],
    }
}

/// The rows of the captured orders, over and over.
fn rows() -> impl Iterator<Item = &'static str> {
    static ROWS: OnceLock<Vec<String>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/order-cache/dbserver1.public.orders.jsonl");
        let lines = fs::read_to_string(path).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter_map(|event| event["value"].as_str().map(str::to_owned)).collect()
    });
    rows.iter().map(String::as_str).cycle()
}

/// What a change that is not chosen for misbehaviour comes to.
pub(crate) fn good(change: &Projected<'_>) -> Outcome {
    let key = format!("k:{}", change.offset);
    let value = change.after.as_deref().unwrap_or_default().as_bytes().to_vec();
    Ok(vec![RawCommand::CacheSet { key, value, ttl_seconds: None }])
}

/// Applies so many changes, expects those at the offsets `bad` to be rejected and all others to be handled, and gives
/// the labels and reasons of the rejections.
pub(crate) fn rejected(transform: &mut Transform, count: u64, bad: &[u64]) -> Vec<(&'static str, String)> {
    let changes = changes(count);
    let outcomes = transform.apply(BATCH, &changes).unwrap();
    assert_eq!(outcomes.len(), changes.len());
    let mut rejections = Vec::new();
    for (change, outcome) in changes.iter().zip(outcomes) {
        match outcome {
            Err(rejection) if bad.contains(&change.offset) => {
                rejections.push((rejection.fault.label(), rejection.reason));
            }
            outcome => assert_eq!(outcome, good(change), "offset {}", change.offset),
        }
    }
    assert_eq!(rejections.len(), bad.len());
    rejections
}

/// Applies so many changes, none of which can be handled.
pub(crate) fn fails(transform: &mut Transform, count: u64) -> ApplyError {
    transform.apply(BATCH, &changes(count)).unwrap_err()
}
