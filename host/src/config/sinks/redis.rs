//! `[sinks.NAME.redis]`.

use crate::config::block::Block;
use crate::config::text::Text;

/// `[sinks.NAME.redis]`: a cache in Redis or Valkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub url: Text,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Redis> {
    let url = block.text("url");
    let url = block.required("url", url, "give it, as `url = \"redis://localhost:6379\"`");
    block.finish("key");
    Some(Redis { url: url?.value })
}
