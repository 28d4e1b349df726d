//! Three queries to try on the store, each shown with the first rows that it gives.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::shown;
use crate::console::{say, step};

/// What a query answers, and the query.
const QUERIES: [(&str, &str); 3] = [
    (
        "The books that sold best, from the analytics tables",
        "SELECT title, sum(i.quantity) AS units, count(DISTINCT i.order_id) AS orders
FROM fact_order_items i JOIN fact_orders o ON o.id = i.order_id JOIN dim_books b ON b.id = i.book_id
WHERE o.status <> 'CANCELLED' GROUP BY b.id ORDER BY units DESC LIMIT 3",
    ),
    (
        "Companies with their job postings, from the search documents",
        "SELECT c.body ->> 'company_name' AS company, count(*) AS postings, max(p.body ->> 'salary_min') AS salary
FROM tidegate_documents p JOIN tidegate_documents c ON c.index_name = 'company' AND c.id = p.body ->> 'company_id'
WHERE p.index_name = 'job_posting' GROUP BY c.id ORDER BY postings DESC, salary DESC LIMIT 3",
    ),
    (
        "Orders in the cache, and when they expire",
        "SELECT key, value ->> 'status' AS status, datetime(expires_at / 1000, 'unixepoch') AS expires
FROM tidegate_cache WHERE sink = 'order-cache' ORDER BY value ->> 'updated_at' DESC LIMIT 3",
    ),
];

/// Prints the queries with their answers.
pub(super) fn show(store: &Path) -> anyhow::Result<()> {
    step(format_args!("Three queries to try: sqlite3 {}", shown(store)));
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot open the store {}", store.display()))?;
    for (title, sql) in QUERIES {
        say(format_args!("\n-- {title}\n{sql};"));
        for row in answer(&connection, sql).with_context(|| format!("the query `{sql}`"))? {
            say(format_args!("   {row}"));
        }
    }
    Ok(())
}

/// The rows of an answer, each as one line.
fn answer(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cells = (0..columns).map(|place| {
            Ok(match row.get(place)? {
                Value::Null => String::new(),
                Value::Integer(number) => number.to_string(),
                Value::Real(number) => number.to_string(),
                Value::Text(text) => text,
                Value::Blob(bytes) => format!("{} bytes", bytes.len()),
            })
        });
        Ok(cells.collect::<rusqlite::Result<Vec<_>>>()?.join(" | "))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{QUERIES, answer};
    use crate::verify::fixture::CorrectStore;

    #[test]
    fn every_query_has_an_answer() {
        let store = CorrectStore::new();
        for (title, sql) in QUERIES {
            let rows = answer(&store.connection, sql).unwrap();
            assert_eq!(rows.len(), 3, "{title}: {rows:#?}");
        }
    }
}
