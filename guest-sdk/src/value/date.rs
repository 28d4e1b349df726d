//! A date, in every form that the connectors give it.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::calendar::{Iso, parse_date};
use super::precision::ParseTimeError;
use super::wire::{mismatch, unexpected};
use crate::schema::{Kind, current};

const EXPECTED: &str = "a date as a number of days since 1970 or as ISO-8601 text";

/// A date without a time, or an infinity.
///
/// On the wire it is a number of days since 1970, or ISO-8601 text under `time.precision.mode` `isostring`. The numbers
/// that the PostgreSQL connector makes of ±infinity, one pair in a snapshot and another in the stream, are infinities
/// here. A date BC is wrong in a PostgreSQL snapshot, for the connector loses the era there: 0044-03-15 BC reads as
/// 0044-03-15 until the row changes.
///
/// `Display` and `Serialize` write ISO-8601: `2024-02-29`, `+21016-11-04`, `-0043-03-15` (44 BC), `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(Day);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Day {
    NegativeInfinity,
    /// Days since 1970.
    Of(i32),
    Infinity,
}

impl Date {
    /// Later than every date.
    pub const INFINITY: Date = Date(Day::Infinity);
    /// Earlier than every date.
    pub const NEGATIVE_INFINITY: Date = Date(Day::NegativeInfinity);

    /// A date by the number of days since 1970-01-01.
    pub fn from_days(days: i32) -> Date {
        Date(Day::Of(days))
    }

    /// Days since 1970-01-01; none for the infinities.
    pub fn days(self) -> Option<i32> {
        match self.0 {
            Day::Of(days) => Some(days),
            _ => None,
        }
    }

    /// What the connectors mean by a number: some are the infinities, which lie far outside of what PostgreSQL's dates
    /// span (4713 BC to AD 5874897).
    fn from_wire(days: i32) -> Date {
        Date(match days {
            // Streamed, in a snapshot.
            2_146_033_979 | -622_191_234 => Day::Infinity,
            -2_147_472_691 | -625_821_272 => Day::NegativeInfinity,
            _ => Day::Of(days),
        })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Day::NegativeInfinity => f.write_str("-infinity"),
            Day::Of(days) => {
                let mut iso = Iso::default();
                iso.date(days.into());
                f.write_str(iso.as_str())
            }
            Day::Infinity => f.write_str("infinity"),
        }
    }
}

impl FromStr for Date {
    type Err = ParseTimeError;

    /// ISO-8601, with or without an offset after it, or an infinity.
    fn from_str(text: &str) -> Result<Date, ParseTimeError> {
        Ok(Date(match text {
            "infinity" => Day::Infinity,
            "-infinity" => Day::NegativeInfinity,
            _ => parse_date(text.strip_suffix('Z').unwrap_or(text))
                .and_then(|day| i32::try_from(day).ok())
                .map(Day::Of)
                .ok_or_else(|| ParseTimeError::new("an ISO-8601 date", text))?,
        }))
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
        match current() {
            None | Some(Kind::Date | Kind::Plain) => deserializer.deserialize_any(DateVisitor),
            Some(other) => Err(mismatch("a date", other)),
        }
    }
}

struct DateVisitor;

impl Visitor<'_> for DateVisitor {
    type Value = Date;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_i64<E: Error>(self, days: i64) -> Result<Date, E> {
        i32::try_from(days).map(Date::from_wire).map_err(|_| unexpected(EXPECTED, format_args!("the number {days}")))
    }

    fn visit_u64<E: Error>(self, days: u64) -> Result<Date, E> {
        i32::try_from(days).map(Date::from_wire).map_err(|_| unexpected(EXPECTED, format_args!("the number {days}")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Date, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn stored(json: &str) -> String {
        serde_json::to_string(&serde_json::from_str::<Date>(json).unwrap()).unwrap()
    }

    #[test]
    fn days_become_iso_dates() {
        assert_eq!(stored("19782"), r#""2024-02-29""#);
        assert_eq!(stored("-719162"), r#""0001-01-01""#);
        assert_eq!(stored("-735160"), r#""-0043-03-15""#);
        assert_eq!(stored("6956467"), r#""+21016-02-29""#);
    }

    #[test]
    fn infinities_come_in_two_pairs() {
        assert_eq!((stored("2146033979"), stored("-622191234")), (r#""infinity""#.into(), r#""infinity""#.into()));
        assert_eq!((stored("-2147472691"), stored("-625821272")), (r#""-infinity""#.into(), r#""-infinity""#.into()));
        assert!(Date::NEGATIVE_INFINITY < Date::from_days(i32::MIN) && Date::from_days(i32::MAX) < Date::INFINITY);
    }

    #[test]
    fn iso_text_is_read_with_or_without_its_offset() {
        assert_eq!(stored(r#""2024-02-29Z""#), r#""2024-02-29""#);
        assert_eq!(stored(r#""2024-02-29""#), r#""2024-02-29""#);
    }

    #[test]
    fn what_is_no_date_is_named() {
        let error = |json: &str| serde_json::from_str::<Date>(json).expect_err("it is refused").to_string();
        assert!(error("1717245296789").contains("found the number 1717245296789"));
        assert!(error("1.5").contains("expected a date as a number of days"));
        assert!(error(r#""2023-02-29""#).contains("\"2023-02-29\" is not an ISO-8601 date"));
    }
}
