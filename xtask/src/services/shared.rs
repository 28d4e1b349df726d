//! The servers that the tests or the benchmarks of one run share, and `cargo xtask services`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde::Serialize;

use super::docker::{self, Containers};
use super::prerequisites::Program;
use super::process::Running;
use super::{Connect, Elasticsearch, Flavour, Jars, Kafka, Pace, Postgres, Redis, interrupt, prerequisites};
use crate::console;
use crate::workspace::Workspace;

/// What the servers are started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// All of them, quickly.
    Tests,
    /// PostgreSQL, Redis, Kafka and Elasticsearch, as they run in production: Java compiles as well as it can, and
    /// PostgreSQL waits for the disk.
    Measurements,
}

/// Where the shared servers are, as the file of `TIDEGATE_SERVICES` holds it in JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// `postgres://postgres@127.0.0.1:PORT`: a superuser without a password; no database.
    pub postgres: String,
    /// `127.0.0.1:PORT`, as in `bootstrap.servers`.
    pub kafka: String,
    /// `http://127.0.0.1:PORT`, Connect's REST interface. Tests alone have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// `redis://127.0.0.1:PORT`.
    pub redis: String,
    /// `http://127.0.0.1:PORT`.
    pub elasticsearch: String,
    /// `http://127.0.0.1:PORT`. Tests alone have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opensearch: Option<String>,
}

/// The shared servers while they run. They are ended, and their data removed, when the value is dropped.
pub struct Services {
    addresses: Addresses,
    file: PathBuf,
    data: PathBuf,
    /// In the order in which they are ended: Connect before the broker it talks to.
    servers: Vec<Running>,
    containers: Option<Containers>,
    /// Held while they run.
    _lock: File,
}

/// Installs or downloads what the servers need, where that is missing: nothing but the containers' images where a
/// Docker engine answers. `Services::up` does it, too; this lets it be done beside other work.
///
/// # Errors
/// When something is missing that cannot be installed: one message names all of it.
pub fn prepare(workspace: &Workspace) -> anyhow::Result<()> {
    if docker::answers() {
        return Ok(());
    }
    prerequisites::install(&prerequisites::SERVERS)?;
    Jars::resolve(workspace).map(drop)
}

/// Installs the browser that the page of the admin API is tried in, where it is missing. It is no container: it runs
/// beside the tests.
///
/// # Errors
/// When it is missing and cannot be installed.
pub fn prepare_browser() -> anyhow::Result<()> {
    prerequisites::install(&[Program::Chromium])
}

impl Services {
    /// Starts them, all as containers where a Docker engine answers, else those of the purpose as processes, and writes
    /// `<target>/services/addresses.json`.
    ///
    /// # Errors
    /// When they run already for this target folder, when something is missing that cannot be installed, and when a
    /// server does not start; nothing is left running then.
    pub fn up(workspace: &Workspace, purpose: Purpose) -> anyhow::Result<Self> {
        let folder = workspace.target.join("services");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock = lock(&folder)?;
        let data = folder.join("data");
        // What a run left that was killed.
        remove(&data)?;
        let (addresses, servers, containers) = if docker::answers() {
            let containers = Containers::up(&workspace.root.join("tests/services/compose.yml"))?;
            (containers.addresses(), Vec::new(), Some(containers))
        } else {
            prepare(workspace)?;
            let started = start_all(&Jars::resolve(workspace)?, &data, purpose);
            if started.is_err() {
                remove(&data)?;
            }
            let (addresses, servers) = started?;
            (addresses, servers, None)
        };
        let file = folder.join("addresses.json");
        let services = Self { addresses, file, data, servers, containers, _lock: lock };
        let text = serde_json::to_string_pretty(&services.addresses)?;
        fs::write(&services.file, text).with_context(|| format!("cannot write {}", services.file.display()))?;
        Ok(services)
    }

    /// Where they are.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The file with the addresses, for `TIDEGATE_SERVICES`.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for server in self.servers.drain(..) {
            drop(server);
        }
        self.containers = None;
        let removed = fs::remove_file(&self.file).map_err(anyhow::Error::from).and_then(|()| remove(&self.data));
        if let Err(error) = removed {
            console::complain(format_args!("warning: the servers' data stays: {error:#}"));
        }
    }
}

/// Runs them until Ctrl-C, for a developer who runs single tests against them.
///
/// # Errors
/// As [`Services::up`].
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    interrupt::watch()?;
    let begin = Instant::now();
    let services = Services::up(workspace, Purpose::Tests)?;
    console::say(serde_json::to_string_pretty(services.addresses())?);
    console::say(format_args!("up after {:.1} s; Ctrl-C ends them", begin.elapsed().as_secs_f64()));
    console::say("tests find them by themselves, or by");
    console::say(format_args!("  TIDEGATE_SERVICES={}", services.file().display()));
    while !interrupt::requested() {
        thread::park_timeout(Duration::from_millis(100));
    }
    Ok(())
}

/// One run a target folder: a second one would remove the data of the first.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "the servers of {} run already, from another `cargo xtask services` or `cargo xtask test`: end that first",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Starts all side by side, except that Connect waits for its broker.
fn start_all(jars: &Jars, data: &Path, purpose: Purpose) -> anyhow::Result<(Addresses, Vec<Running>)> {
    let all = purpose == Purpose::Tests;
    let pace = if all { Pace::SoonUp } else { Pace::Full };
    thread::scope(|scope| {
        let postgres = scope.spawn(move || {
            let fsync = ("fsync".to_owned(), if all { "off" } else { "on" }.to_owned());
            Postgres { settings: vec![fsync], ..Postgres::default() }.start(&data.join("postgres"))
        });
        let redis = scope.spawn(|| Redis::default().start(&data.join("redis")));
        let kafka = scope.spawn(move || -> anyhow::Result<_> {
            let kafka = Kafka { pace, ..Kafka::new(jars) }.start(&data.join("kafka"))?;
            let connect = || {
                let connect = Connect { jars, brokers: kafka.url().to_owned(), properties: Vec::new() };
                connect.start(&data.join("connect"))
            };
            let connect = all.then(connect).transpose()?;
            Ok((kafka, connect))
        });
        let node =
            move |flavour, name| Elasticsearch { pace, ..Elasticsearch::new(jars, flavour) }.start(&data.join(name));
        let elasticsearch = scope.spawn(move || node(Flavour::Elasticsearch, "elasticsearch"));
        let opensearch = scope.spawn(move || all.then(|| node(Flavour::OpenSearch, "opensearch")).transpose());

        // All are waited for before the first error is told, which ends those that came up.
        let results = (joined(postgres), joined(redis), joined(kafka), joined(elasticsearch), joined(opensearch));
        let (postgres, redis, kafka, elasticsearch, opensearch) = results;
        let (postgres, redis, (kafka, connect)) = (postgres?, redis?, kafka?);
        let (elasticsearch, opensearch) = (elasticsearch?, opensearch?);
        let url = |server: &Running| server.url().to_owned();
        let addresses = Addresses {
            postgres: url(&postgres),
            kafka: url(&kafka),
            connect: connect.as_ref().map(url),
            redis: url(&redis),
            elasticsearch: url(&elasticsearch),
            opensearch: opensearch.as_ref().map(url),
        };
        let servers = connect.into_iter().chain([kafka, postgres, redis, elasticsearch]).chain(opensearch);
        Ok((addresses, servers.collect()))
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread that starts a server panicked")))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}
