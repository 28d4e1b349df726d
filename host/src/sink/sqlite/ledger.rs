//! The ledger's rows, compared and set, and their history.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::Problem;
use crate::sink::{HISTORY_ROWS, HistoryRow, LedgerKey, Standing, Step, Token, TopicHead, Written};
use crate::source::{TopicFacts, TopicPartition};

/// Whether the pipeline has started on this sink before.
pub(super) fn has_head(connection: &Connection, pipeline: &str, sink: &str) -> Result<bool, Problem> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM tidegate_pipelines WHERE pipeline = ?1 AND sink = ?2")?;
    Ok(statement.exists(params![pipeline, sink])?)
}

/// Enters the pipeline's first start; true when it is the first of any pipeline on this sink.
pub(super) fn make_head(connection: &Connection, pipeline: &str, sink: &str, now: i64) -> Result<bool, Problem> {
    let rows: i64 = connection.query_row(
        "SELECT count(*) FROM tidegate_ledger WHERE pipeline = ?1 AND sink = ?2",
        params![pipeline, sink],
        |row| row.get(0),
    )?;
    if rows > 0 {
        return Err(Problem::Stop(format!(
            "pipeline {pipeline} has {rows} rows in tidegate_ledger and none in tidegate_pipelines: part of the file \
             was deleted; restore it, or delete those rows too to begin afresh"
        )));
    }
    let first = !connection.prepare("SELECT 1 FROM tidegate_pipelines WHERE sink = ?1")?.exists([sink])?;
    connection.execute("INSERT INTO tidegate_pipelines VALUES (?1, ?2, ?3)", params![pipeline, sink, now])?;
    Ok(first)
}

/// Enters a topic, or replaces what is held of it, and answers what is held then.
pub(super) fn enter_topic(
    connection: &Connection,
    sink: &str,
    pipeline: &str,
    topic: &str,
    head: &TopicHead,
    replace: bool,
) -> Result<TopicHead, Problem> {
    let verb = if replace { "REPLACE" } else { "IGNORE" };
    connection.execute(
        &format!("INSERT OR {verb} INTO tidegate_topics VALUES (?1, ?2, ?3, ?4, ?5, ?6)"),
        params![pipeline, sink, topic, head.facts.partitions, head.facts.id, head.epoch],
    )?;
    let held = connection.query_row(
        "SELECT partitions, topic_id, epoch FROM tidegate_topics WHERE pipeline = ?1 AND sink = ?2 AND topic = ?3",
        params![pipeline, sink, topic],
        |row| Ok(TopicHead { facts: TopicFacts { partitions: row.get(0)?, id: row.get(1)? }, epoch: row.get(2)? }),
    )?;
    Ok(held)
}

/// Forgets what the ledger holds of a pipeline, its head excepted.
pub(super) fn forget(connection: &Connection, sink: &str, pipeline: &str) -> Result<(), Problem> {
    for table in ["tidegate_ledger", "tidegate_topics"] {
        connection
            .execute(&format!("DELETE FROM {table} WHERE pipeline = ?1 AND sink = ?2"), params![pipeline, sink])?;
    }
    Ok(())
}

/// Takes a partition over.
pub(super) fn claim(
    connection: &Connection,
    sink: &str,
    key: &LedgerKey,
    token: Token,
    start: u64,
    now: i64,
) -> Result<Standing, Problem> {
    if !has_head(connection, &key.pipeline, sink)? {
        return Err(Problem::Stop(format!(
            "pipeline {} is not entered in tidegate_pipelines: its ledger was deleted while it ran; restart to begin afresh",
            key.pipeline
        )));
    }
    if let Some((_, next, note)) = read(connection, sink, key)? {
        let mut statement = connection.prepare_cached(
            "UPDATE tidegate_ledger SET token = ?1, updated_at = ?2
             WHERE pipeline = ?3 AND sink = ?4 AND topic = ?5 AND partition = ?6",
        )?;
        let partition = &key.partition;
        statement.execute(params![text(token), now, key.pipeline, sink, &*partition.topic, partition.partition])?;
        return Ok(Standing { next, known: true, note });
    }
    let mut statement =
        connection.prepare_cached("INSERT INTO tidegate_ledger VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', '', ?7)")?;
    let partition = &key.partition;
    let next = signed(start)?;
    statement.execute(params![key.pipeline, sink, &*partition.topic, partition.partition, text(token), next, now])?;
    Ok(Standing { next: start, known: false, note: String::new() })
}

/// Moves the ledger; None when it has been moved, else why not.
pub(super) fn advance(
    connection: &Connection,
    sink: &str,
    step: &Step<'_>,
    now: i64,
) -> Result<Option<Written>, Problem> {
    let LedgerKey { pipeline, partition } = step.key;
    let (from, to) = (signed(step.from)?, signed(step.to)?);
    let (topic, number) = (&*partition.topic, partition.partition);
    let (token, digest, note) = (text(step.token), step.digest, step.note);
    let moved = |digest_is: &str| -> Result<bool, Problem> {
        let mut statement = connection.prepare_cached(&format!(
            "UPDATE tidegate_ledger SET next_offset = ?1, digest = ?2, note = ?3, updated_at = ?4
             WHERE pipeline = ?5 AND sink = ?6 AND topic = ?7 AND partition = ?8 AND token = ?9 AND next_offset = ?10
                   AND digest {digest_is} ?2"
        ))?;
        let values = params![to, digest, note, now, pipeline, sink, topic, number, token, from];
        Ok(statement.execute(values)? == 1)
    };
    if moved("=")? {
        return Ok(None);
    }
    if moved("<>")? {
        let mut statement = connection.prepare_cached(
            "INSERT OR REPLACE INTO tidegate_history
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, max(?7, ifnull(max(changed_at), ?7)) FROM tidegate_history
             WHERE pipeline = ?1 AND sink = ?2 AND topic = ?3 AND partition = ?4",
        )?;
        statement.execute(params![pipeline, sink, topic, number, from, digest, now])?;
        return Ok(None);
    }
    Ok(Some(match read(connection, sink, step.key)? {
        None => Written::LedgerMissing,
        // The token is compared as text, and told apart here by whether it was ours.
        Some((held, ..)) if held != token => Written::Fenced,
        Some((_, next, _)) => step.refused(step.token, next),
    }))
}

/// The history of a pipeline's rows.
pub(super) fn history(connection: &Connection, sink: &str, pipeline: &str) -> Result<Vec<HistoryRow>, Problem> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT topic, partition, from_offset, digests, changed_at FROM tidegate_history
         WHERE pipeline = ?1 AND sink = ?2 ORDER BY changed_at DESC, from_offset DESC LIMIT {HISTORY_ROWS}"
    ))?;
    let mut found = statement.query(params![pipeline, sink])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let partition = TopicPartition { topic: row.get::<_, String>(0)?.into(), partition: row.get(1)? };
        let offset = unsigned(row.get(2)?, &partition)?;
        rows.push(HistoryRow::new(partition, offset, &row.get::<_, String>(3)?, row.get(4)?));
    }
    Ok(HistoryRow::ordered(rows))
}

/// Whose the partition is, and where it stands. What is no token is nobody's.
pub(super) fn position(connection: &Connection, sink: &str, key: &LedgerKey) -> Result<Option<(Token, u64)>, Problem> {
    let row = read(connection, sink, key)?;
    Ok(row.map(|(token, next, _)| (Token(u128::from_str_radix(&token, 16).unwrap_or_default()), next)))
}

fn read(connection: &Connection, sink: &str, key: &LedgerKey) -> Result<Option<(String, u64, String)>, Problem> {
    let mut statement = connection.prepare_cached(
        "SELECT token, next_offset, note FROM tidegate_ledger
         WHERE pipeline = ?1 AND sink = ?2 AND topic = ?3 AND partition = ?4",
    )?;
    let partition = &key.partition;
    let row = statement
        .query_row(params![key.pipeline, sink, &*partition.topic, partition.partition], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?))
        })
        .optional()?;
    row.map(|(token, next, note)| Ok((token, unsigned(next, partition)?, note))).transpose()
}

fn text(token: Token) -> String {
    format!("{:032x}", token.0)
}

fn signed(offset: u64) -> Result<i64, Problem> {
    i64::try_from(offset).map_err(|_| Problem::Stop(format!("offset {offset} is beyond what Kafka can have")))
}

fn unsigned(offset: i64, partition: &TopicPartition) -> Result<u64, Problem> {
    u64::try_from(offset).map_err(|_| {
        Problem::Stop(format!("the ledger holds offset {offset} of {partition}: it was tampered with; restore it"))
    })
}
