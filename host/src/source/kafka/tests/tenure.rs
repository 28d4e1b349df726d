//! What the group keeps while a partition goes and comes back: nothing of before takes the place of what is newer.

use std::sync::atomic::AtomicBool;

use super::cluster::{Topic, unique};
use super::errors::{Brokers, commits, is_given_anew};
use super::host::Host;
use super::in_group;
use crate::config::Assignment;
use crate::source::{Committed, Control, Item};
use rdkafka::types::RDKafkaApiKey::Heartbeat;
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;

#[test]
fn claim_right_behind_a_durable_batch_is_told_of_it() {
    let topic = Topic::new(1, &[]);
    topic.produce(0, (0..100).map(|number| number.to_string()));
    let group = unique("g");
    let host = Host::start(in_group(&group, &[&topic.name], Assignment::Eager), 1);
    let partition = host.assigned(0).partition;
    for offset in 1..20 {
        let metadata = format!("at {offset}");
        let durable = Control::Durable { partition: partition.clone(), offset, metadata: metadata.clone() };
        host.control.send(durable).unwrap();
        host.control.send(Control::ClaimAgain { partition: partition.clone() }).unwrap();
        assert_eq!(host.assigned(0).committed, Some(Committed { offset, metadata }));
        assert_eq!(topic.committed(&group), i64::try_from(offset).ok());
    }
    host.end().unwrap();
}

#[test]
fn durable_batch_of_a_tenure_that_has_ended_is_not_committed() {
    let brokers = Brokers::play();
    let (host, partition) = brokers.serve_a_hundred();
    commits(&brokers, &host, &partition, 50, "newest");
    // The group puts the member out, and gives it the partition once more before its lane has let go.
    brokers.0.request_errors(Heartbeat, &[RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    let assigned = loop {
        match host.next(0) {
            Item::Assigned(assigned) => break assigned,
            Item::Revoked(_) | Item::Reached { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(assigned.committed, Some(Committed { offset: 50, metadata: "newest".into() }));
    let stale = Control::Durable { partition: partition.clone(), offset: 40, metadata: "of before".into() };
    host.control.send(stale).unwrap();
    host.control.send(Control::Released { partition: partition.clone() }).unwrap();
    host.control.send(Control::ClaimAgain { partition: partition.clone() }).unwrap();
    assert_eq!(host.assigned(0).committed, Some(Committed { offset: 50, metadata: "newest".into() }));
    // It is the lane's again.
    commits(&brokers, &host, &partition, 60, "of now");
    brokers.0.request_errors(Heartbeat, &[RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    let again = is_given_anew(&host, &partition);
    assert_eq!(again.committed, Some(Committed { offset: 60, metadata: "of now".into() }));
    host.end().unwrap();
}

#[test]
fn claim_of_a_lane_that_says_nothing_is_taken_back_when_the_partition_is_let_go_of() {
    let brokers = Brokers::play();
    brokers.produce(0..1);
    let source = || brokers.source().counting(|metadata, counted| format!("{metadata}{counted:?} "));
    let host = Host::start(source(), 1);
    assert_eq!(host.assigned(0).committed, Some(Committed { offset: 0, metadata: "Claim ".into() }));
    host.end().unwrap();
    assert_eq!(source().committed(&AtomicBool::new(false)).unwrap(), ["Claim Survived "]);
}
