//! `[sinks.NAME.elasticsearch]`.

use crate::config::block::Block;
use crate::config::text::Text;

/// `[sinks.NAME.elasticsearch]`: documents in Elasticsearch or OpenSearch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elasticsearch {
    /// Where it is.
    pub url: Text,
}

pub(super) fn read(mut block: Block<'_>) -> Option<Elasticsearch> {
    let url = block.text("url");
    let url = block.required("url", url, "give it, as `url = \"http://localhost:9200\"`");
    block.finish("key");
    Some(Elasticsearch { url: url?.value })
}
