//! The dead letters of a partition that may still be replayed into a sink: those whose key has had no event since.
//!
//! A record that is filed as a dead letter leaves a mark in the ledger, in the transaction that moves past it. The next
//! event of its key that is handled takes the mark away, since the older one must not come after it any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The marks that are kept, the newest: they go with each write.
const KEPT: usize = 500;

/// By the transform's name and the key's digest the offsets, rising. The name alone: what is mended has another digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OpenMarks(BTreeMap<String, BTreeMap<String, Vec<u64>>>);

impl OpenMarks {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Marks the record of this key at this offset, which this transform's commands did not come from.
    pub(super) fn add(&mut self, transform: &str, key: &[u8], offset: u64) {
        let offsets = self.0.entry(transform.to_owned()).or_default().entry(digest(key)).or_default();
        if let Err(place) = offsets.binary_search(&offset) {
            offsets.insert(place, offset);
        }
        let mut all: Vec<u64> = self.each().collect();
        if let Some(beyond) = all.len().checked_sub(KEPT).filter(|beyond| *beyond > 0) {
            all.sort_unstable();
            let oldest = all[beyond];
            self.retain(|_, kept| kept >= oldest);
        }
    }

    /// Takes away the marks of this key up to this offset: an event of it was handled there.
    pub(super) fn close(&mut self, transform: &str, key: &[u8], upto: u64) {
        let Some(keys) = self.0.get(transform) else { return };
        let digest = digest(key);
        if keys.contains_key(&digest) {
            self.retain(|(of, key), offset| of != transform || key != digest || offset > upto);
        }
    }

    /// Whether the record of this key at this offset may be replayed by this transform.
    pub(super) fn is_open(&self, transform: &str, key: &[u8], offset: u64) -> bool {
        let offsets = self.0.get(transform).and_then(|keys| keys.get(&digest(key)));
        offsets.is_some_and(|offsets| offsets.binary_search(&offset).is_ok())
    }

    fn each(&self) -> impl Iterator<Item = u64> {
        self.0.values().flat_map(BTreeMap::values).flatten().copied()
    }

    fn retain(&mut self, keep: impl Fn((&str, &str), u64) -> bool) {
        for (transform, keys) in &mut self.0 {
            for (key, offsets) in keys.iter_mut() {
                offsets.retain(|offset| keep((transform, key), *offset));
            }
            keys.retain(|_, offsets| !offsets.is_empty());
        }
        self.0.retain(|_, keys| !keys.is_empty());
    }
}

/// Sixteen hexadecimal digits. Two keys that have the same would close each other's marks, and harm nothing.
fn digest(key: &[u8]) -> String {
    Sha256::digest(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_event_of_the_key_closes_what_is_before_it() {
        let mut marks = OpenMarks::default();
        for (transform, key, offset) in [("a", b"k", 10), ("a", b"k", 12), ("a", b"l", 11), ("b", b"k", 10)] {
            marks.add(transform, key, offset);
            marks.add(transform, key, offset);
        }
        marks.close("a", b"k", 11);
        let open = |transform, key: &[u8], offset| marks.is_open(transform, key, offset);
        assert!(!open("a", b"k", 10));
        assert!(open("a", b"k", 12) && open("a", b"l", 11) && open("b", b"k", 10));
        assert!(!open("c", b"k", 12) && !open("a", b"m", 11));
    }

    #[test]
    fn nothing_is_left_of_what_is_closed() {
        let mut marks = OpenMarks::default();
        marks.add("a", b"k", 10);
        marks.close("a", b"k", 10);
        assert!(marks.is_empty());
    }

    #[test]
    fn the_newest_are_kept() {
        let mut marks = OpenMarks::default();
        (0..2000_u64).for_each(|offset| marks.add("a", &[u8::try_from(offset % 100).unwrap_or_default()], offset));
        assert_eq!(marks.each().count(), KEPT);
        assert!(marks.is_open("a", &[99], 1999) && marks.is_open("a", &[0], 1500) && !marks.is_open("a", &[99], 1499));
    }
}
