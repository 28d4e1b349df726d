//! `cargo xtask demo`: replays the captured events of five systems through five transforms into one SQLite file, and
//! proves that the file equals the source.

mod folder;
mod outcome;
mod queries;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::bail;

pub use folder::{Folder, prepare};

use crate::workspace::Workspace;
use crate::{console, guests, test, verify};

/// Builds everything, runs the host once over the captured events, and reports system by system.
///
/// `corpus` is the folder with a folder a system, `out` where the store goes. What an earlier run left there is
/// removed first; with `keep` it stays, and the host goes on from there.
///
/// # Errors
/// When something does not build, when the host fails, and when the store differs from the source. The differences
/// have been printed then.
pub fn run(workspace: &Workspace, corpus: &Path, out: &Path, keep: bool) -> anyhow::Result<()> {
    let modules = guests::build(workspace)?;
    console::step("Host");
    test::build_host(workspace)?;

    let folder = prepare(&workspace.root, corpus, &modules, out, keep)?;
    console::step("Replay");
    let begun = Instant::now();
    console::run(&mut host(&workspace.host(), &folder))?;
    console::say(format_args!("  {} in {:.1} s", shown(&folder.config), begun.elapsed().as_secs_f32()));

    console::step("Proof");
    let outcome = outcome::read(&folder)?;
    let verdicts = verify::verify(&folder.store, corpus)?;
    for verdict in &verdicts {
        report::system(verdict, &outcome);
    }
    let differences: usize = verdicts.iter().map(|verdict| verdict.differences.len()).sum();
    if differences > 0 {
        bail!("the store differs from the source in {differences} places, listed above");
    }
    console::say("\nThe store equals the source in all five systems.");
    queries::show(&folder.store)
}

/// The command that runs the host in a prepared folder.
fn host(binary: &Path, folder: &Folder) -> Command {
    let mut command = Command::new(binary);
    command.arg("run").arg(&folder.config).arg("--summary").arg(&folder.summary);
    // What each pipeline has done, without a line for each partition that it claims.
    command.args(["--log", "warn,tidegate::cli=info"]);
    command
}

/// A path as one would type it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::new());
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
