//! Times, bytes and JSON for whoever reads them in a terminal.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::IgnoredAny;

const DAY: i64 = 86_400_000;

/// Milliseconds since 1970 as `2026-11-21T15:04:05.123Z`; `-` where there is no time.
pub(super) fn time(milliseconds: Option<i64>) -> String {
    let Some(milliseconds) = milliseconds else { return "-".to_owned() };
    let (days, rest) = (milliseconds.div_euclid(DAY), milliseconds.rem_euclid(DAY));
    // Years of 400 years that begin in March, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (seconds, milliseconds) = (rest / 1_000, rest % 1_000);
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}.{milliseconds:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Text on one line, without what a terminal would act upon.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Bytes as they were on the wire: JSON over lines, other text as it is, and what is no text as base64.
pub(super) fn wire(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("(base64, {} bytes) {}", bytes.len(), BASE64_STANDARD.encode(bytes));
    };
    let text = if serde_json::from_str::<IgnoredAny>(text).is_ok() { indented(text) } else { text.to_owned() };
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { ' ' } else { letter }).collect()
}

/// JSON text with a line for each member; nothing but blanks differs.
fn indented(json: &str) -> String {
    let mut laid_out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let line = |laid_out: &mut String, depth: usize| {
        laid_out.push('\n');
        laid_out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_text {
            laid_out.push(letter);
            (in_text, escaped) = (escaped || letter != '"', letter == '\\' && !escaped);
            continue;
        }
        match letter {
            '{' | '[' => {
                laid_out.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    laid_out.push(end);
                } else {
                    depth += 1;
                    line(&mut laid_out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut laid_out, depth);
                laid_out.push(letter);
            }
            ',' => {
                laid_out.push(letter);
                line(&mut laid_out, depth);
            }
            ':' => laid_out.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => {
                in_text = letter == '"';
                laid_out.push(letter);
            }
        }
    }
    laid_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_calendar() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_273_445_123, "2026-11-21T15:04:05.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(Some(milliseconds)), expected);
        }
        assert_eq!(time(None), "-");
        assert!(time(Some(i64::MAX)).ends_with('Z') && time(Some(i64::MIN)).starts_with('-'));
    }

    #[test]
    fn json_is_laid_out_and_its_digits_and_texts_stay() {
        let json = r#" {"a" :[1.10,{ }, [ ]],"b":"x\",: {","c":9007199254740993} "#;
        let laid_out = wire(Some(json.as_bytes()));
        assert_eq!(
            laid_out,
            "{\n  \"a\": [\n    1.10,\n    {},\n    []\n  ],\n  \"b\": \"x\\\",: {\",\n  \"c\": 9007199254740993\n}"
        );
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_blank() {
        assert_eq!(wire(Some(b"{\"cut\x1b[2J\n")), "{\"cut [2J\n");
        assert_eq!(one_line("a\nb\u{9b}c"), "a b c");
        assert_eq!(wire(Some(&[0xff])), "(base64, 1 bytes) /w==");
        assert_eq!(wire(None), "null");
    }
}
