//! The quick reader against serde_json.
#![allow(clippy::unwrap_used)]
use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::column::Column;

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    row(text, Context::default()).ok()
}

#[derive(Deserialize, Debug, PartialEq)]
struct Mixed {
    text: String,
    whole: Option<i64>,
    small: i8,
    float: f64,
    flag: bool,
    list: Vec<Option<String>>,
    any: Value,
    column: Column<Option<String>>,
}

#[derive(Deserialize)]
struct Borrowed<'a> {
    #[serde(borrow)]
    plain: &'a str,
    #[serde(borrow)]
    escaped: Cow<'a, str>,
    #[serde(borrow)]
    raw: &'a RawValue,
}

#[test]
fn text_is_lent_and_what_has_escapes_is_not() {
    let text = r#"{"plain":"a","escaped":"a\nb","raw": {"x" : [1.50, "}\""]} }"#;
    let row: Borrowed<'_> = read(text).unwrap();
    assert_eq!((row.plain, &*row.escaped, row.raw.get()), ("a", "a\nb", r#"{"x" : [1.50, "}\""]}"#));
}

#[test]
fn numbers_beyond_a_word_are_those_of_serde_json() {
    for text in ["0", "-0", "-1", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1e2", "0.5"] {
        let object = format!(r#"{{"n":{text}}}"#);
        let read: BTreeMap<String, Value> = read(&object).unwrap();
        assert_eq!(read, serde_json::from_str(&object).unwrap(), "{text}");
    }
    assert!(read::<BTreeMap<String, i8>>(r#"{"n":128}"#).is_none());
}

#[test]
fn what_is_no_object_of_columns_is_left_alone() {
    for text in ["", "{", "[]", "null", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1 "b":2}"#, r#"{,"a":1}"#, r#"{"a":1}{"#] {
        assert!(read::<BTreeMap<String, Value>>(text).is_none(), "{text}");
    }
    for number in ["01", "-", "1.", "1x", "nul", "tru", "+1"] {
        assert!(read::<BTreeMap<String, Value>>(&format!(r#"{{"a":{number}}}"#)).is_none(), "{number}");
    }
}

#[test]
fn a_key_is_its_one_value_and_no_more() {
    assert_eq!(key::<String>(r#" {"id" : "a" } "#, None).unwrap(), "a");
    assert_eq!(key::<i64>("7", None).unwrap(), 7);
    assert!(key::<i64>(r#"{"id":1,"part":2}"#, None).is_err());
    assert!(key::<i64>("{}", None).is_err());
}

proptest! {
    #[test]
    fn a_row_is_what_serde_json_makes_of_it(
        (text, whole, small) in (any::<String>(), any::<Option<i64>>(), any::<i8>()),
        (float, flag) in (-1e9..1e9_f64, any::<bool>()),
        list in prop::collection::vec(any::<Option<String>>(), 0..3),
        pretty in any::<bool>(),
    ) {
        let any = json!({"a": [float, {"b": list}], "c": text});
        let row = json!({
            "more": any, "text": text, "whole": whole, "small": small, "float": float, "flag": flag, "list": list,
            "any": any, "column": whole.map(|number| number.to_string()),
        });
        let written = if pretty { serde_json::to_string_pretty(&row) } else { serde_json::to_string(&row) }.unwrap();
        prop_assert_eq!(read::<Mixed>(&written), Some(serde_json::from_str(&written).unwrap()));
    }

    #[test]
    fn text_of_any_kind_never_panics(text in "[-{}\\[\\]:,\"\\\\ 019.eanulté]{0,24}") {
        let _ = read::<BTreeMap<String, Value>>(&text);
        let _ = read::<Mixed>(&text);
        let _ = key::<String>(&text, None);
    }
}
