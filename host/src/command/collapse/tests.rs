//! Folding and judging, by cases and at random.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::command::Row;
use crate::command::json::{parse_fields, write_object};
use crate::sink::BadWrite;
use crate::sink::model::strict::{family_events, strict_events};
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
    collapse(&tagged, &Parts::of(&tagged), &HashSet::new(), &Reach::default()).iter().map(text).collect()
}

#[test]
fn upserts_and_merges_of_a_row_fold_where_the_later_names_every_column() {
    // The row may be refused: the merge would then miss it.
    assert_eq!(shown(vec![upsert(r#"{"a":1}"#), merge(r#"{"a":2}"#)]).len(), 2);
    assert_eq!(shown(vec![merge(r#"{"a":1,"b":1}"#), merge(r#"{"a":2}"#)]).len(), 2);
    assert_eq!(
        shown(vec![upsert(r#"{"a":1,"b":1}"#), upsert(r#"{"b":2,"a":3,"c":4}"#)]),
        [r#"row-upsert {"a":3,"b":2,"c":4} [1, 2]"#]
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
        ["row-delete  [1, 2]", r#"row-upsert {"b":2} [3]"#, r#"row-upsert {"c":3} [4]"#]
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
    let writes = collapse(&tagged, &Parts::of(&tagged), &HashSet::new(), &Reach::default());
    let origin = Origin { offset: 7, transform: 0 };
    assert_eq!(writes.iter().map(|w| w.origins.clone()).collect::<Vec<_>>(), [[origin], [origin], [origin]]);
}

#[test]
fn what_does_not_fold_is_not_copied_and_what_must_not_fold_does_not() {
    let tagged = tag(vec![set("1", None), delete(), upsert("{}"), upsert("{}")]);
    let unfolded = HashSet::from([tagged[1].command.target().unwrap().into_owned()]);
    let writes = collapse(&tagged, &Parts::of(&tagged), &unfolded, &Reach::default());
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
    let writes = collapse(&tagged, &Parts::of(&tagged), &HashSet::new(), &Reach::default());
    let bad = |index: usize| BadWrite { index, clash: false, by_trigger: false, reason: format!("r{index}") };
    let verdict = judge(&tagged, &writes, &[bad(1), bad(2)]);
    assert_eq!(verdict, Verdict { unfold: vec![], rejected: vec![(Origin { offset: 1, transform: 0 }, "r1".into())] });
    assert_eq!(judge(&tagged, &writes, &[bad(2)]).rejected, [(Origin { offset: 2, transform: 0 }, "r2".into())]);
}

#[test]
fn refused_merges_of_one_row_are_rejected_together() {
    let tagged = tag(vec![upsert(r#"{"a":1}"#), merge(r#"{"b":1}"#), merge(r#"{"c":1}"#)]);
    let writes = collapse(&tagged, &Parts::of(&tagged), &HashSet::new(), &Reach::default());
    let bad = |index: usize, clash| BadWrite { index, clash, by_trigger: false, reason: format!("r{index}") };
    let rejected = |bad: &[BadWrite]| -> Vec<u64> {
        judge(&tagged, &writes, bad).rejected.iter().map(|(origin, _)| origin.offset).collect()
    };
    assert_eq!(rejected(&[bad(0, false), bad(1, false), bad(2, false)]), [1, 2, 3]);
    // It may be there once it clashes no more.
    assert_eq!(rejected(&[bad(0, true), bad(1, false), bad(2, false)]), [1]);
}

#[test]
fn command_that_is_no_whole_answer_is_not_hidden_from_a_store_that_may_refuse_it() {
    let tagged = |offset, command| Tagged { offset, transform: 0, command };
    let parts = [tagged(1, upsert(r#"{"a":1}"#)), tagged(1, set("1", None)), tagged(2, upsert(r#"{"a":2}"#))];
    let offsets = |writes: &[Write<'_>]| -> Vec<Vec<u64>> {
        writes.iter().map(|write| write.origins.iter().map(|origin| origin.offset).collect()).collect()
    };
    let of_tables = || parts.iter().filter(|tagged| tagged.command.port() == Port::Tables);
    let folded = |parts: &Parts| offsets(&collapse(of_tables(), parts, &HashSet::new(), &Reach::default()));
    assert_eq!(folded(&Parts::of(&parts)), [[1], [2]]);
    assert_eq!(folded(&Parts::of(of_tables())), [[1, 2]]);
    let deletes = [tagged(3, delete()), tagged(4, delete())];
    let all = || parts.iter().chain(&deletes);
    let writes = collapse(all(), &Parts::of(all()), &HashSet::new(), &Reach::default());
    assert_eq!(offsets(&writes), [&[1][..], &[1], &[2, 3, 4]]);
}

#[test]
fn row_that_clashes_is_tried_in_order_before_it_is_rejected() {
    // A unique value passes from row to row: folded, the first step of row 1 is left out.
    let at = |offset, id: &str, value: &str| {
        let row = Row {
            table: "t".into(),
            key: parse_fields(&format!("{{\"id\":{id}}}")).unwrap(),
            values: parse_fields(value).unwrap(),
        };
        Tagged { offset, transform: 0, command: Command::RowUpsert(row) }
    };
    let tagged = [at(1, "1", r#"{"u":3}"#), at(2, "2", r#"{"u":1}"#), at(3, "1", r#"{"u":2}"#)];
    let parts = Parts::of(&tagged);
    let clash = |index: usize| BadWrite { index, clash: true, by_trigger: false, reason: format!("r{index}") };
    let writes = collapse(&tagged, &parts, &HashSet::new(), &Reach::default());
    assert!(writes.len() == 2 && has_folded_rows(&writes));
    let verdict = judge(&tagged, &writes, &[clash(0), clash(1)]);
    assert_eq!(verdict.rejected, []);
    let writes = collapse(&tagged, &parts, &verdict.unfold.into_iter().collect(), &Reach::default());
    assert!(writes.len() == 3 && !has_folded_rows(&writes));
    // What clashes then has clashed in order.
    assert_eq!(judge(&tagged, &writes, &[clash(1)]).rejected.len(), 1);
}

#[test]
fn row_that_clashes_behind_an_answer_that_is_left_out_gets_another_try() {
    let row =
        |id: &str| Row { table: "t".into(), key: parse_fields(&format!("{{\"id\":{id}}}")).unwrap(), values: vec![] };
    let upsert = |offset, id: &str| Tagged { offset, transform: 0, command: Command::RowUpsert(row(id)) };
    let bad = |index, clash| BadWrite { index, clash, by_trigger: false, reason: format!("r{index}") };
    // Event 1 writes row 1, which takes the unique value of row 3, and is refused at row 2.
    let tagged = [upsert(1, "1"), upsert(1, "2"), upsert(2, "3"), upsert(3, "4")];
    let writes = collapse(&tagged, &Parts::of(&tagged), &HashSet::new(), &Reach::default());
    let rejected = |bad: &[BadWrite]| -> Vec<u64> {
        judge(&tagged, &writes, bad).rejected.into_iter().map(|(origin, _)| origin.offset).collect()
    };
    assert_eq!(rejected(&[bad(1, false), bad(2, true), bad(3, false)]), [1, 3]);
    // One that is refused and has no other row leaves nothing that others could clash with.
    assert_eq!(rejected(&[bad(2, false), bad(3, true)]), [2, 3]);
}

/// The state and the rejected answers are those of one after the other, wherever batches are cut.
fn a_cut_is_not_seen(events: Vec<Vec<Tagged>>, cuts: Vec<usize>, empty: &Model) {
    // Two transforms answer each event.
    let answer = |(n, commands): (usize, Vec<Tagged>)| {
        let (offset, transform) = (n as u64 / 2, n % 2);
        commands.into_iter().map(|tagged| Tagged { offset, transform, ..tagged }).collect::<Vec<_>>()
    };
    let events: Vec<_> = events.into_iter().enumerate().map(answer).collect();
    let mut one_by_one = empty.clone();
    let mut rejected = Vec::new();
    for event in &events {
        if one_by_one.apply_event(event).is_err() {
            rejected.push((event[0].origin(), event.len()));
        }
    }
    let mut batched = empty.clone();
    let mut batch_rejected = Vec::new();
    let (mut rest, mut cuts) = (&events[..], cuts.into_iter());
    while !rest.is_empty() {
        let (batch, more) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
        batch_rejected.extend(settle(&batch.iter().flatten(), |writes| batched.write(writes)));
        rest = more;
    }
    assert_eq!(one_by_one, batched);
    // A value that was replaced within a batch may be left unseen, with nothing else in its answer.
    let seen =
        |(origin, parts): &(Origin, usize)| batch_rejected.contains(origin) || empty.strict.is_empty() || *parts > 1;
    rejected.retain(seen);
    batch_rejected.sort_unstable();
    assert_eq!(rejected.into_iter().map(|(origin, _)| origin).collect::<Vec<_>>(), batch_rejected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_never_depends_on_where_a_batch_was_cut(
        events in events(24), cuts in prop::collection::vec(1_usize..8, 0..24),
    ) {
        a_cut_is_not_seen(events, cuts, &Model::default());
    }

    #[test]
    fn refusals_never_depend_on_where_a_batch_was_cut(
        events in strict_events(24, 3), cuts in prop::collection::vec(1_usize..8, 0..24),
    ) {
        let empty = Model { strict: &[Port::Tables, Port::Documents], ..Model::default() };
        a_cut_is_not_seen(events, cuts, &empty);
    }

    #[test]
    fn rows_that_a_delete_takes_along_never_depend_on_where_a_batch_was_cut(
        events in family_events(24), cuts in prop::collection::vec(1_usize..8, 0..24),
    ) {
        a_cut_is_not_seen(events, cuts, &Model { strict: &[Port::Tables], cascades: true, ..Model::default() });
    }
}
