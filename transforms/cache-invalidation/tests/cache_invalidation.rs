//! Which cache entries a change of a sinner deletes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use cache_invalidation::CacheInvalidation;
use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json::Value;
use tidegate_sdk::testing::{Command, Event, Tester};

fn tester() -> Tester<CacheInvalidation> {
    Tester::start(json!({})).unwrap()
}

fn sinner(code: i64) -> Value {
    json!({"code": code, "name": "Augustus", "class": "S", "libram": "Famine", "tendency": null})
}

fn deleted(event: &Event) -> Vec<String> {
    keys(tester().apply(event).unwrap())
}

fn keys(commands: Vec<Command>) -> Vec<String> {
    let key = |command| match command {
        Command::CacheDelete { key } => key,
        other => panic!("{other}"),
    };
    commands.into_iter().map(key).collect()
}

#[test]
fn each_recorded_change_deletes_the_entry_under_the_code_in_its_key() {
    let changes =
        tester().replay_file("../../tests/corpus/cdc-cascade/cdc-cascade-postgres.public.sinners.jsonl").unwrap();
    assert_eq!(changes.len(), 141);
    let mut codes = BTreeSet::new();
    for change in changes {
        let [key] = &keys(change.answer.unwrap())[..] else { panic!("{:?}", change.event) };
        if let Some(row) = change.event.row_text() {
            assert!(row.starts_with(&format!(r#"{{"code":{key},"#)), "{key} for {row}");
        }
        codes.insert(key.clone());
    }
    // Two sinners changed their code: the old and the new one are both gone.
    for code in ["24", "1024", "35", "1035"] {
        assert!(codes.contains(code), "{code}");
    }
}

#[test]
fn a_create_a_read_an_update_and_a_delete_all_delete_the_entry() {
    let key = json!({"code": 7});
    for event in [
        Event::create("sinners", &key, sinner(7)),
        Event::read("sinners", &key, sinner(7)),
        Event::update("sinners", &key, sinner(7)),
        Event::delete("sinners", &key),
    ] {
        assert_eq!(deleted(&event), ["7"], "{:?}", event.operation());
    }
}

#[test]
fn a_change_of_the_code_deletes_the_entries_of_both() {
    let (old, new) = (json!({"code": 7}), json!({"code": 9}));
    assert_eq!(deleted(&Event::delete("sinners", &old).with_moved(&new)), ["7"]);
    assert_eq!(deleted(&Event::create("sinners", &new, sinner(9)).with_moved(&old)), ["9"]);
}

#[test]
fn an_update_that_shows_another_code_before_deletes_the_entries_of_both() {
    let event = Event::update("sinners", json!({"code": 9}), sinner(9)).with_before(sinner(7));
    assert_eq!(deleted(&event), ["7", "9"]);
}

#[test]
fn a_prefix_stands_before_the_code() {
    let tester = Tester::<CacheInvalidation>::start(json!({"key_prefix": "sinner:"})).unwrap();
    let commands = tester.apply(&Event::delete("sinners", json!({"code": 7}))).unwrap();
    assert_eq!(keys(commands), ["sinner:7"]);
}

#[test]
fn a_sinner_without_a_key_is_refused() {
    let refused = tester().apply(&Event::create("sinners", (), sinner(7)).without_key()).unwrap_err();
    assert_eq!(refused.fault(), Fault::NoKey);
}
