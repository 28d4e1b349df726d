//! Dead letters in a file that the file source can read.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::DeadLetter;
use super::headers::{Extent, Parts};
use super::index::{Identity, Index};
use crate::private;
use crate::sink::{SinkError, blocking};

impl DeadLetter<'_> {
    /// One line in the layout that the file source reads: the record as it was, with more headers.
    pub(super) fn line(&self, value_bytes: usize) -> String {
        let record = self.record;
        let partition = &record.partition;
        let Parts { key, value, headers } = self.parts(Extent::Whole, value_bytes, false);
        let headers: Vec<Value> = headers
            .iter()
            .map(|header| match text(header.value.as_deref()) {
                (value, None) => json!([header.name, value]),
                (value, Some(encoding)) => json!([header.name, value, encoding]),
            })
            .collect();
        let mut line = json!({
            "topic": &*partition.topic,
            "partition": partition.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "headers": headers,
        });
        for (name, bytes) in [("key", key), ("value", value)] {
            match text(bytes) {
                (text, None) => line[name] = text,
                (text, Some(encoding)) => line[format!("{name}_{encoding}")] = text,
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
pub(in crate::pipeline) struct DeadLetterFile {
    path: PathBuf,
    value_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Where the next line goes; behind it there may be the rest of a write that failed.
    length: u64,
    /// Whether the last write has failed, and may have left something behind `length`.
    is_torn: bool,
    /// The letters in it.
    filed: Index,
}

/// How often letters are written again whose file is moved away meanwhile.
const TRIES: usize = 5;

impl DeadLetterFile {
    /// Opens the file, or makes it. A last line that a crash cut off is removed: it was never acknowledged. One that
    /// lacks its end alone, as an editor leaves it, is kept. Values of more than `value_bytes` are left out of the letters, and marked by the header `tidegate.value-omitted`, which
    /// holds their size.
    ///
    /// # Errors
    /// When the file cannot be opened, is in use by another process, or has a line that is no dead letter.
    pub(in crate::pipeline) fn open(path: impl Into<PathBuf>, value_bytes: usize) -> io::Result<Self> {
        let path = path.into();
        let state = blocking(|| State::open(&path)).map_err(|e| at(&path, &e))?;
        Ok(Self { path, value_bytes, state: Mutex::new(state) })
    }

    /// Files letters; they are durable when this returns. One that was filed before, by this process or an earlier
    /// one (same pipeline, transform and record), is not filed again. Returns how many were new.
    ///
    /// # Errors
    /// `Retry` when the disk is full, `Stop` when the file cannot be read or written for another reason. Nothing is filed
    /// then.
    pub(in crate::pipeline) fn file(&self, letters: &[DeadLetter<'_>]) -> Result<usize, SinkError> {
        blocking(|| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.file_new(&self.path, letters, self.value_bytes).map_err(|error| match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    SinkError::Retry(at(&self.path, &error).to_string())
                }
                _ => SinkError::Stop(at(&self.path, &error).to_string()),
            })
        })
    }
}

#[cfg(test)]
impl DeadLetterFile {
    /// From now on the file cannot be written.
    pub(in crate::pipeline) fn break_off(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file = File::open(&self.path).unwrap_or_else(|e| unreachable!("{e}"));
    }
}

impl State {
    fn open(path: &Path) -> io::Result<Self> {
        let file = private::open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process writes it: give each its own file"));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut filed = Index::default();
        let mut length = 0;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            let foreign =
                || io::Error::other(format!("line {number} is no dead letter: repair the line, or move the file away"));
            if line.is_empty() {
                break;
            }
            if line.last() != Some(&b'\n') {
                // What was never a letter may be somebody's file.
                if line.first() != Some(&b'{') {
                    return Err(foreign());
                }
                line.push(b'\n');
                if Identity::of_line(&line).is_none() {
                    let file = path.display();
                    tracing::warn!(%file, line = number, bytes = read, "the last line is cut off and no dead letter, removing it");
                    break;
                }
                // An editor has left the end of the line out.
                (&file).write_all(b"\n")?;
            }
            filed.add(&Identity::of_line(&line).ok_or_else(foreign)?, length);
            length += u64::try_from(line.len()).unwrap_or_default();
        }
        file.set_len(length)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok(Self { file, length, is_torn: false, filed })
    }

    /// Whether the path names the open file, as it was left.
    fn is_current(&self, path: &Path) -> io::Result<bool> {
        let named = match path.metadata() {
            Ok(named) => named,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let open = self.file.metadata()?;
        let is_as_left = named.len() == self.length || (self.is_torn && named.len() > self.length);
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()) && is_as_left)
    }

    /// Files those of the letters that are new, in the file that the path names: it may have been moved away, removed or
    /// emptied meanwhile.
    fn file_new(&mut self, path: &Path, letters: &[DeadLetter<'_>], value_bytes: usize) -> io::Result<usize> {
        for _ in 0..TRIES {
            if !self.is_current(path)? {
                let file = path.display();
                tracing::warn!(%file, "the file of dead letters was moved, removed or changed, going on with the one that is there");
                // Else the lock would be in the way where it is the same file.
                self.file.unlock()?;
                *self = Self::open(path)?;
            }
            let new = self.append_new(letters, value_bytes)?;
            if new == 0 || self.is_current(path)? {
                return Ok(new);
            }
        }
        Err(io::Error::other("it is moved, removed or changed again and again: leave it to this process"))
    }

    fn append_new(&mut self, letters: &[DeadLetter<'_>], value_bytes: usize) -> io::Result<usize> {
        let (mut lines, mut places, mut fresh) = (String::new(), Vec::new(), HashSet::new());
        for letter in letters {
            let identity = Identity::of(letter);
            if !fresh.contains(&identity) && !self.filed.has(&identity, &mut self.file, self.length)? {
                places.push((identity.clone(), self.length + lines.len() as u64));
                lines.push_str(&letter.line(value_bytes));
                fresh.insert(identity);
            }
        }
        if !lines.is_empty() {
            self.append(lines.as_bytes())?;
            places.iter().for_each(|(identity, place)| self.filed.add(identity, *place));
        }
        Ok(places.len())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if std::mem::replace(&mut self.is_torn, true) {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.is_torn = false;
        self.length += u64::try_from(lines.len()).unwrap_or_default();
        Ok(())
    }
}

/// Makes the file's name durable too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
