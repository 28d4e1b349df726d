//! The proleptic Gregorian calendar, as ISO-8601 and Java count it: days since 1970 to dates and back, and the text of
//! both. Year 0 is 1 BC.

const DAYS_OF_400_YEARS: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01. A year that begins in March has its leap day at the end.
const EPOCH: i64 = 719_468;

/// Beyond these no arithmetic below overflows, and no connector goes: 2^63 milliseconds are 292 million years.
const MAX_YEAR: i64 = 999_999_999;

pub(super) const SECONDS_OF_DAY: i64 = 86_400;

/// Year, month, day of a day since 1970.
pub(super) fn civil(day: i64) -> (i64, u32, u32) {
    let day = day + EPOCH;
    let era = day.div_euclid(DAYS_OF_400_YEARS);
    // 32 bits from here on: WebAssembly divides them by constants at the price of a multiplication.
    let of_era = u32::try_from(day.rem_euclid(DAYS_OF_400_YEARS)).unwrap_or_default();
    // The year loses the leap days that came before: one in 4 years, but for one in 100, and one in 400.
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March on are 31, 30, 31, 30, 31 days long, and again: 153 days in five.
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let after_december = month >= 10;
    let month = if after_december { month - 9 } else { month + 3 };
    (era * 400 + i64::from(year) + i64::from(after_december), month, date)
}

/// The day since 1970 of a date, if there is such a date.
pub(super) fn day(year: i64, month: i64, date: i64) -> Option<i64> {
    if !(-MAX_YEAR..=MAX_YEAR).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&date) {
        return None;
    }
    let leap = || year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if date > 28 && date > if month == 2 { 28 + i64::from(leap()) } else { 30 + ((month + month / 8) & 1) } {
        return None;
    }
    let (from_march, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (from_march.div_euclid(400), from_march.rem_euclid(400));
    let of_year = (153 * month_from_march + 2) / 5 + date - 1;
    Some(era * DAYS_OF_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH)
}

/// ISO-8601 text in the making. It holds the longest there is: the year of 2^63 seconds has twelve digits.
pub(super) struct Iso {
    bytes: [u8; 48],
    length: usize,
}

impl Default for Iso {
    fn default() -> Iso {
        Iso { bytes: [0; 48], length: 0 }
    }
}

impl Iso {
    /// A date; a year beyond four digits bears its sign, as ISO-8601 demands.
    pub(super) fn date(&mut self, day: i64) {
        let (year, month, date) = civil(day);
        if year < 0 {
            self.push(b'-');
        } else if year > 9999 {
            self.push(b'+');
        }
        match u32::try_from(year.unsigned_abs()) {
            Ok(year @ 0..=9999) => self.digits(year, 4),
            _ => self.long_year(year.unsigned_abs()),
        }
        self.push(b'-');
        self.digits(month, 2);
        self.push(b'-');
        self.digits(date, 2);
    }

    /// Hours, minutes, seconds, and as many digits of the second as it takes.
    pub(super) fn time(&mut self, seconds: u64, nanos: u32) {
        // As in `civil`: 32 bits.
        let (hours, of_hour) = (seconds / 3600, u32::try_from(seconds % 3600).unwrap_or_default());
        match u32::try_from(hours) {
            Ok(hours @ 0..=99) => self.digits(hours, 2),
            _ => self.digits(u32::try_from(hours % 1000).unwrap_or_default(), 3),
        }
        self.push(b':');
        self.digits(of_hour / 60, 2);
        self.push(b':');
        self.digits(of_hour % 60, 2);
        if nanos != 0 {
            let (mut fraction, mut width) = (nanos, 9);
            while fraction % 10 == 0 {
                fraction /= 10;
                width -= 1;
            }
            self.push(b'.');
            self.digits(fraction, width);
        }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// A year beyond four digits.
    #[cold]
    fn long_year(&mut self, year: u64) {
        for byte in year.to_string().bytes() {
            self.push(byte);
        }
    }

    /// The last `width` digits of a number.
    fn digits(&mut self, mut number: u32, width: usize) {
        let start = self.length;
        self.length += width;
        for byte in self.bytes[start..self.length].iter_mut().rev() {
            *byte = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
    }

    pub(super) fn as_str(&self) -> &str {
        // Only ASCII is pushed.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// Reads a date: `2024-02-29`, `+21016-11-04`, `-4713-11-24`.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = unsigned.split('-');
    let (year, month, date) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() < 4 || month.len() != 2 || date.len() != 2 {
        return None;
    }
    day(sign * number(year)?, number(month)?, number(date)?)
}

/// Reads a time of day, `12:34`, `12:34:56` or `12:34:56.789`, as seconds and nanoseconds. The hour may be 24, with
/// nothing after it.
pub(super) fn parse_time(text: &str) -> Option<(i64, u32)> {
    let (clock, fraction) = text.split_once('.').map_or((text, ""), |(clock, fraction)| (clock, fraction));
    let mut parts = clock.split(':').map(|part| if part.len() == 2 { number(part) } else { None });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let nanos = parse_fraction(fraction)?;
    let seconds = hour * 3600 + minute * 60 + second;
    let within_day = seconds < SECONDS_OF_DAY || (seconds == SECONDS_OF_DAY && nanos == 0);
    (parts.next().is_none() && minute < 60 && second < 60 && within_day).then_some((seconds, nanos))
}

/// Reads the digits of a fraction of a second as nanoseconds.
pub(super) fn parse_fraction(digits: &str) -> Option<u32> {
    if digits.is_empty() {
        return Some(0);
    }
    let places = u32::try_from(digits.len()).ok().filter(|places| *places <= 9)?;
    u32::try_from(number(digits)? * 10_i64.pow(9 - places)).ok()
}

/// Splits text with an offset (`Z`, `+02:00`, `-05`) into what comes before and the seconds east of UTC.
pub(super) fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (local, offset) = text.split_at(at);
    let (sign, clock) = match offset.strip_prefix('-') {
        Some(clock) => (-1, clock),
        None => (1, &offset[1..]),
    };
    let mut parts = clock.split(':').map(|part| if part.len() == 2 { number(part) } else { None });
    let hours = parts.next()??;
    let minutes = parts.next().unwrap_or(Some(0))?;
    let seconds = parts.next().unwrap_or(Some(0))?;
    let valid = parts.next().is_none() && hours <= 18 && minutes < 60 && seconds < 60;
    valid.then_some((local, sign * (hours * 3600 + minutes * 60 + seconds)))
}

/// Digits alone, and at most nine of them.
pub(super) fn number(digits: &str) -> Option<i64> {
    let valid = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if valid { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_counted_as_java_counts_them() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(2_932_896), (9999, 12, 31));
        assert_eq!(civil(-719_162), (1, 1, 1));
        assert_eq!(civil(-735_160), (-43, 3, 15));
    }

    #[test]
    fn there_is_no_february_30() {
        assert_eq!(day(2023, 2, 29), None);
        assert_eq!(day(1900, 2, 29), None);
        assert_eq!(day(2000, 2, 29), Some(11_016));
        assert_eq!(day(2024, 13, 1), None);
        assert_eq!(day(2024, 4, 31), None);
    }

    #[test]
    fn the_end_of_the_day_is_a_time_and_nothing_is_later() {
        assert_eq!(parse_time("24:00:00"), Some((86_400, 0)));
        for text in
            ["24:00:00.1", "24:00:01", "23:60:00", "23:59:60", "1:00:00", "12", "12:00:00:00", "12:00:00.1234567890"]
        {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn offsets_are_read_in_every_length() {
        assert_eq!(split_offset("12:00Z"), Some(("12:00", 0)));
        assert_eq!(split_offset("12:00+05:30"), Some(("12:00", 19_800)));
        assert_eq!(split_offset("12:00-05"), Some(("12:00", -18_000)));
        assert_eq!(split_offset("12:00"), None);
    }

    proptest! {
        #[test]
        fn every_day_of_300_million_years_has_one_date(of in -110_000_000_000_i64..110_000_000_000) {
            let (year, month, date) = civil(of);
            prop_assert_eq!(day(year, month.into(), date.into()), Some(of));
            let next = civil(of + 1);
            prop_assert!(next == (year, month, date + 1) || next == (year, month + 1, 1) || next == (year + 1, 1, 1));
        }
    }
}
