//! Dead letters that are handled again: never over what came after them.

use super::replaying::{CACHE, Replaying};
use super::*;
use crate::source::Fate;

const DOCUMENTS: &[Port] = &[Port::Documents];

fn value(cache: &Store, key: &str) -> Option<String> {
    cache.model().cache.get(key).map(|(value, _)| value.clone())
}

#[test]
fn a_dead_letter_is_made_up_for_unless_its_key_has_had_an_event_since() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, tables.clone()), (CACHE, cache.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(10, "k", "refused"), (11, "l", "refused"), (12, "k", "fine"), (13, "m", "refused")]);
    assert_eq!(site.letters(), [10, 11, 13]);
    assert!(matches!(played.replay(11, "l", "refused"), Fate::Rejected(_)), "the module is still the same");
    played.mend();

    assert_eq!(played.replay(10, "k", "refused"), Fate::Superseded);
    assert_eq!(played.replay(11, "l", "refused"), Fate::Applied);
    assert_eq!(played.replay(11, "l", "refused"), Fate::Superseded, "it is there already");
    let value = |key: &str| value(&cache, key);
    assert_eq!((value("k").as_deref(), value("l").as_deref(), value("m")), (Some("12"), Some("11"), None));
    assert_eq!(tables.model().rows.len(), 2);
    assert_eq!((tables.next(0), cache.next(0)), (Some(14), Some(14)));
    played.end();

    // The marks are the ledger's: another process knows what is open, and what is not.
    let played = Replaying::new(&site);
    played.mend();
    assert_eq!(played.replay(11, "l", "refused"), Fate::Superseded);
    assert_eq!(played.replay(13, "m", "refused"), Fate::Applied);
    played.end();
    assert_eq!(site.letters(), [10, 11, 13], "what is replayed is not filed again");
}

#[test]
fn only_the_stores_that_lack_it_take_it() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    // The cache is written first here, and has taken what the tables refuse.
    let site = Site::new(vec![(CACHE, cache.clone()), (TABLES, tables.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(5, "k", "bad row"), (6, "l", "fine")]);
    let writes = || cache.writes().iter().filter(|seen| !seen.offsets.is_empty()).count();
    assert!(matches!(played.replay(5, "k", "bad row"), Fate::Rejected(_)));
    played.give(&[(7, "m", "row 404")]);
    assert_eq!(played.replay(5, "k", "bad row"), Fate::Applied);
    assert_eq!(writes(), 1);
    assert_eq!(tables.model().rows[&("t".to_owned(), "404".to_owned())]["a"], "5");
    played.end();
}

#[test]
fn of_two_letters_of_a_key_the_newer_one_closes_the_older() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(1, "k", "refused"), (2, "l", "refused"), (3, "k", "refused"), (4, "l", "refused")]);
    played.mend();
    assert_eq!(played.replay(1, "k", "refused"), Fate::Applied);
    assert_eq!(played.replay(3, "k", "refused"), Fate::Applied);
    assert_eq!(played.replay(4, "l", "refused"), Fate::Applied);
    assert_eq!(played.replay(2, "l", "refused"), Fate::Superseded);
    let model = cache.model();
    assert_eq!((model.cache["k"].0.as_str(), model.cache["l"].0.as_str()), ("3", "4"));
    played.end();
}

#[test]
fn what_has_no_key_is_left_alone() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache)]);
    let played = Replaying::new(&site);
    played.give(&[(1, "", "refused")]);
    played.mend();
    assert_eq!(played.replay(1, "", "refused"), Fate::Superseded);
    played.end();
}

#[test]
fn a_replay_whose_claim_was_taken_changes_nothing_and_may_be_asked_for_again() {
    use super::store::Fault::{None, Taken};
    // The batch, and then the replay.
    let cache = Arc::new(Store::new([None, Taken]));
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(1, "k", "refused"), (2, "l", "fine")]);
    played.mend();
    assert!(matches!(played.replay(1, "k", "refused"), Fate::NotNow(_)));
    assert!(!cache.model().cache.contains_key("k"));
    played.end();
}

#[test]
fn refilled_sink_takes_what_was_replayed_into_an_earlier_one() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, tables), (CACHE, cache.clone())]);
    let mut played = Replaying::new(&site);
    let records = [(10, "k", "bad row"), (11, "l", "bad row"), (12, "m", "row 404"), (13, "l", "row 404")];
    played.give(&records);
    // Of the second one the tables have something newer, and the cache nothing.
    for (offset, key) in [(10, "k"), (11, "l")] {
        assert_eq!(played.replay(offset, key, "bad row"), Fate::Applied);
    }
    let entries = || (value(&cache, "k"), value(&cache, "l"));
    let both = (Some("10".to_owned()), Some("11".to_owned()));
    assert_eq!(entries(), both);
    cache.lose_everything();
    assert_eq!(played.assign(), 0);
    played.give(&records);
    assert_eq!(entries(), both);
    assert_eq!(site.letters(), [10, 11]);
    played.end();
}

#[test]
fn replay_that_a_sink_refuses_goes_no_further_also_when_a_later_one_is_refilled() {
    let [tables, documents, cache] = [0; 3].map(|_| Arc::new(Store::default()));
    let site = Site::new(vec![(TABLES, tables), (DOCUMENTS, documents.clone()), (CACHE, cache.clone())]);
    let mut played = Replaying::new(&site);
    let records = [(10, "k", "bad row and document"), (11, "m", "row 404")];
    played.give(&records);
    assert!(matches!(played.replay(10, "k", "bad row and document"), Fate::Rejected(why) if why.contains("`s1`")));
    cache.lose_everything();
    played.assign();
    played.give(&records);
    assert_eq!((value(&cache, "k"), documents.model().documents.len()), (None, 0));
    played.give(&[(12, "n", "document 404")]);
    assert_eq!(played.replay(10, "k", "bad row and document"), Fate::Applied);
    assert_eq!(value(&cache, "k").as_deref(), Some("10"));
    played.end();
}

#[test]
fn idle_lane_replays_by_the_modules_that_serve_now() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(1, "k", "refused"), (2, "l", "fine")]);
    played.mend();
    // No record has come since.
    assert_eq!(played.replay(1, "k", "refused"), Fate::Applied);
    assert_eq!(value(&cache, "k").as_deref(), Some("1"));
    played.end();
}

#[test]
fn replay_is_of_the_record_that_was_filed_not_of_its_offset() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Replaying::new(&site);
    played.give(&[(1, "k", "refused")]);
    played.mend();
    // As the topic had it before it was made again.
    let earlier = Record { timestamp: Some(1), ..played.record(1, "k", "refused") };
    assert_eq!(played.replay_record(earlier), Fate::Superseded);
    assert_eq!(played.replay(1, "k", "another"), Fate::Superseded);
    assert_eq!(value(&cache, "k"), None);
    assert_eq!(played.replay(1, "k", "refused"), Fate::Applied);
    played.end();
}
