//! What brokers answer when they are asked for a topic and do not know it, or its leader, for a moment. These are the
//! brokers that librdkafka plays for tests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaRespErr::{
    self as Answer, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NO_ERROR,
    RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
};

use super::cluster::{PATIENCE, Topic, client, reached_at, unique};
use super::errors::{Brokers, TOPIC, commits};
use super::host::Host;
use super::{in_group, of};
use crate::config::Assignment;
use crate::source::{Control, Item, KafkaSource, TopicPartition};

/// As long as an answer takes at the most that comes at once.
const MOMENT: Duration = Duration::from_millis(1500);

impl Brokers {
    fn say_of_the_topic(&self, answer: Answer) {
        self.0.topic_error(TOPIC, answer).unwrap();
    }
}

/// What is asked while the brokers do not know the topic is answered when they do, and not before.
fn is_answered_when_the_topic_is_known<T: Send>(brokers: &Brokers, error: Answer, ask: impl FnOnce() -> T + Send) -> T {
    brokers.say_of_the_topic(error);
    thread::scope(|scope| {
        let asked = scope.spawn(ask);
        let until = Instant::now() + MOMENT;
        while Instant::now() < until {
            assert!(!asked.is_finished(), "answered by an error");
            thread::yield_now();
        }
        brokers.say_of_the_topic(RD_KAFKA_RESP_ERR_NO_ERROR);
        asked.join().unwrap()
    })
}

#[test]
fn partition_of_a_topic_in_error_is_not_assigned_before_the_topic_is_known() {
    let brokers = Brokers::play();
    let (host, partition) = brokers.serve_a_hundred();
    brokers.say_of_the_topic(RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    host.control.send(Control::ClaimAgain { partition }).unwrap();
    let until = Instant::now() + MOMENT;
    while Instant::now() < until {
        let item = host.lanes[0].take(super::host::BOUNDS, Duration::from_millis(10));
        // A group whose member meets the error too takes the partition back until it is over.
        assert!(matches!(item, Some(Item::Idle | Item::Reached { .. } | Item::Revoked(_))), "{item:?}");
    }
    brokers.say_of_the_topic(RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_eq!(host.assigned(0).topic.unwrap().partitions, 1);
    host.end().unwrap();
}

#[test]
fn ends_of_a_topic_in_error_are_told_when_it_is_known() {
    for error in [RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART] {
        let brokers = Brokers::play();
        brokers.produce(0..100);
        let extent = brokers.source().extent().unwrap();
        let ends = || extent.ends().unwrap();
        let first = if error == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE {
            is_answered_when_the_topic_is_known(&brokers, error, ends)
        } else {
            ends()
        };
        let end = TopicPartition { topic: TOPIC.into(), partition: 0 };
        assert_eq!((first.topics[TOPIC].partitions, first.ends[&end]), (1, 100));
        // What was there is there, whatever a broker says.
        let again = is_answered_when_the_topic_is_known(&brokers, error, ends);
        assert_eq!(again.ends, first.ends, "{error:?}");
    }
}

#[test]
fn commits_of_a_topic_in_error_are_read_when_it_is_known() {
    let brokers = Brokers::play();
    let (host, partition) = brokers.serve_a_hundred();
    commits(&brokers, &host, &partition, 50, "kept");
    host.end().unwrap();
    let source = brokers.source();
    let read = || source.committed(&AtomicBool::new(false)).unwrap();
    assert_eq!(is_answered_when_the_topic_is_known(&brokers, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, read), ["kept"]);
    // One broker is late, and the next knows the topic.
    brokers.say_of_the_topic(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let known = thread::scope(|scope| {
        let asked = scope.spawn(read);
        let until = Instant::now() + MOMENT / 5;
        while Instant::now() < until {
            thread::yield_now();
        }
        brokers.say_of_the_topic(RD_KAFKA_RESP_ERR_NO_ERROR);
        asked.join().unwrap()
    });
    assert_eq!(known, ["kept"]);
}

#[test]
fn topic_that_is_missing_does_not_hide_where_the_others_end() {
    let topic = Topic::new(2, &[]);
    topic.produce(1, ["one".to_owned()]);
    let source: KafkaSource = in_group(&unique("g"), &[&topic.name, &unique("missing")], Assignment::Eager);
    let found = source.extent().unwrap().ends().unwrap();
    assert_eq!(found.topics.keys().collect::<Vec<_>>(), [&topic.name]);
    assert_eq!(found.ends.values().copied().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn partitions_without_a_leader_hold_up_no_other() {
    const LEADERLESS: &str = "a";
    let brokers = Brokers::play();
    brokers.produce(0..100);
    brokers.0.create_topic(LEADERLESS, 6, 2).unwrap();
    (0..6).for_each(|partition| brokers.0.partition_leader(LEADERLESS, partition, None).unwrap());
    let both = [LEADERLESS, TOPIC];
    let source = of(reached_at(brokers.0.bootstrap_servers()), "of-both", &both, Assignment::Eager);
    let host = Host::start(source, 1);
    let healthy = host.assigned(0).partition;
    assert_eq!(&*healthy.topic, TOPIC);
    for claim in 1..4 {
        host.begin(&healthy, 0, claim);
        assert_eq!(host.records(0, 100).len(), 100);
        let asked = Instant::now();
        host.control.send(Control::ClaimAgain { partition: healthy.clone() }).unwrap();
        while !matches!(host.next(0), Item::Assigned(assigned) if assigned.partition == healthy) {}
        assert!(asked.elapsed() < MOMENT, "it took {:?}", asked.elapsed());
    }
    (0..6).for_each(|partition| brokers.0.partition_leader(LEADERLESS, partition, Some(2)).unwrap());
    let until = Instant::now() + PATIENCE;
    let mut assigned = 0;
    while assigned < 6 {
        assert!(Instant::now() < until, "{assigned} of those that have a leader again");
        assigned +=
            usize::from(matches!(host.next(0), Item::Assigned(assigned) if &*assigned.partition.topic == LEADERLESS));
    }
    host.end().unwrap();
}

#[test]
fn topic_of_dead_letters_in_error_is_not_said_to_be_missing() {
    let brokers = Brokers::play();
    brokers.say_of_the_topic(RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    let read = super::super::read_all(&reached_at(brokers.0.bootstrap_servers()), TOPIC, &BTreeMap::new(), |_| {
        Ok(ControlFlow::Continue(()))
    });
    let told = format!("{:#}", read.unwrap_err());
    assert!(!told.contains("there is no topic") && told.contains("cannot read t"), "{told}");
    let missing =
        super::super::read_all(&client(), &unique("missing"), &BTreeMap::new(), |_| Ok(ControlFlow::Continue(())))
            .unwrap_err()
            .to_string();
    assert!(missing.contains("there is no topic"), "{missing}");
}
