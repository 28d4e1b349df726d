//! What the cache holds after the recorded events.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use order_cache::OrderCache;
use serde_json::Value;
use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json;
use tidegate_sdk::testing::{Command, Event, Tester};

fn tester() -> Tester<OrderCache> {
    Tester::start(json!({"ttl_seconds": 600})).unwrap()
}

fn row() -> Value {
    json!({
        "id": "ord_1", "service_id": 3, "service_type": "moving", "customer_id": "cust_107", "driver_id": null,
        "status": "new", "points": "[{\"lat\": -44.934749}, {\"label\": \"\"}]", "fee": "C+o=", "note": null,
        "receipt": "short", "created_at": "2025-11-22T02:39:05.5Z", "updated_at": "2023-12-11T05:20:13.123456Z",
    })
}

#[test]
fn the_recorded_events_leave_the_rows_of_the_table_in_the_cache() {
    let mut cache = BTreeMap::new();
    for handled in tester().replay_file("../../tests/corpus/order-cache/dbserver1.public.orders.jsonl").unwrap() {
        for command in handled.answer.unwrap() {
            match command {
                Command::CacheSet { key, value, ttl_seconds: Some(600) } => {
                    cache.insert(key, value.to_json());
                }
                Command::CacheMerge { key, fields, ttl_seconds: Some(600) } => {
                    if let Some(Value::Object(entry)) = cache.get_mut(&key) {
                        entry.extend(fields.to_json().as_object().unwrap().clone());
                    }
                }
                Command::CacheDelete { key } => {
                    cache.remove(&key);
                }
                other => panic!("{other}"),
            }
        }
    }

    let source: Value =
        serde_json::from_str(include_str!("../../../tests/corpus/order-cache/source-final.json")).unwrap();
    let rows = source["orders"].as_array().unwrap_or_else(|| panic!("{source}"));
    assert_eq!(cache.len(), rows.len());
    for row in rows {
        let entry = &cache[&format!("order:{}", row["id"].as_str().unwrap())];
        for column in ["service_id", "service_type", "customer_id", "driver_id", "status", "points", "note", "receipt"]
        {
            assert_eq!(entry[column], row[column], "{column} of {}", row["id"]);
        }
        assert_eq!(entry["fee"].as_f64(), row["fee"].as_f64(), "fee of {}", row["id"]);
    }
}

#[test]
fn an_order_is_cached_with_its_points_nested_and_its_fee_as_a_number() {
    let commands = tester().apply(&Event::create("orders", json!({"id": "ord_1"}), row())).unwrap();
    let [Command::CacheSet { key, value, ttl_seconds }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((key.as_str(), *ttl_seconds), ("order:ord_1", Some(600)));
    assert_eq!(
        value.text(),
        concat!(
            r#"{"id":"ord_1","service_id":3,"service_type":"moving","customer_id":"cust_107","driver_id":null,"#,
            r#""status":"new","points":[{"lat":-44.934749},{"label":""}],"fee":30.50,"note":null,"#,
            r#""receipt":"short","created_at":"2025-11-22T02:39:05.5Z","updated_at":"2023-12-11T05:20:13.123456Z"}"#,
        )
    );
}

#[test]
fn an_unsent_receipt_is_left_as_it_is() {
    let mut row = row();
    row.as_object_mut().unwrap().remove("receipt");
    let event = Event::update("orders", json!({"id": "ord_1"}), row).with_unsent(["receipt"]);
    let commands = tester().apply(&event).unwrap();
    let [Command::CacheMerge { fields, ttl_seconds: Some(600), .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(fields.to_json().get("receipt"), None);
    assert_eq!(fields.to_json()["status"], "new");
}

#[test]
fn a_deleted_order_is_deleted() {
    let commands = tester().apply(&Event::delete("orders", json!({"id": "ord_1"}))).unwrap();
    assert_eq!(commands, [Command::CacheDelete { key: "order:ord_1".to_owned() }]);
}

#[test]
fn the_ttl_must_be_given() {
    let error = Tester::<OrderCache>::start(json!({})).unwrap_err();
    assert_eq!(error, "setting `ttl_seconds` is missing");
}
