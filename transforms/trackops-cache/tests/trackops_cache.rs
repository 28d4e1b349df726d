//! What becomes of orders in the cache, and what is published of them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json::{self, Value};
use tidegate_sdk::testing::{Command, Event, Tester};
use trackops_cache::TrackopsCache;

fn tester() -> Tester<TrackopsCache> {
    Tester::start(json!({})).unwrap()
}

fn order(customer: &str, status: &str) -> Value {
    json!({
        "id": "o1", "customer_id": customer, "status": status, "total_amount": "1.20", "delivery_address": "Lane 1",
        "delivery_instructions": null, "estimated_delivery": 1_731_766_247_123_i64, "priority": false, "version": 1,
        "cancelled_at": null, "created_at": 1_764_650_680_000_000_i64, "updated_at": 1_723_746_431_123_456_i64,
    })
}

fn key() -> Value {
    json!({"id": "o1"})
}

/// The cache keys that are deleted, and the body of each message.
fn effects(event: &Event) -> (Vec<String>, Vec<Value>) {
    let (mut deleted, mut published) = (Vec::new(), Vec::new());
    for command in tester().apply(event).unwrap() {
        match command {
            Command::CacheDelete { key } => deleted.push(key),
            Command::Publish { topic, key: Some(key), value: Some(body), .. } => {
                let body = body.to_json();
                assert_eq!((topic.as_str(), key.text()), ("order-events", body["order_id"].as_str().unwrap()));
                published.push(body);
            }
            Command::CacheSet { .. } => {}
            other => panic!("{other}"),
        }
    }
    (deleted, published)
}

#[test]
fn the_recorded_events_leave_the_orders_of_the_table_and_their_status_in_the_cache() {
    let mut cache = BTreeMap::new();
    let mut published = BTreeMap::<String, usize>::new();
    let changes =
        tester().replay_file("../../tests/corpus/trackops-cache/trackops_orders.public.orders.jsonl").unwrap();
    for command in changes.into_iter().flat_map(|change| change.answer.unwrap()) {
        match command {
            Command::CacheSet { key, value, ttl_seconds } => {
                assert_eq!(ttl_seconds, Some(if key.starts_with("order:entity:") { 3600 } else { 1800 }));
                cache.insert(key, value);
            }
            Command::CacheDelete { key } => {
                cache.remove(&key);
            }
            Command::Publish { value, .. } => {
                *published.entry(value.unwrap().to_json()["type"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            other => panic!("{other}"),
        }
    }

    let source: Value =
        serde_json::from_str(include_str!("../../../tests/corpus/trackops-cache/source-final.json")).unwrap();
    let rows = source["orders"].as_array().unwrap();
    assert_eq!(cache.len(), 2 * rows.len());
    for row in rows {
        let id = row["id"].as_str().unwrap();
        let entity = cache[&format!("order:entity:{id}")].to_json();
        for column in
            ["id", "customer_id", "status", "delivery_address", "delivery_instructions", "priority", "version"]
        {
            assert_eq!(entity[column], row[column], "{column} of {id}");
        }
        assert_eq!(entity["total_amount"].as_f64(), row["total_amount"].as_f64(), "total_amount of {id}");
        assert_eq!(cache[&format!("order:status:{id}")].text(), row["status"].as_str().unwrap());
    }
    // Of 42 creates, two are orders that go on under another id.
    assert_eq!(published["ORDER_CREATED"], 40);
    assert!(published["ORDER_CANCELLED"] > 0);
}

#[test]
fn an_order_is_cached_for_an_hour_and_its_bare_status_for_half_an_hour() {
    let commands = tester().apply(&Event::read("orders", key(), order("c1", "PENDING"))).unwrap();
    let [
        Command::CacheSet { key: entity, value: row, ttl_seconds: Some(3600) },
        Command::CacheSet { key: status, value: text, ttl_seconds: Some(1800) },
        Command::CacheDelete { key: list },
    ] = &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!([entity, status, list], ["order:entity:o1", "order:status:o1", "orders:customer:c1"]);
    assert_eq!(text.text(), "PENDING");
    assert_eq!(
        row.text(),
        concat!(
            r#"{"id":"o1","customer_id":"c1","status":"PENDING","total_amount":1.20,"delivery_address":"Lane 1","#,
            r#""delivery_instructions":null,"estimated_delivery":"2024-11-16T14:10:47.123Z","priority":false,"#,
            r#""version":1,"cancelled_at":null,"created_at":"2025-12-02T04:44:40Z","#,
            r#""updated_at":"2024-08-15T18:27:11.123456Z"}"#,
        )
    );
}

#[test]
fn a_new_order_is_published_and_one_that_a_snapshot_reads_is_not() {
    let created = json!({"type": "ORDER_CREATED", "order_id": "o1", "customer_id": "c1", "status": "PENDING"});
    assert_eq!(effects(&Event::create("orders", key(), order("c1", "PENDING"))).1, [created]);
    assert_eq!(effects(&Event::read("orders", key(), order("c1", "PENDING"))).1, [Value::Null; 0]);
}

#[test]
fn a_cancelled_order_is_published_once() {
    let update = |from, to| Event::update("orders", key(), order("c1", to)).with_before(order("c1", from));
    let cancelled = json!({"type": "ORDER_CANCELLED", "order_id": "o1", "customer_id": "c1", "status": "CANCELLED"});
    assert_eq!(effects(&update("PENDING", "CANCELLED")).1, [cancelled]);
    assert_eq!(effects(&update("CANCELLED", "CANCELLED")).1, [Value::Null; 0]);
    assert_eq!(effects(&update("CANCELLED", "PENDING")).1, [Value::Null; 0]);
    assert_eq!(effects(&update("PENDING", "DELIVERED")).1, [Value::Null; 0]);
}

#[test]
fn an_order_that_changes_hands_drops_the_lists_of_both_customers() {
    let update = Event::update("orders", key(), order("c2", "PENDING")).with_before(order("c1", "PENDING"));
    assert_eq!(effects(&update).0, ["orders:customer:c1", "orders:customer:c2"]);
    let update = Event::update("orders", key(), order("c1", "PENDING")).with_before(order("c1", "NEW"));
    assert_eq!(effects(&update).0, ["orders:customer:c1"]);
}

#[test]
fn a_deleted_order_leaves_the_cache_and_drops_the_list_of_its_customer() {
    let delete = Event::delete("orders", key()).with_before(order("c1", "PENDING"));
    let keys = ["order:entity:o1", "order:status:o1", "orders:customer:c1"].map(str::to_owned);
    assert_eq!(effects(&delete), (keys.into(), Vec::new()));
}

#[test]
fn an_order_that_gets_another_id_is_cached_anew_and_is_no_new_order() {
    let delete = Event::delete("orders", key()).with_before(order("c1", "PENDING")).with_moved(json!({"id": "o2"}));
    assert_eq!(effects(&delete).0, ["order:entity:o1", "order:status:o1", "orders:customer:c1"]);
    let create = Event::create("orders", json!({"id": "o2"}), order("c1", "PENDING")).with_moved(key());
    let keys: Vec<_> = tester().apply(&create).unwrap().iter().map(Command::to_json).collect();
    assert_eq!(keys[0]["cache-set"]["key"], "order:entity:o2");
    assert_eq!(effects(&create).1, [Value::Null; 0]);
}

#[test]
fn an_update_without_the_row_before_is_refused() {
    let refused = tester().apply(&Event::update("orders", key(), order("c1", "PENDING"))).unwrap_err();
    assert_eq!(refused.fault(), Fault::NoBefore);
}

#[test]
fn lifetimes_prefixes_and_the_topic_are_settings() {
    let tester = Tester::<TrackopsCache>::start(json!({
        "entity_ttl_seconds": 1, "status_ttl_seconds": 2, "entity_prefix": "e:", "status_prefix": "s:",
        "customer_prefix": "c:", "topic": "events",
    }))
    .unwrap();
    let commands = tester.apply(&Event::create("orders", key(), order("c1", "NEW"))).unwrap();
    assert!(matches!(&commands[0], Command::CacheSet { key, ttl_seconds: Some(1), .. } if key == "e:o1"));
    assert!(matches!(&commands[1], Command::CacheSet { key, ttl_seconds: Some(2), .. } if key == "s:o1"));
    assert!(matches!(&commands[2], Command::CacheDelete { key } if key == "c:c1"));
    assert!(matches!(&commands[3], Command::Publish { topic, .. } if topic == "events"));
}
