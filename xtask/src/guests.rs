//! `cargo xtask guests`: builds the WebAssembly modules.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::console;
use crate::workspace::Workspace;

/// The target that transforms are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Builds every guest crate and copies its module into `<target>/guests`; answers that folder.
///
/// Each crate is built by itself, since cargo unifies features over all packages of one command: a transform must
/// not get larger because of what another asks of a shared dependency.
///
/// # Errors
/// When the target is missing and cannot be added, and when a crate does not build.
pub fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    console::step("WebAssembly modules");
    add_target(workspace)?;
    let modules = workspace.modules();
    fs::create_dir_all(&modules).with_context(|| format!("cannot make the folder {}", modules.display()))?;
    for guest in &workspace.guests {
        console::run(&mut workspace.cargo(&[
            "build",
            "--quiet",
            "--package",
            &guest.package,
            "--target",
            TARGET,
            "--profile",
            "wasm",
        ]))?;
        let built = workspace.target.join(TARGET).join("wasm").join(&guest.file);
        let module = fs::read(&built).with_context(|| format!("cargo left no module at {}", built.display()))?;
        let copy = modules.join(&guest.file);
        // A host that watches the folder must not see a change where there is none.
        if fs::read(&copy).ok().as_ref() != Some(&module) {
            fs::write(&copy, &module).with_context(|| format!("cannot write {}", copy.display()))?;
        }
        console::say(format_args!("  {:<32} {:>6} KiB", guest.file, module.len().div_ceil(1024)));
    }
    Ok(modules)
}

/// Adds the target where the toolchain has none.
fn add_target(workspace: &Workspace) -> anyhow::Result<()> {
    if has_target()? {
        return Ok(());
    }
    console::say(format_args!("  the toolchain has no {TARGET} yet: adding it"));
    // In the workspace's folder: rustup takes the toolchain from there.
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(&workspace.root).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!(
            "`rustup target add {TARGET}` failed ({status}); transforms are built for this target, so add it by hand"
        ),
        Err(error) => bail!(
            "the Rust toolchain has no target {TARGET}, and rustup, which could add it, cannot be run ({error}); \
             install rustup from https://rustup.rs, or the package of your system that holds Rust's standard library \
             for WebAssembly"
        ),
    }
}

/// Whether the toolchain has the target's standard library.
fn has_target() -> anyhow::Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("cannot run rustc: is Rust installed?")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(output.status.success() && folder.is_dir())
}
