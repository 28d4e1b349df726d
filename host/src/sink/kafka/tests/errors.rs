//! What brokers answer to a message with an error. A real one cannot be made to, so these are the brokers that
//! librdkafka plays for tests: they speak the protocol over loopback.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey::{InitProducerId, Produce};
use rdkafka::types::RDKafkaRespErr::{self as Answer, *};

use super::super::testing::read;
use super::*;

const TOPIC: &str = "t";

/// The connection ends, and the request is not answered.
const HANGS_UP: Answer = RD_KAFKA_RESP_ERR__TRANSPORT;

/// Two brokers, and a topic of one partition that the first one leads.
fn brokers() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(2).unwrap();
    cluster.create_topic(TOPIC, 1, 2).unwrap();
    cluster.partition_leader(TOPIC, 0, Some(1)).unwrap();
    cluster
}

fn of(brokers: &MockCluster<'static, DefaultProducerContext>) -> Kafka {
    sink(&reached_at(&brokers.bootstrap_servers(), &[("topic.metadata.refresh.interval.ms", "500")]))
}

fn messages(offsets: std::ops::Range<u64>) -> Vec<Write<'static>> {
    offsets.map(|offset| message(TOPIC, offset, "k", offset.to_string())).collect()
}

fn lying(brokers: &MockCluster<'static, DefaultProducerContext>) -> Vec<u64> {
    read(&brokers.bootstrap_servers(), TOPIC).iter().map(|lying| lying.value().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_for_now_is_sent_again_and_lies_there_once_and_in_order() {
    let brokers = brokers();
    let sink = of(&brokers);
    let key = key();
    for (sent, answer) in (0..).zip([
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        HANGS_UP,
    ]) {
        // One at a time: these brokers take a message of which the one before was refused, as no real one does with an
        // idempotent producer, to which that would say that both are there.
        brokers.request_errors(Produce, &[answer, answer]);
        let written = sink.write(&step(&key), &messages(sent..sent + 1)).await;
        assert_eq!(written.unwrap(), Written::Applied, "{answer:?}");
    }
    assert_eq!(lying(&brokers), (0..7).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_leader_moves_is_waited_for() {
    let brokers = brokers();
    let sink = of(&brokers);
    let key = key();
    assert_eq!(sink.write(&step(&key), &messages(0..10)).await.unwrap(), Written::Applied);
    brokers.partition_leader(TOPIC, 0, Some(2)).unwrap();
    assert_eq!(sink.write(&step(&key), &messages(10..20)).await.unwrap(), Written::Applied);
    assert_eq!(lying(&brokers), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_user_may_not_do_stops() {
    for (request, answer) in [
        (Produce, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (Produce, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED),
        (InitProducerId, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED),
    ] {
        let brokers = brokers();
        brokers.request_errors(request, &[answer; 3]);
        let sink = of(&brokers);
        let key = key();
        let denied = sink.write(&step(&key), &messages(0..10)).await.unwrap_err();
        let right = |text: &str| text.contains(TOPIC) && text.contains("Write and Describe");
        assert!(matches!(&denied, SinkError::Stop(text) if right(text)), "{request:?}: {denied}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_the_brokers_have_forgotten_is_replaced_and_no_message_is_missing() {
    for answer in [
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    ] {
        let brokers = brokers();
        let sink = of(&brokers);
        let key = key();
        assert_eq!(sink.write(&step(&key), &messages(0..10)).await.unwrap(), Written::Applied);
        brokers.request_errors(Produce, &[answer]);
        match sink.write(&step(&key), &messages(10..11)).await {
            Ok(written) => assert_eq!(written, Written::Applied, "{answer:?}"),
            Err(SinkError::Retry(_)) => {
                assert_eq!(sink.write(&step(&key), &messages(10..11)).await.unwrap(), Written::Applied, "{answer:?}");
            }
            Err(failed) => panic!("{answer:?}: {failed}"),
        }
        assert_eq!(lying(&brokers), (0..11).collect::<Vec<_>>(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_behind_a_refused_one_of_its_key_is_published_again_behind_it() {
    let brokers = brokers();
    // Each message is a batch: the first is refused by itself, and the others are taken.
    let properties = [("batch.num.messages", "1"), ("topic.metadata.refresh.interval.ms", "500")];
    let sink = sink(&reached_at(&brokers.bootstrap_servers(), &properties));
    let key = key();
    assert_eq!(sink.write(&step(&key), &messages(0..1)).await.unwrap(), Written::Applied);
    brokers.request_errors(Produce, &[RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    assert_eq!(sink.write(&step(&key), &messages(1..4)).await.unwrap(), Written::Applied);
    let lying = lying(&brokers);
    assert_eq!(lying[lying.len() - 3..], [1, 2, 3], "{lying:?}");
}
