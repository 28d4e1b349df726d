//! Where records come from. A source knows partitions, offsets and the queues of the lanes; it never sees a sink.

pub mod recorded;

use std::fmt;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The number of the claim under which a record was fetched. A partition that is claimed again, or set back, gets a
/// new one, and records that still wait under an older one are dropped: they will be fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim(pub u64);

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, any bytes.
    pub value: Option<Vec<u8>>,
}

/// A record as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub partition: TopicPartition,
    /// Its offset. Offsets rise within a partition, with gaps.
    pub offset: u64,
    /// Its Kafka timestamp, ms since 1970.
    pub timestamp: Option<i64>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The claim under which it was fetched.
    pub claim: Claim,
}
