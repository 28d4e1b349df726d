//! Points in time, read from ISO-8601 texts and from counts since 1970, compared as instants.

/// An instant: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant {
    nanoseconds: i128,
    /// Whether the text named its offset from UTC. Without one, it is taken as UTC.
    pub(crate) zoned: bool,
}

const SECOND: i128 = 1_000_000_000;
const MILLISECOND: i128 = 1_000_000;

impl Instant {
    /// Reads `2025-11-22T02:39:05.5+00:00`; a space for the T, no offset, and `Z` are understood, and so are
    /// fractions down to nanoseconds. None for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', ' '])?;
        let days = days_since_1970(date)?;
        let (clock, offset) = match time.find(['Z', '+', '-']) {
            Some(place) => (&time[..place], Some(&time[place..])),
            None => (time, None),
        };
        let nanoseconds = i128::from(days) * 86_400 * SECOND + clock_nanoseconds(clock)?
            - i128::from(offset.map_or(Some(0), offset_seconds)?) * SECOND;
        Some(Self { nanoseconds, zoned: offset.is_some() })
    }

    /// That many milliseconds since 1970.
    pub(crate) fn from_milliseconds(milliseconds: i64) -> Self {
        Self { nanoseconds: i128::from(milliseconds) * MILLISECOND, zoned: false }
    }

    /// Whether they are the same moment.
    pub(crate) fn same(self, other: Self) -> bool {
        self.nanoseconds == other.nanoseconds
    }
}

/// Digits and nothing else, as a number.
fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// `2025-11-22`; the year may have a sign and more than four digits.
fn days_since_1970(date: &str) -> Option<i64> {
    let (negative, date) = match date.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, date.strip_prefix('+').unwrap_or(date)),
    };
    let mut parts = date.splitn(3, '-');
    let year = digits(parts.next()?)?;
    let month = digits(parts.next()?)?;
    let day = digits(parts.next()?)?;
    let year = if negative { -year } else { year };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year.abs() > 1_000_000_000 {
        return None;
    }
    // Years that begin in March have their leap day at the end, so that months before it need no correction.
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_in_year = (153 * month_from_march + 2) / 5 + day - 1;
    let from_march_of_year_0_to_1970 = 719_468;
    Some(year * 365 + leap_days + days_in_year - from_march_of_year_0_to_1970)
}

/// `02:39:05.5`.
fn clock_nanoseconds(clock: &str) -> Option<i128> {
    let mut parts = clock.splitn(3, ':');
    let hours = digits(parts.next()?)?;
    let minutes = digits(parts.next()?)?;
    let (seconds, fraction) =
        parts.next().map_or(Some(("0", "0")), |seconds| Some(seconds.split_once('.').unwrap_or((seconds, "0"))))?;
    let seconds = digits(seconds)?;
    if hours > 24 || minutes > 59 || seconds > 60 || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let nanoseconds = digits(&format!("{fraction:0<9}"))?;
    Some(i128::from(hours * 3600 + minutes * 60 + seconds) * SECOND + i128::from(nanoseconds))
}

/// `Z`, `+07`, `-03:30` in seconds to the east.
fn offset_seconds(offset: &str) -> Option<i64> {
    if offset == "Z" {
        return Some(0);
    }
    let (sign, rest) =
        if let Some(rest) = offset.strip_prefix('-') { (-1, rest) } else { (1, offset.strip_prefix('+')?) };
    let mut seconds = 0;
    for (part, unit) in rest.split(':').zip([3600, 60, 1]) {
        seconds += digits(part)? * unit;
    }
    Some(sign * seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Instant;

    fn same(one: &str, two: &str) -> bool {
        Instant::parse(one).unwrap().same(Instant::parse(two).unwrap())
    }

    #[test]
    fn the_same_moment_in_another_spelling_is_the_same() {
        assert!(same("2025-11-22T02:39:05.5+00:00", "2025-11-22T02:39:05.500000Z"));
        assert!(same("2024-12-22 01:33:54.123+07", "2024-12-21T18:33:54.123Z"));
        assert!(same("2024-05-11T03:39:29.000001-03:30", "2024-05-11T07:09:29.000001Z"));
        assert!(same("+2024-02-29T24:00:00Z", "2024-03-01T00:00:00Z"));
    }

    #[test]
    fn a_microsecond_makes_another_moment() {
        assert!(!same("2025-01-21T14:37:13.999999", "2025-01-21T14:37:13.999"));
        assert!(!same("2025-01-21T14:37:13Z", "2025-01-21T14:37:13+01:00"));
    }

    #[test]
    fn counts_since_1970_agree_with_texts() {
        for (count, text) in [
            (1_717_913_907_123, "2024-06-09T06:18:27.123Z"),
            (0, "1970-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59.999"),
            (-62_135_596_800_000, "0001-01-01T00:00:00"),
        ] {
            assert!(Instant::parse(text).unwrap().same(Instant::from_milliseconds(count)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "infinity", "2025-01-21", "2025-13-01T00:00:00", "2025-01-01T00:00:00.Z", "2025-01-01Tnoon"] {
            assert!(Instant::parse(text).is_none(), "{text:?}");
        }
    }
}
