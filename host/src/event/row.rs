//! A row's JSON text with its columns found.

use std::borrow::Cow;
use std::sync::Arc;

use super::json::Scanner;
use super::layout::{Layout, Members};
use super::malformed::Malformed;
use super::name::Name;
use super::unsent::Placeholder;
use crate::contract::Column;

/// A row's JSON text.
#[derive(Debug)]
pub struct RowText<'r> {
    /// The object's text, as it was on the wire.
    pub text: &'r str,
    /// The columns, in the order of the text. What flattening added is not among them.
    pub(super) columns: Vec<ColumnSpan>,
    /// Whether `text` holds sent columns alone.
    pub(super) whole: bool,
    /// The names of all members. Rows that follow each other share it as long as it stays the same.
    pub(super) layout: Arc<Layout>,
}

/// Where a column lies in the text of its row. A row's text is shorter than 4 GiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnSpan {
    /// Its place in the layout.
    pub(super) place: u32,
    name_start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
    escaped: bool,
    pub(super) unsent: bool,
    /// Whether something that is no column stands between it and the column before.
    pub(super) after_added: bool,
}

impl ColumnSpan {
    /// The name, as it stands between its quotes.
    pub(super) fn raw_name(self, text: &str) -> &str {
        &text[self.name_start as usize..self.name_end as usize]
    }

    /// The name.
    pub(super) fn name(self, text: &str) -> Cow<'_, str> {
        super::name::unescape(self.raw_name(text), self.escaped)
    }

    fn is_named(self, name: &str, text: &str) -> bool {
        if self.escaped { self.name(text) == name } else { self.raw_name(text) == name }
    }

    /// The value's text.
    pub(super) fn value(self, text: &str) -> &str {
        &text[self.value_start as usize..self.value_end as usize]
    }

    /// Where name and value lie, from the name's opening quote on.
    pub(super) fn member(self) -> std::ops::Range<usize> {
        self.name_start as usize - 1..self.value_end as usize
    }
}

impl<'r> RowText<'r> {
    /// The value's text of a column.
    pub(super) fn get(&self, name: &str) -> Option<&'r str> {
        self.columns.iter().find(|column| column.is_named(name, self.text)).map(|column| column.value(self.text))
    }

    /// The columns that Debezium did not send.
    pub fn unsent(&self) -> impl Iterator<Item = Cow<'r, str>> {
        let text = self.text;
        self.columns.iter().filter(|column| column.unsent).map(move |column| column.name(text))
    }
}

/// Finds the columns of rows.
#[derive(Debug)]
pub(super) struct RowScanner {
    placeholder: Placeholder,
    /// How the last row was laid out.
    last: Arc<Layout>,
}

impl RowScanner {
    pub(super) fn new(placeholder: Placeholder) -> Self {
        Self { placeholder, last: Arc::default() }
    }

    /// Passes the object at which the scanner stands. A member for which `added` answers true is no column.
    #[inline]
    pub(super) fn scan<'r>(
        &mut self,
        scanner: &mut Scanner<'r>,
        schema: Option<&[Column]>,
        mut added: impl FnMut(&str, Name, &'r str) -> bool,
    ) -> Result<RowText<'r>, Malformed> {
        let start = scanner.at();
        let whole_text = scanner.text();
        let mut members = Members::enter(scanner)?;
        let mut columns = Vec::with_capacity(self.last.len());
        let mut whole = true;
        let mut after_added = false;
        while let Some(name) = members.next(scanner, &self.last)? {
            let value_start = scanner.at();
            let value = scanner.value()?;
            let raw = &whole_text[name.start..name.end];
            if added(raw, name, value) {
                whole = false;
                after_added = true;
                continue;
            }
            let index = columns.len();
            let unsent = self.placeholder.is(value, || {
                let name = name.of(whole_text);
                let columns = schema?;
                columns
                    .get(index)
                    .filter(|column| column.name == name)
                    .or_else(|| columns.iter().find(|column| column.name == name))
            });
            whole &= !unsent;
            columns.push(ColumnSpan {
                place: short(members.passed() - 1),
                name_start: short(name.start - start),
                name_end: short(name.end - start),
                value_start: short(value_start - start),
                value_end: short(scanner.at() - start),
                escaped: name.escaped,
                unsent,
                after_added,
            });
            after_added = false;
        }
        members.remember(&mut self.last);
        Ok(RowText { text: &whole_text[start..scanner.at()], columns, whole, layout: self.last.clone() })
    }
}

/// A position in a text that the decoder has found to be shorter than 4 GiB.
#[allow(clippy::cast_possible_truncation)]
fn short(position: usize) -> u32 {
    position as u32
}
