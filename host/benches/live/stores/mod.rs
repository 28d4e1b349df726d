//! The four stores, each with the bare client that tidegate is held against, and the case that is measured on it.

mod elasticsearch;
mod kafka;
mod postgres;
mod redis;

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use tidegate::command::{Command, Port};
use tidegate::contract::Description;
use tidegate::event::Format;

use super::Addresses;

/// What is measured on a store.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) events: usize,
    /// The file of the corpus, and its table.
    pub(crate) capture: &'static str,
    pub(crate) table: &'static str,
    pub(crate) format: Format,
    pub(crate) transform: &'static str,
    /// TOML, on one line.
    pub(crate) settings: &'static str,
    pub(crate) port: Port,
    pub(crate) open: for<'a> fn(&'a Addresses) -> Opening<'a>,
}

type Opening<'a> = Pin<Box<dyn Future<Output = Box<dyn Store>> + 'a>>;

pub(crate) const CASES: [Case; 4] = [
    Case {
        id: "redis",
        name: "Redis: orders of 0.4 kB, flattened",
        events: 200_000,
        capture: "order-cache/dbserver1.public.orders.jsonl",
        table: "orders",
        format: Format::Flattened,
        transform: "order-cache",
        settings: "ttl_seconds = 3600",
        port: Port::Cache,
        open: |addresses| Box::pin(redis::open(addresses)),
    },
    Case {
        id: "postgres",
        name: "PostgreSQL: orders in envelopes of 0.6 kB",
        events: 150_000,
        capture: "bookstore-analytics/ecom-connector.public.orders.jsonl",
        table: "orders",
        format: Format::Envelope,
        transform: "bookstore-analytics",
        settings: "",
        port: Port::Tables,
        open: |addresses| Box::pin(postgres::open(addresses)),
    },
    Case {
        id: "elasticsearch",
        name: "Elasticsearch: companies in envelopes of 0.8 kB",
        events: 60_000,
        capture: "company-search/app.public.company.jsonl",
        table: "company",
        format: Format::Envelope,
        transform: "company-search",
        settings: "",
        port: Port::Documents,
        open: |addresses| Box::pin(elasticsearch::open(addresses)),
    },
    Case {
        id: "kafka",
        name: "Kafka: messages about orders in envelopes of 1 kB",
        events: 150_000,
        capture: "trackops-cache/trackops_orders.public.orders.jsonl",
        table: "orders",
        format: Format::Envelope,
        transform: "trackops-cache",
        settings: "topic = \"tidegate-bench-order-events\"",
        port: Port::Messages,
        open: |addresses| Box::pin(kafka::open(addresses)),
    },
];

/// One measurement on an empty store.
pub(crate) struct Turn {
    /// A name that no other turn has.
    pub(crate) pipeline: String,
    pub(crate) topic: String,
    pub(crate) partitions: u32,
}

impl Turn {
    pub(crate) fn new(name: &str, topic: &str, partitions: u32) -> Self {
        let pipeline = format!("tidegate-bench-{}-{name}", std::process::id());
        Self { pipeline, topic: topic.to_owned(), partitions }
    }
}

#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Removes what other turns wrote.
    async fn empty(&self, turn: &Turn);

    /// Makes for the bare client what tidegate makes by itself.
    async fn declare(&self, _turn: &Turn, _description: &Description) {}

    /// The block of the sink `store`.
    fn sink(&self, turn: &Turn) -> String;

    /// How many events of a turn are durable, by the ledger.
    async fn durable(&self, turn: &Turn) -> u64;

    /// A bare client with a connection of its own.
    async fn connect(&self, turn: &Turn) -> Box<dyn Client>;

    /// Removes everything.
    async fn remove(&self);
}

#[async_trait]
pub(crate) trait Client: Send + Sync {
    /// Writes a batch, in one go.
    async fn send(&self, batch: &[Command]);

    /// Waits until what was sent is durable, where sending does not.
    async fn flush(&self) {}

    /// Whether the store shows what a command writes.
    async fn has(&self, command: &Command) -> bool;
}
