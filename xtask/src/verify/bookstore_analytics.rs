//! bookstore-analytics: the tables hold each living row, and of each deleted row the last image that the events gave.

use std::collections::BTreeMap;

use super::check::Verdict;
use super::json::{Json, Members};
use super::recorded::{Change, Images};
use super::source::{Source, Table};
use super::store::Store;
use super::value::Form;

/// The tables of the source, and the analytics tables that mirror them.
pub const TABLES: [(&str, &str); 4] = [
    ("orders", "fact_orders"),
    ("order_items", "fact_order_items"),
    ("books", "dim_books"),
    ("inventory", "fact_inventory"),
];

pub(super) fn check(verdict: &mut Verdict, store: &Store, source: &Source, changes: &[Change]) -> anyhow::Result<()> {
    for (from, into) in TABLES {
        let table = source.table(from)?;
        // Deletes are skipped, so a row that comes again finds what was left of it.
        let images = Images::follow(changes, from, true);
        let mut found = rows_by_identity(verdict, table, into, store.table(into)?);
        verdict.holds.push(format!("{} rows in {into}", found.len()));
        let mut living = Vec::new();
        for row in &table.rows {
            let identity = table.identity(row);
            compare(verdict, table, into, &identity, (&cut_to_milliseconds(table, row), &images), &mut found);
            living.push(identity);
        }
        for (identity, row) in images.whole().filter(|(identity, _)| !living.iter().any(|other| other == identity)) {
            compare(verdict, table, into, identity, (row, &images), &mut found);
        }
        for (identity, row) in found {
            verdict.differs(&format!("{into} {identity}"), None, "nothing", Json::Object(row).to_string());
        }
    }
    Ok(())
}

fn rows_by_identity(verdict: &mut Verdict, table: &Table, into: &str, rows: Vec<Members>) -> BTreeMap<String, Members> {
    let mut found = BTreeMap::new();
    for row in rows {
        let identity = table.identity(&row);
        if let Some(other) = found.insert(identity.clone(), row) {
            verdict.differs(&format!("{into} {identity}"), None, "one row", Json::Object(other).to_string());
        }
    }
    found
}

fn compare(
    verdict: &mut Verdict,
    table: &Table,
    into: &str,
    identity: &str,
    (expected, images): (&Members, &Images),
    found: &mut BTreeMap<String, Members>,
) {
    let key = format!("{into} {identity}");
    let row = found.remove(identity);
    if verdict.must_be_absent(&key, images.is_incomplete(identity), row.is_some()) {
        return;
    }
    match row {
        Some(row) => verdict.row(&key, &table.columns, (expected, &row), Form::Cell, str::to_owned),
        None => verdict.differs(&key, None, "the row", "nothing"),
    }
}

/// The connector's time mode is `connect`, which cuts a `timestamp` to milliseconds; one with a time zone stays whole.
pub fn cut_to_milliseconds(table: &Table, row: &Members) -> Members {
    let is_plain =
        |name: &str| table.columns.iter().any(|column| column.name == name && column.of.ends_with("without time zone"));
    let cut = |name: &str, value: &Json| match value {
        Json::Text(text) if is_plain(name) => {
            let end = text.find('.').map_or(text.len(), |point| text.len().min(point + 4));
            Json::Text(text[..end].to_owned())
        }
        other => other.clone(),
    };
    row.iter().map(|(name, value)| (name.clone(), cut(name, value))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::cut_to_milliseconds;
    use crate::verify::fixture;
    use crate::verify::json::{self, Json};

    #[test]
    fn a_timestamp_is_cut_and_a_zoned_one_is_not() {
        let source = fixture::source("bookstore-analytics");
        let books = source.table("books").unwrap();
        let row = vec![("created_at".to_owned(), Json::Text("2025-01-21T14:37:13.999999".into()))];
        let cut = cut_to_milliseconds(books, &row);
        assert_eq!(json::get(&cut, "created_at").unwrap().text(), Some("2025-01-21T14:37:13.999"));

        let inventory = source.table("inventory").unwrap();
        let row = vec![("updated_at".to_owned(), Json::Text("2024-09-13T05:58:19.999999+00:00".into()))];
        let whole = cut_to_milliseconds(inventory, &row);
        assert_eq!(json::get(&whole, "updated_at").unwrap().text(), Some("2024-09-13T05:58:19.999999+00:00"));
    }
}
