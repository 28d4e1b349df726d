//! From Kafka: the ends of the partitions are known, and so is how far behind a paused pipeline is.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_tests::{guest, service};
use tokio::runtime::Builder;

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

#[test]
fn a_paused_pipeline_keeps_its_partitions_and_falls_behind() {
    assert!(guest("order-cache").is_file());
    let name = format!("admin{}", std::process::id());
    let brokers = service("kafka");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topic = NewTopic::new(&name, 2, TopicReplication::Fixed(1));
    for made in runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap() {
        made.unwrap();
    }
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    // A tombstone each, which deletes its row.
    let send = |number: usize| {
        for _ in 0..number {
            producer
                .send(BaseRecord::<str, [u8]>::to(&name).key("{\"id\":\"o1\"}").partition(0))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    send(3);
    let run = Held::start(&CONFIG.replace("BROKERS", &brokers).replace("NAME", &name), &[]);
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
    // The group was never left.
    assert_eq!(run.sum("tidegate_claims_total{"), 2);
    run.signal("TERM");
    let (_, output) = run.output();
    assert!(output.status.success(), "{}", tidegate_tests::text(&output));
    runtime.block_on(admin.delete_topics(&[&name], &AdminOptions::new())).unwrap();
}
