//! What the checker lets through, and what it says of the rest.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::command::reserved::Spelling;
use crate::contract::{Index, Inputs};
use crate::source::Header;

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
        ..Grants::default()
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
        set(&format!("order:{}", "x".repeat(CACHE_KEY.most)), None),
        set("order:1", Some(0)),
        document("", "{}"),
        document(&"x".repeat(DOCUMENT_ID.most + 1), "{}"),
    ] {
        assert_eq!(check(bad).unwrap_err().fault, Fault::BadAnswer);
    }
    assert!(check(set("order:1", Some(1))).is_ok());
    assert!(check(document(&"x".repeat(DOCUMENT_ID.most), "{}")).is_ok());
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
fn names_have_bounds() {
    let long = "n".repeat(NAME.most + 1);
    let rejection = check(RawCommand::RowUpsert(row(&format!("{{\"a\":1,\"b\":1,\"{long}\":1}}")))).unwrap_err();
    assert!(rejection.fault == Fault::BadAnswer && rejection.reason.contains("no name"), "{}", rejection.reason);
    let longest = "n".repeat(NAME.most);
    assert!(check(RawCommand::RowUpsert(row(&format!("{{\"a\":1,\"b\":1,\"{longest}\":1}}")))).is_ok());

    let table = |name: &str, key: Vec<String>| vec![Table { name: name.into(), key }];
    let bad = [
        Description { name: long.clone(), ..description() },
        Description { name: "\u{1b}[2J".into(), ..description() },
        Description { version: long.clone(), ..description() },
        Description { cache_keys: vec!["k".repeat(CACHE_KEY.most + 1)], ..description() },
        Description { tables: table(&long, vec!["a".into()]), ..description() },
        Description { tables: table("t", vec![long.clone()]), ..description() },
        Description { tables: table("t", (0..33).map(|n| n.to_string()).collect()), ..description() },
        Description { indexes: vec![Index { name: long.clone(), definition: "{}".into() }], ..description() },
        Description { topics: vec![long.clone()], ..description() },
        Description { topics: (0..1_001).map(|n| n.to_string()).collect(), ..description() },
        Description { indexes: vec![Index { name: "i".into(), definition: " ".repeat(1 << 20) }], ..description() },
    ];
    let all = || vec!["*".to_owned()];
    let grants = Grants { cache: all(), tables: all(), documents: all(), messages: all(), ..Grants::default() };
    for description in bad {
        let problems = Checker::new(&description, &grants).unwrap_err();
        assert!(problems.len() == 1 && !problems[0].contains('\u{1b}'), "{problems:?}");
    }
}

#[test]
fn headers_of_the_host_are_refused_and_others_have_bounds() {
    let header = |name: &str| Header { name: name.into(), value: None };
    let publish =
        |headers: Vec<Header>| check(RawCommand::Publish { topic: "events".into(), key: None, value: None, headers });
    for own in ["tidegate.id", "tidegate.", "Tidegate.ID", "tidegate.error"] {
        let rejection = publish(vec![header("x"), header(own)]).unwrap_err();
        assert!(rejection.fault == Fault::NotGranted && rejection.reason.contains(own), "{}", rejection.reason);
    }
    assert!(publish(vec![header("tidegate"), header("x.tidegate.id"), header("")]).is_ok());
    assert!(publish(vec![header(&"é".repeat(127)); HEADERS.most]).is_ok());
    assert_eq!(publish(vec![header("x"); HEADERS.most + 1]).unwrap_err().fault, Fault::BadAnswer);
    assert_eq!(publish(vec![header(&"x".repeat(NAME.most + 1))]).unwrap_err().fault, Fault::BadAnswer);
}

#[test]
fn grant_of_everything_reaches_no_reserved_name() {
    let mut reserved = Reserved::new(Spelling::Exact);
    reserved.reserve("tidegate:", true, "the ledger's");
    let all = || vec!["*".to_owned()];
    let grants = Grants { cache: all(), reserved: [(Port::Cache, reserved)].into(), ..Grants::default() };
    let of = |cache_keys: &[&str]| Description {
        cache_keys: cache_keys.iter().map(ToString::to_string).collect(),
        tables: vec![],
        indexes: vec![],
        topics: vec![],
        ..description()
    };
    for declared in ["tidegate:*", "tidegate:x", "tidegate:p:*"] {
        let problems = Checker::new(&of(&[declared]), &grants).unwrap_err().join("; ");
        assert!(problems.contains("the ledger's") && problems.contains(declared), "{problems}");
    }
    let checker = Checker::new(&of(&["*"]), &grants).unwrap();
    assert!(checker.check(set("order:1", None)).is_ok());
    let rejection = checker.check(set("tidegate:p:ledger:s:t:0", None)).unwrap_err();
    assert!(rejection.fault == Fault::NotGranted && rejection.reason.contains("the ledger's"), "{}", rejection.reason);
}

#[test]
fn answer_is_charged_for_members_beside_its_text() {
    let checker = Checker::new(&description(), &grants()).unwrap();
    let fields = format!("{{{}}}", (0..100).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(","));
    let merge = RawCommand::CacheMerge { key: "order:1".into(), fields: fields.clone(), ttl_seconds: None };
    let rejection = checker.check_all(vec![merge.clone(); 2], 2 * fields.len() + 10_000).unwrap_err();
    assert!(rejection.fault == Fault::BadAnswer && rejection.reason.contains("max_answer_mb"), "{}", rejection.reason);
    assert_eq!(checker.check_all(vec![merge; 2], 30_000).unwrap().len(), 2);
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
