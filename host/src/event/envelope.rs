//! Debezium's envelope, and the guess between it and a flattened row.

use std::borrow::Cow;
use std::sync::Arc;

use super::Control;
use super::decode::{ChangedRow, Decoder, Meaning, Trouble, excerpt};
use super::json::Scanner;
use super::layout::{self, Layout};
use super::malformed::Malformed;
use super::row::RowText;
use super::schema::Columns;
use crate::contract::Operation;
use crate::source::Record;

/// The members of an envelope, as far as they were there.
#[derive(Debug, Default)]
struct Members<'r> {
    op: Option<&'r str>,
    before: Image<'r>,
    after: Image<'r>,
    source: Source<'r>,
}

/// A member that should be a row.
#[derive(Debug, Default)]
enum Image<'r> {
    #[default]
    Absent,
    Null,
    Row(RowText<'r>),
    Other(&'r str),
}

#[derive(Debug, Default)]
enum Source<'r> {
    #[default]
    Absent,
    Null,
    Object {
        text: &'r str,
        table: Option<Cow<'r, str>>,
    },
    Other(&'r str),
}

impl Decoder {
    pub(super) fn envelope<'r>(&mut self, scanner: &mut Scanner<'r>, columns: Columns) -> Result<Meaning<'r>, Trouble> {
        let mut plain = scanner.clone();
        let members = self.members(scanner, &columns)?;
        let Some(op) = members.op else {
            let row = self.rows.scan(&mut plain, None, |_, _, _| false)?;
            return control_record(&row).map(Meaning::Control).ok_or_else(|| {
                Trouble::Meaning(
                    "expected Debezium's envelope, found no `op`; if the connector flattens its records, set format = \
                     \"debezium-flattened\""
                        .into(),
                )
            });
        };
        members.meaning(op, columns)
    }

    /// An envelope or a flattened row, as [`super::Format::Auto`] says.
    pub(super) fn guessed<'r>(
        &mut self,
        scanner: &mut Scanner<'r>,
        record: &'r Record,
        columns: Columns,
    ) -> Result<Meaning<'r>, Trouble> {
        let mut probe = scanner.clone();
        let members = self.members(&mut probe, &columns)?;
        match members.op {
            Some(op) if members.are_an_envelope() => {
                *scanner = probe;
                members.meaning(op, columns)
            }
            _ => self.flattened(scanner, record, columns),
        }
    }

    fn members<'r>(&mut self, scanner: &mut Scanner<'r>, columns: &Columns) -> Result<Members<'r>, Malformed> {
        let text = scanner.text();
        let schema = columns.as_deref().map(Vec::as_slice);
        let mut found = layout::Members::enter(scanner)?;
        let mut members = Members::default();
        while let Some(name) = found.next(scanner, &self.last_envelope)? {
            match &*name.of(text) {
                "op" => members.op = Some(scanner.value()?),
                "before" => members.before = self.image(scanner, schema)?,
                "after" => members.after = self.image(scanner, schema)?,
                "source" => members.source = source(scanner, &mut self.last_source)?,
                _ => scanner.skip_value()?,
            }
        }
        found.remember(&mut self.last_envelope);
        Ok(members)
    }

    fn image<'r>(
        &mut self,
        scanner: &mut Scanner<'r>,
        schema: Option<&[crate::contract::Column]>,
    ) -> Result<Image<'r>, Malformed> {
        Ok(match scanner.peek() {
            Some(b'{') => Image::Row(self.rows.scan(scanner, schema, |_, _, _| false)?),
            _ => match scanner.value()? {
                "null" => Image::Null,
                other => Image::Other(other),
            },
        })
    }
}

fn source<'r>(scanner: &mut Scanner<'r>, last: &mut Arc<Layout>) -> Result<Source<'r>, Malformed> {
    if scanner.peek() != Some(b'{') {
        return Ok(match scanner.value()? {
            "null" => Source::Null,
            other => Source::Other(other),
        });
    }
    let text = scanner.text();
    let start = scanner.at();
    let mut members = layout::Members::enter(scanner)?;
    let mut table = None;
    while let Some(name) = members.next(scanner, last)? {
        if name.of(text) == "table" && scanner.peek() == Some(b'"') {
            table = Some(scanner.string()?.of(text)).filter(|table| !table.is_empty());
        } else {
            scanner.skip_value()?;
        }
    }
    members.remember(last);
    Ok(Source::Object { text: &text[start..scanner.at()], table })
}

impl<'r> Members<'r> {
    fn are_an_envelope(&self) -> bool {
        let is_string = self.op.is_some_and(|op| op.starts_with('"'));
        let fit = !matches!(self.before, Image::Other(_))
            && !matches!(self.after, Image::Other(_))
            && !matches!(self.source, Source::Other(_));
        let absent = matches!(self.before, Image::Absent)
            && matches!(self.after, Image::Absent)
            && matches!(self.source, Source::Absent);
        is_string && fit && !absent
    }

    fn meaning(self, op: &str, columns: Columns) -> Result<Meaning<'r>, Trouble> {
        let operation = match op {
            "\"c\"" => Operation::Create,
            "\"r\"" => Operation::Read,
            "\"u\"" => Operation::Update,
            "\"d\"" => Operation::Delete,
            "\"t\"" => return Ok(Meaning::Truncate),
            "\"m\"" => return Ok(Meaning::Control(Control::Message)),
            other => return Err(unknown_operation("op", other)),
        };
        let before = self.before.row("before")?;
        let after = if operation == Operation::Delete { None } else { self.after.row("after")? };
        if after.is_none() && operation != Operation::Delete {
            return Err(Trouble::Meaning(format!(
                "expected an object in `after` of an event with op {op}, found none; MongoDB's connector sends whole \
                 documents with capture.mode=change_streams_update_full alone"
            )));
        }
        let (source, table) = match self.source {
            Source::Absent | Source::Null => (None, None),
            Source::Object { text, table } => (Some(text), table),
            Source::Other(other) => {
                return Err(Trouble::Meaning(format!("expected an object in `source`, found {}", excerpt(other))));
            }
        };
        Ok(Meaning::Row(ChangedRow { operation, table, before, after, source, columns }))
    }
}

impl<'r> Image<'r> {
    fn row(self, member: &str) -> Result<Option<RowText<'r>>, Trouble> {
        match self {
            Self::Row(row) => Ok(Some(row)),
            Self::Absent | Self::Null => Ok(None),
            Self::Other(other) if other.starts_with('"') => Err(Trouble::Meaning(format!(
                "expected an object in `{member}`, found the string {}; MongoDB's connector writes documents as \
                 strings, which ExtractNewDocumentState turns into objects",
                excerpt(other)
            ))),
            Self::Other(other) => {
                Err(Trouble::Meaning(format!("expected an object or null in `{member}`, found {}", excerpt(other))))
            }
        }
    }
}

pub(super) fn unknown_operation(name: &str, found: &str) -> Trouble {
    Trouble::Meaning(format!("expected one of c, r, u, d, t and m in `{name}`, found {}", excerpt(found)))
}

/// The control record that an object without an operation is, known by its members.
pub(super) fn control_record(object: &RowText<'_>) -> Option<Control> {
    let has = |name| object.get(name).is_some();
    let is_object = |name| object.get(name).is_some_and(|value| value.starts_with('{'));
    if matches!(object.get("status"), Some("\"BEGIN\"" | "\"END\""))
        && has("id")
        && has("event_count")
        && has("data_collections")
    {
        Some(Control::Transaction)
    } else if is_object("source") && has("databaseName") && has("ddl") {
        Some(Control::SchemaChange)
    } else if is_object("source") && is_object("message") && object.get("op") == Some("\"m\"") {
        Some(Control::Message)
    } else {
        None
    }
}
