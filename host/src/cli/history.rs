//! `tidegate modules history`: which modules made what the stores hold.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::anyhow;
use hyper::Method;
use serde_json::{Value, json};
use tidegate::time::rfc_3339;

use super::client::{admin, ask, encoded};
use super::exit::Exit;
use super::show::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file of the running program.
    config: PathBuf,
    /// This pipeline alone.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Print what the program answers, as JSON: an object a pipeline, each on a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn history(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = super::log::load(&arguments.config)?;
    let admin = admin(&config)?;
    let pipelines = match &arguments.pipeline {
        Some(name) => vec![name.as_str()],
        None => config.pipelines.iter().map(|pipeline| &*pipeline.name).collect(),
    };
    let mut output = io::stdout().lock();
    for pipeline in pipelines {
        let mut answer = ask(admin, Method::GET, &format!("/v1/pipelines/{}/history", encoded(pipeline)))?;
        if arguments.json {
            answer["pipeline"] = json!(pipeline);
            writeln!(output, "{answer}")?;
            continue;
        }
        for row in answer["history"].as_array().into_iter().flatten() {
            let line = line(row).ok_or_else(|| anyhow!("the program answers a row that is none: {row}"))?;
            writeln!(output, "{}", one_line(&format!("{pipeline} {line}")))?;
        }
    }
    Ok(Exit::Done)
}

fn line(row: &Value) -> Option<String> {
    let (sink, topic) = (row["sink"].as_str()?, row["topic"].as_str()?);
    let (partition, offset, time) = (row["partition"].as_u64()?, row["offset"].as_u64()?, row["time"].as_i64()?);
    let digests = row["digests"].as_array()?.iter().map(|digest| Some(format!("sha256:{}", digest.as_str()?)));
    let digests = digests.collect::<Option<Vec<_>>>()?.join(",");
    Some(format!("{sink} {topic}-{partition} {offset} {} {digests}", rfc_3339(time)))
}
