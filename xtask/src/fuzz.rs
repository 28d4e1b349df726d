//! `cargo xtask fuzz`: the fuzzing of the tests for as long as one likes, guided by coverage.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::console;
use crate::workspace::Workspace;

/// Every target is a test of this name in `fuzz::`.
pub const TARGETS: [&str; 7] = ["lines", "events", "modules", "answers", "notes", "configurations", "requests"];

/// The compiler's pass that counts branches, as stable Rust has it, and code that is quick enough. The passes are for the
/// host alone, whose tests have the function that the pass calls; dependencies stay as they are built.
const WRAPPER: &str = r#"#!/bin/sh
case " $* " in
*" --crate-name tidegate "*" --test "*)
    exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Copt-level=1 -Cdebug-assertions=on -Coverflow-checks=on
    ;;
*) exec "$@" ;;
esac
"#;

/// Fuzzes a target, or all of them one after the other, for so many seconds each. What was found before is gone on from.
///
/// # Errors
/// When something does not build, a target is not known, or an input fails.
pub fn run(workspace: &Workspace, target: Option<&str>, seconds: u64, seed: u64) -> anyhow::Result<()> {
    let targets: Vec<&str> = TARGETS.into_iter().filter(|name| target.is_none_or(|target| target == *name)).collect();
    if targets.is_empty() {
        bail!("there is no target of this name: there are {}", TARGETS.join(", "));
    }
    let folder = workspace.target.join("fuzz");
    fs::create_dir_all(&folder)?;
    let wrapper = wrapper(&folder)?;
    let tests = |arguments: &[&str]| {
        let mut command = workspace.cargo(&["test", "--workspace", "--lib"]);
        command.args(arguments).env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
        command
    };
    console::step("Tests that count branches");
    console::run(&mut tests(&["--no-run"]))?;
    let mut failed = Vec::new();
    for name in targets {
        console::step(name);
        let mut command = tests(&["--quiet", "--", "--exact", "--nocapture"]);
        command.arg(format!("fuzz::{name}")).env("TIDEGATE_FUZZ_SECONDS", seconds.to_string());
        command.env("TIDEGATE_FUZZ_SEED", seed.to_string()).env("TIDEGATE_FUZZ_FOLDER", &folder);
        if let Err(error) = console::run(&mut command) {
            console::complain(format_args!("error: {error:#}"));
            console::complain(format_args!("its last input is {}", folder.join(format!("{name}-last")).display()));
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn wrapper(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("rustc.sh");
    let written =
        fs::write(&path, WRAPPER).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
