//! `cargo xtask bench`: runs the benchmarks, with the servers that they need, and tells their figures in tables.

mod figures;
mod live;
mod sidecar;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use self::figures::Figures;
use crate::services::{Purpose, Services, interrupt};
use crate::workspace::Workspace;
use crate::{console, guests};

/// The tables of criterion's benchmarks stand in the file of `--write` between the lines of this name.
const ALONE: &str = "cargo xtask bench";
/// Those of the benchmark with real servers between the lines of this one.
const LIVE: &str = "cargo xtask bench -- live";
/// Those of what the program takes of the machine between the lines of this one.
const SIDECAR: &str = "cargo xtask bench -- sidecar";

/// Builds the modules, runs the benchmarks of the host with these arguments, and prints the tables of what was
/// measured. With `write` the tables also replace those in that file.
///
/// Without a filter among the arguments all benchmarks run, with one that begins with `live` those alone that go from
/// Kafka into the real stores, with one that begins with `sidecar` those of what the program takes of the machine, and
/// with any other those of criterion that it fits. The servers are started, and ended afterwards, unless the environment
/// names others in `TIDEGATE_SERVICES`.
///
/// # Errors
/// When something does not build, a server does not start, a benchmark fails, or the file has no place for the tables.
pub fn run(workspace: &Workspace, arguments: &[String], write: Option<&Path>) -> anyhow::Result<()> {
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    if write.is_some() && !(arguments.is_empty() || arguments == ["live"] || arguments == ["sidecar"]) {
        bail!("--write wants all the benchmarks, all of `live` or all of `sidecar`: leave the other arguments away");
    }
    let modules = guests::build(workspace)?;
    // What earlier runs left would stand in the tables beside what this one measures.
    let results = workspace.target.join("criterion");
    if results.exists() {
        fs::remove_dir_all(&results).with_context(|| format!("cannot empty {}", results.display()))?;
    }
    let [measured, exchanged] = ["live.json", "exchange.json"].map(|name| workspace.target.join(name));
    for file in [&measured, &exchanged].into_iter().filter(|file| file.exists()) {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }

    // A pattern, so that only our own programs run: libtest's would not know criterion's arguments.
    let wanted: &[&str] = match filter.split('/').next() {
        Some("live") => &["--bench", "live"],
        Some("sidecar") => &["--bench", "live", "--bench", "exchange"],
        _ => &["--bench", "*"],
    };
    let programs = [&["bench", "--package", "tidegate"], wanted].concat();
    console::step("Benchmarks");
    let environment = |command: &mut std::process::Command| {
        command.env("TIDEGATE_GUESTS", &modules).env("CARGO_TARGET_DIR", &workspace.target);
    };
    // Before the servers run: they would stand in the compiler's way for minutes.
    let mut command = workspace.cargo(&programs);
    environment(command.arg("--no-run"));
    console::run(&mut command)?;
    let mut command = workspace.cargo(&programs);
    environment(command.arg("--").args(arguments));
    let with_servers = wanted.contains(&"live") || filter.is_empty();
    let servers = if with_servers { Some(Servers::up(workspace)?) } else { None };
    if let Some(servers) = &servers {
        servers.hand_on(&mut command)?;
    }
    console::run(command.env("TIDEGATE_LIVE_FIGURES", &measured).env("TIDEGATE_EXCHANGE_FIGURES", &exchanged))?;
    drop(servers);

    let criterion = if results.exists() { Some(tables::write(&Figures::read(&results)?)) } else { None };
    let live = if measured.exists() { live::read(&measured)? } else { None };
    let sidecar = sidecar::read(&measured, &exchanged)?;
    console::step("Figures");
    for (name, tables) in [(ALONE, criterion), (LIVE, live), (SIDECAR, sidecar)] {
        let Some(tables) = tables else { continue };
        console::say(&tables);
        if let Some(file) = write {
            replace(file, name, &tables)?;
        }
    }
    Ok(())
}

/// The servers that benchmarks find by their environment.
struct Servers {
    file: PathBuf,
    /// None where they were there before.
    _ours: Option<Services>,
}

impl Servers {
    fn up(workspace: &Workspace) -> anyhow::Result<Self> {
        if let Some(file) = std::env::var_os("TIDEGATE_SERVICES") {
            return Ok(Self { file: file.into(), _ours: None });
        }
        interrupt::watch()?;
        let services = Services::up(workspace, Purpose::Measurements)?;
        Ok(Self { file: services.file().to_owned(), _ours: Some(services) })
    }

    fn hand_on(&self, command: &mut std::process::Command) -> anyhow::Result<()> {
        let shown = self.file.display();
        let text = fs::read(&self.file).with_context(|| format!("cannot read {shown}"))?;
        let addresses: Value = serde_json::from_slice(&text).with_context(|| format!("{shown} is no JSON"))?;
        let address = |server: &str| {
            let address = addresses[server].as_str();
            address.with_context(|| format!("{shown} has no address of {server}"))
        };
        command.env("TIDEGATE_SERVICES", &self.file);
        command.env("REDIS_URL", format!("{}/4", address("redis")?));
        command.env("POSTGRES_URL", format!("{}/postgres", address("postgres")?));
        command.env("TIDEGATE_ELASTICSEARCH", address("elasticsearch")?);
        Ok(())
    }
}

/// Replaces the tables of this name in a file.
fn replace(file: &Path, name: &str, tables: &str) -> anyhow::Result<()> {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {edge} of what `{name}` wrote -->"));
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let place = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = place.with_context(|| format!("{shown} has no place for the tables: `{begin}` … `{end}`"))?;
    fs::write(file, format!("{before}{begin}\n\n{tables}\n{end}{after}"))
        .with_context(|| format!("cannot write {shown}"))
}
