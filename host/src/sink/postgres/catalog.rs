//! What the database's catalog says of the users' tables, held against what the transforms declare.

use std::collections::HashSet;

use tokio_postgres::Row;

use super::error::Problem;
use super::name::{LONGEST, TableName, quoted, reserved};
use super::session::Session;
use crate::contract::Table;
use crate::inspection::Inspection;

/// A table and what the user may do with it.
const TABLE: &str = "
    SELECT c.oid, c.relkind::text, has_schema_privilege(n.oid, 'USAGE'), current_user::text,
           array_remove(ARRAY[
               CASE WHEN NOT has_any_column_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
               CASE WHEN NOT has_any_column_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
               CASE WHEN NOT has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
               CASE WHEN NOT has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END], NULL)::text[],
           EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3')), c.relrowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// Its columns: name, type, whether its values are computed, whether its type (not the column) takes no null.
const COLUMNS: &str = "
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '',
           EXISTS (WITH RECURSIVE d AS (
                       SELECT t.typnotnull, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid AND t.typtype = 'd'
                       UNION ALL
                       SELECT t.typnotnull, t.typbasetype FROM pg_type t JOIN d ON t.oid = d.typbasetype
                       WHERE t.typtype = 'd')
                   SELECT 1 FROM d WHERE typnotnull)
    FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Its unique indexes: name, columns (null for an expression), whether ON CONFLICT can use it.
const UNIQUE: &str = "
    SELECT c.relname::text,
           ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, place)
                 LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
                 ORDER BY k.place),
           i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate, i.indimmediate
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 AND i.indisunique";

/// What else can refuse a row: foreign keys from and to it, exclusion constraints, triggers of the user's.
const OTHERS: &str = "
    SELECT format('the foreign key %s to %s', quote_ident(conname), confrelid::regclass)
    FROM pg_constraint WHERE conrelid = $1 AND contype = 'f' AND conparentid = 0
    UNION ALL
    SELECT format('the foreign key %s of %s, which refers to it', quote_ident(conname), conrelid::regclass)
    FROM pg_constraint WHERE confrelid = $1 AND contype = 'f' AND conrelid <> $1 AND conparentid = 0
    UNION ALL
    SELECT format('the exclusion constraint %s', quote_ident(conname))
    FROM pg_constraint WHERE conrelid = $1 AND contype = 'x'
    UNION ALL
    SELECT format('the trigger %s', quote_ident(tgname)) FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal";

/// Holds a declared table against the catalog. A note is what may hold a partition back for a while.
pub(super) async fn look(
    session: &mut Session,
    declared: &Table,
    schema: &str,
    ledger_schema: &str,
) -> Result<Inspection, Problem> {
    let mut found = Inspection::default();
    if let Some(what) = reserved(&declared.name, ledger_schema) {
        found.faults.push(format!(
            "table {}: its schema is {what}, which no transform writes: declare a table of another schema",
            declared.name
        ));
        return Ok(found);
    }
    let name = TableName::new(&declared.name, schema);
    for name in [&name.schema, &name.table].into_iter().chain(&declared.key) {
        if name.len() > LONGEST {
            found.faults.push(format!(
                "table {}: the name {name:?} is longer than {LONGEST} bytes, which PostgreSQL cuts off: shorten it",
                declared.name
            ));
        }
    }
    if !found.faults.is_empty() {
        return Ok(found);
    }
    let quoted_name = name.quoted();
    let mut fault = |text: String| found.faults.push(format!("table {quoted_name} {text}"));
    let rows = session.query(TABLE, &[&name.schema, &name.table]).await?;
    let Some(row) = rows.first() else {
        let columns = declared.key.iter().map(|column| format!("{} … NOT NULL", quoted(column)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        fault(format!(
            "is not there: CREATE TABLE {quoted_name} ({columns}, …, PRIMARY KEY ({}))",
            list(&declared.key)
        ));
        return Ok(found);
    };
    let oid: u32 = row.try_get(0)?;
    let kind: String = row.try_get(1)?;
    if let Some(kind) = match kind.as_str() {
        "r" | "p" => None,
        "v" | "m" => Some("a view"),
        _ => Some("a foreign table"),
    } {
        fault(format!("is {kind}, which cannot be written by key: name the table behind it"));
        return Ok(found);
    }
    let user: String = row.try_get(3)?;
    if !row.try_get(2)? {
        fault(format!(
            "lies in a schema that is closed: GRANT USAGE ON SCHEMA {} TO {}",
            quoted(&name.schema),
            quoted(&user)
        ));
    }
    let lacking: Vec<String> = row.try_get(4)?;
    if !lacking.is_empty() {
        let rights = lacking.join(", ");
        fault(format!("may not be written by {user}: GRANT {rights} ON {quoted_name} TO {}", quoted(&user)));
    }
    if row.try_get(5)? {
        fault("has a rule for INSERT or UPDATE, which ON CONFLICT cannot pass: turn the rule into a trigger".into());
    }
    let columns = session.query(COLUMNS, &[&oid]).await?;
    check_columns(&columns, declared, &mut fault)?;
    let unique = session.query(UNIQUE, &[&oid]).await?;
    let others = check_unique(&unique, declared, &quoted_name, &mut fault)?;
    let mut note = |text: String| {
        found.notes.push(format!(
            "table {quoted_name} has {text}: a row that it refuses holds its partition for a while, and then becomes a \
             dead letter; drop it unless rows arrive in an order that satisfies it"
        ));
    };
    others.into_iter().for_each(&mut note);
    for row in session.query(OTHERS, &[&oid]).await? {
        note(row.try_get(0)?);
    }
    if row.try_get(6)? {
        note("row-level security".into());
    }
    Ok(found)
}

fn check_columns(columns: &[Row], declared: &Table, fault: &mut impl FnMut(String)) -> Result<(), Problem> {
    let mut names = HashSet::new();
    for row in columns {
        let (name, of): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let is_key = declared.key.contains(&name);
        if is_key && row.try_get(2)? {
            fault(format!("computes its key column {}, so that nobody can write by it", quoted(&name)));
        }
        if !is_key && row.try_get(3)? {
            fault(format!(
                "has the column {0} of the type {of}, which by itself takes no null, so that the column cannot be left \
                 out: ALTER DOMAIN {of} DROP NOT NULL, and set the column NOT NULL",
                quoted(&name)
            ));
        }
        names.insert(name);
    }
    for column in declared.key.iter().filter(|column| !names.contains(*column)) {
        fault(format!(
            "has no column {0}, which its rows are written by: ALTER TABLE … ADD COLUMN {0} …",
            quoted(column)
        ));
    }
    Ok(())
}

/// Checks that the key is unique; the other unique constraints, told.
fn check_unique(
    indexes: &[Row],
    declared: &Table,
    table: &str,
    fault: &mut impl FnMut(String),
) -> Result<Vec<String>, Problem> {
    let key: HashSet<&str> = declared.key.iter().map(String::as_str).collect();
    let (mut found, mut deferrable, mut others) = (false, false, Vec::new());
    for row in indexes {
        let (name, columns): (String, Vec<Option<String>>) = (row.try_get(0)?, row.try_get(1)?);
        let columns: HashSet<&str> = columns.iter().map(|column| column.as_deref().unwrap_or("")).collect();
        if columns == key && row.try_get(2)? {
            found = true;
            continue;
        }
        deferrable |= columns == key && !row.try_get::<_, bool>(3)?;
        if columns != key {
            others.push(format!("the unique index {}", quoted(&name)));
        }
    }
    if !found && deferrable {
        fault(format!("has a DEFERRABLE unique constraint on {0} only: make it NOT DEFERRABLE", list(&declared.key)));
    } else if !found {
        fault(format!(
            "has no unique constraint on just {0}, by which its rows are written: ALTER TABLE {table} ADD UNIQUE ({0})",
            list(&declared.key)
        ));
    }
    Ok(others)
}

/// What must be known of a table to write its rows.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Its columns.
    pub(super) columns: HashSet<String>,
    /// What its schema is, where no transform may write it.
    pub(super) reserved: Option<&'static str>,
    /// The `bytea` columns, and the arrays of `bytea`, domains over them included.
    pub(super) bytes: HashSet<String>,
    pub(super) byte_arrays: HashSet<String>,
    /// Whether a delete reaches other rows: by a foreign key that cascades or sets null, by a trigger or a rule.
    pub(super) deletes_reach: bool,
    /// Whether an insert or an update does, by a trigger. A trigger `BEFORE … FOR EACH ROW` is taken to see to its own
    /// row alone, as PostgreSQL recommends.
    pub(super) writes_reach: bool,
    /// The columns whose change a foreign key hands on to other rows.
    pub(super) handed_on: HashSet<String>,
}

impl Facts {
    /// Whether there is nothing to be known.
    pub(super) fn are_none(&self) -> bool {
        let columns = [&self.bytes, &self.byte_arrays, &self.handed_on];
        self.reserved.is_none()
            && !self.deletes_reach
            && !self.writes_reach
            && columns.iter().all(|columns| columns.is_empty())
    }
}

/// The facts of a table, its partitions included: what is known, and of which column.
const FACTS: &str = "
    WITH RECURSIVE this AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
    ), below AS (
        SELECT oid FROM this UNION SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid
    ), base AS (
        SELECT a.attname::text AS name, a.atttypid AS type, false AS many
        FROM pg_attribute a JOIN this ON a.attrelid = this.oid WHERE a.attnum > 0 AND NOT a.attisdropped
        UNION
        SELECT base.name, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END, base.many OR t.typtype <> 'd'
        FROM base JOIN pg_type t ON t.oid = base.type AND (t.typtype = 'd' OR (t.typelem <> 0 AND t.typlen = -1))
    ), keys AS (
        SELECT k.* FROM pg_constraint k JOIN below ON k.confrelid = below.oid WHERE k.contype = 'f'
    ), triggers AS (
        SELECT t.tgtype::int AS type FROM pg_trigger t JOIN below ON t.tgrelid = below.oid
        WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
    )
    SELECT 'column', a.attname::text FROM pg_attribute a JOIN this ON a.attrelid = this.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT CASE WHEN many THEN 'byte array' ELSE 'bytes' END, name FROM base WHERE type = 'bytea'::regtype
    UNION ALL
    SELECT 'handed on', a.attname::text FROM keys JOIN pg_attribute a ON a.attrelid = keys.confrelid
    AND a.attnum = ANY (keys.confkey) WHERE keys.confupdtype IN ('c', 'n', 'd')
    UNION ALL
    SELECT 'deletes', '' WHERE EXISTS (SELECT 1 FROM keys WHERE confdeltype IN ('c', 'n', 'd'))
    OR EXISTS (SELECT 1 FROM triggers WHERE type & 8 <> 0)
    OR EXISTS (SELECT 1 FROM pg_rewrite r JOIN this ON r.ev_class = this.oid WHERE r.ev_type = '4')
    UNION ALL
    SELECT 'writes', '' WHERE EXISTS (SELECT 1 FROM triggers WHERE type & 20 <> 0 AND type & 3 <> 3)";

/// What must be known of a table to write its rows.
pub(super) async fn facts(session: &mut Session, name: &TableName) -> Result<Facts, Problem> {
    let mut facts = Facts::default();
    for row in session.query(FACTS, &[&name.schema, &name.table]).await? {
        let column: String = row.try_get(1)?;
        match row.try_get(0)? {
            "column" => drop(facts.columns.insert(column)),
            "bytes" => drop(facts.bytes.insert(column)),
            "byte array" => drop(facts.byte_arrays.insert(column)),
            "handed on" => drop(facts.handed_on.insert(column)),
            "deletes" => facts.deletes_reach = true,
            _ => facts.writes_reach = true,
        }
    }
    Ok(facts)
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}
