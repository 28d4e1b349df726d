//! The block `[dead_letters.…]`: where records go that cannot be handled.

use super::block::Block;
use super::kafka::{self, KafkaClient};
use super::text::FilePath;

const DEFAULT_FILE: &str = "dead-letters.jsonl";
const DEFAULT_TOPIC: &str = "tidegate.dead-letters";
const DEFAULT_MAX_VALUE_BYTES: u64 = 32 << 20;

/// `[dead_letters.file]` or `[dead_letters.kafka]`.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// Where they go.
    pub to: DeadLetterStore,
    /// A record's value that is larger than this is left out of its dead letter, bytes.
    pub max_value_bytes: usize,
}

/// Where dead letters go.
#[derive(Debug, Clone)]
pub enum DeadLetterStore {
    /// A file, one dead letter a line; made when it is not there.
    File(FilePath),
    /// A topic.
    Kafka(DeadLetterTopic),
}

/// `[dead_letters.kafka]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterTopic {
    /// The cluster; none is the source's.
    pub client: Option<KafkaClient>,
    /// The topic. It has to be there.
    pub topic: String,
}

pub(super) fn read(root: &mut Block<'_>) -> DeadLetters {
    let mut to = DeadLetterStore::File(FilePath::plain(root.document().lookup.folder.join(DEFAULT_FILE)));
    let mut max_value_bytes = DEFAULT_MAX_VALUE_BYTES;
    if let Some(mut block) = root.block("dead_letters") {
        let place = block.place();
        let (file, kafka) = (block.block("file"), block.block("kafka"));
        if file.is_some() && kafka.is_some() {
            block.document().problem(&place, "it names two places", "leave one of them out");
        }
        block.finish("kind of dead letters");
        if let Some(mut file) = file {
            if let Some(given) = file.path("path") {
                to = DeadLetterStore::File(given.value);
            }
            max_value_bytes = file.number("max_value_bytes", &(1..=1 << 30)).unwrap_or(max_value_bytes);
            file.finish("key");
        }
        if let Some(mut block) = kafka {
            let topic = block.text("topic");
            max_value_bytes = block.number("max_value_bytes", &(1..=1 << 30)).unwrap_or(max_value_bytes);
            let client = block.names().iter().any(|name| name == "brokers").then(|| kafka::read(&mut block)).flatten();
            block.finish("key");
            let topic = topic.map_or_else(|| DEFAULT_TOPIC.to_owned(), |topic| topic.value.to_string());
            to = DeadLetterStore::Kafka(DeadLetterTopic { client, topic });
        }
    }
    DeadLetters { to, max_value_bytes: usize::try_from(max_value_bytes).unwrap_or(usize::MAX) }
}
