//! Configurations as an operator writes them, and what is answered. The messages stand in `tests/cases/config`: a
//! folder a case, with `config.toml` and `expected.txt`. `TIDEGATE_BLESS=1` writes the latter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod reference;

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

fn file_of_dead_letters(config: &Config) -> &Path {
    match &config.dead_letters.to {
        DeadLetterStore::File(path) => path.as_path(),
        DeadLetterStore::Kafka(topic) => panic!("{topic:?}"),
    }
}

#[test]
fn every_default_is_the_documented_one() {
    let folder = Folder::new();
    let config = folder.load(SMALLEST).unwrap();
    assert_eq!(file_of_dead_letters(&config), folder.path("dead-letters.jsonl"));
    assert_eq!(config.dead_letters.max_value_bytes, 32 * 1024 * 1024);
    assert_eq!(config.engine.cache.unwrap().as_path(), Path::new("/home/operator/.cache/tidegate"));
    let limits = config.engine.limits;
    assert_eq!(limits.call_deadline, Duration::from_secs(1));
    assert_eq!(limits.memory_bytes, 256 << 20);
    assert_eq!(limits.module_bytes, 32 << 20);
    assert_eq!(limits.compile_time, Duration::from_secs(60));
    assert_eq!(limits.compile_memory_bytes, 512 << 20);
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
    assert_eq!(pipeline.group, "tidegate.orders");
    assert_eq!((pipeline.on_lost_records, pipeline.on_changed_topic), (OnLost::Stop, OnLost::Stop));
    assert_eq!(pipeline.on_lost_cache, OnLostCache::Rebuild);
    assert_eq!(pipeline.clash_patience, Duration::from_secs(30));
    assert_eq!(pipeline.breaker, Breaker { in_a_row: 100, percent: 50 });
    assert!(pipeline.sinks.is_empty());
    let transform = &pipeline.transforms[0];
    assert_eq!(transform.settings.as_str(), "{}");
    assert_eq!(transform.grants, Grants::default());
    assert_eq!(transform.digest, None);
}

#[test]
fn what_a_reference_stands_for_is_never_in_a_message() {
    let folder = Folder::new();
    fs::write(folder.path("key.pem"), "a \"b\"\nc").unwrap();
    let with_settings =
        format!("{SMALLEST}settings = {{ password = \"${{env:SECRET}}\", key = \"${{file:key.pem}}\" }}");
    let config = folder.load(&with_settings).unwrap();
    let settings = &config.pipelines[0].transforms[0].settings;
    assert_eq!(settings.as_str(), r#"{"key":"a \"b\"\nc","password":"hunter2"}"#);
    for message in ["no hunter2", "no \"hunter2\"", "no a \"b\"\nc", r#"no "a \"b\"\nc""#] {
        let redacted = config.redact(message);
        assert!(redacted.starts_with("no ") && redacted.contains("${"), "{redacted}");
        assert!(!redacted.contains("hunter2") && !redacted.contains('b'), "{redacted}");
    }
    assert_eq!(config.redact("nothing to hide"), "nothing to hide");
}

#[test]
fn the_files_of_the_source_are_those_that_match_each_once_in_order() {
    let folder = Folder::new();
    fs::create_dir(folder.path("events")).unwrap();
    for name in ["events/b.jsonl", "events/a.jsonl", "first.jsonl", "events/notes.txt"] {
        fs::write(folder.path(name), "").unwrap();
    }
    let files = |paths: &str| {
        let Source::File(source) = folder.load(&SMALLEST.replace("\"events/*.jsonl\"", paths)).unwrap().source else {
            panic!("not files")
        };
        source.files().map_err(|error| error.to_string().replace(&*folder.0.path().to_string_lossy(), "FOLDER"))
    };
    assert_eq!(
        files(r#""first.jsonl", "events/*.jsonl", "**/a.jsonl""#).unwrap(),
        ["first.jsonl", "events/a.jsonl", "events/b.jsonl"].map(|name| folder.path(name))
    );
    assert_eq!(
        files(r#""events/*.jsonl", "missing/*.jsonl""#).unwrap_err(),
        "no file matches `FOLDER/missing/*.jsonl`: correct `paths` of [source.file], or record events there"
    );
    assert!(files("\"events\"").is_err(), "a folder is no file");
}

#[test]
fn a_preview_writes_into_one_file_and_keeps_the_sinks_apart() {
    let folder = Folder::new();
    let alone = folder.load(SMALLEST).unwrap().into_preview(Path::new("out.db"), "1");
    let sqlite = |prefix: &str| {
        Sink::Sqlite(Sqlite { path: FilePath::plain("out.db"), table_prefix: Text::plain(prefix), seed: None })
    };
    assert_eq!(alone.sinks, BTreeMap::from([("store".to_owned(), sqlite(""))]));
    assert_eq!(alone.pipelines[0].group, "tidegate.orders.preview-1");
    assert_eq!(file_of_dead_letters(&alone), Path::new("out.db.dead-letters.jsonl"));

    let three = SMALLEST.replace(
        "[[pipelines]]",
        "[sinks.the-rest.null]\n[sinks.other.sqlite]\npath = \"other.db\"\nseed = \"a.wasm\"\n[[pipelines]]",
    );
    let three = folder.load(&three).unwrap().into_preview(Path::new("out.db"), "1");
    let expected = [("other", "other_"), ("store", "store_"), ("the-rest", "the_rest_")];
    assert_eq!(three.sinks, expected.map(|(name, prefix)| (name.to_owned(), sqlite(prefix))).into());
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = Folder::new();
    let missing = Config::load(&folder.path("missing.toml")).unwrap_err().to_string();
    assert!(
        missing.contains("missing.toml: cannot be read: ") && missing.ends_with("; name a readable configuration file")
    );
    fs::write(folder.path("binary.toml"), b"a = 1\n\xff").unwrap();
    let binary = Config::load(&folder.path("binary.toml")).unwrap_err().to_string();
    assert!(binary.ends_with("binary.toml:2: the file is not UTF-8; save it as UTF-8"), "{binary}");
}

#[test]
fn an_admin_api_is_for_this_machine_alone_or_has_a_token() {
    let folder = Folder::new();
    let load = |keys: &str| folder.load(&format!("{SMALLEST}[admin]\n{keys}\n"));
    let token = "token = \"0123456789abcdef\"";
    for local in ["127.0.0.1:9400", "[::1]:9400", "127.0.0.1:0", "unix:run/admin.sock"] {
        assert!(load(&format!("listen = \"{local}\"")).unwrap().admin.unwrap().token.is_none(), "{local}");
    }
    let AdminAddress::Unix(socket) = load("listen = \"unix:run/admin.sock\"").unwrap().admin.unwrap().listen else {
        panic!("no socket")
    };
    assert_eq!(socket.as_path(), folder.path("run/admin.sock"));
    for open in ["0.0.0.0:9400", "[::]:9400", "10.0.0.1:9400", "[::ffff:127.0.0.1]:9400"] {
        let error = load(&format!("listen = \"{open}\"")).unwrap_err().to_string();
        assert!(error.contains("can be reached from other machines, and there is no `token`; set `token`"), "{error}");
        assert!(load(&format!("listen = \"{open}\"\n{token}")).is_ok());
    }
    for (keys, expected) in [
        ("", "admin.listen: it is missing"),
        ("listen = \"localhost:9400\"", "admin.listen: `localhost:9400` is no address; write `127.0.0.1:9400`"),
        ("listen = \"unix:\"", "admin.listen: the socket has no path"),
        (
            "listen = \"0.0.0.0:1\"\ntoken = \"hunter2\"",
            "admin.token: the token is no 16 or more visible ASCII characters",
        ),
    ] {
        let error = load(keys).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn messages_come_once_where_the_sink_says_so() {
    let folder = Folder::new();
    let load = |keys: &str| {
        let sink = format!("[sinks.events.kafka]\nbrokers = \"b:9092\"\n{keys}\n[[pipelines]]");
        let text = SMALLEST.replacen("[[pipelines]]", &sink, 1);
        folder.load(&text.replace("topics =", "sinks = { messages = \"events\" }\ntopics ="))
    };
    let Sink::Kafka(kafka) = load("delivery = \"exactly-once\"").unwrap().sinks["events"].clone() else {
        panic!("no Kafka")
    };
    assert_eq!((kafka.delivery, kafka.ledger_topic.as_str()), (Delivery::ExactlyOnce, "tidegate.ledger"));
    // At least once, files have nowhere to keep how far they came.
    for (keys, expected) in [
        ("", "or write `delivery = \"exactly-once\"` in the sink"),
        ("delivery = \"once\"", "sinks.events.kafka.delivery: `once` is none of the choices"),
        ("delivery = \"exactly-once\"\nledger_topic = \"a topic\"", "ledger_topic: `a topic` is no name of a topic"),
        ("ledger_topic = \"l\"", "ledger_topic: a sink that publishes at least once keeps no ledger"),
        ("properties = { \"transactional.id\" = \"x\" }", "`transactional.id` is tidegate's own to set"),
    ] {
        let error = load(keys).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn grant_of_everything_reaches_no_name_of_another() {
    let text = r#"
[source.kafka]
brokers = "localhost:9092"
[dead_letters.kafka]
topic = "letters"
[sinks.warehouse.postgres]
url = "postgres://u@h/db"
[sinks.other.postgres]
url = "postgres://x@h/db"
ledger_schema = "Books"
[sinks.cache.redis]
url = "redis://h"
[sinks.keys.redis]
url = "redis://h:6379/0"
prefix = "keys-ledger:"
[sinks.search.elasticsearch]
url = "http://h:9200"
[sinks.events.kafka]
brokers = "127.0.0.1:9092"
[sinks.once.kafka]
brokers = "127.0.0.1:9092,b:1"
delivery = "exactly-once"
ledger_topic = "once-ledger"
[sinks.far.kafka]
brokers = "elsewhere:9092"
[[pipelines]]
name = "one"
topics = ["server.public.orders", "^server\\.other\\."]
sinks = { tables = "warehouse", cache = "cache", documents = "search", messages = "events" }
[[pipelines.transforms]]
name = "one"
module = "a.wasm"
grants = { tables = ["*"], cache = ["*"], documents = ["*"], messages = ["*"] }
[[pipelines]]
name = "two"
topics = ["mine"]
sinks = { messages = "far" }
[[pipelines.transforms]]
name = "two"
module = "a.wasm"
grants = { messages = ["*"] }
"#;
    let config = Folder::new().load(text).unwrap();
    let held = |pipeline: usize, port: Port, name: &str| {
        config.pipelines[pipeline].transforms[0].grants.reserved[&port].holds(name).is_some()
    };
    for (port, reserved, free) in [
        (
            Port::Tables,
            vec!["tidegate.ledger", "\"Tidegate\".ledger", "books.x", "pg_catalog.x", "tidegate_rewind_1.t"],
            vec!["ledger", "public.tidegate", "mart.x"],
        ),
        (Port::Cache, vec!["tidegate:", "tidegate:one:head:cache", "keys-ledger:x"], vec!["tidegat", "keys:x"]),
        (
            Port::Documents,
            vec![".tasks", "tidegate-ledger", "tidegate-ledger-000001", "x~rewind"],
            vec!["orders", "tidegate", "tidegate-ledgers"],
        ),
        (
            Port::Messages,
            vec!["__consumer_offsets", "once-ledger", "letters", "server.public.orders", "server.other.x", "mine"],
            vec!["orders", "tidegate.ledger", "_x"],
        ),
    ] {
        for name in reserved {
            assert!(held(0, port, name), "{name}");
        }
        for name in free {
            assert!(!held(0, port, name), "{name}");
        }
    }
    // Another cluster has none of these names.
    assert!(!held(1, Port::Messages, "mine") && !held(1, Port::Messages, "letters"));
    assert!(held(1, Port::Messages, "__consumer_offsets"));
}
