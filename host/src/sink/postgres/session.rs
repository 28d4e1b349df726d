//! One connection with its prepared statements, and the connections that are free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::catalog::Facts;
use super::connect::{Address, GRACE};
use super::error::Problem;
use crate::limits;
use crate::source::TopicPartition;

/// Prepared statements to keep: one a table, kind of command and set of columns.
const STATEMENTS: usize = 256;
/// How many statements are on their way at once.
const IN_FLIGHT: usize = 16;

/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection. Dropped in the middle of something, it is closed, and the server rolls back.
pub(super) struct Session {
    client: Client,
    statements: HashMap<String, Statement>,
    /// How long their texts are together.
    statement_bytes: usize,
    /// What is known of tables, by their names as commands spell them.
    pub(super) facts: HashMap<String, Arc<Facts>>,
    /// How long to wait for an answer.
    patience: Duration,
    /// How long the server is to wait, for each transaction by itself.
    limits: String,
}

impl Session {
    pub(super) fn new(client: Client, patience: Duration, limits: &[(&str, u128)]) -> Self {
        let limits: Vec<_> = limits.iter().map(|(name, ms)| format!("SET LOCAL {name} = {ms}")).collect();
        let (statements, facts, limits) = (HashMap::new(), HashMap::new(), limits.join("; "));
        Self { client, statements, statement_bytes: 0, facts, patience, limits }
    }

    /// Begins a transaction. What the session was set to is set once more: behind a pooler that gives each transaction
    /// another connection, the session's settings are somewhere else.
    pub(super) async fn begin(&self) -> Result<(), Problem> {
        self.run(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {}", self.limits)).await
    }

    /// Lets the statements of a transaction that has begun take so long.
    pub(super) async fn give_time(&mut self, time: Duration) -> Result<(), Problem> {
        self.run(&format!("SET LOCAL statement_timeout = {}", time.as_millis())).await?;
        self.patience = time + GRACE;
        Ok(())
    }

    /// Runs statements without parameters.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Problem> {
        self.answered(self.client.batch_execute(sql)).await
    }

    pub(super) async fn query(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Problem> {
        let statement = self.statement(sql).await?;
        self.answered(self.client.query(&statement, parameters)).await
    }

    /// The number of rows that a statement touched.
    pub(super) async fn execute(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Problem> {
        let statement = self.statement(sql).await?;
        self.answered(self.client.execute(&statement, parameters)).await
    }

    /// Runs statements in this order, each without waiting for the one before, and `then`, without parameters, right
    /// behind the last: in a transaction it fails where one of them did. How many rows each touched, or what became of
    /// the first that failed.
    pub(super) async fn execute_all<P: ToSql + Sync>(
        &mut self,
        all: &[(String, P)],
        then: Option<&str>,
    ) -> Result<Vec<u64>, Problem> {
        let mut touched = Vec::with_capacity(all.len());
        let mut chunks = all.chunks(IN_FLIGHT).peekable();
        while let Some(some) = chunks.next() {
            let mut statements = Vec::with_capacity(some.len());
            for (sql, _) in some {
                statements.push(self.statement(sql).await?);
            }
            let parameters: Vec<[&(dyn ToSql + Sync); 1]> =
                some.iter().map(|(_, parameter)| [parameter as &(dyn ToSql + Sync)]).collect();
            // Each is sent when it is first polled, which is in this order.
            let sent = statements.iter().zip(&parameters).map(|(sql, values)| self.client.execute(sql, values));
            let behind = then.filter(|_| chunks.peek().is_none());
            let followed = async {
                match behind {
                    Some(sql) => self.client.batch_execute(sql).await,
                    None => Ok(()),
                }
            };
            let sent = async { Ok(join(join_all(sent), followed).await) };
            let (answers, followed) = self.answered(sent).await?;
            for answer in answers {
                touched.push(answer?);
            }
            followed?;
        }
        Ok(touched)
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, Problem> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.answered(self.client.prepare(sql)).await?;
        // Rows whose sets of columns all differ must not fill the memory of the server, or of this process.
        self.statement_bytes += sql.len();
        if self.statements.len() >= STATEMENTS || self.statement_bytes > limits::STATEMENTS.most {
            self.statements.clear();
            self.statement_bytes = sql.len();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// A server that stands still, on a network that does not, is noticed by nobody else.
    async fn answered<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Problem> {
        match timeout(self.patience, work).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Problem::Retry(format!("no answer within {} s", self.patience.as_secs()))),
        }
    }
}

/// The connections that nobody uses now, each with the partition that it wrote last. There are as many as there were
/// calls at once.
#[derive(Default)]
pub(super) struct Pool {
    free: Mutex<Vec<(Option<TopicPartition>, Session)>>,
}

impl Pool {
    /// A connection for this partition: the one that it had, or another, or a new one.
    pub(super) async fn take(&self, address: &Address, wanted: Option<&TopicPartition>) -> Result<Session, Problem> {
        let free = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.retain(|(_, session)| !session.client.is_closed());
            let same = free.iter().position(|(last, _)| wanted.is_some() && last.as_ref() == wanted);
            match same {
                Some(at) => Some(free.swap_remove(at)),
                None => free.pop(),
            }
        };
        match free {
            Some((_, session)) => Ok(session),
            None => address.connect().await,
        }
    }

    pub(super) fn give_back(&self, last: Option<&TopicPartition>, session: Session) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push((last.cloned(), session));
    }
}
