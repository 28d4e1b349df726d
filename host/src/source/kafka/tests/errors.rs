//! What brokers answer with an error, request by request. A real one cannot be made to, so these are the brokers that
//! librdkafka plays for tests: they speak the protocol over loopback.

use std::sync::atomic::AtomicBool;

use rdkafka::ClientConfig;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaApiKey::{
    self as Request, Fetch, FindCoordinator, Heartbeat, JoinGroup, ListOffsets, Metadata, OffsetCommit, OffsetFetch,
    SyncGroup,
};
use rdkafka::types::RDKafkaRespErr::{self as Answer, *};

use super::cluster::{PATIENCE, reached_at};
use super::host::Host;
use super::{KafkaSource, of};
use crate::config::{Assignment, Text};
use crate::source::{Assigned, Control, Item, TopicPartition};

pub(super) const TOPIC: &str = "t";
const GROUP: &str = "g";

/// The connection ends, and the request is not answered.
const HANGS_UP: Answer = RD_KAFKA_RESP_ERR__TRANSPORT;

/// Two brokers, and a topic of one partition that the first one leads.
pub(super) struct Brokers(pub(super) MockCluster<'static, DefaultProducerContext>);

impl Brokers {
    pub(super) fn play() -> Self {
        let cluster = MockCluster::new(2).unwrap();
        cluster.create_topic(TOPIC, 1, 2).unwrap();
        cluster.partition_leader(TOPIC, 0, Some(1)).unwrap();
        cluster.coordinator(MockCoordinator::Group(GROUP.into()), 1).unwrap();
        Self(cluster)
    }

    /// The next requests of this kind are answered so, one after the other, whoever makes them.
    fn answer(&self, request: Request, answers: &[Answer]) {
        self.0.request_errors(request, answers);
    }

    pub(super) fn source(&self) -> KafkaSource {
        of(reached_at(self.0.bootstrap_servers()), GROUP, &[TOPIC], Assignment::Eager)
    }

    /// A source that has taken the first hundred records.
    pub(super) fn serve_a_hundred(&self) -> (Host, TopicPartition) {
        self.produce(0..100);
        let host = Host::start(self.source(), 1);
        let partition = host.assigned(0).partition;
        host.begin(&partition, 0, 1);
        takes(&host, 0..100);
        (host, partition)
    }

    pub(super) fn produce(&self, offsets: std::ops::Range<u32>) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", self.0.bootstrap_servers()).create().unwrap();
        for offset in offsets {
            assert!(producer.send(BaseRecord::to(TOPIC).key("k").payload(&offset.to_string())).is_ok());
        }
        producer.flush(PATIENCE).unwrap();
    }
}

/// Tries cases beside each other: a group takes some seconds to come up.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    let run = &run;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || run(case));
        }
    });
}

/// Takes the records of these offsets: each once, in order.
pub(super) fn takes(host: &Host, offsets: std::ops::Range<u64>) {
    let taken = host.records(0, usize::try_from(offsets.end - offsets.start).unwrap());
    let taken: Vec<_> = taken.iter().map(|record| (record.offset, record.value.clone().unwrap())).collect();
    let expected: Vec<_> = offsets.map(|offset| (offset, offset.to_string().into_bytes())).collect();
    assert_eq!(taken, expected);
}

/// Plays the lane until the partition is assigned anew, as the group does it: revoked, released, assigned.
pub(super) fn is_given_anew(host: &Host, partition: &TopicPartition) -> Assigned {
    let mut revoked = false;
    loop {
        match host.next(0) {
            Item::Revoked(of) => {
                assert_eq!(of, *partition);
                revoked = true;
                host.control.send(Control::Released { partition: of }).unwrap();
            }
            Item::Assigned(assigned) => {
                assert!(revoked, "it was never taken back");
                return assigned;
            }
            Item::Reached { .. } => {}
            other => panic!("of a partition that the group has taken back: {other:?}"),
        }
    }
}

/// Commits, and waits until a new member would be told so.
pub(super) fn commits(brokers: &Brokers, host: &Host, partition: &TopicPartition, offset: u64, metadata: &str) {
    let durable = Control::Durable { partition: partition.clone(), offset, metadata: metadata.into() };
    host.control.send(durable).unwrap();
    let until = std::time::Instant::now() + PATIENCE;
    while brokers.source().committed(&AtomicBool::new(false)).unwrap() != [metadata] {
        assert!(std::time::Instant::now() < until, "{metadata} is never committed");
    }
}

#[test]
fn whatever_request_of_a_start_fails_for_now_is_made_again() {
    let brokers = Brokers::play();
    brokers.produce(0..100);
    for (request, answers) in [
        (Metadata, &[HANGS_UP][..]),
        (FindCoordinator, &[RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, HANGS_UP]),
        (
            JoinGroup,
            &[
                RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                HANGS_UP,
            ],
        ),
        (SyncGroup, &[RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, HANGS_UP]),
        (ListOffsets, &[RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, HANGS_UP]),
        (
            OffsetFetch,
            &[RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT, HANGS_UP],
        ),
        (OffsetCommit, &[RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, HANGS_UP]),
    ] {
        brokers.answer(request, answers);
    }
    let host = Host::start(brokers.source(), 1);
    let assigned = host.assigned(0);
    assert_eq!((assigned.log_start, assigned.log_end), (0, Some(100)));
    host.begin(&assigned.partition, 0, 1);
    takes(&host, 0..100);
    host.end().unwrap();
}

#[test]
fn a_fetch_that_fails_for_now_is_made_again_and_each_record_comes_once() {
    let brokers = Brokers::play();
    let (host, _) = brokers.serve_a_hundred();
    for (round, answer) in (1..).zip([
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_UNKNOWN,
        HANGS_UP,
    ]) {
        brokers.answer(Fetch, &[answer, answer]);
        brokers.produce(round * 100..(round + 1) * 100);
        takes(&host, u64::from(round) * 100..u64::from(round + 1) * 100);
    }
    host.end().unwrap();
}

#[test]
fn an_offset_that_a_broker_says_is_out_of_range_has_the_partition_claimed_again() {
    let brokers = Brokers::play();
    brokers.produce(0..100);
    let host = Host::start(brokers.source(), 1);
    let partition = host.assigned(0).partition;
    brokers.answer(Fetch, &[RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE]);
    host.begin(&partition, 40, 1);
    let assigned = host.assigned(0);
    assert_eq!((assigned.log_start, assigned.log_end), (0, Some(100)), "the lane decides by what there is");
    host.begin(&partition, 40, 2);
    takes(&host, 40..100);
    host.end().unwrap();
}

#[test]
fn a_partition_whose_leader_and_group_whose_coordinator_move_go_on() {
    let brokers = Brokers::play();
    let (host, partition) = brokers.serve_a_hundred();
    brokers.0.partition_leader(TOPIC, 0, Some(2)).unwrap();
    brokers.produce(100..200);
    takes(&host, 100..200);
    brokers.0.coordinator(MockCoordinator::Group(GROUP.into()), 2).unwrap();
    commits(&brokers, &host, &partition, 200, "moved");
    host.end().unwrap();
}

#[test]
fn a_member_that_the_group_has_put_out_claims_anew_and_gives_nothing_in_between() {
    let brokers = Brokers::play();
    let (host, mut partition) = brokers.serve_a_hundred();
    let put_out = [
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ];
    for (claim, answer) in (2..).zip(put_out) {
        brokers.answer(Heartbeat, &[answer]);
        partition = is_given_anew(&host, &partition).partition;
        host.begin(&partition, 50, claim);
        takes(&host, 50..100);
    }
    host.end().unwrap();
}

#[test]
fn a_commit_that_the_group_refuses_is_made_by_the_next_claim() {
    let brokers = Brokers::play();
    brokers.produce(0..100);
    let host = Host::start(brokers.source(), 1);
    let partition = host.assigned(0).partition;
    for (offset, answer) in (1..).zip([
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        HANGS_UP,
    ]) {
        brokers.answer(OffsetCommit, &[answer, answer]);
        commits(&brokers, &host, &partition, offset, &format!("after {answer:?}"));
    }
    for answer in [RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID] {
        brokers.answer(OffsetCommit, &[answer]);
        let stale =
            Control::Durable { partition: partition.clone(), offset: 90, metadata: "of a claim that went".into() };
        host.control.send(stale).unwrap();
        is_given_anew(&host, &partition);
        commits(&brokers, &host, &partition, 70, &format!("after {answer:?}"));
    }
    host.end().unwrap();
}

#[test]
fn commits_that_fail_are_made_again_though_nothing_more_becomes_durable() {
    let brokers = Brokers::play();
    brokers.0.create_topic("u", 1, 2).unwrap();
    let source = || of(reached_at(brokers.0.bootstrap_servers()), GROUP, &[TOPIC, "u"], Assignment::Eager);
    let host = Host::start(source(), 1);
    let partitions = [host.assigned(0).partition, host.assigned(0).partition];
    // Whether the two are one commit or two, both are refused.
    brokers.answer(OffsetCommit, &[RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE; 2]);
    for partition in partitions {
        host.control.send(Control::Durable { partition, offset: 7, metadata: "seven".into() }).unwrap();
    }
    let until = std::time::Instant::now() + PATIENCE;
    while source().committed(&AtomicBool::new(false)).unwrap() != ["seven", "seven"] {
        assert!(std::time::Instant::now() < until, "they are never committed");
    }
    host.end().unwrap();
}

#[test]
fn a_claim_is_not_given_while_the_group_does_not_take_this_process_for_the_owner() {
    let brokers = Brokers::play();
    let host = Host::start(brokers.source(), 1);
    let partition = host.assigned(0).partition;
    for answer in [RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID] {
        // The commit that would prove it is refused: the group has gone on without this process.
        brokers.answer(OffsetCommit, &[answer]);
        host.control.send(Control::ClaimAgain { partition: partition.clone() }).unwrap();
        is_given_anew(&host, &partition);
    }
    host.end().unwrap();
}

#[test]
fn who_has_taken_the_instance_is_told_by_each_request_that_may_say_so() {
    at_once([JoinGroup, SyncGroup, Heartbeat, OffsetCommit], |request| {
        let brokers = Brokers::play();
        let mut source = brokers.source();
        source.config.instance = Some(Text::plain("one"));
        brokers.answer(request, &[RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
        let ended = format!("{:#}", Host::start(source, 1).ended().unwrap_err());
        assert!(ended.contains("`instance` of its own"), "{request:?}: {ended}");
    });
}

#[test]
fn what_this_user_may_not_do_ends_the_source_with_the_right_to_grant() {
    let group = (RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "READ the group");
    let topic = (RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "READ and DESCRIBE the topic");
    let cases = [
        (FindCoordinator, group),
        (JoinGroup, group),
        (OffsetFetch, group),
        (OffsetCommit, group),
        (ListOffsets, topic),
        (OffsetCommit, topic),
        (Fetch, topic),
    ];
    at_once(cases, |(request, (answer, right))| {
        let brokers = Brokers::play();
        // Both clients of a source look for the coordinator, and only one of them needs it.
        brokers.answer(request, &[answer; 10]);
        let host = Host::start(brokers.source(), 1);
        if let Fetch = request {
            host.begin(&host.assigned(0).partition, 0, 1);
        }
        let ended = format!("{:#}", host.ended().unwrap_err());
        assert!(ended.contains(right), "{request:?} {answer:?}: {ended}");
    });
}

#[test]
fn what_the_group_has_committed_is_read_through_requests_that_fail_for_now() {
    let brokers = Brokers::play();
    let host = Host::start(brokers.source(), 1);
    commits(&brokers, &host, &host.assigned(0).partition, 0, "kept");
    host.end().unwrap();
    for (request, answers) in [
        (Metadata, &[HANGS_UP][..]),
        (FindCoordinator, &[RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, HANGS_UP]),
        (
            OffsetFetch,
            &[
                RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT,
                HANGS_UP,
            ],
        ),
    ] {
        brokers.answer(request, answers);
        assert_eq!(brokers.source().committed(&AtomicBool::new(false)).unwrap(), ["kept"], "{request:?}");
    }
    brokers.answer(OffsetFetch, &[RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    let refused = format!("{:#}", brokers.source().committed(&AtomicBool::new(false)).unwrap_err());
    assert!(refused.contains("READ the group"), "{refused}");
}
