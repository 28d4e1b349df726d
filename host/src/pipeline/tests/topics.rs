//! What a lane makes of topics that have grown, were made anew, or lack records.

use super::claims::{CACHE, Played, assigned, of};
use super::*;
use crate::source::{Assigned, Control, TopicFacts};

#[test]
fn a_topic_is_known_again_by_the_record_that_was_taken_last() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give_value(0, 3, claim, "three");
    played.give_value(0, 4, claim, "four");
    played.durable(0, 5);
    played.end();
    let writes = cache.writes().len();

    // The same, and one more: nothing is handled twice.
    let played = Played::new(&site);
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 4);
    played.give_value(0, 4, claim, "four");
    played.give_value(0, 5, claim, "five");
    played.durable(0, 6);
    played.end();
    assert_eq!(cache.writes().iter().skip(writes).map(|write| write.offsets.clone()).collect::<Vec<_>>(), [[5]]);

    // It was compacted away.
    let played = Played::new(&site);
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 5);
    played.give_value(0, 7, claim, "seven");
    played.durable(0, 8);
    played.end();

    // Another topic of this name, which is longer already.
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give_value(0, 7, claim, "another");
    played.give_value(0, 8, claim, "eight");
    let failure = played.failure();
    assert!(failure.contains("the record at t-0@7 is not the one that sink `s0` took there"), "{failure}");
    assert_eq!(cache.next(0), Some(8));
}

#[test]
fn a_sink_ahead_of_the_others_knows_its_last_record_too() {
    let (cache, slow) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let first = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&first);
    let (_, claim) = played.assign(assigned(0));
    played.give_value(0, 4, claim, "four");
    played.durable(0, 5);
    played.end();

    let played = Played::new(&Site::new(vec![(TABLES, slow), (CACHE, cache)]));
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 0);
    played.give_value(0, 2, claim, "two");
    played.give_value(0, 4, claim, "another");
    assert!(played.failure().contains("the record at t-0@4 is not the one that sink `s"));
}

#[test]
fn a_topic_that_has_grown_stops_before_a_record_is_applied() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    RUNTIME.block_on(site.stores().claim(&assigned(0), None)).unwrap();
    let played = Played::new(&site);
    let grown = Some(TopicFacts { partitions: 3, id: Some("a".into()) });
    played.queue.assign(Assigned { topic: grown.clone(), ..assigned(2) }).unwrap();
    let failure = played.failure();
    assert!(failure.contains("has 3 partitions, and had 2") && failure.contains("on_changed_topic"), "{failure}");
    assert_eq!(cache.next(2), None);

    let confirmed = Policies { on_changed_topic: OnLost::Continue, ..site.policies };
    let site = Site { policies: confirmed, ..site };
    for _ in 0..2 {
        let grown = Assigned { topic: grown.clone(), ..assigned(2) };
        assert_eq!(RUNTIME.block_on(site.stores().claim(&grown, None)).unwrap().epochs, [1]);
    }
}

#[test]
fn a_topic_made_anew_under_its_name_stops() {
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    let claim = |id: Option<&str>| {
        let topic = Some(TopicFacts { partitions: 2, id: id.map(str::to_owned) });
        RUNTIME.block_on(site.stores().claim(&Assigned { topic, ..assigned(0) }, None))
    };
    claim(Some("a")).unwrap();
    claim(None).unwrap();
    assert!(claim(Some("b")).unwrap_err().to_string().contains("was made anew"));
}

#[test]
fn a_source_that_lost_records_stops_or_goes_on_as_configured() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache)]);
    RUNTIME.block_on(site.stores().claim(&assigned(0), None)).unwrap();
    let begins_later = Assigned { log_start: 7, ..assigned(0) };
    let failure = RUNTIME.block_on(site.stores().claim(&begins_later, None)).unwrap_err().to_string();
    assert!(failure.contains("7 offsets are gone"), "{failure}");

    let policies = Policies { on_lost_records: OnLost::Continue, ..site.policies };
    let site = Site { policies, ..site };
    let played = Played::new(&site);
    let (offset, claim) = played.assign(begins_later);
    assert_eq!(offset, 7);
    played.give(0, 8, claim);
    played.durable(0, 9);
    played.end();
    // A log that ends below the ledger cannot be gone on with at all.
    let ends_earlier = Assigned { log_end: Some(3), ..assigned(0) };
    let failure = RUNTIME.block_on(site.stores().claim(&ends_earlier, None)).unwrap_err().to_string();
    assert!(failure.contains("ends at offset 3") && failure.contains("come to 9"), "{failure}");
}

#[test]
fn a_ledger_that_moved_while_the_source_was_asked_is_no_topic_made_anew() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache)]);
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 8, claim);
    played.durable(0, 9);
    // Where the log ends was asked before that was written.
    let stale = Assigned { log_end: Some(3), ..assigned(0) };
    let asks_again = |played: &Played| loop {
        match played.control.recv().expect("the lane goes on") {
            Control::ClaimAgain { partition } => return assert_eq!(partition, of(0)),
            Control::Begin { .. } => panic!("it begins beyond the end"),
            _ => {}
        }
    };
    played.queue.assign(stale.clone()).unwrap();
    asks_again(&played);
    // With the record that was taken last, to know the topic by.
    assert_eq!(played.assign(assigned(0)).0, 8);
    // Where it ends there however often it is asked, the records of before are gone.
    for _ in 0..2 {
        played.queue.assign(stale.clone()).unwrap();
        asks_again(&played);
    }
    played.queue.assign(stale).unwrap();
    while played.control.recv().is_ok() {}
    let failure = played.failure();
    assert!(failure.contains("ends at offset 3") && failure.contains("come to 9"), "{failure}");
}
