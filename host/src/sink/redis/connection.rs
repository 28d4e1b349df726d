//! Connections that serve one transaction at a time. There is no reconnecting: what a connection watches is lost with
//! it, so whoever meets an error drops it and begins again on another.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Pipeline, Value};

use super::error;
use super::ledger::{self, Row};
use crate::sink::SinkError;

/// Connections that wait for their next use. One a partition saves a round trip a batch; more partitions than these
/// share them.
const IDLE: usize = 32;

/// A connection, and the row of the ledger that it watches.
pub(super) struct Connection {
    inner: MultiplexedConnection,
    /// The row's key, and what it held when the watch began.
    watched: Option<(String, Option<Row>)>,
}

impl Connection {
    pub(super) async fn open(client: &Client, timeout: Duration) -> Result<Self, SinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            // One request at a time is all there ever is.
            .set_pipeline_buffer_size(1);
        let inner = client.get_multiplexed_async_connection_with_config(&config).await;
        let inner = inner.map_err(|e| error::connecting(&e, client.get_connection_info().addr()))?;
        Ok(Self { inner, watched: None })
    }

    /// Sends the commands in one go. The answers come in order, errors of the server among them.
    pub(super) async fn request(&mut self, commands: &Pipeline) -> Result<Vec<Value>, SinkError> {
        let answers = self.inner.send_packed_commands(commands, 0, commands.len()).await;
        let answers = answers.map_err(|e| error::classify(&e))?;
        if answers.len() == commands.len() {
            return Ok(answers);
        }
        Err(SinkError::Retry(format!("{} commands got {} answers", commands.len(), answers.len())))
    }

    /// The same where any error of the server is one.
    pub(super) async fn demand(&mut self, commands: &Pipeline) -> Result<Vec<Value>, SinkError> {
        let answers = self.request(commands).await?;
        error::check(&answers)?;
        Ok(answers)
    }

    /// What the row held when its watch began, if this connection watches it.
    pub(super) fn watched(&self, row: &str) -> Option<Option<Row>> {
        self.watched.as_ref().filter(|(key, _)| key == row).map(|(_, held)| held.clone())
    }

    /// Notes that the row is watched from now on, by a command just answered.
    pub(super) fn watches(&mut self, row: &str, held: Option<Row>) {
        self.watched = Some((row.to_owned(), held));
    }

    /// Executes a change that [`begin`] began, unless anything that is watched has changed since; begins to watch the row
    /// again and reads it, in the same round trip. False when something has changed, and nothing was done.
    pub(super) async fn commit(&mut self, row: &str, mut change: Pipeline) -> Result<bool, SinkError> {
        let exec = change.len();
        change.cmd("EXEC").cmd("WATCH").arg(row);
        ledger::read(&mut change, row);
        self.watched = None;
        let mut answers = self.demand(&change).await?;
        let held = ledger::row(&answers.pop().unwrap_or_default(), row)?;
        self.watches(row, held);
        Ok(answers.get(exec).is_some_and(|executed| *executed != Value::Nil))
    }
}

/// A change for [`Connection::commit`].
pub(super) fn begin() -> Pipeline {
    let mut change = Pipeline::new();
    change.cmd("MULTI");
    change
}

/// Connections that are not in use.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Connection>>);

impl Pool {
    /// The connection that watches this row; else, when there are many, the one that waited longest.
    pub(super) fn take(&self, row: &str) -> Option<Connection> {
        let mut idle = self.idle();
        match idle.iter().position(|connection| connection.watched(row).is_some()) {
            Some(place) => Some(idle.remove(place)),
            None if idle.len() >= IDLE => Some(idle.remove(0)),
            None => None,
        }
    }

    /// One that is free; what it watches counts no more.
    pub(super) fn take_any(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let mut connection = if idle.is_empty() { None } else { Some(idle.remove(0)) };
        if let Some(connection) = &mut connection {
            connection.watched = None;
        }
        connection
    }

    pub(super) fn put(&self, connection: Connection) {
        self.idle().push(connection);
    }

    /// Closes all: what broke one may have broken the others.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Nothing is left half-done under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
