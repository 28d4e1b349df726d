//! One JSON value as the connector wrote it, for types whose meaning hangs on the exact digits or on the quotes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::encode::RAW;
use crate::schema::Kind;
use crate::words;

/// A JSON value.
pub(crate) enum Wire<'de> {
    /// Text, unescaped.
    Text(Cow<'de, str>),
    /// A number, as it was written.
    Number(Cow<'de, str>),
    /// Anything else, as JSON.
    Other(Cow<'de, str>),
}

impl Wire<'_> {
    /// Asks as `RawValue` does, which itself refuses values that serde has buffered for `#[serde(flatten)]`, where text
    /// and whole numbers can still be had.
    pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wire<'de>, D::Error> {
        deserializer.deserialize_newtype_struct(RAW, WireVisitor)
    }
}

impl fmt::Display for Wire<'_> {
    /// As an error names what it found: the beginning of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wire::Text(text) => write!(f, "the text {:?}", beginning(text)),
            Wire::Number(text) => write!(f, "the number {}", beginning(text)),
            Wire::Other(json) => f.write_str(beginning(json)),
        }
    }
}

/// What an error shows of a text.
pub(crate) fn beginning(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| &text[..end])
}

/// The error for a value that is not of the form that was expected.
pub(crate) fn unexpected<E: Error>(expected: impl fmt::Display, found: impl fmt::Display) -> E {
    E::custom(format_args!("expected {expected}, found {found}"))
}

/// The error for a type that cannot hold what the schema says the column is.
pub(crate) fn mismatch<E: Error>(expected: &str, kind: Kind) -> E {
    E::custom(format_args!("expected {expected}, but by its schema the column is {kind}"))
}

fn split<'de, E: Error>(json: Cow<'de, str>) -> Result<Wire<'de>, E> {
    match json.as_bytes() {
        [b'"', inner @ .., b'"'] if words::end_of_plain(inner, 0).is_none() => Ok(Wire::Text(match json {
            Cow::Borrowed(json) => Cow::Borrowed(&json[1..json.len() - 1]),
            Cow::Owned(json) => Cow::Owned(json[1..json.len() - 1].to_owned()),
        })),
        [b'"', .., b'"'] if let Some(text) = words::unescaped(&json[1..json.len() - 1]) => {
            Ok(Wire::Text(Cow::Owned(text)))
        }
        [b'"', ..] => serde_json::from_str(&json).map(|text| Wire::Text(Cow::Owned(text))).map_err(E::custom),
        [b'-' | b'0'..=b'9', ..] => Ok(Wire::Number(json)),
        _ => Ok(Wire::Other(json)),
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
        let is_raw = map.next_key::<Str<'de>>()?.is_some_and(|key| key.0 == RAW);
        if !is_raw {
            return Err(A::Error::custom(
                "an object inside a #[serde(flatten)] cannot be read: name the column in the row type itself",
            ));
        }
        let Str(json) = map.next_value()?;
        split(json)
    }

    // serde_json calls `visit_map` with the text. What follows is for values that serde has buffered.

    fn visit_newtype_struct<D: Deserializer<'de>>(self, buffered: D) -> Result<Wire<'de>, D::Error> {
        buffered.deserialize_any(self)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Wire<'de>, E> {
        Ok(Wire::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Wire<'de>, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Wire<'de>, E> {
        Ok(Wire::Text(Cow::Owned(text)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Wire<'de>, E> {
        Ok(Wire::Number(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Wire<'de>, E> {
        Ok(Wire::Number(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Wire<'de>, E> {
        Err(E::custom(
            "a number inside a #[serde(flatten)] has lost its digits: name the column in the row type itself",
        ))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Wire<'de>, E> {
        Ok(Wire::Other(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_unit<E: Error>(self) -> Result<Wire<'de>, E> {
        Ok(Wire::Other(Cow::Borrowed("null")))
    }
}

/// A string that is borrowed where it can be.
struct Str<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Str<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Str<'de>, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn read(json: &str) -> String {
        Wire::read(&mut serde_json::Deserializer::from_str(json)).unwrap().to_string()
    }

    #[test]
    fn a_number_keeps_its_digits() {
        assert_eq!(read("12345678901234567890.10"), "the number 12345678901234567890.10");
        assert_eq!(read("-1.0E-10"), "the number -1.0E-10");
    }

    #[test]
    fn text_is_unescaped() {
        assert_eq!(read(r#""C+o=""#), r#"the text "C+o=""#);
        assert_eq!(read(r#""a\u0041\/""#), r#"the text "aA/""#);
    }

    #[test]
    fn the_rest_is_json() {
        assert_eq!(read("null"), "null");
        assert_eq!(read(r#"{"a": 1.50}"#), r#"{"a": 1.50}"#);
    }

    #[test]
    fn text_is_borrowed_from_the_record() {
        let mut record = serde_json::Deserializer::from_str(r#""C+o=""#);
        assert!(matches!(Wire::read(&mut record), Ok(Wire::Text(Cow::Borrowed("C+o=")))));
    }

    #[derive(serde::Deserialize)]
    struct Flattened {
        #[serde(flatten)]
        inner: std::collections::BTreeMap<String, Owned>,
    }

    struct Owned(String);
    impl<'de> serde::Deserialize<'de> for Owned {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Owned, D::Error> {
            Wire::read(deserializer).map(|wire| Owned(wire.to_string()))
        }
    }

    #[test]
    fn under_flatten_text_and_whole_numbers_are_read_and_fractions_refused() {
        let row: Flattened = serde_json::from_str(r#"{"a":"x","b":-7,"c":9007199254740993}"#).unwrap();
        let values: Vec<&str> = row.inner.values().map(|value| value.0.as_str()).collect();
        assert_eq!(values, ["the text \"x\"", "the number -7", "the number 9007199254740993"]);
        let error = serde_json::from_str::<Flattened>(r#"{"a":1.10}"#).err().unwrap().to_string();
        assert!(error.contains("has lost its digits"), "{error}");
    }
}
