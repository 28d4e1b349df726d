//! What the ledger of a sink keeps for the pipeline beside the offset, as the note of a write, and so in one
//! transaction with it: which answers the sink has refused, which dead letters may still be replayed, which record it has
//! come to last, and how far the sinks had come that keep no ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::left_out::LeftOut;
use super::open_marks::OpenMarks;
use crate::source::Record;

/// What is kept, in the note's JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memo {
    /// The topic's epoch; what follows is about offsets of it.
    #[serde(skip_serializing_if = "is_first")]
    epoch: u16,
    /// The answers that were refused.
    #[serde(skip_serializing_if = "LeftOut::is_empty")]
    pub(super) left_out: LeftOut,
    /// The dead letters after which nothing of their keys has come.
    #[serde(skip_serializing_if = "OpenMarks::is_empty")]
    pub(super) open: OpenMarks,
    /// The open marks of sinks without a ledger, by their names. This sink keeps them, as of its own offset.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) open_elsewhere: BTreeMap<String, OpenMarks>,
    /// By sink without a ledger: everything below this offset is published.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) positions: BTreeMap<String, u64>,
    /// The last record below the ledger's offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<LastRecord>,
}

/// A record by which a topic is known again. Its offset alone is not enough: that of a topic made anew has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastRecord {
    /// Its offset.
    pub(super) offset: u64,
    /// Its timestamp, ms since 1970.
    timestamp: Option<i64>,
    /// The CRC-32 of its key and its value, and of whether they are there.
    crc: u32,
}

impl Memo {
    /// What a note holds of a topic of this epoch. Of an earlier one, or of what somebody else wrote, nothing holds.
    pub(super) fn read(note: &str, epoch: u16) -> Self {
        let read: Self = serde_json::from_str(note).unwrap_or_default();
        if read.epoch == epoch { read } else { Self { epoch, ..Self::default() } }
    }

    /// The note.
    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl LastRecord {
    /// How this record is known again.
    pub(super) fn of(record: &Record) -> Self {
        let mut crc = crc32fast::Hasher::new();
        for part in [&record.key, &record.value] {
            crc.update(&[u8::from(part.is_some())]);
            crc.update(part.as_deref().unwrap_or_default());
        }
        Self { offset: record.offset, timestamp: record.timestamp, crc: crc.finalize() }
    }
}

/// For serde, which hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_first(epoch: &u16) -> bool {
    *epoch == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::source::{Claim, TopicPartition};

    fn record(key: Option<&str>, value: Option<&str>) -> Record {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        Record {
            partition: TopicPartition { topic: "t".into(), partition: 0 },
            offset: 7,
            timestamp: Some(1_795_247_469_337),
            headers: vec![],
            key: bytes(key),
            value: bytes(value),
            claim: Claim(1),
        }
    }

    #[test]
    fn a_note_is_read_back_and_holds_for_its_epoch_alone() {
        let mut memo = Memo::read("", 3);
        memo.open.add("first", &record(Some("key"), None));
        memo.last = Some(LastRecord::of(&record(Some("key"), None)));
        assert_eq!(Memo::read(&memo.write(), 3), memo);
        assert_eq!(Memo::read(&memo.write(), 4), Memo::read("written by hand", 4));
        assert_eq!(Memo::read("", 0).write(), "{}");
    }

    #[test]
    fn a_record_is_known_by_its_time_its_key_and_its_value() {
        let one = record(Some("key"), Some("value"));
        assert_eq!(LastRecord::of(&one), LastRecord::of(&one));
        let later = Record { timestamp: Some(1_795_247_469_338), ..one.clone() };
        let others =
            [record(Some("keyvalue"), None), record(Some("key"), Some("")), record(None, Some("keyvalue")), later];
        for other in others {
            assert_ne!(LastRecord::of(&other), LastRecord::of(&one), "{other:?}");
        }
        assert_ne!(LastRecord::of(&record(Some("key"), None)), LastRecord::of(&record(Some("key"), Some(""))));
    }
}
