//! Picks of a change what one transform reads.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::layout::Layout;
use super::row::{ColumnSpan, RowText};
use super::{Change, Projected};
use crate::contract::Inputs;

/// What one transform reads, prepared once. It remembers how the last row was laid out, and so wants to be kept
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
    /// The layout of the last row, and which of its members are wanted.
    layout: Arc<Layout>,
    of_layout: Vec<bool>,
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
    /// Which members of a row are wanted, by their places in its layout.
    fn of(&mut self, layout: &Arc<Layout>) -> &[bool] {
        if !Arc::ptr_eq(&self.layout, layout) {
            self.of_layout.clear();
            let is_wanted = |name: Cow<'_, str>| self.names.binary_search_by(|known| known.as_str().cmp(&name)).is_ok();
            self.of_layout.extend(layout.names().map(is_wanted));
            self.layout = layout.clone();
        }
        &self.of_layout
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
fn project_row<'r>(row: &RowText<'r>, wanted: Option<&mut Wanted>, mut unsent: impl FnMut(ColumnSpan)) -> Cow<'r, str> {
    if row.whole && wanted.is_none() {
        return Cow::Borrowed(row.text);
    }
    let wanted = wanted.map(|wanted| wanted.of(&row.layout));
    let mut picked = Picked { row, text: String::new() };
    // Neighbours are copied together, with what stands between them.
    let mut run: Option<Range<usize>> = None;
    let mut all = row.whole;
    for column in &row.columns {
        let is_wanted = wanted.is_none_or(|wanted| wanted[column.place as usize]);
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
