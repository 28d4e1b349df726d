//! The decoder: from a record to what it means.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::flattened::AddedFields;
use super::json::Scanner;
use super::layout::Layout;
use super::malformed::Malformed;
use super::row::{RowScanner, RowText};
use super::schema::{Columns, Schemas};
use super::unsent::Placeholder;
use super::{Change, Control, Event, Format, Options, wrapper};
use crate::contract::{Fault, Operation, Rejection};
use crate::source::Record;

/// Understands the records of one pipeline. Keeps the schemas it has seen, and how the last record was laid out; what a
/// record means does not depend on the records before.
#[derive(Debug)]
pub struct Decoder {
    pub(super) format: Format,
    pub(super) rows: RowScanner,
    pub(super) added: AddedFields,
    pub(super) last_envelope: Arc<Layout>,
    pub(super) last_source: Arc<Layout>,
    schemas: Schemas,
    heartbeat_prefix: String,
    null_is_delete: bool,
}

/// Why a part of a record cannot be understood; the decoder adds which part.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is no JSON.
    Malformed(Malformed),
    /// It is JSON, but not what should be there.
    Meaning(String),
}

impl From<Malformed> for Trouble {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Trouble {
    fn in_part(self, part: impl fmt::Display) -> Rejection {
        let reason = match self {
            Self::Malformed(malformed) => {
                format!(
                    "the {part} is no valid JSON {malformed}; the connector must write whole records with JsonConverter"
                )
            }
            Self::Meaning(reason) => format!("the {part}: {reason}"),
        };
        Rejection::new(Fault::Undecodable, reason)
    }
}

/// What a value means, without its key.
#[derive(Debug)]
pub(super) enum Meaning<'r> {
    Row(ChangedRow<'r>),
    Truncate,
    Control(Control),
    /// The payload is null.
    Null,
}

/// The parts of a change that come with the value.
#[derive(Debug)]
pub(super) struct ChangedRow<'r> {
    pub(super) operation: Operation,
    pub(super) table: Option<Cow<'r, str>>,
    pub(super) before: Option<RowText<'r>>,
    pub(super) after: Option<RowText<'r>>,
    pub(super) source: Option<&'r str>,
    pub(super) columns: Columns,
}

impl Decoder {
    /// A decoder for records laid out like this.
    pub fn new(options: Options) -> Self {
        Self {
            format: options.format,
            rows: RowScanner::new(Placeholder::new(&options.unavailable_placeholder)),
            added: AddedFields::new(options.flattened_prefix),
            last_envelope: Arc::default(),
            last_source: Arc::default(),
            schemas: Schemas::default(),
            heartbeat_prefix: options.heartbeat_prefix,
            null_is_delete: options.format == Format::Flattened && options.flattened_tombstone_is_delete,
        }
    }

    /// Finds out what a record means.
    ///
    /// # Errors
    /// A record that cannot be understood is a rejection whose reason names the place in it.
    pub fn decode<'r>(&mut self, record: &'r Record) -> Result<Event<'r>, Rejection> {
        if self.is_heartbeat(&record.partition.topic) {
            return Ok(Event::Control(Control::Heartbeat));
        }
        let meaning = match &record.value {
            None => Meaning::Null,
            Some(value) => self.value(record, value).map_err(|trouble| trouble.in_part("value"))?,
        };
        match meaning {
            Meaning::Truncate => Ok(Event::Truncate),
            Meaning::Control(control) => Ok(Event::Control(control)),
            Meaning::Row(row) => self.change(record, row).map(Event::Change),
            Meaning::Null if !self.null_is_delete => Ok(Event::Control(Control::Tombstone)),
            Meaning::Null => {
                let row = ChangedRow {
                    operation: Operation::Delete,
                    table: None,
                    before: None,
                    after: None,
                    source: None,
                    columns: None,
                };
                self.change(record, row).map(Event::Change)
            }
        }
    }

    fn is_heartbeat(&self, topic: &str) -> bool {
        topic.strip_prefix(self.heartbeat_prefix.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }

    fn value<'r>(&mut self, record: &'r Record, value: &'r [u8]) -> Result<Meaning<'r>, Trouble> {
        let text = text(value)?;
        let mut scanner = Scanner::new(text);
        let wrapper = wrapper::open(&mut scanner, |schema| self.schema(&record.partition.topic, schema))?;
        let meaning = match (scanner.peek(), self.format) {
            (Some(b'n'), _) => {
                scanner.skip_value()?;
                Meaning::Null
            }
            (Some(b'{'), Format::Envelope) => self.envelope(&mut scanner, wrapper.columns())?,
            (Some(b'{'), Format::Flattened) => self.flattened(&mut scanner, record, wrapper.columns())?,
            (Some(b'{'), Format::Auto) => self.guessed(&mut scanner, record, wrapper.columns())?,
            _ => {
                let at = scanner.at();
                let found = excerpt(scanner.value()?);
                return Err(Trouble::Meaning(format!("at byte {at}: expected an object or null, found {found}")));
            }
        };
        wrapper.close(&mut scanner)?;
        Ok(meaning)
    }

    /// The columns of the schema that the text begins with, and its length, if it is a known one.
    /// A complete schema is learnt.
    fn schema(&mut self, topic: &Arc<str>, schema: wrapper::Schema<'_>) -> Result<Option<(usize, Columns)>, Trouble> {
        match schema {
            wrapper::Schema::Begins(text) => Ok(self.schemas.recognise(topic, text)),
            wrapper::Schema::Is(text) => {
                let columns = self
                    .schemas
                    .learn(topic, text, |name| self.added.by_name(name))
                    .map_err(|error| Trouble::Meaning(format!("`schema` is no schema of Kafka Connect: {error}")))?;
                Ok(Some((text.len(), columns)))
            }
        }
    }

    fn change<'r>(&mut self, record: &'r Record, row: ChangedRow<'r>) -> Result<Change<'r>, Rejection> {
        let key = match &record.key {
            None => None,
            Some(key) => self.json_payload(record, key).map_err(|trouble| trouble.in_part("key"))?,
        };
        if key.is_none() && row.operation == Operation::Delete && row.before.is_none() {
            return Err(Rejection::new(
                Fault::NoKey,
                "a delete with neither a key nor the row before names no row: give the table a primary key, or run \
                 ALTER TABLE … REPLICA IDENTITY FULL",
            ));
        }
        let name = if row.operation == Operation::Delete { "__debezium.newkey" } else { "__debezium.oldkey" };
        let moved = match record.headers.iter().find(|header| header.name == name).and_then(|of| of.value.as_deref()) {
            None => None,
            Some(value) => {
                self.json_payload(record, value).map_err(|trouble| trouble.in_part(format_args!("header {name}")))?
            }
        };
        let topic: &'r str = &record.partition.topic;
        let table = row.table.unwrap_or_else(|| Cow::Borrowed(topic.rsplit('.').next().unwrap_or(topic)));
        Ok(Change {
            record,
            operation: row.operation,
            table,
            key,
            moved,
            before: row.before,
            after: row.after,
            source: row.source,
            columns: row.columns,
        })
    }

    /// The JSON text of a key, out of its wrapper; none when it is null.
    fn json_payload<'r>(&mut self, record: &Record, bytes: &'r [u8]) -> Result<Option<&'r str>, Trouble> {
        let mut scanner = Scanner::new(text(bytes)?);
        let wrapper = wrapper::open(&mut scanner, |schema| self.schema(&record.partition.topic, schema))?;
        let payload = scanner.value()?;
        wrapper.close(&mut scanner)?;
        Ok((payload != "null").then_some(payload))
    }
}

/// The bytes as text whose positions fit 32 bits.
fn text(bytes: &[u8]) -> Result<&str, Trouble> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Trouble::Meaning(format!("{} bytes are more than the 4 GiB that a record may have", bytes.len())));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let found = bytes.get(at).copied().unwrap_or_default();
        Trouble::Meaning(format!("at byte {at}: expected UTF-8 text, found byte 0x{found:02x}"))
    })
}

/// A value's text, cut to what an operator needs to see.
pub(super) fn excerpt(value: &str) -> String {
    const MAX: usize = 40;
    match value.char_indices().nth(MAX) {
        None => format!("`{value}`"),
        Some((end, _)) => format!("`{}…`", &value[..end]),
    }
}
