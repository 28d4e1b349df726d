//! `tidegate run`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tidegate::admin;
use tidegate::pipeline::{Observed, Pipelines, Stops, Summary};
use tidegate::registry::Registry;

use super::exit::{Exit, message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Write into this SQLite file instead of the configured stores, and dead letters into FILE.dead-letters.jsonl. From
    /// Kafka it reads under a consumer group of its own, from the start of the topics.
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,
    /// Write what this run has done into this file at its end, as JSON: by pipeline the events by kind, the commands
    /// by kind and the dead letters by fault.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut config = super::log::load(&arguments.config)?;
    if let Some(file) = &arguments.preview {
        let run = getrandom::u32().context("the system gives no random number to name the preview's group by")?;
        config = config.into_preview(file, &format!("{run:08x}"));
    }
    let stops = Arc::new(Stops::default());
    let observed = Observed::new(&config);
    let report_at_once = {
        let (observed, file) = (observed.clone(), arguments.summary.clone());
        move || {
            if let Err(error) = report(&observed.summary(), file.as_deref()) {
                tracing::error!("{error:#}");
            }
        }
    };
    let listening = super::signals::listen(stops.clone(), config.engine.shutdown, report_at_once);
    listening.context("cannot listen for signals")?;
    // It answers before the modules are compiled, and until the run has ended.
    let server = admin::start(&config, observed.clone())?;
    // What a store or a module says may quote what came from a reference.
    let mut pipelines = super::engine(&config)
        .and_then(|engine| Pipelines::open(&config, engine, &stops, &observed))
        .map_err(|error| anyhow!("{}", config.redact(&message(&error))))?;
    let registry = Registry::new(pipelines.exchanges());
    if let Some(server) = &server {
        server.answer_for(registry.clone());
    }
    let watching = registry.watch()?;
    let outcome = pipelines.run();
    watching.end();
    report(&outcome.summary, arguments.summary.as_deref())?;
    for failure in &outcome.failures {
        writeln!(io::stderr().lock(), "error: {}", config.redact(&message(failure)))?;
    }
    Ok(if outcome.failures.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Logs what the run has made durable, and writes it to the summary file, if there is one.
fn report(summary: &Summary, file: Option<&Path>) -> anyhow::Result<()> {
    if let Some(file) = file {
        let text = serde_json::to_vec(summary)?;
        fs::write(file, text).with_context(|| format!("cannot write the summary to {}", file.display()))?;
    }
    for pipeline in &summary.pipelines {
        tracing::info!(
            pipeline = pipeline.name,
            events = pipeline.events.values().sum::<u64>(),
            commands = pipeline.commands.values().sum::<u64>(),
            dead_letters = pipeline.rejected.values().sum::<u64>(),
            "ended"
        );
    }
    Ok(())
}
