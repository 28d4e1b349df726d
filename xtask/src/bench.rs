//! `cargo xtask bench`: runs the criterion benchmarks and tells their figures in tables.

mod figures;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use self::figures::Figures;
use crate::workspace::Workspace;
use crate::{console, guests};

/// Between these lines stand the tables in the file of `--write`.
const BEGIN: &str = "<!-- begin of what `cargo xtask bench` wrote -->";
const END: &str = "<!-- end of what `cargo xtask bench` wrote -->";

/// Builds the modules, runs the benchmarks of the host with these arguments to criterion, and prints the tables of
/// what was measured. With `write` the tables also replace those in that file.
///
/// # Errors
/// When something does not build, a benchmark fails, or the file has no place for the tables.
pub fn run(workspace: &Workspace, arguments: &[String], write: Option<&Path>) -> anyhow::Result<()> {
    if write.is_some() && !arguments.is_empty() {
        bail!("--write wants all the benchmarks: leave the arguments to criterion away");
    }
    let modules = guests::build(workspace)?;
    console::step("Benchmarks");
    // What earlier runs left would stand in the tables beside what this one measures.
    let results = workspace.target.join("criterion");
    if results.exists() {
        fs::remove_dir_all(&results).with_context(|| format!("cannot empty {}", results.display()))?;
    }
    // A pattern, so that only criterion's programs run: libtest's would not know criterion's arguments.
    let mut command = workspace.cargo(&["bench", "--package", "tidegate", "--bench", "*", "--"]);
    command.args(arguments).env("TIDEGATE_GUESTS", modules).env("CARGO_TARGET_DIR", &workspace.target);
    console::run(&mut command)?;

    let tables = tables::write(&Figures::read(&results)?);
    console::step("Figures");
    console::say(&tables);
    match write {
        Some(file) => replace(file, &tables),
        None => Ok(()),
    }
}

fn replace(file: &Path, tables: &str) -> anyhow::Result<()> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let place = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = place.with_context(|| format!("{shown} has no place for the tables: `{BEGIN}` … `{END}`"))?;
    fs::write(file, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
        .with_context(|| format!("cannot write {shown}"))
}
