//! The command line of the build tool.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::workspace::Workspace;
use xtask::{bench, console, demo, faults, fuzz, guests, services, test};

/// Builds, tests and shows tidegate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Replays captured change events through the five transforms into one SQLite file, and proves that the file
    /// equals the source.
    ///
    /// Needs no server, and no network beyond the download of crates. Exits with 1 when anything differs, and says
    /// what.
    Demo {
        /// The captured events, a folder a system [default: tests/corpus].
        #[arg(long, value_name = "DIR")]
        corpus: Option<PathBuf>,
        /// Where the store, the dead letters, the seeds and the configuration go [default: <target>/demo].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Keep the store of an earlier run, and go on from where it stands.
        #[arg(long)]
        keep: bool,
    },
    /// Checks the format, the lints, the documentation and the licences, and runs all tests.
    ///
    /// Starts the servers that the tests need, and ends them afterwards. Goes through every step, whatever fails. Its
    /// last line counts the tests.
    Test,
    /// Measures: runs the benchmarks, and prints their figures in tables.
    ///
    /// Without a filter all run. `cargo xtask bench -- live` runs those alone that go from Kafka into Redis, PostgreSQL,
    /// Elasticsearch and Kafka, `-- live/redis` one of them; `-- sidecar` measures memory, start, exchanges and counters;
    /// any other filter is for criterion's. `live` and `sidecar` start the servers they need and end them afterwards,
    /// unless TIDEGATE_SERVICES names a file with the addresses of others.
    ///
    /// A figure is the quickest of a benchmark's samples, since other work on the machine can only add.
    Bench {
        /// Put the tables into this file too, in place of those that stand there. Takes all benchmarks, `-- live` or `-- sidecar`.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        /// What follows goes to the benchmarks, for instance a filter.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Plays random schedules of faults between the program and real stores, which are watched the whole time: what is
    /// lost, stepped back or done twice ends it, with the seed that repeats it.
    ///
    /// The tests play a few of them. Starts the servers, and ends them afterwards.
    Faults {
        /// How many.
        #[arg(long, default_value_t = 500)]
        schedules: u64,
        /// Begin with this seed, as an earlier run printed it.
        #[arg(long)]
        seed: Option<u64>,
        /// Instead, break the protocol on purpose in one way after the other, in a copy of the sources, and see that the tests
        /// find it.
        #[arg(long, conflicts_with_all = ["schedules", "seed"])]
        prove: bool,
    },
    /// Fuzzes everything that takes bytes from outside, guided by coverage: what panics, or is treated otherwise than
    /// promised, ends it, and is kept in a file.
    ///
    /// The tests play the inputs of `tests/fuzz` and a few alterations of them. This goes on from what it has found
    /// before, in <target>/fuzz. Needs stable Rust, and no server.
    Fuzz {
        /// Only this: events, modules, answers, configurations or requests.
        #[arg(long)]
        target: Option<String>,
        /// How long each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Alter the inputs by other chances.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Has load, exchanges of modules, rebalances and faults go on together for as long as told, and holds the stores
    /// against what was produced every two minutes.
    ///
    /// Prints a line a minute, and at the end what happened and what a process that lived through all of it took of the
    /// machine. Ends with 1 where anything is lost, stepped back or done twice, and, after ten minutes or more, where
    /// that process has grown.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// Begin with this seed, as an earlier run printed it.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Builds the WebAssembly modules into <target>/guests.
    ///
    /// Adds the target wasm32-unknown-unknown by rustup where it is missing.
    Guests,
    /// Runs the servers that tests need until Ctrl-C, for running single tests: PostgreSQL, Redis, Kafka, Kafka
    /// Connect, Elasticsearch and OpenSearch.
    ///
    /// As containers where a Docker engine answers, else as processes of their own; on free ports of 127.0.0.1, which
    /// are printed, and written to <target>/services/addresses.json. Their data is removed afterwards.
    Services,
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    match task {
        Task::Demo { corpus, out, keep } => {
            let corpus = corpus.unwrap_or_else(|| workspace.root.join("tests/corpus"));
            let out = out.unwrap_or_else(|| workspace.target.join("demo"));
            demo::run(&workspace, &corpus, &out, keep)
        }
        Task::Test => test::run(&workspace),
        Task::Bench { write, arguments } => bench::run(&workspace, &arguments, write.as_deref()),
        Task::Faults { prove: true, .. } => faults::prove(&workspace),
        Task::Faults { schedules, seed, .. } => faults::run(&workspace, schedules, seed),
        Task::Fuzz { target, seconds, seed } => fuzz::run(&workspace, target.as_deref(), seconds, seed),
        Task::Soak { minutes, seed } => faults::soak(&workspace, minutes, seed),
        Task::Guests => guests::build(&workspace).map(drop),
        Task::Services => services::run(&workspace),
    }
}
