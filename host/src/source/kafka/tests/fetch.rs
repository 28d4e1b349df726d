//! Where fetching begins, and what it gives.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;

use super::cluster::{PATIENCE, Topic, unique};
use super::host::{BOUNDS, Host};
use super::source;
use crate::source::kafka::fetch::{Fetcher, share};
use crate::source::{Bounds, Claim, Control, Header, Item, Record, TopicPartition};

fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap()).collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn nothing_is_fetched_before_the_lane_says_where_to_begin() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, numbered(0..100));
    let host = Host::start(source(&[&topic.name]), 1);
    let assigned = host.assigned(0);
    assert_eq!((assigned.log_start, assigned.log_end), (0, Some(100)));
    assert_eq!(assigned.topic.unwrap().partitions, 1);
    assert_eq!(assigned.committed, None);
    host.begin(&assigned.partition, 40, 7);
    let records = host.records(0, 60);
    assert_eq!(values(&records), numbered(40..100));
    assert!(records.iter().all(|record| record.claim.0 == 7 && record.key.as_deref() == Some(b"k")));
    host.end().unwrap();
}

#[test]
fn a_set_back_partition_gives_each_record_once_under_its_new_claim() {
    let topic = Topic::new(2, &[]);
    topic.produce(0, numbered(0..20_000));
    topic.produce(1, numbered(0..2_000));
    let host = Host::start(source(&[&topic.name]), 1);
    let (one, other) = (host.assigned(0).partition, host.assigned(0).partition);
    let (busy, quiet) = if one.partition == 0 { (one, other) } else { (other, one) };
    host.begin(&busy, 0, 1);
    host.begin(&quiet, 0, 1);
    let (mut claim, mut next, mut quiet_next) = (1, 0, 0);
    let mut set_back_at = vec![12_345, 6_000, 700];
    while next < 20_000 || quiet_next < 2_000 {
        let Item::Records(records) = host.next(0) else { continue };
        for record in records {
            if record.partition == quiet {
                assert_eq!(record.offset, quiet_next, "another partition is not disturbed");
                quiet_next += 1;
            } else if record.claim.0 == claim {
                assert_eq!(record.offset, next, "nothing is left out or given twice under a claim");
                next += 1;
            }
        }
        if set_back_at.last().is_some_and(|at| next > *at) {
            next = set_back_at.pop().unwrap() / 2;
            claim += 1;
            host.begin(&busy, next, claim);
        }
    }
    host.end().unwrap();
}

#[test]
fn records_that_come_by_another_way_are_given_once_and_in_order() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, numbered(0..100));
    let (source, noted) = (source(&[&topic.name]), Arc::default());
    let mut fetcher = Fetcher::new(source.fetcher(&noted, share(1)).unwrap(), share(1), Arc::default());
    let partition = TopicPartition { topic: topic.name.as_str().into(), partition: 0 };
    fetcher.begin_astray(&partition, Claim(1)).unwrap();
    let (mut records, until) = (Vec::new(), Instant::now() + PATIENCE);
    while records.len() < 100 {
        assert!(Instant::now() < until, "{} records came", records.len());
        fetcher.serve().unwrap();
        records.extend(fetcher.take(&partition, BOUNDS).unwrap().records);
        thread::yield_now();
    }
    assert_eq!(values(&records), numbered(0..100));
}

#[test]
fn the_end_behind_transaction_markers_is_told_after_the_records() {
    let topic = Topic::new(1, &[]);
    let transactional = unique("tx");
    topic.produce_with(0, numbered(0..10), &[("transactional.id", &transactional)]);
    let host = Host::start(source(&[&topic.name]), 1);
    let partition = host.assigned(0).partition;
    host.begin(&partition, 0, 3);
    let mut records = Vec::new();
    while records.len() < 10 {
        let Item::Records(more) = host.next(0) else { panic!("records come first") };
        records.extend(more);
    }
    assert_eq!(values(&records), numbered(0..10));
    let reached = |host: &Host| match host.next(0) {
        Item::Reached { offset, claim, .. } => (offset, claim.0),
        other => panic!("the end is not told: {other:?}"),
    };
    assert_eq!(reached(&host), (11, 3));
    // Also by a restart at the marker, where there is no record to give.
    host.begin(&partition, 10, 4);
    assert_eq!(reached(&host), (11, 4));
    host.end().unwrap();
}

#[test]
fn offsets_that_retention_took_are_seen_in_the_start_of_the_log() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, numbered(0..100));
    topic.delete_below(0, 60);
    let host = Host::start(source(&[&topic.name]), 1);
    let assigned = host.assigned(0);
    assert_eq!((assigned.log_start, assigned.log_end), (60, Some(100)));
    // A lane that begins below learns of it by another assignment, and not by a jump.
    host.begin(&assigned.partition, 10, 1);
    let again = host.assigned(0);
    assert_eq!(again, assigned);
    host.begin(&again.partition, 60, 2);
    assert_eq!(values(&host.records(0, 40)), numbered(60..100));
    host.end().unwrap();
}

#[test]
fn a_full_lane_holds_up_its_own_partitions_alone() {
    let topic = Topic::new(2, &[]);
    for partition in 0..2 {
        topic.produce(partition, numbered(0..5_000));
    }
    let bounds = Bounds { records: 100, bytes: 1 << 20 };
    let host = Host::bounded(source(&[&topic.name]), 2, bounds);
    for lane in 0..2 {
        host.begin(&host.assigned(lane).partition, 0, 1);
    }
    assert_eq!(host.records(1, 5_000).len(), 5_000);
    let until = Instant::now() + PATIENCE;
    while host.lanes[0].room().unwrap().records > 0 {
        assert!(Instant::now() < until, "the other lane is never full");
        thread::yield_now();
    }
    let offsets: Vec<_> = host.records(0, 5_000).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..5_000).collect::<Vec<_>>());
    host.end().unwrap();
}

#[test]
fn every_codec_is_read() {
    let topic = Topic::new(1, &[]);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        topic.produce_with(0, [codec.repeat(100)], &[("compression.codec", codec)]);
    }
    let host = Host::start(source(&[&topic.name]), 1);
    host.begin(&host.assigned(0).partition, 0, 1);
    assert_eq!(values(&host.records(0, codecs.len())), codecs.map(|codec| codec.repeat(100)));
    host.end().unwrap();
}

#[test]
fn a_pattern_also_takes_topics_that_come_later() {
    let prefix = unique("p");
    let first = Topic::named(format!("{prefix}.a"), 1, &[]);
    let host = Host::start(source(&[&format!("^{}\\.[ab]$", prefix.replace('.', "\\."))]), 1);
    assert_eq!(*host.assigned(0).partition.topic, *first.name);
    let _passed_over = Topic::named(format!("{prefix}.c"), 1, &[]);
    let later = Topic::named(format!("{prefix}.b"), 1, &[]);
    // The group is balanced anew, and the eager protocol takes the first topic for a moment.
    let mut seen = Vec::new();
    while !seen.contains(&later.name) {
        match host.next(0) {
            Item::Assigned(assigned) => seen.push(assigned.partition.topic.to_string()),
            Item::Revoked(partition) => host.control.send(Control::Released { partition }).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.iter().all(|topic| *topic == first.name || *topic == later.name), "{seen:?}");
    host.end().unwrap();
}

#[test]
fn keys_values_and_headers_come_as_they_are() {
    let topic = Topic::new(1, &[]);
    let headers = OwnedHeaders::new()
        .insert(rdkafka::message::Header { key: "a", value: Some(&b"\xff\x00"[..]) })
        .insert(rdkafka::message::Header { key: "a", value: None::<&[u8]> });
    topic.send(BaseRecord::<[u8], [u8]>::to(&topic.name).payload(b"\x00\xfe").headers(headers).timestamp(5));
    topic.send(BaseRecord::<[u8], [u8]>::to(&topic.name).key(b"\xfd"));
    let host = Host::start(source(&[&topic.name]), 1);
    host.begin(&host.assigned(0).partition, 0, 1);
    let records = host.records(0, 2);
    let header = |value: Option<&[u8]>| Header { name: "a".into(), value: value.map(<[u8]>::to_vec) };
    assert_eq!((records[0].key.as_deref(), records[0].value.as_deref()), (None, Some(&b"\x00\xfe"[..])));
    assert_eq!(records[0].headers, [header(Some(b"\xff\x00")), header(None)]);
    assert_eq!(records[0].timestamp, Some(5));
    assert_eq!((records[1].key.as_deref(), records[1].value.as_deref()), (Some(&b"\xfd"[..]), None));
    host.end().unwrap();
}
