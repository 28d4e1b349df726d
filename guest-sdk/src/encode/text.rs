//! JSON strings: quotes and escapes.

use std::fmt;

/// Writes a string with its quotes.
pub(super) fn write(out: &mut String, value: &str) {
    out.push('"');
    escape(out, value);
    out.push('"');
}

/// Escapes what is formatted into it.
pub(super) struct Escaping<'a>(pub(super) &'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, value: &str) -> fmt::Result {
        escape(self.0, value);
        Ok(())
    }
}

fn escape(out: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = first_special(rest.as_bytes()) {
        // What is special is a character of one byte, so both ends are character boundaries.
        let (clean, special) = rest.split_at(at);
        out.push_str(clean);
        let Some(character) = special.bytes().next() else { return };
        escape_one(out, character);
        rest = &special[1..];
    }
    out.push_str(rest);
}

fn escape_one(out: &mut String, character: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match character {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        _ => {
            out.push_str("\\u00");
            out.push(char::from(HEX[usize::from(character >> 4)]));
            out.push(char::from(HEX[usize::from(character & 15)]));
        }
    }
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Where the first byte is that needs an escape. Eight bytes at a time: most text has none.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        if may_hold_special(u64::from_le_bytes(*word))
            && let Some(at) = word.iter().position(|byte| is_special(*byte))
        {
            return Some(index * 8 + at);
        }
    }
    tail.iter().position(|byte| is_special(*byte)).map(|at| words.len() * 8 + at)
}

/// Whether one of eight bytes is below 0x20, a quote or a backslash. `(x - n) & !x & 0x80` is set for a byte below n;
/// the borrow between bytes can only cry wolf, behind a byte that is special.
fn may_hold_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGH;
    let control = below(word, 0x20);
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    control | quote | backslash != 0
}
