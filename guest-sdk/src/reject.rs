//! Why a change is refused: the error type of everything that a transform does.

use std::fmt;

use crate::bindings::exports::tidegate::transform::transformer as wire;

/// The label of a rejection, as it stands in dead letters and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A value is not what the transform expects: a wrong type, a missing column, a value out of range.
    Undecodable,
    /// The record has no key, and the transform needs one.
    NoKey,
    /// The row before the change is needed and was not sent: the table wants REPLICA IDENTITY FULL.
    NoBefore,
    /// A column that the transform cannot do without was not sent.
    Unsent,
    /// The transform refuses the change for a reason of its own.
    Refused,
}

impl Fault {
    pub(crate) fn to_wire(self) -> wire::Fault {
        match self {
            Self::Undecodable => wire::Fault::Undecodable,
            Self::NoKey => wire::Fault::NoKey,
            Self::NoBefore => wire::Fault::NoBefore,
            Self::Unsent => wire::Fault::Unsent,
            Self::Refused => wire::Fault::Refused,
        }
    }
}

/// Refuses one change: its record goes to the dead letters with this reason, and the others of the batch go on.
///
/// The methods of [`Change`](crate::Change) and [`Commands`](crate::Commands) answer with one that names the column
/// and the remedy, so that `?` is all that is needed. A transform's own reasons are made with [`Reject::refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    fault: Fault,
    reason: String,
}

impl Reject {
    /// Refuses for a reason of the transform's own. It is for the operator: say what is wrong and what would mend it,
    /// without secrets, in at most 4 KiB.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::new(Fault::Refused, reason)
    }

    /// Refuses under a label.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }

    /// The label.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn into_wire(self) -> wire::Rejection {
        wire::Rejection { fault: self.fault.to_wire(), reason: self.reason }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Reject {}
