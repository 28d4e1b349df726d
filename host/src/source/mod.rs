//! Where records come from. A source knows partitions, offsets and the queues of the lanes; it never sees a sink.

mod file;
#[cfg(test)]
pub(crate) mod fuzz;
pub mod kafka;
pub(crate) mod lease;
mod queue;
pub mod recorded;
mod replay;
pub mod status;
pub(crate) mod topics;

use std::fmt;
use std::sync::Arc;

pub use file::FileSource;
pub use kafka::KafkaSource;
pub use lease::{Holds, Lease, Publishing};
pub use queue::{Bounds, Closed, Item, LaneQueue};
pub use replay::{Fate, Replay};
pub use topics::Topics;

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

/// A partition that a lane may claim, and what the source knows of it. Where there is a group, the source has proved
/// just before that this process is still a member of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The oldest offset that the source can give.
    pub log_start: u64,
    /// The offset after the newest; none where nobody knows, as with files.
    pub log_end: Option<u64>,
    /// What is known of its topic; none where nobody knows, as with files.
    pub topic: Option<TopicFacts>,
    /// The group's commit of this partition, in which this claim is counted; none where there is no group.
    pub committed: Option<Committed>,
    /// As long as it holds, the partition is this process's.
    pub lease: Lease,
}

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset.
    pub offset: u64,
    /// The metadata, as [`Control::Durable`] gave it.
    pub metadata: String,
}

/// What tells one topic from another of the same name, and from itself after it has grown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicFacts {
    /// How many partitions it has.
    pub partitions: u32,
    /// The broker's own id of it; none where the broker or its client does not tell.
    pub id: Option<String>,
}

impl TopicFacts {
    /// Whether these are surely of a topic that was made again under the same name.
    pub fn is_another(&self, before: &Self) -> bool {
        self.id.is_some() && before.id.is_some() && self.id != before.id
    }
}

/// What a commit counts that proves a claim, or is the last of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The first claim of a partition by this process.
    Claim,
    /// A trial, as [`Control::Try`] asks for it.
    Trial,
    /// That the process lets go of the partition and lives.
    Survived,
}

/// What a lane tells the source.
#[derive(Debug)]
pub enum Control {
    /// Give this partition from this offset on, under this claim. The answer to [`Item::Assigned`]; sent again when
    /// the partition is set back.
    Begin {
        /// The partition.
        partition: TopicPartition,
        /// The first offset to give.
        offset: u64,
        /// The claim to mark its records with.
        claim: Claim,
    },
    /// The lane has to claim this partition anew: assign it again, if it is still this process's.
    ClaimAgain {
        /// The partition.
        partition: TopicPartition,
    },
    /// The same, and what ends the process from then on is this partition's fault: where there is a group, its commit
    /// counts that before the partition is assigned.
    Try {
        /// The partition.
        partition: TopicPartition,
    },
    /// Everything of this partition below this offset is durable in every store; a group may commit it.
    Durable {
        /// The partition.
        partition: TopicPartition,
        /// The next offset that a store wants, the lowest of all.
        offset: u64,
        /// To be kept with the commit, and handed back by the next [`Assigned`].
        metadata: String,
    },
    /// The answer to [`Item::Revoked`]: nothing of this partition is in flight any more.
    Released {
        /// The partition.
        partition: TopicPartition,
    },
    /// Everything up to the last [`Item::End`] is durable, or was set back before this message.
    Drained,
    /// The lane has ended, because it failed or because its queue was closed, and will say no more.
    Ended,
}

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

impl Record {
    /// The bytes it is counted with where memory is bounded.
    pub fn size(&self) -> usize {
        let header = |header: &Header| header.name.len() + header.value.as_ref().map_or(0, Vec::len);
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(header).sum::<usize>()
    }

    /// The CRC-32 of its timestamp, its key and its value: by it a record is known from another one that has its place
    /// after the topic was made again.
    pub fn checksum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[u8::from(self.timestamp.is_some())]);
        crc.update(&self.timestamp.unwrap_or_default().to_be_bytes());
        for part in [&self.key, &self.value] {
            let bytes = part.as_deref().unwrap_or_default();
            crc.update(&[u8::from(part.is_some())]);
            crc.update(&(bytes.len() as u64).to_be_bytes());
            crc.update(bytes);
        }
        crc.finalize()
    }

    /// Where it stands, for messages: topic-partition@offset.
    pub fn position(&self) -> String {
        format!("{}@{}", self.partition, self.offset)
    }
}
