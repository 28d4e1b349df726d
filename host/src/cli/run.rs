//! `tidegate run`.

use std::io::{self, Write};
use std::path::PathBuf;

use tidegate::config::Config;
use tidegate::pipeline::{self, Stops};

use super::exit::{Exit, message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Write into this SQLite file instead of the configured stores, and dead letters into FILE.dead-letters.jsonl.
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut config = Config::load(&arguments.config)?;
    if let Some(file) = &arguments.preview {
        config = config.into_preview(file);
    }
    let stops = Stops::default();
    let outcome = pipeline::run(&config, &stops)?;
    for pipeline in &outcome.summary.pipelines {
        tracing::info!(
            pipeline = pipeline.name,
            events = pipeline.events.values().sum::<u64>(),
            commands = pipeline.commands.values().sum::<u64>(),
            dead_letters = pipeline.rejected.values().sum::<u64>(),
            "ended"
        );
    }
    for failure in &outcome.failures {
        writeln!(io::stderr().lock(), "error: {}", message(failure))?;
    }
    Ok(if outcome.failures.is_empty() { Exit::Done } else { Exit::Failed })
}
