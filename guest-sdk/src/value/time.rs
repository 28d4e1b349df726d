//! A time of day, in every precision and every form that the connectors give it.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::calendar::{Iso, SECONDS_OF_DAY, parse_time, split_offset};
use super::precision::sealed::Precision;
use super::precision::{Micros, Millis, Nanos, ParseTimeError, Zoned};
use super::wire::{mismatch, unexpected};
use crate::schema::{Kind, Unit, current};

const NANOS_OF_SECOND: i64 = 1_000_000_000;

/// MySQL's TIME spans ±838:59:59, the widest there is. A number beyond it was counted in another unit.
const LIMIT: i64 = 839 * 3600 * NANOS_OF_SECOND;

/// A time of day to the nanosecond. It may be 24:00, and of MySQL's TIME negative or more than a day.
///
/// On the wire it is a number of units since midnight, or ISO-8601 text. Where the records come with their schema it
/// names the unit, and `U` does not matter; without it `U` says what a number counts: use the aliases [`TimeMillis`],
/// [`TimeMicros`] and [`TimeNanos`]. [`ZonedTime`] is text with an offset, which Debezium shifts to UTC.
///
/// `Display` and `Serialize` write `12:34:56.78`, the fraction up to its last digit that is not zero, and `24:00:00`; a
/// [`ZonedTime`] ends in `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time<U> {
    nanos: i64,
    unit: PhantomData<U>,
}

/// A [`Time`] that counts milliseconds: `time(3)` and less, and all of `time.precision.mode` `connect`.
pub type TimeMillis = Time<Millis>;
/// A [`Time`] that counts microseconds: PostgreSQL's `time`.
pub type TimeMicros = Time<Micros>;
/// A [`Time`] that counts nanoseconds.
pub type TimeNanos = Time<Nanos>;
/// A [`Time`] in UTC: `timetz`.
pub type ZonedTime = Time<Zoned>;

impl<U> Time<U> {
    /// Nanoseconds since midnight.
    pub fn nanos(self) -> i64 {
        self.nanos
    }
}

fn parse(text: &str) -> Option<i64> {
    // A time without a zone has no offset, and under `isostring` the offset is Z.
    let (clock, offset) = split_offset(text).unwrap_or((text, 0));
    let (seconds, nanos) = parse_time(clock)?;
    let seconds = if offset == 0 { seconds } else { (seconds - offset).rem_euclid(SECONDS_OF_DAY) };
    Some(seconds * NANOS_OF_SECOND + i64::from(nanos))
}

impl<U: Precision> fmt::Display for Time<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut iso = Iso::default();
        if self.nanos < 0 {
            iso.push(b'-');
        }
        let nanos = self.nanos.unsigned_abs();
        let second = NANOS_OF_SECOND.unsigned_abs();
        // A part of a second is less than 10^9.
        iso.time(nanos / second, u32::try_from(nanos % second).unwrap_or_default());
        if U::UNIT.is_none() {
            iso.push(b'Z');
        }
        f.write_str(iso.as_str())
    }
}

impl<U> FromStr for Time<U> {
    type Err = ParseTimeError;

    /// `12:34:56.789`, with an offset or without.
    fn from_str(text: &str) -> Result<Time<U>, ParseTimeError> {
        let nanos = parse(text).ok_or_else(|| ParseTimeError::new("a time of day", text))?;
        Ok(Time { nanos, unit: PhantomData })
    }
}

impl<U: Precision> Serialize for Time<U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, U: Precision> Deserialize<'de> for Time<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time<U>, D::Error> {
        let unit = match (current(), U::UNIT) {
            (None | Some(Kind::Plain), unit) => unit.map(|unit| unit.0),
            (Some(Kind::Time(unit)), Some(_)) => Some(unit),
            (Some(Kind::ZonedTime), _) => None,
            (Some(other), Some(_)) => return Err(mismatch("a time of day", other)),
            (Some(other), None) => return Err(mismatch("a time of day with an offset", other)),
        };
        let nanos = deserializer.deserialize_any(TimeVisitor { unit })?;
        Ok(Time { nanos, unit: PhantomData })
    }
}

struct TimeVisitor {
    /// None where only text has a meaning.
    unit: Option<Unit>,
}

impl Visitor<'_> for TimeVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Some(unit) => write!(f, "a time of day in {unit} since midnight or as ISO-8601 text"),
            None => f.write_str("a time of day as ISO-8601 text"),
        }
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<i64, E> {
        let Some(unit) = self.unit else {
            return Err(unexpected(
                &self as &dyn serde::de::Expected,
                format_args!("the number {count}, whose unit is not known"),
            ));
        };
        let nanos = count.checked_mul(NANOS_OF_SECOND / unit.per_second());
        nanos.filter(|nanos| (-LIMIT..LIMIT).contains(nanos)).ok_or_else(|| {
            unexpected(
                format_args!("a time of day in {unit}"),
                format_args!("{count}, which is beyond any database's range: state the type of the right unit"),
            )
        })
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<i64, E> {
        match i64::try_from(count) {
            Ok(count) => self.visit_i64(count),
            Err(_) => Err(unexpected("a time of day", format_args!("the number {count}"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
        text.parse::<Time<Zoned>>().map(|time| time.nanos).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::expect::{error, stored};
    use super::*;
    use crate::schema::{ColumnType, with_type};

    #[test]
    fn the_unit_is_that_of_the_type_unless_the_schema_has_one() {
        assert_eq!(stored::<TimeMillis>("45296789"), "12:34:56.789");
        assert_eq!(stored::<TimeMicros>("45296789012"), "12:34:56.789012");
        assert_eq!(stored::<TimeNanos>("45296789012345"), "12:34:56.789012345");
        let micros = ColumnType::new("int64", Some("io.debezium.time.MicroTime"), None, None);
        assert_eq!(with_type(Some(micros), || stored::<TimeMillis>("45296789012")), "12:34:56.789012");
    }

    #[test]
    fn the_end_of_the_day_stays_the_end_of_the_day() {
        assert_eq!(stored::<TimeMillis>("86400000"), "24:00:00");
        assert_eq!(stored::<TimeMicros>("86400000000"), "24:00:00");
        assert_eq!(stored::<ZonedTime>(r#""24:00:00Z""#), "24:00:00Z");
        assert_eq!(stored::<TimeMicros>("0"), "00:00:00");
    }

    #[test]
    fn a_time_of_mysql_may_be_negative_or_long() {
        assert_eq!(stored::<TimeMicros>("-3020399000000"), "-838:59:59");
        assert_eq!(stored::<TimeMicros>("90000000000"), "25:00:00");
    }

    #[test]
    fn a_zoned_time_is_shifted_to_utc() {
        assert_eq!(stored::<ZonedTime>(r#""10:34:56.789012Z""#), "10:34:56.789012Z");
        assert_eq!(stored::<ZonedTime>(r#""00:30:00+02:00""#), "22:30:00Z");
        assert_eq!(stored::<TimeMicros>(r#""10:34:56Z""#), "10:34:56");
    }

    #[test]
    fn a_number_of_another_unit_is_noticed() {
        let message = error::<TimeMillis>("45296789012");
        assert!(message.contains("expected a time of day in milliseconds, found 45296789012"), "{message}");
        assert!(error::<ZonedTime>("45296789").contains("whose unit is not known"));
    }

    #[test]
    fn what_is_no_time_is_named() {
        assert!(error::<TimeMillis>("1.5").contains("expected a time of day in milliseconds since midnight"));
        assert!(error::<TimeMillis>(r#""25:00:00""#).contains("\"25:00:00\" is not a time of day"));
        let date = ColumnType::new("int32", Some("io.debezium.time.Date"), None, None);
        assert!(with_type(Some(date), || error::<TimeMillis>("0")).contains("by its schema the column is a Date"));
    }
}
