//! `[sinks.NAME.kafka]`.

use crate::config::block::Block;
use crate::config::kafka::{self, KafkaClient};
use crate::config::pipelines::choice;
use crate::config::text::Text;

/// `[sinks.NAME.kafka]`: messages to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// The cluster.
    pub client: KafkaClient,
    /// How often a message is published.
    pub delivery: Delivery,
    /// With [`Delivery::ExactlyOnce`]: the topic that holds the ledger.
    pub ledger_topic: String,
}

/// How often a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Once or, after a crash, again.
    #[default]
    AtLeastOnce,
    /// Once, in a transaction with the ledger's row.
    ExactlyOnce,
}

impl Delivery {
    /// The values of the key `delivery`.
    pub(in crate::config) const ALL: [(&str, Self); 2] =
        [("at-least-once", Self::AtLeastOnce), ("exactly-once", Self::ExactlyOnce)];
}

impl Kafka {
    /// The default of `ledger_topic`.
    pub const LEDGER_TOPIC: &str = "tidegate.ledger";

    /// Messages to this cluster, at least once.
    pub fn at_least_once(client: KafkaClient) -> Self {
        Self { client, delivery: Delivery::AtLeastOnce, ledger_topic: Self::LEDGER_TOPIC.to_owned() }
    }
}

pub(super) fn read(mut block: Block<'_>) -> Option<Kafka> {
    let client = kafka::read(&mut block);
    let delivery = choice(&mut block, "delivery", &Delivery::ALL);
    let ledger_topic = read_topic(&mut block, delivery).unwrap_or_else(|| Kafka::LEDGER_TOPIC.to_owned());
    block.finish("key");
    Some(Kafka { client: client?, delivery: delivery.unwrap_or_default(), ledger_topic })
}

/// Reads the name of a topic. It is no secret: errors show it.
fn read_topic(block: &mut Block<'_>, delivery: Option<Delivery>) -> Option<String> {
    let topic = block.text("ledger_topic")?;
    if delivery.is_none() {
        let remedy = "write `delivery = \"exactly-once\"`, or leave it out";
        block.document().problem(&topic.place, "a sink that publishes at least once keeps no ledger", remedy);
    }
    let name: &Text = &topic.value;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 249 || !name.bytes().all(legal) || matches!(name.as_str(), "." | "..") {
        let cause = format!("`{}` is no name of a topic", name.shown());
        block.document().problem(&topic.place, cause, "use 1 to 249 letters, digits, `.`, `_`, `-`");
    }
    Some(name.as_str().to_owned())
}
