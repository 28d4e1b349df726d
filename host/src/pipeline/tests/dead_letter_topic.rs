//! What the topic of dead letters keeps, on the real broker.

use std::time::Instant;

use super::PATIENCE;
use crate::contract::Fault;
use crate::pipeline::dead_letter::{DeadLetter, DeadLetterTopic, Stage};
use crate::sink::SinkError;
use crate::sink::kafka::testing::{Topic, broker, random_name, reached_at};
use crate::source::{Claim, Header, Record, TopicPartition};

const VALUE_BYTES: usize = 1 << 20;

fn record(offset: u64) -> Record {
    Record {
        partition: TopicPartition { topic: "db.public.orders".into(), partition: 2 },
        offset,
        timestamp: Some(1_495_247_493_144),
        headers: vec![Header { name: "h".into(), value: Some(vec![0xff]) }, Header { name: "n".into(), value: None }],
        key: Some(vec![0xff, b'k']),
        value: Some(b"{\"cut".to_vec()),
        claim: Claim(1),
    }
}

fn letter<'a>(record: &'a Record, reason: &'a str) -> DeadLetter<'a> {
    DeadLetter {
        record,
        pipeline: "orders",
        transform: "order-cache",
        digest: "ab12",
        fault: Fault::Store,
        stage: Stage::Write,
        sink: "warehouse",
        reason,
    }
}

fn open(topic: &Topic) -> DeadLetterTopic {
    DeadLetterTopic::open(&broker(), &topic.0, VALUE_BYTES).unwrap()
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: Some(value.as_bytes().to_vec()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_the_record_as_it_was_with_the_headers_of_kafka_connect_and_ours() {
    let topic = Topic::make(1, &[]).await;
    let record = record(7);
    assert_eq!(open(&topic).file(&[letter(&record, "no such row: \u{e9}\nuse upsert")]).await.unwrap(), 1);
    let [lying] = <[_; 1]>::try_from(topic.read()).unwrap();
    assert_eq!((&lying.key, &lying.value), (&record.key, &record.value));
    let checksum = format!("{:08x}", record.checksum());
    let added = [
        header("__connect.errors.topic", "db.public.orders"),
        header("__connect.errors.partition", "2"),
        header("__connect.errors.offset", "7"),
        header("__connect.errors.connector.name", "orders"),
        header("__connect.errors.task.id", "0"),
        header("__connect.errors.stage", "WRITE"),
        header("__connect.errors.class.name", "order-cache"),
        header("__connect.errors.exception.class.name", "tidegate.store"),
        header("__connect.errors.exception.message", "no such row: \u{e9}\nuse upsert"),
        header("__connect.errors.exception.stacktrace", "tidegate.store\n\tat orders.order-cache(WRITE)\n"),
        header("tidegate.id", &format!("orders/db.public.orders-2@7:{checksum}/order-cache")),
        header("tidegate.transform", "order-cache"),
        header("tidegate.digest", "ab12"),
        header("tidegate.fault", "store"),
        header("tidegate.sink", "warehouse"),
        header("tidegate.checksum", &checksum),
        header("tidegate.timestamp", "1495247493144"),
    ];
    assert_eq!(lying.headers, [record.headers.clone(), added.to_vec()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_larger_than_the_topic_takes_is_filed_with_less_and_says_what_is_missing() {
    let topic = Topic::make(1, &[("max.message.bytes", "10000")]).await;
    let large = |bytes: usize| vec![b'x'; bytes];
    let mut records: Vec<_> = (0..5).map(record).collect();
    records[1].value = Some(large(20_000));
    records[2].value = Some(large(200));
    records[3].key = Some(large(20_000));
    records[4].headers = vec![Header { name: "own".into(), value: Some(large(20_000)) }];
    let long = "\u{e9}".repeat(8_000);
    let reasons = ["short", "short", &long, "short", "short"];
    let letters: Vec<_> = records.iter().zip(reasons).map(|(record, reason)| letter(record, reason)).collect();
    open(&topic).file(&letters).await.unwrap();
    let mut lying = topic.read();
    lying.sort_by_key(|lying| lying.header("__connect.errors.offset").unwrap().to_owned());
    let marks = |at: usize| {
        let names = ["tidegate.value-omitted", "tidegate.key-omitted", "tidegate.headers-omitted"];
        names.map(|name| lying[at].header(name))
    };
    assert_eq!((marks(0), lying[0].value()), ([None; 3], "{\"cut"));
    assert_eq!((marks(1), &lying[1].value, &lying[1].key), ([Some("20000"), None, None], &None, &records[1].key));
    assert_eq!((marks(2), &lying[2].key), ([Some("200"), None, None], &records[2].key));
    assert_eq!(
        lying[2].header("__connect.errors.exception.message").unwrap(),
        format!("{}…", "\u{e9}".repeat(512)),
        "cut between two characters"
    );
    assert_eq!((marks(3), &lying[3].key), ([Some("5"), Some("20000"), None], &None));
    assert_eq!(marks(4), [Some("5"), Some("2"), Some("1")]);
    assert_eq!(lying[4].header("own"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_small_alone_keep_their_values_when_filed_together() {
    let topic = Topic::make(1, &[("max.message.bytes", "10000")]).await;
    let mut records: Vec<_> = (0..50).map(record).collect();
    records.iter_mut().for_each(|record| record.value = Some(vec![b'v'; 5_000]));
    let letters: Vec<_> = records.iter().map(|record| letter(record, "short")).collect();
    open(&topic).file(&letters).await.unwrap();
    let mut offsets: Vec<u64> = topic
        .read()
        .iter()
        .inspect(|lying| assert_eq!(lying.value.as_ref().map(Vec::len), Some(5_000)))
        .map(|lying| lying.header("__connect.errors.offset").unwrap().parse().unwrap())
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_beyond_the_limit_is_left_out_and_marked() {
    let topic = Topic::make(1, &[]).await;
    let record = record(7);
    DeadLetterTopic::open(&broker(), &topic.0, 4).unwrap().file(&[letter(&record, "short")]).await.unwrap();
    let lying = &topic.read()[0];
    assert_eq!((&lying.value, lying.header("tidegate.value-omitted")), (&None, Some("5")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_stops_the_start() {
    let missing = random_name("missing");
    let error = DeadLetterTopic::open(&broker(), &missing, VALUE_BYTES).unwrap_err();
    assert!(
        matches!(&error, SinkError::Stop(text) if text.contains(&missing) && text.contains("create it")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_removed_stops_and_a_broker_that_is_away_is_waited_for() {
    let topic = Topic::make(1, &[]).await;
    let opened = open(&topic);
    let name = topic.0.clone();
    drop(topic);
    let record = record(7);
    let begun = Instant::now();
    // A client that has just come up may be losing its first connection.
    let error = loop {
        let error = opened.file(&[letter(&record, "short")]).await.unwrap_err();
        if !matches!(error, SinkError::Retry(_)) || begun.elapsed() > PATIENCE {
            break error;
        }
    };
    assert!(matches!(&error, SinkError::Stop(text) if text.contains(&name) && text.contains("create it")), "{error}");

    let away = reached_at("127.0.0.1:1", &[("message.timeout.ms", "1000")]);
    let away = DeadLetterTopic::open(&away, "letters", VALUE_BYTES).unwrap();
    let error = away.file(&[letter(&record, "short")]).await.unwrap_err();
    assert!(matches!(&error, SinkError::Retry(text) if text.contains("letters")), "{error}");
}
