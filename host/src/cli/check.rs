//! `tidegate check`: all that can be found out about a configuration without a store, and with them on demand.

use std::io::{self, Write};
use std::path::PathBuf;

use tidegate::command::check::Checker;
use tidegate::config::{Config, Source, Transform};
use tidegate::engine::{Engine, LoadError};
use tidegate::pipeline;

use super::exit::{Exit, message};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Connect to the source and the stores too, and hold them against what the modules declare: brokers, topics,
    /// rights, tables with their keys and columns, indexes with their mappings. Changes nothing. A line that begins
    /// its text with `note:` is no fault.
    #[arg(long)]
    connect: bool,
}

pub(super) fn check(arguments: &Arguments) -> anyhow::Result<Exit> {
    let file = &arguments.config;
    let config = super::log::load(file)?;
    let engine = super::engine(&config)?;
    let mut output = io::stdout().lock();
    let mut findings = 0;
    // What a module complains about may hold a secret: it was given the settings.
    let mut tell = |place: &str, finding: &str| {
        findings += 1;
        writeln!(output, "{}: {place}: {}", file.display(), config.redact(finding))
    };
    for pipeline in &config.pipelines {
        for transform in &pipeline.transforms {
            for (field, finding) in examine(&engine, &config, transform) {
                let place = format!("pipeline `{}`, transform `{}`, {field}", pipeline.name, transform.name);
                tell(&place, &finding)?;
            }
        }
    }
    if let Source::File(source) = &config.source
        && let Err(error) = source.files()
    {
        tell("source.file.paths", &message(&error))?;
    }
    if arguments.connect {
        for finding in pipeline::inspect(&config, &engine)? {
            if finding.wrong {
                tell(&finding.place, &finding.text)?;
            } else {
                writeln!(
                    io::stdout().lock(),
                    "{}: {}: note: {}",
                    file.display(),
                    finding.place,
                    config.redact(&finding.text)
                )?;
            }
        }
    }
    if findings > 0 {
        return Ok(Exit::Wrong);
    }
    let transforms: usize = config.pipelines.iter().map(|pipeline| pipeline.transforms.len()).sum();
    writeln!(
        output,
        "{}: nothing wrong (pipelines: {}, transforms: {transforms})",
        file.display(),
        config.pipelines.len()
    )?;
    Ok(Exit::Done)
}

/// What is wrong with a transform: the field, and the cause with its remedy.
fn examine(engine: &Engine, config: &Config, transform: &Transform) -> Vec<(&'static str, String)> {
    let bytes = match std::fs::read(&*transform.module) {
        Ok(bytes) => bytes,
        Err(error) => {
            let cause = format!("cannot read `{}`: {error}; make it a readable file", transform.module.shown());
            return vec![("module", cause)];
        }
    };
    let loaded = engine.load_pinned(&transform.name, &bytes, transform.digest.as_deref(), &config.engine.limits);
    let module = match loaded {
        Ok(module) => module,
        Err(error @ LoadError::OtherDigest { .. }) => return vec![("digest", error.to_string())],
        Err(error) => return vec![("module", error.to_string())],
    };
    let mut findings = Vec::new();
    match module.start(&transform.settings) {
        Ok(started) => {
            if let Err(problems) = Checker::new(started.description(), &transform.grants.to_command()) {
                findings.extend(problems.into_iter().map(|problem| ("grants", problem)));
            }
        }
        Err(error @ LoadError::Refused { .. }) => {
            findings.push(("settings", format!("{error}; correct the pipeline's `settings`")));
        }
        Err(error) => findings.push(("module", error.to_string())),
    }
    findings
}
