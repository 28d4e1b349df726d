//! Dead letters read back, from wherever a configuration has them filed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
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
    /// The checksum of the record, as it was whole.
    pub checksum: u32,
}

/// Something that lies where dead letters are filed.
#[derive(Debug, Clone)]
pub struct Filed {
    /// Where it lies: the line of the file, or the position in the topic.
    pub place: String,
    /// When it was filed, for comparing: ms since 1970 in a topic, the line of a file.
    pub order: u64,
    /// Where reading goes on behind it: the partition of the topic, 0 in a file, and the place in it.
    pub next: (u32, u64),
    /// The letter; none where it is something else.
    pub letter: Option<Letter>,
}

impl Letter {
    /// The letter that a record is: its own headers are before those of the letter.
    pub(super) fn parse(mut record: Record) -> Option<Self> {
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
        let checksum = text(headers::CHECKSUM).and_then(|hex| u32::from_str_radix(&hex, 16).ok());
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
            checksum: checksum.unwrap_or_else(|| record.checksum()),
            record,
        })
    }

    /// The checksum as it is shown.
    pub(super) fn shown_checksum(&self) -> String {
        shown(self.checksum)
    }

    /// Whether it is of the record that is named, as `orders-0@17` or `orders-0@17:9f3a01bc`.
    pub(super) fn is_at(&self, named: &str) -> bool {
        let position = self.record.position();
        match named.strip_prefix(position.as_str()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix(':').is_some_and(|checksum| checksum == self.shown_checksum()),
            None => false,
        }
    }
}

/// A checksum as it is shown, and as it is in the header.
pub(super) fn shown(checksum: u32) -> String {
    format!("{checksum:08x}")
}

/// Hands over everything that lies where the configuration has dead letters filed, in the order of the file, or of each
/// partition of the topic, until `each` breaks off. It begins where `from` says, as [`Filed::next`] has it. What comes
/// while it reads is left out. A file that is not there has none.
///
/// # Errors
/// When there is no such topic, the place cannot be read, or `each` fails.
pub fn read(
    config: &Config,
    from: &BTreeMap<u32, u64>,
    mut each: impl FnMut(Filed) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    match &config.dead_letters.to {
        DeadLetterStore::File(path) => {
            let from = from.get(&0).copied().unwrap_or_default();
            read_file(path.as_path(), from, each)
                .with_context(|| format!("cannot read the dead letters of {}", path.shown()))
        }
        DeadLetterStore::Kafka(to) => {
            let client = cluster(config, to)?;
            read_all(client, &to.topic, from, |record| {
                let order = u64::try_from(record.timestamp.unwrap_or_default()).unwrap_or_default();
                let (place, next) = (record.position(), (record.partition.partition, record.offset + 1));
                each(Filed { place, order, next, letter: Letter::parse(without_its_time(record)) })
            })
            .with_context(|| format!("cannot read the dead letters of topic {:?}", to.topic))
        }
    }
}

/// A letter of ours, whose timestamp in a topic is of when it was filed: the record's own, if it had one, is a header.
fn without_its_time(mut record: Record) -> Record {
    if record.headers.iter().any(|header| header.name == headers::FAULT) {
        record.timestamp = None;
    }
    record
}

fn read_file(
    path: &Path,
    from: u64,
    mut each: impl FnMut(Filed) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
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
        if line > from {
            let filed =
                Filed { place: format!("line {line}"), order: line, next: (0, line), letter: Letter::parse(record) };
            if each(filed)?.is_break() {
                break;
            }
        }
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
