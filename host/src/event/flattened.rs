//! A flattened row: what `ExtractNewRecordState` makes of an envelope.

use std::borrow::Cow;

use super::Control;
use super::decode::{ChangedRow, Decoder, Meaning, Trouble, excerpt};
use super::envelope::{control_record, unknown_operation};
use super::json::Scanner;
use super::name::Name;
use super::row::RowText;
use super::schema::Columns;
use crate::contract::Operation;
use crate::source::Record;

/// Debezium writes this name whatever prefix is configured.
const DELETED: &str = "__deleted";

/// Knows the fields that flattening added.
#[derive(Debug)]
pub(super) struct AddedFields {
    prefix: String,
    operation_header: String,
}

/// What the added fields of one row say.
#[derive(Debug, Default)]
struct Added<'r> {
    op: Option<&'r str>,
    deleted: bool,
    table: Option<Cow<'r, str>>,
}

impl AddedFields {
    pub(super) fn new(prefix: String) -> Self {
        Self { operation_header: format!("{prefix}op"), prefix }
    }

    /// Whether a field of this name is added, as far as the name tells.
    pub(super) fn by_name(&self, name: &str) -> bool {
        name == DELETED || (!self.prefix.is_empty() && name.starts_with(self.prefix.as_str()))
    }

    /// Takes an added field; false = it is a column.
    #[inline]
    fn take<'r>(&self, added: &mut Added<'r>, name: &str, value: &'r str) -> bool {
        if name == DELETED {
            added.deleted = is_true(value);
            return true;
        }
        let Some(name) = name.strip_prefix(self.prefix.as_str()) else { return false };
        if self.prefix.is_empty() {
            match (name, value) {
                ("op", "\"c\"" | "\"r\"" | "\"u\"" | "\"d\"" | "\"t\"") => added.op = Some(value),
                ("deleted", "\"true\"" | "\"false\"") => added.deleted = is_true(value),
                _ => return false,
            }
            return true;
        }
        match name {
            "op" => added.op = Some(value).filter(|value| *value != "null"),
            "deleted" => added.deleted = is_true(value),
            "source_table" | "table" => added.table = string(value).filter(|table| !table.is_empty()),
            _ => {}
        }
        true
    }
}

fn is_true(value: &str) -> bool {
    matches!(value, "\"true\"" | "true")
}

fn string(value: &str) -> Option<Cow<'_, str>> {
    let raw = value.strip_prefix('"')?.strip_suffix('"')?;
    Some(super::name::unescape(raw, raw.contains('\\')))
}

impl Decoder {
    pub(super) fn flattened<'r>(
        &mut self,
        scanner: &mut Scanner<'r>,
        record: &'r Record,
        columns: Columns,
    ) -> Result<Meaning<'r>, Trouble> {
        let text = scanner.text();
        let mut added = Added::default();
        let fields = &self.added;
        let take = |raw: &str, name: Name, value| {
            if name.escaped {
                fields.take(&mut added, &name.of(text), value)
            } else {
                fields.take(&mut added, raw, value)
            }
        };
        let row = self.rows.scan(scanner, columns.as_deref().map(Vec::as_slice), take)?;
        let operation = match added.op.map(|op| op.trim_matches('"')).or_else(|| self.header_operation(record)) {
            Some("d") => Operation::Delete,
            _ if added.deleted => Operation::Delete,
            Some("c") => Operation::Create,
            Some("r") => Operation::Read,
            Some("u") => Operation::Update,
            Some("t") => return Ok(Meaning::Truncate),
            Some("m") => return Ok(Meaning::Control(Control::Message)),
            Some(other) => return Err(unknown_operation(&fields.operation_header, other)),
            None => match control_record(&row) {
                Some(control) => return Ok(Meaning::Control(control)),
                None => Operation::Read,
            },
        };
        if operation == Operation::Read {
            refuse_envelope(&row)?;
        }
        let (before, after) = if operation == Operation::Delete { (Some(row), None) } else { (None, Some(row)) };
        Ok(Meaning::Row(ChangedRow { operation, table: added.table, before, after, source: None, columns }))
    }

    /// The operation, where `add.headers` put it into a header alone.
    fn header_operation<'r>(&self, record: &'r Record) -> Option<&'r str> {
        let header = record.headers.iter().find(|header| header.name == self.added.operation_header)?;
        let value = std::str::from_utf8(header.value.as_deref()?).ok()?;
        Some(value.trim_matches('"'))
    }
}

/// An envelope under the wrong format would pass for a row with odd columns.
fn refuse_envelope(row: &RowText<'_>) -> Result<(), Trouble> {
    let is_object = |name| row.get(name).is_some_and(|value| value.starts_with('{'));
    match row.get("op") {
        Some(op) if is_object("source") && (is_object("after") || is_object("before")) => {
            Err(Trouble::Meaning(format!(
                "expected a flattened row, found an envelope with op {}; set format = \"debezium-envelope\"",
                excerpt(op)
            )))
        }
        _ => Ok(()),
    }
}
