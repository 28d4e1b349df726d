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
    /// How often a message comes.
    pub delivery: Delivery,
    /// Where the ledger is of one that delivers exactly once.
    pub ledger_topic: String,
}

/// How often a message comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Some come again after a crash.
    #[default]
    AtLeastOnce,
    /// In a transaction with the ledger.
    ExactlyOnce,
}

impl Delivery {
    /// The words of the file.
    pub(in crate::config) const ALL: [(&str, Self); 2] =
        [("at-least-once", Self::AtLeastOnce), ("exactly-once", Self::ExactlyOnce)];
}

impl Kafka {
    /// Where the ledger is unless the file says otherwise.
    pub const LEDGER_TOPIC: &str = "tidegate.ledger";

    /// Messages to this cluster, at least once.
    pub fn at_least_once(client: KafkaClient) -> Self {
        Self { client, delivery: Delivery::AtLeastOnce, ledger_topic: Self::LEDGER_TOPIC.to_owned() }
    }
}

pub(super) fn read(mut block: Block<'_>) -> Option<Kafka> {
    let client = kafka::read(&mut block);
    let delivery = choice(&mut block, "delivery", &Delivery::ALL).unwrap_or_default();
    let ledger_topic = read_topic(&mut block).unwrap_or_else(|| Kafka::LEDGER_TOPIC.to_owned());
    block.finish("key");
    Some(Kafka { client: client?, delivery, ledger_topic })
}

/// A topic, whose name may stand in messages.
fn read_topic(block: &mut Block<'_>) -> Option<String> {
    let topic = block.text("ledger_topic")?;
    let name: &Text = &topic.value;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 249 || !name.bytes().all(legal) || matches!(name.as_str(), "." | "..") {
        let cause = format!("`{}` is no name of a topic", name.shown());
        block.document().problem(&topic.place, cause, "use 1 to 249 letters, digits, `.`, `_`, `-`");
    }
    Some(name.as_str().to_owned())
}
