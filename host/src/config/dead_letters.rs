//! The block `[dead_letters.file]`: where records go that cannot be handled.

use super::block::Block;
use super::text::FilePath;

const DEFAULT_FILE: &str = "dead-letters.jsonl";
const DEFAULT_MAX_VALUE_BYTES: u64 = 32 << 20;

/// `[dead_letters.file]`.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The file, one dead letter a line; made when the first one comes.
    pub path: FilePath,
    /// A record's value that is larger than this is cut in its dead letter, bytes.
    pub max_value_bytes: usize,
}

pub(super) fn read(root: &mut Block<'_>) -> DeadLetters {
    let mut path = FilePath::plain(root.document().lookup.folder.join(DEFAULT_FILE));
    let mut max_value_bytes = DEFAULT_MAX_VALUE_BYTES;
    if let Some(mut block) = root.block("dead_letters") {
        let file = block.block("file");
        block.finish("kind of dead letters");
        if let Some(mut file) = file {
            if let Some(given) = file.path("path") {
                path = given.value;
            }
            max_value_bytes = file.number("max_value_bytes", &(1..=1 << 30)).unwrap_or(max_value_bytes);
            file.finish("key");
        }
    }
    DeadLetters { path, max_value_bytes: usize::try_from(max_value_bytes).unwrap_or(usize::MAX) }
}
