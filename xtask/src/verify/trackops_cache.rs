//! trackops-cache: the cache holds each living row for an hour and its status for half an hour; the lists of customers that an event named are
//! gone; the messages are those that the rule gives over the recorded stream.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::check::{self, Verdict};
use super::json::{self, Json, Members};
use super::recorded::{Change, Images, Operation};
use super::source::{Source, Table};
use super::store::{Cache, Message, Store};
use crate::seeds;

const TOPIC: &str = "order-events";

pub(super) fn check(verdict: &mut Verdict, store: &Store, source: &Source, changes: &[Change]) -> anyhow::Result<()> {
    let mut cache = store.cache(verdict.system)?;
    let messages = store.messages(verdict.system)?;
    verdict.holds.push(format!("{} cache entries", cache.len()));
    verdict.holds.push(format!("{} messages", messages.len()));

    let table = source.table("orders")?;
    let images = Images::follow(changes, "orders", false);
    let written = store.written(verdict.system)?;
    orders_in_cache(verdict, &mut cache, (table, &images), &written);

    let named = seeds::named(changes, "customer_id");
    for seed in seeds::trackops_cache(changes)? {
        let customer = seed.key.trim_start_matches(seeds::CUSTOMER_PREFIX);
        match (cache.remove(&seed.key), named.contains(customer)) {
            (Some(entry), false) => verdict.text(&seed.key, &seed.value, &String::from_utf8_lossy(&entry.value)),
            (None, false) => verdict.differs(&seed.key, None, "the list, whose customer no event named", "nothing"),
            (Some(_), true) => {
                verdict.differs(&seed.key, None, "nothing, since an event named the customer", "the list");
            }
            (None, true) => verdict.compared += 1,
        }
    }
    verdict.nothing_else(cache.iter().map(|(key, entry)| (key.clone(), entry.value.as_slice())));
    compare_messages(verdict, TOPIC, &expected_messages(changes), messages);
    Ok(())
}

/// Compares each living row with its entry and with that of its status, written in that span of milliseconds, and takes
/// both out of `cache`.
pub fn orders_in_cache(
    verdict: &mut Verdict,
    cache: &mut Cache,
    (table, images): (&Table, &Images),
    written: &RangeInclusive<i64>,
) {
    verdict.rows_in_cache(cache, "order:entity:", (table, images), &check::expiry(written, 3600));
    for row in &table.rows {
        let identity = table.identity(row);
        if images.is_incomplete(&identity) {
            continue;
        }
        let key = format!("order:status:{identity}");
        let status = json::get(row, "status").map(Json::bare).unwrap_or_default();
        match cache.remove(&key) {
            Some(entry) => {
                verdict.text(&key, &status, &String::from_utf8_lossy(&entry.value));
                verdict.expiry(&key, &entry, &check::expiry(written, 1800));
            }
            None => verdict.differs(&key, None, status, "nothing"),
        }
    }
}

/// What is published, by the order's id, which is the message's key. The messages of a key keep their order.
pub fn expected_messages(changes: &[Change]) -> BTreeMap<String, Vec<Members>> {
    let mut messages = BTreeMap::<String, Vec<Members>>::new();
    for change in changes {
        let Some(after) = &change.after else {
            continue;
        };
        let status = |row: &Members| json::get(row, "status").map(Json::bare).unwrap_or_default();
        let kind = match change.operation {
            Operation::Create if !change.moved_here => "ORDER_CREATED",
            Operation::Update
                if status(after) == "CANCELLED"
                    && change.before.as_ref().is_some_and(|before| status(before) != "CANCELLED") =>
            {
                "ORDER_CANCELLED"
            }
            _ => continue,
        };
        let text = |text: String| Json::Text(text);
        let column = |name: &str| text(json::get(after, name).map(Json::bare).unwrap_or_default());
        messages.entry(change.identity()).or_default().push(vec![
            ("type".to_owned(), text(kind.to_owned())),
            ("order_id".to_owned(), column("id")),
            ("customer_id".to_owned(), column("customer_id")),
            ("status".to_owned(), column("status")),
        ]);
    }
    messages
}

/// Compares the messages of each key, in their order, and notes those to another topic.
pub fn compare_messages(
    verdict: &mut Verdict,
    topic: &str,
    expected: &BTreeMap<String, Vec<Members>>,
    found: Vec<Message>,
) {
    let mut by_key = BTreeMap::<String, Vec<String>>::new();
    for message in found {
        if message.topic == topic {
            by_key.entry(message.key).or_default().push(message.value);
        } else {
            verdict.differs(&message.key, None, format!("a message to {topic}"), format!("one to {}", message.topic));
        }
    }
    for (key, expected) in expected {
        let found = by_key.remove(key).unwrap_or_default();
        for (place, body) in expected.iter().enumerate() {
            let name = format!("message {} of {key}", place + 1);
            let body = Json::Object(body.clone());
            verdict.compared += 1;
            match found.get(place) {
                Some(text) if Json::parse(text).is_ok_and(|found| body.same(&found)) => {}
                Some(text) => verdict.differs(&name, None, body.to_string(), text),
                None => verdict.differs(&name, None, body.to_string(), "no message"),
            }
        }
        for (place, text) in found.iter().enumerate().skip(expected.len()) {
            verdict.differs(&format!("message {} of {key}", place + 1), None, "no message", text);
        }
    }
    for (key, texts) in by_key {
        for text in texts {
            verdict.differs(&format!("message of {key}"), None, "no message", text);
        }
    }
}
