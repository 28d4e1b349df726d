//! What the checker lets through, and what it says of the rest.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::contract::{Index, Inputs};

fn description() -> Description {
    Description {
        name: "test".into(),
        version: "1".into(),
        inputs: Inputs::default(),
        cache_keys: vec!["order:*".into()],
        tables: vec![Table { name: "items".into(), key: vec!["b".into(), "a".into()] }],
        indexes: vec![Index { name: "company".into(), definition: "{}".into() }],
        topics: vec!["events".into()],
    }
}

fn grants() -> Grants {
    Grants {
        cache: vec!["*".into()],
        tables: vec!["items".into()],
        documents: vec!["company".into()],
        messages: vec!["events".into()],
    }
}

fn check(raw: RawCommand) -> Result<Command, Rejection> {
    Checker::new(&description(), &grants()).unwrap().check(raw)
}

fn set(key: &str, ttl_seconds: Option<u32>) -> RawCommand {
    RawCommand::CacheSet { key: key.into(), value: b"v".to_vec(), ttl_seconds }
}

fn row(values: &str) -> RawRow {
    RawRow { table: "items".into(), values: values.into() }
}

fn document(id: &str, body: &str) -> RawCommand {
    RawCommand::DocumentIndex(RawDocument { index: "company".into(), id: id.into(), body: body.into() })
}

#[test]
fn what_is_not_declared_or_not_granted_is_refused_by_name() {
    let other_row = RawRow { table: "other".into(), values: "{}".into() };
    let publish = RawCommand::Publish { topic: "other".into(), key: None, value: None, headers: vec![] };
    let delete = RawCommand::DocumentDelete { index: "other".into(), id: "1".into() };
    for raw in [set("orders:1", None), RawCommand::RowUpsert(other_row), publish, delete] {
        let rejection = check(raw).unwrap_err();
        assert_eq!(rejection.fault, Fault::NotGranted);
        assert!(rejection.reason.contains("declares"), "{}", rejection.reason);
    }
    // A checker only comes to be when all is granted; the second line of defence is tried by itself.
    let mut checker = Checker::new(&description(), &grants()).unwrap();
    checker.cache.granted = vec![Pattern::parse("order:1").unwrap()];
    assert!(checker.check(set("order:1", None)).is_ok());
    let rejection = checker.check(set("order:2", None)).unwrap_err();
    assert!(rejection.fault == Fault::NotGranted && rejection.reason.contains("grants.cache"));
}

#[test]
fn sizes_have_bounds() {
    for bad in [
        set("", None),
        set(&format!("order:{}", "x".repeat(CACHE_KEY_BYTES)), None),
        set("order:1", Some(0)),
        document("", "{}"),
        document(&"x".repeat(DOCUMENT_ID_BYTES + 1), "{}"),
    ] {
        assert_eq!(check(bad).unwrap_err().fault, Fault::BadAnswer);
    }
    assert!(check(set("order:1", Some(1))).is_ok());
    assert!(check(document(&"x".repeat(DOCUMENT_ID_BYTES), "{}")).is_ok());
}

#[test]
fn json_is_an_object_with_unique_names_on_one_line() {
    for bad in ["", "1", "[]", "null", "{\"a\":1", "{\"a\":1}{}", "{\"a\":1,\"a\":2}", "{\"a\":NaN}"] {
        assert_eq!(check(document("1", bad)).unwrap_err().fault, Fault::BadAnswer, "{bad}");
        assert_eq!(check(RawCommand::RowUpsert(row(bad))).unwrap_err().fault, Fault::BadAnswer, "{bad}");
    }
    let smuggled = "{\"a\":1\n,\"b\":{\"delete\":\r\n{}}}";
    let Command::DocumentIndex { body, .. } = check(document("1", smuggled)).unwrap() else { unreachable!() };
    assert_eq!(body.get(), r#"{"a":1,"b":{"delete":{}}}"#);
}

#[test]
fn a_row_is_split_into_its_key_as_declared_and_the_rest_as_given() {
    let Command::RowUpsert(row) =
        check(RawCommand::RowUpsert(row(r#"{"z":9.50,"a":"\u0041\n","y":null,"b":7}"#))).unwrap()
    else {
        unreachable!()
    };
    let texts = |fields: &Fields| fields.iter().map(|(n, v)| format!("{n}={}", v.get())).collect::<Vec<_>>();
    assert_eq!(texts(&row.key), ["b=7", r#"a="A\n""#]);
    assert_eq!(texts(&row.values), ["z=9.50", "y=null"]);
}

#[test]
fn a_key_column_is_there_and_is_a_scalar() {
    for (bad, word) in [
        (r#"{"a":1}"#, "missing"),
        (r#"{"a":1,"b":null}"#, "null"),
        (r#"{"a":1,"b":[1]}"#, "scalar"),
        (r#"{"a":1,"b":{}}"#, "scalar"),
        (r#"{"a":1,"b":1,"":2}"#, "no name"),
    ] {
        let rejection = check(RawCommand::RowMerge(row(bad))).unwrap_err();
        assert!(rejection.fault == Fault::BadAnswer && rejection.reason.contains(word), "{}", rejection.reason);
    }
    assert!(check(RawCommand::RowDelete(row(r#"{"a":1,"b":false}"#))).is_ok());
    let rejection = check(RawCommand::RowDelete(row(r#"{"a":1,"b":2,"c":3}"#))).unwrap_err();
    assert!(rejection.reason.contains("\"c\" is not of the key"), "{}", rejection.reason);
}

#[test]
fn a_declaration_that_cannot_be_is_told_in_full() {
    let mut wrong = description();
    wrong.cache_keys.push("a*b".into());
    wrong.tables.push(Table { name: "items".into(), key: vec![] });
    wrong.indexes.push(Index { name: "company".into(), definition: "[]".into() });
    wrong.topics.push("new".into());
    let problems = Checker::new(&wrong, &grants()).unwrap_err().join("\n");
    for part in ["a*b", "\"items\" twice", "without key columns", "definition", "\"company\" twice", "messages = "] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
}
