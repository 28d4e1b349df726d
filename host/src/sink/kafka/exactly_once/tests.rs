//! What is published in transactions, on the real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::borrow::Cow;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use rdkafka::message::OwnedHeaders;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaApiKey::{AddPartitionsToTxn, EndTxn};
use rdkafka::types::RDKafkaRespErr::*;

use super::testing::KafkaBench;
use super::write::GRACE;
use super::*;
use crate::command::Command;
use crate::command::collapse::Origin;
use crate::sink::kafka::producer::Outgoing;
use crate::sink::kafka::testing::{Topic, random_name, reached_at};
use crate::sink::testing::service;
use crate::source::TopicPartition;

fn key() -> LedgerKey {
    LedgerKey { pipeline: "orders".into(), partition: TopicPartition { topic: "db.orders".into(), partition: 3 } }
}

fn message(topic: &str, offset: u64, key: Option<&str>, value: impl Into<Vec<u8>>) -> Write<'static> {
    let key = key.map(|key| key.as_bytes().to_vec());
    let command = Command::Publish { topic: topic.to_owned(), key, value: Some(value.into()), headers: Vec::new() };
    Write { command: Cow::Owned(command), origins: vec![Origin { offset, transform: 0 }] }
}

fn step(key: &LedgerKey, token: u128, from: u64, to: u64) -> Step<'_> {
    Step { key, token: Token(token), from, to, epoch: 0, digest: "d", note: "" }
}

/// A sink that has claimed its partition under token 1.
async fn claimed(bench: &KafkaBench) -> ExactlyOnce {
    let sink = bench.sink();
    sink.prepare("orders", &Declared::default()).await.unwrap();
    sink.claim(&key(), Token(1), 0).await.unwrap();
    sink
}

/// Leaves a transaction open as a process does that is killed behind its last message, or that is slow.
async fn die_in_a_transaction(bench: &KafkaBench, key: &LedgerKey, value: &str) -> Transactional {
    let entry = Key::row("events", key);
    let producer =
        Transactional::open(&crate::sink::kafka::testing::broker(), &entry.transactional_id(&bench.ledger.0))
            .await
            .unwrap();
    producer.begin().unwrap();
    let out = |topic: &str, key: &str, value: &str| -> (String, String, String) {
        (topic.to_owned(), key.to_owned(), value.to_owned())
    };
    let row = entry::json(&Row::claimed(None, Token(99), 1_000));
    let all = [out(&bench.topic.0, "k", value), out(&bench.ledger.0, &entry::json(&entry), &row)];
    let all = all.iter().map(|(topic, key, value)| Outgoing {
        topic,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        headers: OwnedHeaders::new(),
    });
    assert!(producer.send(all).await.unwrap().is_empty());
    producer
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_of_a_process_that_died_is_never_seen_and_its_batch_comes_once() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    let key = key();
    let topic = bench.topic.0.as_str();
    assert_eq!(sink.write(&step(&key, 1, 0, 5), &[message(topic, 1, Some("k"), "a")]).await.unwrap(), Written::Applied);
    drop(sink);
    drop(die_in_a_transaction(&bench, &key, "b").await);
    assert_eq!(bench.committed(), ["a"]);
    let next = bench.sink();
    let standing = next.claim(&key, Token(2), 0).await.unwrap();
    assert_eq!((standing.next, standing.known), (5, true));
    let again = [message(topic, 5, Some("k"), "b")];
    assert_eq!(next.write(&step(&key, 2, 5, 6), &again).await.unwrap(), Written::Applied);
    bench.settle();
    assert_eq!(bench.committed(), ["a", "b"]);
    assert_eq!(bench.all(), ["a", "b", "b"], "what it left is in the topic, and aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_others_left_open_hold_up_a_claim_for_a_moment() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    for partition in 10..13 {
        let partition = TopicPartition { topic: "db.orders".into(), partition };
        drop(die_in_a_transaction(&bench, &LedgerKey { pipeline: "orders".into(), partition }, "lost").await);
    }
    let begun = Instant::now();
    let other = bench.sink();
    assert_eq!(other.claim(&key(), Token(2), 0).await.unwrap().next, 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited for the brokers: {:?}", begun.elapsed());
    let key = key();
    assert_eq!(sink.write(&step(&key, 1, 0, 1), &[]).await.unwrap(), Written::Fenced);
    bench.settle();
    assert_eq!(bench.committed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn zombie_writes_nothing_and_does_not_disturb_the_owner() {
    let bench = KafkaBench::new();
    let (zombie, owner) = (claimed(&bench).await, bench.sink());
    let key = key();
    owner.claim(&key, Token(2), 0).await.unwrap();
    let topic = bench.topic.0.as_str();
    for offset in 0..4 {
        let stale = [message(topic, offset, Some("k"), "stale")];
        assert_eq!(zombie.write(&step(&key, 1, 0, offset + 1), &stale).await.unwrap(), Written::Fenced);
        // It would take a second and more if its producer were fenced.
        let begun = Instant::now();
        let fresh = [message(topic, offset, Some("k"), offset.to_string())];
        assert_eq!(owner.write(&step(&key, 2, offset, offset + 1), &fresh).await.unwrap(), Written::Applied);
        assert!(begun.elapsed() < GRACE, "it was fenced");
    }
    assert_eq!(zombie.positions(from_ref(&key)).await.unwrap(), [Some((Token(2), 4))]);
    bench.settle();
    assert_eq!(bench.committed(), ["0", "1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_that_is_fenced_by_no_claim_goes_on() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    let key = key();
    for offset in 0..3 {
        let id = Key::row("events", &key).transactional_id(&bench.ledger.0);
        drop(Transactional::open(&crate::sink::kafka::testing::broker(), &id).await.unwrap());
        let one = [message(&bench.topic.0, offset, Some("k"), offset.to_string())];
        assert_eq!(sink.write(&step(&key, 1, offset, offset + 1), &one).await.unwrap(), Written::Applied);
    }
    bench.settle();
    assert_eq!(bench.committed(), ["0", "1", "2"]);
}

/// A write that is cut off anywhere, as between the commit and its answer, and given again.
#[tokio::test(flavor = "multi_thread")]
async fn write_whose_answer_is_lost_is_done_once() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    let (key, topic) = (key(), bench.topic.0.as_str());
    let mut next = 0;
    for number in 0..30 {
        // Every third leaves the offset where it is, and changes the note alone.
        let (from, to) = (next, if number % 3 == 2 { next } else { next + 2 });
        next = to;
        let note = number.to_string();
        let step = Step { note: &note, ..step(&key, 1, from, to) };
        let writes = [message(topic, from, Some("k"), number.to_string())];
        let cut = Duration::from_micros(u64::from(getrandom::u32().unwrap() % 30_000));
        if tokio::time::timeout(cut, sink.write(&step, &writes)).await.is_err() {
            let written = sink.write(&step, &writes).await.unwrap();
            assert!(matches!(written, Written::Applied | Written::AlreadyApplied), "{written:?}");
        }
    }
    bench.settle();
    assert_eq!(bench.committed(), (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_topic_is_never_published_to() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    let key = key();
    for own in [bench.ledger.0.as_str(), "__consumer_offsets"] {
        let writes = [message(&bench.topic.0, 0, Some("k"), "v"), message(own, 1, Some("k"), "v")];
        let Written::Rejected(bad) = sink.write(&step(&key, 1, 0, 2), &writes).await.unwrap() else { panic!("{own}") };
        assert!(bad.len() == 1 && bad[0].index == 1 && bad[0].reason.contains(own), "{bad:?}");
    }
    let good = message(&bench.topic.0, 0, Some("k"), "v");
    assert_eq!(sink.write(&step(&key, 1, 0, 2), &[good]).await.unwrap(), Written::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_is_too_large_is_rejected_and_the_rest_is_written() {
    let bench = KafkaBench::with(&[("max.message.bytes", "20000"), ("cleanup.policy", "compact")]);
    let sink = claimed(&bench).await;
    let (key, topic) = (key(), bench.topic.0.as_str());
    let mut writes: Vec<_> = (0..40).map(|n| message(topic, n, Some("k"), format!("{n:09000}"))).collect();
    writes.insert(7, message(topic, 100, Some("k"), vec![b'x'; 30_000]));
    writes.insert(20, message(topic, 101, Some("k"), vec![b'x'; 1_200_000]));
    writes.insert(30, message(topic, 102, None, "no key, and the topic is compacted"));
    let Written::Rejected(bad) = sink.write(&step(&key, 1, 0, 200), &writes).await.unwrap() else { panic!("taken") };
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [7, 20, 30], "{bad:?}");
    assert!(bad[0].reason.contains("max.message.bytes") && bad[2].reason.contains("without a key"), "{bad:?}");
    assert_eq!(sink.positions(from_ref(&key)).await.unwrap(), [Some((Token(1), 0))]);
    bench.settle();
    assert_eq!(bench.committed(), [""; 0]);
    for index in [30, 20, 7] {
        writes.remove(index);
    }
    assert_eq!(sink.write(&step(&key, 1, 0, 200), &writes).await.unwrap(), Written::Applied);
    bench.settle();
    let values: Vec<u64> = bench.committed().iter().map(|value| value.parse().unwrap()).collect();
    assert_eq!(values, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_that_is_missing_stops_a_write_and_nothing_of_it_is_seen() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    let (key, missing) = (key(), random_name("missing"));
    let writes = [message(&bench.topic.0, 1, Some("k"), "a"), message(&missing, 2, Some("k"), "b")];
    let answer = sink.write(&step(&key, 1, 0, 3), &writes).await;
    let Err(SinkError::Stop(text)) = answer else { panic!("{answer:?}") };
    assert!(text.contains(&missing), "{text}");
    let [first, _] = writes;
    assert_eq!(sink.write(&step(&key, 1, 0, 3), &[first]).await.unwrap(), Written::Applied);
    bench.settle();
    assert_eq!(bench.committed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_that_cannot_hold_a_ledger_is_refused_with_the_remedy() {
    for (partitions, policy, remedy) in
        [(2, "compact", "must have one"), (1, "delete", "--add-config"), (1, "compact,delete", "--add-config")]
    {
        let ledger = Topic::make(partitions, &[("cleanup.policy", policy)]).await;
        let options = Options {
            name: "events".into(),
            client: crate::sink::kafka::testing::broker(),
            ledger_topic: ledger.0.clone(),
        };
        let sink = ExactlyOnce::open(options).unwrap();
        let Err(SinkError::Stop(text)) = sink.prepare("p", &Declared::default()).await else { panic!("{policy}") };
        assert!(text.contains(remedy) && text.contains(&ledger.0), "{text}");
        assert_eq!(sink.inspect("p", &Declared::default()).await.unwrap().faults, [text]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn look_says_what_is_missing_and_changes_nothing() {
    let bench = KafkaBench::new();
    let sink = bench.sink();
    let found = sink.inspect("orders", &Declared::default()).await.unwrap();
    assert_eq!((found.faults.len(), found.notes.len()), (0, 1), "{found:?}");
    assert!(found.notes[0].contains("the first start creates it"), "{found:?}");
    assert!(!sink.knows("orders").await.unwrap());
    let ledger = Declared { topics: vec![bench.ledger.0.clone()], ..Declared::default() };
    sink.prepare("orders", &Declared::default()).await.unwrap();
    assert!(sink.knows("orders").await.unwrap());
    assert_eq!(sink.inspect("orders", &Declared::default()).await.unwrap(), Inspection::default());
    let found = sink.inspect("orders", &ledger).await.unwrap();
    assert!(found.faults[0].contains("holds the ledger"), "{found:?}");
    // The brokers take fifteen minutes at the most.
    let client = reached_at(&service("kafka"), &[("transaction.timeout.ms", "3600000")]);
    let long = ExactlyOnce::open(Options { name: "events".into(), client, ledger_topic: bench.ledger.0.clone() });
    let found = long.unwrap().inspect("orders", &Declared::default()).await.unwrap();
    assert!(found.faults[0].contains("transaction.max.timeout.ms"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_topic_that_is_deleted_is_told_and_not_made_up_for() {
    let bench = KafkaBench::new();
    let sink = claimed(&bench).await;
    let key = key();
    assert_eq!(sink.write(&step(&key, 1, 0, 1), &[]).await.unwrap(), Written::Applied);
    let admin: rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", service("kafka")).create().unwrap();
    admin.delete_topics(&[&bench.ledger.0], &rdkafka::admin::AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let begun = Instant::now();
    loop {
        match sink.positions(from_ref(&key)).await {
            Ok(positions) if positions == [None] => break,
            answer => assert!(begun.elapsed() < Duration::from_secs(60), "{answer:?}"),
        }
    }
    assert!(!sink.knows("orders").await.unwrap());
    assert!(matches!(sink.claim(&key, Token(2), 0).await, Err(SinkError::Stop(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_that_is_released_keeps_no_producer() {
    let bench = KafkaBench::new();
    let (sink, key) = (claimed(&bench).await, key());
    let gone = LedgerKey { partition: TopicPartition { partition: 10, ..key.partition.clone() }, ..key.clone() };
    sink.claim(&gone, Token(1), 0).await.unwrap();
    let inner = {
        let owner = sink.0.known_owner(&gone).unwrap();
        let owner = owner.lock().await;
        owner.producer.as_ref().unwrap().watch()
    };
    // A lane's thread knows of no runtime.
    let sink = std::thread::spawn(move || {
        sink.release(&gone);
        sink
    });
    let sink = sink.join().unwrap();
    let begun = Instant::now();
    while inner.strong_count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the producer is never closed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sink.0.owners().keys().collect::<Vec<_>>(), [&key]);
    assert_eq!(sink.write(&step(&key, 1, 0, 1), &[]).await.unwrap(), Written::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_that_is_no_claims_aborts_no_transaction() {
    let bench = KafkaBench::new();
    let (sink, key) = (claimed(&bench).await, key());
    let slow = LedgerKey { partition: TopicPartition { partition: 10, ..key.partition.clone() }, ..key.clone() };
    let open = die_in_a_transaction(&bench, &slow, "slow").await;
    let held_up = |answer: Result<String, SinkError>| {
        let Err(SinkError::Retry(cause)) = answer else { panic!("{answer:?}") };
        assert!(cause.contains(&Key::row("events", &slow).transactional_id(&bench.ledger.0)), "{cause}");
    };
    held_up(sink.positions(from_ref(&key)).await.map(|found| format!("{found:?}")));
    held_up(sink.history("orders").await.map(|found| format!("{found:?}")));
    // Another process is about to claim: what it asks is told without the open transaction's end.
    let other = bench.sink();
    assert!(other.knows("orders").await.unwrap());
    assert_eq!(other.positions(from_ref(&key)).await.unwrap(), [Some((Token(1), 0))]);
    open.commit().await.unwrap();
    let both = [key, slow];
    assert_eq!(sink.positions(&both).await.unwrap(), [Some((Token(1), 0)), Some((Token(99), 1_000))]);
    assert_eq!(bench.committed(), ["slow"]);
}

/// A real broker denies what its access lists say; these answer as it does.
#[tokio::test(flavor = "multi_thread")]
async fn topic_that_may_not_be_written_stops_a_write_with_its_name() {
    let brokers = MockCluster::new(1).unwrap();
    for topic in ["denied", "ledger"] {
        brokers.create_topic(topic, 1, 1).unwrap();
    }
    let client = reached_at(&brokers.bootstrap_servers(), &[]);
    let sink = ExactlyOnce::open(Options { name: "events".into(), client, ledger_topic: "ledger".into() }).unwrap();
    let pipeline = Key::Pipeline { pipeline: "orders".into(), sink: "events".into() };
    let missing = |ledger: &Ledger| (!ledger.pipelines.contains("orders")).then(|| "{}".to_owned());
    sink.0.enter_missing(&pipeline, missing).await.unwrap();
    let key = key();
    sink.claim(&key, Token(1), 0).await.unwrap();
    let deny = || {
        brokers.request_errors(AddPartitionsToTxn, &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
        brokers.request_errors(EndTxn, &[RD_KAFKA_RESP_ERR_INVALID_TXN_STATE]);
    };
    deny();
    let answer = sink.write(&step(&key, 1, 0, 1), &[message("denied", 0, Some("k"), "a")]).await;
    let Err(SinkError::Stop(cause)) = answer else { panic!("{answer:?}") };
    assert!(cause.contains("\"denied\"") && cause.contains("denies it") && cause.contains("Write"), "{cause}");
    deny();
    let answer = sink.claim(&key, Token(2), 0).await;
    let Err(SinkError::Stop(cause)) = answer else { panic!("{answer:?}") };
    assert!(cause.contains("\"ledger\"") && cause.contains("denies it"), "{cause}");
    sink.claim(&key, Token(3), 0).await.unwrap();
    let writes = [message("denied", 0, Some("k"), "a")];
    assert_eq!(sink.write(&step(&key, 3, 0, 1), &writes).await.unwrap(), Written::Applied);
}
