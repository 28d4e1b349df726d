//! Messages of dead letters that are handled again: none goes out behind a newer one of its key.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::replaying::{CACHE, MESSAGES, Replaying};
use super::store::Fault as Goes;
use super::*;
use crate::source::Fate;

/// Tables, and messages without a ledger.
fn both() -> (Arc<Store>, Arc<Store>, Site) {
    let (tables, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let site = Site::new(vec![(TABLES, tables.clone()), (MESSAGES, messages.clone())]);
    (tables, messages, site)
}

#[test]
fn replayed_message_is_not_published_behind_a_newer_one_of_its_key() {
    let (tables, messages, site) = both();
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "bad row and message"), (12, "k", "message"), (13, "m", "row 404")]);
    assert_eq!(played.replay(10, "k", "bad row and message"), Fate::Applied);
    assert_eq!(messages.model().messages, ["12"]);
    assert_eq!(tables.model().rows[&("t".to_owned(), "404".to_owned())]["a"], "10");
    played.end();
}

#[test]
fn message_that_never_went_out_goes_out_once_with_a_replay() {
    let (_, messages, site) = both();
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "bad row and message"), (12, "l", "message"), (13, "m", "row 404")]);
    assert_eq!(played.replay(10, "k", "bad row and message"), Fate::Applied);
    assert_eq!(played.replay(10, "k", "bad row and message"), Fate::Superseded);
    assert_eq!(messages.model().messages, ["12", "10"]);
    played.end();
}

#[test]
fn letter_without_a_message_is_superseded_where_its_stores_have_something_newer() {
    let (tables, messages, site) = both();
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "bad row"), (12, "k", "row"), (13, "m", "row 404")]);
    let writes = tables.writes().len();
    for _ in 0..2 {
        assert_eq!(played.replay(10, "k", "bad row"), Fate::Superseded);
    }
    let rows = tables.writes();
    assert!(rows[writes..].iter().all(|seen| seen.offsets.is_empty()), "{rows:?}");
    assert!(messages.model().messages.is_empty());
    played.end();
}

#[test]
fn marks_of_messages_outlive_the_process() {
    let (_, messages, site) = both();
    let played = Replaying::new(&site);
    let records = [
        (10, "k", "bad row and message"),
        (11, "l", "bad row and message"),
        (12, "l", "message"),
        (13, "n", "too large"),
        (14, "m", "row 404"),
    ];
    played.give(&records);
    assert_eq!(site.letters(), [10, 11, 13]);
    played.end();
    let played = Replaying::new(&site);
    for (offset, key) in [(10, "k"), (11, "l")] {
        assert_eq!(played.replay(offset, key, "bad row and message"), Fate::Applied);
    }
    assert_eq!(messages.model().messages, ["12", "10"]);
    assert!(matches!(played.replay(13, "n", "too large"), Fate::Rejected(_)));
    played.end();
}

#[test]
fn mark_of_a_refused_message_is_durable_before_the_batch_is() {
    let (tables, _, site) = both();
    let played = Replaying::new(&site);
    // Nothing of it is for the tables, whose ledger keeps the mark all the same.
    played.give(&[(1, "n", "too large")]);
    assert_eq!(tables.next(0), Some(2));
    played.end();
}

#[test]
fn replayed_message_of_a_partition_that_another_claim_has_taken_is_not_published() {
    let (tries, tables) = (Arc::new(AtomicUsize::default()), Arc::new(Store::default()));
    let tried = tries.clone();
    let during = move || {
        tried.fetch_add(1, Ordering::Relaxed);
    };
    let messages = Store::silent_during([], during);
    let site = Site::new(vec![(TABLES, tables.clone()), (MESSAGES, Arc::new(messages))]);
    let played = Replaying::new(&site);
    // The messages alone lack it.
    played.give(&[(1, "n", "too large")]);
    let before = tries.load(Ordering::Relaxed);
    tables.taken(0);
    assert!(matches!(played.replay(1, "n", "too large"), Fate::NotNow(_)));
    assert_eq!(tries.load(Ordering::Relaxed), before);
    played.end();
}

#[test]
fn pipeline_without_a_ledger_replays_what_it_has_filed_itself() {
    let messages = Arc::new(Store::silent());
    let site = Site::new(vec![(MESSAGES, messages.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(1, "k", "refused"), (2, "l", "refused"), (3, "l", "message"), (4, "m", "too large")]);
    played.mend();
    assert_eq!(played.replay(2, "l", "refused"), Fate::Superseded);
    assert!(matches!(played.replay(4, "m", "too large"), Fate::Rejected(_)));
    assert_eq!(played.replay(1, "k", "refused"), Fate::Applied);
    assert_eq!(played.replay(1, "k", "refused"), Fate::Superseded);
    played.end();
    // What other processes have published since nobody knows here.
    let played = Replaying::new(&site);
    played.mend();
    assert_eq!(played.replay(4, "m", "too large"), Fate::Superseded);
    assert_eq!(messages.model().messages, ["3"]);
    played.end();
}

#[test]
fn message_refused_in_a_batch_with_a_newer_one_of_its_key_is_superseded() {
    let (_, messages, site) = both();
    let played = Replaying::new(&site);
    played.give_together(&[(10, "k", "at first too large"), (12, "k", "message")]);
    assert_eq!((site.letters(), messages.model().messages), (vec![10], vec!["12".to_owned()]));
    played.mend();
    let fate = played.replay(10, "k", "at first too large");
    assert_eq!((fate, messages.model().messages), (Fate::Superseded, vec!["12".to_owned()]));
    played.end();
}

#[test]
fn message_refused_behind_a_fence_that_a_crash_left_is_superseded_by_a_newer_one() {
    // The ledger moves, and the process dies before anything is published.
    let (tables, messages) = (Arc::new(Store::new([Goes::CrashAfter])), Arc::new(Store::silent()));
    let site = Site::new(vec![(TABLES, tables.clone()), (MESSAGES, messages.clone())]);
    let played = Replaying::new(&site);
    played.crash(&[(10, "k", "at first too large"), (12, "k", "message")]);
    assert_eq!((tables.next(0), messages.model().messages.len()), (Some(13), 0));
    // The next one takes a batch of each.
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "at first too large")]);
    played.give(&[(12, "k", "message")]);
    assert_eq!((site.letters(), messages.model().messages), (vec![10], vec!["12".to_owned()]));
    played.mend();
    let fate = played.replay(10, "k", "at first too large");
    assert_eq!((fate, messages.model().messages), (Fate::Superseded, vec!["12".to_owned()]));
    played.end();
}

#[test]
fn mark_of_a_message_is_closed_also_while_another_store_keeps_the_marks() {
    let (tables, messages, site) = both();
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "at first too large")]);
    played.end();
    // A cache is added, and taken away again.
    let cache = Arc::new(Store::default());
    let three = Site::new(vec![(TABLES, tables), (MESSAGES, messages.clone()), (CACHE, cache)]);
    let played = Replaying::new(&three);
    played.give(&[(10, "k", "at first too large"), (12, "k", "message")]);
    played.end();
    assert_eq!(messages.model().messages, ["12"]);
    let played = Replaying::new(&site);
    played.mend();
    let fate = played.replay(10, "k", "at first too large");
    assert_eq!((fate, messages.model().messages), (Fate::Superseded, vec!["12".to_owned()]));
    played.end();
}

#[test]
fn marks_of_messages_outlive_a_change_of_delivery() {
    let (tables, _, site) = both();
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "at first too large")]);
    played.end();
    // The same sink keeps a ledger now, and is started twice before its next event.
    let exactly = Site::new(vec![(TABLES, tables), (MESSAGES, Arc::new(Store::default()))]);
    Replaying::new(&exactly).end();
    let played = Replaying::new(&exactly);
    played.mend();
    assert_eq!(played.replay(10, "k", "at first too large"), Fate::Applied);
    played.end();
}
