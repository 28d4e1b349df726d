//! A floating-point number with the digits that the connector wrote.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::wire::{Wire, mismatch, unexpected};
use crate::schema::{Kind, current};

/// A floating-point number: `real`, `double precision`. It may be NaN or infinite, which an `f64` refuses to read.
///
/// The digits are those on the wire, and it serialises as a JSON number of the same digits. NaN and the infinities are
/// the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, on the wire and when serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Float(Box<str>);

impl Float {
    /// The nearest `f64`.
    pub fn to_f64(&self) -> f64 {
        // A JSON number, or one of the three words, which Rust reads too.
        self.0.parse().unwrap_or(f64::NAN)
    }

    fn is_word(text: &str) -> bool {
        matches!(text, "NaN" | "Infinity" | "-Infinity")
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if Float::is_word(&self.0) {
            return serializer.serialize_str(&self.0);
        }
        let number: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Float, D::Error> {
        match current() {
            None | Some(Kind::Plain) => {}
            Some(other) => return Err(mismatch("a floating-point number", other)),
        }
        match Wire::read(deserializer)? {
            Wire::Number(text) => Ok(Float(text.into())),
            Wire::Text(text) if Float::is_word(&text) => Ok(Float(text.into())),
            other => Err(unexpected("a number, \"NaN\", \"Infinity\" or \"-Infinity\"", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn digits_and_words_stay_as_they_are() {
        for json in ["1.5", "3.4028235E38", "-1.7976931348623157E308", "-0.0", "\"NaN\"", "\"-Infinity\""] {
            let float: Float = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&float).unwrap(), json);
        }
    }

    #[test]
    fn it_has_a_value() {
        let value = |json: &str| serde_json::from_str::<Float>(json).unwrap().to_f64();
        assert_eq!(value("-1.7976931348623157E308"), f64::MIN);
        assert_eq!(value("\"-Infinity\""), f64::NEG_INFINITY);
        assert!(value("\"NaN\"").is_nan());
    }

    #[test]
    fn what_is_no_number_is_named() {
        let error = serde_json::from_str::<Float>("\"nan\"").expect_err("it is refused").to_string();
        assert!(error.contains("expected a number") && error.contains("found the text \"nan\""), "{error}");
    }
}
