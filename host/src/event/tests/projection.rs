//! A transform gets the columns that it declared, and what else it asked for.

use super::*;
use crate::contract::Reads;

fn reads(table: &str, columns: &[&str]) -> Inputs {
    let columns = Some(columns.iter().map(|name| (*name).to_owned()).collect());
    Inputs { reads: vec![Reads { table: table.to_owned(), columns }], ..Inputs::default() }
}

fn after(projection: &mut Projection, row: &str) -> String {
    let record = record(row);
    let mut decoder = decoder(Format::Flattened);
    change(&mut decoder, &record).project(projection).after.unwrap().into_owned()
}

#[test]
fn columns_keep_their_order_and_text() {
    let row = r#"{"a": 1.50, "b":"x","c":[1, 2],"d":null}"#;
    assert_eq!(after(&mut Projection::new(&reads("things", &["d", "a"])), row), r#"{"a": 1.50,"d":null}"#);
    assert_eq!(after(&mut Projection::new(&reads("things", &["c", "b"])), row), r#"{"b":"x","c":[1, 2]}"#);
    assert_eq!(after(&mut Projection::new(&reads("things", &[])), row), "{}");
    assert_eq!(after(&mut Projection::new(&reads("things", &["missing"])), row), "{}");
}

#[test]
fn a_table_that_is_not_listed_is_passed_whole_and_as_it_is() {
    let record = record(r#"{ "a":1, "b":2 }"#);
    let mut decoder = decoder(Format::Flattened);
    let change = change(&mut decoder, &record);
    for inputs in [reads("others", &["a"]), reads("things", &["a", "b"])] {
        let after = change.project(&mut Projection::new(&inputs)).after;
        assert!(matches!(after, Some(Cow::Borrowed(r#"{ "a":1, "b":2 }"#))), "{after:?}");
    }
}

#[test]
fn columns_are_found_when_their_order_or_number_changes() {
    let mut projection = Projection::new(&reads("things", &["b", "d"]));
    assert_eq!(after(&mut projection, r#"{"a":1,"b":2,"c":3,"d":4}"#), r#"{"b":2,"d":4}"#);
    assert_eq!(after(&mut projection, r#"{"d":4,"c":3,"b":2,"a":1,"e":5}"#), r#"{"d":4,"b":2}"#);
    assert_eq!(after(&mut projection, r#"{"b":2}"#), r#"{"b":2}"#);
}

#[test]
fn an_escaped_name_is_the_same_column() {
    let mut projection = Projection::new(&reads("things", &["na\u{efb}me", "Mixed \"Case\""]));
    let row = r#"{"id":1,"na\u0EFBme":2,"Mixed \"Case\"":3}"#;
    assert_eq!(after(&mut projection, row), r#"{"na\u0EFBme":2,"Mixed \"Case\"":3}"#);
}

#[test]
fn an_added_field_between_two_columns_is_taken_out() {
    let mut projection = Projection::new(&everything());
    assert_eq!(after(&mut projection, r#"{"a":1,"__op":"c","b":2,"__deleted":"false"}"#), r#"{"a":1,"b":2}"#);
}

#[test]
fn the_same_table_listed_twice_means_all_the_columns_listed() {
    let mut inputs = reads("things", &["a"]);
    inputs.reads.extend(reads("things", &["c"]).reads);
    let row = r#"{"a":1,"b":2,"c":3}"#;
    assert_eq!(after(&mut Projection::new(&inputs), row), r#"{"a":1,"c":3}"#);
    inputs.reads.push(Reads { table: "things".into(), columns: None });
    assert_eq!(after(&mut Projection::new(&inputs), row), row);
}

#[test]
fn an_unsent_column_is_named_only_where_it_is_declared() {
    let path = "torture/misc.public.toast_rekey.jsonl";
    let record = recorded(path).into_iter().find(|record| record.offset == 3).unwrap();
    let mut decoder = decoder(Format::Envelope);
    let change = change(&mut decoder, &record);
    let projected = change.project(&mut Projection::new(&reads("toast_rekey", &["id", "t"])));
    assert_eq!((projected.after.as_deref(), projected.unsent), (Some(r#"{"id":2}"#), vec![Cow::Borrowed("t")]));
    let projected = change.project(&mut Projection::new(&reads("toast_rekey", &["n"])));
    assert_eq!((projected.after.as_deref(), projected.unsent), (Some(r#"{"n":0}"#), Vec::new()));
}
