//! The command line. Its help texts are its documentation.

mod check;
mod client;
mod dead_letters;
mod exit;
mod history;
mod log;
mod modules;
mod new;
mod pipelines;
mod probe;
mod replay;
mod rewind;
mod run;
mod show;
mod signals;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tidegate::config::Config;
use tidegate::engine::{Compiler, Engine, compile_for_parent};

use self::exit::report;

/// Hands Debezium change events to WebAssembly transforms and executes the commands that come back.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = exit::HELP)]
struct Arguments {
    /// What to log, to standard error: error, warn, info, debug, trace, or targets as `tidegate::engine=debug,info`.
    /// Without it the environment variable TIDEGATE_LOG decides, then `info`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How the log is written: `text`, or `json`, an object a line. Without it the environment variable
    /// TIDEGATE_LOG_FORMAT decides, then `text`.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the pipelines of a configuration until their source ends or SIGINT or SIGTERM comes.
    ///
    /// A run that is killed and started again goes on where the stores stand, and ends in the same state.
    #[command(after_help = exit::HELP)]
    Run(run::Arguments),
    /// Check a configuration: every key of it, and that each module loads, takes its settings and is granted what it
    /// declares. Prints one line a finding.
    #[command(after_help = exit::HELP)]
    Check(check::Arguments),
    /// Hand recorded events to a module and print its commands, one JSON object a line; with two modules, print where
    /// they differ. No store and no grants are involved.
    ///
    /// A line with one module: {"topic","partition","offset","command":{KIND:{…}}}, or with "rejected" and "reason"
    /// for an event that is refused. With two: {"topic","partition","offset","first":[…],"second":[…]} for each event
    /// that they answer differently. Answers are compared by meaning: JSON by its values (numbers by their digits,
    /// members in any order), commands by target, and the order only among the commands of one target.
    #[command(after_help = exit::HELP)]
    Replay(replay::Arguments),
    /// See what the program does that runs a configuration, and pause what it does. The configuration must have [admin].
    #[command(subcommand, after_help = exit::HELP)]
    Pipelines(pipelines::Command),
    /// See which modules serve, and have others serve while the stream runs. The configuration must have [admin].
    #[command(subcommand, after_help = exit::HELP)]
    Modules(modules::Command),
    /// Ask a running program whether it lives or is ready, and end with 0 if so, else with 1. For probes that are commands,
    /// as of Kubernetes where the program listens on a Unix socket. It needs no token.
    #[command(after_help = exit::HELP)]
    Probe(probe::Arguments),
    /// Look into the records that could not be handled, where the configuration has them filed.
    ///
    /// It reads what is there, changes nothing, and may be used while a run files more. Where the configuration has
    /// [admin] and the program runs, the program is asked.
    #[command(subcommand, after_help = exit::HELP)]
    DeadLetters(dead_letters::Command),
    /// Fill what a pipeline writes into one store anew, from the start of its topics, and put it in the place of what is
    /// there in one step. The pipeline may run meanwhile; it need not.
    ///
    /// Readers see the old data until then, and never an older state of anything than they saw. Killed or stopped before
    /// that moment, it changes nothing. Elasticsearch: new indexes, as the module defines them now, behind the same
    /// aliases. PostgreSQL: the tables end with exactly the rows that the fill made, in one transaction. Redis: the entries
    /// under the module's keys. Nothing is written to other stores, and no message is published again.
    #[command(after_help = exit::HELP)]
    Rewind(rewind::Arguments),
    /// Make a crate for a transform that builds and passes its tests.
    #[command(after_help = exit::HELP)]
    New(new::Arguments),
    /// Verify and compile the module on standard input within these limits: how the program starts itself for each module.
    #[command(hide = true)]
    CompileModule { memory_bytes: u64, cpu_seconds: u64 },
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // It logs nothing.
    if let Command::CompileModule { memory_bytes, cpu_seconds } = arguments.command {
        return compile_for_parent(memory_bytes, cpu_seconds);
    }
    let exit =
        log::start(arguments.log.as_deref(), arguments.log_format.as_deref()).and_then(|()| match &arguments.command {
            Command::Run(arguments) => run::run(arguments),
            Command::Check(arguments) => check::check(arguments),
            Command::Replay(arguments) => replay::replay(arguments),
            Command::Pipelines(command) => pipelines::pipelines(command),
            Command::Modules(command) => modules::modules(command),
            Command::Probe(arguments) => probe::probe(arguments),
            Command::DeadLetters(command) => dead_letters::dead_letters(command),
            Command::Rewind(arguments) => rewind::rewind(arguments),
            Command::New(arguments) => new::new(arguments),
            Command::CompileModule { .. } => Ok(exit::Exit::Done),
        });
    exit.unwrap_or_else(|error| report(&error)).into()
}

/// The engine of a configuration: modules are compiled in a child of this program.
fn engine(config: &Config) -> anyhow::Result<Engine> {
    let cache = config.engine.cache.as_ref().map(|folder| folder.to_path_buf());
    Engine::new(cache, Compiler::this_program().context("the program's own file is not known")?)
}
