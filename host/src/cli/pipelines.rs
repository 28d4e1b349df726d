//! `tidegate pipelines`: what the running program does, pausing it, and starting a pipeline again that has stopped.

use std::io::{self, Write};
use std::path::PathBuf;

use hyper::Method;
use serde_json::Value;

use super::client::{admin, ask, encoded};
use super::exit::Exit;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print each pipeline on a line: name, state, the offsets that are left, how many seconds it is behind, and what it
    /// waits for or why it has stopped. `-` is what nobody knows.
    #[command(after_help = super::exit::HELP)]
    List(List),
    /// Have a pipeline take in nothing more. What is in flight is finished, and its partitions stay its own. It lasts
    /// until it is resumed, or until the program ends.
    #[command(after_help = super::exit::HELP)]
    Pause(Named),
    /// Have a pipeline go on that was paused, or start again that has stopped while others go on.
    #[command(after_help = super::exit::HELP)]
    Resume(Named),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The configuration file of the running program.
    config: PathBuf,
    /// Print what the program answers, as JSON: with the partitions, the modules and what was counted.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The configuration file of the running program.
    pub(super) config: PathBuf,
    /// The pipeline.
    pub(super) pipeline: String,
}

pub(super) fn pipelines(command: &Command) -> anyhow::Result<Exit> {
    let (named, what) = match command {
        Command::List(arguments) => return list(arguments),
        Command::Pause(named) => (named, "pause"),
        Command::Resume(named) => (named, "resume"),
    };
    let config = super::log::load(&named.config)?;
    let path = format!("/v1/pipelines/{}/{what}", encoded(&named.pipeline));
    let pipeline = ask(admin(&config)?, Method::POST, &path)?;
    writeln!(io::stdout().lock(), "{}", line(&pipeline))?;
    Ok(Exit::Done)
}

fn list(arguments: &List) -> anyhow::Result<Exit> {
    let config = super::log::load(&arguments.config)?;
    let answer = ask(admin(&config)?, Method::GET, "/v1/pipelines")?;
    let mut output = io::stdout().lock();
    if arguments.json {
        writeln!(output, "{answer}")?;
        return Ok(Exit::Done);
    }
    for pipeline in answer["pipelines"].as_array().into_iter().flatten() {
        writeln!(output, "{}", line(pipeline))?;
    }
    Ok(Exit::Done)
}

/// A pipeline on a line, as its list has it.
pub(super) fn line(pipeline: &Value) -> String {
    let text = |name: &str| pipeline[name].as_str().unwrap_or_default();
    let number = |name: &str| match &pipeline[name] {
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let mut line =
        format!("{} {} lag={} seconds_behind={}", text("name"), text("state"), number("lag"), number("seconds_behind"));
    for waiting in pipeline["waiting"].as_array().into_iter().flatten() {
        let of = |name: &str| waiting[name].as_str().unwrap_or_default();
        line.push_str(&format!("; waits for {}: {}", of("store"), of("cause")));
    }
    if !text("reason").is_empty() {
        line.push_str(&format!("; {}", text("reason")));
    }
    super::show::one_line(&line)
}
