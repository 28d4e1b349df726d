//! What the guide for operators finds on its servers: topics with captured events, and a database. All of it is named
//! after the run, and removed when it ends.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use tidegate_tests::{corpus, service, text};
use tokio::runtime::{Builder, Runtime};

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

/// The topics that the reader of the guide has, by the end of their names, and what was captured of them.
const CAPTURED: [(&str, &str); 4] = [
    ("public.orders", "order-cache/dbserver1.public.orders.jsonl"),
    ("public.inventory", "bookstore-analytics/inventory-connector.public.inventory.jsonl"),
    ("public.company", "company-search/app.public.company.jsonl"),
    ("trackops.orders", "trackops-cache/trackops_orders.public.orders.jsonl"),
];
/// The topics that the guide tells the reader to make, by the end of their names.
const WRITTEN: [&str; 2] = ["order-events", "dead-letters"];

pub(super) struct Servers {
    /// What all names begin with.
    name: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

impl Servers {
    pub(super) fn new(name: &str) -> Self {
        let admin = ClientConfig::new().set("bootstrap.servers", service("kafka")).create().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let servers = Self { name: name.to_owned(), admin, runtime };
        let topics = servers.topics();
        let new: Vec<_> =
            topics.iter().map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1))).collect();
        for made in servers.runtime.block_on(servers.admin.create_topics(&new, &AdminOptions::new())).unwrap() {
            made.unwrap();
        }
        for (topic, file) in CAPTURED {
            publish(&servers.topic(topic), file);
        }
        psql(&format!("CREATE DATABASE {name}"));
        // Entries of a run before would be taken for those of this one.
        let flushed = Command::new("redis-cli").args(["-u", &cache(), "FLUSHDB"]).stdout(Stdio::null()).status();
        assert!(flushed.unwrap().success());
        servers
    }

    /// The variables that the guide has the reader set.
    pub(super) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("KAFKA", service("kafka")),
            ("REDIS_URL", cache()),
            ("POSTGRES_URL", format!("{}/{}", service("postgres"), self.name)),
            ("ELASTICSEARCH_URL", service("elasticsearch")),
        ]
    }

    /// How many messages were ever written to a topic.
    pub(super) fn messages(&self, topic: &str) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", service("kafka")).create().unwrap();
        let ends = |partition| consumer.fetch_watermarks(&self.topic(topic), partition, PATIENCE).unwrap().1;
        (0..PARTITIONS).map(ends).sum()
    }

    fn topic(&self, end: &str) -> String {
        format!("{}.{end}", self.name)
    }

    fn topics(&self) -> Vec<String> {
        let captured = CAPTURED.iter().map(|(topic, _)| *topic);
        captured.chain(WRITTEN).map(|topic| self.topic(topic)).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let topics = self.topics();
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        // A test that has failed has said more than what fails here.
        let _ = self.runtime.block_on(self.admin.delete_topics(&topics, &AdminOptions::new()));
        psql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let indexes = format!("{}/{}-*", service("elasticsearch"), self.name);
        let _ = Command::new("curl").args(["--silent", "--request", "DELETE", &indexes]).stdout(Stdio::null()).status();
    }
}

/// Publishes captured records under another topic, each into its partition.
fn publish(topic: &str, file: &str) {
    let mut config = ClientConfig::new();
    let producer: BaseProducer = config.set("bootstrap.servers", service("kafka")).create().unwrap();
    for line in fs::read_to_string(corpus(file)).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let mut headers = OwnedHeaders::new();
        for header in event["headers"].as_array().unwrap() {
            headers = headers.insert(Header { key: header[0].as_str().unwrap(), value: header[1].as_str() });
        }
        let mut record = BaseRecord::<str, str>::to(topic).headers(headers);
        record.partition = event["partition"].as_i64().map(|partition| i32::try_from(partition).unwrap());
        (record.key, record.payload) = (event["key"].as_str(), event["value"].as_str());
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn psql(sql: &str) {
    let database = format!("{}/postgres", service("postgres"));
    let arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command", sql, &database];
    let output = Command::new("psql").args(arguments).output().unwrap();
    assert!(output.status.success() || std::thread::panicking(), "{sql}: {}", text(&output));
}

/// A Redis database that no other test uses.
fn cache() -> String {
    format!("{}/9", service("redis"))
}
