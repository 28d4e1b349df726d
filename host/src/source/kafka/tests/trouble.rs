//! What is told, waited for, or stopped at when the cluster is not as it should be.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::cluster::{PATIENCE, Topic, client, unique};
use super::host::Host;
use super::{KafkaSource, source};
use crate::config::{KafkaClient, Text};
use crate::source::kafka::context::Noted;
use crate::source::kafka::read_all;

fn nowhere() -> KafkaClient {
    // Nobody listens there, and no system gives the port away.
    KafkaClient { brokers: Text::plain("127.0.0.1:1"), ..client() }
}

fn of(client: KafkaClient) -> KafkaSource {
    let mut source = source(&["t"]);
    source.config.client = client;
    source
}

#[test]
fn a_cluster_that_is_away_is_waited_for_and_the_wish_to_stop_is_seen() {
    let noted = Arc::new(Noted::default());
    let member = of(nowhere()).member(&noted).unwrap();
    let until = Instant::now() + PATIENCE;
    while !noted.is_away() {
        assert!(Instant::now() < until, "it is never told");
        let _ = member.poll(Duration::from_millis(50));
    }
    assert!(noted.failure().is_none(), "it may come back");

    Host::start(of(nowhere()), 1).end().unwrap();
    assert!(of(nowhere()).committed(&AtomicBool::new(true)).unwrap().is_empty());
}

#[test]
fn a_property_that_the_client_does_not_know_is_named() {
    let properties = BTreeMap::from([("fetch.wait".to_owned(), Text::plain("hunter2"))]);
    let host = Host::start(of(KafkaClient { properties, ..client() }), 1);
    let told = format!("{:#}", host.ended().unwrap_err());
    assert!(told.contains("`fetch.wait`") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_topic_that_is_missing_is_waited_for() {
    let name = unique("late");
    let host = Host::start(source(&[&name]), 1);
    assert!(host.is_idle(Duration::from_secs(1)));
    let topic = Topic::named(name, 1, &[]);
    assert_eq!(*host.assigned(0).partition.topic, *topic.name);
    host.end().unwrap();
}

#[test]
fn a_whole_topic_is_read_up_to_where_it_ends() {
    let topic = Topic::new(3, &[]);
    topic.produce(0, (0..1_000).map(|number| number.to_string()));
    topic.produce_with(1, (0..10).map(|number| number.to_string()), &[("transactional.id", &unique("tx"))]);
    let mut read = Vec::new();
    let start = BTreeMap::new();
    read_all(&client(), &topic.name, &start, |record| {
        read.push((record.partition.partition, record.offset));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    read.sort_unstable();
    let expected = (0..1_000).map(|offset| (0, offset)).chain((0..10).map(|offset| (1, offset)));
    assert_eq!(read, expected.collect::<Vec<_>>());
    let missing = read_all(&client(), &unique("missing"), &start, |_| panic!("there is none")).unwrap_err();
    assert!(missing.to_string().contains("create it"), "{missing}");
    let stopped = read_all(&client(), &topic.name, &start, |_| anyhow::bail!("enough")).unwrap_err();
    assert_eq!(stopped.to_string(), "enough");
}

#[test]
fn whole_topic_read_in_parts_is_each_record_once() {
    let topic = Topic::new(3, &[]);
    for partition in 0..3 {
        topic.produce(partition, (0..100).map(|number| number.to_string()));
    }
    let (mut read, mut from) = (Vec::new(), BTreeMap::new());
    loop {
        let (mut part, mut next) = (0, from.clone());
        read_all(&client(), &topic.name, &from, |record| {
            if part == 40 {
                return Ok(ControlFlow::Break(()));
            }
            part += 1;
            next.insert(record.partition.partition, record.offset + 1);
            read.push((record.partition.partition, record.offset));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        if next == from {
            break;
        }
        from = next;
    }
    read.sort_unstable();
    assert_eq!(read, (0..3).flat_map(|partition| (0..100).map(move |offset| (partition, offset))).collect::<Vec<_>>());
}
