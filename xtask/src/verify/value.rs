//! Whether a store holds the value that a column had in the source.

use rusqlite::types::Value;

use super::decimal;
use super::instant::Instant;
use super::json::Json;

/// How a store writes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON: decimals are numbers, json columns are nested.
    Json,
    /// As a cell of a SQLite table: decimals are text that keeps every digit, or integers; json columns are text.
    Cell,
}

/// How two values of a column's type are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Decimal,
    Boolean,
    Timestamp,
    ZonedTimestamp,
    Json,
    Array,
    Text,
}

fn kind(of: &str) -> Kind {
    if of.ends_with("[]") {
        return Kind::Array;
    }
    match of.split('(').next().unwrap_or(of) {
        "smallint" | "integer" | "bigint" => Kind::Integer,
        "numeric" => Kind::Decimal,
        "boolean" => Kind::Boolean,
        "json" | "jsonb" => Kind::Json,
        "timestamp with time zone" => Kind::ZonedTimestamp,
        name if name.starts_with("timestamp") => {
            if of.ends_with("with time zone") {
                Kind::ZonedTimestamp
            } else {
                Kind::Timestamp
            }
        }
        _ => Kind::Text,
    }
}

/// Whether `found`, read from a store that writes in `form`, is the value `expected` of a column of type `of`, as
/// PostgreSQL writes it as JSON (or as an event brings it: of a timestamp the milliseconds since 1970).
///
/// Numbers are compared by value, times as instants, json as JSON, all else to the letter.
pub fn same(of: &str, expected: &Json, found: &Json, form: Form) -> bool {
    match (kind(of), form, expected, found) {
        (_, _, Json::Null, Json::Null) => true,
        (Kind::Integer | Kind::Decimal, _, Json::Number(expected), Json::Number(found))
        | (Kind::Decimal, Form::Cell, Json::Number(expected), Json::Text(found)) => decimal::same(expected, found),
        (Kind::Boolean, Form::Cell, Json::Bool(expected), Json::Number(found)) => {
            found == if *expected { "1" } else { "0" }
        }
        (Kind::Boolean, Form::Json, Json::Bool(expected), Json::Bool(found)) => expected == found,
        (Kind::Timestamp, _, Json::Text(expected), Json::Text(found)) => same_moment(expected, found, false),
        (Kind::Timestamp, _, Json::Number(expected), Json::Text(found)) => {
            let expected = expected.parse().ok().map(Instant::from_milliseconds);
            expected.zip(Instant::parse(found)).is_some_and(|(expected, found)| expected.same(found))
        }
        (Kind::ZonedTimestamp, _, Json::Text(expected), Json::Text(found)) => same_moment(expected, found, true),
        (Kind::Json, Form::Json, expected, found) => expected.same(found),
        (Kind::Json, Form::Cell, expected, Json::Text(found)) => {
            Json::parse(found).is_ok_and(|found| expected.same(&found))
        }
        (Kind::Array, Form::Json, Json::Array(expected), Json::Array(found)) => {
            let element = of.strip_suffix("[]").unwrap_or(of);
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| same(element, expected, found, form))
        }
        (Kind::Array, Form::Cell, Json::Array(_), Json::Text(found)) => {
            Json::parse(found).is_ok_and(|found| same(of, expected, &found, Form::Json))
        }
        (_, _, Json::Text(expected), Json::Text(found)) => expected == found,
        _ => false,
    }
}

/// Whether both are the same moment. The stored text of a zoned timestamp must say its offset.
fn same_moment(expected: &str, found: &str, zoned: bool) -> bool {
    match (Instant::parse(expected), Instant::parse(found)) {
        (Some(expected), Some(found)) => expected.same(found) && (!zoned || found.zoned),
        // `infinity`, and eras that the parser does not know.
        (None, None) => expected == found,
        _ => false,
    }
}

/// What a cell of a SQLite table holds. Floating-point numbers and blobs become objects, which equal no column of the
/// five systems: a number that went through a float has lost its digits, even where they look right.
pub(crate) fn cell(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(number) => Json::Number(number.to_string()),
        Value::Text(text) => Json::Text(text),
        Value::Real(number) => Json::Object(vec![("floating-point".to_owned(), Json::Number(number.to_string()))]),
        Value::Blob(bytes) => Json::Object(vec![("blob".to_owned(), Json::Number(bytes.len().to_string()))]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Form, cell, same};
    use crate::verify::json::Json;
    use rusqlite::types::Value;

    fn in_json(of: &str, expected: &str, found: &str) -> bool {
        same(of, &Json::parse(expected).unwrap(), &Json::parse(found).unwrap(), Form::Json)
    }

    fn in_cell(of: &str, expected: &str, found: Value) -> bool {
        same(of, &Json::parse(expected).unwrap(), &cell(found), Form::Cell)
    }

    #[test]
    fn a_decimal_is_a_number_in_json_and_text_in_a_cell() {
        assert!(in_json("numeric(10,2)", "1.50", "1.5"));
        assert!(!in_json("numeric(10,2)", "1.50", "\"1.50\""));
        assert!(in_cell("numeric(10,2)", "1.50", Value::Text("1.5".into())));
        assert!(!in_cell("numeric(10,2)", "1.50", Value::Text("1.51".into())));
        assert!(in_cell("numeric(10,2)", "2.00", Value::Integer(2)));
        assert!(!in_cell("numeric(10,2)", "1.50", Value::Real(1.5)));
    }

    #[test]
    fn integers_are_exact_beyond_what_a_float_holds() {
        assert!(in_cell("bigint", "9007199254740993", Value::Integer(9_007_199_254_740_993)));
        assert!(!in_cell("bigint", "9007199254740993", Value::Integer(9_007_199_254_740_992)));
        assert!(!in_json("bigint", "9007199254740993", "9007199254740993.0000001"));
    }

    #[test]
    fn times_are_instants_and_a_zoned_one_says_its_offset() {
        let source = "\"2025-11-22T02:39:05.5+00:00\"";
        assert!(in_json("timestamp with time zone", source, "\"2025-11-22T02:39:05.500000Z\""));
        assert!(!in_json("timestamp with time zone", source, "\"2025-11-22T02:39:05.5\""));
        assert!(!in_json("timestamp with time zone", source, "1763779145500"));
        let plain = "\"2026-12-17T00:18:14\"";
        assert!(in_json("timestamp(3) without time zone", plain, "\"2026-12-17T00:18:14.000Z\""));
        assert!(!in_json("timestamp(3) without time zone", plain, "\"2026-12-17T00:18:14.001Z\""));
        assert!(in_json("timestamp without time zone", "1717913907123", "\"2024-06-09T06:18:27.123Z\""));
        assert!(!in_json("timestamp without time zone", "1717913907123", "\"2024-06-09T06:18:27.124Z\""));
    }

    #[test]
    fn json_is_nested_in_json_and_text_in_a_cell() {
        assert!(in_json("jsonb", r#"{"a": 1.0, "b": 2}"#, r#"{"b":2,"a":1}"#));
        assert!(!in_json("jsonb", r#"{"a": 1}"#, r#""{\"a\": 1}""#));
        assert!(in_cell("jsonb", r#"{"a": 1}"#, Value::Text(r#"{"a":1}"#.into())));
    }

    #[test]
    fn arrays_are_compared_by_element() {
        assert!(in_json("text[]", r#"["re","tag"]"#, r#"["re","tag"]"#));
        assert!(!in_json("text[]", r#"["re","tag"]"#, r#"["tag","re"]"#));
        assert!(in_json("numeric(5,2)[]", "[1.50,null]", "[1.5,null]"));
    }

    #[test]
    fn null_is_null_alone_and_text_is_compared_to_the_letter() {
        assert!(in_json("text", "null", "null"));
        assert!(!in_json("text", "null", "\"null\""));
        assert!(!in_json("text", "\"\"", "null"));
        assert!(!in_json("text", "\"1.0\"", "\"1.00\""));
        assert!(in_cell("boolean", "true", Value::Integer(1)));
        assert!(!in_cell("boolean", "true", Value::Integer(0)));
    }
}
