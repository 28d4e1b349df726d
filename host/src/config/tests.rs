//! Configurations as an operator writes them, and what is answered. The messages stand in `tests/cases/config`: a
//! folder a case, with `config.toml` and `expected.txt`. `TIDEGATE_BLESS=1` writes the latter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env::VarError;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::event::Format;

fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "HOME" => Ok("/home/operator".into()),
        "SECRET" => Ok("hunter2".into()),
        _ => Err(VarError::NotPresent),
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.wasm"), "").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        fs::write(self.path("tidegate.toml"), text).unwrap();
        Config::load_in(&self.path("tidegate.toml"), &environment)
    }
}

const SMALLEST: &str = r#"
[source.file]
paths = ["events/*.jsonl"]
[sinks.store.sqlite]
path = "store.db"
[[pipelines]]
name = "orders"
topics = ["server.public.orders"]
[[pipelines.transforms]]
name = "order-cache"
module = "a.wasm"
"#;

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/config");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut wrong = Vec::new();
    for case in cases {
        let answer = match Config::load_in(&case.join("config.toml"), &environment) {
            Ok(config) => format!("{config:#?}"),
            Err(error) => error.to_string(),
        };
        let answer = answer.replace(&*case.to_string_lossy(), "FOLDER") + "\n";
        assert!(!answer.contains("hunter2"), "{} shows a secret:\n{answer}", case.display());
        if std::env::var_os("TIDEGATE_BLESS").is_some() {
            fs::write(case.join("expected.txt"), &answer).unwrap();
        }
        if fs::read_to_string(case.join("expected.txt")).unwrap_or_default() != answer {
            wrong.push(format!("{}:\n{answer}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_default_is_the_documented_one() {
    let folder = Folder::new();
    let config = folder.load(SMALLEST).unwrap();
    assert_eq!(config.dead_letters.path.as_path(), folder.path("dead-letters.jsonl"));
    assert_eq!(config.dead_letters.max_value_bytes, 32 * 1024 * 1024);
    assert_eq!(config.engine.cache.unwrap().as_path(), Path::new("/home/operator/.cache/tidegate"));
    let limits = config.engine.limits;
    assert_eq!(limits.call_deadline, Duration::from_secs(1));
    assert_eq!(limits.memory_bytes, 64 << 20);
    assert_eq!(limits.module_bytes, 32 << 20);
    assert_eq!(limits.calls_per_instance, 100_000);
    assert_eq!(limits.commands_per_change, 1000);
    assert_eq!(limits.answer_bytes, 64 << 20);
    let Sink::Sqlite(sink) = &config.sinks["store"] else { panic!("{:?}", config.sinks) };
    assert_eq!((sink.table_prefix.as_str(), &sink.seed), ("", &None));
    let pipeline = &config.pipelines[0];
    assert_eq!(pipeline.format, Format::Envelope);
    assert_eq!(pipeline.on_truncate, OnTruncate::Stop);
    assert_eq!(pipeline.unavailable_placeholder.as_str(), "__debezium_unavailable_value");
    assert_eq!(pipeline.flattened_prefix.as_str(), "__");
    assert!(pipeline.flattened_tombstone_is_delete);
    assert_eq!(pipeline.heartbeat_prefix.as_str(), "__debezium-heartbeat");
    assert_eq!(pipeline.lanes, std::thread::available_parallelism().unwrap().get());
    assert_eq!(pipeline.batch, BatchSize { max_events: 500, max_bytes: 4 * 1024 * 1024 });
    assert!(pipeline.sinks.is_empty());
    let transform = &pipeline.transforms[0];
    assert_eq!(transform.settings.as_str(), "{}");
    assert_eq!(transform.grants, Grants::default());
    assert_eq!(transform.digest, None);
}
