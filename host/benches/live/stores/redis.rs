//! Redis: `SET` with expiry, many in one pipeline.

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client as Server, Pipeline, cmd};
use async_trait::async_trait;
use tidegate::command::Command;

use super::{Client, Store, Turn};
use crate::Addresses;
use crate::broker::PATIENCE;

/// The database that the benchmark has for itself.
const DATABASE: u32 = 3;

struct Redis {
    url: String,
    connection: MultiplexedConnection,
}

pub(super) async fn open(addresses: &Addresses) -> Box<dyn Store> {
    let url = format!("{}/{DATABASE}", addresses.get("redis"));
    let connection = connect(&url).await;
    Box::new(Redis { url, connection })
}

async fn connect(url: &str) -> MultiplexedConnection {
    // Emptying a database takes a while.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    Server::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

#[async_trait]
impl Store for Redis {
    async fn empty(&self, _: &Turn) {
        cmd("FLUSHDB").exec_async(&mut self.connection.clone()).await.unwrap();
    }

    fn sink(&self, _: &Turn) -> String {
        format!("[sinks.store.redis]\nurl = \"{}\"", self.url)
    }

    async fn durable(&self, turn: &Turn) -> u64 {
        let mut read = Pipeline::new();
        for partition in 0..turn.partitions {
            let row = format!("tidegate:{}:ledger:store:{}:{partition}", turn.pipeline, turn.topic);
            read.cmd("HGET").arg(row).arg("next");
        }
        let next: Vec<Option<u64>> = read.query_async(&mut self.connection.clone()).await.unwrap();
        next.into_iter().flatten().sum()
    }

    async fn connect(&self, _: &Turn) -> Box<dyn Client> {
        Box::new(Connection(connect(&self.url).await))
    }

    async fn remove(&self) {
        cmd("FLUSHDB").exec_async(&mut self.connection.clone()).await.unwrap();
    }
}

struct Connection(MultiplexedConnection);

#[async_trait]
impl Client for Connection {
    async fn send(&self, batch: &[Command]) {
        let mut commands = Pipeline::with_capacity(batch.len());
        for command in batch {
            let Command::CacheSet { key, value, ttl_seconds: Some(seconds) } = command else { panic!("{command:?}") };
            commands.cmd("SET").arg(key).arg(value).arg("EX").arg(*seconds).ignore();
        }
        commands.exec_async(&mut self.0.clone()).await.unwrap();
    }

    async fn has(&self, command: &Command) -> bool {
        let Command::CacheSet { key, .. } = command else { panic!("{command:?}") };
        cmd("EXISTS").arg(key).query_async(&mut self.0.clone()).await.unwrap()
    }
}
