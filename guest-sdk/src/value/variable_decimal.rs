//! A decimal number of any size whose scale is its own: exact digits, order, and the forms that carry their scale.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use num_bigint::{BigInt, Sign};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use super::wire::{Wire, beginning, mismatch, unexpected};
use crate::encode;
use crate::schema::{Kind, current};

/// More digits than any database's decimal has (PostgreSQL's `numeric` ends at 147,455), which bounds the work that
/// one value can cause.
const MAX_DIGITS: usize = 150_000;

/// A decimal that brings its scale along: a `numeric` without a declared scale, and every decimal under
/// `decimal.handling.mode` `string` or `double`.
///
/// Without a schema, text is taken for digits. A column with a declared scale under the mode `precise` is a
/// [`Decimal<SCALE>`](super::Decimal): its base64 does not tell the scale.
///
/// Decimals compare by value (1.5 equals 1.50), and NaN equals itself and is greater than all else, as in PostgreSQL.
/// `Display` writes plain digits with the scale kept, and so does `Serialize`, as a JSON number. NaN and the infinities
/// serialise as the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, for JSON has no such numbers.
#[derive(Clone, Debug)]
pub struct VariableDecimal(Number);

#[derive(Clone, Debug)]
enum Number {
    NegativeInfinity,
    /// unscaled × 10^-scale
    Finite {
        unscaled: Unscaled,
        scale: i32,
    },
    Infinity,
    NaN,
}

#[derive(Clone, Debug)]
enum Unscaled {
    Small(i128),
    Big(BigInt),
}

impl VariableDecimal {
    /// unscaled × 10^-scale.
    ///
    /// A scale beyond ±150,000 is an error.
    pub fn new(unscaled: i128, scale: i32) -> Result<VariableDecimal, DecimalError> {
        check_scale(scale)?;
        Ok(VariableDecimal(Number::Finite { unscaled: Unscaled::Small(unscaled), scale }))
    }

    /// Whether it is not a number.
    pub fn is_nan(&self) -> bool {
        matches!(self.0, Number::NaN)
    }

    /// Whether it is a number, and finite.
    pub fn is_finite(&self) -> bool {
        matches!(self.0, Number::Finite { .. })
    }

    /// Whether it is below zero. NaN is not.
    pub fn is_negative(&self) -> bool {
        match &self.0 {
            Number::NegativeInfinity => true,
            Number::Finite { unscaled: Unscaled::Small(unscaled), .. } => *unscaled < 0,
            Number::Finite { unscaled: Unscaled::Big(unscaled), .. } => unscaled.sign() == Sign::Minus,
            Number::Infinity | Number::NaN => false,
        }
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Number::Finite { unscaled: Unscaled::Small(0), .. })
    }

    /// The number of digits after the point; negative where digits before the point are missing. None for NaN and the
    /// infinities.
    pub fn scale(&self) -> Option<i32> {
        match self.0 {
            Number::Finite { scale, .. } => Some(scale),
            _ => None,
        }
    }

    /// The value × 10^scale, for exact arithmetic. None for NaN and the infinities, and beyond an `i128`.
    pub fn unscaled(&self) -> Option<i128> {
        match self.0 {
            Number::Finite { unscaled: Unscaled::Small(unscaled), .. } => Some(unscaled),
            _ => None,
        }
    }

    /// Base64 of the big-endian two's complement of the unscaled value.
    pub(super) fn from_base64(text: &str, scale: i32) -> Result<VariableDecimal, DecimalError> {
        check_scale(scale)?;
        let not_base64 = || DecimalError(format!("{:?} is not the base64 of a decimal", beginning(text)));
        // 24 characters are at most 18 bytes, of which 16 fit an i128.
        let mut buffer = [0; 18];
        let unscaled = if text.len() <= 24 {
            let length = STANDARD.decode_slice(text, &mut buffer).map_err(|_| not_base64())?;
            from_big_endian(&buffer[..length])
        } else if text.len() <= MAX_DIGITS / 2 {
            from_big_endian(&STANDARD.decode(text).map_err(|_| not_base64())?)
        } else {
            return Err(too_long());
        };
        let unscaled = unscaled.ok_or_else(not_base64)?;
        Ok(VariableDecimal(Number::Finite { unscaled, scale }))
    }

    /// `{"scale": …, "value": base64}`
    fn from_struct(json: &str) -> Result<VariableDecimal, DecimalError> {
        #[derive(serde::Deserialize)]
        struct VariableScaleDecimal {
            scale: i32,
            value: String,
        }
        let VariableScaleDecimal { scale, value } = serde_json::from_str(json)
            .map_err(|error| DecimalError(format!("{} is no VariableScaleDecimal: {error}", beginning(json))))?;
        VariableDecimal::from_base64(&value, scale)
    }

    /// Every form that says by itself what it means, and text as `text` reads it.
    pub(super) fn from_wire(
        wire: &Wire<'_>,
        text: impl FnOnce(&str) -> Result<VariableDecimal, DecimalError>,
    ) -> Result<VariableDecimal, DecimalError> {
        match wire {
            Wire::Text(content) => text(content),
            Wire::Number(digits) => digits.parse(),
            Wire::Other(json) if json.starts_with('{') => VariableDecimal::from_struct(json),
            Wire::Other(json) => Err(DecimalError(format!("expected a decimal, found {}", beginning(json)))),
        }
    }

    /// Decodes by the schema; `bare` reads text where there is none.
    pub(super) fn decode<'de, D: Deserializer<'de>>(
        deserializer: D,
        bare: impl FnOnce(&str) -> Result<VariableDecimal, DecimalError>,
    ) -> Result<VariableDecimal, D::Error> {
        let kind = current();
        let wire = Wire::read(deserializer)?;
        let value = match kind {
            Some(Kind::Decimal { scale: Some(scale) }) => {
                VariableDecimal::from_wire(&wire, |text| VariableDecimal::from_base64(text, scale))
            }
            Some(Kind::Decimal { scale: None }) => {
                return Err(unexpected("a scale in the schema of a Decimal", "none"));
            }
            // Under the mode `string` the schema says no more than that.
            Some(Kind::Plain | Kind::VariableScaleDecimal) => VariableDecimal::from_wire(&wire, str::parse),
            None => VariableDecimal::from_wire(&wire, bare),
            Some(other) => return Err(mismatch("a decimal", other)),
        };
        value.map_err(D::Error::custom)
    }
}

/// What is no decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecimalError(pub(super) String);

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecimalError {}

fn too_long() -> DecimalError {
    DecimalError(format!("a decimal of more than {MAX_DIGITS} digits"))
}

fn check_scale(scale: i32) -> Result<(), DecimalError> {
    if usize::try_from(scale.unsigned_abs()).is_ok_and(|scale| scale <= MAX_DIGITS) { Ok(()) } else { Err(too_long()) }
}

fn from_big_endian(bytes: &[u8]) -> Option<Unscaled> {
    let first = *bytes.first()?;
    if bytes.len() > 16 {
        return Some(Unscaled::from(BigInt::from_signed_bytes_be(bytes)));
    }
    let sign = if first >= 0x80 { -1 } else { 0 };
    Some(Unscaled::Small(bytes.iter().fold(sign, |value: i128, &byte| (value << 8) | i128::from(byte))))
}

impl From<BigInt> for Unscaled {
    /// Small where it fits, so that one value has one form.
    fn from(value: BigInt) -> Unscaled {
        i128::try_from(&value).map_or(Unscaled::Big(value), Unscaled::Small)
    }
}

impl Unscaled {
    fn to_big(&self) -> BigInt {
        match self {
            Unscaled::Small(small) => BigInt::from(*small),
            Unscaled::Big(big) => big.clone(),
        }
    }
}

impl FromStr for VariableDecimal {
    type Err = DecimalError;

    /// Plain digits (`-12.50`), an exponent (`1.0E-10`), and the three spellings of NaN and the infinities: those of
    /// the mode `string` (`NAN`, `POSITIVE_INFINITY`), of `double` and of PostgreSQL (`NaN`, `Infinity`).
    fn from_str(text: &str) -> Result<VariableDecimal, DecimalError> {
        Ok(VariableDecimal(match text {
            "NAN" | "NaN" => Number::NaN,
            "POSITIVE_INFINITY" | "Infinity" => Number::Infinity,
            "NEGATIVE_INFINITY" | "-Infinity" => Number::NegativeInfinity,
            _ => parse_finite(text)?,
        }))
    }
}

fn parse_finite(text: &str) -> Result<Number, DecimalError> {
    let no_decimal = || DecimalError(format!("{:?} is not a decimal number", beginning(text)));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| no_decimal())?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return Err(no_decimal()),
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(no_decimal());
    }
    if whole.len() + fraction.len() > MAX_DIGITS {
        return Err(too_long());
    }
    let scale =
        i32::try_from(fraction.len()).ok().and_then(|length| length.checked_sub(exponent)).ok_or_else(too_long)?;
    check_scale(scale)?;
    let small = whole
        .bytes()
        .chain(fraction.bytes())
        .try_fold(0_i128, |value, digit| value.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
    let unscaled = match small {
        Some(value) => Unscaled::Small(if negative { -value } else { value }),
        None => {
            let value: BigInt = format!("{whole}{fraction}").parse().map_err(|_| no_decimal())?;
            Unscaled::from(if negative { -value } else { value })
        }
    };
    Ok(Number::Finite { unscaled, scale })
}

impl fmt::Display for VariableDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Number::NegativeInfinity => f.write_str("-Infinity"),
            Number::Infinity => f.write_str("Infinity"),
            Number::NaN => f.write_str("NaN"),
            Number::Finite { unscaled: Unscaled::Small(value), scale } => {
                if *value < 0 {
                    f.write_str("-")?;
                }
                match u64::try_from(value.unsigned_abs()) {
                    // Mostly so: digits of 128 bits are dear in WebAssembly.
                    Ok(digits) => write_digits(f, itoa::Buffer::new().format(digits), *scale),
                    Err(_) => write_digits(f, itoa::Buffer::new().format(value.unsigned_abs()), *scale),
                }
            }
            Number::Finite { unscaled: Unscaled::Big(value), scale } => {
                if value.sign() == Sign::Minus {
                    f.write_str("-")?;
                }
                write_digits(f, &value.magnitude().to_string(), *scale)
            }
        }
    }
}

fn write_digits(f: &mut fmt::Formatter<'_>, digits: &str, scale: i32) -> fmt::Result {
    let places = usize::try_from(scale.unsigned_abs()).map_err(|_| fmt::Error)?;
    if scale <= 0 {
        f.write_str(digits)?;
        return if digits == "0" { Ok(()) } else { write_zeros(f, places) };
    }
    match digits.len().checked_sub(places) {
        Some(point) if point > 0 => write!(f, "{}.{}", &digits[..point], &digits[point..]),
        _ => {
            f.write_str("0.")?;
            write_zeros(f, places - digits.len())?;
            f.write_str(digits)
        }
    }
}

fn write_zeros(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    (0..count).try_for_each(|_| f.write_str("0"))
}

impl Ord for VariableDecimal {
    fn cmp(&self, other: &VariableDecimal) -> Ordering {
        fn rank(number: &Number) -> u8 {
            match number {
                Number::NegativeInfinity => 0,
                Number::Finite { .. } => 1,
                Number::Infinity => 2,
                Number::NaN => 3,
            }
        }
        match (&self.0, &other.0) {
            (
                Number::Finite { unscaled: left, scale: left_scale },
                Number::Finite { unscaled: right, scale: right_scale },
            ) => {
                if let (Unscaled::Small(left), Unscaled::Small(right)) = (left, right)
                    && (left_scale == right_scale || left.signum() != right.signum())
                {
                    return left.cmp(right);
                }
                let raised = |value: &Unscaled, by: u32| value.to_big() * BigInt::from(10).pow(by);
                // Scales are bounded, so their distance fits.
                let distance = left_scale.abs_diff(*right_scale);
                if left_scale < right_scale {
                    raised(left, distance).cmp(&right.to_big())
                } else {
                    left.to_big().cmp(&raised(right, distance))
                }
            }
            (left, right) => rank(left).cmp(&rank(right)),
        }
    }
}

impl PartialOrd for VariableDecimal {
    fn partial_cmp(&self, other: &VariableDecimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for VariableDecimal {
    fn eq(&self, other: &VariableDecimal) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for VariableDecimal {}

impl Serialize for VariableDecimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        if self.is_finite() { encode::json_text(&text, serializer) } else { serializer.serialize_str(&text) }
    }
}

impl<'de> Deserialize<'de> for VariableDecimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VariableDecimal, D::Error> {
        VariableDecimal::decode(deserializer, |text| {
            text.parse().map_err(|error: DecimalError| {
                DecimalError(format!(
                    "{error}; if it is base64, its scale is not known: state the type as Decimal<SCALE>, or let the \
                     records come with their schema"
                ))
            })
        })
    }
}
