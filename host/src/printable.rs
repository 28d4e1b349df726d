//! Text of a module, an event or a library as it may stand in a log, a terminal or an answer.

/// The longest text that is quoted of a module: its messages, its reasons, what a compiler says of it. Bytes.
pub(crate) const TEXT_BYTES: usize = 4096;
/// The longest name that is quoted. Bytes.
pub(crate) const NAME_BYTES: usize = 160;

/// The text on one line: what a terminal would act upon, or what would show its letters in another order, is escaped, so
/// that it can neither fake a line of the log nor move the cursor. Then it is cut to so many bytes, between characters;
/// `…` stands for the rest.
pub(crate) fn printable(text: &str, most_bytes: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most_bytes) + '…'.len_utf8());
    for letter in text.chars() {
        let length = if is_shown(letter) { letter.len_utf8() } else { letter.escape_default().len() };
        if out.len() + length > most_bytes {
            out.push('…');
            break;
        }
        if is_shown(letter) { out.push(letter) } else { out.extend(letter.escape_default()) }
    }
    out
}

/// Controls, separators of lines and paragraphs, and what turns the direction of writing are not.
fn is_shown(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("one\ntwo\u{1b}[31m\u{9b}3m", 100), "one\\ntwo\\u{1b}[31m\\u{9b}3m");
        assert_eq!(printable("a\u{202e}b\u{2028}\u{7f}", 100), "a\\u{202e}b\\u{2028}\\u{7f}");
        assert_eq!(printable("größer, 大きい, 🦀", 100), "größer, 大きい, 🦀");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = format!("x{}", "é".repeat(TEXT_BYTES));
        assert_eq!(printable(&long, TEXT_BYTES), format!("x{}…", "é".repeat((TEXT_BYTES - 1) / 2)));
        assert_eq!(printable(&"\0".repeat(TEXT_BYTES), 12), "\\u{0}\\u{0}…");
        assert_eq!(printable("abc", 3), "abc");
        assert_eq!(printable("abcd", 3), "abc…");
    }
}
