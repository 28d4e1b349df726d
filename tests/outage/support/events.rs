//! Captured records, to be produced into the topics of a test.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tidegate_tests::corpus;

/// A record as it was captured, or made of one.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
}

/// The transform that keeps the bookstore's tables.
pub(crate) const BOOKSTORE: &str = r#"
[[pipelines.transforms]]
name = "bookstore"
module = "{guests}/bookstore_analytics.wasm"
grants = { tables = ["fact_*", "dim_books"] }
"#;

/// The transform that keeps `id` and `status` of rows in the table `mirrored`, and takes those out that are deleted: the
/// bookstore's keeps them.
pub(crate) const MIRROR: &str = r#"
[[pipelines.transforms]]
name = "mirror"
module = "{guests}/hostile.wasm"
settings = { do = "mirror", describe = { tables = [{ name = "mirrored", key = ["id"] }] } }
grants = { tables = ["mirrored"] }
"#;

/// The captured records of the orders table of the order cache: flattened, on three partitions.
pub(crate) fn orders() -> Vec<Event> {
    read("order-cache/dbserver1.public.orders.jsonl")
}

/// Those of the bookstore's orders: envelopes, on three partitions.
pub(crate) fn books() -> Vec<Event> {
    read("bookstore-analytics/ecom-connector.public.orders.jsonl")
}

/// Those of the contacts of companies: envelopes, on three partitions.
pub(crate) fn documents() -> Vec<Event> {
    read("company-search/app.public.contact.jsonl")
}

/// The same again and again, for a stream that lasts.
pub(crate) fn repeated(events: &[Event], rounds: usize) -> Vec<Event> {
    (0..rounds).flat_map(|_| events.iter().cloned()).collect()
}

/// States of every row that these events create, whole, in so many rounds: the status is the number of the round, in six
/// digits.
pub(crate) fn numbered(events: &[Event], rounds: std::ops::Range<u32>) -> Vec<Event> {
    let mut rows: BTreeMap<String, (i32, Value)> = BTreeMap::new();
    for event in events {
        let (Some(key), Some(value)) = (&event.key, &event.value) else { continue };
        let value: Value = serde_json::from_str(value).unwrap();
        let operation = value.get("op").or(value.get("__op")).and_then(Value::as_str);
        if matches!(operation, Some("c" | "r")) {
            rows.insert(key.clone(), (event.partition, value));
        }
    }
    let update = |(key, (partition, value)): (&String, &(i32, Value)), round: u32| {
        let mut value = value.clone();
        let row = if value.get("after").is_some() { &mut value["after"] } else { &mut value };
        row["status"] = format!("{round:06}").into();
        Event { partition: *partition, key: Some(key.clone()), value: Some(value.to_string()) }
    };
    rounds.flat_map(|round| rows.iter().map(move |row| update(row, round))).collect()
}

fn read(file: &str) -> Vec<Event> {
    let text = fs::read_to_string(corpus(file)).unwrap();
    let event = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().map(ToOwned::to_owned);
        Event {
            partition: i32::try_from(line["partition"].as_u64().unwrap()).unwrap(),
            key: text("key"),
            value: text("value"),
        }
    };
    text.split('\n').filter(|line| !line.is_empty()).map(event).collect()
}
