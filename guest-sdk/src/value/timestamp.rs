//! An instant, in every precision and every form that the connectors give it.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::calendar::{Iso, SECONDS_OF_DAY, day, parse_date, parse_time, split_offset};
use super::precision::sealed::Precision;
use super::precision::{Micros, Millis, Nanos, ParseTimeError, Zoned};
use super::wire::{mismatch, unexpected};
use crate::schema::{Kind, Unit, current};

/// What the PostgreSQL connector makes of ±infinity in milliseconds (`time.precision.mode` `connect`).
const INFINITY_MILLIS: i64 = 9_223_372_036_825_200_000;
const NEGATIVE_INFINITY_MILLIS: i64 = -9_223_372_036_832_400_000;

/// What it makes of -infinity in an array of timestamptz.
const NEGATIVE_INFINITY_TEXT: &str = "+292269055-12-02T23:00:00.000000Z";

/// An instant in UTC to the nanosecond, or an infinity.
///
/// On the wire it is a number of units since 1970, or ISO-8601 text with an offset. Where the records come with their
/// schema it names the unit, and `U` does not matter; without it `U` says what a number counts: use the aliases
/// [`TimestampMillis`], [`TimestampMicros`], [`TimestampNanos`], and [`ZonedTimestamp`], which takes text alone.
///
/// A `timestamp` without time zone is taken for UTC, as Debezium does. The numbers that PostgreSQL's ±infinity becomes
/// on the wire are infinities here.
///
/// `Display` and `Serialize` write ISO-8601 in UTC: the fraction of the second ends with its last digit that is not
/// zero, and is left out where there is none; a year beyond four digits bears its sign; the year before 0001 is 0000.
/// `2024-06-01T12:34:56.78Z`, `+21016-11-04T17:51:30Z`, `infinity`, `-infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp<U>(Moment, PhantomData<U>);

/// A [`Timestamp`] that counts milliseconds: `timestamp(3)` and less, and all of `time.precision.mode` `connect`.
pub type TimestampMillis = Timestamp<Millis>;
/// A [`Timestamp`] that counts microseconds: PostgreSQL's `timestamp`.
pub type TimestampMicros = Timestamp<Micros>;
/// A [`Timestamp`] that counts nanoseconds.
pub type TimestampNanos = Timestamp<Nanos>;
/// A [`Timestamp`] as text: `timestamptz`.
pub type ZonedTimestamp = Timestamp<Zoned>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Moment {
    NegativeInfinity,
    At {
        /// Since 1970, rounded down.
        seconds: i64,
        nanos: u32,
    },
    Infinity,
}

impl<U> Timestamp<U> {
    /// Later than every instant.
    pub const INFINITY: Timestamp<U> = Timestamp(Moment::Infinity, PhantomData);
    /// Earlier than every instant.
    pub const NEGATIVE_INFINITY: Timestamp<U> = Timestamp(Moment::NegativeInfinity, PhantomData);

    /// An instant by the number of milliseconds since 1970.
    pub fn from_unix_millis(millis: i64) -> Timestamp<U> {
        Timestamp(at(millis, Unit::Millis), PhantomData)
    }

    /// Whether it is neither of the infinities.
    pub fn is_finite(self) -> bool {
        matches!(self.0, Moment::At { .. })
    }

    /// Milliseconds since 1970, rounded down; none for the infinities and beyond an `i64`.
    pub fn unix_millis(self) -> Option<i64> {
        i64::try_from(self.unix_nanos()?.div_euclid(1_000_000)).ok()
    }

    /// Nanoseconds since 1970; none for the infinities.
    pub fn unix_nanos(self) -> Option<i128> {
        match self.0 {
            Moment::At { seconds, nanos } => Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)),
            _ => None,
        }
    }
}

fn at(count: i64, unit: Unit) -> Moment {
    let per_second = unit.per_second();
    let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
    // A part of a second is less than 10^9.
    Moment::At { seconds: count.div_euclid(per_second), nanos: u32::try_from(nanos).unwrap_or_default() }
}

fn from_wire(count: i64, unit: Unit) -> Moment {
    match (count, unit) {
        (i64::MAX, _) | (INFINITY_MILLIS, Unit::Millis) => Moment::Infinity,
        (i64::MIN, _) | (NEGATIVE_INFINITY_MILLIS, Unit::Millis) => Moment::NegativeInfinity,
        _ => at(count, unit),
    }
}

impl Moment {
    /// What nearly all text is, read by its places: `2024-06-01T12:34:56Z`, or with six digits of the second.
    fn parse_usual(text: &str) -> Option<Moment> {
        let (clock, micros) = match text.as_bytes() {
            [clock @ .., b'Z'] if clock.len() == 19 => (clock, 0),
            [clock @ .., b'.', a, b, c, d, e, f, b'Z'] if clock.len() == 19 => {
                (clock, digits(&[*a, *b, *c])? * 1000 + digits(&[*d, *e, *f])?)
            }
            _ => return None,
        };
        let clock: &[u8; 19] = clock.try_into().ok()?;
        let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1] = *clock else {
            return None;
        };
        let (hour, minute, second) = (digits(&[h0, h1])?, digits(&[i0, i1])?, digits(&[s0, s1])?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let day =
            day(i64::from(digits(&[y0, y1, y2, y3])?), i64::from(digits(&[m0, m1])?), i64::from(digits(&[d0, d1])?))?;
        let seconds = day * SECONDS_OF_DAY + i64::from(hour * 3600 + minute * 60 + second);
        Some(Moment::At { seconds, nanos: micros * 1000 })
    }

    fn parse(text: &str) -> Option<Moment> {
        if let Some(moment) = Moment::parse_usual(text) {
            return Some(moment);
        }
        match text {
            "infinity" => return Some(Moment::Infinity),
            "-infinity" | NEGATIVE_INFINITY_TEXT => return Some(Moment::NegativeInfinity),
            _ => {}
        }
        let (date, time) = text.split_once('T')?;
        let (clock, offset) = split_offset(time)?;
        let (seconds, nanos) = parse_time(clock)?;
        Some(Moment::At { seconds: parse_date(date)? * SECONDS_OF_DAY + seconds - offset, nanos })
    }
}

/// A few digits as a number; none where something else is among them.
fn digits(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}

impl Moment {
    /// Hands its text to whoever writes it.
    fn with_text<R>(self, write: impl FnOnce(&str) -> R) -> R {
        match self {
            Moment::NegativeInfinity => write("-infinity"),
            Moment::Infinity => write("infinity"),
            Moment::At { seconds, nanos } => {
                let mut iso = Iso::default();
                iso.date(seconds.div_euclid(SECONDS_OF_DAY));
                iso.push(b'T');
                iso.time(seconds.rem_euclid(SECONDS_OF_DAY).unsigned_abs(), nanos);
                iso.push(b'Z');
                write(iso.as_str())
            }
        }
    }
}

impl<U> fmt::Display for Timestamp<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.with_text(|text| f.write_str(text))
    }
}

impl<U> FromStr for Timestamp<U> {
    type Err = ParseTimeError;

    /// ISO-8601 with an offset, or an infinity.
    fn from_str(text: &str) -> Result<Timestamp<U>, ParseTimeError> {
        let moment =
            Moment::parse(text).ok_or_else(|| ParseTimeError::new("an ISO-8601 timestamp with an offset", text))?;
        Ok(Timestamp(moment, PhantomData))
    }
}

impl<U> Serialize for Timestamp<U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de, U: Precision> Deserialize<'de> for Timestamp<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp<U>, D::Error> {
        let unit = match current() {
            None | Some(Kind::Plain) => U::UNIT.map(|unit| unit.0),
            Some(Kind::Timestamp(unit)) => Some(unit),
            Some(Kind::ZonedTimestamp) => None,
            Some(other) => return Err(mismatch("a timestamp", other)),
        };
        deserializer.deserialize_any(MomentVisitor { unit }).map(|moment| Timestamp(moment, PhantomData))
    }
}

struct MomentVisitor {
    /// None where only text has a meaning.
    unit: Option<Unit>,
}

impl Visitor<'_> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Some(unit) => write!(f, "a timestamp in {unit} since 1970 or as ISO-8601 text"),
            None => f.write_str("a timestamp as ISO-8601 text"),
        }
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Moment, E> {
        self.unit.map(|unit| from_wire(count, unit)).ok_or_else(|| {
            unexpected(
                "a timestamp as ISO-8601 text",
                format_args!(
                    "the number {count}, whose unit is not known: state the type as TimestampMillis, TimestampMicros \
                     or TimestampNanos, or let the records come with their schema"
                ),
            )
        })
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Moment, E> {
        match i64::try_from(count) {
            Ok(count) => self.visit_i64(count),
            Err(_) => Err(unexpected("a timestamp", format_args!("the number {count}"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        text.parse::<Timestamp<Zoned>>().map(|timestamp| timestamp.0).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::super::expect::{error, stored};
    use super::*;
    use crate::schema::{ColumnType, with_type};

    #[test]
    fn the_unit_is_that_of_the_type() {
        assert_eq!(stored::<TimestampMillis>("1717245296789"), "2024-06-01T12:34:56.789Z");
        assert_eq!(stored::<TimestampMicros>("1717245296789012"), "2024-06-01T12:34:56.789012Z");
        assert_eq!(stored::<TimestampNanos>("1717245296789012345"), "2024-06-01T12:34:56.789012345Z");
        assert_eq!(stored::<TimestampMicros>("-1"), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn the_unit_of_the_schema_outranks_that_of_the_type() {
        let micros = ColumnType::new("int64", Some("io.debezium.time.MicroTimestamp"), None, None);
        let array = ColumnType::new("array", None, None, Some(micros));
        with_type(Some(micros), || {
            assert_eq!(stored::<TimestampMillis>("1717245296789012"), "2024-06-01T12:34:56.789012Z");
            assert_eq!(stored::<ZonedTimestamp>("1717245296789012"), "2024-06-01T12:34:56.789012Z");
        });
        let elements = with_type(Some(array), || serde_json::from_str::<Vec<TimestampMillis>>("[-1000000]").unwrap());
        assert_eq!(elements[0].to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn infinity_comes_in_several_shapes() {
        for json in ["9223372036854775807", r#""infinity""#] {
            assert_eq!(stored::<TimestampMicros>(json), "infinity");
        }
        for json in ["-9223372036854775808", r#""-infinity""#, r#""+292269055-12-02T23:00:00.000000Z""#] {
            assert_eq!(stored::<TimestampMicros>(json), "-infinity");
        }
        assert_eq!(stored::<TimestampMillis>("9223372036825200000"), "infinity");
        assert_eq!(stored::<TimestampMillis>("-9223372036832400000"), "-infinity");
        assert_eq!(stored::<TimestampMicros>("9223372036825200000"), "+294247-01-10T04:00:25.2Z");
        assert!(TimestampMicros::NEGATIVE_INFINITY < TimestampMicros::from_unix_millis(i64::MIN));
    }

    #[test]
    fn text_with_an_offset_becomes_utc() {
        assert_eq!(stored::<ZonedTimestamp>(r#""2018-07-18T13:59:59.500+02:00""#), "2018-07-18T11:59:59.5Z");
        assert_eq!(stored::<ZonedTimestamp>(r#""+21016-11-04T17:51:30.000000Z""#), "+21016-11-04T17:51:30Z");
        assert_eq!(stored::<ZonedTimestamp>(r#""-4713-11-24T00:00:00.000Z""#), "-4713-11-24T00:00:00Z");
    }

    #[test]
    fn a_number_without_a_unit_is_never_guessed() {
        let message = error::<ZonedTimestamp>("1717245296789");
        assert!(message.contains("state the type as TimestampMillis, TimestampMicros"), "{message}");
    }

    #[test]
    fn what_is_no_timestamp_is_named() {
        assert!(error::<TimestampMillis>("1.5").contains("expected a timestamp in milliseconds since 1970"));
        assert!(error::<TimestampMillis>("18446744073709551615").contains("the number 18446744073709551615"));
        for text in ["2024-06-01T12:34:56", "2024-06-01", "2024-02-30T00:00:00Z", "T", "", "now", "-T00:00Z"] {
            let message = error::<ZonedTimestamp>(&format!("{text:?}"));
            assert!(message.contains("is not an ISO-8601 timestamp with an offset"), "{message}");
        }
        let time = ColumnType::new("int64", Some("io.debezium.time.MicroTime"), None, None);
        let message = with_type(Some(time), || error::<TimestampMicros>("0"));
        assert!(message.contains("by its schema the column is a time of day in microseconds"), "{message}");
    }

    proptest! {
        #[test]
        fn every_instant_survives_its_text(count in any::<i64>(), unit in 0..3) {
            let unit = [Unit::Millis, Unit::Micros, Unit::Nanos][usize::try_from(unit).unwrap()];
            let timestamp: Timestamp<Zoned> = Timestamp(at(count, unit), PhantomData);
            prop_assert_eq!(timestamp.to_string().parse(), Ok(timestamp));
            let expected = i128::from(count) * i128::from(1_000_000_000 / unit.per_second());
            prop_assert_eq!(timestamp.unix_nanos(), Some(expected));
        }

        #[test]
        fn text_that_is_cut_off_or_mixed_up_never_panics(text in "[-+0-9TZ:.é]{0,40}") {
            let _ = text.parse::<ZonedTimestamp>();
        }
    }
}
