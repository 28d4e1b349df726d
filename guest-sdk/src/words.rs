//! Bytes by eights: what ends the plain part of a JSON string.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that is below a bound of at most 0x80. `(x - n) & !x & 0x80` is set for a byte below n; a
/// borrow between bytes can only cry wolf, behind a byte that is below it: the first bit is always right.
#[inline]
pub(crate) fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH
}

/// The high bit of each byte that equals this one; as with [`below`], the first is right.
#[inline]
pub(crate) fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// The place of the first byte that is marked; 8 where none is.
#[inline]
pub(crate) fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// The first eight bytes, and zeros where there are less of them; and how many there are.
#[inline]
pub(crate) fn load(bytes: &[u8]) -> (u64, usize) {
    if let Some(word) = bytes.first_chunk() {
        return (u64::from_le_bytes(*word), 8);
    }
    // A short end in at most two parts, which may lie over each other: a loop would cost more than all else here.
    let length = bytes.len();
    let word = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(start), Some(end)) => {
            u64::from(u32::from_le_bytes(*start)) | u64::from(u32::from_le_bytes(*end)) << (8 * (length - 4))
        }
        _ => match *bytes {
            [] => 0,
            [a] => u64::from(a),
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        },
    };
    (word, length)
}

/// Where, from `at` on, the first quote or backslash stands.
#[inline]
pub(crate) fn end_of_plain(bytes: &[u8], mut at: usize) -> Option<usize> {
    let long = at + 32;
    loop {
        if at == long {
            at += plain_blocks(bytes.get(at..)?);
        }
        let (word, length) = load(bytes.get(at..)?);
        // The zeros behind the end are neither.
        let marks = equal(word, b'"') | equal(word, b'\\');
        if marks != 0 {
            return Some(at + first(marks));
        }
        if length < 8 {
            return None;
        }
        at += 8;
    }
}

/// How many bytes are plain from the start on, counted in blocks of sixteen: no quote, no backslash, no control
/// character. For text that is long: a call costs as much as a few words.
#[cfg(target_family = "wasm")]
#[target_feature(enable = "simd128")]
#[inline(never)]
pub(crate) fn plain_blocks(bytes: &[u8]) -> usize {
    use std::arch::wasm32::{u8x16_eq, u8x16_lt, u8x16_splat, u64x2, v128_any_true, v128_or};
    let (blocks, _) = bytes.as_chunks::<16>();
    let is_plain = |block: &&[u8; 16]| {
        let [first, second] = [0, 8].map(|at| block[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
        let block = u64x2(first, second);
        let special = v128_or(u8x16_eq(block, u8x16_splat(b'"')), u8x16_eq(block, u8x16_splat(b'\\')));
        !v128_any_true(v128_or(special, u8x16_lt(block, u8x16_splat(0x20))))
    };
    16 * blocks.iter().take_while(is_plain).count()
}

/// The same by words.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn plain_blocks(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    let is_plain = |word: &&[u8; 8]| {
        let word = u64::from_le_bytes(**word);
        equal(word, b'"') | equal(word, b'\\') | below(word, 0x20) == 0
    };
    words.iter().take_while(is_plain).count() / 2 * 16
}

/// Text that is copied from another, and not longer than that, piece by piece: a call to copy a few bytes would cost
/// more than the bytes.
pub(crate) struct Copied<'t> {
    from: &'t [u8],
    at: usize,
    to: usize,
    /// Eight bytes longer than the text that is copied: words are written whole.
    out: Vec<u8>,
}

impl<'t> Copied<'t> {
    /// Begins at the start of a text.
    pub(crate) fn new(from: &'t str) -> Self {
        Self { from: from.as_bytes(), at: 0, to: 0, out: vec![0; from.len() + 8] }
    }

    /// Copies up to the first byte that is marked, and answers it; none at the end of the text.
    #[inline]
    pub(crate) fn copy_to(&mut self, marks: impl Fn(u64) -> u64) -> Option<u8> {
        loop {
            let (word, length) = load(self.from.get(self.at..)?);
            *self.out.get_mut(self.to..)?.first_chunk_mut()? = word.to_le_bytes();
            let copied = first(marks(word)).min(length);
            self.at += copied;
            self.to += copied;
            if copied < 8 {
                return self.peek();
            }
        }
    }

    /// The byte that comes next.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.from.get(self.at).copied()
    }

    /// The bytes that come next, as far as there are any.
    #[inline]
    pub(crate) fn rest(&self) -> &'t [u8] {
        self.from.get(self.at..).unwrap_or_default()
    }

    /// Leaves bytes out.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Adds a byte in the place of one that is left out.
    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        if let Some(to) = self.out.get_mut(self.to) {
            *to = byte;
            self.to += 1;
        }
    }

    /// What was copied. None = it is no text any more.
    pub(crate) fn finish(mut self) -> Option<String> {
        self.out.truncate(self.to);
        String::from_utf8(self.out).ok()
    }
}

/// What stands between the quotes of a JSON string, without its escapes. None = it has some that are rare, or wrong.
pub(crate) fn unescaped(inner: &str) -> Option<String> {
    let mut text = Copied::new(inner);
    while text.copy_to(|word| equal(word, b'\\')).is_some() {
        let byte = match *text.rest() {
            [_, escape @ (b'"' | b'\\' | b'/'), ..] => escape,
            [_, b'n', ..] => b'\n',
            [_, b't', ..] => b'\t',
            [_, b'r', ..] => b'\r',
            [_, b'u', a, b, c, d, ..] => {
                let digits = [a, b, c, d].map(|digit| char::from(digit).to_digit(16));
                let [Some(a), Some(b), Some(c), Some(d)] = digits else { return None };
                // Half of a pair is no character.
                let character = char::from_u32(a << 12 | b << 8 | c << 4 | d)?;
                text.skip(6);
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push(byte));
                continue;
            }
            _ => return None,
        };
        text.skip(2);
        text.push(byte);
    }
    text.finish()
}

/// A JSON text without the white space between its tokens, checked in the same pass. None = it is no JSON, or nested
/// deeper than 64 levels.
pub(crate) fn compact(json: &str) -> Option<String> {
    let mut text = Copied::new(json);
    // What is open, in the bits of one number; 1 = an object.
    let (mut open, mut depth) = (0_u64, 0_u32);
    loop {
        match spaceless(&mut text)? {
            bracket @ (b'{' | b'[') => {
                if depth == u64::BITS {
                    return None;
                }
                let is_object = bracket == b'{';
                take(&mut text, bracket);
                (open, depth) = (open << 1 | u64::from(is_object), depth + 1);
                match spaceless(&mut text)? {
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ if is_object => {
                        name(&mut text)?;
                        continue;
                    }
                    _ => continue,
                }
            }
            b'"' => string(&mut text)?,
            _ => scalar(&mut text)?,
        }
        // Behind a value: close what ends here, up to the next value.
        loop {
            let Some(next) = spaceless(&mut text) else {
                return if depth == 0 { text.finish() } else { None };
            };
            let in_object = open & 1 == 1;
            match next {
                _ if depth == 0 => return None,
                b',' => {
                    take(&mut text, b',');
                    if in_object {
                        name(&mut text)?;
                    }
                    break;
                }
                b'}' if in_object => take(&mut text, b'}'),
                b']' if !in_object => take(&mut text, b']'),
                _ => return None,
            }
            (open, depth) = (open >> 1, depth - 1);
        }
    }
}

#[inline]
fn take(text: &mut Copied<'_>, byte: u8) {
    text.skip(1);
    text.push(byte);
}

/// The next byte that is no white space.
#[inline]
fn spaceless(text: &mut Copied<'_>) -> Option<u8> {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = text.peek() {
        text.skip(1);
    }
    text.peek()
}

fn name(text: &mut Copied<'_>) -> Option<()> {
    if spaceless(text)? != b'"' {
        return None;
    }
    string(text)?;
    if spaceless(text)? != b':' {
        return None;
    }
    take(text, b':');
    Some(())
}

/// Copies a string, whose opening quote comes next.
fn string(text: &mut Copied<'_>) -> Option<()> {
    take(text, b'"');
    loop {
        match text.copy_to(|word| equal(word, b'"') | equal(word, b'\\') | below(word, 0x20))? {
            b'"' => {
                take(text, b'"');
                return Some(());
            }
            b'\\' => {
                let escape = text.rest().get(1).copied()?;
                match escape {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' if text.rest().get(2..6)?.iter().all(u8::is_ascii_hexdigit) => {}
                    _ => return None,
                }
                take(text, b'\\');
                take(text, escape);
            }
            _ => return None,
        }
    }
}

/// Copies a number or one of the three words.
fn scalar(text: &mut Copied<'_>) -> Option<()> {
    for word in ["null", "true", "false"] {
        if text.rest().starts_with(word.as_bytes()) {
            word.bytes().for_each(|byte| take(text, byte));
            return Some(());
        }
    }
    if text.peek() == Some(b'-') {
        take(text, b'-');
    }
    if text.peek() == Some(b'0') {
        take(text, b'0');
    } else {
        digits(text)?;
    }
    if text.peek() == Some(b'.') {
        take(text, b'.');
        digits(text)?;
    }
    if let Some(exponent @ (b'e' | b'E')) = text.peek() {
        take(text, exponent);
        if let Some(sign @ (b'+' | b'-')) = text.peek() {
            take(text, sign);
        }
        digits(text)?;
    }
    Some(())
}

fn digits(text: &mut Copied<'_>) -> Option<()> {
    text.peek().filter(u8::is_ascii_digit)?;
    while let Some(digit @ b'0'..=b'9') = text.peek() {
        take(text, digit);
    }
    Some(())
}

#[cfg(test)]
mod tests;
