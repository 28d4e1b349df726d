//! Which letters a file has, without one of them in memory.
//!
//! The file is looked at in blocks. Of each block it is kept in memory which offsets of which stream lie in it: the first
//! and the last. Letters rise within a stream, so that a new one lies beyond all blocks, and nothing is read for it. One
//! that may be there already (after a crash, for a sink that is filled again, after a topic was made again) is looked for
//! in the few blocks that may have it. So memory grows by the block, not by the letter.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::DeadLetter;
use super::filed::Letter;
use crate::source::TopicPartition;
use crate::source::recorded::parse_line;

/// How much of the file is looked at together.
const BLOCK_BYTES: u64 = 1 << 20;

/// What dead letters have in common that differ by their record alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream {
    pipeline: String,
    partition: TopicPartition,
    transform: String,
}

/// What a letter is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    stream: Stream,
    offset: u64,
    checksum: u32,
}

/// The offsets of a stream that lie in a block, the first and the last.
#[derive(Debug, Clone, Copy)]
struct Range {
    block: usize,
    from: u64,
    to: u64,
}

/// What is known of the file.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Where each block begins.
    blocks: Vec<u64>,
    ranges: HashMap<Stream, Vec<Range>>,
    /// The block that was read last, by its place and its end: the next letter may lie there too.
    last: Option<(usize, u64, HashSet<Identity>)>,
}

impl Identity {
    /// That of a letter to be filed.
    pub(super) fn of(letter: &DeadLetter<'_>) -> Self {
        let (pipeline, transform) = (letter.pipeline.to_owned(), letter.transform.to_owned());
        let stream = Stream { pipeline, partition: letter.record.partition.clone(), transform };
        Self { stream, offset: letter.record.offset, checksum: letter.record.checksum() }
    }

    /// That of a line of the file; none where it is no letter.
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        let Letter { record, pipeline, transform, checksum, .. } = Letter::parse(parse_line(line).ok()?)?;
        Some(Self {
            stream: Stream { pipeline, partition: record.partition, transform },
            offset: record.offset,
            checksum,
        })
    }
}

impl Index {
    /// The letter that begins at this place, behind all others.
    pub(super) fn add(&mut self, letter: &Identity, place: u64) {
        if self.blocks.last().is_none_or(|start| place - start >= BLOCK_BYTES) {
            self.blocks.push(place);
        }
        let (block, offset) = (self.blocks.len() - 1, letter.offset);
        let ranges = match self.ranges.get_mut(&letter.stream) {
            Some(ranges) => ranges,
            None => self.ranges.entry(letter.stream.clone()).or_default(),
        };
        match ranges.last_mut().filter(|range| range.block == block) {
            Some(range) => (range.from, range.to) = (range.from.min(offset), range.to.max(offset)),
            None => ranges.push(Range { block, from: offset, to: offset }),
        }
    }

    /// Whether the file, which ends here, has this letter.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn has(&mut self, letter: &Identity, file: &mut File, end: u64) -> io::Result<bool> {
        let ranges = self.ranges.get(&letter.stream).map(Vec::as_slice).unwrap_or_default();
        let may = |range: &&Range| (range.from..=range.to).contains(&letter.offset);
        let may: Vec<usize> = ranges.iter().filter(may).map(|range| range.block).collect();
        for block in may {
            let block_end = self.blocks.get(block + 1).copied().unwrap_or(end);
            if self.last.as_ref().is_none_or(|(last, last_end, _)| (*last, *last_end) != (block, block_end)) {
                self.last = Some((block, block_end, read(file, self.blocks[block], block_end)?));
            }
            if self.last.as_ref().is_some_and(|(_, _, letters)| letters.contains(letter)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The letters between two places.
fn read(file: &mut File, from: u64, to: u64) -> io::Result<HashSet<Identity>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(to - from).read_to_end(&mut bytes)?;
    Ok(bytes.split_inclusive(|byte| *byte == b'\n').filter_map(Identity::of_line).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::contract::Fault;
    use crate::pipeline::dead_letter::Stage;
    use crate::source::{Claim, Record};

    #[test]
    fn memory_grows_by_the_block_and_every_letter_is_found() {
        const LETTERS: u64 = 20_000;
        let letter = |offset: u64, timestamp: i64, then: &mut dyn FnMut(&DeadLetter<'_>)| {
            let record = Record {
                partition: TopicPartition { topic: "t".into(), partition: u32::from(offset.is_multiple_of(2)) },
                offset,
                timestamp: Some(timestamp),
                headers: vec![],
                key: None,
                value: Some(vec![b'v'; 100]),
                claim: Claim(0),
            };
            then(&DeadLetter {
                record: &record,
                pipeline: "p",
                transform: "first",
                digest: "",
                fault: Fault::Refused,
                stage: Stage::Transform,
                sink: "",
                reason: "",
            });
        };
        let (mut index, mut file, mut end) = (Index::default(), tempfile::tempfile().unwrap(), 0);
        // Every second offset alone, so that gaps are asked for too.
        for offset in 0..LETTERS {
            letter(offset * 3, 5, &mut |letter| {
                let line = letter.line(1000);
                index.add(&Identity::of(letter), end);
                file.write_all(line.as_bytes()).unwrap();
                end += line.len() as u64;
            });
        }
        let ranges: usize = index.ranges.values().map(Vec::len).sum();
        assert!(index.blocks.len() as u64 >= end / BLOCK_BYTES / 2 && ranges <= 2 * index.blocks.len(), "{ranges}");
        assert!(ranges < 100, "{ranges} for {LETTERS} letters");
        let mut has = |offset, timestamp| {
            let mut has = false;
            letter(offset, timestamp, &mut |letter| has = index.has(&Identity::of(letter), &mut file, end).unwrap());
            has
        };
        for offset in (0..LETTERS).step_by(997) {
            assert!(has(offset * 3, 5), "{offset}");
            assert!(!has(offset * 3 + 6 * LETTERS, 5) && !has(offset * 3, 6), "{offset}");
            assert!(offset % 2 == 1 || !has(offset * 3 + 2, 5), "{offset}");
        }
    }
}
