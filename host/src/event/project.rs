//! Picks of a change what one transform reads.

use std::borrow::Cow;
use std::ops::Range;

use super::row::{ColumnSpan, RowText};
use super::{Change, Projected};
use crate::contract::Inputs;

/// Columns whose place is remembered. A row with more is looked up by name from there on.
const MAX_PREDICTED: usize = 4096;

/// What one transform reads, prepared once. It remembers in which order the columns come, and so wants to be kept
/// from one change to the next; what it answers does not depend on that.
#[derive(Debug, Clone)]
pub struct Projection {
    before: bool,
    source: bool,
    headers: bool,
    tables: Vec<TableColumns>,
}

#[derive(Debug, Clone)]
struct TableColumns {
    table: String,
    /// None = all.
    wanted: Option<Wanted>,
}

#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Sorted.
    names: Vec<String>,
    /// The names of the last rows as they stood on the wire, by position, and whether each is wanted.
    predicted: Vec<(Box<str>, bool)>,
}

impl Projection {
    /// Prepares these inputs. Where they list a table more than once, all the columns listed are wanted.
    pub fn new(inputs: &Inputs) -> Self {
        let mut tables: Vec<TableColumns> = Vec::new();
        for reads in &inputs.reads {
            let index = tables.iter().position(|of| of.table == reads.table).unwrap_or_else(|| {
                tables.push(TableColumns { table: reads.table.clone(), wanted: Some(Wanted::default()) });
                tables.len() - 1
            });
            let wanted = &mut tables[index].wanted;
            match (&reads.columns, wanted.as_mut()) {
                (Some(columns), Some(wanted)) => wanted.names.extend(columns.iter().cloned()),
                _ => *wanted = None,
            }
        }
        for wanted in tables.iter_mut().filter_map(|of| of.wanted.as_mut()) {
            wanted.names.sort_unstable();
            wanted.names.dedup();
        }
        Self { before: inputs.before, source: inputs.source, headers: inputs.headers, tables }
    }
}

impl Wanted {
    #[inline]
    fn has(&mut self, position: usize, column: ColumnSpan, text: &str) -> bool {
        let raw = column.raw_name(text);
        if let Some((name, wanted)) = self.predicted.get(position)
            && **name == *raw
        {
            return *wanted;
        }
        let name = column.name(text);
        let wanted = self.names.binary_search_by(|known| known.as_str().cmp(&name)).is_ok();
        if position < self.predicted.len() {
            self.predicted[position] = (raw.into(), wanted);
        } else if position < MAX_PREDICTED {
            self.predicted.push((raw.into(), wanted));
        }
        wanted
    }
}

impl<'r> Change<'r> {
    /// Picks what a transform with these inputs reads.
    pub fn project(&self, projection: &mut Projection) -> Projected<'r> {
        let of_table = projection.tables.iter_mut().find(|of| of.table == self.table);
        let mut wanted = of_table.and_then(|of| of.wanted.as_mut());
        let mut unsent = Vec::new();
        let before = self.before.as_ref().filter(|_| projection.before);
        let before = before.map(|row| project_row(row, wanted.as_deref_mut(), |_| {}));
        let after =
            self.after.as_ref().map(|row| project_row(row, wanted, |column| unsent.push(column.name(row.text))));
        Projected {
            offset: self.record.offset,
            timestamp: self.record.timestamp,
            operation: self.operation,
            key: self.key.map(Cow::Borrowed),
            moved: self.moved.map(Cow::Borrowed),
            before,
            after,
            unsent,
            source: self.source.filter(|_| projection.source),
            headers: if projection.headers { &self.record.headers } else { &[] },
        }
    }
}

/// The row with the wanted columns that were sent; the others of the wanted ones go to `unsent`.
fn project_row<'r>(
    row: &RowText<'r>,
    mut wanted: Option<&mut Wanted>,
    mut unsent: impl FnMut(ColumnSpan),
) -> Cow<'r, str> {
    if row.whole && wanted.is_none() {
        return Cow::Borrowed(row.text);
    }
    let mut picked = Picked { row, text: String::new() };
    // Neighbours are copied together, with what stands between them.
    let mut run: Option<Range<usize>> = None;
    let mut all = row.whole;
    for (position, column) in row.columns.iter().enumerate() {
        let is_wanted = wanted.as_deref_mut().is_none_or(|wanted| wanted.has(position, *column, row.text));
        if is_wanted && column.unsent {
            unsent(*column);
        }
        if !is_wanted || column.unsent || column.after_added {
            picked.push(run.take());
        }
        if is_wanted && !column.unsent {
            let member = column.member();
            run = Some(run.map_or(member.start, |run| run.start)..member.end);
        } else {
            all = false;
        }
    }
    if all {
        return Cow::Borrowed(row.text);
    }
    picked.push(run);
    picked.finish()
}

/// A row's text in the making.
struct Picked<'a, 'r> {
    row: &'a RowText<'r>,
    text: String,
}

impl<'r> Picked<'_, 'r> {
    fn push(&mut self, members: Option<Range<usize>>) {
        let Some(members) = members else { return };
        if self.text.is_empty() {
            self.text.reserve(self.row.text.len());
            self.text.push('{');
        } else {
            self.text.push(',');
        }
        self.text.push_str(&self.row.text[members]);
    }

    fn finish(mut self) -> Cow<'r, str> {
        if self.text.is_empty() {
            return Cow::Borrowed("{}");
        }
        self.text.push('}');
        Cow::Owned(self.text)
    }
}
