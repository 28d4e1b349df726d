//! Binary data, in each of the connectors' `binary.handling.mode`s.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::wire::{beginning, mismatch};
use crate::schema::{Kind, current};

/// Binary data: `bytea`, `blob`.
///
/// Under a schema of `bytes` it is base64. A string bears no mark of its encoding, with a schema or without, and much
/// text is valid in several: there `E` says which one it is, [`Base64`] where nothing else is stated. It serialises as
/// base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes<E = Base64> {
    bytes: Vec<u8>,
    encoding: PhantomData<E>,
}

/// Text of [`Bytes`] is base64: `binary.handling.mode` `bytes` or `base64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base64 {}

/// Text of [`Bytes`] is base64 of the alphabet for URLs: `binary.handling.mode` `base64-url-safe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base64UrlSafe {}

/// Text of [`Bytes`] is hexadecimal: `binary.handling.mode` `hex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hex {}

mod sealed {
    /// How text encodes bytes.
    pub trait Encoding {
        const NAME: &str;
        fn decode(text: &str) -> Option<Vec<u8>>;
    }
}
use sealed::Encoding;

impl Encoding for Base64 {
    const NAME: &str = "base64";
    fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }
}

impl Encoding for Base64UrlSafe {
    const NAME: &str = "URL-safe base64";
    fn decode(text: &str) -> Option<Vec<u8>> {
        URL_SAFE.decode(text).ok()
    }
}

impl Encoding for Hex {
    const NAME: &str = "hexadecimal digits";
    fn decode(text: &str) -> Option<Vec<u8>> {
        fn digit(byte: u8) -> Option<u8> {
            match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                b'A'..=b'F' => Some(byte - b'A' + 10),
                _ => None,
            }
        }
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        if rest.is_empty() { bytes } else { None }
    }
}

impl<E> Bytes<E> {
    /// The bytes themselves.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl<E> From<Vec<u8>> for Bytes<E> {
    fn from(bytes: Vec<u8>) -> Bytes<E> {
        Bytes { bytes, encoding: PhantomData }
    }
}

impl<E> Deref for Bytes<E> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<E> Serialize for Bytes<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.bytes))
    }
}

impl<'de, E: Encoding> Deserialize<'de> for Bytes<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes<E>, D::Error> {
        let bytes = match current() {
            Some(Kind::Bytes) => deserializer.deserialize_str(TextVisitor::<Base64>(PhantomData)),
            None | Some(Kind::Plain) => deserializer.deserialize_str(TextVisitor::<E>(PhantomData)),
            Some(other) => return Err(mismatch("bytes", other)),
        };
        bytes.map(Bytes::from)
    }
}

struct TextVisitor<E>(PhantomData<E>);

impl<E: Encoding> Visitor<'_> for TextVisitor<E> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes as {}", E::NAME)
    }

    fn visit_str<F: Error>(self, text: &str) -> Result<Vec<u8>, F> {
        E::decode(text)
            .ok_or_else(|| F::custom(format_args!("expected bytes as {}, found {:?}", E::NAME, beginning(text))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::schema::{ColumnType, with_type};

    #[test]
    fn every_mode_is_read_and_base64_is_written() {
        assert_eq!(&*serde_json::from_str::<Bytes>(r#""3q2+7w==""#).unwrap(), [0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(&*serde_json::from_str::<Bytes<Base64UrlSafe>>(r#""3q2-7w==""#).unwrap(), [0xde, 0xad, 0xbe, 0xef]);
        let hex: Bytes<Hex> = serde_json::from_str(r#""deadBEEF""#).unwrap();
        assert_eq!(serde_json::to_string(&hex).unwrap(), r#""3q2+7w==""#);
        assert!(serde_json::from_str::<Bytes>(r#""""#).unwrap().is_empty());
    }

    #[test]
    fn under_a_schema_of_bytes_it_is_base64() {
        let bytes = ColumnType::new("bytes", None, None, None);
        let decoded = with_type(Some(bytes), || serde_json::from_str::<Bytes<Hex>>(r#""AAAA""#).unwrap());
        assert_eq!(&*decoded, [0, 0, 0]);
    }

    #[test]
    fn what_is_not_of_the_encoding_is_named() {
        let error = |json: &str| serde_json::from_str::<Bytes<Hex>>(json).expect_err("it is refused").to_string();
        assert!(error(r#""abc""#).contains("expected bytes as hexadecimal digits, found \"abc\""));
        assert!(error(r#""zz""#).contains("expected bytes as hexadecimal digits, found \"zz\""));
        assert!(error("1").contains("expected bytes as hexadecimal digits"));
    }
}
