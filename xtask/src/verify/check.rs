//! Collects what was compared and what differs.

use std::fmt;
use std::ops::RangeInclusive;

use super::json::{self, Json, Members};
use super::recorded::Images;
use super::source::{Column, Table};
use super::store::{Cache, Entry};
use super::value::{self, Form};

/// The verdict on one system.
#[derive(Debug)]
pub struct Verdict {
    /// The system, which is also the name of its pipeline and of its sink.
    pub system: &'static str,
    /// What the store now holds, in words.
    pub holds: Vec<String>,
    /// How many values were compared.
    pub compared: usize,
    /// Keys that the store rightly lacks: the events never brought one of their columns.
    pub absent: Vec<String>,
    /// What differs. Empty: the store equals the source.
    pub differences: Vec<Difference>,
}

/// A place where the store is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The system.
    pub system: &'static str,
    /// The key of the entry, row, document or message.
    pub key: String,
    /// The column or field, where the entry as a whole is not meant.
    pub column: Option<String>,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.system, self.key)?;
        if let Some(column) = &self.column {
            write!(out, ", {column}")?;
        }
        let common = self.expected.bytes().zip(self.found.bytes()).take_while(|(one, two)| one == two).count();
        let (expected, found) = (excerpt(&self.expected, common), excerpt(&self.found, common));
        write!(out, ": expected {expected}, found {found}")
    }
}

/// When entries expire that were written in that span and live for so long. All in milliseconds.
pub fn expiry(written: &RangeInclusive<i64>, seconds_to_live: i64) -> RangeInclusive<i64> {
    let milliseconds = seconds_to_live * 1000;
    written.start() + milliseconds..=written.end() + milliseconds
}

/// A long text cut down to what surrounds the first difference.
fn excerpt(text: &str, difference: usize) -> String {
    const LENGTH: usize = 120;
    if text.len() <= LENGTH {
        return text.to_owned();
    }
    let from = text.floor_char_boundary(difference.saturating_sub(LENGTH / 2));
    let to = text.floor_char_boundary(from + LENGTH);
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < text.len() { "…" } else { "" });
    format!("{before}{}{after}", &text[from..to])
}

impl Verdict {
    /// A verdict without differences so far.
    pub fn new(system: &'static str) -> Self {
        Self { system, holds: Vec::new(), compared: 0, absent: Vec::new(), differences: Vec::new() }
    }

    /// Notes a difference.
    pub fn differs(&mut self, key: &str, column: Option<&str>, expected: impl Into<String>, found: impl Into<String>) {
        self.differences.push(Difference {
            system: self.system,
            key: key.to_owned(),
            column: column.map(str::to_owned),
            expected: expected.into(),
            found: found.into(),
        });
    }

    /// Compares two texts.
    pub fn text(&mut self, key: &str, expected: &str, found: &str) {
        self.compared += 1;
        if expected != found {
            self.differs(key, None, expected, found);
        }
    }

    /// Compares a row of the source with what the store holds of it: each column, and no other. `stored_as` gives
    /// the name of a column in the store.
    pub fn row(
        &mut self,
        key: &str,
        columns: &[Column],
        (expected, found): (&Members, &Members),
        form: Form,
        stored_as: impl Fn(&str) -> String,
    ) {
        for column in columns {
            let name = stored_as(&column.name);
            let expected = json::get(expected, &column.name).unwrap_or(&Json::Null);
            self.compared += 1;
            match json::get(found, &name) {
                Some(found) if value::same(&column.of, expected, found, form) => {}
                Some(found) => self.differs(key, Some(&name), expected.to_string(), found.to_string()),
                None => self.differs(key, Some(&name), expected.to_string(), "no such field"),
            }
        }
        for (name, value) in found {
            if !columns.iter().any(|column| stored_as(&column.name) == *name) {
                self.differs(key, Some(name), "no such field", value.to_string());
            }
        }
    }

    /// Compares each living row of a table with its cache entry `{prefix}{id}`, and takes that entry out of `cache`.
    pub fn rows_in_cache(
        &mut self,
        cache: &mut Cache,
        prefix: &str,
        (table, images): (&Table, &Images),
        expiry: &RangeInclusive<i64>,
    ) {
        for row in &table.rows {
            let identity = table.identity(row);
            let key = format!("{prefix}{identity}");
            let entry = cache.remove(&key);
            if self.must_be_absent(&key, images.is_incomplete(&identity), entry.is_some()) {
                continue;
            }
            let Some(entry) = entry else {
                self.differs(&key, None, "the living row", "nothing");
                continue;
            };
            self.expiry(&key, &entry, expiry);
            let text = String::from_utf8_lossy(&entry.value);
            if let Some(found) = self.object(&key, &text) {
                self.row(&key, &table.columns, (row, &found), Form::Json, str::to_owned);
            }
        }
    }

    /// Checks when an entry expires.
    pub fn expiry(&mut self, key: &str, entry: &Entry, expected: &RangeInclusive<i64>) {
        self.compared += 1;
        if !entry.expires_at.is_some_and(|expires_at| expected.contains(&expires_at)) {
            let found = entry.expires_at.map_or("never".to_owned(), |expires_at| expires_at.to_string());
            self.differs(key, Some("expiry"), format!("{} to {}", expected.start(), expected.end()), found);
        }
    }

    /// Whether the events never brought the whole of this key; then the store must not have it either.
    pub fn must_be_absent(&mut self, key: &str, incomplete: bool, is_there: bool) -> bool {
        if incomplete && is_there {
            self.differs(key, None, "nothing, since no event brought one of its columns", "an entry");
        } else if incomplete {
            self.absent.push(key.to_owned());
        }
        incomplete
    }

    /// Notes what is left over: it should not be there.
    pub fn nothing_else<'a>(&mut self, left: impl IntoIterator<Item = (String, &'a [u8])>) {
        for (key, value) in left {
            self.differs(&key, None, "nothing", String::from_utf8_lossy(value));
        }
    }

    /// The members of a stored JSON object; what is none is noted.
    pub fn object(&mut self, key: &str, text: &str) -> Option<Members> {
        match Json::parse(text) {
            Ok(Json::Object(members)) => Some(members),
            _ => {
                self.differs(key, None, "a JSON object", text);
                None
            }
        }
    }
}
