//! The pipeline that keeps the captured orders in a SQLite file: a store that gives no trouble of its own.

use super::{Broker, Event, Program, Run, Topic, cache_of, orders, settled, unique};

/// Its transform.
pub(crate) const ORDER_CACHE: &str = r#"
[[pipelines.transforms]]
name = "order-cache"
module = "{guests}/order_cache.wasm"
settings = { ttl_seconds = 600 }
grants = { cache = ["order:*"] }
"#;

/// The pipeline, its topic and what was produced there.
pub(crate) struct Orders {
    pub(crate) program: Program,
    pub(crate) topic: Topic,
    pub(crate) pipeline: String,
    pub(crate) produced: Vec<Event>,
    store: String,
}

impl Orders {
    /// On this cluster, with the captured orders in a topic of three partitions.
    pub(crate) fn on(broker: &Broker) -> Self {
        let (pipeline, store) = (unique("orders"), format!("{}.db", unique("store")));
        let topic = broker.topic("orders", 3, &orders());
        let config = format!(
            "[sinks.cache.sqlite]\npath = \"{store}\"\n[[pipelines]]\nname = \"{pipeline}\"\ntopics = [\"{}\"]\n\
             format = \"debezium-flattened\"\nsinks = {{ cache = \"cache\" }}\n{ORDER_CACHE}",
            topic.name
        );
        Self { program: Program::new(broker, &config), topic, pipeline, produced: orders(), store }
    }

    /// Produces events that the store shall have in the end.
    pub(crate) fn produce(&mut self, events: &[Event]) {
        self.topic.produce(events);
        self.produced.extend_from_slice(events);
    }

    /// Waits until all is done.
    pub(crate) fn settled(&self, run: &mut Run) {
        settled(run, &self.topic, &self.pipeline);
    }

    /// Starts it, and waits until all is done.
    pub(crate) fn running(&self) -> Run {
        let mut run = self.program.start();
        self.settled(&mut run);
        run
    }

    /// Gives the pipeline another name and its sink a fresh target.
    pub(crate) fn begin_anew(&mut self) {
        let (pipeline, store) = (unique("orders"), format!("{}.db", unique("store")));
        self.program.change(&self.pipeline, &pipeline);
        self.program.change(&self.store, &store);
        (self.pipeline, self.store) = (pipeline, store);
    }

    /// The store is what it should be.
    pub(crate) fn check(&self) {
        assert_eq!(self.program.cache(&self.store), cache_of(&self.produced, ORDER_CACHE));
    }
}
