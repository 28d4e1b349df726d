//! `tidegate replay` prints the commands of one module, and the differences of two.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Ended, Folder, corpus, guest, orders};

const TTL: &str = r#"{"ttl_seconds": 600}"#;

fn replay(arguments: &[&str]) -> Ended {
    Folder::new().tidegate(&[&["replay", "--format", "debezium-flattened"], arguments].concat())
}

fn json_lines(ended: &Ended) -> Vec<Value> {
    ended.lines().into_iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_module_prints_a_line_a_command() {
    let ended = replay(&["--module", &guest("order_cache.wasm"), "--settings", TTL, &orders()]);
    ended.done();
    let lines = json_lines(&ended);
    // One command for each row's change: the tombstones have none.
    let events = fs::read_to_string(orders()).unwrap();
    assert_eq!(lines.len(), events.lines().filter(|line| !line.ends_with("\"value\":null}")).count());
    let first = &lines[0];
    assert_eq!(first["topic"], "dbserver1.public.orders");
    assert_eq!((&first["partition"], &first["offset"]), (&json!(0), &json!(0)));
    let set = &first["command"]["cache-set"];
    assert_eq!((&set["key"], &set["ttl-seconds"]), (&json!("order:ord_1"), &json!(600)));
    assert_eq!(set["value"]["customer_id"], "cust_107");
    assert!(lines.iter().any(|line| line["command"]["cache-delete"].is_string()));
}

#[test]
fn a_module_against_itself_has_no_difference() {
    let module = guest("order_cache.wasm");
    let ended = replay(&["--module", &module, "--module", &module, "--settings", TTL, &orders()]);
    assert_eq!(ended.done(), "");
}

#[test]
fn two_settings_of_one_module_differ_in_what_they_decide_alone() {
    let module = guest("order_cache.wasm");
    let settings = Folder::new();
    settings.write("second.json", r#"{"ttl_seconds": 601}"#);
    let second = format!("@{}", settings.path("second.json").display());
    let twice = ["--module", &module, "--module", &module, "--settings", TTL, "--settings", &second, &orders()];
    let ended = replay(&twice);
    assert_eq!(ended.code, 3, "{}", ended.errors);
    for line in json_lines(&ended) {
        let (first, second) = (line["first"][0].to_string(), line["second"][0].to_string());
        assert_eq!(first.replace("600", "601"), second.replace("600", "601"), "{line}");
    }
    // Deletes have no expiry, so nothing of them differs.
    assert!(!ended.output.is_empty() && !ended.output.contains("cache-delete"), "{}", ended.output);
}

#[test]
fn two_modules_differ_where_their_answers_do() {
    let reject = r#"{"do": "reject"}"#;
    let modules = ["--module", &guest("order_cache.wasm"), "--module", &guest("hostile.wasm")];
    let ended = replay(&[&modules[..], &["--settings", TTL, "--settings", reject, &orders()]].concat());
    assert_eq!(ended.code, 3, "{}", ended.errors);
    let line = &json_lines(&ended)[0];
    assert_eq!(line["first"][0]["cache-set"]["key"], "order:ord_1");
    assert_eq!(line["second"]["rejected"], "no-key");
    assert!(line["second"]["reason"].as_str().unwrap().contains("the record has no"));
}

#[test]
fn what_is_no_row_is_said_in_its_place() {
    let hostile = guest("hostile.wasm");
    let ended = Folder::new().tidegate(&["replay", "--module", &hostile, &orders()]);
    ended.done();
    let first = &json_lines(&ended)[0];
    assert_eq!(first["rejected"], "undecodable");
    assert!(first["reason"].as_str().unwrap().contains("debezium-flattened"), "{first}");

    let truncated = corpus("torture/misc.public.truncated.jsonl");
    let ended = Folder::new().tidegate(&["replay", "--module", &hostile, &truncated]);
    ended.done();
    assert!(json_lines(&ended).iter().any(|line| line["truncate"] == true), "{}", ended.output);
}

#[test]
fn what_cannot_be_replayed_is_2_and_one_line() {
    let module = guest("order_cache.wasm");
    let folder = Folder::new();
    folder.write("bad.jsonl", "{}\n");
    folder.write("empty.wasm", "");
    let cases: [(&[&str], &str); 6] = [
        (&["--module", "missing.wasm", "bad.jsonl"], "error: `missing.wasm`: cannot read the module: "),
        (&["--module", "empty.wasm", "bad.jsonl"], "error: `empty.wasm`: module `empty` is not WebAssembly"),
        (&["--module", &module, "bad.jsonl"], "setting `ttl_seconds` is missing"),
        (&["--module", &module, "--settings", "{hunter", "bad.jsonl"], "error: the settings are no JSON: "),
        (&["--module", &module, "--settings", "@missing.json", "bad.jsonl"], "`missing.json`"),
        (&["--module", &module, "--settings", TTL, "missing.jsonl"], "error: cannot open `missing.jsonl`: "),
    ];
    for (arguments, message) in cases {
        let ended = folder.tidegate(&[&["replay"], arguments].concat());
        assert_eq!((ended.code, ended.errors.lines().count()), (2, 1), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(message), "{arguments:?}: {}", ended.errors);
        assert!(!ended.errors.contains("hunter"), "{}", ended.errors);
    }
    let thrice = folder.tidegate(&["replay", "--module", "a", "--module", "b", "--module", "c", "bad.jsonl"]);
    assert_eq!((thrice.code, thrice.errors.lines().count()), (2, 1), "{}", thrice.errors);
}

#[test]
fn a_bad_line_is_1_after_the_answers_to_those_before_it() {
    let folder = Folder::new();
    let first = fs::read_to_string(orders()).unwrap().lines().next().unwrap().to_owned();
    folder.write("events.jsonl", &format!("{first}\n{{}}\n{first}\n"));
    let module = guest("order_cache.wasm");
    let format = ["replay", "--format", "debezium-flattened", "--settings", TTL];
    let ended = folder.tidegate(&[&format[..], &["--module", &module, "events.jsonl"]].concat());
    assert_eq!((ended.code, ended.lines().len()), (1, 1), "{}", ended.output);
    assert!(ended.errors.starts_with("error: events.jsonl:2: the line is no recorded event: "), "{}", ended.errors);
}
