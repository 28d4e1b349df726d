//! JSON strings: quotes and escapes.

use std::fmt;

use crate::words;

/// Text up to so many bytes is copied word by word: a call to copy a few bytes costs more than the bytes.
const SHORT: usize = 64;

/// Writes a string with its quotes.
pub(super) fn write(out: &mut Vec<u8>, value: &str) {
    out.reserve(value.len() + 10);
    out.push(b'"');
    escape(out, value);
    out.push(b'"');
}

/// Writes the name of a field, with its colon.
pub(super) fn write_name(out: &mut Vec<u8>, name: &str) {
    out.reserve(name.len() + 11);
    out.push(b'"');
    escape(out, name);
    out.extend_from_slice(b"\":");
}

/// Escapes what is formatted into it.
pub(super) struct Escaping<'a>(pub(super) &'a mut Vec<u8>);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, value: &str) -> fmt::Result {
        escape(self.0, value);
        Ok(())
    }
}

/// Appends text as it is.
pub(super) fn append(out: &mut Vec<u8>, value: &str) {
    if value.len() > SHORT {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    let mut rest = value.as_bytes();
    while !rest.is_empty() {
        rest = append_word(out, rest, |_| 0);
    }
}

fn escape(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    while !rest.is_empty() {
        if rest.len() > SHORT {
            let plain = first_special(rest).unwrap_or(rest.len());
            let (clean, special) = rest.split_at(plain);
            out.extend_from_slice(clean);
            rest = special;
        } else {
            rest = append_word(out, rest, special);
        }
        if let [character, behind @ ..] = rest
            && is_special(*character)
        {
            escape_one(out, *character);
            rest = behind;
        }
    }
}

/// Appends up to eight bytes, as far as none is marked, and answers the others.
#[inline]
fn append_word<'b>(out: &mut Vec<u8>, bytes: &'b [u8], marks: impl Fn(u64) -> u64) -> &'b [u8] {
    let (word, length) = words::load(bytes);
    let plain = words::first(marks(word)).min(length);
    let end = out.len() + plain;
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(end);
    bytes.get(plain..).unwrap_or_default()
}

fn escape_one(out: &mut Vec<u8>, character: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let escape = match character {
        b'"' => *b"\\\"",
        b'\\' => *b"\\\\",
        b'\n' => *b"\\n",
        b'\r' => *b"\\r",
        b'\t' => *b"\\t",
        0x08 => *b"\\b",
        0x0c => *b"\\f",
        _ => {
            out.extend_from_slice(b"\\u00");
            [HEX[usize::from(character >> 4)], HEX[usize::from(character & 15)]]
        }
    };
    out.extend_from_slice(&escape);
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Marks the bytes that need an escape.
#[inline]
fn special(word: u64) -> u64 {
    words::below(word, 0x20) | words::equal(word, b'"') | words::equal(word, b'\\')
}

/// Where the first byte is that needs an escape. Most text has none.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let mut at = words::plain_blocks(bytes);
    loop {
        let (word, length) = words::load(bytes.get(at..)?);
        let place = words::first(special(word));
        if place < length {
            return Some(at + place);
        }
        if length < 8 {
            return None;
        }
        at += 8;
    }
}
