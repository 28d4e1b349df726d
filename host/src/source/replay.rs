//! Records that were filed as dead letters and are to be handled again by the lane that owns their partition.

use std::sync::mpsc::Sender;

use super::{Record, TopicPartition};

/// What a lane is asked for between two batches.
#[derive(Debug)]
pub struct Replay {
    /// The records as they were, rising within a partition. Those of partitions that the lane does not own are for
    /// another one.
    pub records: Vec<Record>,
    /// Takes an answer for each record of the lane's own partitions.
    pub answers: Sender<Replayed>,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What becomes of a record that is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its commands are durable, in every store that lacked them.
    Applied,
    /// An event of its key was handled after it, or it was replayed before: nothing was changed.
    Superseded,
    /// It was rejected again, for this reason. It may be replayed once more.
    Rejected(String),
    /// The partition is not at rest, for this reason. It may be replayed once more.
    NotNow(String),
}
