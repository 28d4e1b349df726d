//! Recorded events in files: one JSON object a line,
//! `{"topic","partition","offset","timestamp","headers":[[name,value],…],"key","value"}`.
//!
//! `key` and `value` are the exact wire text, or null. What is no UTF-8 stands in `key_base64` and `value_base64`
//! instead; the value of a header is text or null, or its base64 with `"base64"` as a third element. `timestamp` and `headers` may be left out. Lines end with "\n"
//! alone, since the text in them may hold every other kind of line end.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{Claim, Header, Record, TopicPartition};
use crate::printable::printable;

const BUFFER_BYTES: usize = 256 << 10;

/// Why a line is no recorded event.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is not UTF-8.
    #[error("the line is not UTF-8 from byte {at}; record such a value as `value_base64`")]
    NotUtf8 {
        /// The first byte that is none, from 1.
        at: usize,
    },
    /// It is no JSON object with these members.
    #[error("the line is no recorded event: {cause}")]
    Malformed {
        /// What, and in which column.
        cause: String,
    },
    /// Kafka counts offsets in 63 bits.
    #[error("the offset {offset} is beyond what Kafka can have, {}", i64::MAX)]
    Offset {
        /// The offset.
        offset: u64,
    },
    /// A value stands there twice.
    #[error("the line has both `{member}` and `{member}_base64`; leave one out")]
    Twice {
        /// The member.
        member: &'static str,
    },
    /// A member is no base64.
    #[error("the base64 of `{member}` is none: {cause}")]
    NotBase64 {
        /// The member.
        member: &'static str,
        /// What, and where in it.
        cause: base64::DecodeError,
    },
}

/// Why a file of recorded events cannot be read on. It names the file and the line.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{}:{line}: cannot read the file: {cause}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The system's word.
        cause: io::Error,
    },
    /// A line is no recorded event.
    #[error("{}:{line}: {cause}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        cause: LineError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    partition: u32,
    offset: u64,
    timestamp: Option<i64>,
    #[serde(default)]
    headers: Vec<LineHeader>,
    key: Option<String>,
    value: Option<String>,
    key_base64: Option<String>,
    value_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a header is [name, value], the value text or null, or [name, value, \"base64\"]")]
enum LineHeader {
    Text(String, Option<String>),
    Encoded(String, String, Encoding),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

/// Reads one line, without its "\n".
///
/// # Errors
/// When it is no recorded event.
pub(crate) fn parse_line(line: &str) -> Result<Record, LineError> {
    let malformed = |error: serde_json::Error| LineError::Malformed { cause: without_line(&error) };
    let line: Line = serde_json::from_str(line).map_err(malformed)?;
    if i64::try_from(line.offset).is_err() {
        return Err(LineError::Offset { offset: line.offset });
    }
    let header = |header| {
        Ok(match header {
            LineHeader::Text(name, value) => Header { name, value: value.map(String::into_bytes) },
            LineHeader::Encoded(name, value, Encoding::Base64) => {
                Header { name, value: bytes("header", None, Some(value))? }
            }
        })
    };
    Ok(Record {
        partition: TopicPartition { topic: line.topic.into(), partition: line.partition },
        offset: line.offset,
        timestamp: line.timestamp,
        headers: line.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        key: bytes("key", line.key, line.key_base64)?,
        value: bytes("value", line.value, line.value_base64)?,
        claim: Claim(0),
    })
}

/// serde_json's message counts the lines of what it was given, which is always the first; the caller knows the real
/// one. It quotes names as they are, whole.
fn without_line(error: &serde_json::Error) -> String {
    const LONGEST: usize = 300;
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let cause = printable(text.strip_suffix(&place).unwrap_or(&text), LONGEST);
    format!("{cause}, at byte {}", error.column())
}

fn bytes(member: &'static str, text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, LineError> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(LineError::Twice { member }),
        (None, Some(base64)) => {
            BASE64_STANDARD.decode(base64).map(Some).map_err(|cause| LineError::NotBase64 { member, cause })
        }
        (text, None) => Ok(text.map(String::into_bytes)),
    }
}

/// The records of a file, one after the other; one line at a time is in memory. After an error it ends.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    input: BufReader<File>,
    buffer: Vec<u8>,
    line: u64,
    ended: bool,
}

/// Opens a file of recorded events.
///
/// # Errors
/// When it cannot be opened.
pub fn read(path: &Path) -> io::Result<Records> {
    let input = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    Ok(Records { path: path.into(), input, buffer: Vec::new(), line: 0, ended: false })
}

impl Records {
    fn next_line(&mut self) -> Result<Option<Record>, ReadError> {
        self.line += 1;
        self.buffer.clear();
        let (path, line) = (&self.path, self.line);
        let read = self.input.read_until(b'\n', &mut self.buffer);
        if read.map_err(|cause| ReadError::Io { path: path.clone(), line, cause })? == 0 {
            return Ok(None);
        }
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = std::str::from_utf8(bytes).map_err(|error| LineError::NotUtf8 { at: error.valid_up_to() + 1 });
        let record = text.and_then(parse_line).map_err(|cause| ReadError::Line { path: path.clone(), line, cause })?;
        Ok(Some(record))
    }
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_line();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    const LINE: &str = r#"{"topic":"t","partition":2,"offset":7,"timestamp":5,"headers":[["a","b"],["c",null]],"key":"1","value":null}"#;

    fn records(content: &[u8]) -> Vec<Result<Record, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, content).unwrap();
        let prefix = folder.path().display().to_string();
        read(&path)
            .unwrap()
            .map(|record| record.map_err(|error| error.to_string().replace(&prefix, "FOLDER")))
            .collect()
    }

    #[test]
    fn a_line_is_a_record() {
        let record = parse_line(LINE).unwrap();
        assert_eq!(record.position(), "t-2@7");
        assert_eq!(record.timestamp, Some(5));
        let headers: Vec<_> = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_deref())).collect();
        assert_eq!(headers, [("a", Some(&b"b"[..])), ("c", None)]);
        assert_eq!((record.key.as_deref(), record.value), (Some(&b"1"[..]), None));
    }

    #[test]
    fn what_is_not_utf8_stands_in_base64() {
        let record =
            parse_line(r#"{"topic":"t","partition":0,"offset":0,"key_base64":"/w==","value_base64":""}"#).unwrap();
        assert_eq!((record.key, record.value), (Some(vec![0xff]), Some(vec![])));
        let twice = parse_line(r#"{"topic":"t","partition":0,"offset":0,"key":"a","key_base64":"/w=="}"#).unwrap_err();
        assert_eq!(twice.to_string(), "the line has both `key` and `key_base64`; leave one out");
        let wrong = parse_line(r#"{"topic":"t","partition":0,"offset":0,"value_base64":"?"}"#).unwrap_err();
        assert!(wrong.to_string().starts_with("the base64 of `value` is none: "), "{wrong}");
    }

    #[test]
    fn a_bad_line_is_named_and_ends_the_file() {
        let content = format!("{LINE}\n{{\"topic\":\"t\"}}\n{LINE}\n");
        let found = records(content.as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1].as_ref().unwrap_err(),
            "FOLDER/events.jsonl:2: the line is no recorded event: missing field `partition`, at byte 13"
        );
        assert_eq!(
            records(b"{\"topic\":\"\xff\"}\n")[0].as_ref().unwrap_err(),
            "FOLDER/events.jsonl:1: the line is not UTF-8 from byte 11; record such a value as `value_base64`"
        );
        assert!(records(b"\n")[0].is_err(), "an empty line is no record");
    }

    #[test]
    fn an_error_is_one_short_line_whatever_is_in_the_file() {
        let told = |name: &str| parse_line(&format!("{{\"{name}\":1}}")).unwrap_err().to_string();
        assert!(
            told("a\\u001b[2J").starts_with("the line is no recorded event: unknown field `a\\u{1b}[2J`, expected")
        );
        let long = told(&"é".repeat(10_000));
        assert!(long.len() < 400 && long.ends_with("é…, at byte 20003"), "{long}");
    }

    #[test]
    fn an_offset_that_kafka_cannot_have_is_refused() {
        let line = |offset: u64| parse_line(&LINE.replace("\"offset\":7", &format!("\"offset\":{offset}")));
        assert!(line(i64::MAX as u64).is_ok());
        for offset in [1 << 63, u64::MAX] {
            assert!(line(offset).unwrap_err().to_string().contains("beyond what Kafka can have"));
        }
    }

    #[test]
    fn only_a_newline_ends_a_line_and_the_last_may_lack_it() {
        let line = LINE.replace("\"key\":\"1\"", "\"key\":\"\u{2028}\u{85}\"");
        let found = records(format!("{line}\n{line}").as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_ref().unwrap().key.as_deref(), Some("\u{2028}\u{85}".as_bytes()));
    }

    #[test]
    fn a_record_of_twenty_megabytes_is_one_line() {
        let value = "x".repeat(20 << 20);
        let line = LINE.replace("\"value\":null", &format!("\"value\":\"{value}\""));
        assert_eq!(records(line.as_bytes())[0].as_ref().unwrap().value.as_ref().unwrap().len(), 20 << 20);
    }

    #[test]
    fn every_captured_event_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
        let manifest = fs::read_to_string(corpus.join("MANIFEST.txt")).unwrap();
        for (count, file) in manifest.lines().filter_map(|line| line.trim().split_once(' ')) {
            let file = corpus.join("..").join(file.trim());
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                let found = read(&file).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
                assert_eq!(found.len().to_string(), count, "{}", file.display());
            }
        }
    }
}
