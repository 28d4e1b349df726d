//! Records that nobody can use: each becomes a dead letter that says why, and those around it come through.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidegate_tests::{Site, corpus};

use crate::stop::{ORDERS, orders};

/// A good order: its line in the file of events, at an offset of our own.
fn order(number: usize, offset: u64) -> Value {
    let creates: Vec<String> = orders().into_iter().filter(|line| line.contains("\\\"__op\\\":\\\"c\\\"")).collect();
    let mut line: Value = serde_json::from_str(&creates[number]).unwrap();
    line["partition"] = 0.into();
    line["offset"] = offset.into();
    line
}

/// The same order with its value changed.
fn changed(number: usize, offset: u64, change: impl FnOnce(&str) -> String) -> Value {
    let mut line = order(number, offset);
    line["value"] = change(line["value"].as_str().unwrap()).into();
    line
}

fn run(lines: &[Value]) -> Site {
    let site = Site::new(ORDERS);
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    site.write("events.jsonl", text.join("\n").as_bytes());
    site.run_well();
    site
}

/// Dead letters by offset: the fault and the reason.
fn letters(site: &Site) -> BTreeMap<u64, (String, String)> {
    let header = |letter: &Value, name: &str| {
        let headers = letter["headers"].as_array().unwrap().clone();
        headers.iter().find(|header| header[0] == name).map(|header| header[1].as_str().unwrap().to_owned()).unwrap()
    };
    site.dead_letters()
        .iter()
        .map(|letter| {
            let why = (header(letter, "tidegate.fault"), header(letter, "__connect.errors.exception.message"));
            (letter["offset"].as_u64().unwrap(), why)
        })
        .collect()
}

#[test]
fn each_bad_record_is_a_dead_letter_with_its_reason_and_the_others_come_through() {
    let not_utf8 = {
        let mut line = order(3, 5);
        let mut bytes = line["value"].as_str().unwrap().as_bytes().to_vec();
        bytes[40] = 0xff;
        line["value"] = Value::Null;
        line["value_base64"] = STANDARD.encode(bytes).into();
        line
    };
    let lines = [
        order(0, 0),
        changed(1, 1, |value| value[..value.len() / 2].to_owned()),
        changed(2, 2, |value| value.replace("\"service_id\":", "\"service_id\":\"x\",\"was\":")),
        changed(3, 3, |value| value.replace("\"__op\":\"c\"", "\"__op\":\"z\"")),
        changed(4, 4, |value| {
            value.replace("\"note\":", &format!("\"deep\":{}1{},\"note\":", "[".repeat(100_000), "]".repeat(100_000)))
        }),
        not_utf8,
        changed(5, 6, |_| "[1,2,3]".to_owned()),
        changed(6, 7, |_| "no json".to_owned()),
        order(7, 8),
    ];
    let site = run(&lines);

    let letters = letters(&site);
    let said: Vec<(u64, &str)> = letters.iter().map(|(offset, (fault, _))| (*offset, fault.as_str())).collect();
    assert_eq!(said, (1..8).map(|offset| (offset, "undecodable")).collect::<Vec<_>>(), "{letters:#?}");
    for (offset, part) in [(2, "service_id"), (3, "`z`"), (4, "nest"), (5, "UTF-8")] {
        assert!(letters[&offset].1.contains(part), "{offset}: {}", letters[&offset].1);
    }

    let kept = site.query("store.db", "SELECT key FROM tidegate_cache ORDER BY key");
    let mut expected: Vec<String> = [&lines[0], &lines[8]].iter().map(|line| key_of(line)).collect();
    expected.sort();
    assert_eq!(kept.iter().map(|row| row["key"].clone()).collect::<Vec<_>>(), expected);
    assert_eq!(site.query("store.db", "SELECT next_offset FROM tidegate_ledger")[0]["next_offset"], "9");
}

fn key_of(line: &Value) -> String {
    let key: Value = serde_json::from_str(line["key"].as_str().unwrap()).unwrap();
    format!("order:{}", key["id"].as_str().unwrap())
}

#[test]
fn a_dead_letter_holds_the_record_as_it_was_and_is_filed_once() {
    let cut = changed(1, 1, |value| value[..value.len() / 2].to_owned());
    let lines = [order(0, 0), cut.clone(), order(2, 2)];
    let site = run(&lines);
    let letter = site.dead_letters().remove(0);
    for part in ["topic", "partition", "offset", "timestamp", "key", "value"] {
        assert_eq!(letter[part], cut[part], "{part}");
    }

    // A store that is made anew takes everything again; the dead letter is there already.
    std::fs::remove_file(site.path("store.db")).unwrap();
    for file in ["store.db-wal", "store.db-shm"] {
        // SQLite removes them itself when the last connection is closed.
        let _ = std::fs::remove_file(site.path(file));
    }
    site.run_well();
    assert_eq!(site.dead_letters().len(), 1);
}

#[test]
fn a_record_of_20_megabytes_comes_through_whole() {
    let note = "n".repeat(20 << 20);
    let large = changed(1, 1, |value| {
        let mut row: serde_json::Map<String, Value> = serde_json::from_str(value).unwrap();
        row.insert("note".into(), json!(note));
        Value::Object(row).to_string()
    });
    let site = run(&[order(0, 0), large, order(2, 2)]);
    assert_eq!(letters(&site), BTreeMap::new());
    let found = site.query("store.db", "SELECT max(length(value ->> 'note')) AS longest FROM tidegate_cache");
    assert_eq!(found[0]["longest"], (20 << 20).to_string());
}

/// A change of the key, of which one column was not sent: the create of the new key, as Debezium gives it.
fn rekeyed(mut line: Value, from: &str, column: &str) -> Value {
    let old = json!(["__debezium.oldkey", from]);
    line["headers"].as_array_mut().unwrap().push(old);
    let mut value: Value = serde_json::from_str(line["value"].as_str().unwrap()).unwrap();
    let row = if value["after"].is_object() { &mut value["after"] } else { &mut value };
    row[column] = json!("__debezium_unavailable_value");
    if value["op"].is_string() {
        value["op"] = json!("c");
    }
    line["value"] = value.to_string().into();
    line
}

#[test]
fn key_change_with_an_unsent_column_is_a_dead_letter_where_a_cache_would_lose_the_entry() {
    let lines = [order(0, 0), rekeyed(order(1, 1), r#"{"id":"ord_old"}"#, "receipt"), order(2, 2)];
    let site = run(&lines);
    let letters = letters(&site);
    let (fault, reason) = &letters[&1];
    assert_eq!((letters.len(), fault.as_str()), (1, "unsent"), "{letters:#?}");
    for part in ["`receipt`", "key was changed", "ALTER TABLE orders REPLICA IDENTITY FULL"] {
        assert!(reason.contains(part), "{reason}");
    }
    let kept = site.query("store.db", "SELECT count(*) AS n FROM tidegate_cache");
    assert_eq!(kept[0]["n"], "2");
}

#[test]
fn merge_into_a_missing_document_names_the_identity_that_has_all_columns_sent() {
    let config = r#"
[source.file]
paths = ["events.jsonl"]
[sinks.search.sqlite]
path = "store.db"
[[pipelines]]
name = "search"
topics = ["app.public.company"]
sinks = { documents = "search" }
[[pipelines.transforms]]
name = "company-search"
module = "{guests}/company_search.wasm"
grants = { documents = ["company", "contact", "job_posting"] }
"#;
    let text = std::fs::read_to_string(corpus("company-search/app.public.company.jsonl")).unwrap();
    let mut updates = text.split('\n').filter(|line| line.contains(r#"\"op\":\"u\""#));
    let line: Value = serde_json::from_str(updates.next_back().unwrap()).unwrap();
    // An update whose document is not there, and a change of the key.
    let mut lines = [rekeyed(line.clone(), "{\"id\":1}", "description"), rekeyed(line, "{\"id\":1}", "description")];
    lines[1]["value"] = lines[1]["value"].as_str().unwrap().replace(r#""op":"c""#, r#""op":"u""#).into();
    for (line, offset) in lines.iter_mut().zip(0..) {
        (line["partition"], line["offset"]) = (json!(0), json!(offset));
    }
    let site = Site::new(config);
    site.write("events.jsonl", format!("{}\n{}", lines[0], lines[1]).as_bytes());
    site.run_well();
    let letters = letters(&site);
    for (offset, part) in [(0, "`description` when its key was changed"), (1, "`description`, so that")] {
        let (fault, reason) = &letters[&offset];
        assert_eq!(fault, "store", "{letters:#?}");
        for part in [part, "does not exist", "ALTER TABLE company REPLICA IDENTITY FULL"] {
            assert!(reason.contains(part), "{reason}");
        }
    }
}
