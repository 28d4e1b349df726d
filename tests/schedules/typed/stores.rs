//! What the stores hold, read back: rows, documents, entries, messages and dead letters.

use std::collections::{BTreeMap, BTreeSet};

use ::redis::Commands as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::event::Fields;
use super::model::{Place, State};
use crate::outage::support::{Database, Http, PATIENCE, unique};

/// The columns of the tables.
const COLUMNS: [&str; 5] = ["status", "amount", "day", "code", "parent"];

/// The rows of these keys.
pub(super) fn rows(database: &Database, table: &str, keys: &[String]) -> BTreeMap<String, State> {
    let columns = COLUMNS.map(|column| format!("{column}::text")).join(", ");
    let mut found: BTreeMap<String, State> = keys.iter().map(|key| (key.clone(), None)).collect();
    for row in database.rows(&format!("SELECT id, {columns} FROM {table}")) {
        let fields = COLUMNS.iter().zip(&row[1..]).filter(|(_, value)| *value != "null");
        let fields = fields.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if let Some(state) = found.get_mut(&row[0]) {
            *state = Some(fields);
        }
    }
    found
}

/// The documents.
pub(super) fn documents(server: &Http, index: &str, keys: &[String]) -> BTreeMap<String, State> {
    let answer = server.send("POST", &format!("/{index}/_mget"), &json!({ "ids": keys }).to_string());
    let state = |document: &Value| {
        let there = document["found"] == true;
        (document["_id"].as_str().unwrap().to_owned(), there.then(|| fields(&document["_source"])))
    };
    answer["docs"].as_array().unwrap().iter().map(state).collect()
}

/// The entries.
pub(super) fn entries(url: &str, prefix: &str, keys: &[String]) -> BTreeMap<String, State> {
    let mut connection = ::redis::Client::open(url).unwrap().get_connection().unwrap();
    let entry = |key: &String| {
        let value: Option<String> = connection.get(format!("{prefix}{key}")).unwrap();
        (key.clone(), value.map(|value| fields(&serde_json::from_str(&value).unwrap())))
    };
    keys.iter().map(entry).collect()
}

fn fields(object: &Value) -> Fields {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    object.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) id: String,
    pub(super) key: String,
    /// The event that it came of.
    pub(super) place: Place,
}

/// The messages of a topic, in the order of each partition, as a consumer sees them who reads what is committed.
pub(super) fn messages(broker: &str, topic: &str) -> Vec<Published> {
    read(broker, topic, |message| {
        let id = header(message, "tidegate.id").unwrap();
        let (key, place) = (String::from_utf8(message.key().unwrap().to_vec()).unwrap(), place(&id));
        Published { id, key, place }
    })
}

/// The dead letters by pipeline: each record once, whatever refused it.
pub(super) fn letters(broker: &str, topic: &str) -> BTreeMap<String, BTreeMap<Place, BTreeSet<String>>> {
    let mut letters: BTreeMap<String, BTreeMap<Place, BTreeSet<String>>> = BTreeMap::new();
    let read = read(broker, topic, |message| {
        let name = |name: &str| header(message, &format!("__connect.errors.{name}")).unwrap();
        let number = |text: String| text.parse::<usize>().unwrap();
        let place = (number(name("partition")), number(name("offset")));
        (name("connector.name"), place, name("exception.message"))
    });
    for (pipeline, place, reason) in read {
        letters.entry(pipeline).or_default().entry(place).or_default().insert(reason);
    }
    letters
}

fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(header.value?).into_owned())
}

/// The partition and the offset in `PIPELINE/TOPIC-PARTITION@OFFSET/…`.
fn place(id: &str) -> Place {
    let position = id.split('/').nth(1).unwrap();
    let (partition, offset) = position.rsplit_once('@').unwrap();
    (partition.rsplit_once('-').unwrap().1.parse().unwrap(), offset.parse().unwrap())
}

/// Has a group forget what it has committed. False while somebody is a member of it.
pub(super) fn forget_group(broker: &str, group: &str) -> bool {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let deleted = runtime.block_on(admin.delete_groups(&[group], &AdminOptions::new()));
    deleted.is_ok_and(|groups| groups.iter().all(Result::is_ok))
}

/// Reads all of a topic. It may end with markers of transactions.
fn read<T>(broker: &str, topic: &str, mut take: impl FnMut(&BorrowedMessage<'_>) -> T) -> Vec<T> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("group.id", unique("reader"));
    config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    let partitions = metadata.topics()[0].partitions();
    for partition in partitions {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut read, mut ended) = (Vec::new(), BTreeSet::new());
    while ended.len() < partitions.len() {
        match consumer.poll(PATIENCE).expect("the topic gives its records") {
            Ok(message) => read.push(take(&message)),
            Err(rdkafka::error::KafkaError::PartitionEOF(partition)) => drop(ended.insert(partition)),
            // The broker may just be back.
            Err(error) => assert!(error.rdkafka_error_code().is_some(), "{error}"),
        }
    }
    read
}
