//! The dead letters of a partition that may still be replayed into a sink: those whose key has had no event since.
//!
//! A record that is filed as a dead letter leaves a mark in the ledger, in the transaction that moves past it. The next
//! event of its key that writes to the sink takes the mark away, since the older one must not come after it any more.
//! A mark is of one record, not of its offset: another record may have that after the topic was made again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::Record;

/// The marks that are kept, the newest: they go with each write.
const KEPT: usize = 500;

/// By the transform's name and the key's digest the marks, rising. The name alone: what is mended has another digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OpenMarks(BTreeMap<String, BTreeMap<String, Vec<Mark>>>);

/// The mark of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Mark {
    /// Offset, and checksum of the record.
    Of(u64, u32),
    /// The offset alone, as earlier versions wrote it.
    At(u64),
}

impl Mark {
    fn offset(self) -> u64 {
        match self {
            Self::Of(offset, _) | Self::At(offset) => offset,
        }
    }

    fn is_of(self, record: &Record) -> bool {
        match self {
            Self::Of(offset, checksum) => offset == record.offset && checksum == record.checksum(),
            Self::At(offset) => offset == record.offset,
        }
    }
}

impl OpenMarks {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Marks this record, which the sink lacks of this transform. One without a key is never marked: nobody could say
    /// what came after it.
    pub(super) fn add(&mut self, transform: &str, record: &Record) {
        let Some(key) = &record.key else { return };
        let marks = self.0.entry(transform.to_owned()).or_default().entry(digest(key)).or_default();
        let place = marks.partition_point(|mark| mark.offset() < record.offset);
        // The offset has one record at a time.
        let same = marks.get(place).is_some_and(|mark| mark.offset() == record.offset);
        marks.splice(place..place + usize::from(same), [Mark::Of(record.offset, record.checksum())]);
        let mut all: Vec<u64> = self.each().collect();
        if let Some(beyond) = all.len().checked_sub(KEPT).filter(|beyond| *beyond > 0) {
            all.sort_unstable();
            let oldest = all[beyond];
            self.retain(|_, kept| kept >= oldest);
        }
    }

    /// Takes away the marks of this record's key up to this record: it was handled.
    pub(super) fn close(&mut self, transform: &str, record: &Record) {
        let (Some(keys), Some(key)) = (self.0.get(transform), &record.key) else { return };
        let digest = digest(key);
        if keys.contains_key(&digest) {
            self.retain(|(of, key), offset| of != transform || key != digest || offset > record.offset);
        }
    }

    /// Whether this transform may still bring this record into the sink.
    pub(super) fn is_open(&self, transform: &str, record: &Record) -> bool {
        let Some(key) = &record.key else { return false };
        let marks = self.0.get(transform).and_then(|keys| keys.get(&digest(key)));
        marks.is_some_and(|marks| marks.iter().any(|mark| mark.is_of(record)))
    }

    fn each(&self) -> impl Iterator<Item = u64> {
        self.0.values().flat_map(BTreeMap::values).flatten().map(|mark| mark.offset())
    }

    fn retain(&mut self, keep: impl Fn((&str, &str), u64) -> bool) {
        for (transform, keys) in &mut self.0 {
            for (key, marks) in keys.iter_mut() {
                marks.retain(|mark| keep((transform, key), mark.offset()));
            }
            keys.retain(|_, marks| !marks.is_empty());
        }
        self.0.retain(|_, keys| !keys.is_empty());
    }
}

/// Sixteen hexadecimal digits. Two keys that have the same would close each other's marks, and harm nothing.
fn digest(key: &[u8]) -> String {
    Sha256::digest(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::source::{Claim, TopicPartition};

    fn record(key: &[u8], offset: u64) -> Record {
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        let (key, headers) = (Some(key.to_vec()), vec![]);
        Record { partition, offset, timestamp: Some(5), headers, key, value: None, claim: Claim(0) }
    }

    #[test]
    fn a_later_event_of_the_key_closes_what_is_before_it() {
        let mut marks = OpenMarks::default();
        for (transform, key, offset) in [("a", b"k", 10), ("a", b"k", 12), ("a", b"l", 11), ("b", b"k", 10)] {
            marks.add(transform, &record(key, offset));
            marks.add(transform, &record(key, offset));
        }
        marks.close("a", &record(b"k", 11));
        let open = |transform, key: &[u8], offset| marks.is_open(transform, &record(key, offset));
        assert!(!open("a", b"k", 10));
        assert!(open("a", b"k", 12) && open("a", b"l", 11) && open("b", b"k", 10));
        assert!(!open("c", b"k", 12) && !open("a", b"m", 11));
        assert_eq!(marks.each().count(), 3);
    }

    #[test]
    fn mark_is_of_one_record_not_of_its_offset() {
        let mut marks = OpenMarks::default();
        let first = record(b"k", 10);
        let others = [
            Record { timestamp: Some(6), ..first.clone() },
            Record { timestamp: None, ..first.clone() },
            Record { value: Some(vec![]), ..first.clone() },
        ];
        marks.add("a", &first);
        for other in &others {
            assert!(!marks.is_open("a", other), "{other:?}");
        }
        marks.add("a", &others[0]);
        assert!(marks.is_open("a", &others[0]) && !marks.is_open("a", &first), "an offset has one record");
    }

    #[test]
    fn marks_of_an_earlier_version_are_read() {
        let digest = digest(b"k");
        let marks: OpenMarks = serde_json::from_str(&format!(r#"{{"a":{{"{digest}":[10,[12,3]]}}}}"#)).unwrap();
        assert!(marks.is_open("a", &record(b"k", 10)) && !marks.is_open("a", &record(b"k", 12)));
        assert_eq!(marks.each().collect::<Vec<_>>(), [10, 12]);
    }

    #[test]
    fn nothing_is_left_of_what_is_closed() {
        let mut marks = OpenMarks::default();
        marks.add("a", &record(b"k", 10));
        marks.close("a", &record(b"k", 10));
        assert!(marks.is_empty());
    }

    #[test]
    fn the_newest_are_kept() {
        let mut marks = OpenMarks::default();
        let of = |offset: u64| record(&[u8::try_from(offset % 100).unwrap()], offset);
        (0..2000).for_each(|offset| marks.add("a", &of(offset)));
        assert_eq!(marks.each().count(), KEPT);
        assert!(marks.is_open("a", &of(1999)) && marks.is_open("a", &of(1500)) && !marks.is_open("a", &of(1499)));
    }
}
