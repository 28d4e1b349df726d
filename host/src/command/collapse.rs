//! Folds the commands of a batch by target, so that a store is asked once for what comes to the same.
//!
//! The store's state does not depend on where a batch was cut, whatever the store refuses:
//! - A set or delete replaces the writes of its target before it, but never passes over a merge that the store may
//!   still refuse.
//! - A delete stays before a later upsert or merge: the upsert does not set every column.
//! - Tables and documents may refuse any value, and the merge behind it then misses. So upserts of a row fold, and merges
//!   of a row or document do, where the later one names every column of the earlier: what is folded away is then as good
//!   as refused. And a command folds into a later one only where it is the whole answer: the rest of an answer that the
//!   store would refuse must not be written.
//! - Rows may hang on each other, by foreign keys and triggers. So nothing of a row folds over a delete of another one,
//!   which may have taken it along; and a delete replaces what was before it only where no command of another row lies
//!   between. Nor does anything of a row fold over a write that the store knows to act on other rows, or such a write over
//!   anything of another row.
//! - Merges of a cache entry fold into a set or merge whose text can be merged into; a cache refuses nothing else.
//! - Messages never fold.
//!
//! Which events are rejected depends on it in one thing: a value that the store would refuse, and that a later event of
//! the same batch replaces, is never sent, and its event is no dead letter.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::json::{merge_into, overlay};
use super::{Command, Fields, Port, Target};
use crate::sink::Write;

pub use self::judge::{Verdict, has_folded_rows, judge};
pub use self::reach::Reach;

mod judge;
mod reach;
#[cfg(test)]
mod tests;

/// A command and the event that it comes from.
#[derive(Debug)]
pub struct Tagged {
    /// The event's offset in its partition.
    pub offset: u64,
    /// The number of the transform that gave it, among those of the pipeline.
    pub transform: usize,
    /// The command.
    pub command: Command,
}

/// What a command comes from: the answer of one transform to one event. It is executed as a whole, or rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The event's offset in its partition.
    pub offset: u64,
    /// The number of the transform.
    pub transform: usize,
}

impl Tagged {
    /// The answer that it is a part of.
    pub fn origin(&self) -> Origin {
        Origin { offset: self.offset, transform: self.transform }
    }
}

/// The answers of a batch that consist of several commands, whatever sinks these go to.
#[derive(Debug, Default)]
pub struct Parts(HashSet<Origin>);

impl Parts {
    /// From all commands of the batch.
    pub fn of<'a>(commands: impl IntoIterator<Item = &'a Tagged>) -> Self {
        let mut seen = HashSet::new();
        Self(commands.into_iter().map(Tagged::origin).filter(|origin| !seen.insert(*origin)).collect())
    }

    /// Whether the store may refuse this write, and other commands must then not be written either.
    fn hold(&self, write: &Write<'_>) -> bool {
        let may_refuse = matches!(write.command.port(), Port::Tables | Port::Documents);
        may_refuse && write.origins.iter().any(|origin| self.0.contains(origin))
    }
}

/// Folds the commands of one partition for one sink; origins rise or stay. Targets in `unfolded` are left as they are;
/// `reach` is what the sink knows of its tables.
pub fn collapse<'a>(
    commands: impl IntoIterator<Item = &'a Tagged>,
    parts: &Parts,
    unfolded: &HashSet<Target<'static>>,
    reach: &Reach,
) -> Vec<Write<'a>> {
    let commands = commands.into_iter();
    let (count, _) = commands.size_hint();
    let mut slots: Vec<Slot<'a>> = Vec::with_capacity(count);
    let mut last: HashMap<Target<'a>, usize> = HashMap::with_capacity(count);
    let mut rows = Rows::default();
    for tagged in commands {
        let Tagged { command, .. } = tagged;
        let origins = vec![tagged.origin()];
        let write = Some(Write { command: Cow::Borrowed(command), origins });
        let reaches = reach.has(command);
        let row_before = rows.last.filter(|_| command.port() == Port::Tables);
        let mut slot = Slot { write, before: None, row_before };
        let target = command.target().filter(|target| unfolded.is_empty() || !unfolded.contains(target));
        let Some(target) = target else {
            rows.push(command, slots.len(), reaches);
            slots.push(slot);
            continue;
        };
        match last.entry(target) {
            Entry::Vacant(entry) => {
                entry.insert(slots.len());
            }
            Entry::Occupied(mut entry) => {
                let at = *entry.get();
                if let Some(earlier) = slots.get_mut(at).and_then(|slot| slot.write.as_mut())
                    && !parts.hold(earlier)
                    && rows.let_pass(command, at, reaches)
                    && fold(earlier, command, tagged.origin())
                {
                    rows.folded(command, at, reaches);
                    continue;
                }
                slot.before = Some(at);
                if replaces(command) {
                    slot.take_over(&mut slots, parts);
                }
                entry.insert(slots.len());
            }
        }
        rows.push(command, slots.len(), reaches);
        slots.push(slot);
    }
    slots.into_iter().filter_map(|slot| slot.write).collect()
}

/// A write, or the place of one that a later write has replaced.
struct Slot<'a> {
    write: Option<Write<'a>>,
    /// The slot of the same target before this one.
    before: Option<usize>,
    /// For a row, the slot of the row command right before this one, whatever its row is.
    row_before: Option<usize>,
}

/// Where the rows of a batch are, which may hang on each other.
#[derive(Default)]
struct Rows {
    /// The slot of the last row command; none where that was folded into a slot further back.
    last: Option<usize>,
    /// The slot of the last command that may act on other rows: a delete, or what the store knows.
    reaching: Option<usize>,
}

impl Rows {
    fn push(&mut self, command: &Command, at: usize, reaches: bool) {
        if command.port() == Port::Tables {
            self.last = Some(at);
        }
        if reaches || matches!(command, Command::RowDelete(_)) {
            self.reaching = Some(at);
        }
    }

    /// Whether a command may take effect in this slot already.
    fn let_pass(&self, command: &Command, at: usize, reaches: bool) -> bool {
        let passes_none = || self.last == Some(at);
        command.port() != Port::Tables
            || (self.reaching.is_none_or(|reaching| reaching <= at) && (!reaches || passes_none()))
    }

    fn folded(&mut self, command: &Command, at: usize, reaches: bool) {
        if command.port() == Port::Tables {
            self.last = self.last.filter(|last| *last == at);
        }
        if reaches {
            self.reaching = Some(at);
        }
    }
}

impl<'a> Slot<'a> {
    /// Empties the slots before this one, back to a write that must not be hidden from the store, or a command of
    /// another row, and takes their origins.
    fn take_over(&mut self, slots: &mut [Slot<'a>], parts: &Parts) {
        let Some(write) = &mut self.write else { return };
        let is_row = write.command.port() == Port::Tables;
        while let Some(at) = self.before
            && (!is_row || self.row_before == Some(at))
            && let Some(slot) = slots.get_mut(at)
        {
            match slot.write.take() {
                Some(earlier) if earlier.command.is_merge() || parts.hold(&earlier) => {
                    slot.write = Some(earlier);
                    break;
                }
                Some(earlier) => write.origins.extend(earlier.origins),
                None => {}
            }
            (self.before, self.row_before) = (slot.before, slot.row_before);
        }
        write.origins.sort_unstable();
        write.origins.dedup();
    }
}

/// Whether nothing of what was there before shows after this command.
fn replaces(command: &Command) -> bool {
    matches!(
        command,
        Command::CacheSet { .. }
            | Command::CacheDelete { .. }
            | Command::RowDelete(_)
            | Command::DocumentIndex { .. }
            | Command::DocumentDelete { .. }
    )
}

/// Folds a command into the write before it, if the two come to one.
fn fold(earlier: &mut Write<'_>, later: &Command, origin: Origin) -> bool {
    use Command as C;
    match (earlier.command.as_ref(), later) {
        (C::RowUpsert(row), C::RowUpsert(patch)) | (C::RowMerge(row), C::RowMerge(patch))
            if covers(&patch.values, &row.values) =>
        {
            if let C::RowUpsert(row) | C::RowMerge(row) = earlier.command.to_mut() {
                overlay(&mut row.values, &patch.values);
            }
        }
        (C::CacheMerge { .. }, C::CacheMerge { fields: patch, ttl_seconds: newer, .. }) => {
            if let C::CacheMerge { fields, ttl_seconds, .. } = earlier.command.to_mut() {
                overlay(fields, patch);
                *ttl_seconds = newer.or(*ttl_seconds);
            }
        }
        (C::CacheSet { key, value, ttl_seconds }, C::CacheMerge { fields, ttl_seconds: newer, .. }) => {
            let Ok(merged) = merge_into(value, fields) else { return false };
            let ttl_seconds = newer.or(*ttl_seconds);
            earlier.command = Cow::Owned(C::CacheSet { key: key.clone(), value: merged.into_bytes(), ttl_seconds });
        }
        (C::DocumentMerge { fields, .. }, C::DocumentMerge { fields: patch, .. }) if covers(patch, fields) => {
            if let C::DocumentMerge { fields, .. } = earlier.command.to_mut() {
                overlay(fields, patch);
            }
        }
        _ => return false,
    }
    if earlier.origins.last() != Some(&origin) {
        earlier.origins.push(origin);
    }
    true
}

/// Whether a later write names every column of an earlier one.
fn covers(later: &Fields, earlier: &Fields) -> bool {
    let names = |fields: &Fields, name: &String, place: usize| {
        // Rows of one table mostly have their columns in one order.
        fields.get(place).is_some_and(|(at, _)| at == name) || fields.iter().any(|(at, _)| at == name)
    };
    earlier.iter().enumerate().all(|(place, (name, _))| names(later, name, place))
}
