//! What the encoder writes, held against serde_json where both must agree.
#![allow(clippy::unwrap_used)]

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::to_json;
use crate::column::Column;

fn written<T: Serialize>(value: &T) -> (String, bool) {
    let mut out = Vec::new();
    let left_out = to_json(value, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), left_out)
}

fn refused<T: Serialize>(value: &T) -> String {
    to_json(value, &mut Vec::new()).unwrap_err().to_string()
}

#[derive(Serialize)]
enum Variant {
    Unit,
    Newtype(i32),
    Tuple(i32, &'static str),
    Struct { a: Option<()> },
}

#[test]
fn it_writes_what_serde_json_writes() {
    let values = (
        (i8::MIN, u64::MAX, i128::MIN, u128::MAX, -0.0, 1.5f32, 1e300, 0.1),
        (true, 'ß', "", "plain text of some length", Some(1), None::<i32>, ()),
        [Variant::Unit, Variant::Newtype(1), Variant::Tuple(2, "x"), Variant::Struct { a: None }],
        std::collections::BTreeMap::from([(1u8, vec![vec![0; 0]; 2]), (2, vec![vec![7]])]),
        json!({"nested": {"a": [1, 2.5, null, {}], "": []}}),
    );
    assert_eq!(written(&values).0, serde_json::to_string(&values).unwrap());
}

#[test]
fn every_character_is_escaped_as_serde_json_does_it_at_every_place_of_a_word() {
    for code in (0..0x180).chain([0x2028, 0xffff, 0x1_0000, 0x1f69a]) {
        let Some(character) = char::from_u32(code) else { continue };
        for before in 0..10 {
            let text = format!("{}{character}{}\u{1}", "a".repeat(before), "é\"".repeat(before));
            assert_eq!(written(&text).0, serde_json::to_string(&text).unwrap());
        }
    }
}

#[test]
fn text_that_is_json_already_is_written_as_it_is() {
    let raw = RawValue::from_string("12345678901234567890123.10".to_owned()).unwrap();
    assert_eq!(written(&[&raw, &raw]).0, "[12345678901234567890123.10,12345678901234567890123.10]");
}

#[derive(Serialize)]
struct Row {
    first: Column<i32>,
    id: i32,
    last: Column<Option<&'static str>>,
}

#[test]
fn an_unsent_column_is_left_out_of_the_row() {
    let row = Row { first: Column::Unsent, id: 7, last: Column::Unsent };
    assert_eq!(written(&row), (r#"{"id":7}"#.to_owned(), true));
    let row = Row { first: Column::Sent(1), id: 7, last: Column::Sent(None) };
    assert_eq!(written(&row), (r#"{"first":1,"id":7,"last":null}"#.to_owned(), false));
}

#[test]
fn an_unsent_column_is_left_out_of_an_ad_hoc_object_too() {
    let unsent: Column<String> = Column::Unsent;
    assert_eq!(written(&json!({"a": 1, "b": unsent, "c": 2})), (r#"{"a":1,"c":2}"#.to_owned(), true));
}

#[test]
fn an_unsent_column_elsewhere_is_refused() {
    let unsent: Column<String> = Column::Unsent;
    assert!(refused(&unsent).contains("no value by itself"));
    assert!(refused(&[&unsent]).contains("element of an array"));
    assert!(refused(&json!({"outer": {"inner": unsent}})).contains("\"inner\""));
    assert!(refused(&Some(Box::new(unsent))).contains("no value by itself"));
}

#[test]
fn what_json_cannot_say_is_refused() {
    assert_eq!(refused(&f64::NAN), "NaN is no JSON number");
    assert_eq!(refused(&f32::INFINITY), "inf is no JSON number");
    assert!(refused(&std::collections::BTreeMap::from([(true, 1)])).contains("must be text"));
    let value: Value = serde_json::from_str(&written(&json!({"a": "\u{0}not the sentinel"})).0).unwrap();
    assert_eq!(value, json!({"a": "\u{0}not the sentinel"}));
}
