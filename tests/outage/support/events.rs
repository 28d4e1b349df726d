//! Captured records, to be produced into the topics of a test.

use std::fs;

use serde_json::Value;
use tidegate_tests::corpus;

/// A record as it was captured.
#[derive(Debug, Clone)]
pub(in crate::outage) struct Event {
    pub(in crate::outage) partition: i32,
    pub(in crate::outage) key: Option<String>,
    pub(in crate::outage) value: Option<String>,
}

/// The captured records of the orders table of the order cache: flattened, on three partitions.
pub(in crate::outage) fn orders() -> Vec<Event> {
    read("order-cache/dbserver1.public.orders.jsonl")
}

/// Those of the bookstore's orders: envelopes, on three partitions.
pub(in crate::outage) fn books() -> Vec<Event> {
    read("bookstore-analytics/ecom-connector.public.orders.jsonl")
}

/// Those of the contacts of companies: envelopes, on three partitions.
pub(in crate::outage) fn documents() -> Vec<Event> {
    read("company-search/app.public.contact.jsonl")
}

/// The same again and again, for a stream that lasts.
pub(in crate::outage) fn repeated(events: &[Event], rounds: usize) -> Vec<Event> {
    (0..rounds).flat_map(|_| events.iter().cloned()).collect()
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
