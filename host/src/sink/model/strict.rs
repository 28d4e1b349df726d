//! Targets that refuse values, as the model knows them, and random commands that they refuse now and then. The table:
//! `a` an integer below 100 and never null, `b` a date, `c` a text of up to 3 characters. The index: `a` an integer, `b` a
//! date, `c` a keyword, and no other field.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{id, in_order, key};
use crate::command::collapse::Tagged;
use crate::command::{Command, Fields, Row};

/// What makes the table strict in PostgreSQL.
pub(crate) const POSTGRES_TABLE: &str =
    "CREATE TABLE t (id text PRIMARY KEY, a int NOT NULL CHECK (a BETWEEN 0 AND 99), b date, c varchar(3))";

/// The columns of the same table in SQLite, whose sink has made the table.
pub(crate) const SQLITE_COLUMNS: [&str; 3] = [
    "a CHECK (typeof(a) = 'integer' AND a BETWEEN 0 AND 99)",
    "b CHECK (b IS NULL OR coalesce(date(b) = b, 0))",
    "c CHECK (c IS NULL OR (typeof(c) = 'text' AND length(c) <= 3))",
];

/// The index's definition.
pub(crate) const INDEX: &str = r#"{"mappings":{"dynamic":"strict","properties":{
    "a":{"type":"integer","coerce":false},"b":{"type":"date","format":"strict_date"},"c":{"type":"keyword"}}}}"#;

/// The longest term of an index.
const TERM_BYTES: usize = 32_766;

/// Why a strict target refuses a command.
pub(super) fn refusal(command: &Command) -> Option<String> {
    let (fields, taken): (&Fields, fn(&str, &str) -> bool) = match command {
        Command::RowUpsert(row) if !row.values.iter().any(|(name, _)| name == "a") => {
            return Some("a is missing".into());
        }
        Command::RowUpsert(row) | Command::RowMerge(row) => (&row.values, column_takes),
        Command::DocumentMerge { fields, .. } => (fields, field_takes),
        Command::DocumentIndex { body, .. } => {
            let fields = crate::command::json::parse_fields(body.get()).unwrap();
            return fields.iter().find_map(|(name, value)| refused(name, value.get(), field_takes));
        }
        _ => return None,
    };
    fields.iter().find_map(|(name, value)| refused(name, value.get(), taken))
}

fn refused(name: &str, value: &str, taken: fn(&str, &str) -> bool) -> Option<String> {
    (!taken(name, value)).then(|| format!("{name} is refused"))
}

fn column_takes(name: &str, value: &str) -> bool {
    match name {
        "a" => value.parse().is_ok_and(|number: i32| (0..100).contains(&number)),
        "b" => value == "null" || DATES.contains(&value),
        _ => value == "null" || value.len() <= 3 + 2,
    }
}

fn field_takes(name: &str, value: &str) -> bool {
    match name {
        "a" => value == "null" || value.parse::<i32>().is_ok(),
        "b" => value == "null" || DATES.contains(&value),
        "c" => value.len() <= TERM_BYTES + 2,
        _ => false,
    }
}

const DATES: [&str; 2] = ["\"2024-02-29\"", "\"1999-12-31\""];

/// Random events of up to `parts` commands on few targets, at offsets with gaps.
pub(crate) fn strict_events(most: usize, parts: usize) -> impl Strategy<Value = Vec<Vec<Tagged>>> {
    in_order(command(), most, parts)
}

/// Random events of rows that hang on others: those of `child` name one of `t` as their `parent`.
pub(crate) fn family_events(most: usize) -> impl Strategy<Value = Vec<Vec<Tagged>>> {
    let table = || prop::sample::select(vec!["t", "child"]);
    let row = |of_ten: u32| {
        let parent = value(&["1", "2", "null"], &["1"]);
        let columns = (columns(of_ten), members(vec![("parent", 6, parent)]));
        (table(), key(), columns).prop_map(|(table, key, (mut values, parent))| {
            values.extend(parent.into_iter().filter(|_| table == "child"));
            Row { table: table.into(), key: id(key), values }
        })
    };
    let delete = (table(), key())
        .prop_map(|(table, key)| Command::RowDelete(Row { table: table.into(), key: id(key), values: vec![] }));
    let command =
        prop_oneof![3 => row(9).prop_map(Command::RowUpsert), 2 => row(4).prop_map(Command::RowMerge), 2 => delete];
    in_order(command, most, 3)
}

fn command() -> impl Strategy<Value = Command> {
    let row = |values: BoxedStrategy<Fields>| {
        (key(), values).prop_map(|(key, values)| Row { table: "t".into(), key: id(key), values })
    };
    prop_oneof![
        3 => row(columns(9)).prop_map(Command::RowUpsert),
        2 => row(columns(4)).prop_map(Command::RowMerge),
        1 => row(Just(vec![]).boxed()).prop_map(Command::RowDelete),
        3 => (key(), fields()).prop_map(|(id, fields)| Command::DocumentIndex {
            index: "i".into(),
            id: id.into(),
            body: RawValue::from_string(crate::command::json::write_object(&fields)).unwrap(),
        }),
        2 => (key(), fields())
            .prop_map(|(id, fields)| Command::DocumentMerge { index: "i".into(), id: id.into(), fields }),
        1 => key().prop_map(|id| Command::DocumentDelete { index: "i".into(), id: id.into() }),
    ]
}

/// The columns of a row, `a` in so many of ten.
fn columns(of_ten: u32) -> BoxedStrategy<Fields> {
    let a = value(&["1", "2", "99"], &["100", "null", "\"s\"", "18446744073709551616", "9.50"]);
    members(vec![
        ("a", of_ten, a),
        ("b", 5, value(&[DATES[0], DATES[1], "null"], &["\"2023-02-30\"", "\"x\""])),
        ("c", 5, value(&["\"abc\"", "\"\"", "null"], &["\"abcd\""])),
    ])
}

fn fields() -> BoxedStrategy<Fields> {
    let long = format!("\"{}\"", "x".repeat(TERM_BYTES + 1));
    members(vec![
        ("a", 5, value(&["1", "2", "null"], &["\"s\"", "18446744073709551616", "9.50"])),
        ("b", 5, value(&[DATES[0], DATES[1], "null"], &["\"x\""])),
        ("c", 4, value(&["\"abc\"", "\"\"", "null"], &[&long])),
        ("d", 1, Just("1".to_owned()).boxed()),
    ])
}

/// One of the good values, or now and then a bad one.
fn value(good: &[&str], bad: &[&str]) -> BoxedStrategy<String> {
    let some =
        |values: &[&str]| prop::sample::select(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
    prop_oneof![9 => some(good), 1 => some(bad)].boxed()
}

/// Each member in so many of ten.
fn members(each: Vec<(&'static str, u32, BoxedStrategy<String>)>) -> BoxedStrategy<Fields> {
    let some: Vec<_> = each
        .into_iter()
        .map(|(name, of_ten, value)| {
            (prop::bool::weighted(f64::from(of_ten) / 10.0), value)
                .prop_map(move |(is, value)| is.then(|| (name.to_owned(), RawValue::from_string(value).unwrap())))
        })
        .collect();
    some.prop_map(|members| members.into_iter().flatten().collect()).boxed()
}
