//! The exit codes, in one place, and the one report of an error.

use std::io::{self, Write};
use std::process::ExitCode;

use tidegate::config::ConfigError;

/// The exit codes as `--help` documents them.
pub(crate) const HELP: &str = "Exit codes:
  0  done
  1  the run could not begin, stopped, or failed
  2  the command line, the configuration or a module is wrong
  3  replay: the two modules differ";

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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Wrong => Self::from(2),
            Exit::Different => Self::from(3),
        }
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
