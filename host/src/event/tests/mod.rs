//! The specification of events: the captured records, golden cases by kind, bad input, and the scanner against
//! `serde_json`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod corpus;
mod golden;
mod options;
mod projection;
mod scanner;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::*;
use crate::contract::Inputs;
use crate::source::{Claim, TopicPartition};

/// Everything, unnarrowed.
fn everything() -> Inputs {
    Inputs { before: true, source: true, headers: true, reads: Vec::new() }
}

/// A JSON object as its members in order, each with its own text.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Members(pub(super) Vec<(String, String)>);

impl Members {
    pub(super) fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((name, value.get().to_owned()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A line of a recorded file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    partition: u32,
    offset: u64,
    timestamp: Option<i64>,
    headers: Vec<(String, Option<String>)>,
    key: Option<String>,
    value: Option<String>,
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        let headers = line.headers.into_iter();
        Self {
            partition: TopicPartition { topic: line.topic.into(), partition: line.partition },
            offset: line.offset,
            timestamp: line.timestamp,
            headers: headers.map(|(name, value)| Header { name, value: value.map(String::into_bytes) }).collect(),
            key: line.key.map(String::into_bytes),
            value: line.value.map(String::into_bytes),
            claim: Claim(0),
        }
    }
}

/// The folder of the tests' data.
fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(path)
}

/// The records of a captured file, by its path below `corpus`.
pub(super) fn recorded(path: &str) -> Vec<Record> {
    let text = fs::read_to_string(data("corpus").join(path)).expect(path);
    let lines = text.split('\n').filter(|line| !line.is_empty());
    lines.map(|line| Record::from(serde_json::from_str::<Line>(line).expect(path))).collect()
}

/// All captured files, with the format that they were captured in.
pub(super) fn corpus() -> Vec<(String, Format)> {
    let manifest = fs::read_to_string(data("corpus/MANIFEST.txt")).unwrap();
    let paths = manifest.lines().filter_map(|line| line.split_once("corpus/")).map(|(_, path)| path.to_owned());
    let format = |path: &str| {
        let flat = path.starts_with("order-cache/") || path.starts_with("torture/misc_flat.");
        if flat { Format::Flattened } else { Format::Envelope }
    };
    paths.filter(|path| path.ends_with(".jsonl")).map(|path| (path.clone(), format(&path))).collect()
}

fn decoder(format: Format) -> Decoder {
    Decoder::new(Options { format, ..Options::default() })
}

/// A record of a made-up topic with this value.
fn record(value: &str) -> Record {
    Record {
        partition: TopicPartition { topic: Arc::from("server.public.things"), partition: 0 },
        offset: 1,
        timestamp: None,
        headers: Vec::new(),
        key: Some(br#"{"id":1}"#.to_vec()),
        value: Some(value.as_bytes().to_vec()),
        claim: Claim(0),
    }
}

fn change<'r>(decoder: &mut Decoder, record: &'r Record) -> Change<'r> {
    match decoder.decode(record) {
        Ok(Event::Change(change)) => change,
        other => panic!("expected a change, found {other:?}"),
    }
}
