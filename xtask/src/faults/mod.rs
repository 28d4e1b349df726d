//! `cargo xtask faults`: the random schedules of faults of the tests, as many as one likes, and the proof that they find
//! what is wrong. `cargo xtask soak`: the same faults under a load that lasts.

mod breaks;

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use self::breaks::{BREAKS, Finder, cargo};
use crate::services::{Purpose, Services, interrupt};
use crate::workspace::Workspace;
use crate::{console, guests, test};

/// The test that plays the schedules.
const SCHEDULES: &str = "schedules::nothing_is_lost";
/// The test that soaks.
const SOAK: &str = "schedules::soak::";
/// How many schedules may be played until a break is found.
const ENOUGH: u64 = 60;

/// Plays so many schedules, from this seed if there is one, against real servers that it starts and ends.
///
/// # Errors
/// When something does not build, a server does not start, or a schedule ends with a store that is not as it should be.
pub fn run(workspace: &Workspace, schedules: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let (services, modules) = prepare(workspace)?;
    console::step("Schedules of faults");
    let mut command = played(workspace, &services, &modules, schedules);
    if let Some(seed) = seed {
        command.env("TIDEGATE_FAULT_SEED", seed.to_string());
    }
    console::run(&mut command)
}

/// Has load, exchanges of modules, rebalances and faults go on together for so many minutes, against real servers that it
/// starts and ends.
///
/// # Errors
/// As [`run`], and when the process that lives through it takes more and more of the machine.
pub fn soak(workspace: &Workspace, minutes: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let (services, modules) = prepare(workspace)?;
    console::step("Soak");
    let mut command = tests(workspace, &services, &modules, SOAK);
    command.env("TIDEGATE_SOAK_SECONDS", (60 * minutes).to_string());
    if let Some(seed) = seed {
        command.env("TIDEGATE_SOAK_SEED", seed.to_string());
    }
    console::run(&mut command)
}

/// Breaks the protocol in one way after the other, and has the tests find it.
///
/// # Errors
/// As [`run`], and when a break is not found.
pub fn prove(workspace: &Workspace) -> anyhow::Result<()> {
    let (services, modules) = prepare(workspace)?;
    let mut missed = Vec::new();
    for one in &BREAKS {
        console::step(one.name);
        let (program, sources) = one.build(workspace)?;
        let found = match one.finder {
            Finder::Schedules => {
                let mut command = played(workspace, &services, &modules, ENOUGH);
                let output = command.env("TIDEGATE_PROGRAM", program).output()?;
                let text =
                    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
                let marks = ["lost: ", "stepped back: ", "written twice", "a dead letter of ", "a message of "];
                let told = text.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)));
                told.take(3).for_each(|line| console::say(format_args!("  {}", line.trim())));
                let begun = text.lines().filter(|line| line.contains(", schedule ")).count();
                console::say(format_args!("  schedules begun: {begun}"));
                !output.status.success() && marks.iter().any(|mark| text.contains(mark))
            }
            Finder::Tests(filter) => {
                let mut command = cargo(workspace, &sources, &["test", "--workspace", "--lib", "--", filter]);
                let output = command.env("TIDEGATE_SERVICES", services.file()).output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let failed = text.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED"));
                failed.for_each(|line| console::say(format_args!("  {line}")));
                text.contains("test result: FAILED")
            }
        };
        console::say(if found { "  found" } else { "  NOT FOUND" });
        missed.extend((!found).then_some(one.name));
        if interrupt::requested() {
            bail!("interrupted");
        }
    }
    // In its place lies a broken one.
    test::build_host(workspace)?;
    if missed.is_empty() { Ok(()) } else { bail!("not found: {}", missed.join(", ")) }
}

fn prepare(workspace: &Workspace) -> anyhow::Result<(Services, std::path::PathBuf)> {
    interrupt::watch()?;
    let modules = guests::build(workspace)?;
    test::build_host(workspace)?;
    console::run(workspace.cargo(&["test", "--workspace", "--test", "integration"]).arg("--no-run"))?;
    Ok((Services::up(workspace, Purpose::Tests)?, modules))
}

/// The schedules, so many.
fn played(workspace: &Workspace, services: &Services, modules: &Path, schedules: u64) -> Command {
    let mut command = tests(workspace, services, modules, SCHEDULES);
    command.env("TIDEGATE_FAULT_SCHEDULES", schedules.to_string());
    command
}

fn tests(workspace: &Workspace, services: &Services, modules: &Path, filter: &str) -> Command {
    let mut command = workspace.cargo(&["test", "--workspace", "--test", "integration"]);
    command.args(["--", "--nocapture", filter]);
    command.env("TIDEGATE_GUESTS", modules).env("TIDEGATE_SERVICES", services.file());
    command
}
