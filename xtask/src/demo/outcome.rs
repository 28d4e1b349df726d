//! What the host says about its run: the counts in its summary, and the dead letters.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use anyhow::Context as _;
use serde::Deserialize;

use super::Folder;
use crate::verify::json::Json;

/// Counts by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// What one pipeline did in this run.
#[derive(Debug, Deserialize)]
pub(super) struct Pipeline {
    name: String,
    pub(super) events: Counts,
    pub(super) commands: Counts,
}

#[derive(Deserialize)]
struct Summary {
    pipelines: Vec<Pipeline>,
}

/// A record that could not be handled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeadLetter {
    pipeline: String,
    /// `topic 0:17`.
    pub(super) place: String,
    pub(super) reason: String,
}

/// What all pipelines did.
#[derive(Debug)]
pub(super) struct Outcome {
    pipelines: Vec<Pipeline>,
    dead_letters: Vec<DeadLetter>,
}

impl Outcome {
    /// What the pipeline did, if the host tells of it.
    pub(super) fn pipeline(&self, name: &str) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.name == name)
    }

    /// The pipeline's dead letters, those of earlier runs over the same folder too.
    pub(super) fn dead_letters<'a>(&'a self, pipeline: &'a str) -> impl Iterator<Item = &'a DeadLetter> {
        self.dead_letters.iter().filter(move |letter| letter.pipeline == pipeline)
    }
}

/// Reads what the host left.
pub(super) fn read(folder: &Folder) -> anyhow::Result<Outcome> {
    let path = &folder.summary;
    let text = fs::read(path).with_context(|| format!("the host left no summary at {}", path.display()))?;
    let summary: Summary = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    Ok(Outcome { pipelines: summary.pipelines, dead_letters: dead_letters(&folder.dead_letters)? })
}

fn dead_letters(path: &Path) -> anyhow::Result<Vec<DeadLetter>> {
    let text = match fs::read_to_string(path) {
        // The host makes the file with the first dead letter.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let letters = text.split('\n').filter(|line| !line.is_empty()).map(dead_letter);
    letters.collect::<anyhow::Result<_>>().with_context(|| format!("a dead letter in {}", path.display()))
}

/// Reads one dead letter: the record as it was, and in its last headers what went wrong.
fn dead_letter(line: &str) -> anyhow::Result<DeadLetter> {
    let letter = Json::parse(line)?;
    let field = |name| letter.get(name).map(Json::bare).with_context(|| format!("it has no `{name}`"));
    let header = |name: &str| {
        let headers = match letter.get("headers") {
            Some(Json::Array(headers)) => headers.as_slice(),
            _ => &[],
        };
        let values = headers.iter().rev().filter_map(|header| match header {
            Json::Array(parts) if parts.first().and_then(Json::text) == Some(name) => parts.get(1).map(Json::bare),
            _ => None,
        });
        values.into_iter().next().with_context(|| format!("it has no header `{name}`"))
    };
    Ok(DeadLetter {
        pipeline: header("__connect.errors.connector.name")?,
        place: format!("{} {}:{}", field("topic")?, field("partition")?, field("offset")?),
        reason: header("__connect.errors.exception.message")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{DeadLetter, dead_letter};

    #[test]
    fn a_dead_letter_tells_its_pipeline_its_place_and_the_reason() {
        let line = r#"{"topic":"t","partition":2,"offset":17,"headers":[["__connect.errors.connector.name","the record's own"],
            ["__connect.errors.connector.name","orders"],["__connect.errors.exception.message","no row"]],"value":null}"#;
        let expected = DeadLetter { pipeline: "orders".into(), place: "t 2:17".into(), reason: "no row".into() };
        assert_eq!(dead_letter(line).unwrap(), expected);
        assert!(dead_letter("{}").is_err());
    }
}
