//! `tidegate dead-letters` shows what a run has filed, from a file and from a topic.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use crate::harness::{Folder, configuration, guest, orders};

const GOOD: &str = "settings = { ttl_seconds = 600 }\ngrants = { cache = [\"order:*\"] }";
const TIMESTAMP: i64 = 1_795_273_445_123;

/// The records: two that are cut off, one without a key, each with its offset.
fn records() -> [(u64, Value, &'static str); 3] {
    [
        (3, json!("{\"id\":\"1\"}"), "{\"id\":9007199254740993,\n\"cut"),
        (5, json!("{\"id\":\"2\"}"), "{\"no\u{1b}"),
        (8, Value::Null, "{\"id\": [1.10, \"a\"]}"),
    ]
}

/// A folder in which a run has filed the records in a file.
fn after_a_run() -> Folder {
    let folder = Folder::new();
    let lines = records().map(|(offset, key, value)| {
        json!({"topic": "dbserver1.public.orders", "partition": 0, "offset": offset, "timestamp": TIMESTAMP,
            "headers": [["own", "1"]], "key": key, "value": value})
        .to_string()
    });
    folder.write("events.jsonl", &format!("{}\n", lines.join("\n")));
    let configuration = configuration(&guest("order_cache.wasm"), GOOD).replace(&orders(), "events.jsonl");
    folder.write("tidegate.toml", &configuration);
    folder.tidegate(&["run", "tidegate.toml"]).done();
    folder
}

/// A configuration that reads this topic and files dead letters in that one.
fn from_kafka(source: &str, letters: &str) -> String {
    let brokers = brokers();
    let file = format!("[source.file]\npaths = [\"{}\"]\n", orders());
    let kafka = format!("[source.kafka]\nbrokers = \"{brokers}\"\n");
    let configuration = configuration(&guest("order_cache.wasm"), GOOD);
    assert!(configuration.contains(&file), "{configuration}");
    let configuration = configuration.replace(&file, &kafka).replace("dbserver1.public.orders", source);
    format!("[dead_letters.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{letters}\"\n{configuration}")
}

/// What both places answer alike.
fn lists_and_shows(folder: &Folder, topic: &str) {
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    list.done();
    let lines = list.lines();
    assert_eq!(lines.len(), 4, "{}", list.output);
    let start = format!("2026-11-21T15:04:05.123Z orders {topic}-0@3 - undecodable ");
    assert!(lines[0].starts_with(&start), "{}", lines[0]);
    assert!(lines.iter().all(|line| line.chars().count() <= 120), "{}", list.output);
    assert!(lines[2].contains("@8 order-cache no-key "), "{}", lines[2]);
    assert_eq!(lines[3], "dead letters: 3 (no-key 1, undecodable 2)");

    let list = |more: &[&str]| folder.tidegate(&[&["dead-letters", "list", "tidegate.toml"], more].concat());
    let newest = list(&["--limit", "1"]);
    assert!(newest.done().contains("-0@8 "), "{}", newest.output);
    assert!(newest.lines()[1].ends_with(", the newest 1 shown"), "{}", newest.output);
    let of_fault = list(&["--fault", "undecodable", "--pipeline", "orders", "--json"]);
    let letters: Vec<Value> = of_fault.done().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let positions: Vec<_> = letters.iter().map(|letter| letter["position"].as_str().unwrap()).collect();
    assert_eq!(positions, [format!("{topic}-0@3"), format!("{topic}-0@5")]);
    for (name, value) in [("pipeline", "orders"), ("stage", "DECODE"), ("time", "2026-11-21T15:04:05.123Z")] {
        assert_eq!(letters[0][name], value);
    }

    let show =
        |offset: u64| folder.tidegate(&["dead-letters", "show", "tidegate.toml", &format!("{topic}-0@{offset}")]);
    let shown = show(8);
    let position = format!("position   {topic}-0@8\n");
    for part in [
        &position,
        "\ntime       2026-11-21T15:04:05.123Z\npipeline   orders\n",
        "transform  order-cache\ndigest     ",
        "stage      TRANSFORM\nfault      no-key\nreason     ",
        "header     own: 1\n",
        "key        null\n",
        "value      {\n  \"id\": [\n    1.10,\n    \"a\"\n  ]\n}\n",
    ] {
        assert!(shown.done().contains(part), "{part}\n{}", shown.output);
    }
    assert!(show(3).done().contains("value      {\"id\":9007199254740993,\n\"cut\n"));
    assert!(!show(5).done().contains('\u{1b}'));
    let missing = show(4);
    assert_eq!(missing.code, 1);
    assert!(missing.errors.contains(&format!("no dead letter of `{topic}-0@4`")), "{}", missing.errors);
}

#[test]
fn letters_of_a_file_are_listed_and_shown() {
    let folder = after_a_run();
    lists_and_shows(&folder, "dbserver1.public.orders");
    // The rest of a line that is just being written.
    let file = std::fs::read_to_string(folder.path("dead-letters.jsonl")).unwrap();
    folder.write("dead-letters.jsonl", &format!("{file}{{\"topic\":\"dbs"));
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    assert_eq!(list.lines()[3], "dead letters: 3 (no-key 1, undecodable 2)", "{}", list.errors);
}

#[test]
fn letters_of_a_topic_are_listed_and_shown() {
    let (source, letters) = (Topic::make("public.orders", 1), Topic::make("dead-letters", 3));
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let records = records();
    for offset in 0..9 {
        let record = records.iter().find(|record| record.0 == offset);
        // What nobody complains of: the tombstone that follows a delete.
        let (key, value) =
            record.map_or((Some("{\"id\":\"0\"}"), None), |(_, key, value)| (key.as_str(), Some(*value)));
        let headers = OwnedHeaders::new().insert(Header { key: "own", value: Some("1") });
        let mut sent = BaseRecord::<str, str>::to(&source.0).partition(0).timestamp(TIMESTAMP).headers(headers);
        (sent.key, sent.payload) = (key, value);
        producer.send(sent).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    let folder = Folder::new();
    folder.write("tidegate.toml", &from_kafka(&source.0, &letters.0));
    let mut run = folder.start(&["run", "tidegate.toml"]);
    while !folder.tidegate(&["dead-letters", "list", "tidegate.toml"]).done().ends_with("undecodable 2)\n") {
        assert!(run.try_wait().unwrap().is_none(), "the run has ended");
    }
    run.kill().unwrap();
    run.wait().unwrap();
    lists_and_shows(&folder, &source.0);
}

#[test]
fn what_is_no_dead_letter_is_counted_and_named() {
    let folder = after_a_run();
    let file = std::fs::read_to_string(folder.path("dead-letters.jsonl")).unwrap();
    let foreign = "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"key\":null,\"value\":null}\n";
    folder.write("dead-letters.jsonl", &format!("{foreign}{file}"));
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    assert_eq!(list.done().lines().count(), 4);
    assert!(list.errors.contains("1 of what is filed there is no dead letter; the first is line 1"), "{}", list.errors);
    folder.write("dead-letters.jsonl", "no JSON\n");
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    assert_eq!(list.code, 1);
    assert!(list.errors.contains("dead-letters.jsonl:1: "), "{}", list.errors);
}

#[test]
fn none_is_none_and_what_cannot_be_meant_is_2() {
    let folder = Folder::new();
    folder.write("tidegate.toml", &configuration(&guest("order_cache.wasm"), GOOD));
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    assert_eq!(list.done(), "dead letters: 0\n");
    for (arguments, word) in [
        (["list", "tidegate.toml", "--pipeline", "oders"], "it has `orders`"),
        (["show", "tidegate.toml", "orders@7", "--pipeline=orders"], "write it as `orders-0@17`"),
        (["show", "missing.toml", "orders-0@7", "--pipeline=orders"], "cannot be read"),
    ] {
        let ended = folder.tidegate(&[&["dead-letters"], &arguments[..]].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(word), "{arguments:?}: {}", ended.errors);
    }
}

#[test]
fn a_topic_that_is_not_there_is_named_with_the_remedy() {
    let (folder, source) = (Folder::new(), Topic::make("public.orders", 1));
    let missing = format!("{}-missing", source.0);
    folder.write("tidegate.toml", &from_kafka(&source.0, &missing));
    for command in [&["dead-letters", "list", "tidegate.toml"][..], &["run", "tidegate.toml"]] {
        let ended = folder.tidegate(command);
        assert_eq!(ended.code, 1, "{command:?}: {}", ended.errors);
        let named = format!("there is no topic \"{missing}\": create it");
        assert!(ended.errors.contains(&named), "{command:?}: {}", ended.errors);
    }
}

/// A topic on the real broker, removed at the end.
struct Topic(String);

impl Topic {
    fn make(what: &str, partitions: i32) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let topic = Self(format!("cli{}x{number}.{what}", std::process::id()));
        let new = NewTopic::new(&topic.0, partitions, TopicReplication::Fixed(1));
        let made = runtime().block_on(admin().create_topics([&new], &AdminOptions::new())).unwrap();
        assert_eq!(made, [Ok(topic.0.clone())]);
        loop {
            let metadata = admin().inner().fetch_metadata(Some(&topic.0), Duration::from_secs(30)).unwrap();
            if i32::try_from(metadata.topics()[0].partitions().len()) == Ok(partitions) {
                return topic;
            }
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = runtime().block_on(admin().delete_topics(&[&self.0], &AdminOptions::new()));
    }
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The address of the broker, as the build tool has started it.
fn brokers() -> String {
    let default = crate::harness::target().join("services/addresses.json");
    let file = std::env::var_os("TIDEGATE_SERVICES").map_or(default, Into::into);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}: start the servers by `cargo xtask services`", file.display()));
    let addresses: Value = serde_json::from_str(&text).unwrap();
    addresses["kafka"].as_str().unwrap().to_owned()
}
