//! `cargo xtask faults`: the random schedules of faults of the tests, as many as one likes.

use crate::services::{Purpose, Services, interrupt};
use crate::workspace::Workspace;
use crate::{console, guests, test};

/// Plays so many schedules, from this seed if there is one, against real servers that it starts and ends.
///
/// # Errors
/// When something does not build, a server does not start, or a schedule ends with a store that is not as it should be.
pub fn run(workspace: &Workspace, schedules: u64, seed: Option<u64>) -> anyhow::Result<()> {
    interrupt::watch()?;
    let modules = guests::build(workspace)?;
    test::build_host(workspace)?;
    let tests = ["test", "--workspace", "--test", "integration"];
    console::run(workspace.cargo(&tests).arg("--no-run"))?;
    let services = Services::up(workspace, Purpose::Tests)?;
    console::step("Schedules of faults");
    let mut command = workspace.cargo(&tests);
    command.args(["--", "--nocapture", "schedules::nothing_is_lost"]);
    command.env("TIDEGATE_GUESTS", modules).env("TIDEGATE_SERVICES", services.file());
    command.env("TIDEGATE_FAULT_SCHEDULES", schedules.to_string());
    if let Some(seed) = seed {
        command.env("TIDEGATE_FAULT_SEED", seed.to_string());
    }
    console::run(&mut command)
}
