//! Folds the commands of a batch by target, so that a store is asked once for what comes to the same.
//!
//! Neither the store's state nor which events are rejected depends on where a batch was cut:
//! - A set or delete replaces the writes of its target before it, but never passes over a merge that the store may
//!   still refuse: whether that event is a dead letter must not depend on the batch.
//! - A delete stays before a later upsert or merge: the upsert does not set every column.
//! - Upserts of a row fold column by column. A merge folds into a set, upsert or merge, never over a delete; into a
//!   cache entry or document only where its text can be merged into (the store would refuse it else).
//! - Messages never fold.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::value::RawValue;

use super::json::{merge_into, overlay};
use super::{Command, Target};
use crate::sink::{BadWrite, Write};

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

/// Folds the commands of one partition for one sink; origins rise or stay. Targets in `unfolded` are left as they are.
pub fn collapse<'a>(
    commands: impl IntoIterator<Item = &'a Tagged>,
    unfolded: &HashSet<Target<'static>>,
) -> Vec<Write<'a>> {
    let commands = commands.into_iter();
    let (count, _) = commands.size_hint();
    let mut slots: Vec<Slot<'a>> = Vec::with_capacity(count);
    let mut last: HashMap<Target<'a>, usize> = HashMap::with_capacity(count);
    for tagged in commands {
        let Tagged { command, .. } = tagged;
        let origins = vec![tagged.origin()];
        let mut slot = Slot { write: Some(Write { command: Cow::Borrowed(command), origins }), before: None };
        let target = command.target().filter(|target| unfolded.is_empty() || !unfolded.contains(target));
        let Some(target) = target else {
            slots.push(slot);
            continue;
        };
        match last.entry(target) {
            Entry::Vacant(entry) => {
                entry.insert(slots.len());
            }
            Entry::Occupied(mut entry) => {
                if let Some(earlier) = slots.get_mut(*entry.get()).and_then(|slot| slot.write.as_mut())
                    && fold(earlier, command, tagged.origin())
                {
                    continue;
                }
                slot.before = Some(*entry.get());
                if replaces(command) {
                    slot.take_over(&mut slots);
                }
                entry.insert(slots.len());
            }
        }
        slots.push(slot);
    }
    slots.into_iter().filter_map(|slot| slot.write).collect()
}

/// A write, or the place of one that a later write has replaced.
struct Slot<'a> {
    write: Option<Write<'a>>,
    /// The slot of the same target before this one.
    before: Option<usize>,
}

impl<'a> Slot<'a> {
    /// Empties the slots before this one, back to a merge that the store may refuse, and takes their origins.
    fn take_over(&mut self, slots: &mut [Slot<'a>]) {
        let Some(write) = &mut self.write else { return };
        while let Some(slot) = self.before.and_then(|at| slots.get_mut(at)) {
            match slot.write.take() {
                Some(earlier) if earlier.command.is_merge() => {
                    slot.write = Some(earlier);
                    break;
                }
                Some(earlier) => write.origins.extend(earlier.origins),
                None => {}
            }
            self.before = slot.before;
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
        (C::RowUpsert(_), C::RowUpsert(patch) | C::RowMerge(patch)) | (C::RowMerge(_), C::RowMerge(patch)) => {
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
        (C::DocumentMerge { .. }, C::DocumentMerge { fields: patch, .. }) => {
            if let C::DocumentMerge { fields, .. } = earlier.command.to_mut() {
                overlay(fields, patch);
            }
        }
        (C::DocumentIndex { index, id, body }, C::DocumentMerge { fields, .. }) => {
            let merged =
                merge_into(body.get().as_bytes(), fields).ok().and_then(|text| RawValue::from_string(text).ok());
            let Some(body) = merged else { return false };
            earlier.command = Cow::Owned(C::DocumentIndex { index: index.clone(), id: id.clone(), body });
        }
        _ => return false,
    }
    if earlier.origins.last() != Some(&origin) {
        earlier.origins.push(origin);
    }
    true
}

/// What follows from a sink's refusal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Folded writes were refused: leave these targets unfolded in the next try.
    pub unfold: Vec<Target<'static>>,
    /// These answers are bad for certain, with the reasons: file their events, and leave all their commands out of the
    /// next try.
    pub rejected: Vec<(Origin, String)>,
}

/// Judges refused writes. An answer is bad for certain when nothing that may yet be left out was there before it at the
/// target where it failed; the others are tried again without the certain ones. Each round unfolds or rejects at least
/// one, so trying again comes to an end.
pub fn judge<'a>(commands: impl IntoIterator<Item = &'a Tagged>, writes: &[Write<'_>], bad: &[BadWrite]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut failed: BTreeMap<Origin, Vec<(Option<Target<'_>>, &str)>> = BTreeMap::new();
    let mut in_doubt: HashSet<Origin> = HashSet::new();
    for BadWrite { index, reason } in bad {
        let Some(write) = writes.get(*index) else { continue };
        match write.origins.as_slice() {
            [origin] => failed.entry(*origin).or_default().push((write.command.target(), reason)),
            folded => {
                in_doubt.extend(folded);
                verdict.unfold.extend(write.command.target().map(Target::into_owned));
            }
        }
    }
    let mut answers: BTreeMap<Origin, Vec<Target<'a>>> = BTreeMap::new();
    for tagged in commands {
        answers.entry(tagged.origin()).or_default().extend(tagged.command.target());
    }
    // An answer that is left out changes what later ones find at all its targets, and whether those fail in turn.
    let mut uncertain: HashSet<Target<'a>> = HashSet::new();
    for (origin, targets) in answers {
        let failures = failed.get(&origin).map(Vec::as_slice).unwrap_or_default();
        let certain =
            failures.iter().find(|(target, _)| !target.as_ref().is_some_and(|target| uncertain.contains(target)));
        if let Some((_, reason)) = certain {
            verdict.rejected.push((origin, (*reason).to_owned()));
        }
        let doubtful = !failures.is_empty() || in_doubt.contains(&origin);
        if doubtful || targets.iter().any(|target| uncertain.contains(target)) {
            uncertain.extend(targets);
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::command::Row;
    use crate::command::json::{parse_fields, write_object};
    use crate::sink::model::{Model, events, settle};

    fn row(values: &str) -> Row {
        Row { table: "t".into(), key: parse_fields(r#"{"id":1}"#).unwrap(), values: parse_fields(values).unwrap() }
    }

    fn upsert(values: &str) -> Command {
        Command::RowUpsert(row(values))
    }

    fn merge(values: &str) -> Command {
        Command::RowMerge(row(values))
    }

    fn delete() -> Command {
        Command::RowDelete(row("{}"))
    }

    fn set(value: &str, ttl_seconds: Option<u32>) -> Command {
        Command::CacheSet { key: "k".into(), value: value.into(), ttl_seconds }
    }

    fn patch(fields: &str, ttl_seconds: Option<u32>) -> Command {
        Command::CacheMerge { key: "k".into(), fields: parse_fields(fields).unwrap(), ttl_seconds }
    }

    fn tag(commands: Vec<Command>) -> Vec<Tagged> {
        (1..).zip(commands).map(|(offset, command)| Tagged { offset, transform: 0, command }).collect()
    }

    fn shown(commands: Vec<Command>) -> Vec<String> {
        let tagged = tag(commands);
        let text = |write: &Write<'_>| {
            let body = match write.command.as_ref() {
                Command::RowUpsert(row) | Command::RowMerge(row) => write_object(&row.values),
                Command::CacheSet { value, ttl_seconds, .. } => {
                    format!("{} {ttl_seconds:?}", String::from_utf8_lossy(value))
                }
                Command::CacheMerge { fields, ttl_seconds, .. } => format!("{} {ttl_seconds:?}", write_object(fields)),
                _ => String::new(),
            };
            let offsets: Vec<u64> = write.origins.iter().map(|origin| origin.offset).collect();
            format!("{} {body} {offsets:?}", write.command.kind())
        };
        collapse(&tagged, &HashSet::new()).iter().map(text).collect()
    }

    #[test]
    fn upserts_and_merges_of_a_row_fold_column_by_column() {
        assert_eq!(
            shown(vec![upsert(r#"{"a":1,"b":1}"#), upsert(r#"{"b":2}"#), merge(r#"{"c":3}"#)]),
            [r#"row-upsert {"a":1,"b":2,"c":3} [1, 2, 3]"#]
        );
        assert_eq!(
            shown(vec![merge(r#"{"a":1}"#), merge(r#"{"a":2}"#), upsert(r#"{"a":3}"#)]),
            [r#"row-merge {"a":2} [1, 2]"#, r#"row-upsert {"a":3} [3]"#]
        );
    }

    #[test]
    fn a_delete_stays_before_an_upsert_and_replaces_what_was_before_it() {
        assert_eq!(
            shown(vec![upsert(r#"{"a":1}"#), delete(), upsert(r#"{"b":2}"#), upsert(r#"{"c":3}"#)]),
            ["row-delete  [1, 2]", r#"row-upsert {"b":2,"c":3} [3, 4]"#]
        );
        assert_eq!(shown(vec![delete(), upsert("{}"), delete()]), ["row-delete  [1, 2, 3]"]);
        assert_eq!(shown(vec![delete(), merge("{}")]), ["row-delete  [1]", "row-merge {} [2]"]);
    }

    #[test]
    fn nothing_passes_over_a_merge_that_may_be_refused() {
        assert_eq!(
            shown(vec![merge("{}"), delete(), upsert("{}"), delete()]),
            ["row-merge {} [1]", "row-delete  [2, 3, 4]"]
        );
    }

    #[test]
    fn a_cache_merge_folds_as_the_store_would_do_it() {
        assert_eq!(
            shown(vec![set(r#"{"a":1}"#, Some(5)), patch(r#"{"a":2}"#, None), patch(r#"{"b":3}"#, Some(9))]),
            [r#"cache-set {"a":2,"b":3} Some(9) [1, 2, 3]"#]
        );
        assert_eq!(
            shown(vec![set("text", None), patch(r#"{"a":2}"#, None), patch(r#"{"b":3}"#, Some(9))]),
            ["cache-set text None [1]", r#"cache-merge {"a":2,"b":3} Some(9) [2, 3]"#]
        );
    }

    #[test]
    fn an_event_is_named_once_and_messages_never_fold() {
        let publish = || Command::Publish { topic: "t".into(), key: None, value: None, headers: vec![] };
        let mut tagged = tag(vec![set("1", None), set("2", None), publish(), publish()]);
        for tagged in &mut tagged {
            tagged.offset = 7;
        }
        let writes = collapse(&tagged, &HashSet::new());
        let origin = Origin { offset: 7, transform: 0 };
        assert_eq!(writes.iter().map(|w| w.origins.clone()).collect::<Vec<_>>(), [[origin], [origin], [origin]]);
    }

    #[test]
    fn what_does_not_fold_is_not_copied_and_what_must_not_fold_does_not() {
        let tagged = tag(vec![set("1", None), delete(), upsert("{}"), upsert("{}")]);
        let unfolded = HashSet::from([tagged[1].command.target().unwrap().into_owned()]);
        let writes = collapse(&tagged, &unfolded);
        assert_eq!(writes.len(), 4);
        assert!(writes.iter().all(|write| matches!(write.command, Cow::Borrowed(_))));
    }

    #[test]
    fn an_event_that_fails_after_one_that_may_be_left_out_gets_another_try() {
        // Event 1 deletes the row and fails elsewhere; event 2 fails since the row is gone, which it will not be.
        let other = Command::DocumentMerge { index: "i".into(), id: "1".into(), fields: vec![] };
        let tagged = [
            Tagged { offset: 1, transform: 0, command: delete() },
            Tagged { offset: 1, transform: 0, command: other },
            Tagged { offset: 2, transform: 0, command: merge("{}") },
        ];
        let writes = collapse(&tagged, &HashSet::new());
        let bad = |index: usize| BadWrite { index, reason: format!("r{index}") };
        let verdict = judge(&tagged, &writes, &[bad(1), bad(2)]);
        assert_eq!(
            verdict,
            Verdict { unfold: vec![], rejected: vec![(Origin { offset: 1, transform: 0 }, "r1".into())] }
        );
        assert_eq!(judge(&tagged, &writes, &[bad(2)]).rejected, [(Origin { offset: 2, transform: 0 }, "r2".into())]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// The state and the rejected answers are those of one after the other, wherever batches are cut.
        #[test]
        fn the_result_never_depends_on_where_a_batch_was_cut(events in events(24), cuts in prop::collection::vec(1_usize..8, 0..24)) {
            // Two transforms answer each event.
            let answer = |(n, commands): (usize, Vec<Tagged>)| {
                let (offset, transform) = (n as u64 / 2, n % 2);
                commands.into_iter().map(|tagged| Tagged { offset, transform, ..tagged }).collect::<Vec<_>>()
            };
            let events: Vec<_> = events.into_iter().enumerate().map(answer).collect();
            let mut one_by_one = Model::default();
            let rejected: Vec<Origin> = events.iter().filter(|event| one_by_one.apply_event(event).is_err()).map(|e| e[0].origin()).collect();

            let mut batched = Model::default();
            let mut batch_rejected = Vec::new();
            let (mut rest, mut cuts) = (&events[..], cuts.into_iter());
            while !rest.is_empty() {
                let (batch, more) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                batch_rejected.extend(settle(&batch.iter().flatten(), |writes| batched.write(writes)));
                rest = more;
            }
            batch_rejected.sort_unstable();
            prop_assert_eq!(&rejected, &batch_rejected);
            prop_assert_eq!(one_by_one, batched);
        }
    }
}
