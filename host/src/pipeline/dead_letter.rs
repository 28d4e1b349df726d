//! Dead letters: records that could not be handled, kept whole with the reason, durable before the ledger moves on.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::contract::Fault;
use crate::sink::blocking;
use crate::source::Record;

/// The longest value that is kept by default, bytes.
pub const VALUE_BYTES: usize = 1 << 20;

/// Where in its way a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The record could not be understood.
    Decode,
    /// The transform refused it or failed.
    Transform,
    /// What the transform answered cannot be executed.
    Check,
    /// A sink refused it.
    Write,
}

impl Stage {
    /// Its name in a dead letter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "DECODE",
            Self::Transform => "TRANSFORM",
            Self::Check => "CHECK",
            Self::Write => "WRITE",
        }
    }
}

/// A record that could not be handled, and why.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The record as it was on the wire.
    pub record: &'a Record,
    /// The pipeline.
    pub pipeline: &'a str,
    /// The transform; empty where the record came to none.
    pub transform: &'a str,
    /// The digest of the transform's module; empty likewise.
    pub digest: &'a str,
    /// The stable label.
    pub fault: Fault,
    /// Where it failed.
    pub stage: Stage,
    /// For the operator: place, cause and remedy.
    pub reason: &'a str,
}

/// What makes a dead letter the same as another: pipeline, topic, partition, offset, transform.
type Identity = (String, String, u32, u64, String);

impl DeadLetter<'_> {
    fn identity(&self) -> Identity {
        let partition = &self.record.partition;
        let (pipeline, transform) = (self.pipeline.to_owned(), self.transform.to_owned());
        (pipeline, partition.topic.to_string(), partition.partition, self.record.offset, transform)
    }

    /// One line in the layout that the file source reads: the record as it was, with Kafka Connect's error headers
    /// and our own after its headers. Bytes that are not UTF-8 are base64, with `"key_encoding"` or
    /// `"value_encoding"` beside them, or `"base64"` as a header's third element.
    fn line(&self, value_bytes: usize) -> String {
        let record = self.record;
        let partition = &record.partition;
        let mut headers: Vec<Value> = record
            .headers
            .iter()
            .map(|header| match text(header.value.as_deref()) {
                (value, None) => json!([header.name, value]),
                (value, Some(encoding)) => json!([header.name, value, encoding]),
            })
            .collect();
        let mut add = |name: &str, value: String| headers.push(json!([name, value]));
        add("__connect.errors.topic", partition.topic.to_string());
        add("__connect.errors.partition", partition.partition.to_string());
        add("__connect.errors.offset", record.offset.to_string());
        add("__connect.errors.connector.name", self.pipeline.to_owned());
        add("__connect.errors.stage", self.stage.name().to_owned());
        add("__connect.errors.class.name", self.transform.to_owned());
        add("__connect.errors.exception.class.name", format!("tidegate.{}", self.fault.label()));
        add("__connect.errors.exception.message", self.reason.to_owned());
        add("tidegate.transform", self.transform.to_owned());
        add("tidegate.digest", self.digest.to_owned());
        add("tidegate.fault", self.fault.label().to_owned());
        let mut value = record.value.as_deref();
        if let Some(bytes) = value.filter(|bytes| bytes.len() > value_bytes) {
            add("tidegate.value-omitted", bytes.len().to_string());
            value = None;
        }
        let mut line = json!({
            "topic": &*partition.topic,
            "partition": partition.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "headers": headers,
        });
        for (name, bytes) in [("key", record.key.as_deref()), ("value", value)] {
            let (text, encoding) = text(bytes);
            line[name] = text;
            if let Some(encoding) = encoding {
                line[format!("{name}_encoding")] = encoding.into();
            }
        }
        format!("{line}\n")
    }
}

/// Bytes as JSON: text where they are UTF-8, else base64, and then the name of that.
fn text(bytes: Option<&[u8]>) -> (Value, Option<&'static str>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (Value::Null, None),
        Some((_, Ok(text))) => (text.into(), None),
        Some((bytes, Err(_))) => (STANDARD.encode(bytes).into(), Some("base64")),
    }
}

/// A file of dead letters, one JSON object a line. One process writes it at a time.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    value_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Where the next line goes; behind it there may be the rest of a write that failed.
    length: u64,
    filed: HashSet<Identity>,
}

impl DeadLetterFile {
    /// Opens the file, or makes it. A last line that a crash cut off is removed: it was never acknowledged. Values of
    /// more than `value_bytes` are left out of the letters, and marked by the header `tidegate.value-omitted`, which
    /// holds their size.
    ///
    /// # Errors
    /// When the file cannot be opened, is in use by another process, or has a line that is no dead letter.
    pub fn open(path: impl Into<PathBuf>, value_bytes: usize) -> io::Result<Self> {
        let path = path.into();
        let state = blocking(|| State::open(&path)).map_err(|e| at(&path, &e))?;
        Ok(Self { path, value_bytes, state: Mutex::new(state) })
    }

    /// Files letters; they are durable when this returns. One that was filed before, by this process or an earlier
    /// one (same pipeline, topic, partition, offset and transform), is not filed again. Returns how many were new.
    ///
    /// # Errors
    /// When the file cannot be written. Nothing is filed then, and the same call may be tried again.
    // Async as every destination of dead letters is: another one waits for a broker.
    #[allow(clippy::unused_async)]
    pub async fn file(&self, letters: &[DeadLetter<'_>]) -> io::Result<usize> {
        blocking(|| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut fresh = HashSet::new();
            let mut lines = String::new();
            for letter in letters {
                let identity = letter.identity();
                if !state.filed.contains(&identity) && fresh.insert(identity) {
                    lines.push_str(&letter.line(self.value_bytes));
                }
            }
            let count = fresh.len();
            if count > 0 {
                state.append(lines.as_bytes()).map_err(|e| at(&self.path, &e))?;
                state.filed.extend(fresh);
            }
            Ok(count)
        })
    }
}

#[cfg(test)]
impl DeadLetterFile {
    /// From now on the file cannot be written.
    pub(super) fn break_off(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file = File::open(&self.path).unwrap_or_else(|e| unreachable!("{e}"));
    }
}

impl State {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process writes it: give each its own file"));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut filed = HashSet::new();
        let mut length = 0;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            let foreign =
                || io::Error::other(format!("line {number} is no dead letter: repair the line, or move the file away"));
            if line.last() != Some(&b'\n') {
                // What a crash left of a letter goes; what was never one may be somebody's file.
                if line.first().is_some_and(|first| *first != b'{') {
                    return Err(foreign());
                }
                break;
            }
            let identity = identity(&line).ok_or_else(foreign)?;
            filed.insert(identity);
            length += u64::try_from(read).unwrap_or_default();
        }
        file.set_len(length)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok(Self { file, length, filed })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.length += u64::try_from(lines.len()).unwrap_or_default();
        Ok(())
    }
}

/// Makes the file's name durable too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn identity(line: &[u8]) -> Option<Identity> {
    let letter: Value = serde_json::from_slice(line).ok()?;
    let headers = letter["headers"].as_array()?;
    // Ours are behind the record's own, which may have the same names when it was a dead letter before.
    let header = |name: &str| headers.iter().rev().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str());
    Some((
        header("__connect.errors.connector.name")?.to_owned(),
        letter["topic"].as_str()?.to_owned(),
        u32::try_from(letter["partition"].as_u64()?).ok()?,
        letter["offset"].as_u64()?,
        header("tidegate.transform")?.to_owned(),
    ))
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("dead letters {}: {error}", path.display()))
}
