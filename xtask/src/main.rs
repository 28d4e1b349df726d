//! The command line of the build tool.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::workspace::Workspace;
use xtask::{bench, console, guests, test};

/// Builds, tests and measures tidegate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the format, the lints, the documentation and the licences, and runs all tests.
    ///
    /// Goes through every step, whatever fails. Its last line counts the tests.
    Test,
    /// Measures: runs the criterion benchmarks.
    Bench {
        /// What follows goes to criterion, for instance a filter.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Builds the WebAssembly modules into <target>/guests.
    ///
    /// Adds the target wasm32-unknown-unknown by rustup where it is missing.
    Guests,
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
        Task::Test => test::run(&workspace),
        Task::Bench { arguments } => bench::run(&workspace, &arguments),
        Task::Guests => guests::build(&workspace).map(drop),
    }
}
