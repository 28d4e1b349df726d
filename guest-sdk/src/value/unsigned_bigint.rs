//! MySQL's unsigned 64-bit integer, which is wider than the connectors' default type for it.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::VariableDecimal;
use super::wire::{Wire, mismatch, unexpected};
use crate::schema::{Kind, current};

const EXPECTED: &str = "an unsigned 64-bit integer";

/// An integer from 0 to 2^64 - 1: `bigint unsigned`.
///
/// Under `bigint.unsigned.handling.mode` `long` numbers above 2^63 - 1 are negative on the wire, and come right again
/// here; under `precise` it is a decimal of scale 0, whose text is base64. It serialises as a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnsignedBigint(pub u64);

impl Serialize for UnsignedBigint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for UnsignedBigint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UnsignedBigint, D::Error> {
        match current() {
            None | Some(Kind::Plain | Kind::Decimal { scale: Some(0) }) => {}
            Some(other) => return Err(mismatch(EXPECTED, other)),
        }
        let wire = Wire::read(deserializer)?;
        let value = match &wire {
            Wire::Number(digits) => match digits.parse::<i64>() {
                Ok(long) => Some(long.cast_unsigned()),
                Err(_) => digits.parse().ok(),
            },
            Wire::Text(base64) => {
                VariableDecimal::from_base64(base64, 0).ok().and_then(|decimal| u64::try_from(decimal.unscaled()?).ok())
            }
            Wire::Other(_) => None,
        };
        value.map(UnsignedBigint).ok_or_else(|| unexpected(EXPECTED, wire))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn value(json: &str) -> u64 {
        serde_json::from_str::<UnsignedBigint>(json).unwrap().0
    }

    #[test]
    fn a_negative_long_is_a_large_number() {
        assert_eq!((value("0"), value("-1")), (0, u64::MAX));
        assert_eq!(value("-9223372036854775808"), 1 << 63);
        assert_eq!(value("18446744073709551615"), u64::MAX);
    }

    #[test]
    fn precise_is_base64() {
        assert_eq!(value(r#""AP//////////""#), u64::MAX);
    }

    #[test]
    fn what_is_no_such_integer_is_named() {
        for json in ["1.5", "18446744073709551616", r#""/w==""#, "true"] {
            let error = serde_json::from_str::<UnsignedBigint>(json).expect_err("it is refused").to_string();
            assert!(error.contains("expected an unsigned 64-bit integer, found"), "{error}");
        }
    }
}
