//! Documents and the definitions of their indexes.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::Problem;
use crate::command::Fields;
use crate::command::json::merge_into;
use crate::contract::Index;

/// Keeps an index's definition for those who read the file; SQLite itself has no use for it.
pub(super) fn declare(connection: &Connection, sink: &str, index: &Index) -> Result<(), Problem> {
    connection.execute(
        "INSERT INTO tidegate_indexes (sink, index_name, definition) VALUES (?1, ?2, ?3)
         ON CONFLICT (sink, index_name) DO UPDATE SET definition = excluded.definition",
        params![sink, index.name, index.definition],
    )?;
    Ok(())
}

pub(super) fn index(connection: &Connection, sink: &str, index: &str, id: &str, body: &str) -> Result<(), Problem> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO tidegate_documents (sink, index_name, id, body) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (sink, index_name, id) DO UPDATE SET body = excluded.body",
    )?;
    statement.execute([sink, index, id, body])?;
    Ok(())
}

pub(super) fn merge(
    connection: &Connection,
    sink: &str,
    index: &str,
    id: &str,
    fields: &Fields,
) -> Result<(), Problem> {
    let bad = |problem: &str| Problem::Bad(format!("document {id:?} of {index:?} cannot be merged into: {problem}"));
    let mut statement = connection
        .prepare_cached("SELECT body FROM tidegate_documents WHERE sink = ?1 AND index_name = ?2 AND id = ?3")?;
    let stored: Option<String> = statement.query_row([sink, index, id], |row| row.get(0)).optional()?;
    let stored = stored.ok_or_else(|| bad("it does not exist"))?;
    let merged = merge_into(stored.as_bytes(), fields).map_err(|e| bad(&e))?;
    let mut statement = connection
        .prepare_cached("UPDATE tidegate_documents SET body = ?4 WHERE sink = ?1 AND index_name = ?2 AND id = ?3")?;
    statement.execute([sink, index, id, &merged])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, sink: &str, index: &str, id: &str) -> Result<(), Problem> {
    let mut statement =
        connection.prepare_cached("DELETE FROM tidegate_documents WHERE sink = ?1 AND index_name = ?2 AND id = ?3")?;
    statement.execute([sink, index, id])?;
    Ok(())
}
