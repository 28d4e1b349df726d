//! `cargo xtask test`: format, lints, documentation, licences, and all tests, counted, with the servers they need.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, anyhow, bail};

use crate::services::{self, Purpose, Services, interrupt};
use crate::workspace::Workspace;
use crate::{console, guests};

/// Goes through every step, whatever fails before, and prints how many tests passed and failed as its last line.
///
/// # Errors
/// When a step failed; the steps are named. After Ctrl-C the step under way is the last.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    interrupt::watch()?;
    // What the browser and the servers need is fetched meanwhile.
    let prepare = || (services::prepare_browser(), services::prepare(workspace));
    thread::scope(|scope| steps(workspace, scope.spawn(prepare)))
}

/// What came of fetching the browser, and of fetching what the servers need.
type Prepared = (anyhow::Result<()>, anyhow::Result<()>);

fn steps(workspace: &Workspace, preparation: thread::ScopedJoinHandle<'_, Prepared>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let mut note = |name: &'static str, result: anyhow::Result<()>| {
        if interrupt::requested() {
            bail!("interrupted");
        }
        if let Err(error) = result {
            console::complain(format_args!("error: {error:#}"));
            failed.push(name);
        }
        Ok(())
    };

    console::step("Format");
    note("format", console::run(&mut workspace.cargo(&["fmt", "--all", "--check"])))?;
    note("modules", guests::build(workspace).map(drop))?;
    console::step("Build");
    note("build", build(workspace))?;
    console::step("Tests, and beside them lints, documentation and licences");
    let (browser, prepared) =
        preparation.join().unwrap_or_else(|_| (Ok(()), Err(anyhow!("the preparation of the servers panicked"))));
    note("browser", browser)?;
    // Without them the tests still run: those that need them say so, and the others count.
    let (services, result) = match prepared.and_then(|()| Services::up(workspace, Purpose::Tests)) {
        Ok(services) => (Some(services), Ok(())),
        Err(error) => (None, Err(error)),
    };
    note("servers", result)?;
    // Tests wait for servers most of the time, and the compiler for nobody.
    let ((count, tested), checked) = thread::scope(|scope| {
        let checks = scope.spawn(|| checks(workspace));
        (tests(workspace, services.as_ref()), checks.join())
    });
    drop(services);
    note("tests", tested)?;
    for (name, result) in checked.map_err(|_| anyhow!("the checks panicked"))? {
        note(name, result)?;
    }

    console::say("");
    if !failed.is_empty() {
        console::say(format_args!("failed: {}", failed.join(", ")));
    }
    console::say(format_args!("{} passed, {} failed", count.passed, count.failed));
    if failed.is_empty() { Ok(()) } else { bail!("not all is well: {}", failed.join(", ")) }
}

/// What is found out without running anything.
fn checks(workspace: &Workspace) -> [(&'static str, anyhow::Result<()>); 3] {
    [("lints", lints(workspace)), ("documentation", documentation(workspace)), ("licences", licences(workspace))]
}

/// Clippy over the workspace, and over the guests for the target that they are built for.
fn lints(workspace: &Workspace) -> anyhow::Result<()> {
    let all = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    console::run_beside(&mut workspace.cargo(&all))?;
    let mut command = workspace.cargo(&["clippy", "--quiet", "--lib", "--target", guests::TARGET]);
    for guest in &workspace.guests {
        command.args(["--package", &guest.package]);
    }
    if workspace.guests.is_empty() {
        return Ok(());
    }
    console::run_beside(command.args(["--", "--deny", "warnings"]))
}

fn documentation(workspace: &Workspace) -> anyhow::Result<()> {
    let mut command = workspace.cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    console::run_beside(command.env("RUSTDOCFLAGS", "--deny warnings"))
}

/// `cargo deny`, where it is installed: it is no part of a Rust toolchain.
fn licences(workspace: &Workspace) -> anyhow::Result<()> {
    let installed = workspace.cargo(&["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !installed {
        console::say("licences: skipped: cargo-deny is not installed (`cargo install cargo-deny --locked`)");
        return Ok(());
    }
    console::run_beside(&mut workspace.cargo(&["deny", "check", "licenses", "bans", "sources"]))
}

/// How many tests passed and failed, over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Adds what one line of libtest's output tells, if it tells anything: then a test program has ended.
    fn add(&mut self, line: &str) -> bool {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return false;
        };
        let Some((_, counts)) = result.split_once(". ") else {
            return false;
        };
        for part in counts.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
        true
    }

    fn merge(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The test program that runs the whole against real servers, and takes as long as all others.
const INTEGRATION: &str = "integration";

/// Builds the program, and all that is tested.
fn build(workspace: &Workspace) -> anyhow::Result<()> {
    build_host(workspace)?;
    console::run(&mut workspace.cargo(&["test", "--workspace", "--no-run"]))
}

/// Runs all tests: the integration tests, and beside them the others, one program after the other.
fn tests(workspace: &Workspace, services: Option<&Services>) -> (Count, anyhow::Result<()>) {
    let command = |targets: &[&str]| {
        let mut command = workspace.cargo(&["test", "--workspace", "--no-fail-fast"]);
        command.args(targets).env("TIDEGATE_GUESTS", workspace.modules());
        if let Some(services) = services {
            command.env("TIDEGATE_SERVICES", services.file());
        }
        command
    };
    let others = workspace.tests.iter().filter(|name| *name != INTEGRATION);
    let others: Vec<&str> = ["--lib", "--bins"].into_iter().chain(others.flat_map(|name| ["--test", name])).collect();
    thread::scope(|scope| {
        let whole = scope.spawn(|| counted(&mut command(&["--test", INTEGRATION]), Shown::Lines));
        let (mut count, parts) = counted(&mut command(&others), Shown::Programs);
        let (documented, examples) = counted(&mut command(&["--doc"]), Shown::Programs);
        let (integrated, whole) = whole
            .join()
            .unwrap_or_else(|_| (Count::default(), Err(anyhow!("what runs the integration tests panicked"))));
        count.merge(&documented);
        count.merge(&integrated);
        (count, parts.and(examples).and(whole))
    })
}

/// Builds the host's program, for the demo and for the tests that run it. With the whole workspace and one of its tests, as
/// the tests are built, so that cargo unifies the features of dependencies alike, those that tests alone ask for among them,
/// and builds the large ones and the host itself once.
///
/// # Errors
/// When the host does not build.
pub(crate) fn build_host(workspace: &Workspace) -> anyhow::Result<()> {
    console::run(&mut workspace.cargo(&["build", "--workspace", "--bins", "--test", "engine"]))
}

/// How the output of test programs is shown, where two run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Line by line, while it comes.
    Lines,
    /// That of a test program in one piece, when it has ended.
    Programs,
}

/// Runs a command, shows what it prints, and counts the tests.
fn counted(command: &mut Command, shown: Shown) -> (Count, anyhow::Result<()>) {
    let mut count = Count::default();
    let mut piece = Vec::new();
    let result = stream(command, |line| {
        let ended = count.add(line);
        if shown == Shown::Lines {
            console::say(line);
            return;
        }
        piece.push(line.to_owned());
        if ended {
            console::say(std::mem::take(&mut piece).join("\n"));
        }
    });
    if !piece.is_empty() {
        console::say(piece.join("\n"));
    }
    (count, result)
}

/// Runs a command, and hands on each line of its standard output.
fn stream(command: &mut Command, mut line_seen: impl FnMut(&str)) -> anyhow::Result<()> {
    let name = console::command_line(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{name}`"))?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.with_context(|| format!("cannot read what `{name}` prints"))?;
            line_seen(&String::from_utf8_lossy(&line));
        }
    }
    let status = child.wait().with_context(|| format!("`{name}` cannot be waited for"))?;
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "the test result: ok. 99 passed; is what a test printed",
        ] {
            count.add(line);
        }
        assert_eq!(count, Count { passed: 15, failed: 2 });
    }
}
