//! `tidegate rewind`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tidegate::pipeline::Stops;
use tidegate::rewind::{self, Wish};

use super::exit::{Exit, message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file, as `tidegate run` has it.
    config: PathBuf,
    /// The pipeline.
    #[arg(long)]
    pipeline: String,
    /// The sink to fill anew. It may be left out where the pipeline has one alone that can be.
    #[arg(long)]
    sink: Option<String>,
    /// The file for records that cannot be handled; most of them the pipeline has filed before. Without it, one
    /// beside the configuration, which is named at the end.
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// Go on past truncates. The rows from before a truncate come back, and are yours to delete. Without it, a topic that
    /// holds a truncate is refused.
    #[arg(long)]
    ignore_truncates: bool,
    /// How long to wait for the pipeline's processes to be stopped, where they serve by other modules than this
    /// configuration names.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait_seconds: u64,
    /// Remove what a rewind has left that was killed, and do nothing else. The next rewind does that too.
    #[arg(long)]
    abort: bool,
}

pub(super) fn rewind(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = super::log::load(&arguments.config)?;
    let stops = Arc::new(Stops::default());
    super::signals::listen(stops.clone(), config.engine.shutdown, || {}).context("cannot listen for signals")?;
    let dead_letters = arguments.dead_letters.clone().unwrap_or_else(|| {
        let file = format!("rewind-{}-{}.dead-letters.jsonl", arguments.pipeline, std::process::id());
        config.file.with_file_name(file)
    });
    let wish = Wish {
        pipeline: arguments.pipeline.clone(),
        sink: arguments.sink.clone(),
        dead_letters,
        ignore_truncates: arguments.ignore_truncates,
        patience: Duration::from_secs(arguments.wait_seconds),
    };
    let told = if arguments.abort {
        rewind::abort(&config, &wish, &stops)
    } else {
        rewind::rewind(&config, super::engine(&config)?, &wish, &stops)
    };
    // What a store or a module says may quote what came from a reference.
    let told = told.map_err(|error| anyhow!("{}", config.redact(&message(&error))))?;
    for line in told {
        writeln!(io::stdout().lock(), "{}", config.redact(&line))?;
    }
    Ok(Exit::Done)
}
