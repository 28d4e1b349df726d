//! What is published, on the real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod errors;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::testing::{Topic, broker, random_name, reached_at};
use super::*;
use crate::source::lease::{Leases, Moment};
use crate::source::{self, TopicPartition};

fn sink(client: &KafkaClient) -> Kafka {
    Kafka::open(client).unwrap()
}

fn key() -> LedgerKey {
    LedgerKey {
        pipeline: "orders".into(),
        partition: TopicPartition { topic: "db.public.orders".into(), partition: 3 },
    }
}

fn step(key: &LedgerKey) -> Step<'_> {
    Step { key, token: Token(7), from: 0, to: 1 << 30, epoch: 0, digest: "ab12", note: "" }
}

fn message(topic: &str, offset: u64, key: &str, value: impl Into<Vec<u8>>) -> Write<'static> {
    let (topic, key, value) = (topic.to_owned(), Some(key.as_bytes().to_vec()), Some(value.into()));
    publish(offset, Command::Publish { topic, key, value, headers: Vec::new() })
}

fn publish(offset: u64, command: Command) -> Write<'static> {
    Write { command: Cow::Owned(command), origins: vec![Origin { offset, transform: 1 }] }
}

fn declared(topics: &[&str]) -> Declared {
    Declared { topics: topics.iter().map(|topic| (*topic).to_owned()).collect(), ..Declared::default() }
}

fn header(name: &str, value: Option<&[u8]>) -> source::Header {
    source::Header { name: name.into(), value: value.map(<[u8]>::to_vec) }
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_that_kafka_keeps_for_itself_is_never_written() {
    let topic = Topic::make(1, &[]).await;
    let sink = sink(&broker());
    let key = key();
    for own in ["__consumer_offsets", "__transaction_state", "__other"] {
        assert!(sink.inspect("orders", &declared(&[own])).await.unwrap().faults[0].contains("Kafka's own"), "{own}");
        assert!(matches!(sink.prepare("orders", &declared(&[own])).await, Err(SinkError::Stop(_))), "{own}");
        let writes = [message(&topic.0, 1, "k", "v"), message(own, 2, "k", "v")];
        let Written::Rejected(bad) = sink.write(&step(&key), &writes).await.unwrap() else {
            panic!("{own} was written")
        };
        assert!(bad.len() == 1 && bad[0].index == 1 && bad[0].reason.contains(own), "{bad:?}");
    }
    assert!(topic.read().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_published_as_it_is_with_an_id_that_is_the_same_each_time() {
    let topic = Topic::make(1, &[]).await;
    let sink = sink(&broker());
    assert!(!sink.keeps_ledger());
    let headers =
        vec![header("h", Some(&[0xff, 0])), header("n", None), header("", Some(b"")), header("h", Some(b"2"))];
    let whole = |key: Option<&[u8]>, value: Option<&[u8]>, headers| Command::Publish {
        topic: topic.0.clone(),
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers,
    };
    let writes = [
        publish(41, whole(Some(b"k"), Some(b"v"), headers.clone())),
        publish(41, whole(Some(b"k"), None, vec![])),
        publish(43, whole(None, Some(b""), vec![])),
    ];
    let key = key();
    sink.prepare("orders", &declared(&[&topic.0])).await.unwrap();
    for _ in 0..2 {
        assert_eq!(sink.write(&step(&key), &writes).await.unwrap(), Written::Applied);
    }
    let lying = topic.read();
    let id = |id: &str| header(ID, Some(id.as_bytes()));
    assert_eq!(lying[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(lying[0].value(), "v");
    assert_eq!(lying[0].headers, [headers, vec![id("orders/db.public.orders-3@41/1/0")]].concat());
    assert_eq!((&lying[1].value, &lying[1].headers), (&None, &vec![id("orders/db.public.orders-3@41/1/1")]));
    assert_eq!((lying[2].key.as_ref(), lying[2].value()), (None, ""));
    assert_eq!(lying[2].headers, [id("orders/db.public.orders-3@43/1/0")]);
    assert_eq!(lying[..3], lying[3..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_key_lie_in_the_order_in_which_they_were_given() {
    const COUNT: u64 = 30_000;
    let topic = Topic::make(4, &[]).await;
    let sink = sink(&broker());
    let key = key();
    for half in [0..COUNT / 2, COUNT / 2..COUNT] {
        let writes: Vec<_> = half.map(|n| message(&topic.0, n, &format!("k{}", n % 100), n.to_string())).collect();
        assert_eq!(sink.write(&step(&key), &writes).await.unwrap(), Written::Applied);
    }
    let mut by_key: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
    let mut partitions = HashSet::new();
    for lying in topic.read() {
        partitions.insert(lying.partition);
        by_key.entry(lying.key.clone().unwrap()).or_default().push(lying.value().parse().unwrap());
    }
    assert_eq!(partitions.len(), 4);
    for n in 0..100 {
        let expected: Vec<u64> = (n..COUNT).step_by(100).collect();
        assert_eq!(by_key[format!("k{n}").as_bytes()], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_rejected_and_the_others_are_published_once() {
    let topic = Topic::make(1, &[("max.message.bytes", "2000000")]).await;
    let sink = sink(&broker());
    let key = key();
    let writes = [
        message(&topic.0, 1, "a", "first"),
        message(&topic.0, 2, "a", vec![b'x'; 3_000_000]),
        message(&topic.0, 3, "a", "third"),
        message(&topic.0, 4, "b", vec![b'y'; 1_500_000]),
    ];
    let Written::Rejected(bad) = sink.write(&step(&key), &writes).await.unwrap() else { panic!("it was taken") };
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].index, 1);
    assert!(bad[0].reason.contains("3000001 bytes") && bad[0].reason.contains("max.message.bytes"), "{bad:?}");
    let [first, _, third, fourth] = writes;
    assert_eq!(sink.write(&step(&key), &[first, third, fourth]).await.unwrap(), Written::Applied);
    let lying = topic.read();
    let values: Vec<_> = lying.iter().map(|lying| &lying.value()[..5]).collect();
    assert_eq!(values, ["first", "third", "yyyyy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_small_alone_are_no_worse_for_being_sent_together() {
    let topic = Topic::make(1, &[("max.message.bytes", "20000")]).await;
    let sink = sink(&broker());
    let key = key();
    let mut writes: Vec<_> = (0..40).map(|n| message(&topic.0, n, "k", format!("{n:09000}"))).collect();
    writes.insert(7, message(&topic.0, 100, "k", vec![b'x'; 30_000]));
    let Written::Rejected(bad) = sink.write(&step(&key), &writes).await.unwrap() else { panic!("all were taken") };
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [7]);
    let lying = topic.read();
    let mut last: Vec<_> = lying.iter().rev().map(|lying| lying.value().parse::<u64>().unwrap()).take(40).collect();
    last.reverse();
    assert_eq!(last, (0..40).collect::<Vec<_>>(), "the last of each is in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_takes_no_message_without_a_key() {
    let topic = Topic::make(1, &[("cleanup.policy", "compact")]).await;
    let sink = sink(&broker());
    let bare = Command::Publish { topic: topic.0.clone(), key: None, value: Some(b"v".to_vec()), headers: vec![] };
    let writes = [message(&topic.0, 1, "a", "first"), publish(2, bare), message(&topic.0, 3, "a", "third")];
    let key = key();
    let Written::Rejected(bad) = sink.write(&step(&key), &writes).await.unwrap() else { panic!("it was taken") };
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1]);
    assert!(bad[0].reason.contains("without a key"), "{bad:?}");
    assert_eq!(topic.read().iter().map(|lying| lying.value().to_owned()).next_back().unwrap(), "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_found_before_the_first_message_and_stops_a_write() {
    let there = Topic::make(1, &[]).await;
    let missing = random_name("missing");
    let sink = sink(&broker());
    let findings = sink.inspect("p", &declared(&[&there.0, &missing])).await.unwrap().faults;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(&missing) && findings[0].contains("create it"), "{findings:?}");
    let stopped = |error: SinkError| matches!(&error, SinkError::Stop(text) if text.contains(&missing));
    assert!(stopped(sink.prepare("orders", &declared(&[&missing])).await.unwrap_err()));
    assert!(stopped(sink.write(&step(&key()), &[message(&missing, 1, "k", "v")]).await.unwrap_err()));
    // Nothing has made it by asking for it.
    assert_eq!(sink.inspect("p", &declared(&[&missing])).await.unwrap().faults.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for() {
    let sink = sink(&reached_at("127.0.0.1:1", &[("message.timeout.ms", "1000")]));
    let retry = |error: SinkError| matches!(error, SinkError::Retry(text) if text.contains("Connection refused"));
    let started = Instant::now();
    assert!(retry(sink.write(&step(&key()), &[message("t", 1, "k", "v")]).await.unwrap_err()));
    assert!(started.elapsed() < Duration::from_secs(20), "it takes no account of the property");
    assert!(retry(sink.prepare("orders", &declared(&["t"])).await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_not_published_again_by_the_next_try() {
    let topic = Topic::make(1, &[]).await;
    let missing = random_name("missing");
    let sink = sink(&broker());
    let key = key();
    let writes = [message(&topic.0, 1, "a", "first"), message(&missing, 2, "a", "second")];
    for _ in 0..2 {
        sink.write(&step(&key), &writes).await.unwrap_err();
    }
    assert_eq!(topic.read().len(), 1);
    // Another claim, or another module, knows nothing of it.
    let claim = Step { token: Token(8), ..step(&key) };
    let module = Step { digest: "cd34", ..claim.clone() };
    for (other, messages) in [(claim, 2), (module, 3)] {
        sink.write(&other, &writes).await.unwrap_err();
        assert_eq!(topic.read().len(), messages, "{other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_on_under_a_lease_that_is_lost() {
    let topic = Topic::make(1, &[]).await;
    let sink = sink(&broker());
    // Of a partition that the group has not given.
    let lost = Leases::default().of(&key().partition);
    let written = sink.publish(&step(&key()), &[message(&topic.0, 1, "k", "v")], &lost).await;
    assert!(matches!(written, Err(SinkError::Retry(_))), "{written:?}");
    assert!(topic.read().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_is_held_until_messages_that_nobody_waits_for_have_been_sent_or_have_failed() {
    let sink = sink(&reached_at("127.0.0.1:1", &[("message.timeout.ms", "3000")]));
    let key = key();
    let leases = Leases::lasting(Duration::from_secs(600));
    leases.membership.confirm(Moment::now());
    leases.begin(std::slice::from_ref(&key.partition));
    let lease = leases.of(&key.partition);
    let (step, writes) = (step(&key), [message("t", 1, "k", "v")]);
    // Whoever stops waits no longer.
    tokio::select! {
        biased;
        answer = sink.publish(&step, &writes, &lease) => panic!("{answer:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(lease.is_publishing(), "the message may still come");
    let until = Instant::now() + Duration::from_secs(60);
    while lease.is_publishing() {
        assert!(Instant::now() < until, "it is held for ever");
        tokio::task::yield_now().await;
    }
}

#[test]
fn equal_settings_share_a_producer() {
    let one = Producer::shared(&reached_at("127.0.0.1:1", &[])).unwrap();
    let same = Producer::shared(&reached_at("127.0.0.1:1", &[])).unwrap();
    let other = Producer::shared(&reached_at("127.0.0.1:1", &[("linger.ms", "5")])).unwrap();
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_named_without_its_value() {
    let wrong = reached_at("127.0.0.1:1", &[("linger.mss", "hunter2")]);
    let error = Producer::shared(&wrong).err().unwrap().to_string();
    assert!(error.contains("`linger.mss`") && !error.contains("hunter2"), "{error}");
}
