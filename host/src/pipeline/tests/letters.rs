//! Which dead letters are filed, and how often, when records are read or tried again.

use super::played::{CACHE, Played, assigned, committed};
use super::store::Fault as Goes;
use super::*;
use crate::pipeline::commit::CommitMetadata;
use crate::pipeline::dead_letter::DeadLetterTopic;
use crate::pipeline::letters::{Letters, Refusers};
use crate::sink::kafka::testing::{Topic, broker};
use crate::source::{Assigned, TopicFacts};

/// A commit that says that everything is filed, below this offset, that the first transform refuses with this module.
fn filed(digest: &str, to: u64) -> Assigned {
    let serving = Serving::named(0, &[("first", digest), ("second", "d2")]);
    let mut letters = Letters::default();
    letters.pass(&Refusers::new(&serving, ""), 0, to);
    let metadata = CommitMetadata { filed: letters.stretches().clone(), ..CommitMetadata::default() };
    Assigned { committed: committed(to, metadata.write()), ..assigned(0) }
}

/// Has the records below an offset handled as the commit of an earlier process says, and answers the dead letters.
fn letters_below(to: u64, site: &Site, assigned: Assigned, answer: fn(&Record) -> Option<Vec<Command>>) -> Vec<u64> {
    let played = Played::over(site.stores(), answer);
    let (from, claim) = played.assign(assigned);
    (from..to).for_each(|offset| played.give(0, offset, claim));
    played.durable(0, to);
    played.end();
    site.letters()
}

/// Rows, of which the tables refuse the one at 2, and an event at 4 that the module refuses.
fn row_but_2_refused_4(record: &Record) -> Option<Vec<Command>> {
    match record.offset {
        2 => Some(vec![bad_row()]),
        4 => None,
        offset => Some(vec![Command::RowUpsert(row(&offset.to_string(), "1")), set(&format!("{offset}"), "v")]),
    }
}

#[test]
fn sink_that_is_added_later_has_its_rejects_filed() {
    let (cache, tables) = (Arc::new(Store::default()), Arc::new(Store::default()));
    letters_below(6, &Site::new(vec![(CACHE, cache.clone())]), assigned(0), |record| {
        Some(vec![set(&record.offset.to_string(), "v")])
    });
    let site = Site::new(vec![(CACHE, cache), (TABLES, tables.clone())]);
    assert_eq!(
        letters_below(6, &site, filed("d1", 6), row_but_2_refused_4),
        [2],
        "and not what the module refused before"
    );
    assert_eq!((tables.model().rows.len(), tables.next(0)), (4, Some(6)));
}

#[test]
fn sink_that_is_added_later_and_refuses_all_history_stops_the_pipeline() {
    let (cache, tables) = (Arc::new(Store::default()), Arc::new(Store::default()));
    letters_below(6, &Site::new(vec![(CACHE, cache.clone())]), assigned(0), |record| {
        Some(vec![set(&record.offset.to_string(), "v")])
    });
    let site = Site::new(vec![(CACHE, cache), (TABLES, tables.clone())]);
    let site = Site { breaker: config::Breaker { in_a_row: 3, percent: 0 }, ..site };
    let played = Played::over(site.stores(), |_| Some(vec![bad_row()]));
    played.queue.pause(true);
    let (_, claim) = played.assign(filed("d1", 6));
    (0..6).for_each(|offset| played.give(0, offset, claim));
    played.queue.pause(false);
    let failure = played.failure();
    assert!(failure.contains("3 events in a row are rejected"), "{failure}");
    assert!(site.letters().len() < 3 && tables.next(0) < Some(3), "{:?} {:?}", site.letters(), tables.next(0));
}

#[test]
fn modules_refusals_that_are_filed_stop_a_pipeline_that_meets_too_many_again() {
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    let site = Site { breaker: config::Breaker { in_a_row: 3, percent: 0 }, ..site };
    let played = Played::over(site.stores(), |_| None);
    let (_, claim) = played.assign(filed("d1", 6));
    (0..6).for_each(|offset| played.give(0, offset, claim));
    assert!(played.failure().contains("3 events in a row are rejected"));
}

#[test]
fn what_the_same_module_refused_before_is_not_filed_again() {
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    let played = Played::new(&site);
    let (_, claim) = played.assign(filed("d1", 67));
    (60..68).for_each(|offset| played.give(0, offset, claim));
    let told = played.durable(0, 68).filed;
    assert!(told.values().all(|stretch| (stretch.from, stretch.to) == (0, 68)), "{told:?}");
    assert_eq!(told.len(), 3, "both transforms, and what came to none");
    played.end();
    assert_eq!(site.letters(), [0_u64; 0]);
}

/// As where a cache was lost, and is filled again after the module was exchanged.
#[test]
fn what_another_module_refuses_of_history_is_filed() {
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    assert_eq!(letters_below(6, &site, filed("before", 6), |record| (record.offset != 4).then(Vec::new)), [4]);
}

#[test]
fn store_that_was_set_back_has_the_rejects_filed_that_it_did_not_have_before() {
    let tables = Arc::new(Store::default());
    let site = Site::new(vec![(TABLES, tables.clone())]);
    let fine = |record: &Record| Some(vec![Command::RowUpsert(row(&record.offset.to_string(), "1"))]);
    letters_below(3, &site, assigned(0), fine);
    assert_eq!(letters_below(6, &site, assigned(0), fine), [0_u64; 0]);
    tables.set_back(1);
    let from = tables.next(0).unwrap();
    assert!(from < 6);
    // What is taken now is no more what was taken then: somebody has written a row by hand.
    assert_eq!(
        letters_below(6, &site, filed("d1", 6), |record| {
            Some(vec![if record.offset == 5 {
                bad_row()
            } else {
                Command::RowUpsert(row(&record.offset.to_string(), "1"))
            }])
        }),
        [5]
    );
}

/// The commit of a process that had all filed below 100 that its modules refuse of a topic.
fn filed_of(topic: &TopicFacts) -> CommitMetadata {
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    let played = Played::over(site.stores(), |_| Some(Vec::new()));
    let (_, claim) = played.assign(Assigned { topic: Some(topic.clone()), ..assigned(0) });
    (0..100).for_each(|offset| played.give(0, offset, claim));
    let metadata = played.durable(0, 100);
    played.end();
    assert!(metadata.filed.values().all(|stretch| stretch.to == 100), "{metadata:?}");
    metadata
}

fn refuses_4(record: &Record) -> Option<Vec<Command>> {
    (record.offset != 4).then(Vec::new)
}

#[test]
fn records_refused_after_topic_was_made_again_are_filed() {
    let before = TopicFacts { partitions: 2, id: Some("before".into()) };
    let metadata = filed_of(&before);
    for (what, topic, metadata) in [
        ("another id", assigned(0).topic, metadata.clone()),
        // The commit of a version that did not keep it.
        ("another epoch", assigned(0).topic, CommitMetadata { topic: None, ..metadata }),
    ] {
        // Filled again by `tidegate rewind`: the ledger begins with the new topic, under the next epoch.
        let cache = Arc::new(Store::default());
        cache.put_topic("t", topic.clone().unwrap(), metadata.sinks["s0"] + 1);
        let site = Site::new(vec![(CACHE, cache)]);
        let assigned = Assigned { committed: committed(100, metadata.write()), topic, ..assigned(0) };
        assert_eq!(letters_below(6, &site, assigned, refuses_4), [4], "{what}");
    }
}

#[test]
fn records_refused_after_the_log_was_cut_off_are_filed() {
    let topic = assigned(0).topic.unwrap();
    let metadata = filed_of(&topic);
    let cut = Assigned { log_end: Some(6), committed: committed(100, metadata.write()), ..assigned(0) };
    let cache = Arc::new(Store::default());
    cache.put_topic("t", topic, metadata.sinks["s0"].wrapping_add(1000));
    assert_eq!(letters_below(6, &Site::new(vec![(CACHE, cache)]), cut, refuses_4), [4]);
}

#[test]
fn refusals_that_are_filed_are_known_when_a_cache_is_filled_again() {
    let topic = assigned(0).topic.unwrap();
    let metadata = filed_of(&topic);
    let again = Assigned { committed: committed(100, metadata.write()), ..assigned(0) };
    let cache = Arc::new(Store::default());
    cache.put_topic("t", topic, metadata.sinks["s0"].wrapping_add(1000));
    assert_eq!(letters_below(6, &Site::new(vec![(CACHE, cache)]), again, refuses_4), [0_u64; 0]);
}

#[test]
fn commit_that_cannot_be_read_loses_no_letter() {
    for metadata in ["", "written by hand", r#"{"sinks":["s0"],"positions":{},"dead_letters":6}"#] {
        let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
        let assigned = Assigned { committed: committed(6, metadata.into()), ..assigned(0) };
        assert_eq!(letters_below(6, &site, assigned, |record| (record.offset != 4).then(Vec::new)), [4], "{metadata}");
    }
}

#[test]
fn letters_are_filed_once_while_a_conflict_backs_off() {
    let topic = RUNTIME.block_on(Topic::make(1, &[]));
    // The first try is refused for its bad row, which the next ones leave out; each meets the conflict.
    let faults = [Goes::None, Goes::Clash, Goes::Clash];
    let site = Site::new(vec![(&[Port::Tables, Port::Cache], Arc::new(Store::new(faults)))]);
    let mut stores = site.stores();
    let letters = RUNTIME.block_on(async { DeadLetterTopic::open(&broker(), &topic.0, 1000) }).unwrap();
    Arc::get_mut(&mut stores).unwrap().dead_letters = Arc::new(DeadLetters::Kafka(letters));
    let played = Played::over(stores, row_but_2_refused_4);
    let (_, mut claim) = played.assign(assigned(0));
    for tried in 0..3 {
        if tried > 0 {
            claim = played.begins().1;
        }
        played.queue.pause(true);
        (0..6).for_each(|offset| played.give(0, offset, claim));
        played.queue.pause(false);
    }
    played.durable(0, 6);
    let summary = played.end();
    assert_eq!((summary.rejected["refused"], summary.rejected["store"]), (1, 1));
    let mut filed: Vec<_> =
        topic.read().iter().map(|letter| letter.header("__connect.errors.offset").unwrap().to_owned()).collect();
    filed.sort_unstable();
    assert_eq!(filed, ["2", "4"]);
}

#[test]
fn so_many_rejects_stop_the_pipeline_before_they_are_filed() {
    let events = Events((0..20).map(|offset| (0, offset, (offset < 5).then(|| vec![set("k", "v")]))).collect());
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    let site = Site { breaker: config::Breaker { in_a_row: 10, percent: 0 }, ..site };
    let failure = site.run(&events, 4).1.unwrap();
    for part in ["pipeline `p`", "10 events in a row", "t-0@", "refused", "[pipelines.breaker]"] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
    // The batch that is too much is not filed, and the ledger is left before it.
    let filed = site.letters();
    assert_eq!(filed, (5..5 + filed.len() as u64).collect::<Vec<_>>());
    assert!(filed.len() < 10, "{filed:?}");
    assert!(site.sinks[0].1.next(0) <= Some(5 + filed.len() as u64), "the ledger has passed what was not filed");
}

#[test]
fn record_that_a_module_fails_at_when_it_comes_again_is_filed() {
    let site = Site::new(vec![(TABLES, Arc::new(Store::new([Goes::Clash])))]);
    let tries = std::sync::atomic::AtomicU32::new(0);
    // As where an instance has no memory left, or the machine no time, at the second call.
    let played = Played::over(site.stores(), move |record| {
        let fails = record.offset == 4 && tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0;
        (!fails).then(|| vec![Command::RowUpsert(row(&record.offset.to_string(), "1"))])
    });
    let (_, mut claim) = played.assign(assigned(0));
    for tried in 0..2 {
        if tried > 0 {
            claim = played.begins().1;
        }
        played.queue.pause(true);
        (0..6).for_each(|offset| played.give(0, offset, claim));
        played.queue.pause(false);
    }
    played.durable(0, 6);
    played.end();
    assert_eq!((site.sinks[0].1.model().rows.len(), site.letters()), (5, vec![4]), "in a store or a dead letter");
}
