//! Fuzzing of what the pipeline keeps in stores and in Kafka, and reads back: another version, another program or a hand
//! may have written it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::commit::CommitMetadata;
use super::memo::Memo;
use crate::command::collapse::Origin;
use crate::fuzz::Target;
use crate::source::{Claim, Counted, Record, TopicPartition};

/// An input is the note of a ledger, and the metadata of a commit.
pub(crate) const NOTES: Target = Target {
    name: "notes",
    run,
    seeds,
    words: &[
        "\"epoch\":0",
        "\"epoch\":65536",
        "\"left_out\":[{\"transform\":\"first\",\"digest\":\"d\",\"offsets\":[7,3]}]",
        "\"open\":{\"first\":{\"8254c329a92850f6\":[9,3]}}",
        "\"last\":{\"offset\":7,\"timestamp\":null,\"crc\":1}",
        "\"sinks\":[\"s0\"]",
        "\"positions\":{\"s1\":18446744073709551615}",
        "\"dead_letters\":18446744073709551615",
        "\"claims\":{\"count\":4294967295,\"at\":7}",
        "18446744073709551615",
        "-1",
        "null",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
    ],
    most_bytes: 1 << 13,
    runs: 4000,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut memo = Memo::read("", 0);
    memo.left_out.add(&[Origin { offset: 7, transform: 0 }], &transforms());
    memo.open.add("first", &record(5));
    memo.open_elsewhere.entry("s1".into()).or_default().add("second", &record(6));
    let metadata = r#"{"sinks":["s0"],"positions":{"s1":8},"dead_letters":7,"claims":{"count":3,"at":7}}"#;
    vec![memo.write().into(), metadata.into(), b"{}".to_vec()]
}

fn record(offset: u64) -> Record {
    let partition = TopicPartition { topic: "t".into(), partition: 0 };
    let (key, claim) = (Some(b"k".to_vec()), Claim(0));
    Record { partition, offset, timestamp: None, headers: vec![], key, value: None, claim }
}

fn transforms() -> [(String, String); 2] {
    [("first".into(), "d".into()), ("second".into(), "e".into())]
}

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    note(text);
    metadata(text);
}

fn note(text: &str) {
    for epoch in [0, 1] {
        let mut memo = Memo::read(text, epoch);
        assert_eq!(Memo::read(&memo.write(), epoch), memo);
        let refused = Origin { offset: 1 << 62, transform: 1 };
        memo.left_out.add(&[refused], &transforms());
        let left_out = memo.left_out.of(&transforms());
        let is_last = left_out.iter().all(|origin| origin.offset <= refused.offset);
        assert!(left_out.contains(&refused) || !is_last, "{left_out:?}");
        let newest = record(u64::MAX);
        memo.open.add("first", &newest);
        assert!(memo.open.is_open("first", &newest), "{memo:?}");
        memo.open.close("first", &newest);
        assert!(!memo.open.is_open("first", &record(5)) && !memo.open.is_open("first", &newest), "{memo:?}");
        assert_eq!(Memo::read(&memo.write(), epoch), memo);
    }
}

fn metadata(text: &str) {
    let metadata = CommitMetadata::read(text);
    assert_eq!(CommitMetadata::read(&metadata.write()), metadata);
    let counted = CommitMetadata::read(&CommitMetadata::count(text, Counted::Trial));
    assert_eq!(counted.claims.count, metadata.claims.count.saturating_add(1));
    assert_eq!((counted.positions, counted.filed), (metadata.positions, metadata.filed));
    assert!(counted.claims.found_at(7).count <= counted.claims.count);
    assert_eq!(CommitMetadata::read(&CommitMetadata::forget_claims(text)).claims.count, 0);
}
