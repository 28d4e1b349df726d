//! The pipeline that keeps the captured orders in a SQLite file: a store that gives no trouble of its own.

use super::{Broker, Stream, cache_of, orders, unique};

/// Its transform.
pub(crate) const ORDER_CACHE: &str = r#"
[[pipelines.transforms]]
name = "order-cache"
module = "{guests}/order_cache.wasm"
settings = { ttl_seconds = 600 }
grants = { cache = ["order:*"] }
"#;

/// The pipeline, with its store.
pub(crate) struct Orders {
    pub(crate) stream: Stream,
    store: String,
}

impl Orders {
    /// On this cluster, with the captured orders in a topic of three partitions.
    pub(crate) fn on(broker: &Broker) -> Self {
        let store = format!("{}.db", unique("store"));
        let config = format!(
            "[sinks.cache.sqlite]\npath = \"{store}\"\n[[pipelines]]\nname = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\n\
             format = \"debezium-flattened\"\nsinks = {{ cache = \"cache\" }}\n{ORDER_CACHE}"
        );
        Self { stream: Stream::new(broker, "orders", orders(), &config), store }
    }

    /// Gives the pipeline another name and its sink a fresh target.
    pub(crate) fn begin_anew(&mut self) {
        let (pipeline, store) = (unique("orders"), format!("{}.db", unique("store")));
        self.stream.program.change(&self.stream.pipeline, &pipeline);
        self.stream.program.change(&self.store, &store);
        (self.stream.pipeline, self.store) = (pipeline, store);
    }

    /// The file of the store.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// The store is what it should be.
    pub(crate) fn check(&self) {
        assert_eq!(self.stream.program.cache(&self.store), cache_of(&self.stream.produced, ORDER_CACHE));
    }
}
