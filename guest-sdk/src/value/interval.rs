//! A length of time, as months, days and a rest that cannot be turned into each other.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::calendar::{number, parse_fraction};
use super::precision::ParseTimeError;
use super::wire::{mismatch, unexpected};
use crate::schema::{Kind, Unit, current};

const NANOS_OF_SECOND: i128 = 1_000_000_000;

/// A length of time: `interval`.
///
/// On the wire it is a number of microseconds (nanoseconds, where the schema says so), in which a month counts
/// 365.25/12 days, or ISO-8601 text under `interval.handling.mode` `string`. Text keeps years, months and days apart
/// from hours; the number does not: the months that it was made of are lost, and it is all hours here.
///
/// `Display` and `Serialize` write ISO-8601: `P1Y2M3DT4H5M6.78S`, a sign before each part that is negative, `PT0S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    months: i64,
    days: i64,
    nanos: i128,
}

impl Interval {
    /// Months, twelve a year.
    pub fn months(self) -> i64 {
        self.months
    }

    /// Days beside the months.
    pub fn days(self) -> i64 {
        self.days
    }

    /// Nanoseconds beside the days.
    pub fn nanos(self) -> i128 {
        self.nanos
    }
}

/// `-5`, `+3` or `6`, and the fraction of seconds.
fn parse_part(text: &str) -> Option<(i128, u32)> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    // The sign holds for the fraction too: the whole is counted in nanoseconds.
    let nanos = parse_fraction(fraction)?;
    Some((sign * (i128::from(number(whole)?) * NANOS_OF_SECOND + i128::from(nanos)), nanos))
}

fn parse(text: &str) -> Option<Interval> {
    let mut interval = Interval { months: 0, days: 0, nanos: 0 };
    let mut rest = text.strip_prefix('P')?;
    let mut in_time = false;
    let mut units = "YMDHMS";
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T').filter(|time| !in_time && !time.is_empty()) {
            (in_time, rest, units) = (true, time, "HMS");
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let unit = rest[end..].chars().next()?;
        let (nanos, fraction) = parse_part(&rest[..end])?;
        if fraction != 0 && unit != 'S' {
            return None;
        }
        let count = i64::try_from(nanos / NANOS_OF_SECOND).ok()?;
        // Each unit once, in order.
        units = &units[units.find(unit)? + 1..];
        match (in_time, unit) {
            (false, 'Y') => interval.months += count * 12,
            (false, 'M') => interval.months += count,
            (false, 'D') => interval.days = count,
            (true, 'H') => interval.nanos += nanos * 3600,
            (true, 'M') => interval.nanos += nanos * 60,
            (true, 'S') => interval.nanos += nanos,
            _ => return None,
        }
        rest = &rest[end + 1..];
    }
    (text.len() > 1).then_some(interval)
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P")?;
        for (count, unit) in [(self.months / 12, 'Y'), (self.months % 12, 'M'), (self.days, 'D')] {
            if count != 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        if self.nanos == 0 {
            return if self.months == 0 && self.days == 0 { f.write_str("T0S") } else { Ok(()) };
        }
        f.write_str("T")?;
        let seconds = self.nanos / NANOS_OF_SECOND;
        for (count, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
            if count != 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        let (second, fraction) = (seconds % 60, (self.nanos % NANOS_OF_SECOND).unsigned_abs());
        let sign = if self.nanos < 0 { "-" } else { "" };
        match (second.unsigned_abs(), fraction) {
            (0, 0) => Ok(()),
            (second, 0) => write!(f, "{sign}{second}S"),
            (second, fraction) => write!(f, "{sign}{second}.{}S", format!("{fraction:09}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Interval {
    type Err = ParseTimeError;

    /// ISO-8601, each part with a sign of its own.
    fn from_str(text: &str) -> Result<Interval, ParseTimeError> {
        parse(text).ok_or_else(|| ParseTimeError::new("an ISO-8601 duration", text))
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
        let unit = match current() {
            None | Some(Kind::Plain | Kind::Interval) => Unit::Micros,
            Some(Kind::Duration(unit)) => unit,
            Some(other) => return Err(mismatch("an interval", other)),
        };
        deserializer.deserialize_any(IntervalVisitor { unit })
    }
}

struct IntervalVisitor {
    unit: Unit,
}

impl Visitor<'_> for IntervalVisitor {
    type Value = Interval;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an interval in {} or as ISO-8601 text", self.unit)
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Interval, E> {
        let nanos = i128::from(count) * (NANOS_OF_SECOND / i128::from(self.unit.per_second()));
        Ok(Interval { months: 0, days: 0, nanos })
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Interval, E> {
        match i64::try_from(count) {
            Ok(count) => self.visit_i64(count),
            Err(_) => Err(unexpected("an interval", format_args!("the number {count}"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Interval, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn stored(json: &str) -> String {
        serde_json::from_str::<Interval>(json).unwrap().to_string()
    }

    #[test]
    fn text_keeps_its_parts() {
        assert_eq!(stored(r#""P1Y2M3DT4H5M6.78S""#), "P1Y2M3DT4H5M6.78S");
        assert_eq!(stored(r#""P-1Y-2M3DT-4H-5M-6.789012S""#), "P-1Y-2M3DT-4H-5M-6.789012S");
        assert_eq!(stored(r#""P0Y0M0DT0H0M0S""#), "PT0S");
        assert_eq!(stored(r#""P100Y0M0DT0H0M0S""#), "P100Y");
    }

    #[test]
    fn a_number_is_hours() {
        assert_eq!(stored("37091106780000"), "PT10303H5M6.78S");
        assert_eq!(stored("-500000"), "PT-0.5S");
        assert_eq!(stored("0"), "PT0S");
    }

    #[test]
    fn what_is_no_interval_is_named() {
        for text in ["", "P", "PT", "1Y", "P1", "P1H", "PT1Y", "P1D2Y", "P1.5D", "P1Y1Y", "PT1ST1S", "P é"] {
            let error = serde_json::from_str::<Interval>(&format!("{text:?}")).expect_err("it is refused").to_string();
            assert!(error.contains("is not an ISO-8601 duration"), "{error}");
        }
        let error = serde_json::from_str::<Interval>("1.5").expect_err("it is refused").to_string();
        assert!(error.contains("expected an interval in microseconds"), "{error}");
    }
}
