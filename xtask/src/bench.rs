//! `cargo xtask bench`: runs the criterion benchmarks.

use crate::workspace::Workspace;
use crate::{console, guests};

/// Builds the modules and runs the benchmarks of the host with these arguments to criterion.
///
/// # Errors
/// When something does not build or a benchmark fails.
pub fn run(workspace: &Workspace, arguments: &[String]) -> anyhow::Result<()> {
    let modules = guests::build(workspace)?;
    console::step("Benchmarks");
    // A pattern, so that only criterion's programs run: libtest's would not know criterion's arguments.
    let mut command = workspace.cargo(&["bench", "--package", "tidegate", "--bench", "*", "--"]);
    command.args(arguments).env("TIDEGATE_GUESTS", modules);
    console::run(&mut command)
}
