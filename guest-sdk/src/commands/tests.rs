//! Which command a call becomes, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::{Commands, Message};
use crate::testing::{Command, Event, Tester};
use crate::{Change, Column, Fault, Outputs, Reject, Transform, settings};

fn commands(give: impl FnOnce(&mut Commands) -> Result<(), Reject>) -> Result<Vec<Value>, (Fault, String)> {
    let outputs = Outputs::new().table("one", ["id"]).table("two", ["a", "b"]);
    let mut out = Commands::new(&outputs, 1);
    give(&mut out).map_err(|reject| (reject.fault(), reject.reason().to_owned()))?;
    Ok(out.into_wire().into_iter().map(|command| Command::from_wire(command).to_json()).collect())
}

fn whole() -> Value {
    json!({"id": 1, "note": "x"})
}

fn partial() -> Value {
    json!({"id": 1, "note": Column::<String>::Unsent})
}

#[test]
fn a_whole_value_is_set_and_a_partial_one_is_merged() {
    assert_eq!(
        commands(|out| {
            out.cache_set("k", &whole(), 60)?;
            out.cache_set("k", &partial(), None)?;
            out.row_upsert("one", &whole())?;
            out.row_upsert("one", &partial())?;
            out.document_index("i", "1", &whole())?;
            out.document_index("i", "1", &partial())
        }),
        Ok(vec![
            json!({"cache-set": {"key": "k", "value": {"id": 1, "note": "x"}, "ttl-seconds": 60}}),
            json!({"cache-merge": {"key": "k", "fields": {"id": 1}, "ttl-seconds": null}}),
            json!({"row-upsert": {"table": "one", "values": {"id": 1, "note": "x"}}}),
            json!({"row-merge": {"table": "one", "values": {"id": 1}}}),
            json!({"document-index": {"index": "i", "id": "1", "body": {"id": 1, "note": "x"}}}),
            json!({"document-merge": {"index": "i", "id": "1", "body": {"id": 1}}}),
        ])
    );
}

#[test]
fn a_merge_may_be_asked_for() {
    assert_eq!(
        commands(|out| {
            out.cache_merge("k", &whole(), 60)?;
            out.row_merge("one", &partial())?;
            out.document_merge("i", "1", &whole())
        }),
        Ok(vec![
            json!({"cache-merge": {"key": "k", "fields": {"id": 1, "note": "x"}, "ttl-seconds": 60}}),
            json!({"row-merge": {"table": "one", "values": {"id": 1}}}),
            json!({"document-merge": {"index": "i", "id": "1", "body": {"id": 1, "note": "x"}}}),
        ])
    );
}

#[test]
fn a_row_is_deleted_by_its_key_in_every_form() {
    let one = |values: Value| Ok(vec![json!({"row-delete": {"table": "one", "values": values}})]);
    let two = |values: Value| Ok(vec![json!({"row-delete": {"table": "two", "values": values}})]);
    assert_eq!(commands(|out| out.row_delete("one", &7)), one(json!({"id": 7})));
    assert_eq!(commands(|out| out.row_delete("one", "x")), one(json!({"id": "x"})));
    assert_eq!(commands(|out| out.row_delete("one", &json!({"id": 7}))), one(json!({"id": 7})));
    assert_eq!(commands(|out| out.row_delete("two", &(7, "x"))), two(json!({"a": 7, "b": "x"})));
}

#[test]
fn a_key_that_is_not_the_tables_is_refused() {
    let reason = |answer: Result<Vec<Value>, (Fault, String)>| answer.unwrap_err().1;
    assert_eq!(
        reason(commands(|out| out.row_delete("two", &7))),
        "the key of `two` has 1 values, but its columns are `a`, `b`"
    );
    assert!(reason(commands(|out| out.row_delete("three", &7))).contains("`three` is not declared"));
    let unsent = commands(|out| out.row_delete("one", &json!({"id": Column::<i32>::Unsent}))).unwrap_err();
    assert_eq!(unsent.0, Fault::Unsent);
}

#[test]
fn a_message_has_no_merge_form() {
    assert_eq!(
        commands(|out| out.publish("t", "key", &whole())),
        Ok(vec![json!({"publish": {"topic": "t", "key": "key", "value": {"id": 1, "note": "x"}}})])
    );
    let (fault, reason) = commands(|out| out.publish("t", "key", &partial())).unwrap_err();
    assert_eq!(fault, Fault::Unsent);
    assert!(reason.starts_with("the message to `t` holds a column that was not sent"), "{reason}");
}

#[test]
fn a_message_may_be_of_any_bytes() {
    let message = Message { headers: vec![("h".to_owned(), Some(vec![0xff]))], ..Message::to("t") };
    assert_eq!(
        commands(|out| out.publish_message(message)),
        Ok(vec![json!({"publish": {"topic": "t", "key": null, "value": null, "headers": [["h", "/w=="]]}})])
    );
}

#[test]
fn bytes_are_cached_as_they_are() {
    assert_eq!(
        commands(|out| out.cache_set_bytes("k", "PAID", 1)),
        Ok(vec![json!({"cache-set": {"key": "k", "value": "PAID", "ttl-seconds": 1}})])
    );
}

#[test]
fn what_must_be_an_object_is_one() {
    for answer in [
        commands(|out| out.row_upsert("one", &1)),
        commands(|out| out.cache_merge("k", "text", None)),
        commands(|out| out.document_index("i", "1", &[1])),
    ] {
        assert!(answer.unwrap_err().1.ends_with("must be an object of named fields"));
    }
    let nan = commands(|out| out.cache_set("k", &f64::NAN, None)).unwrap_err();
    assert_eq!(nan, (Fault::Undecodable, "the cache entry `k` cannot be written: NaN is no JSON number".to_owned()));
}

#[settings]
struct Careless {}

impl Transform for Careless {
    fn outputs(&self) -> Outputs {
        Outputs::new().cache("order:*")
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        out.cache_delete(format!("{}:1", change.table()))?;
        if change.is_moved() { Err(Reject::refused("moved")) } else { Ok(()) }
    }
}

#[test]
fn a_refused_change_leaves_no_command_and_an_undeclared_one_is_refused() {
    let tester = Tester::<Careless>::start(json!({})).unwrap();
    let order = Event::delete("order", json!(1));
    assert_eq!(tester.apply(&order).unwrap().len(), 1);
    assert_eq!(tester.apply(&order.with_moved(json!(2))), Err(Reject::refused("moved")));
    let reject = tester.apply(&Event::delete("other", json!(1))).unwrap_err();
    assert!(reject.reason().contains(r#"{"cache-delete":"other:1"} is not declared in `outputs()`"#));
}

#[test]
fn settings_are_held_against_their_struct() {
    #[settings]
    #[allow(dead_code)]
    struct Some {
        #[serde(default)]
        count: u32,
    }
    impl Transform for Some {
        fn outputs(&self) -> Outputs {
            Outputs::new()
        }
        fn apply(&self, _change: &Change, _out: &mut Commands) -> Result<(), Reject> {
            Ok(())
        }
    }
    let error = |settings: Value| Tester::<Some>::start(settings).unwrap_err();
    assert!(Tester::<Some>::start(json!({})).is_ok());
    assert_eq!(error(json!({"count": "5"})), "setting `count`: invalid type: string \"5\", expected u32");
    assert_eq!(error(json!({"cuont": 5})), "unknown setting `cuont`, expected `count`");
    assert_eq!(error(json!([])), "the settings: invalid type: sequence, expected struct Some");
}
