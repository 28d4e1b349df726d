//! What a batch leaves of each entry. Since merges are worked out here, so is all else: Redis gets one command an entry
//! at most, and one for many where they are alike.

use std::borrow::Cow;
use std::collections::HashMap;

use ::redis::Pipeline;

use super::ledger::Names;
use crate::command::Command;
use crate::command::json::merge_into;
use crate::sink::{BadWrite, Write};

/// The largest key and value that Redis takes, unless `proto-max-bulk-len` says less or more.
const MAX_BYTES: usize = 512 << 20;
/// Entries that one command changes, at most: Redis serves nobody else meanwhile.
const TOGETHER: usize = 1000;

/// An entry that is there, or why it cannot be merged into.
pub(super) type Stored = Result<Vec<u8>, String>;

/// What the batch has made of an entry so far.
struct Entry<'a> {
    key: &'a str,
    /// None when there is no such entry.
    value: Option<Result<Cow<'a, [u8]>, String>>,
    expiry: Expiry,
    changed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Expiry {
    Never,
    /// As it is.
    Kept,
    Seconds(u32),
}

/// The entries that have to be read: those that are merged into before they are set or deleted.
pub(super) fn reads<'a>(writes: &'a [Write<'_>]) -> Vec<&'a str> {
    let mut first = HashMap::new();
    let mut reads = Vec::new();
    if !writes.iter().any(|write| matches!(*write.command, Command::CacheMerge { .. })) {
        return reads;
    }
    for write in writes {
        if let Command::CacheMerge { key, .. } | Command::CacheSet { key, .. } | Command::CacheDelete { key } =
            &*write.command
            && first.insert(key.as_str(), ()).is_none()
            && matches!(*write.command, Command::CacheMerge { .. })
        {
            reads.push(key.as_str());
        }
    }
    reads
}

/// Appends what the writes come to. `stored` holds what was found under `reads`, in order; the ledger's are in `names`.
pub(super) fn apply<'a>(
    writes: &'a [Write<'_>],
    reads: &[&'a str],
    stored: Vec<Option<Stored>>,
    names: &Names,
    change: &mut Pipeline,
) -> Result<(), Vec<BadWrite>> {
    let mut entries: Vec<Entry<'a>> = Vec::with_capacity(writes.len());
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(writes.len());
    for (key, value) in reads.iter().zip(stored) {
        places.insert(key, entries.len());
        let value = value.map(|value| value.map(Cow::Owned));
        entries.push(Entry { key, value, expiry: Expiry::Kept, changed: false });
    }
    let mut bad = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        let (Command::CacheSet { key, .. } | Command::CacheMerge { key, .. } | Command::CacheDelete { key }) =
            &*write.command
        else {
            bad.push(BadWrite {
                index,
                clash: false,
                by_trigger: false,
                reason: format!("a cache takes no {}", write.command.kind()),
            });
            continue;
        };
        let place = *places.entry(key).or_insert_with(|| {
            entries.push(Entry { key, value: None, expiry: Expiry::Never, changed: false });
            entries.len() - 1
        });
        let done = check_key(key, names).and_then(|()| entries[place].apply(&write.command));
        if let Err(reason) = done {
            bad.push(BadWrite { index, clash: false, by_trigger: false, reason });
        }
    }
    if bad.is_empty() {
        append(&entries, change);
        return Ok(());
    }
    Err(bad)
}

fn check_key(key: &str, names: &Names) -> Result<(), String> {
    let ledger = names.prefix.as_str();
    let key = key.strip_prefix(&names.entries).unwrap_or(key);
    if key.starts_with(ledger) {
        return Err(format!(
            "the key {key:?} begins with {ledger:?}, as the ledger's do: give the sink another `prefix`"
        ));
    }
    if key.len() > MAX_BYTES {
        return Err(format!("a key has {} bytes, of which Redis takes {MAX_BYTES}", key.len()));
    }
    Ok(())
}

impl<'a> Entry<'a> {
    fn apply(&mut self, command: &'a Command) -> Result<(), String> {
        let (value, expiry) = match command {
            Command::CacheSet { value, ttl_seconds, .. } => {
                (Some(Cow::Borrowed(value.as_slice())), ttl_seconds.map_or(Expiry::Never, Expiry::Seconds))
            }
            Command::CacheMerge { fields, ttl_seconds, .. } => match &self.value {
                None => return Ok(()),
                Some(Err(reason)) => return Err(reason.clone()),
                Some(Ok(stored)) => {
                    let merged = merge_into(stored, fields)
                        .map_err(|reason| format!("the entry {:?} cannot be merged into: {reason}", self.key))?;
                    (Some(Cow::Owned(merged.into_bytes())), ttl_seconds.map_or(self.expiry, Expiry::Seconds))
                }
            },
            _ => (None, Expiry::Never),
        };
        if let Some(value) = &value
            && value.len() > MAX_BYTES
        {
            return Err(format!(
                "the entry {:?} has {} bytes, of which Redis takes {MAX_BYTES}",
                self.key,
                value.len()
            ));
        }
        (self.value, self.expiry, self.changed) = (value.map(Ok), expiry, true);
        Ok(())
    }
}

fn append(entries: &[Entry<'_>], change: &mut Pipeline) {
    let (mut plain, mut gone) = (Vec::new(), Vec::new());
    for entry in entries.iter().filter(|entry| entry.changed) {
        match (&entry.value, entry.expiry) {
            (Some(Ok(value)), Expiry::Never) => plain.push((entry.key, value)),
            (Some(Ok(value)), Expiry::Kept) => {
                change.cmd("SET").arg(entry.key).arg(&**value).arg("KEEPTTL");
            }
            (Some(Ok(value)), Expiry::Seconds(seconds)) => {
                change.cmd("SET").arg(entry.key).arg(&**value).arg("EX").arg(seconds);
            }
            (None | Some(Err(_)), _) => gone.push(entry.key),
        }
    }
    for some in plain.chunks(TOGETHER) {
        change.cmd("MSET");
        for (key, value) in some {
            change.arg(*key).arg(&***value);
        }
    }
    for some in gone.chunks(TOGETHER) {
        change.cmd("UNLINK").arg(some);
    }
}
