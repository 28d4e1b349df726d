//! What a lane makes of topics that have grown, were made anew, or lack records.

use super::played::{CACHE, Played, assigned, committed, of};
use super::store::Fault as Goes;
use super::*;
use crate::pipeline::commit::CommitMetadata;
use crate::source::{Assigned, Claim, Control, TopicFacts};

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

/// A lane whose store has record 0, and which another claim has fenced, so that it claims the partition once more. Of the
/// claim before, it is given a record late. Answers the claim.
fn claimed_once_more() -> (Played, Claim) {
    let cache = Arc::new(Store::new([Goes::None, Goes::Taken]));
    let played = Played::new(&Site::new(vec![(CACHE, cache)]));
    let (_, before) = played.assign(assigned(0));
    played.give_value(0, 0, before, "zero");
    played.durable(0, 1);
    played.give_value(0, 1, before, "one");
    played.claims_again();
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 0, "it is given what its store took last, to know it again");
    played.give_value(0, 2, before, "two");
    played.taken();
    (played, claim)
}

#[test]
fn a_late_record_of_an_earlier_claim_has_nothing_counted_twice() {
    let (played, claim) = claimed_once_more();
    played.give_value(0, 0, claim, "zero");
    played.give_value(0, 1, claim, "one");
    played.durable(0, 2);
    let summary = played.end();
    assert_eq!((summary.events["create"], summary.commands["cache-set"]), (2, 2));
}

#[test]
fn a_late_record_of_an_earlier_claim_hides_no_other_topic() {
    let (played, claim) = claimed_once_more();
    played.give_value(0, 0, claim, "another");
    played.give_value(0, 1, claim, "one");
    let failure = played.failure();
    assert!(failure.contains("the record at t-0@0 is not the one that sink `s0` took there"), "{failure}");
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
fn last_record_of_each_sink_is_compared_with_the_log_though_another_was_recognised() {
    let first = Arc::new(Store::default());
    let site =
        Site::new(vec![(CACHE, first), (&[Port::Messages], Arc::new(Store::new([Goes::None, Goes::CrashAfter])))]);
    // The second sink alone takes the record at 1, and the process dies there.
    let answer = |record: &Record| {
        let set = (record.offset == 0).then(|| set("k", "v"));
        Some(set.into_iter().chain([publish(record.offset)]).collect())
    };
    let played = Played::over(site.stores(), answer);
    let (_, claim) = played.assign(assigned(0));
    played.give_value(0, 0, claim, "zero");
    played.durable(0, 1);
    played.give_value(0, 1, claim, "one");
    assert!(played.failure().contains("crashed"));

    let played = Played::over(site.stores(), answer);
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 0);
    played.give_value(0, 0, claim, "zero");
    played.taken();
    played.give_value(0, 1, claim, "another");
    let failure = played.failure();
    assert!(failure.contains("the record at t-0@1 is not the one that sink `s1` took there"), "{failure}");
}

#[test]
fn a_topic_that_has_grown_stops_before_a_record_is_applied() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let epoch = RUNTIME.block_on(site.stores().claim(&assigned(0), None)).unwrap().epochs[0];
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
        assert_eq!(RUNTIME.block_on(site.stores().claim(&grown, None)).unwrap().epochs, [epoch + 1]);
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
        match played.told() {
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
    let failure = played.failure();
    assert!(failure.contains("ends at offset 3") && failure.contains("come to 9"), "{failure}");
}

const MESSAGES: &[Port] = &[Port::Messages];

/// A pipeline that only publishes, and a partition of which it has published everything below this offset.
fn published(to: u64, site: &Site) -> (Played, Assigned) {
    let metadata = CommitMetadata { positions: [("s0".to_owned(), to)].into(), ..CommitMetadata::default() };
    let assigned = Assigned { committed: committed(to, metadata.write()), ..assigned(0) };
    (Played::new(site), assigned)
}

fn messages() -> Site {
    Site::new(vec![(MESSAGES, Arc::new(Store::silent()))])
}

#[test]
fn records_lost_before_they_were_published_stop_or_go_on_as_configured() {
    let (played, assigned) = published(40, &messages());
    played.queue.assign(Assigned { log_start: 90, ..assigned }).unwrap();
    let failure = played.failure();
    assert!(failure.contains("sink `s0` has come to 40 only: 50 offsets are gone"), "{failure}");

    let site = messages();
    let policies = Policies { on_lost_records: OnLost::Continue, ..site.policies };
    let (played, assigned) = published(40, &Site { policies, ..site });
    let (offset, claim) = played.assign(Assigned { log_start: 90, ..assigned });
    assert_eq!(offset, 90);
    played.give(0, 90, claim);
    assert_eq!(played.durable(0, 91).positions["s0"], 91);
    played.end();
}

#[test]
fn position_of_messages_beyond_the_end_of_the_log_stops() {
    let (played, assigned) = published(40, &messages());
    let assigned = Assigned { log_end: Some(30), ..assigned };
    for _ in 0..2 {
        played.queue.assign(assigned.clone()).unwrap();
        assert_eq!(played.claims_again(), of(0), "more may have been written since the end was asked");
    }
    played.queue.assign(assigned).unwrap();
    let failure = played.failure();
    assert!(failure.contains("ends at offset 30, but sink `s0` has come to 40"), "{failure}");
    assert!(failure.contains("--delete-offsets"), "{failure}");
}

#[test]
fn log_that_was_cut_off_while_messages_were_published_stops() {
    let (played, mut assigned) = published(40, &messages());
    let (_, claim) = played.assign(assigned.clone());
    played.give(0, 40, claim);
    played.durable(0, 41);
    // The fetcher finds nothing at 41, and the source assigns the partition again.
    assigned.log_end = Some(35);
    for _ in 0..3 {
        played.queue.assign(assigned.clone()).unwrap();
    }
    let failure = played.failure();
    assert!(failure.contains("ends at offset 35, but sink `s0` has come to 41"), "{failure}");
}

#[test]
fn topic_made_again_is_known_by_the_record_that_was_published_last() {
    let site = messages();
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give_value(0, 3, claim, "three");
    let told = played.durable(0, 4);
    played.end();
    let again = Assigned { committed: committed(4, told.write()), ..assigned(0) };

    let played = Played::new(&site);
    let (offset, claim) = played.assign(again.clone());
    assert_eq!(offset, 3);
    played.give_value(0, 3, claim, "three");
    played.give_value(0, 4, claim, "four");
    played.durable(0, 5);
    played.end();
    assert_eq!(site.sinks[0].1.published(), 2, "nothing twice");

    let played = Played::new(&site);
    let (_, claim) = played.assign(again);
    played.give_value(0, 3, claim, "another");
    let failure = played.failure();
    assert!(failure.contains("the record at t-0@3 is not the one that sink `s0` took there"), "{failure}");
}

/// What a pipeline that only publishes finds when it starts again and its topic has become this.
fn published_before(topic: TopicFacts, policies: fn(Policies) -> Policies) -> (Played, Assigned) {
    let site = messages();
    let site = Site { policies: policies(site.policies), ..site };
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 3, claim);
    let told = played.durable(0, 4);
    played.end();
    let again = Assigned { committed: committed(4, told.write()), topic: Some(topic), ..assigned(0) };
    (Played::new(&site), again)
}

#[test]
fn growth_of_a_topic_that_is_only_published_stops() {
    let grown = TopicFacts { partitions: 3, ..assigned(0).topic.unwrap() };
    let (played, again) = published_before(grown.clone(), |policies| policies);
    played.queue.assign(again).unwrap();
    let failure = played.failure();
    assert!(failure.contains("has 3 partitions, and had 2") && failure.contains("on_changed_topic"), "{failure}");

    let confirmed = |policies| Policies { on_changed_topic: OnLost::Continue, ..policies };
    let (played, again) = published_before(grown.clone(), confirmed);
    let (offset, claim) = played.assign(again);
    assert_eq!(offset, 3);
    played.give(0, 3, claim);
    played.give(0, 4, claim);
    assert_eq!(played.durable(0, 5).topic, Some(grown), "from then on it is what it is");
    played.end();
}

#[test]
fn topic_made_again_that_is_only_published_stops() {
    let another = TopicFacts { id: Some("another".into()), ..assigned(0).topic.unwrap() };
    let (played, again) =
        published_before(another, |policies| Policies { on_changed_topic: OnLost::Continue, ..policies });
    for _ in 0..2 {
        played.queue.assign(again.clone()).unwrap();
        assert_eq!(played.claims_again(), of(0), "a broker may not have heard of it yet");
    }
    played.queue.assign(again).unwrap();
    let failure = played.failure();
    assert!(failure.contains("was made anew") && failure.contains("--delete-offsets"), "{failure}");
}

#[test]
fn ledger_that_does_not_know_the_topics_id_takes_it() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache)]);
    let claim = |id: Option<&str>| {
        let topic = Some(TopicFacts { partitions: 2, id: id.map(str::to_owned) });
        RUNTIME.block_on(site.stores().claim(&Assigned { topic, ..assigned(0) }, None))
    };
    let before = claim(None).unwrap();
    assert_eq!(claim(Some("a")).unwrap().epochs, before.epochs);
    assert!(claim(Some("b")).unwrap_err().to_string().contains("was made anew"));
}

/// A cache that `tidegate rewind` has filled again from another topic, below this offset, and messages whose position in the
/// group's commit is of the topic of before; the record at 39 is to tell.
fn rewound_beside_messages(to: u64) -> (Arc<Store>, Site, Assigned) {
    let cache = Arc::new(Store::default());
    let filled = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::over(filled.stores(), |record| Some(vec![set(&record.offset.to_string(), "v")]));
    let (_, claim) = played.assign(assigned(0));
    (0..to).for_each(|offset| played.give_value(0, offset, claim, "new"));
    played.durable(0, to);
    played.end();

    let old = Played::new(&messages());
    let (_, claim) = old.assign(assigned(0));
    old.give_value(0, 39, claim, "old");
    let told = old.durable(0, 40);
    old.end();
    let rename = |all: BTreeMap<String, u64>| all.into_values().map(|at| ("s1".to_owned(), at)).collect();
    let last = told.last.into_values().map(|last| ("s1".to_owned(), last)).collect();
    // Nobody has told the ids.
    let metadata = CommitMetadata { positions: rename(told.positions), last, ..CommitMetadata::default() };
    let assigned = Assigned { committed: committed(40, metadata.write()), ..assigned(0) };
    (cache.clone(), Site::new(vec![(CACHE, cache), (MESSAGES, Arc::new(Store::silent()))]), assigned)
}

#[test]
fn unverified_position_is_not_noted_when_partition_is_released() {
    let (cache, site, assigned) = rewound_beside_messages(60);
    let played = Played::new(&site);
    assert_eq!(played.assign(assigned).0, 39, "the record that was published last is asked for");
    played.queue.revoke(&of(0)).unwrap();
    assert_eq!(played.releases(), of(0));
    played.end();
    assert!(!cache.note(0).contains("positions"), "{}", cache.note(0));
}

#[test]
fn unverified_position_is_not_noted_by_writes_before_it() {
    let (cache, site, assigned) = rewound_beside_messages(5);
    let played = Played::new(&site);
    let (offset, claim) = played.assign(assigned);
    assert_eq!(offset, 4);
    played.give_value(0, 4, claim, "new");
    played.give_value(0, 5, claim, "new");
    played.durable(0, 6);
    assert!(!cache.note(0).contains("positions"), "{}", cache.note(0));
    played.give_value(0, 39, claim, "new");
    let failure = played.failure();
    assert!(failure.contains("the record at t-0@39 is not the one that sink `s1` took there"), "{failure}");
    assert!(!cache.note(0).contains("positions"), "{}", cache.note(0));
}

#[test]
fn messages_beside_a_ledger_are_compared_with_the_log_too() {
    let (cache, silent) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let site = Site::new(vec![(CACHE, cache), (MESSAGES, silent)]);
    let metadata = CommitMetadata { positions: [("s1".to_owned(), 40)].into(), ..CommitMetadata::default() }.write();
    let assigned = Assigned { log_start: 50, committed: committed(40, metadata), ..assigned(0) };
    let failure = RUNTIME.block_on(site.stores().claim(&assigned, None)).unwrap_err().to_string();
    assert!(failure.contains("sink `s1` has come to 40 only: 10 offsets are gone"), "{failure}");
}
