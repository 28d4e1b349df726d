//! A record that was filed as a dead letter and is to be handled again by the lane that owns its partition.

use std::sync::mpsc::Sender;

use super::Record;

/// What a lane is asked for between two batches.
#[derive(Debug)]
pub struct Replay {
    /// The record as it was.
    pub record: Record,
    /// Takes the answer. It is dropped without one where the partition is not the lane's own any more.
    pub answer: Sender<Fate>,
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
