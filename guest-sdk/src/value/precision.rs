//! In which unit a number of time counts, as the author states it.

use std::fmt;

use super::wire::beginning;
use crate::schema::Unit;

/// A number counts milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Millis {}

/// A number counts microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Micros {}

/// A number counts nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nanos {}

/// The value is text with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zoned {}

pub(super) mod sealed {
    use super::{Micros, Millis, Nanos, Unit, Zoned};

    /// What a number means where there is no schema.
    pub trait Precision {
        #[doc(hidden)]
        const UNIT: Option<UnitOf>;
    }

    /// Hides the crate's own type from the trait's public face.
    #[derive(Clone, Copy)]
    pub struct UnitOf(pub(in crate::value) Unit);

    impl Precision for Millis {
        const UNIT: Option<UnitOf> = Some(UnitOf(Unit::Millis));
    }
    impl Precision for Micros {
        const UNIT: Option<UnitOf> = Some(UnitOf(Unit::Micros));
    }
    impl Precision for Nanos {
        const UNIT: Option<UnitOf> = Some(UnitOf(Unit::Nanos));
    }
    impl Precision for Zoned {
        const UNIT: Option<UnitOf> = None;
    }
}

impl Unit {
    /// How many of it make a second.
    pub(super) fn per_second(self) -> i64 {
        match self {
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => 1_000_000_000,
        }
    }
}

/// Text that is no date, time or duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTimeError {
    expected: &'static str,
    found: String,
}

impl ParseTimeError {
    pub(super) fn new(expected: &'static str, found: &str) -> ParseTimeError {
        ParseTimeError { expected, found: beginning(found).to_owned() }
    }
}

impl fmt::Display for ParseTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}", self.found, self.expected)
    }
}

impl std::error::Error for ParseTimeError {}
