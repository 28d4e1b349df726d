//! Topics that are deleted and made again, and logs that end before where a partition stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::{PATIENCE, Topic, reached_at, unique};
use super::host::Host;
use super::{in_group, of, source};
use crate::config::Assignment;
use crate::source::kafka::topic_id::describe;
use crate::source::status::Status;
use crate::source::{Assigned, Item, TopicFacts};

fn numbers(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|number| number.to_string())
}

/// The partition as it is assigned next, whatever records come before.
fn assigned_next(host: &Host) -> Assigned {
    loop {
        match host.next(0) {
            Item::Assigned(assigned) => return assigned,
            Item::Revoked(partition) => panic!("{partition} was revoked"),
            _ => {}
        }
    }
}

#[test]
fn topic_made_again_has_another_id() {
    let topic = Topic::new(3, &[]);
    let consumer = source(&[&topic.name]).fetcher(&Arc::default(), 1 << 20).unwrap();
    let (name, missing) = (topic.name.as_str(), unique("missing"));
    let look = || {
        let mut found = describe(&consumer, &[name, &missing], PATIENCE).unwrap();
        assert!(!found.contains_key(&missing));
        found.remove(name)
    };
    let before = look().unwrap();
    assert_eq!(before.partitions, 3);
    assert_eq!(before.id.as_ref().map(String::len), Some(22), "as Kafka's tools show it: {before:?}");
    assert_eq!(look().as_ref(), Some(&before));
    topic.recreate(2);
    let after = look().unwrap();
    assert_eq!(after.partitions, 2);
    assert!(after.is_another(&before) && !after.is_another(&after), "{before:?} {after:?}");
    assert!(!after.is_another(&TopicFacts { partitions: 2, id: None }));
}

#[test]
fn brokers_that_do_not_answer_give_no_ids() {
    let nobody = of(reached_at("127.0.0.1:1".to_owned()), &unique("g"), &["t"], Assignment::Eager);
    let consumer = nobody.fetcher(&Arc::default(), 1 << 20).unwrap();
    let begun = Instant::now();
    describe(&consumer, &["t"], Duration::from_millis(200)).unwrap_err();
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn partition_of_topic_made_again_is_assigned_again_and_read() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, numbers(50));
    let host = Host::start(source(&[&topic.name]), 1);
    let before = host.assigned(0);
    host.begin(&before.partition, 0, 1);
    assert_eq!(host.records(0, 50).len(), 50);
    topic.recreate(1);
    // Longer than it was, so that there is a record where the next one is expected.
    topic.produce(0, numbers(80));
    let after = assigned_next(&host);
    assert!(after.topic.unwrap().is_another(before.topic.as_ref().unwrap()));
    // As after a rewind: all of the new topic, and what comes later.
    host.begin(&after.partition, 0, 2);
    assert_eq!(host.records(0, 80).len(), 80);
    topic.produce(0, numbers(30));
    assert_eq!(host.records(0, 30).len(), 30);
    host.end().unwrap();
}

#[test]
fn partition_that_stands_beyond_its_end_is_assigned_again() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, numbers(50));
    let status = Arc::new(Status::default());
    let source = in_group(&unique("g"), &[&topic.name], Assignment::Eager).seen_by(status.clone());
    let host = Host::start(source, 1);
    let before = host.assigned(0);
    // What a lane says whose ledger has come further than the log, which was cut off.
    status.claimed(&before.partition, 80, Some(80));
    host.begin(&before.partition, 50, 1);
    let after = assigned_next(&host);
    assert_eq!((after.log_end, after.topic), (Some(50), before.topic));
    host.end().unwrap();
}
