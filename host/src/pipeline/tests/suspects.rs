//! Partitions whose records may have ended the processes before.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::fence::{SESSION, begun, under};
use super::played::{CACHE, Played, assigned, committed, of};
use super::store::Fault as Goes;
use super::*;
use crate::pipeline::commit::{Claims, CommitMetadata};
use crate::source::lease::{Leases, Moment};
use crate::source::{Assigned, Control, Counted};

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

/// Two lanes, of two pipelines, and the cache of the first, in the second of which a trial is waited for.
fn two_lanes(faults: impl IntoIterator<Item = Goes>) -> [(Played, Arc<Store>); 2] {
    let caches = [Arc::new(Store::new(faults)), Arc::new(Store::default())];
    let mut stores = caches.clone().map(|cache| Site::new(vec![(CACHE, cache)]).stores());
    let trial = stores[0].trial.clone();
    Arc::get_mut(&mut stores[1]).unwrap().trial = trial;
    let played = stores.map(|stores| Played::over(stores, |record| Some(vec![set(&record.offset.to_string(), "v")])));
    let [one, other] = caches;
    let [first, second] = played;
    [(first, one), (second, other)]
}

#[test]
fn suspect_whose_store_is_away_lets_the_next_one_be_tried() {
    let [(first, cache), (second, _)] = two_lanes([Goes::Away; 7]);
    first.queue.assign(after_claims(0, 4, 0, Counted::Claim)).unwrap();
    assert_eq!(first.tries(), of(0));
    let (_, claim) = first.assign(after_claims(0, 4, 0, Counted::Trial));
    assert_eq!(first.durable(0, 0).claims, Claims { count: 5, at: Some(0) });
    second.queue.assign(after_claims(1, 4, 0, Counted::Claim)).unwrap();
    first.give(0, 0, claim);
    assert_eq!(second.tries(), of(1));
    // Who dies of the second has not died of the first.
    assert_eq!(first.durable(0, 0).claims, Claims { count: 4, at: Some(0) });
    assert_eq!(cache.next(0), Some(0));
    let (_, claim) = second.assign(after_claims(1, 4, 0, Counted::Trial));
    second.give(1, 0, claim);
    assert_eq!(second.durable(1, 1).claims, Claims::default());
    // What was waited for is there again.
    assert_eq!(first.durable(0, 1).claims, Claims::default());
    let _ = [first, second].map(Played::end);
}

#[test]
fn suspect_that_cannot_be_claimed_lets_the_next_one_be_tried_and_waits_for_its_turn() {
    let [(first, _), (second, _)] = two_lanes([]);
    first.queue.assign(after_claims(0, 4, 0, Counted::Claim)).unwrap();
    assert_eq!(first.tries(), of(0));
    // The broker does not answer the first.
    second.queue.assign(after_claims(1, 4, 0, Counted::Claim)).unwrap();
    assert_eq!(second.tries(), of(1));
    let (_, claim) = second.assign(after_claims(1, 4, 0, Counted::Trial));
    // Now it does; the trial that it has counted is not to be.
    first.queue.assign(after_claims(0, 4, 0, Counted::Trial)).unwrap();
    let untried = loop {
        if let Control::Durable { metadata, .. } = first.told() {
            break CommitMetadata::read(&metadata);
        }
    };
    assert_eq!(untried.claims, Claims { count: 4, at: Some(0) });
    second.give(1, 0, claim);
    second.durable(1, 1);
    assert_eq!(first.tries(), of(0));
    let (_, claim) = first.assign(after_claims(0, 4, 0, Counted::Trial));
    first.give(0, 0, claim);
    assert_eq!(first.durable(0, 1).claims, Claims::default());
    let _ = [first, second].map(Played::end);
}

/// A lane whose store is away, and a group that gives it the partition and takes it back.
struct Rebalanced {
    played: Played,
    leases: Leases,
    tries: Arc<AtomicUsize>,
    /// What the group has committed.
    metadata: String,
}

impl Rebalanced {
    fn new() -> Self {
        let tries = Arc::new(AtomicUsize::default());
        let tried = tries.clone();
        let store = Store::new(std::iter::repeat_n(Goes::Away, 100_000)).with_during(move || {
            tried.fetch_add(1, Ordering::Relaxed);
        });
        let site = Site::new(vec![(CACHE, Arc::new(store))]);
        let played = Played::over(site.stores(), |_| Some(vec![set("k", "v")]));
        let leases = Leases::lasting(SESSION);
        leases.membership.confirm(Moment::now());
        Self { played, leases, tries, metadata: String::new() }
    }

    /// Assigns the partition, which the commit counts.
    fn assign(&mut self, counted: Counted) {
        self.metadata = CommitMetadata::count(&self.metadata, counted);
        let lease = match counted {
            Counted::Claim => begun(&self.leases),
            _ => self.leases.of(&of(0)),
        };
        let committed = committed(0, self.metadata.clone());
        self.played.queue.assign(Assigned { committed, ..under(&lease) }).unwrap();
    }

    /// What the lane tells next, beside what is to be committed.
    fn told(&mut self) -> Control {
        loop {
            match self.played.told() {
                Control::Durable { metadata, .. } => self.metadata = metadata,
                told => return told,
            }
        }
    }

    /// Gives a record when the lane begins, and waits until its write was tried in vain.
    fn tries_in_vain(&mut self) {
        let seen = self.tries.load(Ordering::Relaxed);
        let claim = loop {
            match self.told() {
                Control::Begin { claim, .. } => break claim,
                Control::Try { .. } => self.assign(Counted::Trial),
                _ => {}
            }
        };
        self.played.give(0, 0, claim);
        until("it is tried", || self.tries.load(Ordering::Relaxed) > seen + 1);
    }

    /// Takes the partition back, and answers how many claims are counted then.
    fn revoke(&mut self) -> u32 {
        self.leases.end(&[of(0)]);
        self.played.queue.revoke(&of(0)).unwrap();
        while !matches!(self.told(), Control::Released { .. }) {}
        CommitMetadata::read(&self.metadata).claims.count
    }
}

#[test]
fn claim_that_a_rebalance_ends_while_a_store_is_away_is_taken_back() {
    let mut group = Rebalanced::new();
    for _ in 0..5 {
        group.assign(Counted::Claim);
        group.tries_in_vain();
        assert_eq!(group.revoke(), 0, "no process has died");
    }
    group.played.end();
}

#[test]
fn trial_that_a_rebalance_ends_while_a_store_is_away_is_taken_back() {
    let mut group = Rebalanced::new();
    // Processes have died, and another one before its trial had come to anything.
    let claims = Claims { count: 5, at: Some(0) };
    group.metadata = CommitMetadata { claims, ..CommitMetadata::default() }.write();
    for _ in 0..5 {
        group.assign(Counted::Claim);
        group.tries_in_vain();
        assert_eq!(group.revoke(), 5, "it is suspected as before");
    }
    // Nor does one count that was asked for, and is counted by the commit that is under way.
    group.assign(Counted::Claim);
    while !matches!(group.told(), Control::Try { .. }) {}
    group.metadata = CommitMetadata::count(&group.metadata, Counted::Trial);
    assert_eq!(group.revoke(), 5);
    group.played.end();
}
