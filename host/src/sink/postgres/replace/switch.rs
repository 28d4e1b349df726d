//! The statements of the switch: rows, ledger and the end of the copies.

use std::collections::BTreeSet;

use super::super::copies::Copied;
use super::super::error::Problem;
use super::super::ledger::text;
use super::super::name::{TableName, quoted};
use super::super::session::Session;
use super::order::Order;
use super::{LOCK_MS, Rewind};
use crate::sink::Token;

/// What brings a table to what its copy holds. The conditions of a delete may be added to.
struct Statements {
    deleted: String,
    changed: String,
    made: String,
}

/// How many rows of a table the switch has changed.
#[derive(Clone, Copy, Default)]
struct Counts {
    deleted: u64,
    changed: u64,
    made: u64,
}

impl Rewind {
    async fn statements(
        &self,
        session: &mut Session,
        real: &TableName,
        copied: &Copied,
    ) -> Result<Statements, Problem> {
        let copy = TableName::new(&real.table, &self.copies).quoted();
        // What the database gives by itself is not taken from the copy.
        let sql = "SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND (a.attidentity = 'a' OR a.attgenerated <> '')";
        let rows = session.query(sql, &[&real.schema, &real.table]).await?;
        let own: BTreeSet<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let values: Vec<String> =
            copied.written.iter().filter(|name| !own.contains(*name)).map(|name| quoted(name)).collect();
        let key: Vec<String> = copied.key.iter().map(|name| quoted(name)).collect();
        let each = |names: &[String], form: &dyn Fn(&String) -> String, between: &str| {
            names.iter().map(form).collect::<Vec<_>>().join(between)
        };
        let real = real.quoted();
        let same = each(&key, &|name| format!("t.{name} = s.{name}"), " AND ");
        let deleted = format!("DELETE FROM {real} t WHERE NOT EXISTS (SELECT 1 FROM {copy} s WHERE {same})");
        let changed = if values.is_empty() {
            String::new()
        } else {
            let set = each(&values, &|name| format!("{name} = s.{name}"), ", ");
            // By the bytes: not every type can be compared otherwise, and 1.0 is not 1.00.
            let side = |side: &str| format!("ROW({})::record", each(&values, &|name| format!("{side}.{name}"), ", "));
            format!("UPDATE {real} t SET {set} FROM {copy} s WHERE {same} AND ({} *<> {})", side("t"), side("s"))
        };
        let all: Vec<String> = key.iter().chain(&values).cloned().collect();
        let (columns, read) = (all.join(", "), each(&all, &|name| format!("s.{name}"), ", "));
        let made = format!(
            "INSERT INTO {real} ({columns}) OVERRIDING SYSTEM VALUE SELECT {read} FROM {copy} s
             WHERE NOT EXISTS (SELECT 1 FROM {real} t WHERE {same})"
        );
        Ok(Statements { deleted, changed, made })
    }

    /// Waits for what the fill has still on its way, and keeps off what would come later: a write that was given up at
    /// the end of the fill goes on in the server.
    async fn end_fill(&self, session: &mut Session) -> Result<(), Problem> {
        // The server's limits for the fill's own statements end that wait.
        session.run("SET LOCAL lock_timeout = 0").await?;
        self.lock_rows(session, &self.fresh_ledger.sink).await?;
        session.run(&format!("SET LOCAL lock_timeout = {LOCK_MS}")).await
    }

    /// All of the switch but the commit; what is told of it.
    pub(super) async fn replace(&self, session: &mut Session) -> Result<Vec<String>, Problem> {
        self.end_fill(session).await?;
        let tables: Vec<(String, Copied)> = match &self.fresh.copies {
            Some(copies) => copies.tables(),
            None => Vec::new(),
        };
        let names: Vec<TableName> = tables.iter().map(|(table, _)| TableName::new(table, &self.schema)).collect();
        let counts = self.bring(session, &names, &tables).await?;
        self.set_ledger(session).await?;
        self.forget(session).await?;
        session.run(&format!("DROP SCHEMA {} CASCADE", quoted(&self.copies))).await?;
        session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let told = tables.iter().zip(counts).map(|((table, _), Counts { deleted, changed, made })| {
            format!("table {table}: {deleted} rows deleted, {changed} changed, {made} made; the others were right")
        });
        Ok(told.collect())
    }

    /// Brings the tables to what the copies hold. No row that stays goes with another one by a foreign key: it is moved to
    /// its new parents, which are there by then, before the old ones are deleted.
    async fn bring(
        &self,
        session: &mut Session,
        names: &[TableName],
        tables: &[(String, Copied)],
    ) -> Result<Vec<Counts>, Problem> {
        let order = Order::new(session, names).await?;
        let mut all = Vec::new();
        for (place, (name, (_, copied))) in names.iter().zip(tables).enumerate() {
            all.push((place, self.statements(session, name, copied).await?, order.unreferred(place, names)));
        }
        let all: Vec<_> = order.parents_first.iter().filter_map(|place| all.get(*place)).collect();
        let mut counts = vec![Counts::default(); tables.len()];
        // What is deleted makes room for what takes its unique values.
        for (place, sql, unreferred) in all.iter().rev() {
            let sql = format!("{}{unreferred}", sql.deleted);
            counts[*place].deleted += done(session, &names[*place], &sql).await?;
        }
        for (place, sql, _) in &all {
            fill(session, &names[*place], sql, order.refers_to_itself(*place), &mut counts[*place]).await?;
        }
        let mut late = 0;
        for (place, sql, _) in all.iter().rev().filter(|(_, _, unreferred)| !unreferred.is_empty()) {
            let deleted = done(session, &names[*place], &sql.deleted).await?;
            counts[*place].deleted += deleted;
            late += deleted;
        }
        // By a foreign key on columns that no module writes, rows may have gone all the same.
        for (place, sql, _) in all.iter().filter(|(place, ..)| late > 0 && order.refers(*place)) {
            fill(session, &names[*place], sql, order.refers_to_itself(*place), &mut counts[*place]).await?;
        }
        Ok(counts)
    }

    async fn set_ledger(&self, session: &mut Session) -> Result<(), Problem> {
        let half = || getrandom::u64().map_err(|e| Problem::Stop(format!("the system gives no random numbers: {e}")));
        let token = text(Token(u128::from(half()?) << 64 | u128::from(half()?)));
        let schema = &self.real.schema;
        let (pipeline, real, fresh) = (&self.pipeline, &self.real.sink, &self.fresh_ledger.sink);
        for table in ["ledger", "topics"] {
            let sql = format!("DELETE FROM {schema}.{table} WHERE pipeline = $1 AND sink = $2");
            session.execute(&sql, &[pipeline, real]).await?;
        }
        let sql = format!(
            "INSERT INTO {schema}.ledger (pipeline, sink, topic, partition, token, next_offset, digest, note)
             SELECT pipeline, $2, topic, partition, $4, next_offset, digest, note FROM {schema}.ledger
             WHERE pipeline = $1 AND sink = $3"
        );
        session.execute(&sql, &[pipeline, real, fresh, &token]).await?;
        let sql = format!("UPDATE {schema}.topics SET sink = $2 WHERE pipeline = $1 AND sink = $3");
        session.execute(&sql, &[pipeline, real, fresh]).await?;
        // After all that is known of a partition.
        let sql = format!(
            "INSERT INTO {schema}.history AS h (pipeline, sink, topic, partition, from_offset, digests, changed_at)
             SELECT f.pipeline, $2, f.topic, f.partition, f.from_offset, f.digests, greatest(now(),
                 (SELECT max(changed_at) FROM {schema}.history o WHERE o.pipeline = $1 AND o.sink = $2
                  AND o.topic = f.topic AND o.partition = f.partition))
             FROM {schema}.history f WHERE f.pipeline = $1 AND f.sink = $3
             ON CONFLICT (pipeline, sink, topic, partition, from_offset)
             DO UPDATE SET digests = excluded.digests, changed_at = excluded.changed_at"
        );
        session.execute(&sql, &[pipeline, real, fresh]).await?;
        Ok(())
    }
}

/// Changes and makes rows of a table. Where it refers to itself, a row may become the child of one that is new.
async fn fill(
    session: &mut Session,
    table: &TableName,
    sql: &Statements,
    refers_to_itself: bool,
    counts: &mut Counts,
) -> Result<(), Problem> {
    if refers_to_itself {
        counts.made += done(session, table, &sql.made).await?;
    }
    counts.changed += done(session, table, &sql.changed).await?;
    if !refers_to_itself {
        counts.made += done(session, table, &sql.made).await?;
    }
    Ok(())
}

/// Executes a statement of the switch, if it is one; how many rows it touched.
async fn done(session: &mut Session, table: &TableName, sql: &str) -> Result<u64, Problem> {
    if sql.is_empty() {
        return Ok(0);
    }
    session.execute(sql, &[]).await.map_err(|problem| match problem {
        Problem::Bad(text) | Problem::Raised(text) | Problem::Clash(text) => Problem::Stop(format!(
            "table {} cannot be brought to what the fill has made: {text}: drop the constraint, or make it DEFERRABLE",
            table.table
        )),
        other => other,
    })
}
