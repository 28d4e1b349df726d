//! Which modules handled which events is on record, to the offset, whatever was exchanged meanwhile.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_tests::text;

use super::super::stop::orders;
use super::asked::{Held, until};
use super::modules::patched;

/// Each order becomes a message with the stamp of the module that handled it.
const STAMPING: &str = r#"
[admin]
listen = "127.0.0.1:0"
[source.file]
paths = ["events.jsonl"]
[sinks.out.sqlite]
path = "store.db"
[[pipelines]]
name = "stamping"
topics = ["dbserver1.public.orders"]
format = "debezium-flattened"
sinks = { messages = "out" }
[[pipelines.transforms]]
name = "stamp"
module = "stamp.wasm"
settings = { describe = { topics = ["stamps"] } }
grants = { messages = ["stamps"] }
"#;

/// A running program that is given events.
struct Stamping {
    run: Held,
    /// Partition and offset of each event so far.
    events: Vec<(u64, u64)>,
    /// The digest of each stamp.
    digests: BTreeMap<String, Value>,
}

impl Stamping {
    fn start() -> Self {
        let run = Held::start_with(STAMPING, &[], |site| site.write("stamp.wasm", &stamp("0")));
        let mut stamping = Self { run, events: Vec::new(), digests: BTreeMap::new() };
        stamping.run.open();
        stamping
    }

    /// The captured orders, again from the first after the last, to three partitions in turn.
    fn events(&mut self, count: usize) {
        let orders = orders();
        let mut events = Vec::new();
        for number in self.events.len()..self.events.len() + count {
            let (partition, offset) = (number as u64 % 3, number as u64 / 3);
            let mut event: Value = serde_json::from_str(&orders[number % orders.len()]).unwrap();
            (event["partition"], event["offset"]) = (partition.into(), offset.into());
            events.push(event.to_string());
            self.events.push((partition, offset));
        }
        self.run.write(&events);
    }

    /// Waits until every event is durable.
    fn settle(&self) {
        let all = self.events.len() as u64;
        until("the events", || (self.run.sum("tidegate_events_total{") == all).then_some(()));
    }

    /// Has the module of this stamp serve.
    fn upload(&mut self, name: &str) {
        let id = self.run.upload("/v1/modules/stamping/stamp", &stamp(name)).json()["id"].clone();
        let serving = until("the module", || {
            Some(self.run.get(&format!("/v1/offers/{id}")).json()).filter(|offer| offer["state"] == "serving")
        });
        self.digests.insert(name.to_owned(), serving["digest"].clone());
    }

    fn history(&self) -> Vec<Value> {
        let answer = self.run.get("/v1/pipelines/stamping/history").json();
        answer["history"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    }
}

fn stamp(name: &str) -> Vec<u8> {
    patched(&json!({ "stamp": name }))
}

#[test]
fn the_history_says_from_which_offset_on_which_module_handled_the_events() {
    let mut stamping = Stamping::start();
    stamping.events(30);
    stamping.settle();
    let first = stamping.run.get("/v1/modules").json()["modules"][0]["digest"].clone();
    stamping.digests.insert("0".into(), first);
    stamping.upload("1");
    stamping.events(20);
    stamping.settle();
    assert_eq!(stamping.run.post("/v1/pipelines/stamping/roll-back").status, 200);
    // Of partition 1 there is nothing yet for the module that serves now.
    stamping.events(2);
    stamping.settle();

    let row = |partition: u64, offset: u64, stamp: &str| (partition, offset, stamping.digests[stamp].clone());
    let mut rows: Vec<_> = stamping.history().iter().map(parts).collect();
    rows.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    assert_eq!(
        rows,
        [
            row(0, 0, "0"),
            row(0, 10, "1"),
            row(0, 17, "0"),
            row(1, 0, "0"),
            row(1, 10, "1"),
            row(2, 0, "0"),
            row(2, 10, "1"),
            row(2, 16, "0")
        ]
    );
    let all = stamping.history();
    assert!(all.iter().all(|row| row["sink"] == "out" && row["topic"] == "dbserver1.public.orders"), "{all:?}");
    assert!(all.is_sorted_by_key(|row| row["time"].as_u64().unwrap()), "{all:?}");
    assert_eq!(stamping.run.get("/v1/pipelines/other/history").status, 404);

    // Each line of the command has the same.
    let command = |arguments: &[&str]| {
        let arguments = [&["modules", "history", "tidegate.toml"], arguments].concat();
        // The file says no port.
        let config = STAMPING.replace("127.0.0.1:0", &stamping.run.address);
        stamping.run.site.configure(&config);
        let output = stamping.run.site.start(&arguments).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = command(&[]);
    assert_eq!(lines.lines().count(), all.len());
    let digest = all[0]["digests"][0].as_str().unwrap();
    let parts: Vec<_> = lines.lines().next().unwrap().split(' ').collect();
    let [pipeline, sink, partition, offset, time, module] = parts[..] else { panic!("{lines}") };
    let expected = format!("dbserver1.public.orders-{}", all[0]["partition"]);
    assert_eq!((pipeline, sink, partition), ("stamping", "out", &*expected));
    assert_eq!((offset.to_owned(), module), (all[0]["offset"].to_string(), &*format!("sha256:{digest}")));
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    let json: Value = serde_json::from_str(&command(&["--json", "--pipeline", "stamping"])).unwrap();
    assert_eq!(json, json!({ "pipeline": "stamping", "history": all }));

    // It is in the store, and outlives the program.
    let kept = stamping.run.site.query("store.db", "SELECT count(*) AS kept FROM tidegate_history");
    assert_eq!(kept[0]["kept"], all.len().to_string());
    stamping.run.end_well();
}

#[test]
fn events_without_a_command_stand_under_the_module_that_had_none_for_them() {
    let mut stamping = Stamping::start();
    stamping.events(3);
    stamping.settle();
    let id =
        stamping.run.upload("/v1/modules/stamping/stamp", &patched(&json!({"do": "nothing"}))).json()["id"].clone();
    until("the module", || (stamping.run.get(&format!("/v1/offers/{id}")).json()["state"] == "serving").then_some(()));
    stamping.events(3);
    stamping.settle();
    stamping.upload("2");
    stamping.events(3);
    stamping.settle();
    let mut rows: Vec<_> =
        stamping.history().iter().map(parts).map(|(partition, offset, _)| (partition, offset)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]);
    stamping.run.end_well();
}

#[test]
fn under_load_the_history_agrees_with_what_each_event_became() {
    let mut stamping = Stamping::start();
    stamping.events(1);
    let first = until("the module", || {
        let module = stamping.run.get("/v1/modules").json()["modules"][0]["digest"].clone();
        module.as_str().is_some_and(|digest| !digest.is_empty()).then_some(module)
    });
    stamping.digests.insert("0".into(), first);
    for name in 1..=10 {
        stamping.events(300);
        stamping.upload(&name.to_string());
    }
    stamping.events(300);
    stamping.settle();
    let history: Vec<_> = stamping.history().iter().map(parts).collect();
    let stamps = stamping.run.site.query("store.db", "SELECT key, value FROM tidegate_messages");
    assert_eq!(stamps.len(), stamping.events.len());
    for message in stamps {
        let (partition, offset) = message["key"].split_once('@').unwrap();
        let (partition, offset): (u64, u64) = (partition.parse().unwrap(), offset.parse().unwrap());
        let mut newest_first = history.iter().rev();
        let made_by = newest_first.find(|(of, from, _)| *of == partition && *from <= offset).unwrap();
        assert_eq!(made_by.2, stamping.digests[&message["value"]], "{message:?}");
    }
    stamping.run.end_well();
}

/// Partition, offset and digest of a row.
fn parts(row: &Value) -> (u64, u64, Value) {
    (row["partition"].as_u64().unwrap(), row["offset"].as_u64().unwrap(), row["digests"][0].clone())
}
