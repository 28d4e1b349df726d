//! From Kafka: the ends of the partitions are known, and so is how far behind a pipeline is that is paused or has stopped.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_tests::{guest, service};
use tokio::runtime::{Builder, Runtime};

use super::asked::{Held, until};

const CONFIG: &str = r#"
[source.kafka]
brokers = "BROKERS"
[sinks.store.sqlite]
path = "store.db"
[dead_letters.file]
[admin]
listen = "127.0.0.1:0"
[[pipelines]]
name = "NAME"
topics = ["NAME"]
format = "debezium-flattened"
sinks = { cache = "store" }
[[pipelines.transforms]]
name = "order-cache"
module = "{guests}/order_cache.wasm"
settings = { ttl_seconds = 600 }
grants = { cache = ["order:*"] }
"#;

/// A topic of two partitions, deleted when the test ends.
struct Topic {
    name: String,
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

impl Topic {
    fn new(what: &str) -> Self {
        assert!(guest("order-cache").is_file());
        let name = format!("{what}{}", std::process::id());
        let brokers = service("kafka");
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        let topic = NewTopic::new(&name, 2, TopicReplication::Fixed(1));
        for made in runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap() {
            made.unwrap();
        }
        Self { name, brokers, admin, runtime }
    }

    fn send(&self, values: &[Option<&str>]) {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        for value in values {
            let mut record = BaseRecord::<str, str>::to(&self.name).key("{\"id\":\"o1\"}").partition(0);
            record.payload = *value;
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.admin.delete_topics(&[&self.name], &AdminOptions::new()));
    }
}

#[test]
fn a_paused_pipeline_keeps_its_partitions_and_falls_behind() {
    let topic = Topic::new("admin");
    let name = &topic.name;
    // A tombstone each, which deletes its row.
    let send = |number: usize| topic.send(&vec![None; number]);
    send(3);
    let run = Held::start(&CONFIG.replace("BROKERS", &topic.brokers).replace("NAME", name), &[]);
    let shown = || run.get("/v1/pipelines").json()["pipelines"][0].clone();
    until("the end", || {
        let pipeline = shown();
        let there = pipeline["partitions"].as_array().unwrap().len() == 2 && pipeline["events"]["delete"] == 3;
        (there && pipeline["lag"] == 0 && pipeline["seconds_behind"] == 0.0).then_some(())
    });
    assert_eq!(run.get("/readyz").status, 200);
    assert_eq!(run.post(&format!("/v1/pipelines/{name}/pause")).json()["state"], "paused");
    send(7);
    let behind = until("a lag", || {
        let pipeline = shown();
        (pipeline["lag"] == 7).then_some(pipeline)
    });
    assert_eq!(behind["partitions"].as_array().unwrap().len(), 2, "{behind}");
    let seconds = || shown()["seconds_behind"].as_f64().unwrap();
    until("a lag in time", || (seconds() > 0.0).then_some(()));
    assert_eq!(run.post(&format!("/v1/pipelines/{name}/resume")).status, 200);
    until("the end", || {
        let pipeline = shown();
        (pipeline["lag"] == 0 && pipeline["events"]["delete"] == 10).then_some(())
    });
    // As often as it asks how many partitions there are.
    until("the partitions to be counted", || (run.sum("tidegate_topic_partitions{") == 2).then_some(()));
    assert_eq!(run.sum("tidegate_assigned_partitions{"), 2);
    // The group was never left.
    assert_eq!(run.sum("tidegate_claims_total{"), 2);
    run.signal("TERM");
    let (_, output) = run.output();
    assert!(output.status.success(), "{}", tidegate_tests::text(&output));
}

#[test]
fn lag_of_a_stopped_pipeline_is_seen_and_its_partitions_are_nobodys() {
    let topic = Topic::new("stopped");
    let name = &topic.name;
    let config = CONFIG.replace("BROKERS", &topic.brokers).replace("NAME", name);
    // The first stops at its first dead letter, the other at none.
    let stops =
        config.replace("[[pipelines.transforms]]", "breaker = { in_a_row = 1, percent = 0 }\n[[pipelines.transforms]]");
    let other = &config[config.find("[[pipelines]]").unwrap()..];
    let other = other.replacen(&format!("\"{name}\""), "\"other\"", 1).replace("\"store\"", "\"second\"");
    let other = other.replacen("format =", &format!("group = \"other-{name}\"\nformat ="), 1);
    let other = format!("[sinks.second.sqlite]\npath = \"second.db\"\n{other}");
    topic.send(&[None, None, None]);
    let run = Held::start(&format!("{stops}\n{other}"), &[]);
    let metric = |what: &str| run.sum(&format!("tidegate_{what}{{pipeline=\"{name}\",topic=\"{name}\""));
    until("both are at the end", || (run.sum("tidegate_events_total{") == 6).then_some(()));
    until("all is assigned", || (metric("assigned_partitions") == 2).then_some(()));
    topic.send(&[Some("no event"), None, None, None, None]);
    until("the first stops", || {
        let line = format!("tidegate_pipeline_state{{pipeline=\"{name}\",state=\"stopped\"}}");
        (run.sum(&line) == 1).then_some(())
    });
    until("its lag is seen", || (metric("partition_lag_offsets") == 5).then_some(()));
    assert_eq!((metric("assigned_partitions"), metric("topic_partitions")), (0, 2));
    topic.send(&[None, None]);
    until("its lag grows", || (metric("partition_lag_offsets") == 7).then_some(()));
    assert!(run.get("/metrics").body.contains(&format!("tidegate_partition_lag_seconds{{pipeline=\"{name}\"")));
    run.signal("TERM");
    let (_, output) = run.output();
    assert_eq!(output.status.code(), Some(1), "{}", tidegate_tests::text(&output));
}
