//! The real servers that tests run against: PostgreSQL, Redis, Kafka, Kafka Connect with Debezium, Elasticsearch and
//! OpenSearch.
//!
//! There are two ways to use them. [`Services::up`] starts the set that the tests or the benchmarks of a run share and
//! tells its addresses in a file, whose path `cargo xtask test` and `cargo xtask bench` hand on as `TIDEGATE_SERVICES`.
//! A test that breaks a server, or needs one with a password or TLS, starts its own with the server's type:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use xtask::services::Redis;
//! # let folder = std::path::Path::new("");
//! let arguments = ["--requirepass", "secret"].map(str::to_owned).to_vec();
//! let mut redis = Redis { arguments, ..Redis::default() }.start(folder)?;
//! redis.kill()?; // as a crash would
//! redis.restart()?; // on the same port
//! # Ok(())
//! # }
//! ```
//!
//! Every server listens on 127.0.0.1 alone, on ports that were free, and keeps its data below the folder it is given.
//! It is ended when its value is dropped, by its process's id, and the system ends it when the process of the test
//! ends in any other way.

mod docker;
mod elasticsearch;
mod identity;
pub mod interrupt;
mod jars;
mod java;
mod kafka;
mod ports;
mod postgres;
mod prerequisites;
mod process;
mod redis;
mod shared;
mod wait;

use std::process::Command;

use anyhow::{Context as _, bail};

pub use self::elasticsearch::{Elasticsearch, Flavour};
pub use self::jars::Jars;
pub use self::java::Pace;
pub use self::kafka::{Connect, Kafka};
pub use self::postgres::{Identity, Postgres};
pub use self::process::Running;
pub use self::redis::Redis;
pub use self::shared::{Addresses, Purpose, Services, prepare, prepare_browser, run};

/// Runs a command to its end; what it prints is seen only when it fails.
///
/// # Errors
/// When it cannot be started or fails. The error holds the end of what it printed.
fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let line = crate::console::command_line(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    bail!("`{line}` failed ({}): {}", output.status, lines[lines.len().saturating_sub(20)..].join("\n"))
}
