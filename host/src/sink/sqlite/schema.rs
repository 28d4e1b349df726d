//! The tables that tidegate keeps in a SQLite file beside the users' own.

use rusqlite::{Connection, TransactionBehavior};

use super::error::Problem;

/// The version of these tables, kept in `PRAGMA user_version`.
const VERSION: i64 = 3;

// Values have no declared type where SQLite's affinities could change them. Rows of sinks that share a file are told
// apart by the sink's name.
const TABLES: &str = "
-- One row a pipeline and sink: there from the first start on.
CREATE TABLE tidegate_pipelines (
    pipeline TEXT NOT NULL, sink TEXT NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline, sink)
) WITHOUT ROWID;
-- What each topic was when it was first met, or when a change of it was last confirmed.
CREATE TABLE tidegate_topics (
    pipeline TEXT NOT NULL, sink TEXT NOT NULL, topic TEXT NOT NULL,
    partitions INTEGER NOT NULL, topic_id TEXT, epoch INTEGER NOT NULL,
    PRIMARY KEY (pipeline, sink, topic)
) WITHOUT ROWID;
-- How far each partition has come. note: what the last write left out.
CREATE TABLE tidegate_ledger (
    pipeline TEXT NOT NULL, sink TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    token TEXT NOT NULL, next_offset INTEGER NOT NULL, digest TEXT NOT NULL, note TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline, sink, topic, partition)
) WITHOUT ROWID;
-- Which modules made what is held of a partition: from from_offset on, those of these digests.
CREATE TABLE tidegate_history (
    pipeline TEXT NOT NULL, sink TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    from_offset INTEGER NOT NULL, digests TEXT NOT NULL, changed_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline, sink, topic, partition, from_offset)
) WITHOUT ROWID;
-- Which sink made a table, and by which key its rows are written (a JSON array of columns).
CREATE TABLE tidegate_tables (
    table_name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, sink TEXT NOT NULL, key_columns TEXT NOT NULL
) WITHOUT ROWID;
-- The definition of each index, as last declared.
CREATE TABLE tidegate_indexes (
    sink TEXT NOT NULL, index_name TEXT NOT NULL, definition TEXT NOT NULL,
    PRIMARY KEY (sink, index_name)
) WITHOUT ROWID;
-- expires_at: milliseconds since 1970; an entry whose time has come counts as missing, and goes with the next write. value: text where it is UTF-8.
CREATE TABLE tidegate_cache (
    sink TEXT NOT NULL, key TEXT NOT NULL, value NOT NULL, expires_at INTEGER,
    PRIMARY KEY (sink, key)
);
CREATE INDEX tidegate_cache_expiry ON tidegate_cache (sink, expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE tidegate_documents (
    sink TEXT NOT NULL, index_name TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (sink, index_name, id)
);
-- In the order of publishing. key, value: text where they are UTF-8; headers: a JSON array of [name, value] pairs.
CREATE TABLE tidegate_messages (
    sequence INTEGER PRIMARY KEY, sink TEXT NOT NULL, topic TEXT NOT NULL, key, value, headers TEXT
);
";

/// Makes the tables in a new file, and knows them in an old one.
pub(super) fn ensure(connection: &mut Connection) -> Result<(), Problem> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => Ok(()),
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            Ok(transaction.commit()?)
        }
        other => Err(Problem::Stop(format!(
            "the file says version {other} (PRAGMA user_version), this program writes version {VERSION}; \
             give the sink another path"
        ))),
    }
}
