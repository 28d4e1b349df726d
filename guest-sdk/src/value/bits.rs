//! A bit string.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::wire::{beginning, mismatch};
use crate::schema::{Kind, current};

/// A bit string of `LENGTH` bits: `bit(12)` is `Bits<12>`.
///
/// On the wire it is base64 of little-endian bytes without the zeros at its upper end, or a boolean for `bit(1)`. Of a
/// `bit varying(n)` the length of the value is not sent: as `Bits<n>` it has zeros in front that the source has not.
/// `Display` and `Serialize` write its digits, the highest first, as PostgreSQL does: `100000000011`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits<const LENGTH: usize>(
    /// Little-endian, without zeros at the end, none of the bits at or above `LENGTH`.
    Vec<u8>,
);

impl<const LENGTH: usize> Bits<LENGTH> {
    /// Whether a bit is set; the lowest is 0.
    pub fn get(&self, bit: usize) -> bool {
        self.0.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
}

impl<const LENGTH: usize> fmt::Display for Bits<LENGTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..LENGTH).rev().try_for_each(|bit| f.write_str(if self.get(bit) { "1" } else { "0" }))
    }
}

impl<const LENGTH: usize> Serialize for Bits<LENGTH> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const LENGTH: usize> Deserialize<'de> for Bits<LENGTH> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bits<LENGTH>, D::Error> {
        match current() {
            None | Some(Kind::Bits | Kind::Bytes | Kind::Plain) => deserializer.deserialize_any(BitsVisitor),
            Some(other) => Err(mismatch("bits", other)),
        }
    }
}

struct BitsVisitor<const LENGTH: usize>;

impl<const LENGTH: usize> Visitor<'_> for BitsVisitor<LENGTH> {
    type Value = Bits<LENGTH>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LENGTH} bits as base64")?;
        if LENGTH == 1 { f.write_str(" or a boolean") } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, bit: bool) -> Result<Bits<LENGTH>, E> {
        if LENGTH == 1 {
            Ok(Bits(if bit { vec![1] } else { Vec::new() }))
        } else {
            Err(E::invalid_type(serde::de::Unexpected::Bool(bit), &self))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bits<LENGTH>, E> {
        let mut bytes = STANDARD
            .decode(text)
            .map_err(|_| E::custom(format_args!("expected {LENGTH} bits as base64, found {:?}", beginning(text))))?;
        while bytes.pop_if(|byte| *byte == 0).is_some() {}
        let length = bytes.last().map_or(0, |last| bytes.len() * 8 - last.leading_zeros() as usize);
        if length > LENGTH {
            return Err(E::custom(format_args!("expected {LENGTH} bits, found {length} of them")));
        }
        Ok(Bits(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn stored<const LENGTH: usize>(json: &str) -> String {
        serde_json::from_str::<Bits<LENGTH>>(json).unwrap().to_string()
    }

    #[test]
    fn bytes_are_little_endian_and_digits_begin_with_the_highest() {
        assert_eq!(stored::<12>(r#""Awg=""#), "100000000011");
        assert_eq!(stored::<12>(r#""AAE=""#), "000100000000");
        assert_eq!(stored::<20>(r#""//8P""#), "11111111111111111111");
    }

    #[test]
    fn empty_text_is_all_zeros() {
        assert_eq!(stored::<8>(r#""""#), "00000000");
    }

    #[test]
    fn a_single_bit_is_a_boolean() {
        assert_eq!((stored::<1>("true"), stored::<1>("false")), ("1".into(), "0".into()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |json: &str| serde_json::from_str::<Bits<8>>(json).expect_err("it is refused").to_string();
        assert!(error(r#""AAE=""#).contains("expected 8 bits, found 9 of them"));
        assert!(error("true").contains("expected 8 bits as base64"));
        assert!(error(r#""!""#).contains("expected 8 bits as base64, found \"!\""));
    }
}
