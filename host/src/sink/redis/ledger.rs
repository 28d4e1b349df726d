//! The ledger's keys and what they hold: hashes, whose fields an operator can read.

use ::redis::{Pipeline, Value, from_redis_value};

use crate::sink::{LedgerKey, SinkError, Step, Token, TopicHead};
use crate::source::TopicFacts;

/// The names of a sink's keys.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// What all of them begin with.
    pub(super) prefix: String,
    /// The sink.
    pub(super) sink: String,
    /// What the keys of entries begin with that are to take the place of others; empty for those in use.
    pub(super) entries: String,
}

impl Names {
    /// Says that the pipeline has started.
    pub(super) fn head(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:head:{}", self.prefix, self.sink)
    }

    /// Is there while the entries are being replaced.
    pub(super) fn hold(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:hold:{}", self.prefix, self.sink)
    }

    /// Is there while the cache is being cleared.
    pub(super) fn clearing(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:clearing:{}", self.prefix, self.sink)
    }

    /// Names the rewind that fills the entries of this sink, which take the place of others.
    pub(super) fn filler(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:filler:{}", self.prefix, self.sink)
    }

    /// What the keys of a pipeline's rows begin with.
    pub(super) fn rows(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:ledger:{}:", self.prefix, self.sink)
    }

    pub(super) fn row(&self, key: &LedgerKey) -> String {
        format!("{}{}:{}", self.rows(&key.pipeline), key.partition.topic, key.partition.partition)
    }

    /// Names the partitions that have a history.
    pub(super) fn histories(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:history:{}", self.prefix, self.sink)
    }

    /// What the keys of a pipeline's topics begin with.
    pub(super) fn topics(&self, pipeline: &str) -> String {
        format!("{}{pipeline}:topic:{}:", self.prefix, self.sink)
    }

    pub(super) fn topic(&self, pipeline: &str, topic: &str) -> String {
        format!("{}{topic}", self.topics(pipeline))
    }
}

/// What a write compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) token: Token,
    pub(super) next: u64,
    pub(super) digest: String,
}

pub(super) fn read(commands: &mut Pipeline, row: &str) {
    commands.cmd("HMGET").arg(row).arg("token").arg("next").arg("digest");
}

/// The answer to [`read`]; none when there is no such row.
pub(super) fn row(answer: &Value, key: &str) -> Result<Option<Row>, SinkError> {
    let (token, next, digest) = match fields::<(Option<String>, Option<String>, Option<String>)>(answer, key)? {
        (None, None, _) => return Ok(None),
        (token, next, digest) => (token.unwrap_or_default(), next.unwrap_or_default(), digest.unwrap_or_default()),
    };
    match (u128::from_str_radix(&token, 16), next.parse()) {
        (Ok(token), Ok(next)) => Ok(Some(Row { token: Token(token), next, digest })),
        _ => Err(broken(key)),
    }
}

/// Enters a row.
pub(super) fn enter(commands: &mut Pipeline, row: &str, token: Token, next: u64, now: i64) {
    let command = commands.cmd("HSET").arg(row).arg("token").arg(text(token)).arg("next").arg(next);
    command.arg("digest").arg("").arg("note").arg("").arg("updated_at").arg(now);
}

/// Changes a row's owner.
pub(super) fn take_over(commands: &mut Pipeline, row: &str, token: Token, now: i64) {
    commands.cmd("HSET").arg(row).arg("token").arg(text(token)).arg("updated_at").arg(now);
}

/// Moves a row.
pub(super) fn advance(commands: &mut Pipeline, row: &str, step: &Step<'_>, now: i64) {
    let command = commands.cmd("HSET").arg(row).arg("next").arg(step.to).arg("digest").arg(step.digest);
    command.arg("note").arg(step.note).arg("updated_at").arg(now);
}

pub(super) fn read_topic(commands: &mut Pipeline, key: &str) {
    commands.cmd("HMGET").arg(key).arg("partitions").arg("id").arg("epoch");
}

/// The answer to [`read_topic`].
pub(super) fn topic(answer: &Value, key: &str) -> Result<Option<TopicHead>, SinkError> {
    match fields::<(Option<u32>, Option<String>, Option<u16>)>(answer, key)? {
        (None, None, None) => Ok(None),
        (Some(partitions), id, Some(epoch)) => Ok(Some(TopicHead { facts: TopicFacts { partitions, id }, epoch })),
        _ => Err(broken(key)),
    }
}

pub(super) fn set_topic(commands: &mut Pipeline, key: &str, head: &TopicHead) {
    commands.cmd("UNLINK").arg(key);
    let command = commands.cmd("HSET").arg(key).arg("partitions").arg(head.facts.partitions);
    command.arg("epoch").arg(head.epoch);
    if let Some(id) = &head.facts.id {
        command.arg("id").arg(id);
    }
}

/// An answer's parts.
pub(super) fn fields<T: ::redis::FromRedisValue>(answer: &Value, key: &str) -> Result<T, SinkError> {
    from_redis_value(answer.clone()).map_err(|_| broken(key))
}

pub(super) fn broken(key: &str) -> SinkError {
    SinkError::Stop(format!("the key {key} of the ledger was changed by something else: restore it"))
}

fn text(token: Token) -> String {
    format!("{:032x}", token.0)
}
