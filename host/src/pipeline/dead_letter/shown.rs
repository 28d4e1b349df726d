//! Dead letters as they are told to those who look for them: in the terminal, and over HTTP.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::{Filed, Letter, read};
use crate::config::Config;
use crate::source::TopicPartition;
use crate::time::rfc_3339;

/// What the letters of one record may hold together before the rest is left out.
const LETTER_BYTES: usize = 32 << 20;

/// Which letters are looked for; none of a part is any.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The pipeline.
    pub pipeline: Option<String>,
    /// The fault.
    pub fault: Option<String>,
}

/// A letter without its record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShownLetter {
    /// The time of the record, as `2026-11-21T15:04:05.123Z`.
    pub time: Option<String>,
    /// The pipeline.
    pub pipeline: String,
    /// Where the record stands, as `orders-0@17`.
    pub position: String,
    /// The record's checksum, which tells it from another one that has stood there before the topic was made again.
    #[serde(default)]
    pub checksum: String,
    /// The transform; empty where the record came to none.
    pub transform: String,
    /// The digest of its module; empty likewise.
    pub digest: String,
    /// The stable label.
    pub fault: String,
    /// Where it failed.
    pub stage: String,
    /// The sink that refused it; empty where it came to none.
    pub sink: String,
    /// Why.
    pub reason: String,
}

/// A letter with its record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WholeLetter {
    /// What was said of it.
    #[serde(flatten)]
    pub letter: ShownLetter,
    /// The record's own headers.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// What was left out of the letter, with its size.
    pub omitted: Vec<(String, String)>,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value.
    pub value: Option<Bytes>,
}

/// Bytes as JSON has them: a text, or an object with their base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    /// They are UTF-8.
    Text(String),
    /// They are not.
    Base64 {
        /// The base64.
        base64: String,
    },
}

/// The newest letters, and how many there are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Listed {
    /// How many are as wanted.
    pub total: u64,
    /// The same by fault.
    pub faults: BTreeMap<String, u64>,
    /// The newest of them, oldest first. Those of one moment are in the order of their records.
    pub letters: Vec<ShownLetter>,
    /// What is filed there and is no dead letter.
    #[serde(default)]
    pub foreign: Foreign,
}

/// The letters of one record.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Found {
    /// The letters, in the order in which they were filed.
    pub letters: Vec<WholeLetter>,
    /// There are more, which are left out since these are large.
    pub more: bool,
    /// What is filed there and is no dead letter.
    #[serde(default)]
    pub foreign: Foreign,
}

/// What is filed with the dead letters and is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// How much of it there is.
    pub count: u64,
    /// Where the first lies; empty where there is none.
    pub first: String,
}

impl Foreign {
    fn add(&mut self, place: String) {
        if self.count == 0 {
            self.first = place;
        }
        self.count += 1;
    }
}

impl ShownLetter {
    fn of(letter: &Letter) -> Self {
        Self {
            time: letter.record.timestamp.map(rfc_3339),
            pipeline: letter.pipeline.clone(),
            position: letter.record.position(),
            checksum: letter.shown_checksum(),
            transform: letter.transform.clone(),
            digest: letter.digest.clone(),
            fault: letter.fault.clone(),
            stage: letter.stage.clone(),
            sink: letter.sink.clone(),
            reason: letter.reason.clone(),
        }
    }
}

impl Bytes {
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Base64 { base64: BASE64_STANDARD.encode(error.as_bytes()) },
        }
    }

    /// The bytes; none where the base64 is none.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Base64 { base64 } => BASE64_STANDARD.decode(base64).ok(),
        }
    }
}

/// Lists what a configuration has filed, at most `limit` of it. `go_on` is asked before each letter.
///
/// # Errors
/// As [`read`], and when `go_on` says no.
pub fn list(
    config: &Config,
    wanted: &Wanted,
    limit: usize,
    mut go_on: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Listed> {
    let mut listed = Listed::default();
    // The newest, the oldest of them on top.
    let mut newest: BinaryHeap<Reverse<(u64, TopicPartition, u64, u64)>> = BinaryHeap::new();
    let mut letters = BTreeMap::new();
    read(config, &BTreeMap::new(), |Filed { place, order, letter, .. }| {
        go_on()?;
        let Some(letter) = letter else {
            listed.foreign.add(place);
            return Ok(ControlFlow::Continue(()));
        };
        if !wanted.is(&letter.pipeline, &letter.fault) {
            return Ok(ControlFlow::Continue(()));
        }
        listed.total += 1;
        *listed.faults.entry(letter.fault.clone()).or_default() += 1;
        letters.insert(listed.total, ShownLetter::of(&letter));
        newest.push(Reverse((order, letter.record.partition, letter.record.offset, listed.total)));
        if newest.len() > limit
            && let Some(Reverse((.., oldest))) = newest.pop()
        {
            letters.remove(&oldest);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut newest: Vec<_> = newest.into_iter().map(|Reverse(letter)| letter).collect();
    newest.sort();
    listed.letters = newest.into_iter().filter_map(|(.., number)| letters.remove(&number)).collect();
    Ok(listed)
}

/// Finds all letters of the record at a position, such as `orders-0@17`, or, where several have stood there, of the one
/// with a checksum, such as `orders-0@17:9f3a01bc`. `go_on` is asked before each letter.
///
/// # Errors
/// As [`list`].
pub fn find(
    config: &Config,
    wanted: &Wanted,
    position: &str,
    mut go_on: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut bytes = 0;
    read(config, &BTreeMap::new(), |Filed { place, letter, .. }| {
        go_on()?;
        let Some(letter) = letter else {
            found.foreign.add(place);
            return Ok(ControlFlow::Continue(()));
        };
        if !letter.is_at(position) || !wanted.is(&letter.pipeline, &letter.fault) {
            return Ok(ControlFlow::Continue(()));
        }
        bytes += letter.record.size();
        if !found.letters.is_empty() && bytes > LETTER_BYTES {
            found.more = true;
            return Ok(ControlFlow::Break(()));
        }
        let shown = ShownLetter::of(&letter);
        found.letters.push(WholeLetter {
            letter: shown,
            headers: letter.record.headers.into_iter().map(|one| (one.name, one.value.map(Bytes::of))).collect(),
            omitted: letter.omitted,
            key: letter.record.key.map(Bytes::of),
            value: letter.record.value.map(Bytes::of),
        });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Whether this is the position of a record, as `orders-0@17`, with or without its checksum, as `orders-0@17:9f3a01bc`.
pub fn is_position(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(partition, offset)| {
        let (offset, checksum) = offset.split_once(':').unwrap_or((offset, "00000000"));
        let is_checksum = checksum.len() == 8 && checksum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        partition.rsplit_once('-').is_some_and(|(topic, number)| {
            is_checksum && !topic.is_empty() && number.parse::<u32>().is_ok() && offset.parse::<u64>().is_ok()
        })
    })
}

impl Wanted {
    pub(super) fn is(&self, pipeline: &str, fault: &str) -> bool {
        self.pipeline.as_ref().is_none_or(|wanted| wanted == pipeline)
            && self.fault.as_ref().is_none_or(|wanted| wanted == fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        for bytes in [&b"{}"[..], b"", &[0xff, 0]] {
            assert_eq!(Bytes::of(bytes.to_vec()).to_bytes().as_deref(), Some(bytes));
        }
        assert_eq!(Bytes::of(vec![0xff]), Bytes::Base64 { base64: "/w==".into() });
    }

    #[test]
    fn a_position_has_topic_partition_and_offset() {
        assert!(is_position("a-b-0@17") && is_position("a-b-0@17:9f3a01bc"));
        for wrong in ["a-0@17:", "a-0@17:9F3A01BC", "a-0@17:9f3a01b", "a-0", "a@1", "-0@1", "a-x@1", "a-0@-1", ""] {
            assert!(!is_position(wrong), "{wrong}");
        }
    }
}
