//! What is wrong with a configuration: every problem of the file at once, each with its place and its remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong. It never holds a value that came from a reference, only the reference as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line in the file, from 1; none where the file as a whole is meant.
    pub line: Option<usize>,
    /// The path of the field, as `pipelines[0].topics[1]`; empty where the file as a whole is meant.
    pub field: String,
    /// The value and the constraint that it breaks.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// All that is wrong with a configuration. Displayed as one line a problem, in the order of the file:
/// `FILE:LINE: FIELD: CAUSE; REMEDY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.into(), problems }
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            if !problem.field.is_empty() {
                write!(f, " {}:", problem.field)?;
            }
            write!(f, " {}; {}", problem.cause, problem.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
