//! A JSON value as SQLite stores it in a column without affinity.
//!
//! | JSON | SQLite |
//! |---|---|
//! | integer of 64 bits | INTEGER |
//! | any other number | TEXT, digit for digit: `9.50` stays `9.50` |
//! | string | TEXT |
//! | `true`, `false` | INTEGER 1, 0, as SQLite's own |
//! | `null` | NULL |
//! | object, array | TEXT, the JSON as it came |

use std::borrow::Cow;

use rusqlite::ToSql;
use rusqlite::types::{Null, ToSqlOutput};
use serde_json::value::RawValue;

/// A value to bind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
}

/// The value for a JSON text; an error for a string that is none.
pub(super) fn bind(value: &RawValue) -> Result<Bound<'_>, String> {
    let text = value.get();
    Ok(match text.as_bytes() {
        b"null" => Bound::Null,
        b"true" => Bound::Integer(1),
        b"false" => Bound::Integer(0),
        [b'"', plain @ .., b'"'] if memchr::memchr(b'\\', plain).is_none() => {
            Bound::Text(text.get(1..text.len() - 1).unwrap_or_default().into())
        }
        [b'"', ..] => Bound::Text(serde_json::from_str::<String>(text).map_err(|e| e.to_string())?.into()),
        // What i64 reads is an integer; fractions, exponents and larger ones keep their text.
        _ => text.parse().map_or_else(|_| Bound::Text(text.into()), Bound::Integer),
    })
}

/// Bytes as TEXT where they are UTF-8, else as BLOB.
pub(super) fn text_or_blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    use rusqlite::types::ValueRef;
    ToSqlOutput::Borrowed(match std::str::from_utf8(bytes) {
        Ok(text) => ValueRef::Text(text.as_bytes()),
        Err(_) => ValueRef::Blob(bytes),
    })
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Ok(Null.into()),
            Self::Integer(number) => Ok((*number).into()),
            Self::Text(text) => Ok(text.as_ref().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_stored_is_what_was_sent() {
        let text = |text: &str| Bound::Text(text.to_owned().into());
        for (json, stored) in [
            ("null", Bound::Null),
            ("true", Bound::Integer(1)),
            ("false", Bound::Integer(0)),
            ("-9223372036854775808", Bound::Integer(i64::MIN)),
            ("9007199254740993", Bound::Integer(9_007_199_254_740_993)),
            ("9223372036854775808", text("9223372036854775808")),
            ("9.50", text("9.50")),
            ("1e3", text("1e3")),
            ("-0.0", text("-0.0")),
            (r#""""#, text("")),
            (r#""12""#, text("12")),
            (r#""a\"b\u0041\ud83d\ude9a""#, text("a\"bA🚚")),
            (r#"{"a": [1]}"#, text(r#"{"a": [1]}"#)),
        ] {
            let raw = RawValue::from_string(json.into()).unwrap();
            assert_eq!(bind(&raw).unwrap(), stored, "{json}");
        }
    }
}
