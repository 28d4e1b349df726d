//! What the file of dead letters keeps.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::contract::Fault;
use crate::pipeline::dead_letter::{DeadLetter, DeadLetterFile, Stage};
use crate::source::{Claim, Header, Record, TopicPartition, recorded};

const VALUE_BYTES: usize = 1000;

fn record(offset: u64) -> Record {
    Record {
        partition: TopicPartition { topic: "db.public.orders".into(), partition: 2 },
        offset,
        timestamp: Some(1_795_247_493_144),
        headers: vec![Header { name: "h".into(), value: Some(vec![0xff]) }, Header { name: "n".into(), value: None }],
        key: Some(br#"{"id":1}"#.to_vec()),
        value: Some(b"{\"cut".to_vec()),
        claim: Claim(1),
    }
}

fn letter(record: &Record) -> DeadLetter<'_> {
    DeadLetter {
        record,
        pipeline: "orders",
        transform: "order-cache",
        digest: "ab12",
        fault: Fault::Undecodable,
        stage: Stage::Decode,
        sink: "",
        reason: "the value ends in a string\nat byte 5",
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_letter_is_the_record_as_it_was_with_the_reason_in_its_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    let (first, mut second) = (record(7), record(8));
    second.value = Some(vec![0xc3, 0x28]);
    assert_eq!(file.file(&[letter(&first), letter(&second)]).unwrap(), 2);
    let [first, second] = <[Value; 2]>::try_from(lines(&path)).unwrap();
    for (name, value) in [
        ("topic", json!("db.public.orders")),
        ("partition", json!(2)),
        ("offset", json!(7)),
        ("timestamp", json!(1_795_247_493_144_u64)),
        ("key", json!("{\"id\":1}")),
        ("value", json!("{\"cut")),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert_eq!((second.get("value"), &second["value_base64"]), (None, &json!("wyg=")));
    let headers = first["headers"].as_array().unwrap();
    for header in [
        json!(["h", "/w==", "base64"]),
        json!(["n", null]),
        json!(["__connect.errors.topic", "db.public.orders"]),
        json!(["__connect.errors.partition", "2"]),
        json!(["__connect.errors.offset", "7"]),
        json!(["__connect.errors.connector.name", "orders"]),
        json!(["__connect.errors.stage", "DECODE"]),
        json!(["__connect.errors.exception.message", "the value ends in a string\nat byte 5"]),
        json!(["tidegate.transform", "order-cache"]),
        json!(["tidegate.digest", "ab12"]),
        json!(["tidegate.fault", "undecodable"]),
    ] {
        assert!(headers.contains(&header), "{header}");
    }
}

#[test]
fn what_was_filed_is_not_filed_again_by_this_process_or_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let (first, second) = (record(7), record(8));
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    assert_eq!(file.file(&[letter(&first), letter(&first)]).unwrap(), 1);
    drop(file);
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    let other = DeadLetter { transform: "other", ..letter(&first) };
    assert_eq!(file.file(&[letter(&first), other, letter(&second)]).unwrap(), 2);
    assert_eq!(lines(&path).len(), 3);
}

#[test]
fn letters_of_two_records_at_one_position_are_both_filed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let first = record(7);
    // What stands there after the topic was made again.
    let others = [
        Record { timestamp: Some(1_795_247_493_145), ..record(7) },
        Record { value: None, ..record(7) },
        Record { key: None, ..record(7) },
    ];
    for _ in 0..2 {
        let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
        file.file(&[letter(&first)]).unwrap();
        for other in &others {
            file.file(&[letter(other), letter(&first)]).unwrap();
        }
    }
    let checksums: Vec<String> = lines(&path)
        .iter()
        .map(|line| {
            let headers = line["headers"].as_array().unwrap();
            headers.iter().find(|header| header[0] == "tidegate.checksum").unwrap()[1].as_str().unwrap().to_owned()
        })
        .collect();
    let expected = [&first, &others[0], &others[1], &others[2]].map(|record| format!("{:08x}", record.checksum()));
    assert_eq!(checksums, expected);
}

#[test]
fn letter_without_its_value_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let mut record = record(7);
    record.value = Some(vec![b'x'; 11]);
    for filed in [1, 0] {
        assert_eq!(DeadLetterFile::open(&path, 10).unwrap().file(&[letter(&record)]).unwrap(), filed);
    }
}

#[test]
fn a_line_that_a_crash_cut_off_is_removed_and_filed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let (first, second) = (record(7), record(8));
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    file.file(&[letter(&first), letter(&second)]).unwrap();
    drop(file);
    let whole = fs::read(&path).unwrap();
    for cut in [whole.len() - 2, whole.len() - 40] {
        fs::write(&path, &whole[..cut]).unwrap();
        let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
        assert_eq!(lines(&path).len(), 1);
        assert_eq!(file.file(&[letter(&first), letter(&second)]).unwrap(), 1);
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn last_letter_without_the_end_of_its_line_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let (first, second, third) = (record(7), record(8), record(9));
    DeadLetterFile::open(&path, VALUE_BYTES).unwrap().file(&[letter(&first), letter(&second)]).unwrap();
    let whole = fs::read(&path).unwrap();
    // As an editor leaves it.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(file.file(&[letter(&second), letter(&third)]).unwrap(), 1);
    let offsets: Vec<_> = lines(&path).iter().map(|line| line["offset"].clone()).collect();
    assert_eq!(offsets, [7, 8, 9]);
}

#[test]
fn a_value_beyond_the_limit_is_left_out_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let mut record = record(7);
    record.value = Some(vec![b'x'; 11]);
    DeadLetterFile::open(&path, 10).unwrap().file(&[letter(&record)]).unwrap();
    let line = &lines(&path)[0];
    assert_eq!(line["value"], Value::Null);
    assert!(line["headers"].as_array().unwrap().contains(&json!(["tidegate.value-omitted", "11"])));
}

#[test]
fn a_file_that_is_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    for content in ["{\"topic\":\"t\"}\n{\"rest", "some text"] {
        fs::write(&path, content).unwrap();
        let error = DeadLetterFile::open(&path, VALUE_BYTES).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("dead.jsonl"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn two_writers_of_one_file_are_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let _first = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    assert!(DeadLetterFile::open(&path, VALUE_BYTES).unwrap_err().to_string().contains("another process"));
}

#[test]
fn a_letter_is_read_by_the_source_as_the_record_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let mut record = record(7);
    (record.key, record.value) = (Some(vec![0xff]), Some(vec![0xc3, 0x28]));
    DeadLetterFile::open(&path, VALUE_BYTES).unwrap().file(&[letter(&record)]).unwrap();
    let mut read = recorded::read(&path).unwrap().next().unwrap().unwrap();
    read.headers.truncate(record.headers.len());
    read.claim = record.claim;
    assert_eq!(read, record);
}

#[test]
fn what_could_not_be_written_is_not_taken_for_filed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let record = record(7);
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    file.break_off();
    for _ in 0..2 {
        assert!(file.file(&[letter(&record)]).unwrap_err().to_string().contains("dead.jsonl"));
    }
}

/// What somebody does to the file of this path.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn letter_after_the_file_was_moved_or_changed_is_in_the_file_of_that_name() {
    let (first, second) = (record(7), record(8));
    let moved = |path: &Path| fs::rename(path, path.with_extension("1")).unwrap();
    let removed = |path: &Path| fs::remove_file(path).unwrap();
    let replaced = |path: &Path| {
        let content = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, content).unwrap();
    };
    let emptied = |path: &Path| fs::write(path, "").unwrap();
    let cases: [(&str, Change<'_>, &[u64]); 4] = [
        ("moved", &moved, &[8]),
        ("removed", &removed, &[8]),
        ("replaced", &replaced, &[7, 8]),
        ("emptied", &emptied, &[8]),
    ];
    for (what, change, left) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
        assert_eq!(file.file(&[letter(&first)]).unwrap(), 1);
        change(&path);
        assert_eq!(file.file(&[letter(&second)]).unwrap(), 1, "{what}");
        assert_eq!(file.file(&[letter(&second)]).unwrap(), 0, "{what}");
        let offsets: Vec<_> = lines(&path).iter().map(|line| line["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, left, "{what}");
        let error = DeadLetterFile::open(&path, VALUE_BYTES).unwrap_err().to_string();
        assert!(error.contains("another process"), "it is this process's file: {what}: {error}");
    }
}

#[test]
fn line_that_somebody_else_appends_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.jsonl");
    let (first, second, third) = (record(7), record(8), record(9));
    let other = folder.path().join("other.jsonl");
    DeadLetterFile::open(&other, VALUE_BYTES).unwrap().file(&[letter(&second)]).unwrap();
    let file = DeadLetterFile::open(&path, VALUE_BYTES).unwrap();
    file.file(&[letter(&first)]).unwrap();
    fs::write(&path, [fs::read(&path).unwrap(), fs::read(&other).unwrap()].concat()).unwrap();
    assert_eq!(file.file(&[letter(&second), letter(&third)]).unwrap(), 1);
    let offsets: Vec<_> = lines(&path).iter().map(|line| line["offset"].clone()).collect();
    assert_eq!(offsets, [7, 8, 9]);
}
