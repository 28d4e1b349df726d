//! Dead letters read back, from wherever a configuration has them filed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;

use super::headers;
use crate::config::{Config, DeadLetterStore};
use crate::pipeline::open::cluster;
use crate::source::Record;
use crate::source::kafka::read_all;
use crate::source::recorded::{self, ReadError};

/// A dead letter as it was filed.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The record as it was, with its own headers alone. What was left out of the letter is none.
    pub record: Record,
    /// The pipeline.
    pub pipeline: String,
    /// The transform; empty where the record came to none.
    pub transform: String,
    /// The digest of the transform's module; empty likewise.
    pub digest: String,
    /// The stable label; the class of the exception where Kafka Connect has filed it.
    pub fault: String,
    /// Where it failed.
    pub stage: String,
    /// The sink that refused it; empty where it came to none.
    pub sink: String,
    /// Why.
    pub reason: String,
    /// What was left out, by the names of the marks, with its size.
    pub omitted: Vec<(String, String)>,
}

/// Something that lies where dead letters are filed.
#[derive(Debug, Clone)]
pub struct Filed {
    /// Where it lies: the line of the file, or the position in the topic.
    pub place: String,
    /// When it was filed, for comparing: ms since 1970 in a topic, the line of a file.
    pub order: u64,
    /// The letter; none where it is something else.
    pub letter: Option<Letter>,
}

impl Letter {
    /// The letter that a record is: its own headers are before those of the letter.
    fn parse(mut record: Record) -> Option<Self> {
        let ours = record.headers.iter().rposition(|header| header.name == headers::TOPIC)?;
        let filed = record.headers.split_off(ours);
        let text = |name: &str| {
            let header = filed.iter().find(|header| header.name == name);
            header.and_then(|header| header.value.as_deref()).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let known = |name: &str| text(name).unwrap_or_default();
        record.partition.topic = text(headers::TOPIC)?.into();
        record.partition.partition = text(headers::PARTITION)?.parse().ok()?;
        record.offset = text(headers::OFFSET)?.parse().ok()?;
        if let Some(timestamp) = text(headers::TIMESTAMP) {
            record.timestamp = timestamp.parse().ok();
        }
        let omitted = [headers::VALUE_OMITTED, headers::KEY_OMITTED, headers::HEADERS_OMITTED];
        Some(Self {
            pipeline: known(headers::PIPELINE),
            transform: known(headers::TRANSFORM),
            digest: known(headers::DIGEST),
            fault: text(headers::FAULT).unwrap_or_else(|| known(headers::EXCEPTION)),
            stage: known(headers::STAGE),
            sink: known(headers::SINK),
            reason: known(headers::REASON),
            omitted: omitted.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect(),
            record,
        })
    }
}

/// Hands over everything that lies where the configuration has dead letters filed, in the order of the file, or of each
/// partition of the topic. What comes while it reads is left out. A file that is not there has none.
///
/// # Errors
/// When there is no such topic, the place cannot be read, or `each` fails.
pub fn read(config: &Config, mut each: impl FnMut(Filed) -> anyhow::Result<()>) -> anyhow::Result<()> {
    match &config.dead_letters.to {
        DeadLetterStore::File(path) => {
            read_file(path.as_path(), each).with_context(|| format!("cannot read the dead letters of {}", path.shown()))
        }
        DeadLetterStore::Kafka(to) => {
            let client = cluster(config, to)?;
            read_all(client, &to.topic, |record| {
                let filed = u64::try_from(record.timestamp.unwrap_or_default()).unwrap_or_default();
                each(Filed { place: record.position(), order: filed, letter: Letter::parse(record) })
            })
            .with_context(|| format!("cannot read the dead letters of topic {:?}", to.topic))
        }
    }
}

fn read_file(path: &Path, mut each: impl FnMut(Filed) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut records = recorded::read(path)?.zip(1_u64..).peekable();
    while let Some((record, line)) = records.next() {
        let record = match record {
            Ok(record) => record,
            // A run is writing this very line, or a crash has cut it off: it was never acknowledged.
            Err(ReadError::Line { .. }) if records.peek().is_none() && !ends_a_line(path)? => break,
            Err(error) => return Err(error.into()),
        };
        each(Filed { place: format!("line {line}"), order: line, letter: Letter::parse(record) })?;
    }
    Ok(())
}

fn ends_a_line(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
