//! What went wrong in SQLite, and which of the three classes it is of.

use rusqlite::ffi::{SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_CONSTRAINT_TRIGGER, SQLITE_CONSTRAINT_UNIQUE};
use rusqlite::{Error, ErrorCode};

use crate::sink::SinkError;

/// Why something could not be done, in the sink's own terms.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The command is bad.
    Bad(String),
    /// The command is bad by what stands in other rows.
    Clash(String),
    /// It may pass.
    Retry(String),
    /// It will not pass by itself.
    Stop(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        classify(&error)
    }
}

impl Problem {
    /// For the caller of a sink, with the place put before. A command that is bad where there is no command comes
    /// from something else in the file: that is not for a record to pay for.
    pub(super) fn in_file(self, path: &std::path::Path) -> SinkError {
        let place = |text: String| format!("{}: {text}", path.display());
        match self {
            Self::Retry(text) => SinkError::Retry(place(text)),
            Self::Stop(text) | Self::Bad(text) | Self::Clash(text) => SinkError::Stop(place(text)),
        }
    }
}

/// What other rows have a part in. A trigger may look at any.
const CLASHES: [i32; 3] = [SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_CONSTRAINT_TRIGGER];

/// The class of an error of SQLite.
pub(super) fn classify(error: &Error) -> Problem {
    use ErrorCode as Code;
    let Some(code) = error.sqlite_error_code() else {
        return Problem::Stop(format!("{error}; please report this"));
    };
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match code {
        Code::ConstraintViolation if CLASHES.contains(&extended) => Problem::Clash(error.to_string()),
        Code::ConstraintViolation | Code::TooBig | Code::TypeMismatch | Code::ParameterOutOfRange => {
            Problem::Bad(error.to_string())
        }
        Code::DatabaseBusy
        | Code::DatabaseLocked
        | Code::OutOfMemory
        | Code::OperationInterrupted
        | Code::OperationAborted
        | Code::SystemIoFailure
        | Code::FileLockingProtocolFailed
        | Code::SchemaChanged => Problem::Retry(error.to_string()),
        Code::DiskFull => Problem::Retry(format!("{error}: make room")),
        Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied => {
            Problem::Stop(format!("{error}: let this process write the file and its folder"))
        }
        Code::CannotOpen => Problem::Stop(format!("{error}: the folder must exist and be writable")),
        Code::NotADatabase => Problem::Stop(format!("{error}: give the sink another path")),
        Code::DatabaseCorrupt => {
            Problem::Stop(format!("{error}: restore it, or let a new file be filled from the start"))
        }
        _ => Problem::Stop(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn each_error_is_the_records_or_passes_or_stops() {
        let class = |code| classify(&Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_CONSTRAINT_NOTNULL, ffi::SQLITE_TOOBIG, ffi::SQLITE_MISMATCH] {
            assert!(matches!(class(code), Problem::Bad(_)), "{code}");
        }
        for code in [SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_FOREIGNKEY] {
            assert!(matches!(class(code), Problem::Clash(_)), "{code}");
        }
        for code in
            [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_FULL, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_NOMEM]
        {
            assert!(matches!(class(code), Problem::Retry(_)), "{code}");
        }
        for code in
            [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_READONLY, ffi::SQLITE_CANTOPEN, ffi::SQLITE_ERROR]
        {
            assert!(matches!(class(code), Problem::Stop(_)), "{code}");
        }
    }
}
