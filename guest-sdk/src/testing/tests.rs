//! The tester, and through it what a change answers, held against captured events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::approx_constant)] // A captured value happens to be one.

use serde_json::{Value, json};

use super::{Command, Event, Handled, Tester};
use crate::prelude::*;

/// What a test asks a change for.
trait Probe {
    fn inputs() -> Inputs {
        Inputs::all()
    }

    fn answer(change: &Change) -> Result<Value, Reject>;
}

/// Puts the answer of a probe under the key `answer`.
struct Probing<P>(std::marker::PhantomData<P>);

impl<'de, P> serde::Deserialize<'de> for Probing<P> {
    fn deserialize<D: serde::Deserializer<'de>>(settings: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(settings).map(|_| Self(std::marker::PhantomData))
    }
}

impl<P: Probe> Transform for Probing<P> {
    fn inputs(&self) -> Inputs {
        P::inputs()
    }

    fn outputs(&self) -> Outputs {
        Outputs::new().cache("answer")
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        out.cache_set("answer", &P::answer(change)?, None)
    }
}

fn ask<P: Probe>(event: &Event) -> Result<Value, Reject> {
    let tester = Tester::<Probing<P>>::start(json!({})).unwrap();
    tester.apply(event).map(|commands| match &commands[..] {
        [Command::CacheSet { value, .. }] => value.to_json(),
        other => panic!("{other:?}"),
    })
}

fn refused<P: Probe>(event: &Event) -> (Fault, String) {
    let reject = ask::<P>(event).unwrap_err();
    (reject.fault(), reject.reason().to_owned())
}

macro_rules! probe {
    ($name:ident, |$change:ident| $answer:expr) => {
        struct $name;
        impl Probe for $name {
            fn answer($change: &Change) -> Result<Value, Reject> {
                Ok(json!($answer))
            }
        }
    };
}

fn event(key: Value) -> Event {
    Event::create("orders", key, json!({}))
}

#[test]
fn a_key_of_one_column_is_its_bare_value_in_every_type() {
    probe!(Text, |change| change.key::<String>()?);
    probe!(Number, |change| change.key::<i64>()?);
    probe!(Any, |change| change.key::<Value>()?);
    #[row]
    struct Id {
        id: i64,
    }
    probe!(Struct, |change| change.key::<Id>()?.id);
    assert_eq!(ask::<Text>(&event(json!({"id": "a"}))), Ok(json!("a")));
    assert_eq!(ask::<Text>(&event(json!("a"))), Ok(json!("a")));
    assert_eq!(ask::<Number>(&event(json!({"id": 1_i64 << 60}))), Ok(json!(1_i64 << 60)));
    assert_eq!(ask::<Number>(&event(json!(-5))), Ok(json!(-5)));
    assert_eq!(ask::<Any>(&event(json!({"id": true}))), Ok(json!(true)));
    assert_eq!(ask::<Struct>(&event(json!({"id": 4}))), Ok(json!(4)));
}

#[test]
fn a_key_of_several_columns_is_a_tuple_or_a_struct() {
    #[row]
    struct Both {
        a: i64,
        b: String,
    }
    probe!(Tuple, |change| change.key::<(i64, String)>()?);
    probe!(Struct, |change| {
        let Both { a, b } = change.key()?;
        (a, b)
    });
    probe!(Any, |change| change.key::<Value>()?);
    probe!(One, |change| change.key::<i64>()?);
    probe!(Three, |change| change.key::<(i64, String, i64)>()?);
    let event = event(json!({"a": 1, "b": "x"}));
    assert_eq!(ask::<Tuple>(&event), Ok(json!([1, "x"])));
    assert_eq!(ask::<Struct>(&event), Ok(json!([1, "x"])));
    assert_eq!(ask::<Any>(&event), Ok(json!({"a": 1, "b": "x"})));
    assert!(refused::<One>(&event).1.contains("several columns"));
    assert_eq!(refused::<Three>(&event).0, Fault::Undecodable);
}

#[test]
fn a_key_may_be_of_a_type_of_this_crate() {
    probe!(OneDate, |change| change.key::<Date>()?);
    probe!(DateAndDecimal, |change| change.key::<(Date, Decimal<2>)>()?);
    assert_eq!(ask::<OneDate>(&event(json!({"day": 0}))), Ok(json!("1970-01-01")));
    assert_eq!(ask::<OneDate>(&event(json!(1))), Ok(json!("1970-01-02")));
    assert_eq!(ask::<DateAndDecimal>(&event(json!({"day": 0, "fee": "C+o="}))), Ok(json!(["1970-01-01", 30.5])));
}

#[test]
fn a_key_that_does_not_fit_shows_itself() {
    probe!(Number, |change| change.key::<i64>()?);
    let (fault, reason) = refused::<Number>(&event(json!({"id": "a"})));
    assert_eq!(fault, Fault::Undecodable);
    assert_eq!(reason, r#"the key {"id":"a"} as `i64`: invalid type: string "a", expected i64"#);
    let (fault, reason) = refused::<Number>(&event(json!(null)).without_key());
    assert_eq!(fault, Fault::NoKey);
    assert!(reason.contains("`orders`") && reason.contains("message.key.columns"));
}

#[row]
struct Order {
    id: i64,
    note: Option<String>,
    status: String,
}
probe!(ReadOrder, |change| change.row::<Order>()?);

fn order(row: Value) -> Event {
    Event::update("orders", json!({"id": 1}), row)
}

#[test]
fn a_row_is_read_by_its_columns_and_a_deleted_one_is_none() {
    let row = json!({"id": 1, "note": null, "status": "new", "other": [1]});
    assert_eq!(ask::<ReadOrder>(&order(row)), Ok(json!({"id": 1, "note": null, "status": "new"})));
    assert_eq!(ask::<ReadOrder>(&Event::delete("orders", json!({"id": 1}))), Ok(Value::Null));
}

#[test]
fn an_error_names_the_column_and_the_row_type() {
    let wrong_type = order(json!({"id": 1, "note": 5, "status": "new"}));
    assert_eq!(
        refused::<ReadOrder>(&wrong_type),
        (
            Fault::Undecodable,
            "column `note` of `Order`: invalid type: integer `5`, expected a string; decimals, dates, times, bytes and \
             JSON have types of their own in `tidegate_sdk::value`"
                .to_owned()
        )
    );
    let (_, null) = refused::<ReadOrder>(&order(json!({"id": 1, "note": null, "status": null})));
    assert!(null.starts_with("column `status` of `Order`: invalid type: null") && null.contains("`Option<…>`"));
}

#[test]
fn a_column_that_is_not_in_the_row_is_an_error_even_for_an_option() {
    for missing in ["note", "status", "id"] {
        let mut row = json!({"id": 1, "note": null, "status": "new"});
        row.as_object_mut().unwrap().remove(missing);
        let (fault, reason) = refused::<ReadOrder>(&order(row));
        assert_eq!(fault, Fault::Undecodable);
        assert!(
            reason.starts_with(&format!("column `{missing}` of `Order` is not in the row, which has `")),
            "{reason}"
        );
    }
}

#[test]
fn an_unsent_column_is_refused_by_every_type_but_a_column() {
    let event = order(json!({"id": 1, "status": "new"})).with_unsent(["note"]);
    let (fault, reason) = refused::<ReadOrder>(&event);
    assert_eq!(fault, Fault::Unsent);
    assert!(reason.starts_with("column `note` of `Order` was not sent") && reason.contains("`Column<…>`"), "{reason}");

    #[row]
    struct Large {
        id: i64,
        note: Column<Option<String>>,
    }
    probe!(ReadLarge, |change| {
        let row = change.row::<Large>()?.expect("a row");
        (row.id, row.note.is_sent(), row.note.sent().flatten())
    });
    assert_eq!(ask::<ReadLarge>(&event), Ok(json!([1, false, null])));
    assert_eq!(ask::<ReadLarge>(&order(json!({"id": 1, "note": null}))), Ok(json!([1, true, null])));
    assert_eq!(ask::<ReadLarge>(&order(json!({"id": 1, "note": "x"}))), Ok(json!([1, true, "x"])));
    assert!(refused::<ReadLarge>(&order(json!({"id": 1}))).1.contains("`note` of `Large` is not in the row"));
}

#[test]
fn an_unsent_column_is_refused_by_the_types_of_this_crate() {
    #[row]
    struct Typed {
        note: Option<Json>,
    }
    #[row]
    struct Decimals {
        note: Decimal<2>,
    }
    probe!(ReadTyped, |change| change.row::<Typed>()?);
    probe!(ReadDecimals, |change| change.row::<Decimals>()?);
    let event = order(json!({})).with_unsent(["note"]);
    assert_eq!(refused::<ReadTyped>(&event).0, Fault::Unsent);
    assert_eq!(refused::<ReadDecimals>(&event).0, Fault::Unsent);
}

#[test]
fn an_unsent_column_that_nobody_reads_does_not_matter() {
    let event = order(json!({"id": 1, "note": null, "status": "new"})).with_unsent(["receipt"]);
    assert!(ask::<ReadOrder>(&event).is_ok());
}

#[test]
fn the_row_before_is_a_claim_of_replica_identity_full() {
    probe!(Before, |change| change.before::<Order>()?.map(|order| order.status));
    let row = json!({"id": 1, "note": null, "status": "new"});
    let update = order(row.clone());
    assert_eq!(ask::<Before>(&update.clone().with_before(row)), Ok(json!("new")));
    let (fault, reason) = refused::<Before>(&update);
    assert_eq!(fault, Fault::NoBefore);
    assert!(reason.contains("ALTER TABLE orders REPLICA IDENTITY FULL"), "{reason}");
    assert_eq!(ask::<Before>(&Event::create("orders", json!(1), json!({}))), Ok(Value::Null));

    struct NotAsked;
    impl Probe for NotAsked {
        fn inputs() -> Inputs {
            Inputs::rows()
        }
        fn answer(change: &Change) -> Result<Value, Reject> {
            Before::answer(change)
        }
    }
    assert!(refused::<NotAsked>(&update.with_before(json!({}))).1.contains("`.with_before()`"));
}

#[test]
fn a_change_knows_where_it_comes_from() {
    probe!(Origin, |change| json!({
        "position": [change.topic(), change.partition(), change.offset()],
        "table": change.table(),
        "moved": change.moved::<i64>()?,
        "source": change.source::<Value>()?,
        "headers": change.headers().map(|(name, value)| (name, value.map(<[u8]>::len))).collect::<Vec<_>>(),
    }));
    let event = event(json!({"id": 1}))
        .with_moved(json!({"id": 2}))
        .with_source(json!({"lsn": 3}))
        .with_header("a", Some("xyz"))
        .with_header("a", None);
    let expected = json!({
        "position": ["test.public.orders", 0, 0],
        "table": "orders",
        "moved": 2,
        "source": {"lsn": 3},
        "headers": [["a", 3], ["a", null]],
    });
    assert_eq!(ask::<Origin>(&event), Ok(expected));
}

#[test]
fn only_the_columns_that_are_asked_for_are_passed() {
    struct Narrow;
    impl Probe for Narrow {
        fn inputs() -> Inputs {
            Inputs::rows().columns("orders", ["id"])
        }
        fn answer(change: &Change) -> Result<Value, Reject> {
            Ok(json!([change.row_text(), change.unsent()]))
        }
    }
    let event = order(json!({"id": 1, "status": "new"})).with_unsent(["note"]);
    assert_eq!(ask::<Narrow>(&event), Ok(json!([r#"{"id":1}"#, []])));
}

fn corpus(file: &str) -> Vec<Handled> {
    probe!(Row, |change| change.row::<serde_json::Map<String, Value>>()?);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(file);
    Tester::<Probing<Row>>::start(json!({})).unwrap().replay_file(path).unwrap()
}

fn operations(handled: &[Handled]) -> [usize; 4] {
    [Operation::Create, Operation::Read, Operation::Update, Operation::Delete]
        .map(|operation| handled.iter().filter(|one| one.event.operation() == operation).count())
}

#[test]
fn envelopes_with_schema_are_read() {
    let handled = corpus("cdc-cascade/cdc-cascade-postgres.public.sinners.jsonl");
    assert!(handled.iter().all(|one| one.answer.is_ok() && one.event.columns.is_some() && one.event.source.is_some()));
    assert!(operations(&handled).iter().all(|count| *count > 0));
    let moved =
        |operation| handled.iter().filter(move |one| one.event.operation == operation && one.event.moved.is_some());
    assert!(moved(Operation::Delete).count() > 0);
    assert_eq!(moved(Operation::Delete).count(), moved(Operation::Create).count());
}

#[test]
fn the_schema_decides_how_a_value_is_read() {
    #[row]
    struct Typed {
        c_num_10_2: Option<Decimal<2>>,
        c_numeric: Option<VariableDecimal>,
        c_ts3: Option<TimestampMicros>,
        c_num_arr: Option<Vec<Option<Decimal<3>>>>,
        c_date: Option<Date>,
    }
    #[row]
    struct Wrong {
        c_ts3: Date,
    }
    probe!(Read, |change| change.row::<Typed>()?);
    probe!(Misread, |change| change.row::<Wrong>()?);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/torture/schema_precise.public.all_types.jsonl");
    let line = std::fs::read_to_string(path).unwrap();
    let event = Event::recorded(line.split('\n').next().unwrap()).unwrap().unwrap();
    let expected = json!({
        "c_num_10_2": 30.5,
        "c_numeric": 3.14159,
        "c_ts3": "2024-06-01T12:34:56.789Z",
        "c_num_arr": [1.10, -2.25, null],
        "c_date": "2024-02-29",
    });
    assert_eq!(ask::<Read>(&event), Ok(expected));
    let (fault, reason) = refused::<Misread>(&event);
    assert_eq!(fault, Fault::Undecodable);
    assert!(reason.starts_with("column `c_ts3` of `Wrong`: ") && reason.contains("a timestamp in"), "{reason}");
}

#[test]
fn flattened_rows_lose_what_the_connector_added() {
    let handled = corpus("order-cache/dbserver1.public.orders.jsonl");
    assert!(operations(&handled).iter().all(|count| *count > 0));
    assert!(handled.iter().all(|one| one.event.row_text().is_none_or(|row| !row.contains("__"))));
    let unsent = |one: &&Handled| one.event.unsent == ["receipt"];
    assert!(handled.iter().filter(unsent).count() > 0);
    assert!(handled.iter().filter(unsent).all(|one| one.answer.as_ref().unwrap_err().fault() == Fault::Unsent));
}

#[test]
fn placeholders_are_recognised_in_every_type() {
    let handled = corpus("torture/bare_precise.public.toasted.jsonl");
    let most = handled.iter().max_by_key(|one| one.event.unsent.len()).unwrap();
    assert!(most.event.unsent.len() > 5, "{:?}", most.event.unsent);
    assert!(handled.iter().all(|one| !one.event.row_text().unwrap_or_default().contains("__debezium_unavailable")));
}

#[test]
fn records_that_are_no_change_of_a_row_are_passed_over() {
    for file in [
        "torture/__debezium-heartbeat.misc.jsonl",
        "torture/misc.transaction.jsonl",
        "torture/misc.message.jsonl",
        "torture/schema_precise.message.jsonl",
    ] {
        assert_eq!(corpus(file), [], "{file}");
    }
    for value in ["null", r#""null""#, r#""{\"schema\":null,\"payload\":null}""#] {
        let line = format!(r#"{{"topic":"t","partition":0,"offset":0,"key":"1","value":{value}}}"#);
        assert_eq!(Event::recorded(&line), Ok(None), "{value}");
    }
}

#[test]
fn a_line_that_is_no_record_is_an_error() {
    probe!(Nothing, |_change| Value::Null);
    let tester = Tester::<Probing<Nothing>>::start(json!({})).unwrap();
    let cut = r#"{"topic":"t","partition":0,"offset":0,"key":null,"value":"{\"op\":"}"#;
    let unknown = r#"{"topic":"t","partition":0,"offset":0,"key":null,"value":"{\"op\":\"x\",\"after\":{}}"}"#;
    assert!(tester.replay(&format!("\n{cut}")).unwrap_err().starts_with("line 2: the value: EOF"));
    assert_eq!(tester.replay(unknown).unwrap_err(), r#"line 1: the operation "x" is unknown"#);
    assert!(tester.replay_file("no such file").unwrap_err().starts_with("no such file: "));
}
