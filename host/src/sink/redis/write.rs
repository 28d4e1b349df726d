//! A batch as one transaction: the row of the ledger and the entries to merge into are watched, read and compared, and
//! what is watched keeps others' changes from coming in between.

use ::redis::{Pipeline, Value};

use super::cache::{self, Stored};
use super::connection::{Connection, begin};
use super::error;
use super::history;
use super::ledger::{self, Names, Row};
use crate::sink::{SinkError, Step, Write, Written};

/// How often to begin again when others change what is watched. Others can do so without end only where they write
/// the very entries that are merged into.
pub(super) const TRIES: usize = 16;

/// What a look at the store found.
struct Found {
    row: Option<Row>,
    stored: Vec<Option<Stored>>,
    /// Whether it was looked at now; else it is what a batch before found after it was done.
    now: bool,
}

pub(super) async fn write(
    connection: &mut Connection,
    names: &Names,
    step: &Step<'_>,
    writes: &[Write<'_>],
    now: i64,
) -> Result<Written, SinkError> {
    let row = names.row(step.key);
    let reads = cache::reads(writes);
    let mut known = connection.watched(&row);
    for _ in 0..TRIES {
        let found = match known {
            Some(held) if reads.is_empty() => Found { row: held, stored: Vec::new(), now: false },
            _ => look(connection, &row, &reads).await?,
        };
        let mut change = begin();
        let answer = match found.row {
            None => Written::LedgerMissing,
            Some(held) if held.token != step.token || held.next != step.from => step.refused(held.token, held.next),
            Some(held) => match cache::apply(writes, &reads, found.stored, names, &mut change) {
                Err(bad) => Written::Rejected(bad),
                Ok(()) => {
                    ledger::advance(&mut change, &row, step, now);
                    if held.digest != step.digest {
                        history::add(&mut change, names, step, now);
                    }
                    if connection.commit(&row, change).await? {
                        return Ok(Written::Applied);
                    }
                    known = connection.watched(&row);
                    continue;
                }
            },
        };
        // What was known may be out of date; only a write that goes through is proof against that.
        if found.now {
            return Ok(answer);
        }
        known = None;
    }
    Err(SinkError::Retry(format!(
        "{TRIES} times, something else changed the ledger or an entry to merge into while a batch was written"
    )))
}

/// Watches, and then reads: the entries first, so that a row that still bears the token vouches for them.
async fn look(connection: &mut Connection, row: &str, reads: &[&str]) -> Result<Found, SinkError> {
    let mut commands = Pipeline::new();
    commands.cmd("UNWATCH").cmd("WATCH").arg(row).arg(reads);
    let before = commands.len();
    for key in reads {
        commands.cmd("GET").arg(key);
    }
    ledger::read(&mut commands, row);
    let mut answers = connection.request(&commands).await?;
    let held = answers.pop().unwrap_or_default();
    let values = answers.split_off(before);
    error::check(&answers)?;
    error::check(std::slice::from_ref(&held))?;
    let held = ledger::row(&held, row)?;
    connection.watches(row, held.clone());
    let mut stored = Vec::with_capacity(reads.len());
    for (key, value) in reads.iter().zip(values) {
        stored.push(match value {
            Value::Nil => None,
            Value::BulkString(bytes) => Some(Ok(bytes)),
            Value::ServerError(refusal) if refusal.code() == "WRONGTYPE" => {
                Some(Err(wrong_type(connection, key).await?))
            }
            other => {
                error::check(std::slice::from_ref(&other))?;
                return Err(SinkError::Retry(format!("GET of {key:?} was not answered by a string")));
            }
        });
    }
    Ok(Found { row: held, stored, now: true })
}

async fn wrong_type(connection: &mut Connection, key: &str) -> Result<String, SinkError> {
    let mut commands = Pipeline::new();
    commands.cmd("TYPE").arg(key);
    let answers = connection.demand(&commands).await?;
    let kind = match answers.first() {
        Some(Value::SimpleString(kind)) => kind.as_str(),
        _ => "something else",
    };
    Ok(format!("the entry {key:?} cannot be merged into: it is of Redis's type {kind}, not a string"))
}
