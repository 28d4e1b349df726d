//! `tidegate check`: all that can be found out about a configuration without a store.

use std::io::{self, Write};
use std::path::Path;

use tidegate::command::check::Checker;
use tidegate::config::{Config, Pipeline, Transform};
use tidegate::engine::Engine;

use super::exit::{Exit, message};

pub(super) fn check(file: &Path) -> anyhow::Result<Exit> {
    let config = Config::load(file)?;
    let engine = Engine::new(config.engine.cache.as_ref().map(|folder| folder.to_path_buf()))?;
    let mut output = io::stdout().lock();
    let mut findings = 0;
    for pipeline in &config.pipelines {
        for transform in &pipeline.transforms {
            for finding in examine(&engine, &config, transform) {
                findings += 1;
                writeln!(output, "{}", line(file, pipeline, transform, &finding))?;
            }
        }
    }
    if let Err(error) = files(&config) {
        findings += 1;
        writeln!(output, "{}: source.file: {}", file.display(), message(&error))?;
    }
    if findings > 0 {
        return Ok(Exit::Wrong);
    }
    let transforms: usize = config.pipelines.iter().map(|pipeline| pipeline.transforms.len()).sum();
    writeln!(
        output,
        "{}: {} pipelines, {transforms} transforms, nothing wrong",
        file.display(),
        config.pipelines.len()
    )?;
    Ok(Exit::Done)
}

fn line(file: &Path, pipeline: &Pipeline, transform: &Transform, finding: &str) -> String {
    format!("{}: pipeline `{}`, transform `{}`: {finding}", file.display(), pipeline.name, transform.name)
}

fn files(config: &Config) -> anyhow::Result<()> {
    let tidegate::config::Source::File(source) = &config.source;
    source.files().map(|_| ())
}

/// What is wrong with a transform. Its settings may hold secrets, which its own messages may quote.
fn examine(engine: &Engine, config: &Config, transform: &Transform) -> Vec<String> {
    let bytes = match std::fs::read(&*transform.module) {
        Ok(bytes) => bytes,
        Err(error) => return vec![format!("cannot read `{}`: {error}", transform.module.shown())],
    };
    let module = match engine.load(&transform.name, &bytes, &config.engine.limits) {
        Ok(module) => module,
        Err(error) => return vec![error.to_string()],
    };
    let mut findings = Vec::new();
    if let Some(pinned) = transform.digest.as_ref().filter(|pinned| *pinned != module.digest()) {
        findings.push(format!(
            "the module has the digest sha256:{}, and sha256:{pinned} is pinned; bring the pinned module, or change `digest`",
            module.digest()
        ));
    }
    match module.start(&transform.settings) {
        Ok(started) => {
            if let Err(problems) = Checker::new(started.description(), &transform.grants.to_command()) {
                findings.extend(problems);
            }
        }
        Err(error) => findings.push(transform.settings.redact(&error.to_string())),
    }
    findings
}
