//! `tidegate dead-letters` shows what a run has filed, from a file and from a topic.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};

use crate::harness::{Folder, configuration, guest, orders};

const GOOD: &str = "settings = { ttl_seconds = 600 }\ngrants = { cache = [\"order:*\"] }";
const TIMESTAMP: u64 = 1_795_273_445_123;

/// A folder in which a run has filed three records: two that are cut off, one without a key.
fn after_a_run(dead_letters: &str) -> Folder {
    let folder = Folder::new();
    let broken = |offset: u64, key: Value, value: &str| {
        let topic = "dbserver1.public.orders";
        let headers = json!([["own", "1"]]);
        json!({"topic": topic, "partition": 0, "offset": offset, "timestamp": TIMESTAMP, "headers": headers,
            "key": key, "value": value})
        .to_string()
    };
    let lines = [
        broken(3, json!("{\"id\":\"1\"}"), "{\"id\":9007199254740993,\n\"cut"),
        broken(5, json!("{\"id\":\"2\"}"), "{\"no\u{1b}"),
        broken(8, Value::Null, "{\"id\": [1.10, \"a\"]}"),
    ];
    folder.write("events.jsonl", &format!("{}\n", lines.join("\n")));
    let configuration = configuration(&guest("order_cache.wasm"), GOOD).replace(&orders(), "events.jsonl");
    folder.write("tidegate.toml", &format!("{dead_letters}{configuration}"));
    folder.tidegate(&["run", "tidegate.toml"]).done();
    folder
}

/// What both places answer alike.
fn lists_and_shows(folder: &Folder) {
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    list.done();
    let lines = list.lines();
    assert_eq!(lines.len(), 4, "{}", list.output);
    let start = "2026-11-21T15:04:05.123Z orders dbserver1.public.orders-0@3 - undecodable ";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    assert!(lines.iter().all(|line| line.chars().count() <= 120), "{}", list.output);
    assert!(lines[2].contains("@8 order-cache no-key "), "{}", lines[2]);
    assert_eq!(lines[3], "dead letters: 3 (no-key 1, undecodable 2)");

    let list = |more: &[&str]| folder.tidegate(&[&["dead-letters", "list", "tidegate.toml"], more].concat());
    let newest = list(&["--limit", "1"]);
    assert!(newest.done().contains("orders-0@8 "), "{}", newest.output);
    assert!(newest.lines()[1].ends_with(", the newest 1 shown"), "{}", newest.output);
    let of_fault = list(&["--fault", "undecodable", "--pipeline", "orders", "--json"]);
    let letters: Vec<Value> = of_fault.done().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let positions: Vec<_> = letters.iter().map(|letter| letter["position"].as_str().unwrap()).collect();
    assert_eq!(positions, ["dbserver1.public.orders-0@3", "dbserver1.public.orders-0@5"]);
    for (name, value) in [("pipeline", "orders"), ("stage", "DECODE"), ("time", "2026-11-21T15:04:05.123Z")] {
        assert_eq!(letters[0][name], value);
    }

    let show = |position: &str| folder.tidegate(&["dead-letters", "show", "tidegate.toml", position]);
    let shown = show("dbserver1.public.orders-0@8");
    for part in [
        "position   dbserver1.public.orders-0@8\ntime       2026-11-21T15:04:05.123Z\npipeline   orders\n",
        "transform  order-cache\ndigest     ",
        "stage      TRANSFORM\nfault      no-key\nreason     ",
        "header     own: 1\n",
        "key        null\n",
        "value      {\n  \"id\": [\n    1.10,\n    \"a\"\n  ]\n}\n",
    ] {
        assert!(shown.done().contains(part), "{part}\n{}", shown.output);
    }
    assert!(show("dbserver1.public.orders-0@3").done().contains("value      {\"id\":9007199254740993,\n\"cut\n"));
    assert!(!show("dbserver1.public.orders-0@5").done().contains('\u{1b}'));
    let missing = show("dbserver1.public.orders-0@4");
    assert_eq!(missing.code, 1);
    assert!(missing.errors.contains("no dead letter of `dbserver1.public.orders-0@4`"), "{}", missing.errors);
}

#[test]
fn letters_of_a_file_are_listed_and_shown() {
    let folder = after_a_run("");
    lists_and_shows(&folder);
    // The rest of a line that is just being written.
    let file = std::fs::read_to_string(folder.path("dead-letters.jsonl")).unwrap();
    folder.write("dead-letters.jsonl", &format!("{file}{{\"topic\":\"dbs"));
    let list = folder.tidegate(&["dead-letters", "list", "tidegate.toml"]);
    assert_eq!(list.lines()[3], "dead letters: 3 (no-key 1, undecodable 2)", "{}", list.errors);
}

#[test]
fn letters_of_a_topic_are_listed_and_shown() {
    let topic = Topic::make();
    let folder = after_a_run(&topic.block());
    lists_and_shows(&folder);
}

#[test]
fn what_is_no_dead_letter_is_counted_and_named() {
    let folder = after_a_run("");
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
    let folder = Folder::new();
    let topic = Topic { name: format!("cli-missing-{}", std::process::id()), brokers: brokers() };
    let configuration = configuration(&guest("order_cache.wasm"), GOOD);
    folder.write("tidegate.toml", &format!("{}{configuration}", topic.block()));
    for command in [&["dead-letters", "list", "tidegate.toml"][..], &["run", "tidegate.toml"]] {
        let ended = folder.tidegate(command);
        assert_eq!(ended.code, 1, "{command:?}: {}", ended.errors);
        let named = format!("there is no topic \"{}\": create it", topic.name);
        assert!(ended.errors.contains(&named), "{command:?}: {}", ended.errors);
    }
    std::mem::forget(topic);
}

/// A topic on the real broker, removed at the end.
struct Topic {
    name: String,
    brokers: String,
}

impl Topic {
    fn make() -> Self {
        let topic = Self { name: format!("cli-dead-letters-{}", std::process::id()), brokers: brokers() };
        let new = NewTopic::new(&topic.name, 3, TopicReplication::Fixed(1));
        let options = AdminOptions::new();
        let made = runtime().block_on(topic.admin().create_topics([&new], &options)).unwrap();
        assert_eq!(made, [Ok(topic.name.clone())]);
        loop {
            let metadata = topic.admin().inner().fetch_metadata(Some(&topic.name), Duration::from_secs(30)).unwrap();
            if metadata.topics()[0].partitions().len() == 3 {
                return topic;
            }
        }
    }

    /// The block of a configuration that files dead letters in it.
    fn block(&self) -> String {
        format!("[dead_letters.kafka]\nbrokers = \"{}\"\ntopic = \"{}\"\n", self.brokers, self.name)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = runtime().block_on(self.admin().delete_topics(&[&self.name], &AdminOptions::new()));
    }
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
