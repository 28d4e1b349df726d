//! The JSON scanner: checks a text in full (RFC 8259) and finds where its parts lie, without building values.
//!
//! It accepts what `serde_json` accepts as raw text (lone surrogate escapes included), up to [`MAX_DEPTH`]. It never
//! recurses and passes each byte once. Positions are byte positions in the text.

use super::block::{self, Ends};
use super::malformed::Malformed;
use super::name::Name;

/// How deep arrays and objects may be nested. A guest's parser has a bound too, usually this one.
pub(super) const MAX_DEPTH: u32 = 128;

/// Goes through a text from its start to its end.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    depth: u32,
}

impl<'t> Scanner<'t> {
    /// Begins at the first value of a text.
    pub(super) fn new(text: &'t str) -> Self {
        let mut scanner = Self { text, at: 0, depth: 0 };
        scanner.skip_space();
        scanner
    }

    /// The text.
    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// Where it stands: after [`Self::new`], [`Self::member`] and [`Self::peek`] at the start of a value.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The byte where it stands, which tells what kind of value begins there.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over text that is known to be a whole value: it has been scanned before.
    pub(super) fn skip_known(&mut self, length: usize) {
        self.at += length;
    }

    /// Enters an object. [`Self::member`] then yields its members.
    pub(super) fn enter(&mut self) -> Result<Object, Malformed> {
        if self.peek() != Some(b'{') {
            return Err(self.malformed("an object"));
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.too_deep());
        }
        Ok(Object { first: true })
    }

    /// The name of the object's next member; the scanner then stands at its value, which must be passed before the
    /// next call. None = the object has ended, and the scanner stands behind it.
    #[inline]
    pub(super) fn member(&mut self, object: &mut Object) -> Result<Option<Name>, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            Some(b',') if !object.first => {
                self.at += 1;
                self.skip_space();
            }
            _ if object.first => {}
            _ => return Err(self.malformed("`,` or `}` after a member")),
        }
        object.first = false;
        self.name().map(Some)
    }

    /// Passes to the value of the object's next member, if that begins with this text, a name up to its value as it
    /// was passed before, and says where it begins. None = it does not, and nothing was passed.
    #[inline]
    pub(super) fn expected_member(&mut self, object: &mut Object, expected: &str) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let start = if object.first { self.at } else { self.at + 1 };
        let end = start + expected.len();
        if (!object.first && self.peek() != Some(b',')) || bytes.get(start..end) != Some(expected.as_bytes()) {
            return None;
        }
        object.first = false;
        self.at = end;
        self.skip_space();
        Some(start)
    }

    /// Passes one value, whatever it is, and says where it lies: from where it stood to where it stands.
    #[inline]
    pub(super) fn value(&mut self) -> Result<&'t str, Malformed> {
        let start = self.at;
        self.skip_value()?;
        Ok(&self.text[start..self.at])
    }

    /// Checks that nothing but space follows.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("the end of the text after the value")),
        }
    }

    /// Passes one value.
    #[inline]
    pub(super) fn skip_value(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{' | b'[') => self.skip_nested(),
            _ => self.skip_scalar(),
        }
    }

    /// Passes an array or object. What is open is kept in the bits of one number: 1 = an object.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        const { assert!(MAX_DEPTH <= u128::BITS) };
        let mut open: u128 = 0;
        let outer = self.depth;
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if self.depth >= MAX_DEPTH {
                        return Err(self.too_deep());
                    }
                    self.at += 1;
                    self.depth += 1;
                    self.skip_space();
                    let is_object = bracket == b'{';
                    open = open << 1 | u128::from(is_object);
                    match self.peek() {
                        Some(b'}') if is_object => {}
                        Some(b']') if !is_object => {}
                        _ if is_object => {
                            self.name()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => self.skip_scalar()?,
            }
            // Behind a value: close what ends here, up to the next value.
            loop {
                self.skip_space();
                let in_object = open & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ if in_object => return Err(self.malformed("`,` or `}` after a member")),
                    _ => return Err(self.malformed("`,` or `]` after an element")),
                }
                self.at += 1;
                self.depth -= 1;
                open >>= 1;
                if self.depth == outer {
                    return Ok(());
                }
            }
        }
    }

    /// Passes a name and its colon, up to the value.
    #[inline]
    fn name(&mut self) -> Result<Name, Malformed> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed("a member's name in double quotes"));
        }
        let name = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.malformed("`:` after a member's name"));
        }
        self.at += 1;
        self.skip_space();
        Ok(name)
    }

    /// Passes a string; it stands at the opening quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Name, Malformed> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut block = start;
        loop {
            if let Some(end) = Ends::of_string(bytes, block).first() {
                let end = block + end;
                if bytes.get(end) != Some(&b'"') {
                    return self.escaped_string(start, end);
                }
                self.at = end + 1;
                return Ok(Name { start, end, escaped: false });
            }
            block += block::LENGTH;
        }
    }

    /// Passes the rest of a string, from its first backslash on, or from what may not stand in it.
    #[inline(never)]
    fn escaped_string(&mut self, start: usize, mut block: usize) -> Result<Name, Malformed> {
        let bytes = self.text.as_bytes();
        loop {
            let mut ends = Ends::of_string(bytes, block);
            let mut next = block + block::LENGTH;
            // Escapes that lie in one block share its ends.
            while let Some(end) = ends.first() {
                let end = block + end;
                match bytes.get(end) {
                    Some(b'"') => {
                        self.at = end + 1;
                        return Ok(Name { start, end, escaped: true });
                    }
                    Some(b'\\') => {
                        let behind = self.escape(end + 1)?;
                        ends = ends.from(behind - block);
                        next = next.max(behind);
                    }
                    _ => {
                        self.at = end;
                        return Err(self.malformed("a string's closing quote"));
                    }
                }
            }
            block = next;
        }
    }

    /// The position behind an escape, whose backslash stands before `at`.
    #[inline]
    fn escape(&mut self, at: usize) -> Result<usize, Malformed> {
        let bytes = self.text.as_bytes();
        match bytes.get(at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
            Some(b'u') => {
                let digits = bytes[at + 1..].iter().take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
                if digits == 4 {
                    return Ok(at + 5);
                }
                self.at = at + 1 + digits;
                Err(self.malformed("four hexadecimal digits after \\u"))
            }
            _ => {
                self.at = at;
                Err(self.malformed("one of \" \\ / b f n r t u after a backslash"))
            }
        }
    }

    /// Passes a number or one of the three words.
    fn skip_scalar(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null"),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            _ => Err(self.malformed("a value")),
        }
    }

    #[inline]
    fn word(&mut self, word: &'static str) -> Result<(), Malformed> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.at += rest.iter().zip(word.bytes()).take_while(|&(&found, byte)| found == byte).count();
        Err(self.malformed(word))
    }

    fn number(&mut self) -> Result<(), Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.malformed("a number without leading zeros"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        loop {
            match Ends::of_digits(bytes, self.at).first() {
                Some(end) => {
                    self.at += end;
                    break;
                }
                None => self.at += block::LENGTH,
            }
        }
        if self.at == start { Err(self.malformed("a digit")) } else { Ok(()) }
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed::new(self.at, expected, self.peek())
    }

    #[cold]
    fn too_deep(&self) -> Malformed {
        Malformed::too_deep(self.at)
    }
}

/// An object that a scanner is in.
#[derive(Debug)]
pub(super) struct Object {
    first: bool,
}
