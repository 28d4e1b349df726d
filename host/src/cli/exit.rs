//! The exit codes, in one place, and the one report of an error.

use std::io::{self, Write};
use std::process::ExitCode;

use tidegate::config::ConfigError;

/// The exit codes as `--help` documents them.
pub(crate) const HELP: &str = "Exit codes:
  0  done
  1  the run could not begin, stopped, or failed
  2  the command line, the configuration or a module is wrong
  3  replay: the two modules differ
  4  run: it was asked to end, and what was in flight was not finished in time; a second signal ends with 1";

/// How a command ended, where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Done,
    /// Something failed, and the command has said what.
    Failed,
    /// The configuration or a module is wrong, and the command has said what.
    Wrong,
    /// The modules differ, and the command has shown where.
    Different,
    /// The end took longer than it may.
    Late,
}

/// What a user has to correct in the command line or in what it names, as against a run that failed.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl Exit {
    /// The code of the process.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::Different => 3,
            Self::Late => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        u8::try_from(exit.code()).map_or(Self::FAILURE, Self::from)
    }
}

/// Says what went wrong, each cause once, and answers the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    // Whoever reads the output has closed it, as `head` does: nothing is left to say, and nothing failed.
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(closed)) {
        return Exit::Done;
    }
    // Without standard error there is nobody to tell; the exit code still does.
    let _ = writeln!(io::stderr().lock(), "error: {}", message(error));
    let usage = error.chain().any(|cause| cause.is::<UsageError>() || cause.is::<ConfigError>());
    if usage { Exit::Wrong } else { Exit::Failed }
}

/// The error and its causes, without those that an outer one has quoted already.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}
