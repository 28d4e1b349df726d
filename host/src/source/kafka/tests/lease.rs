//! How long a partition is surely this process's, by a real group.

use std::time::{Duration, Instant};

use super::cluster::client;
use super::cluster::{PATIENCE, Topic, unique};
use super::errors::Brokers;
use super::host::{BOUNDS, Host};
use super::{in_group, of, source};
use crate::config::{Assignment, Text};
use crate::source::{Assigned, Control, Holds, Item};

/// Longer than a lane gets for anything but publishing.
const LONG: Duration = Duration::from_secs(6);

fn durable(host: &Host, assigned: &Assigned) {
    let partition = assigned.partition.clone();
    host.control.send(Control::Durable { partition, offset: 0, metadata: "{}".into() }).unwrap();
}

#[test]
fn membership_is_confirmed_again_while_nothing_comes() {
    let topic = Topic::new(1, &[]);
    let host = Host::start(source(&[&topic.name]), 1);
    let assigned = host.assigned(0);
    durable(&host, &assigned);
    // More than half of the session.
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert!(host.is_idle(Duration::from_millis(50)));
        assert_eq!(assigned.lease.holds(), Holds::Yes);
    }
    host.end().unwrap();
    assert_eq!(assigned.lease.holds(), Holds::Lost);
}

#[test]
fn slow_answer_confirms_the_membership_from_when_it_was_asked_for() {
    let brokers = Brokers::play();
    let mut source = brokers.source();
    source.config.client.properties.insert("session.timeout.ms".into(), Text::plain("3000"));
    let host = Host::start(source, 1);
    let partition = host.assigned(0).partition;
    // More than half of the session.
    for broker in [1, 2] {
        brokers.0.broker_round_trip_time(broker, Duration::from_millis(1700)).unwrap();
    }
    host.control.send(Control::ClaimAgain { partition }).unwrap();
    assert_eq!(host.assigned(0).lease.holds(), Holds::Unconfirmed);
    host.end().unwrap();
}

#[test]
fn rebalance_waits_for_what_is_being_published_and_no_longer() {
    let topic = Topic::new(1, &[]);
    let group = unique("g");
    let first = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let assigned = first.assigned(0);
    durable(&first, &assigned);
    let publishing = assigned.lease.publish().unwrap();
    // Which of the two has the partition afterwards is the group's to say.
    let second = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let Item::Revoked(partition) = first.next(0) else { panic!("not revoked") };
    assert_eq!(assigned.lease.publish().unwrap_err(), Holds::Lost);
    assert!(first.is_idle(LONG) && second.is_idle(Duration::from_millis(1)), "somebody else has it already");
    drop(publishing);
    first.control.send(Control::Released { partition }).unwrap();
    let end = Instant::now() + PATIENCE;
    let given = loop {
        assert!(Instant::now() < end, "nobody gets it");
        let mut items = [&first, &second].map(|host| host.lanes[0].take(BOUNDS, Duration::from_millis(20)).unwrap());
        if let Some(Item::Assigned(given)) = items.iter_mut().find(|item| matches!(item, Item::Assigned(_))) {
            break given.clone();
        }
    };
    assert!(given.lease != assigned.lease && given.lease.holds() == Holds::Yes);
    first.end().unwrap();
    second.end().unwrap();
}

/// Ends a source so, while something is published, and looks for this long whether it leaves the group.
fn stays_while_publishing(end: impl FnOnce(Host) + Send + 'static, time: Duration) {
    let topic = Topic::new(1, &[]);
    let mut client = client();
    client.properties.insert("session.timeout.ms".into(), Text::plain("25000"));
    let host = Host::start(of(client, &unique("g"), &[&topic.name], Assignment::Eager), 1);
    let assigned = host.assigned(0);
    durable(&host, &assigned);
    let publishing = assigned.lease.publish().unwrap();
    let ending = std::thread::spawn(move || end(host));
    let until = Instant::now() + time;
    while Instant::now() < until {
        assert!(!ending.is_finished(), "it has left");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    drop(publishing);
    ending.join().unwrap();
}

#[test]
fn leaving_the_group_waits_for_what_is_being_published() {
    // Longer than lanes get otherwise.
    stays_while_publishing(|host| host.end_without_release().unwrap(), Duration::from_secs(11));
}

#[test]
fn leaving_the_group_waits_for_what_the_lanes_have_given_up_to_publish() {
    stays_while_publishing(|host| host.end().unwrap(), Duration::from_secs(4));
    // Lanes that have ended before the source.
    stays_while_publishing(
        |host| {
            host.lanes[0].close();
            host.end_without_release().unwrap();
        },
        Duration::from_secs(4),
    );
}
