//! Where things are: the folders of the workspace and its guest crates, as cargo tells them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// The workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Its root.
    pub root: PathBuf,
    /// Where cargo builds: `CARGO_TARGET_DIR` where that is set.
    pub target: PathBuf,
    /// The crates that become WebAssembly modules: the members with a `cdylib`.
    pub guests: Vec<Guest>,
    /// The names of the test programs that are targets of their own.
    pub tests: Vec<String>,
}

/// A crate that becomes a WebAssembly module.
#[derive(Debug)]
pub struct Guest {
    /// The package's name, for `cargo build --package`.
    pub package: String,
    /// The module's file name, as cargo calls it: `order_cache.wasm`.
    pub file: String,
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    crate_types: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// When cargo cannot be run or does not understand the workspace.
    pub fn load() -> anyhow::Result<Self> {
        // `cargo run` names the folder of this very checkout; where it was compiled may be another by now.
        let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(here)
            .output()
            .context("cannot run `cargo metadata`: is cargo on the PATH?")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
        let (mut guests, mut tests) = (Vec::new(), Vec::new());
        for package in metadata.packages {
            let is_test = |target: &&Target| target.kind.iter().any(|kind| kind == "test");
            tests.extend(package.targets.iter().filter(is_test).map(|target| target.name.clone()));
            let module = package.targets.iter().find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
            if let Some(module) = module {
                let file = format!("{}.wasm", module.name.replace('-', "_"));
                guests.push(Guest { package: package.name, file });
            }
        }
        tests.sort();
        tests.dedup();
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, guests, tests })
    }

    /// Where the built modules are.
    pub fn modules(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// The host's binary of the dev profile, as `cargo build` leaves it.
    pub fn host(&self) -> PathBuf {
        self.target.join("debug").join(format!("tidegate{}", std::env::consts::EXE_SUFFIX))
    }

    /// A cargo command in the workspace.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.args(arguments).current_dir(&self.root);
        // `cargo run` tells its program of its own package. Build scripts that look at that would run again, and all that
        // depends on them would be built again, whenever cargo is then called directly.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// The cargo that runs this program, where one does.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
