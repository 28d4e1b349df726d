//! `[sinks.NAME.kafka]`.

use crate::config::block::Block;
use crate::config::kafka::{self, KafkaClient};

/// `[sinks.NAME.kafka]`: messages to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// The cluster.
    pub client: KafkaClient,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Kafka> {
    let client = kafka::read(&mut block);
    block.finish("key");
    Some(Kafka { client: client? })
}
