//! Names and strings in a text, and what they say without their escapes.

use std::borrow::Cow;

/// A member's name, or a string: where the text between its quotes lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// After the opening quote.
    pub(super) start: usize,
    /// Before the closing quote.
    pub(super) end: usize,
    /// Whether it holds an escape.
    pub(super) escaped: bool,
}

impl Name {
    /// The same name in a text that stands at this position of another one.
    pub(super) fn at(self, position: usize) -> Self {
        Self { start: position + self.start, end: position + self.end, ..self }
    }

    /// The name itself.
    #[inline]
    pub(super) fn of<'t>(self, text: &'t str) -> Cow<'t, str> {
        unescape(&text[self.start..self.end], self.escaped)
    }
}

/// A string's content. A lone surrogate, which is no character, becomes U+FFFD.
#[inline]
pub(super) fn unescape(raw: &str, escaped: bool) -> Cow<'_, str> {
    if escaped { Cow::Owned(without_escapes(raw)) } else { Cow::Borrowed(raw) }
}

#[cold]
fn without_escapes(raw: &str) -> String {
    let mut units = Vec::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match rest.next() {
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => 0x0a,
            Some('r') => 0x0d,
            Some('t') => 0x09,
            Some('u') => {
                let mut unit: u16 = 0;
                for digit in rest.by_ref().take(4) {
                    unit = unit << 4 | u16::try_from(digit.to_digit(16).unwrap_or(0)).unwrap_or(0);
                }
                unit
            }
            // The scanner has let through only `"`, `\` and `/` beside those.
            Some(other) => u16::try_from(u32::from(other)).unwrap_or(0xfffd),
            None => 0xfffd,
        });
    }
    String::from_utf16_lossy(&units)
}
