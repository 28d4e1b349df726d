//! What a lane and its source may rely on.

use std::thread;

use super::*;
use crate::source::{Claim, Lease};

const PATIENCE: Duration = Duration::from_secs(60);
const SMALL: Bounds = Bounds { records: 4, bytes: 100 };
static NEVER: AtomicBool = AtomicBool::new(false);

fn record(partition: u32, offset: u64, size: usize) -> Record {
    Record {
        partition: TopicPartition { topic: "t".into(), partition },
        offset,
        timestamp: None,
        headers: Vec::new(),
        key: None,
        value: Some(vec![b'x'; size]),
        claim: Claim(1),
    }
}

fn offsets(item: Option<Item>) -> Vec<(u32, u64)> {
    match item {
        Some(Item::Records(records)) => records.iter().map(|r| (r.partition.partition, r.offset)).collect(),
        other => panic!("not records: {other:?}"),
    }
}

#[test]
fn partitions_take_turns_and_keep_their_order() {
    let queue = LaneQueue::new(Bounds { records: 100, bytes: 10_000 });
    for (partition, offset) in [(0, 1), (0, 2), (0, 3), (1, 7), (0, 4), (1, 8)] {
        queue.push(record(partition, offset, 10), &NEVER).unwrap();
    }
    let two = Bounds { records: 2, bytes: 1000 };
    assert_eq!(offsets(queue.take(two, PATIENCE)), [(0, 1), (0, 2)]);
    assert_eq!(offsets(queue.take(two, PATIENCE)), [(1, 7), (1, 8)]);
    assert_eq!(offsets(queue.take(two, PATIENCE)), [(0, 3), (0, 4)]);
}

#[test]
fn a_batch_is_cut_by_bytes_but_never_empty() {
    let queue = LaneQueue::new(Bounds { records: 100, bytes: 10_000 });
    for offset in 0..3 {
        queue.push(record(0, offset, 80), &NEVER).unwrap();
    }
    assert_eq!(offsets(queue.take(Bounds { records: 10, bytes: 170 }, PATIENCE)), [(0, 0), (0, 1)]);
    assert_eq!(offsets(queue.take(Bounds { records: 10, bytes: 1 }, PATIENCE)), [(0, 2)]);
}

#[test]
fn a_full_queue_makes_the_source_wait_until_something_is_taken() {
    let queue = Arc::new(LaneQueue::new(SMALL));
    let source = thread::spawn({
        let queue = queue.clone();
        move || (0..50).try_for_each(|offset| queue.push(record(0, offset, 30), &NEVER))
    });
    let mut seen = Vec::new();
    while seen.len() < 50 {
        let taken = offsets(queue.take(Bounds { records: 100, bytes: 10_000 }, PATIENCE));
        assert!(taken.len() <= 3, "more than the bound was waiting: {taken:?}");
        seen.extend(taken);
    }
    assert!(seen.is_sorted());
    source.join().unwrap().unwrap();
}

#[test]
fn a_record_beyond_the_bound_passes_alone() {
    let queue = LaneQueue::new(SMALL);
    queue.push(record(0, 0, 5000), &NEVER).unwrap();
    assert_eq!(offsets(queue.take(SMALL, PATIENCE)), [(0, 0)]);
}

#[test]
fn the_end_comes_after_everything_else_and_once() {
    let queue = LaneQueue::new(SMALL);
    queue.push(record(0, 0, 1), &NEVER).unwrap();
    queue.end();
    assert_eq!(offsets(queue.take(SMALL, PATIENCE)), [(0, 0)]);
    assert!(matches!(queue.take(SMALL, PATIENCE), Some(Item::End)));
    assert!(matches!(queue.take(SMALL, Duration::from_millis(1)), Some(Item::Idle)));
}

#[test]
fn closing_frees_a_waiting_source_and_ends_the_lane() {
    let queue = Arc::new(LaneQueue::new(SMALL));
    let source = thread::spawn({
        let queue = queue.clone();
        move || while queue.push(record(0, 0, 30), &NEVER).is_ok() {}
    });
    assert!(matches!(queue.take(SMALL, PATIENCE), Some(Item::Records(_))));
    queue.close();
    source.join().unwrap();
    assert!(queue.take(SMALL, PATIENCE).is_none());
}

#[test]
fn a_source_that_never_waits_learns_how_much_room_there_is() {
    let queue = LaneQueue::new(SMALL);
    let bell = Arc::new(Bell::default());
    queue.ring_for_room(bell.clone());
    let room = || queue.room().map(|room| (room.records, room.bytes)).unwrap();
    assert_eq!(room(), (4, 100));
    queue.give(vec![record(0, 0, 30), record(0, 1, 80)]).unwrap();
    assert_eq!(room(), (2, 0));
    let lane = thread::scope(|scope| {
        let lane = scope.spawn(|| queue.take(SMALL, PATIENCE));
        bell.wait(PATIENCE);
        lane.join().unwrap()
    });
    assert_eq!(offsets(lane), [(0, 0)]);
    assert_eq!(room(), (3, 20));
    queue.close();
    assert!(queue.room().is_err() && queue.give(vec![record(0, 2, 1)]).is_err());
}

fn reached(item: Option<Item>) -> (u32, u64) {
    match item {
        Some(Item::Reached { partition, offset, .. }) => (partition.partition, offset),
        other => panic!("no end: {other:?}"),
    }
}

#[test]
fn an_end_is_told_after_the_records_before_it_and_not_when_more_have_come() {
    let queue = LaneQueue::new(SMALL);
    let partition = |partition| TopicPartition { topic: "t".into(), partition };
    queue.give(vec![record(0, 4, 1), record(0, 5, 1)]).unwrap();
    queue.reach(&partition(0), 9, Claim(1)).unwrap();
    queue.reach(&partition(1), 3, Claim(1)).unwrap();
    let one = Bounds { records: 1, bytes: 10 };
    assert_eq!(offsets(queue.take(one, PATIENCE)), [(0, 4)]);
    assert_eq!(reached(queue.take(one, PATIENCE)), (1, 3));
    assert_eq!(offsets(queue.take(one, PATIENCE)), [(0, 5)]);
    assert_eq!(reached(queue.take(one, PATIENCE)), (0, 9));
    queue.reach(&partition(0), 10, Claim(1)).unwrap();
    queue.give(vec![record(0, 12, 1)]).unwrap();
    assert_eq!(offsets(queue.take(one, PATIENCE)), [(0, 12)]);
    assert!(matches!(queue.take(one, Duration::from_millis(1)), Some(Item::Idle)));
}

#[test]
fn what_is_revoked_or_set_back_waits_no_more() {
    let queue = LaneQueue::new(SMALL);
    let partition = |partition| TopicPartition { topic: "t".into(), partition };
    queue.give(vec![record(0, 0, 10), record(1, 0, 10), record(2, 0, 10)]).unwrap();
    queue.reach(&partition(0), 7, Claim(1)).unwrap();
    queue.revoke(&partition(0)).unwrap();
    queue.forget(&partition(1));
    assert!(matches!(queue.take(SMALL, PATIENCE), Some(Item::Revoked(revoked)) if revoked == partition(0)));
    assert_eq!(offsets(queue.take(SMALL, PATIENCE)), [(2, 0)]);
    assert!(matches!(queue.take(SMALL, Duration::from_millis(1)), Some(Item::Idle)));
    assert_eq!(queue.room().map(|room| room.records).unwrap(), 4);
    // Nothing of the time before is in the way of what comes next.
    queue.give(vec![record(0, 3, 10)]).unwrap();
    assert_eq!(offsets(queue.take(SMALL, PATIENCE)), [(0, 3)]);
}

#[test]
fn a_paused_queue_keeps_its_records_and_its_end_and_hands_out_the_rest() {
    let queue = LaneQueue::new(SMALL);
    queue.push(record(0, 0, 1), &NEVER).unwrap();
    queue.end();
    queue.pause(true);
    queue.revoke(&record(1, 0, 1).partition).unwrap();
    assert!(matches!(queue.take(SMALL, PATIENCE), Some(Item::Revoked(_))));
    assert!(matches!(queue.take(SMALL, Duration::from_millis(1)), Some(Item::Idle)));
    queue.pause(false);
    assert_eq!(offsets(queue.take(SMALL, PATIENCE)), [(0, 0)]);
    assert!(matches!(queue.take(SMALL, PATIENCE), Some(Item::End)));
}

#[test]
fn a_source_that_shall_stop_does_not_wait_for_room() {
    let queue = LaneQueue::new(SMALL);
    queue.pause(true);
    let stop = Arc::new(AtomicBool::new(false));
    let pushing = thread::spawn({
        let (queue, stop) = (Arc::new(queue), stop.clone());
        move || while queue.push(record(0, 0, 30), &stop).is_ok() {}
    });
    stop.store(true, Ordering::Relaxed);
    pushing.join().unwrap();
}

#[test]
fn replays_and_records_take_turns() {
    let queue = LaneQueue::new(Bounds { records: 100, bytes: 10_000 });
    let (answer, _answers) = std::sync::mpsc::channel();
    let replay = |offset| queue.replay(Replay { record: record(0, offset, 10), answer: answer.clone() });
    let one = Bounds { records: 1, bytes: 1000 };
    (10..14).for_each(|offset| queue.push(record(0, offset, 10), &NEVER).unwrap());
    assert!(replay(0) && !replay(1), "one waits at a time");
    let take = || match queue.take(one, PATIENCE) {
        Some(Item::Replay(replay)) => replay.record.offset,
        other => offsets(other)[0].1,
    };
    let mut taken = vec![];
    for next in 1..4 {
        taken.push(take());
        assert!(replay(next));
        taken.push(take());
    }
    assert_eq!(taken, [0, 10, 1, 11, 2, 12]);
    // Where nothing else waits, nothing holds it up; nor where the records are not taken.
    assert_eq!([take(), take()], [3, 13]);
    queue.push(record(0, 14, 10), &NEVER).unwrap();
    queue.pause(true);
    for next in 4..6 {
        assert!(replay(next));
        assert_eq!(take(), next);
    }
    queue.close();
    assert!(!replay(6));
}

#[test]
fn partition_is_owned_from_its_assignment_until_it_is_revoked() {
    let queue = LaneQueue::new(SMALL);
    let partition = record(3, 0, 1).partition;
    let owned = || queue.owns(&partition);
    assert!(!owned());
    let assigned = Assigned {
        partition: partition.clone(),
        log_start: 0,
        log_end: None,
        topic: None,
        committed: None,
        lease: Lease::default(),
    };
    queue.assign(assigned.clone()).unwrap();
    assert!(owned());
    queue.revoke(&partition).unwrap();
    assert!(!owned());
    queue.assign(assigned).unwrap();
    queue.close();
    assert!(!owned());
}
