//! What the server is, and whether it lets the sink do what it will have to.

use std::collections::BTreeSet;

use ::redis::{Pipeline, Value, from_redis_value};

use super::connection::Connection;
use super::error;
use super::ledger::Names;
use crate::inspection::Inspection;
use crate::sink::{Declared, LedgerKey, SinkError};
use crate::source::TopicPartition;

/// Why there is no Cluster.
pub(super) const NO_CLUSTER: &str = "Redis Cluster is not supported: a batch has keys of many slots and one ledger, \
                                     and a transaction has one slot; use a server without cluster mode";

/// Asks the server what it is: a fault is what it must not be, a note is what endangers the ledger, and not the start.
pub(super) async fn server(connection: &mut Connection) -> Result<Inspection, SinkError> {
    let mut commands = Pipeline::new();
    commands.cmd("INFO");
    let mut answers = connection.request(&commands).await?;
    let answer = answers.pop().unwrap_or_default();
    if error::server_error(&answer).is_some_and(|refusal| refusal.code() == "NOPERM") {
        // It is for advice alone; what the sink needs is rehearsed.
        return Ok(Inspection::default());
    }
    error::check(std::slice::from_ref(&answer))?;
    Ok(read(&from_redis_value::<String>(answer).unwrap_or_default()))
}

fn read(info: &str) -> Inspection {
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim);
    let mut found = Inspection::default();
    if field("cluster_enabled") == "1" {
        found.faults.push(NO_CLUSTER.to_owned());
    }
    let version = field("redis_version");
    if version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 7) {
        found.faults.push(format!("the server is Redis {version}: use Redis 7 or newer, or Valkey"));
    }
    let (policy, limit) = (field("maxmemory_policy"), field("maxmemory"));
    if policy.starts_with("allkeys") && limit != "0" {
        found.notes.push(format!(
            "maxmemory-policy is {policy}: when memory is short, the server may throw the ledger away, and the cache \
             is filled from the start; set it to volatile-lru or noeviction"
        ));
    }
    found
}

/// Queues all that the sink will do, and discards it: the server checks permissions and its own state as it queues.
/// Answers what is not permitted; anything else that is wrong is an error.
pub(super) async fn rehearse(
    connection: &mut Connection,
    names: &Names,
    user: &str,
    declared: &Declared,
) -> Result<Option<String>, SinkError> {
    // A pipeline of this name may well be there: nothing of it is changed.
    let row = names.row(&LedgerKey {
        pipeline: "tidegate".into(),
        partition: TopicPartition { topic: "tidegate".into(), partition: 0 },
    });
    let mut commands = Pipeline::new();
    commands.cmd("UNWATCH").cmd("WATCH").arg(&row).cmd("MULTI");
    commands.cmd("HMGET").arg(&row).arg("token").cmd("HSET").arg(&row).arg("token").arg("");
    commands.cmd("HSETNX").arg(&row).arg("token").arg("").cmd("EXISTS").arg(&row).cmd("UNLINK").arg(&row);
    commands.cmd("SCAN").arg(0);
    let history = names.histories("tidegate");
    commands.cmd("RPUSH").arg(&history).arg("").cmd("LTRIM").arg(&history).arg(0).arg(0);
    commands.cmd("LRANGE").arg(&history).arg(0).arg(0);
    commands.cmd("SADD").arg(&history).arg("").cmd("SMEMBERS").arg(&history);
    for pattern in &declared.cache_keys {
        let key = match pattern.strip_suffix('*') {
            Some(beginning) => format!("{beginning}tidegate"),
            None => pattern.clone(),
        };
        commands.cmd("GET").arg(&key).cmd("TYPE").arg(&key).cmd("SET").arg(&key).arg("");
        commands.cmd("MSET").arg(&key).arg("").cmd("UNLINK").arg(&key);
    }
    commands.cmd("DISCARD");
    let answers = connection.request(&commands).await?;
    let (denied, rest): (Vec<Value>, Vec<Value>) = answers
        .into_iter()
        .partition(|answer| error::server_error(answer).is_some_and(|refusal| refusal.code() == "NOPERM"));
    if denied.is_empty() {
        error::check(&rest)?;
        return Ok(None);
    }
    let texts: BTreeSet<_> =
        denied.iter().filter_map(error::server_error).filter_map(|refusal| refusal.details()).collect();
    let patterns: Vec<String> = declared.cache_keys.iter().map(|key| format!("'~{key}'")).collect();
    Ok(Some(format!(
        "{}: allow it by `ACL SETUSER {user} {} '~{}*' {}`",
        texts.into_iter().collect::<Vec<_>>().join(", "),
        error::COMMANDS,
        names.prefix,
        patterns.join(" ")
    )))
}

/// What the transforms declared that this store cannot keep.
pub(super) fn declaration(names: &Names, declared: &Declared) -> Vec<String> {
    let of_ledger = declared.cache_keys.iter().filter(|key| key.starts_with(&names.prefix));
    let told = |key| format!("the cache keys {key:?} begin as the ledger's do: give the sink another `prefix`");
    of_ledger.map(told).collect()
}
