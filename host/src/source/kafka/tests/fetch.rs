//! Where fetching begins, and what it gives.

use super::cluster::Topic;
use super::host::Host;
use super::source;
use crate::source::Record;

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
