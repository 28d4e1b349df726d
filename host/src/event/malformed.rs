//! Why a text is no JSON.

use std::fmt;

use super::json::MAX_DEPTH;

/// Why a text is no JSON, and where. Behind a pointer, so that what the scanner answers stays small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(Box<Place>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The byte position.
    at: usize,
    expected: Expected,
    found: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    What(&'static str),
    LessDepth,
}

impl Malformed {
    /// At this byte something else should stand than what was found; none = the text ends there.
    #[cold]
    pub(super) fn new(at: usize, expected: &'static str, found: Option<u8>) -> Self {
        Self(Box::new(Place { at, expected: Expected::What(expected), found }))
    }

    /// What begins at this byte is nested too deep.
    #[cold]
    pub(super) fn too_deep(at: usize) -> Self {
        Self(Box::new(Place { at, expected: Expected::LessDepth, found: None }))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { at, expected, found } = *self.0;
        match expected {
            Expected::LessDepth => return write!(f, "at byte {at}: nested more than {MAX_DEPTH} levels deep"),
            Expected::What(what) => write!(f, "at byte {at}: expected {what}, found ")?,
        }
        match found {
            None => f.write_str("the end of the text"),
            Some(byte) if byte.is_ascii_graphic() => write!(f, "`{}`", char::from(byte)),
            Some(byte) => write!(f, "byte 0x{byte:02x}"),
        }
    }
}
