//! Which process an id stands for: ids are used again, so one alone says too little to kill by.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail};

/// A process, told from a later one of the same id by when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    id: u32,
    parent: u32,
    /// In the system's ticks since its start.
    began: u64,
}

impl Identity {
    /// The process that has this id now. None when there is none, or when it ended and only waits to be noticed.
    fn of(id: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The program's name stands in parentheses and may itself hold some; the fields are counted behind it.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        Some(Self { id, parent: fields.get(1)?.parse().ok()?, began: fields.get(19)?.parse().ok()? })
    }

    /// Whether this very process still runs.
    pub(super) fn is_alive(&self) -> bool {
        Self::of(self.id).is_some_and(|now| now.began == self.began)
    }

    /// Ends it at once if it still runs.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn kill(&self) -> anyhow::Result<()> {
        match self.is_alive().then(|| send("KILL", self.id)) {
            Some(Err(error)) if self.is_alive() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The processes that this one started, and those that they started.
pub(super) fn descendants(id: u32) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<Identity> = ids.filter_map(Identity::of).collect();
    let mut found: Vec<Identity> = Vec::new();
    let mut parents = vec![id];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.id);
            found.push(process.clone());
        }
    }
    found
}

/// Sends a signal to a process. The caller knows that the id still is of the process meant: a child that was not
/// waited for yet, or one that was just looked at.
///
/// # Errors
/// When there is no such process, or the system refuses.
pub(super) fn send(signal: &str, id: u32) -> anyhow::Result<()> {
    // The shell's own `kill`: every system has it, and the standard library has none.
    let output = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &id.to_string()]).output();
    let output = output.context("cannot run sh")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("cannot send SIG{signal} to process {id}: {}", String::from_utf8_lossy(&output.stderr).trim())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::{Identity, descendants, send};

    #[test]
    fn a_process_is_known_while_it_runs_and_killed_by_what_it_is() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(identity.is_alive());
        assert!(descendants(std::process::id()).contains(&identity));

        let another = Identity { began: identity.began + 1, ..identity };
        assert!(!another.is_alive(), "another process of the same id is not this one");
        another.kill().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "and does not lend its id to be killed by");

        identity.kill().unwrap();
        child.wait().unwrap();
        assert!(!identity.is_alive());
        identity.kill().unwrap();
    }

    #[test]
    fn one_that_ended_and_was_not_waited_for_does_not_run() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        child.kill().unwrap();
        while identity.is_alive() {
            std::thread::yield_now();
        }
        assert_eq!(Identity::of(child.id()), None);
        child.wait().unwrap();
    }

    #[test]
    fn a_signal_to_no_process_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = send("TERM", child.id()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot send SIGTERM to process {}", child.id())), "{error}");
    }
}
