//! A source that is played by a test, so that it decides when a partition comes, goes, and what the log holds.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;

use super::*;
use crate::pipeline::commit::CommitMetadata;
use crate::source::{Assigned, Claim, Committed, Control, Lease, TopicFacts, TopicPartition};

pub(super) const CACHE: &[Port] = &[Port::Cache];

/// How many records a batch may have.
const BATCH: usize = 8;

/// A source played by the test, over one lane that sets the key of each record's offset, and refuses the record at 66.
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
    Assigned {
        partition: of(partition),
        log_start: 0,
        log_end: Some(100),
        topic,
        committed: None,
        lease: Lease::default(),
    }
}

pub(super) fn committed(offset: u64, metadata: String) -> Option<Committed> {
    Some(Committed { offset, metadata })
}

impl Played {
    pub(super) fn new(site: &Site) -> Self {
        Self::over(site.stores(), |record| match record.offset {
            66 => None,
            offset => Some(vec![set(&format!("{}:{offset}", record.partition.partition), "v"), publish(offset)]),
        })
    }

    /// The same over stores that are there already, with a transform that answers so.
    pub(super) fn over(stores: Arc<Stores>, answer: impl Fn(&Record) -> Option<Vec<Command>> + Send + 'static) -> Self {
        let (sender, control) = mpsc::channel();
        let lane = lane(&stores, answering(answer), sender, BATCH);
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
            if let Control::Begin { offset, claim, .. } = self.told() {
                return (offset, claim);
            }
        }
    }

    /// Waits until the lane wants to claim a partition again.
    pub(super) fn claims_again(&self) -> TopicPartition {
        self.says(|told| if let Control::ClaimAgain { partition } = told { Some(partition) } else { None })
    }

    /// Waits until it has released a partition.
    pub(super) fn releases(&self) -> TopicPartition {
        self.says(|told| if let Control::Released { partition } = told { Some(partition) } else { None })
    }

    /// Waits until it wants to try one.
    pub(super) fn tries(&self) -> TopicPartition {
        self.says(|told| if let Control::Try { partition } = told { Some(partition) } else { None })
    }

    pub(super) fn says(&self, find: impl Fn(Control) -> Option<TopicPartition>) -> TopicPartition {
        loop {
            if let Some(partition) = find(self.told()) {
                return partition;
            }
        }
    }

    /// The next that the lane tells its source.
    pub(super) fn told(&self) -> Control {
        self.control.recv_timeout(PATIENCE).expect("the lane goes on, and has something to say")
    }

    pub(super) fn give(&self, partition: u32, offset: u64, claim: Claim) {
        self.give_value(partition, offset, claim, "");
    }

    pub(super) fn give_value(&self, partition: u32, offset: u64, claim: Claim, value: &str) {
        let (partition, value) = (of(partition), Some(value.into()));
        let record = Record { partition, offset, timestamp: None, headers: vec![], key: None, value, claim };
        // One that has failed meanwhile takes nothing more: that shows in what the test looks at next.
        let _ = self.queue.push(record, &AtomicBool::new(false));
    }

    /// Waits until so much of a partition is durable, and answers what goes with the commit.
    pub(super) fn durable(&self, partition: u32, to: u64) -> CommitMetadata {
        loop {
            if let Control::Durable { partition: of_, offset, metadata } = self.told()
                && (of_, offset) == (of(partition), to)
            {
                return CommitMetadata::read(&metadata);
            }
        }
    }

    /// The failure that ends the lane.
    pub(super) fn failure(self) -> String {
        while !self.lane.is_finished() {
            let told = self.control.recv_timeout(PATIENCE);
            assert_ne!(told.err(), Some(RecvTimeoutError::Timeout), "the lane goes on");
        }
        self.lane.join().unwrap();
        format!("{:#}", self.stores.stop.take_failure().expect("it failed"))
    }

    /// Waits until the lane has taken all that was given: what comes now is another batch.
    pub(super) fn taken(&self) {
        until("the lane takes what it was given", || self.queue.room().unwrap().records == BATCH);
    }

    /// Ends the lane, which has not failed, and answers what it has made durable.
    pub(super) fn end(self) -> PipelineSummary {
        self.queue.close();
        let summary = self.lane.join().unwrap();
        assert!(self.stores.stop.take_failure().is_none());
        summary
    }
}
