//! What goes into a call arrives exactly, and what comes out is taken exactly.

use std::borrow::Cow;

use serde_json::{Value, json};
use tidegate::contract::{Column, Operation, RawCommand, ValueType};
use tidegate::engine::{Batch, Limits};
use tidegate::event::Projected;
use tidegate::source::Header;

use crate::harness::{BATCH, changes, limited, rejected, transform};

fn header(name: &str, value: Option<&[u8]>) -> Header {
    Header { name: name.into(), value: value.map(Into::into) }
}

/// The echo of one change: the JSON of its batch, the JSON of it, its headers.
fn echoed(outcome: Vec<RawCommand>) -> (Value, Value, Vec<Header>) {
    let [RawCommand::Publish { value: Some(batch), .. }, RawCommand::Publish { value: Some(change), headers, .. }] =
        <[RawCommand; 2]>::try_from(outcome).unwrap()
    else {
        panic!("not an echo")
    };
    (serde_json::from_slice(&batch).unwrap(), serde_json::from_slice(&change).unwrap(), headers)
}

#[test]
fn a_batch_arrives_exactly() {
    let of = |connect_type: &str, logical_type: Option<&str>, scale| ValueType {
        connect_type: connect_type.into(),
        logical_type: logical_type.map(Into::into),
        scale,
    };
    let columns = [
        Column {
            name: "fee".into(),
            of: of("bytes", Some("org.apache.kafka.connect.data.Decimal"), Some(-2)),
            element: None,
        },
        Column { name: "tags".into(), of: of("array", None, None), element: Some(of("string", None, None)) },
    ];
    let batch = Batch { topic: "dbserver1.public.orders", partition: 7, table: "orders", columns: Some(&columns) };
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    let headers =
        [header("__op", Some(b"u")), header("trace", None), header("trace", Some(&[0, 255])), header("", Some(b""))];
    let full = Projected {
        offset: u64::MAX,
        timestamp: Some(-1),
        operation: Operation::Update,
        key: text(r#"{"id":"ord_1"}"#),
        moved: text(r#"{"id":"ord_0"}"#),
        before: text(r#"{"id":"ord_1","fee":12345678901234567890123.10}"#),
        after: text("{\"id\":\"ord_1\",\"note\":\"á\u{200b}\u{1f600}\"}"),
        unsent: vec![Cow::Borrowed("receipt"), Cow::Borrowed("points")],
        source: Some(r#"{"lsn":1}"#),
        headers: &headers,
    };
    let bare = |offset, operation| Projected {
        offset,
        timestamp: None,
        operation,
        key: None,
        moved: None,
        before: None,
        after: None,
        unsent: Vec::new(),
        source: None,
        headers: &[],
    };
    let last = Projected { unsent: vec![Cow::Borrowed("note")], headers: &headers[..1], ..bare(3, Operation::Read) };
    let changes = [bare(0, Operation::Delete), full, bare(2, Operation::Create), last];

    let outcomes = transform(&json!({ "do": "echo" })).apply(batch, &changes).unwrap();
    let echoes: Vec<_> = outcomes.into_iter().map(|outcome| echoed(outcome.unwrap())).collect();

    for (given, (arrived, change, arrived_headers)) in changes.iter().zip(&echoes) {
        let decimal = json!(["bytes", "org.apache.kafka.connect.data.Decimal", -2]);
        let array = json!(["array", null, null]);
        let columns = json!([["fee", decimal, null], ["tags", array, ["string", null, null]]]);
        assert_eq!(*arrived, json!(["dbserver1.public.orders", 7, "orders", columns]));
        let operation = format!("{:?}", given.operation).to_lowercase();
        let unsent = (!given.unsent.is_empty()).then_some(&given.unsent);
        assert_eq!(
            *change,
            json!({
                "offset": given.offset, "timestamp": given.timestamp, "operation": operation, "key": given.key,
                "moved": given.moved, "before": given.before, "after": given.after, "unsent": unsent,
                "source": given.source,
            })
        );
        assert_eq!(arrived_headers, given.headers);
    }
}

#[test]
fn a_batch_without_a_schema_has_no_columns() {
    let outcomes = transform(&json!({ "do": "echo" })).apply(BATCH, &changes(1)).unwrap();
    let (batch, _, _) = echoed(outcomes.into_iter().next().unwrap().unwrap());
    assert_eq!(batch, json!(["dbserver1.public.orders", 0, "orders", null]));
}

#[test]
fn an_empty_batch_needs_no_call() {
    assert_eq!(transform(&json!({ "do": "panic" })).apply(BATCH, &[]).unwrap(), []);
}

#[test]
fn a_change_may_come_to_nothing() {
    let outcomes = transform(&json!({ "do": "nothing" })).apply(BATCH, &changes(3)).unwrap();
    assert_eq!(outcomes, vec![Ok(vec![]); 3]);
}

#[test]
fn a_rejection_keeps_its_label_and_its_reason() {
    let rejections = rejected(&mut transform(&json!({ "do": "reject", "at": [2, 5] })), 8, &[2, 5]);
    assert_eq!(rejections, vec![("no-key", "the record has no\\nkey".to_owned()); 2]);
}

#[test]
fn a_rejection_with_commands_is_a_bad_answer() {
    let mut transform = transform(&json!({ "do": "reject-with-commands", "at": [2] }));
    let reason = "the transform both rejected the change and made 1 commands of it: both";
    assert_eq!(rejected(&mut transform, 8, &[2]), [("bad-answer", reason.to_owned())]);
}

#[test]
fn more_commands_than_allowed_are_a_bad_answer() {
    let limits = Limits { commands_per_change: 2, ..Limits::default() };
    let mut transform = limited(&json!({ "do": "many", "at": [2] }), &limits);
    let reason =
        "the transform made 3 commands of one change, and 2 are allowed: make fewer, or raise the limit".to_owned();
    assert_eq!(rejected(&mut transform, 8, &[2]), [("bad-answer", reason)]);
}
