//! What the group's members hand each other: partitions, commits, and their metadata.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::{PATIENCE, Topic, unique};
use super::host::{BOUNDS, Host};
use super::{KafkaSource, in_group, source};
use crate::config::{Assignment, Text};
use crate::source::{Claim, Control, Item, TopicPartition};

/// What all members of a group have made durable: by partition, the next offset, as the ledger of a store has it.
type Ledger = Arc<Mutex<HashMap<TopicPartition, u64>>>;

/// A member whose lane does what a real one does, with a ledger that is shared by all.
struct Member {
    working: Option<JoinHandle<Host>>,
    leave: Arc<AtomicBool>,
    owned: Arc<Mutex<Vec<TopicPartition>>>,
    /// How often partitions came and went.
    changes: Arc<AtomicUsize>,
}

impl Member {
    fn join(group: &str, topic: &Topic, assignment: Assignment, ledger: &Ledger) -> Self {
        Self::start(in_group(group, &[&topic.name], assignment), ledger)
    }

    fn start(source: KafkaSource, ledger: &Ledger) -> Self {
        let host = Host::start(source, 1);
        let (leave, owned) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ledger, left, mine) = (ledger.clone(), leave.clone(), owned.clone());
        let changes = Arc::new(AtomicUsize::new(0));
        let changed = changes.clone();
        let working = thread::spawn(move || {
            let mut claims = 0;
            let mut held = HashMap::new();
            while !left.load(Ordering::Relaxed) {
                match host.lanes[0].take(BOUNDS, Duration::from_millis(10)).expect("an open queue") {
                    Item::Assigned(assigned) => {
                        changed.fetch_add(1, Ordering::Relaxed);
                        claims += 1;
                        let offset = *ledger.lock().unwrap().entry(assigned.partition.clone()).or_insert(0);
                        held.insert(assigned.partition.clone(), (Claim(claims), offset));
                        host.begin(&assigned.partition, offset, claims);
                        mine.lock().unwrap().push(assigned.partition);
                    }
                    Item::Records(records) => {
                        for record in records {
                            let (claim, next) = held.get_mut(&record.partition).expect("a partition that is held");
                            assert_eq!((record.claim, record.offset), (*claim, *next));
                            *next += 1;
                            let stood = ledger.lock().unwrap().insert(record.partition.clone(), *next);
                            assert_eq!(stood, Some(record.offset), "two owners at a time");
                        }
                    }
                    Item::Revoked(partition) => {
                        changed.fetch_add(1, Ordering::Relaxed);
                        held.remove(&partition);
                        mine.lock().unwrap().retain(|other| *other != partition);
                        host.control.send(Control::Released { partition }).unwrap();
                    }
                    Item::Idle | Item::Written(_) | Item::Replay(_) | Item::Reached { .. } | Item::End => {}
                }
            }
            host
        });
        Self { working: Some(working), leave, owned, changes }
    }

    fn owned(&self) -> Vec<TopicPartition> {
        let mut owned = self.owned.lock().unwrap().clone();
        owned.sort_unstable_by_key(|partition| partition.partition);
        owned
    }

    fn owns(&self) -> usize {
        self.owned.lock().unwrap().len()
    }

    fn changes(&self) -> usize {
        self.changes.load(Ordering::Relaxed)
    }

    fn leave(mut self) {
        self.leave.store(true, Ordering::Relaxed);
        self.working.take().unwrap().join().unwrap().end().unwrap();
    }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < until, "it never comes to this: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn hands_over(assignment: Assignment) {
    let topic = Topic::new(4, &[]);
    let group = unique("g");
    let ledger = Ledger::default();
    let fill = |from: u32| {
        for partition in 0..4 {
            topic.produce(partition, (from..from + 3_000).map(|number| number.to_string()));
        }
    };
    let durable = |count: u64| {
        let ledger = ledger.lock().unwrap();
        ledger.len() == 4 && ledger.values().all(|next| *next == count)
    };
    let first = Member::join(&group, &topic, assignment, &ledger);
    fill(0);
    until("the first has all", || first.owns() == 4);
    let second = Member::join(&group, &topic, assignment, &ledger);
    fill(3_000);
    until("they share", || first.owns() == 2 && second.owns() == 2);
    until("all is durable while two share", || durable(6_000));
    fill(6_000);
    first.leave();
    until("the second has all", || second.owns() == 4);
    until("all is durable after one has left", || durable(9_000));
    second.leave();
}

#[test]
fn eager_members_hand_over_on_join_and_leave_and_lose_nothing() {
    hands_over(Assignment::Eager);
}

#[test]
fn cooperative_members_hand_over_on_join_and_leave_and_lose_nothing() {
    hands_over(Assignment::Cooperative);
}

#[test]
fn an_instance_that_comes_back_soon_keeps_its_partitions_and_no_other_notices() {
    let topic = Topic::new(4, &[]);
    let (group, ledger) = (unique("g"), Ledger::default());
    // An eager group takes all partitions of all members at each rebalance.
    let instance = |name: &str| {
        let mut source = in_group(&group, &[&topic.name], Assignment::Eager);
        source.config.instance = Some(Text::plain(name));
        source.config.client.properties.insert("session.timeout.ms".into(), Text::plain("30000"));
        Member::start(source, &ledger)
    };
    let durable = |count: u64| {
        let ledger = ledger.lock().unwrap();
        ledger.len() == 4 && ledger.values().all(|next| *next == count)
    };
    let fill = || (0..4).for_each(|partition| topic.produce(partition, (0..100).map(|number| number.to_string())));
    let (first, second) = (instance("first"), instance("second"));
    fill();
    until("they share", || first.owns() == 2 && second.owns() == 2);
    until("all is durable", || durable(100));
    let (had, changes) = (first.owned(), second.changes());
    first.leave();
    let first = instance("first");
    fill();
    until("all is durable after the first came back", || durable(200));
    assert_eq!((first.owned(), second.changes()), (had, changes));
    first.leave();
    second.leave();
}

#[test]
fn a_member_that_was_replaced_and_does_not_know_it_proves_nothing_and_claims_nothing() {
    let topic = Topic::new(1, &[]);
    let group = unique("g");
    let instance = || {
        let mut source = in_group(&group, &[&topic.name], Assignment::Eager);
        source.config.instance = Some(Text::plain("one"));
        // Nothing but its own commits tells it for a long time.
        for (name, value) in [("session.timeout.ms", "120000"), ("heartbeat.interval.ms", "60000")] {
            source.config.client.properties.insert(name.into(), Text::plain(value));
        }
        Host::start(source, 1)
    };
    let stale = instance();
    let partition = stale.assigned(0).partition;
    let rightful = instance();
    assert_eq!(rightful.assigned(0).partition, partition);

    // Its lane was fenced, and wants to claim the partition once more.
    stale.control.send(Control::ClaimAgain { partition: partition.clone() }).unwrap();
    let lane = stale.lanes[0].clone();
    let refused = format!("{:#}", stale.ended().unwrap_err());
    assert!(refused.contains("does not take this process as the owner") && refused.contains("another"), "{refused}");
    while let Some(item) = lane.take(BOUNDS, Duration::ZERO) {
        assert!(!matches!(item, Item::Assigned(_)), "it may claim: {item:?}");
        if matches!(item, Item::Idle | Item::End) {
            break;
        }
    }
    // The rightful owner is let in as before.
    rightful.control.send(Control::ClaimAgain { partition: partition.clone() }).unwrap();
    assert_eq!(rightful.assigned(0).partition, partition);
    rightful.end().unwrap();
}

#[test]
fn what_was_durable_comes_back_with_the_next_assignment() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, (0..10).map(|number| number.to_string()));
    let group = unique("g");
    let host = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let partition = host.assigned(0).partition;
    for (offset, metadata) in [(4, "first"), (7, "{\"dead\":7}")] {
        let durable = Control::Durable { partition: partition.clone(), offset, metadata: metadata.into() };
        host.control.send(durable).unwrap();
    }
    host.end().unwrap();
    let reader = in_group(&group, &[&topic.name], Assignment::Eager);
    assert_eq!(reader.committed(&AtomicBool::new(false)).unwrap(), ["{\"dead\":7}"]);
    // Proving membership commits too, and leaves what was there: also when it happens more than once.
    for _ in 0..2 {
        let host = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
        assert_eq!(host.assigned(0).committed.unwrap().metadata, "{\"dead\":7}");
        host.control.send(Control::ClaimAgain { partition: partition.clone() }).unwrap();
        assert_eq!(host.assigned(0).committed.unwrap().metadata, "{\"dead\":7}");
        host.end().unwrap();
    }
    assert_eq!(topic.committed(&group), Some(7));
}

#[test]
fn a_commit_follows_the_ledgers_also_backwards_and_without_a_rebalance() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, (0..10).map(|number| number.to_string()));
    let group = unique("g");
    let host = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let partition = host.assigned(0).partition;
    for offset in [9, 2] {
        let durable = Control::Durable { partition: partition.clone(), offset, metadata: String::new() };
        host.control.send(durable).unwrap();
        until("the commit", || topic.committed(&group) == Some(i64::try_from(offset).unwrap()));
    }
    host.end().unwrap();
}

#[test]
fn a_group_that_has_committed_nothing_has_nothing_to_tell() {
    let topic = Topic::new(1, &[]);
    let reader = source(&[&topic.name, &unique("missing")]);
    assert!(reader.committed(&AtomicBool::new(false)).unwrap().is_empty());
}

#[test]
fn partitions_are_spread_over_the_lanes() {
    let topic = Topic::new(5, &[]);
    let host = Host::start(source(&[&topic.name]), 2);
    let mut count = [0, 0];
    until("all are assigned", || {
        for (lane, count) in count.iter_mut().enumerate() {
            if let Some(Item::Assigned(_)) = host.lanes[lane].take(BOUNDS, Duration::from_millis(1)) {
                *count += 1;
            }
        }
        count == [3, 2] || count == [2, 3]
    });
    host.end().unwrap();
}

#[test]
fn lanes_that_have_stopped_end_the_source() {
    let topic = Topic::new(1, &[]);
    let host = Host::start(source(&[&topic.name]), 1);
    host.begin(&host.assigned(0).partition, 0, 1);
    host.lanes[0].close();
    host.ended().unwrap();
}

#[test]
fn a_lane_that_never_answers_holds_up_neither_the_end_nor_the_group() {
    let topic = Topic::new(1, &[]);
    let group = unique("g");
    let stuck = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let held = stuck.assigned(0).partition;
    // A second member makes the group rebalance: the first, whose lane does not answer, lets go in the end.
    let second = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let third = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    until("the group goes on", || {
        [&stuck, &second, &third].iter().any(|host| {
            let item = host.lanes[0].take(BOUNDS, Duration::from_millis(5));
            matches!(item, Some(Item::Assigned(assigned)) if assigned.partition == held)
        })
    });
    for host in [stuck, second, third] {
        host.end().unwrap();
    }
}
