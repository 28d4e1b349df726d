//! A source with lanes that a test plays itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::PATIENCE;
use crate::source::{Assigned, Bounds, Claim, Control, Item, KafkaSource, LaneQueue, Record, TopicPartition};

/// A running source whose lanes' queues the test reads.
pub(super) struct Host {
    pub(super) lanes: Vec<Arc<LaneQueue>>,
    pub(super) control: Sender<Control>,
    stop: Arc<AtomicBool>,
    source: Option<JoinHandle<anyhow::Result<()>>>,
}

pub(super) const BOUNDS: Bounds = Bounds { records: 500, bytes: 4 << 20 };

impl Host {
    pub(super) fn start(source: KafkaSource, lanes: usize) -> Self {
        Self::bounded(source, lanes, BOUNDS)
    }

    pub(super) fn bounded(source: KafkaSource, lanes: usize, bounds: Bounds) -> Self {
        let lanes: Vec<_> = (0..lanes).map(|_| Arc::new(LaneQueue::new(bounds))).collect();
        let (control, orders) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let running = thread::spawn({
            let (lanes, stop) = (lanes.clone(), stop.clone());
            move || source.run(&lanes, &orders, &stop)
        });
        Self { lanes, control, stop, source: Some(running) }
    }

    /// The next item of a lane that is not idleness.
    pub(super) fn next(&self, lane: usize) -> Item {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "nothing came");
            match self.lanes[lane].take(BOUNDS, Duration::from_millis(100)) {
                Some(Item::Idle) => {
                    let ended = self.source.as_ref().is_none_or(JoinHandle::is_finished);
                    assert!(!ended, "the source has ended");
                }
                Some(item) => return item,
                None => panic!("the queue is closed"),
            }
        }
    }

    /// Whether the first lane gets nothing for this long, and the source goes on.
    pub(super) fn is_idle(&self, time: Duration) -> bool {
        matches!(self.lanes[0].take(BOUNDS, time), Some(Item::Idle))
            && self.source.as_ref().is_some_and(|source| !source.is_finished())
    }

    pub(super) fn assigned(&self, lane: usize) -> Assigned {
        match self.next(lane) {
            Item::Assigned(assigned) => assigned,
            other => panic!("not assigned: {other:?}"),
        }
    }

    pub(super) fn begin(&self, partition: &TopicPartition, offset: u64, claim: u64) {
        self.control.send(Control::Begin { partition: partition.clone(), offset, claim: Claim(claim) }).unwrap();
    }

    /// Takes this many records of one partition.
    pub(super) fn records(&self, lane: usize, count: usize) -> Vec<Record> {
        let mut taken = Vec::new();
        while taken.len() < count {
            match self.next(lane) {
                Item::Records(records) => taken.extend(records),
                Item::Reached { .. } => {}
                other => panic!("no records: {other:?}"),
            }
        }
        taken
    }

    /// Waits until the source has ended by itself.
    pub(super) fn ended(mut self) -> anyhow::Result<()> {
        let source = self.source.take().unwrap();
        let until = Instant::now() + PATIENCE;
        while !source.is_finished() {
            assert!(Instant::now() < until, "the source does not end");
            thread::sleep(Duration::from_millis(5));
        }
        source.join().unwrap()
    }

    /// Sets the wish to stop, and waits until the source has ended, with lanes that release nothing.
    pub(super) fn end_without_release(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.source.take().unwrap().join().unwrap()
    }

    /// Sets the wish to stop, and plays the lanes until the source has ended: they release what is revoked.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let source = self.source.take().unwrap();
        while !source.is_finished() {
            for lane in &self.lanes {
                if let Some(Item::Revoked(partition)) = lane.take(BOUNDS, Duration::from_millis(1)) {
                    self.control.send(Control::Released { partition }).unwrap();
                }
            }
        }
        source.join().unwrap()
    }
}
