//! Pipelines: their states with the reasons, lag and rate over time, and pausing one with the button.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;
use tidegate_tests::{corpus, service};
use tokio::runtime::Builder;

use super::{all_was_well, pictures, shown};
use crate::admin::asked::Held;
use crate::stop::orders;

const CONFIG: &str = r#"
[source.kafka]
brokers = "BROKERS"
[sinks.store.sqlite]
path = "store.db"
[sinks.away.redis]
url = "redis://127.0.0.1:1"
[dead_letters.file]
[admin]
listen = "127.0.0.1:0"

[[pipelines]]
name = "orders"
topics = ["NAME-orders"]
format = "debezium-flattened"
sinks = { cache = "store" }
[[pipelines.transforms]]
name = "order-cache"
module = "{guests}/order_cache.wasm"
settings = { ttl_seconds = 600 }
grants = { cache = ["order:*"] }

[[pipelines]]
name = "truncated"
topics = ["NAME-truncated"]
sinks = { messages = "store" }
on_truncate = "stop"
[[pipelines.transforms]]
name = "hostile"
module = "{guests}/hostile.wasm"
settings = { do = "nothing" }

[[pipelines]]
name = "kept-waiting"
topics = ["NAME-orders"]
sinks = { cache = "away" }
[[pipelines.transforms]]
name = "hostile"
module = "{guests}/hostile.wasm"
settings = { do = "nothing" }
"#;

/// Topics of this process on the brokers that the tests share.
struct Topics {
    name: String,
    admin: AdminClient<DefaultClientContext>,
    producer: BaseProducer,
}

impl Topics {
    const EACH: [&str; 2] = ["orders", "truncated"];

    fn make(brokers: &str) -> Self {
        let client = || ClientConfig::new().set("bootstrap.servers", brokers).clone();
        let name = format!("page{}", std::process::id());
        let topics = Self { name, admin: client().create().unwrap(), producer: client().create().unwrap() };
        let names = topics.names();
        let new: Vec<_> = names.iter().map(|name| NewTopic::new(name, 2, TopicReplication::Fixed(1))).collect();
        let made = Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(topics.admin.create_topics(&new, &AdminOptions::new()));
        made.unwrap().into_iter().for_each(|made| drop(made.unwrap()));
        topics
    }

    fn names(&self) -> Vec<String> {
        Self::EACH.iter().map(|name| format!("{}-{name}", self.name)).collect()
    }

    /// Sends captured events, each to the partition from which it came.
    fn send(&self, topic: &str, events: &[String]) {
        let topic = format!("{}-{topic}", self.name);
        for event in events {
            let event: Value = serde_json::from_str(event).unwrap();
            let partition = i32::try_from(event["partition"].as_i64().unwrap()).unwrap() % 2;
            let (key, value) = (event["key"].as_str(), event["value"].as_str());
            let record = BaseRecord::<str, str>::to(&topic).partition(partition);
            let record = key.into_iter().fold(record, BaseRecord::key);
            let record = value.into_iter().fold(record, BaseRecord::payload);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names = self.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // A test that has failed already leaves what it can.
        let _ = runtime.block_on(self.admin.delete_topics(&names, &AdminOptions::new()));
    }
}

/// A script's way to a part of a pipeline's card.
fn card(pipeline: &str, part: &str) -> String {
    format!("document.querySelector('article[data-pipeline=\"{pipeline}\"] {part}')")
}

#[test]
fn the_page_shows_each_pipeline_and_pauses_the_one_whose_button_is_pressed() {
    let brokers = service("kafka");
    let topics = Topics::make(&brokers);
    let events = orders();
    topics.send("orders", &events);
    let truncated = std::fs::read_to_string(corpus("torture/misc.public.truncated.jsonl")).unwrap();
    topics.send("truncated", &truncated.lines().map(ToOwned::to_owned).collect::<Vec<_>>());
    let run = Held::start(&CONFIG.replace("BROKERS", &brokers).replace("NAME", &topics.name), &[]);
    let mut browser = shown(&run);

    let state = |name: &str| card(name, ".state") + ".innerText.trim()";
    browser.until(&format!("{}.endsWith('running')", state("orders")));
    browser.until(&format!("{}.endsWith('stopped')", state("truncated")));
    browser.until(&format!("{}.endsWith('waiting')", state("kept-waiting")));
    browser.until(&format!("{}.innerText.startsWith('It has stopped: ')", card("truncated", ".note.bad")));
    browser
        .until(&format!("{}.innerText.startsWith('It waits for sink `away`: ')", card("kept-waiting", ".note.warn")));
    browser.until("document.querySelector('nav [data-view=pipelines]').textContent.includes('2 need a look')");
    // What has stopped is not paused, and not resumed.
    assert_eq!(browser.value(&card("truncated", ".card-head button")), Value::Null);

    let fact = |name: &str| card("orders", &format!("[data-fact=\"{name}\"]")) + ".innerText";
    browser.until(&format!("{} === '{}'", fact("events"), events.len()));
    browser.until(&format!("{} === '0 offsets'", fact("lag")));
    let points = |chart: &str| card("orders", &format!("[data-chart={chart}] svg")) + ".dataset.points";
    browser.until(&format!("{} >= 3 && {} >= 2", points("lag"), points("rate")));
    browser.until(&format!("{}.getAttribute('d').includes('L')", card("orders", "[data-chart=lag] path.line")));

    // With the keyboard alone, and thought better of.
    let button = card("orders", ".card-head button");
    browser.value(&format!("{button}.focus()"));
    browser.press("Enter");
    browser.until(
        "document.activeElement.innerText === 'Cancel' && document.activeElement.closest('dialog[open]') !== null",
    );
    browser.press("Escape");
    browser.until(&format!("document.querySelector('dialog') === null && document.activeElement === {button}"));
    assert_eq!(run.get("/v1/pipelines").json()["pipelines"][0]["paused"], false);

    browser.click("article[data-pipeline=orders] button", "Pause…");
    browser.click("dialog button", "Pause");
    browser.until(&format!("{}.endsWith('paused')", state("orders")));
    browser.until("document.querySelector('#said').innerText === 'orders is paused.'");
    assert_eq!(run.get("/v1/pipelines").json()["pipelines"][0]["paused"], true);
    topics.send("orders", &events);
    browser.until(&format!("{} === '{} offsets'", fact("lag"), events.len()));
    let label = card("orders", "[data-chart=lag] svg") + ".getAttribute('aria-label')";
    browser.until(&format!("{label}.startsWith('Lag: {} offsets at ')", events.len()));
    // The value of the chart under the pointer, and the one before it with the keyboard.
    browser.point_at("article[data-pipeline=orders] [data-chart=lag] svg");
    let chosen = card("orders", "[data-chart=lag] .value.chosen") + ".innerText";
    let pointed = browser.until(&format!("/^\\d\\d:\\d\\d:\\d\\d paused: \\d+ offsets$/.test({chosen}) && {chosen}"));
    browser.value(&(card("orders", "[data-chart=lag] svg") + ".focus()"));
    browser.press("ArrowLeft");
    browser.until(&format!(
        "/^\\d\\d:\\d\\d:\\d\\d (running|paused): \\d+ offsets$/.test({chosen}) && {chosen} !== {pointed}"
    ));
    pictures(&mut browser, "pipelines");
    browser.click("article[data-pipeline=orders] button", "Resume…");
    browser.click("dialog button", "Resume");
    browser.until(&format!("{}.endsWith('running') && {} === '0 offsets'", state("orders"), fact("lag")));
    browser.until(&format!("{} === '{}'", fact("events"), events.len() * 2));

    // Who comes later sees what was.
    browser.open(&format!("http://{}/", run.address));
    browser.until(&format!("{}.includes('at most {} since')", label, events.len()));
    all_was_well(&mut browser, &run);

    run.signal("TERM");
    let (_, output) = run.output();
    assert_eq!(output.status.code(), Some(1), "{}", tidegate_tests::text(&output));
    browser.until(
        "document.querySelector('#away').innerText.startsWith('The host does not answer. What is shown is of ')",
    );
    browser.until("document.querySelector('#connection').innerText === 'no answer'");
}
