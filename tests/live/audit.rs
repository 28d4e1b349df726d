//! What happened to the rows of a source, as its own triggers tell: independent of the log that Debezium reads.

use xtask::verify::json::{self, Json, Members};
use xtask::verify::recorded::{Change, Operation};

use super::session::psql;
use super::source::{Source, rows};
use super::tables::{Table, is_large};

/// Begins to note the changes of these tables. The entries of a row are in the order of its changes, since its lock is
/// held while they are written; what is rolled back leaves none.
pub(super) fn begin(database: &str, tables: &[Table]) {
    let mut script = String::from(
        "CREATE TABLE audit (seq bigserial PRIMARY KEY, \"table\" text, operation text, old text, new text,
            xid xid8 DEFAULT pg_current_xact_id());
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' AS $$ BEGIN
            INSERT INTO audit (\"table\", operation, old, new) VALUES (TG_TABLE_NAME, TG_OP,
                CASE WHEN TG_OP <> 'INSERT' THEN row_to_json(OLD)::text END,
                CASE WHEN TG_OP <> 'DELETE' THEN row_to_json(NEW)::text END);
            RETURN NULL;
        END $$;\n",
    );
    for table in tables {
        script += &format!(
            "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON \"{}\" FOR EACH ROW EXECUTE FUNCTION note();\n",
            table.name
        );
    }
    psql(database, &script);
}

/// The changes that Debezium must have told, in the order of the audit.
pub(super) fn changes(source: &Source) -> Vec<Change> {
    let mut changes = Vec::new();
    for entry in rows(&source.url, "(SELECT * FROM audit ORDER BY seq)") {
        let text = |name| entry.get(name).and_then(Json::text);
        let name = text("table").unwrap();
        let table = source.tables.iter().find(|table| table.name == name).unwrap();
        let row = |name| text(name).map(|row| Json::parse(row).unwrap().members().unwrap().clone());
        let is_old = entry.get("seq").unwrap().bare().parse::<u64>().unwrap() <= source.snapshot;
        follow(table, is_old, (row("old"), row("new")), &mut changes);
    }
    changes
}

fn follow(table: &Table, is_old: bool, rows: (Option<Members>, Option<Members>), changes: &mut Vec<Change>) {
    let key = |row: &Members| -> Members {
        let columns = table.columns.iter().filter(|column| column.is_key);
        columns.map(|column| (column.name.clone(), json::get(row, &column.name).unwrap().clone())).collect()
    };
    let identity = |row: &Members| key(row).iter().map(|(_, value)| value.bare()).collect::<Vec<_>>();
    let mut push = |operation, of: &Members, before: Option<Members>, after: Option<Members>, moved_here| {
        changes.push(Change {
            table: table.name.clone(),
            operation,
            key: key(of),
            before: before.filter(|_| table.full),
            after,
            unsent: Vec::new(),
            moved_here,
        });
    };
    match rows {
        (None, Some(new)) if is_old => push(Operation::Read, &new.clone(), None, Some(new), false),
        (None, Some(new)) => push(Operation::Create, &new.clone(), None, Some(new), false),
        (Some(old), None) => push(Operation::Delete, &old.clone(), Some(old), None, false),
        (Some(old), Some(new)) => {
            let unsent = unsent(table, &old, &new);
            if identity(&old) == identity(&new) {
                push(Operation::Update, &new.clone(), Some(old), Some(new), false);
            } else {
                push(Operation::Delete, &old.clone(), Some(old), None, false);
                push(Operation::Create, &new.clone(), None, Some(new), true);
            }
            let last = changes.last_mut().unwrap();
            if let (Some(column), Some(after)) = (unsent, &mut last.after) {
                after.retain(|(name, _)| *name != column);
                last.unsent.push(column);
            }
        }
        (None, None) => unreachable!("a change has a row"),
    }
}

/// The column that an update leaves alone while its value is stored apart: Debezium cannot send it, unless the log has
/// the whole row before the change.
fn unsent(table: &Table, old: &Members, new: &Members) -> Option<String> {
    let column = table.large.filter(|_| !table.full)?;
    let (old, new) = (json::get(old, column)?, json::get(new, column)?);
    (is_large(new) && old.same(new)).then(|| column.to_owned())
}
