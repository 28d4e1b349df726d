//! A JSON document in a column, and hstore, which is one too.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::wire::{Wire, beginning, mismatch};
use crate::encode;
use crate::schema::{Kind, current};
use crate::words;

/// A JSON document: `json`, `jsonb`.
///
/// On the wire it is text that holds JSON. It serialises as the JSON itself, nested, on one line; the digits of its
/// numbers and the keys that occur twice stay as they were. JSON that comes nested already is taken as it is; a string
/// is always taken for text that holds JSON. JSON's null, which is not SQL's, is `Some` in an `Option<Json>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(
    /// Valid JSON without white space between its tokens.
    Box<str>,
);

impl Json {
    /// The JSON text, without white space between its tokens.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the document into a type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        // What is in the document has no type in the batch's schema.
        crate::schema::with_type(None, || serde_json::from_str(&self.0))
    }
}

/// Takes out the white space between the tokens of valid JSON: line ends in the text of a `json` column would break
/// formats of one document a line.
fn minify(json: &str) -> Box<str> {
    if let Some(json) = words::compact(json) {
        return json.into_boxed_str();
    }
    let (mut in_text, mut escaped) = (false, false);
    let keeps = |c: &char| {
        if in_text {
            in_text = escaped || *c != '"';
            escaped = !escaped && *c == '\\';
            return true;
        }
        in_text = *c == '"';
        !matches!(c, ' ' | '\n' | '\r' | '\t')
    };
    json.chars().filter(keeps).collect()
}

impl std::str::FromStr for Json {
    type Err = serde_json::Error;

    /// Any JSON text.
    fn from_str(text: &str) -> Result<Json, serde_json::Error> {
        if let Some(json) = words::compact(text) {
            return Ok(Json(json.into_boxed_str()));
        }
        // Nested deeper than is checked there, or no JSON.
        let valid: &RawValue = serde_json::from_str(text)?;
        Ok(Json(minify(valid.get())))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        encode::json_text(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        match current() {
            None | Some(Kind::Json | Kind::Plain) => {}
            Some(other) => return Err(mismatch("JSON", other)),
        }
        match Wire::read(deserializer)? {
            Wire::Text(text) => text.parse().map_err(|error| {
                D::Error::custom(format_args!("expected text that holds JSON, found {:?}: {error}", beginning(&text)))
            }),
            Wire::Number(json) | Wire::Other(json) => Ok(Json(minify(&json))),
        }
    }
}

/// A map of text to text or null: `hstore`.
///
/// On the wire it is text that holds JSON, or an object under `hstore.handling.mode` `map`. It serialises as an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hstore(BTreeMap<String, Option<String>>);

impl Deref for Hstore {
    type Target = BTreeMap<String, Option<String>>;

    fn deref(&self) -> &BTreeMap<String, Option<String>> {
        &self.0
    }
}

impl DerefMut for Hstore {
    fn deref_mut(&mut self) -> &mut BTreeMap<String, Option<String>> {
        &mut self.0
    }
}

impl Serialize for Hstore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hstore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hstore, D::Error> {
        let document = Json::deserialize(deserializer)?;
        document.parse().map(Hstore).map_err(|error| {
            let found = beginning(document.as_str());
            D::Error::custom(format_args!("expected an object of text or null, found {found}: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn stored(json: &str) -> String {
        serde_json::to_string(&serde_json::from_str::<Json>(json).unwrap()).unwrap()
    }

    #[test]
    fn text_becomes_the_document_with_every_digit_and_key() {
        assert_eq!(stored(r#""{\"a\": 1,  \"a\": 2, \"b\":[1.50,null]}""#), r#"{"a":1,"a":2,"b":[1.50,null]}"#);
        assert_eq!(stored(r#""{\"b\": 12345678901234567890.123}""#), r#"{"b":12345678901234567890.123}"#);
        assert_eq!(stored(r#""\"str\"""#), r#""str""#);
    }

    #[test]
    fn a_document_is_one_line_and_its_text_is_untouched() {
        assert_eq!(stored(r#""{\n\t\"a \\\" b\" :\r\n [ \"c  d\\\\\" , 1 ]\n}""#), r#"{"a \" b":["c  d\\",1]}"#);
    }

    #[test]
    fn null_of_json_is_a_value_and_null_of_sql_is_none() {
        assert_eq!(serde_json::from_str::<Option<Json>>(r#""null""#).unwrap().unwrap().as_str(), "null");
        assert_eq!(serde_json::from_str::<Option<Json>>("null").unwrap(), None);
    }

    #[test]
    fn nested_json_is_taken_as_it_is() {
        assert_eq!(stored(r#"{"a": 1.50}"#), r#"{"a":1.50}"#);
    }

    #[test]
    fn a_document_can_be_read_into_a_type() {
        let document: Json = r#"{"a":[1,2]}"#.parse().unwrap();
        assert_eq!(document.parse::<BTreeMap<String, Vec<u8>>>().unwrap()["a"], [1, 2]);
    }

    #[test]
    fn hstore_is_text_or_a_map() {
        for json in [r#""{\"a\":\"1\",\"n\":null}""#, r#"{"a":"1","n":null}"#] {
            let map: Hstore = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&map).unwrap(), r#"{"a":"1","n":null}"#);
        }
    }

    #[test]
    fn what_is_no_json_is_named() {
        let error = serde_json::from_str::<Json>(r#""{a}""#).expect_err("it is refused").to_string();
        assert!(error.contains("expected text that holds JSON, found \"{a}\""), "{error}");
        let error = serde_json::from_str::<Hstore>(r#""[1]""#).expect_err("it is refused").to_string();
        assert!(error.contains("expected an object of text or null, found [1]"), "{error}");
    }
}
