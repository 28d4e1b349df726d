//! What a lane makes of partitions that come and go, and of ledgers that are not as they were left.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::store::Fault as Goes;
use super::*;
use crate::pipeline::commit::{Claims, CommitMetadata};
use crate::source::{Assigned, Claim, Committed, Control, Counted, TopicFacts, TopicPartition};

pub(super) const CACHE: &[Port] = &[Port::Cache];

/// A source played by the test, over one lane that sets the key of each record's offset.
pub(super) struct Played {
    pub(super) queue: Arc<LaneQueue>,
    pub(super) control: Receiver<Control>,
    pub(super) stores: Arc<Stores>,
    pub(super) lane: JoinHandle<PipelineSummary>,
}

pub(super) fn of(partition: u32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

pub(super) fn assigned(partition: u32) -> Assigned {
    let topic = Some(TopicFacts { partitions: 2, id: Some("a".into()) });
    Assigned { partition: of(partition), log_start: 0, log_end: Some(100), topic, committed: None }
}

pub(super) fn committed(offset: u64, metadata: String) -> Option<Committed> {
    Some(Committed { offset, metadata })
}

impl Played {
    pub(super) fn new(site: &Site) -> Self {
        let (sender, control) = mpsc::channel();
        let stores = site.stores();
        let prepare = answering(|record| match record.offset {
            66 => None,
            offset => Some(vec![set(&format!("{}:{offset}", record.partition.partition), "v")]),
        });
        let lane = lane(&stores, prepare, sender, 8);
        let queue = lane.queue.clone();
        Self { queue, control, stores, lane: std::thread::spawn(move || lane.run()) }
    }

    pub(super) fn assign(&self, assigned: Assigned) -> (u64, Claim) {
        self.queue.assign(assigned).unwrap();
        self.begins()
    }

    /// The next offset and claim that the lane asks for.
    pub(super) fn begins(&self) -> (u64, Claim) {
        loop {
            if let Control::Begin { offset, claim, .. } = self.control.recv().expect("the lane goes on") {
                return (offset, claim);
            }
        }
    }

    /// Waits until the lane wants to claim a partition again.
    fn claims_again(&self) -> TopicPartition {
        self.says(|told| if let Control::ClaimAgain { partition } = told { Some(partition) } else { None })
    }

    /// Waits until it wants to try one.
    fn tries(&self) -> TopicPartition {
        self.says(|told| if let Control::Try { partition } = told { Some(partition) } else { None })
    }

    fn says(&self, find: impl Fn(Control) -> Option<TopicPartition>) -> TopicPartition {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let left = end.checked_duration_since(Instant::now()).expect("nobody has found it out");
            if let Some(partition) = find(self.control.recv_timeout(left).expect("it finds out")) {
                return partition;
            }
        }
    }

    pub(super) fn give(&self, partition: u32, offset: u64, claim: Claim) {
        self.give_value(partition, offset, claim, "");
    }

    pub(super) fn give_value(&self, partition: u32, offset: u64, claim: Claim, value: &str) {
        let (partition, value) = (of(partition), Some(value.into()));
        let record = Record { partition, offset, timestamp: None, headers: vec![], key: None, value, claim };
        self.queue.push(record, &AtomicBool::new(false)).unwrap();
    }

    /// Waits until so much of a partition is durable, and answers what goes with the commit.
    pub(super) fn durable(&self, partition: u32, to: u64) -> CommitMetadata {
        loop {
            if let Control::Durable { partition: of_, offset, metadata } =
                self.control.recv().expect("the lane goes on")
                && (of_, offset) == (of(partition), to)
            {
                return CommitMetadata::read(&metadata);
            }
        }
    }

    /// The failure that ends the lane.
    pub(super) fn failure(self) -> String {
        self.lane.join().unwrap();
        format!("{:#}", self.stores.stop.take_failure().expect("it failed"))
    }

    pub(super) fn end(self) {
        self.queue.close();
        self.lane.join().unwrap();
        assert!(self.stores.stop.take_failure().is_none());
    }
}

#[test]
fn a_partition_is_told_durable_and_released_when_it_is_taken_away() {
    let (cache, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let played = Played::new(&Site::new(vec![(CACHE, cache.clone()), (&[Port::Messages], messages)]));
    let (offset, claim) = played.assign(assigned(0));
    assert_eq!(offset, 0);
    played.give(0, 4, claim);
    played.queue.revoke(&of(0)).unwrap();
    let (mut durable, mut released) = (None, false);
    while !released {
        match played.control.recv().unwrap() {
            Control::Durable { offset, metadata, .. } => durable = Some((offset, CommitMetadata::read(&metadata))),
            Control::Released { partition } => released = partition == of(0),
            other => panic!("{other:?}"),
        }
    }
    // Either the record was written before, or it went with the partition: never half of it.
    let next = cache.next(0).unwrap();
    assert!(next == 0 || next == 5, "{next}");
    let (offset, metadata) = durable.unwrap();
    assert_eq!((offset, metadata.positions["s1"]), (next, next));
    assert_eq!(metadata.sinks, ["s0".to_owned()].into());
    played.end();
}

/// The first claim of a process, or one for a trial, after so many that came to nothing at this offset.
fn after_claims(partition: u32, count: u32, at: u64, counted: Counted) -> Assigned {
    let claims = Claims { count, at: Some(at) };
    let metadata = CommitMetadata { claims, ..CommitMetadata::default() };
    Assigned { committed: committed(0, CommitMetadata::count(&metadata.write(), counted)), ..assigned(partition) }
}

#[test]
fn a_claim_that_stops_the_pipeline_has_not_killed_the_process() {
    let played = Played::new(&Site::new(vec![(CACHE, Arc::new(Store::default()))]));
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 8, claim);
    played.durable(0, 9);
    let metadata = CommitMetadata::count("", Counted::Claim);
    played.queue.assign(Assigned { log_start: 20, committed: committed(9, metadata), ..assigned(0) }).unwrap();
    assert_eq!(played.durable(0, 9).claims, Claims::default());
    assert!(played.failure().contains("11 offsets are gone"));
}

#[test]
fn records_are_handled_one_by_one_after_claims_that_came_to_nothing() {
    for (claims, at, is_tried, count) in [(2, 0, false, 3), (3, 0, true, 5), (5, 7, false, 1)] {
        let cache = Arc::new(Store::default());
        let played = Played::new(&Site::new(vec![(CACHE, cache.clone())]));
        played.queue.pause(true);
        let mut claim = after_claims(0, claims, at, Counted::Claim);
        if is_tried {
            played.queue.assign(claim).unwrap();
            assert_eq!(played.tries(), of(0));
            claim = after_claims(0, claims + 1, at, Counted::Trial);
        }
        let (_, claim) = played.assign(claim);
        assert_eq!(played.durable(0, 0).claims, Claims { count, at: Some(0) }, "after {claims} claims at {at}");
        (0..3).for_each(|offset| played.give(0, offset, claim));
        played.queue.pause(false);
        // What came further is no part of the row.
        assert_eq!(played.durable(0, 3).claims, Claims::default());
        let written: Vec<_> = cache.writes().iter().map(|write| write.offsets.len()).collect();
        assert_eq!(written, if is_tried { vec![1, 1, 1] } else { vec![3] }, "after {claims} claims at {at}");
        played.end();
    }
}

#[test]
fn a_partition_is_given_up_after_more_claims_that_came_to_nothing_and_the_others_go_on() {
    let cache = Arc::new(Store::default());
    let played = Played::new(&Site::new(vec![(CACHE, cache)]));
    played.queue.assign(after_claims(0, 7, 0, Counted::Claim)).unwrap();
    // The next process tries it again.
    assert_eq!(played.durable(0, 0).claims, Claims { count: 3, at: Some(0) });
    let other = Assigned { partition: of(1), ..assigned(1) };
    let (_, claim) = played.assign(other);
    played.give(1, 4, claim);
    played.durable(1, 5);
    assert!(matches!(played.stores.observed.waiting_for().as_slice(), [(partition, _)] if partition == "t-0"));
    played.queue.revoke(&of(0)).unwrap();
    // It ends in good order, and has not died.
    assert_eq!(played.durable(0, 0).claims, Claims::default());
    played.end();
}

#[test]
fn what_is_suspected_is_tried_one_after_the_other() {
    let cache = Arc::new(Store::default());
    let played = Played::new(&Site::new(vec![(CACHE, cache)]));
    played.queue.pause(true);
    for partition in [0, 1] {
        played.queue.assign(after_claims(partition, 4, 0, Counted::Claim)).unwrap();
    }
    played.queue.pause(false);
    let first = played.tries().partition;
    let (_, claim) = played.assign(after_claims(first, 4, 0, Counted::Trial));
    assert_eq!(played.durable(first, 0).claims, Claims { count: 5, at: Some(0) });
    let second = 1 - first;
    // Nothing of the second was given, asked for or counted until here.
    let heard: Vec<_> = played.control.try_iter().collect();
    assert!(heard.is_empty(), "{heard:?}");
    played.give(first, 0, claim);
    assert_eq!(played.durable(first, 1).claims, Claims::default());
    assert_eq!(played.tries(), of(second));
    let (_, claim) = played.assign(after_claims(second, 4, 0, Counted::Trial));
    played.give(second, 0, claim);
    assert_eq!(played.durable(second, 1).claims, Claims::default());
    played.end();
}

#[test]
fn what_has_no_ledger_goes_on_where_the_commit_says() {
    let (cache, messages) = (Arc::new(Store::default()), Arc::new(Store::silent()));
    let site = Site::new(vec![(CACHE, cache), (&[Port::Messages], messages)]);
    let stores = site.stores();
    let committed = CommitMetadata { positions: [("s1".to_owned(), 40)].into(), ..CommitMetadata::default() }.write();
    let claim = |assigned: Assigned| RUNTIME.block_on(stores.claim(&assigned, None)).unwrap().next;
    assert_eq!(claim(assigned(0)), [0, 0]);
    assert_eq!(claim(Assigned { committed: self::committed(0, committed), ..assigned(0) }), [0, 40]);
}

#[test]
fn dead_letters_below_the_committed_position_are_not_filed_again() {
    let site = Site::new(vec![(CACHE, Arc::new(Store::default()))]);
    let committed = CommitMetadata { dead_letters: 67, ..CommitMetadata::default() }.write();
    let played = Played::new(&site);
    let (_, claim) = played.assign(Assigned { committed: self::committed(0, committed), ..assigned(0) });
    played.give(0, 66, claim);
    played.give(0, 67, claim);
    assert_eq!(played.durable(0, 68).dead_letters, 68);
    played.end();
    assert_eq!(site.letters(), [0_u64; 0]);
}

#[test]
fn control_records_at_the_end_of_a_partition_move_the_ledger() {
    let cache = Arc::new(Store::default());
    let played = Played::new(&Site::new(vec![(CACHE, cache.clone())]));
    let (_, claim) = played.assign(assigned(0));
    played.queue.reach(&of(0), 9, claim).unwrap();
    played.durable(0, 9);
    assert_eq!(cache.next(0), Some(9));
    played.end();
}

#[test]
fn a_cache_that_was_emptied_is_filled_again_by_all_its_lanes() {
    let cache = Arc::new(Store::default());
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    let claims = [0, 1].map(|partition| played.assign(assigned(partition)).1);
    for (partition, claim) in [0, 1].into_iter().zip(claims) {
        played.give(partition, 0, claim);
        played.durable(partition, 1);
    }
    cache.lose_everything();
    for (partition, claim) in [0, 1].into_iter().zip(claims) {
        played.give(partition, 1, claim);
        while !matches!(played.control.recv().unwrap(), Control::ClaimAgain { partition: of_ } if of_ == of(partition))
        {
        }
        let (offset, claim) = played.assign(assigned(partition));
        assert_eq!(offset, 0, "from the start");
        played.give(partition, 0, claim);
        played.give(partition, 1, claim);
        played.durable(partition, 2);
    }
    assert_eq!(cache.cleared(), 1, "not what the first lane has filled again");
    assert_eq!(cache.model().cache.len(), 4);
    played.end();
}

#[test]
fn a_cache_that_was_emptied_is_filled_again_also_where_that_is_found_by_a_claim() {
    let cache = Arc::new(Store::default());
    let played = Played::new(&Site::new(vec![(CACHE, cache.clone())]));
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    played.durable(0, 1);
    cache.lose_everything();
    assert_eq!(played.assign(assigned(0)).0, 0, "from the start");
    assert_eq!(played.assign(assigned(1)).0, 0);
    assert_eq!(cache.cleared(), 1);
    played.end();
}

#[test]
fn a_store_that_was_set_back_while_nothing_came_gets_again_what_it_lost() {
    let (tables, cache) = (Arc::new(Store::default()), Arc::new(Store::default()));
    let played = Played::new(&Site::new(vec![(TABLES, tables), (CACHE, cache.clone())]));
    let claims = [0, 1].map(|partition| played.assign(assigned(partition)).1);
    for (partition, offset) in [(0, 0), (1, 0), (1, 1)] {
        played.give(partition, offset, claims[usize::try_from(partition).unwrap()]);
        played.durable(partition, offset + 1);
    }
    cache.set_back(1);
    assert_eq!(played.claims_again(), of(1), "the other one is as it was left");
    let (offset, claim) = played.assign(assigned(1));
    assert_eq!(offset, 0, "the last one that it has, to know the topic again");
    played.give(1, 0, claim);
    played.give(1, 1, claim);
    played.durable(1, 2);
    assert_eq!(cache.model().cache.len(), 3);
    played.end();
}

/// Its head is there again before the one that is idle looks.
#[test]
fn a_cache_that_another_replica_has_begun_to_fill_again_is_filled_again_by_one_that_is_idle() {
    let cache = Arc::new(Store::default());
    let played = [0, 1].map(|_| Played::new(&Site::new(vec![(CACHE, cache.clone())])));
    for (partition, played) in [0, 1].into_iter().zip(&played) {
        let (_, claim) = played.assign(assigned(partition));
        played.give(partition, 0, claim);
        played.durable(partition, 1);
    }
    let [busy, idle] = played;
    cache.lose_everything();
    assert_eq!(busy.assign(assigned(0)).0, 0, "from the start");
    assert_eq!(idle.claims_again(), of(1));
    assert_eq!(idle.assign(assigned(1)).0, 0, "from the start");
    assert_eq!(cache.cleared(), 1, "not what the busy one has filled again");
    busy.end();
    idle.end();
}

#[test]
fn a_lost_ledger_is_told_by_the_commits_at_the_start() {
    let commits = [CommitMetadata { sinks: ["s0".to_owned()].into(), ..CommitMetadata::default() }];
    for (ports, policy, rebuilt) in
        [(CACHE, OnLostCache::Rebuild, true), (CACHE, OnLostCache::Stop, false), (TABLES, OnLostCache::Rebuild, false)]
    {
        let store = Arc::new(Store::default());
        let site = Site::new(vec![(ports, store.clone())]);
        let site = Site { policies: Policies { on_lost_cache: policy, ..site.policies }, ..site };
        let stores = site.stores();
        store.lose_everything();
        // Without a commit that names it, it is a store at its first start.
        RUNTIME.block_on(stores.prepare(&stores.sinks[0], &[CommitMetadata::default()])).unwrap();
        assert_eq!(store.cleared(), 0);
        store.lose_everything();
        let prepared = RUNTIME.block_on(stores.prepare(&stores.sinks[0], &commits));
        assert_eq!((prepared.is_ok(), store.cleared()), (rebuilt, usize::from(rebuilt)));
        if let Err(failure) = prepared {
            assert!(failure.to_string().contains("sink `s0` is gone"), "{failure}");
        }
    }
}

#[test]
fn a_clash_rests_while_other_partitions_go_on_and_is_rejected_after_a_while() {
    let cache = Arc::new(Store::new([Goes::Clash, Goes::None, Goes::Clash]));
    let site = Site::new(vec![(CACHE, cache.clone())]);
    let played = Played::new(&site);
    let (_, resting) = played.assign(assigned(0));
    let (_, other) = played.assign(assigned(1));
    played.give(0, 0, resting);
    played.give(1, 0, other);
    played.durable(1, 1);
    assert_eq!(cache.next(0), Some(0), "it rests");
    for _ in 0..2 {
        let (offset, claim) = played.begins();
        assert_eq!(offset, 0);
        played.give(0, 0, claim);
    }
    played.durable(0, 1);
    assert_eq!(cache.model().cache.len(), 2);
    played.end();

    let cache = Arc::new(Store::new([Goes::Clash, Goes::Clash]));
    let site = Site::new(vec![(CACHE, cache)]);
    let site = Site { policies: Policies { clash_patience: Duration::ZERO, ..site.policies }, ..site };
    let played = Played::new(&site);
    let (_, claim) = played.assign(assigned(0));
    played.give(0, 0, claim);
    let (_, claim) = played.begins();
    played.give(0, 0, claim);
    played.durable(0, 1);
    played.end();
    assert_eq!(site.letters(), [0]);
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
