//! A decimal whose scale the author knows, and the rule by which bare text is told apart: digits or base64.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::variable_decimal::{DecimalError, VariableDecimal};
use super::wire::beginning;

/// A decimal of a declared scale: `numeric(10, 2)` is a `Decimal<2>`, `money` too.
///
/// It decodes every `decimal.handling.mode`. Where the records come with their schema, the schema's scale counts.
/// Without it, text may be base64 (`precise`) or digits (`string`), and `SCALE` tells them apart: digits of a column of
/// scale 2 always have a point, and base64 never has one. A column of scale 0 or less has no point: there `1234` is
/// both, which is an error. State `Decimal<0, Precise>` for base64, or [`VariableDecimal`] for digits.
///
/// It is a [`VariableDecimal`] in all else: order, `Display`, `Serialize`.
#[derive(Clone, Debug)]
pub struct Decimal<const SCALE: i32, E = Detected>(VariableDecimal, PhantomData<E>);

/// Text of a [`Decimal`] without a schema may be base64 or digits.
#[derive(Clone, Copy, Debug)]
pub enum Detected {}

/// Text of a [`Decimal`] without a schema is base64: `decimal.handling.mode` is `precise`.
#[derive(Clone, Copy, Debug)]
pub enum Precise {}

mod sealed {
    use super::{DecimalError, VariableDecimal};

    /// How text is read where there is no schema.
    pub trait Encoding {
        fn text(text: &str, scale: i32) -> Result<VariableDecimal, DecimalError>;
    }
}
use sealed::Encoding;

impl Encoding for Precise {
    fn text(text: &str, scale: i32) -> Result<VariableDecimal, DecimalError> {
        VariableDecimal::from_base64(text, scale)
    }
}

impl Encoding for Detected {
    fn text(text: &str, scale: i32) -> Result<VariableDecimal, DecimalError> {
        // Base64 has neither point nor minus, and the other spellings have an odd length.
        if text.contains(['.', '-', '_']) || !text.len().is_multiple_of(4) {
            return text.parse();
        }
        let base64 = VariableDecimal::from_base64(text, scale).map_err(|_| {
            DecimalError(format!("expected a decimal as base64 or digits, found {:?}", beginning(text)))
        })?;
        let certain = text != "Infinity" && (scale > 0 || !text.starts_with(|c: char| c.is_ascii_digit()));
        if certain {
            return Ok(base64);
        }
        let Ok(digits) = text.parse::<VariableDecimal>() else {
            return Ok(base64);
        };
        Err(DecimalError(format!(
            "{text:?} is ambiguous without a schema: as digits it is {digits}, as base64 {base64}; state the type as \
             Decimal<{scale}, Precise> for base64 or VariableDecimal for digits, or let the records come with their schema"
        )))
    }
}

impl<const SCALE: i32, E> Deref for Decimal<SCALE, E> {
    type Target = VariableDecimal;

    fn deref(&self) -> &VariableDecimal {
        &self.0
    }
}

impl<const SCALE: i32, E> From<VariableDecimal> for Decimal<SCALE, E> {
    /// Keeps the value and its own scale.
    fn from(value: VariableDecimal) -> Decimal<SCALE, E> {
        Decimal(value, PhantomData)
    }
}

impl<const SCALE: i32, E> FromStr for Decimal<SCALE, E> {
    type Err = DecimalError;

    /// As a [`VariableDecimal`] is parsed: digits, never base64.
    fn from_str(digits: &str) -> Result<Decimal<SCALE, E>, DecimalError> {
        digits.parse().map(VariableDecimal::into)
    }
}

impl<const SCALE: i32, E> fmt::Display for Decimal<SCALE, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const SCALE: i32, E> PartialEq for Decimal<SCALE, E> {
    fn eq(&self, other: &Decimal<SCALE, E>) -> bool {
        self.0 == other.0
    }
}

impl<const SCALE: i32, E> Eq for Decimal<SCALE, E> {}

impl<const SCALE: i32, E> Ord for Decimal<SCALE, E> {
    fn cmp(&self, other: &Decimal<SCALE, E>) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<const SCALE: i32, E> PartialOrd for Decimal<SCALE, E> {
    fn partial_cmp(&self, other: &Decimal<SCALE, E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const SCALE: i32, E> Serialize for Decimal<SCALE, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, const SCALE: i32, E: Encoding> Deserialize<'de> for Decimal<SCALE, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Decimal<SCALE, E>, D::Error> {
        VariableDecimal::decode(deserializer, |text| E::text(text, SCALE)).map(VariableDecimal::into)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use num_bigint::BigInt;
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::super::expect::error;
    use super::*;
    use crate::schema::{ColumnType, with_type};

    fn bare<T: DeserializeOwned + Serialize>(json: &str) -> String {
        serde_json::to_string(&serde_json::from_str::<T>(json).unwrap()).unwrap()
    }

    fn under<T: DeserializeOwned + Serialize>(scale: i32, json: &str) -> String {
        let of = ColumnType::new("bytes", Some("org.apache.kafka.connect.data.Decimal"), Some(scale), None);
        with_type(Some(of), || bare::<T>(json))
    }

    #[test]
    fn precise_is_base64_with_the_scale_of_the_author() {
        assert_eq!(bare::<Decimal<2>>(r#""C+o=""#), "30.50");
        assert_eq!(bare::<Decimal<10>>(r#""/w==""#), "-0.0000000001");
        assert_eq!(bare::<Decimal<2>>(r#""f/////////8=""#), "92233720368547758.07");
        assert_eq!(bare::<Decimal<-2>>(r#""AQ==""#), "100");
        assert_eq!(bare::<Decimal<-2>>(r#""AA==""#), "0");
    }

    #[test]
    fn the_scale_of_the_schema_outranks_that_of_the_author() {
        assert_eq!(under::<Decimal<0>>(2, r#""C+o=""#), "30.50");
        assert_eq!(under::<VariableDecimal>(2, r#""C+o=""#), "30.50");
        assert_eq!(under::<Decimal<0>>(0, r#""1234""#), "-2658824");
    }

    #[test]
    fn a_decimal_may_come_as_a_number_under_its_schema() {
        assert_eq!(under::<Decimal<2>>(2, "30.50"), "30.50");
    }

    #[test]
    fn string_and_double_keep_their_digits() {
        assert_eq!(bare::<Decimal<2>>(r#""1.50""#), "1.50");
        assert_eq!(bare::<Decimal<2>>("30.5"), "30.5");
        assert_eq!(bare::<Decimal<2>>("12345678901234567890123.45"), "12345678901234567890123.45");
        assert_eq!(bare::<VariableDecimal>("-1.0E-10"), "-0.00000000010");
        assert_eq!(bare::<VariableDecimal>("1.0E28"), "10000000000000000000000000000");
    }

    #[test]
    fn a_variable_scale_decimal_brings_its_scale() {
        assert_eq!(bare::<VariableDecimal>(r#"{"scale": 5, "value": "BMsv"}"#), "3.14159");
        let large = r#"{"scale": 9, "value": "ox8WWp/qATpVIFzXUcZ+6w=="}"#;
        assert_eq!(bare::<VariableDecimal>(large), "-123456789012345678901234567890.123456789");
    }

    #[test]
    fn nan_and_infinity_in_every_spelling_are_strings() {
        for json in [r#""NAN""#, r#""NaN""#] {
            assert_eq!(bare::<Decimal<2>>(json), r#""NaN""#);
        }
        for json in [r#""POSITIVE_INFINITY""#, r#""Infinity""#] {
            assert_eq!(bare::<VariableDecimal>(json), r#""Infinity""#);
        }
        assert_eq!(bare::<VariableDecimal>(r#""NEGATIVE_INFINITY""#), r#""-Infinity""#);
    }

    #[test]
    fn digits_of_a_scale_above_zero_have_a_point() {
        assert_eq!(bare::<Decimal<2>>(r#""1234""#), "-26588.24");
        assert_eq!(bare::<Decimal<2>>(r#""1E10""#), "-28637.56");
        assert_eq!(bare::<Decimal<2>>(r#""12.34""#), "12.34");
    }

    #[test]
    fn what_is_digits_and_base64_is_never_guessed() {
        let message = error::<Decimal<0>>(r#""1234""#);
        assert!(message.contains("as digits it is 1234, as base64 -2658824"), "{message}");
        assert!(message.contains("state the type as Decimal<0, Precise>"), "{message}");
        assert!(error::<Decimal<2>>(r#""Infinity""#).contains("ambiguous"));
        assert_eq!(bare::<Decimal<0, Precise>>(r#""1234""#), "-2658824");
        assert_eq!(bare::<VariableDecimal>(r#""1234""#), "1234");
        assert_eq!(bare::<Decimal<0>>(r#""12345""#), "12345");
        assert_eq!(bare::<Decimal<0>>(r#""MDk=""#), "12345");
    }

    #[test]
    fn base64_without_a_scale_is_refused_with_the_remedy() {
        let message = error::<VariableDecimal>(r#""C+o=""#);
        assert!(message.contains("state the type as Decimal<SCALE>"), "{message}");
    }

    #[test]
    fn what_is_no_decimal_is_named() {
        assert!(error::<Decimal<2>>("true").contains("expected a decimal, found true"));
        assert!(error::<Decimal<2>>(r#""""#).contains("expected a decimal"));
        assert!(error::<Decimal<2>>(r#""ab!=""#).contains("found \"ab!=\""));
        assert!(error::<Decimal<2>>(r#""abc""#).contains("\"abc\" is not a decimal number"));
        assert!(error::<Decimal<2>>("1e999999999").contains("more than 150000 digits"));
        for text in ["", "-", ".5", "1.", "1e", "--1", "0x1", "１"] {
            assert!(text.parse::<VariableDecimal>().is_err(), "{text}");
        }
        let of = ColumnType::new("int32", Some("io.debezium.time.Date"), None, None);
        let message = with_type(Some(of), || error::<Decimal<2>>("1"));
        assert!(message.contains("expected a decimal, but by its schema the column is a Date"), "{message}");
    }

    #[test]
    fn decimals_compare_by_value() {
        let ordered = ["-Infinity", "-1e40", "-1.5", "-0.1", "0.00", "0.1", "1.49", "1.5", "1e40", "Infinity", "NaN"];
        let numbers: Vec<VariableDecimal> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|left, right| left < right));
        assert_eq!("1.5".parse::<Decimal<2>>(), "1.50".parse());
        assert!(numbers[0].is_negative() && numbers[4].is_zero() && numbers[10].is_nan());
        assert_eq!((numbers[2].unscaled(), numbers[2].scale()), (Some(-15), Some(1)));
    }

    /// Plain digits from an integer, by the definition of a scale.
    fn plain(unscaled: &BigInt, scale: usize) -> String {
        let digits = format!("{:0>width$}", unscaled.magnitude().to_string(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if *unscaled < BigInt::from(0) { "-" } else { "" };
        if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    proptest! {
        #[test]
        fn base64_of_any_length_becomes_its_digits(bytes in prop::collection::vec(any::<u8>(), 1..40), scale in 0_i32..50) {
            let text = STANDARD.encode(&bytes);
            let decoded = VariableDecimal::from_base64(&text, scale).unwrap();
            let expected = plain(&BigInt::from_signed_bytes_be(&bytes), usize::try_from(scale).unwrap());
            prop_assert_eq!(decoded.to_string(), expected);
        }

        #[test]
        fn digits_survive(text in "-?[1-9][0-9]{0,60}(\\.[0-9]{1,60})?") {
            let decimal: VariableDecimal = text.parse().unwrap();
            prop_assert_eq!(&decimal.to_string(), &text);
            let json = serde_json::to_string(&decimal).unwrap();
            prop_assert_eq!(&json, &text);
            prop_assert_eq!(serde_json::from_str::<VariableDecimal>(&json).unwrap(), decimal);
        }

        #[test]
        fn order_is_that_of_the_numbers(a in any::<i64>(), b in any::<i64>(), s in 0_i32..20, t in 0_i32..20) {
            let wide = |value: i64, scale: i32| BigInt::from(value) * BigInt::from(10).pow(scale.unsigned_abs());
            let (left, right) = (VariableDecimal::new(a.into(), s).unwrap(), VariableDecimal::new(b.into(), t).unwrap());
            prop_assert_eq!(left.cmp(&right), wide(a, t).cmp(&wide(b, s)));
        }
    }
}
