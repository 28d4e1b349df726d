//! What the build tool says, and the commands that it runs.

use std::fmt::Display;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Prints one line to standard output.
#[allow(clippy::print_stdout)] // the one place that speaks to the person at the terminal
pub fn say(line: impl Display) {
    println!("{line}");
}

/// Prints one line to standard error.
#[allow(clippy::print_stderr)] // as above
pub fn complain(line: impl Display) {
    eprintln!("{line}");
}

/// Announces a step.
pub(crate) fn step(title: impl Display) {
    say(format_args!("\n▶ {title}"));
}

/// Runs a command to its end; what it prints goes to the terminal.
///
/// # Errors
/// When it cannot be started or fails. The error holds the command line.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = command_line(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a command beside others, to its end; what it prints goes to the terminal in one piece then.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_beside(command: &mut Command) -> anyhow::Result<()> {
    let line = command_line(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    say(format_args!("▶ {line}: {}\n{}", output.status, printed.trim_end()));
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    Ok(())
}

/// The command as one would type it.
pub(crate) fn command_line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}
