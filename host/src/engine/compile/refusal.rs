//! What a compiler answers: how a child tells its parent, and how that becomes an error with the module's name.

use serde::{Deserialize, Serialize};

use super::super::error::LoadError;
use super::super::verify;
use super::nesting;
use crate::printable::{NAME_BYTES, TEXT_BYTES, printable};

/// Names that one refusal lists at most, with the entry that says how many more there are.
const LISTED: usize = verify::LISTED + 1;
/// The longest head of an answer: every text of it may be escaped six times over.
pub(super) const HEAD_BYTES: u64 = 1 << 16;

/// Why bytes are no module that can serve. The texts are the module's or a library's, and not to be trusted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) enum Refusal {
    NotWasm,
    Damaged(String),
    TooDeep,
    NoContract,
    WrongVersion(String),
    Imports(Vec<String>),
    Exports(Vec<String>),
    Mismatch(String),
    Compile(String),
}

/// The head of a child's answer, one line of JSON. Behind it are the bytes of the code.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Head {
    /// So many bytes of code follow.
    Code(u64),
    Refused(Refusal),
    /// The memory that it may have did not suffice.
    OutOfMemory,
    /// It could not begin, which says nothing about the module.
    Unable(String),
}

/// Why there is no code.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Refusal),
    OutOfMemory,
}

impl Failure {
    /// The error of the module of this name, compiled in this process.
    pub(super) fn of(self, module: &str) -> LoadError {
        match self {
            Self::Refused(refusal) => refusal.of(module),
            Self::OutOfMemory => {
                LoadError::Compile { module: module.into(), cause: "there is not enough memory".into() }
            }
        }
    }
}

impl Refusal {
    /// With its texts printable and cut.
    pub(super) fn cut(self) -> Self {
        let text = |text: String| printable(&text, TEXT_BYTES);
        match self {
            Self::NotWasm | Self::TooDeep | Self::NoContract => self,
            Self::Damaged(cause) => Self::Damaged(text(cause)),
            Self::WrongVersion(found) => Self::WrongVersion(printable(&found, NAME_BYTES)),
            Self::Imports(names) => Self::Imports(listed(&names)),
            Self::Exports(names) => Self::Exports(listed(&names)),
            Self::Mismatch(cause) => Self::Mismatch(text(cause)),
            Self::Compile(cause) => Self::Compile(text(cause)),
        }
    }

    /// The error of the module of this name.
    pub(super) fn of(self, module: &str) -> LoadError {
        let module = module.to_owned();
        match self.cut() {
            Self::NotWasm => LoadError::NotWasm { module },
            Self::Damaged(cause) => LoadError::Damaged { module, cause },
            Self::TooDeep => LoadError::TooDeep { module, limit: nesting::DEEPEST },
            Self::NoContract => LoadError::NoContract { module },
            Self::WrongVersion(found) => LoadError::WrongVersion { module, found, want: verify::ACCEPTED },
            Self::Imports(names) => LoadError::Imports { module, names },
            Self::Exports(missing) => LoadError::Exports { module, missing },
            Self::Mismatch(cause) => LoadError::Mismatch { module, cause },
            Self::Compile(cause) => LoadError::Compile { module, cause },
        }
    }
}

/// So many of the names as are listed.
fn listed(names: &[String]) -> Vec<String> {
    names.iter().take(LISTED).map(|name| printable(name, NAME_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_texts_are_printable_and_cut() {
        let name = format!("\u{1b}[2J{}", "n".repeat(1 << 20));
        let names = vec![name.clone(); 1000];
        for refusal in [
            Refusal::Damaged(name.clone()),
            Refusal::WrongVersion(name.clone()),
            Refusal::Imports(names.clone()),
            Refusal::Exports(names),
            Refusal::Mismatch(name.clone()),
            Refusal::Compile(name),
        ] {
            let error = refusal.of("orders").to_string();
            assert!(error.len() < 6000 && error.contains("\\u{1b}[2J") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
