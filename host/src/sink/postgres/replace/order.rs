//! The order in which a switch goes through tables that refer to each other.

use super::super::error::Problem;
use super::super::name::{TableName, quoted};
use super::super::session::Session;

/// A foreign key between two tables of the pipeline.
#[derive(Debug)]
pub(super) struct ForeignKey {
    /// The places of the referring table and of the one that it refers to.
    from: usize,
    to: usize,
    columns: Vec<String>,
    referred: Vec<String>,
}

/// The foreign keys that refer to a table or to a partition of it: the referring table, its columns, the columns referred
/// to.
const REFERRING: &str = "
    WITH RECURSIVE below AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid
    )
    SELECT c.relname::text,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(number, place)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
           ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(number, place)
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place)
    FROM pg_constraint k JOIN below ON k.confrelid = below.oid
    JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid)
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
    WHERE k.contype = 'f' AND k.conparentid = 0";

/// The tables of a switch and how they refer to each other.
pub(super) struct Order {
    keys: Vec<ForeignKey>,
    /// The places of the tables, each behind those that it refers to.
    pub(super) parents_first: Vec<usize>,
}

impl Order {
    /// Of these tables of one schema.
    pub(super) async fn new(session: &mut Session, tables: &[TableName]) -> Result<Self, Problem> {
        let mut keys = Vec::new();
        for (to, table) in tables.iter().enumerate() {
            for row in session.query(REFERRING, &[&table.schema, &table.table]).await? {
                let name: String = row.try_get(0)?;
                // What refers to it from elsewhere is its users', as when the pipeline deletes a row.
                if let Some(from) = tables.iter().position(|table| table.table == name) {
                    keys.push(ForeignKey { from, to, columns: row.try_get(1)?, referred: row.try_get(2)? });
                }
            }
        }
        let parents_first = parents_first(tables.len(), &keys);
        Ok(Self { keys, parents_first })
    }

    /// Whether a table refers to itself.
    pub(super) fn refers_to_itself(&self, place: usize) -> bool {
        self.keys.iter().any(|key| key.from == place && key.to == place)
    }

    /// Whether a table refers to any.
    pub(super) fn refers(&self, place: usize) -> bool {
        self.keys.iter().any(|key| key.from == place)
    }

    /// A condition on rows `t` of a table: no row refers to them. Empty where none can.
    pub(super) fn unreferred(&self, place: usize, tables: &[TableName]) -> String {
        let each = self.keys.iter().filter(|key| key.to == place).filter_map(|key| {
            let from = tables.get(key.from)?.quoted();
            let same = key.columns.iter().zip(&key.referred);
            let same: Vec<_> = same.map(|(from, to)| format!("r.{} = t.{}", quoted(from), quoted(to))).collect();
            Some(format!(" AND NOT EXISTS (SELECT 1 FROM {from} r WHERE {})", same.join(" AND ")))
        });
        each.collect()
    }
}

/// Tables that refer to each other in a circle come by their places.
fn parents_first(count: usize, keys: &[ForeignKey]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(count);
    while order.len() < count {
        let waits =
            |place: usize| keys.iter().any(|key| key.from == place && key.to != place && !order.contains(&key.to));
        let mut left = (0..count).filter(|place| !order.contains(place));
        let first = left.clone().next();
        let Some(next) = left.find(|place| !waits(*place)).or(first) else { break };
        order.push(next);
    }
    order
}
