//! What a transform asks the host for.

use serde::Deserialize;

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::columns;

/// Which parts of a change [`apply`](crate::Transform::apply) looks at. The host leaves the rest out, and what it
/// leaves out costs nothing: it need not be copied into the transform, and the transform need not parse it.
///
/// Most transforms say it in one line:
/// ```
/// # use tidegate_sdk::prelude::*;
/// # #[row] struct Order { id: i64 }
/// # fn inputs() -> Inputs {
/// Inputs::rows().columns_of::<Order>("orders")
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    pub(crate) before: bool,
    pub(crate) source: bool,
    pub(crate) headers: bool,
    pub(crate) reads: Vec<Reads>,
}

/// The columns that are read of one table; none = all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) table: String,
    pub(crate) columns: Option<Vec<String>>,
}

impl Inputs {
    /// Everything there is: the rows before and after with all columns, `source`, the headers.
    pub fn all() -> Self {
        Self { before: true, source: true, headers: true, reads: Vec::new() }
    }

    /// The row after the change, with all columns; neither the row before, nor `source`, nor headers.
    pub fn rows() -> Self {
        Self { before: false, source: false, headers: false, reads: Vec::new() }
    }

    /// Asks for the row before the change as well, for [`Change::before`](crate::Change::before).
    pub fn with_before(mut self) -> Self {
        self.before = true;
        self
    }

    /// Asks for Debezium's `source` object, for [`Change::source`](crate::Change::source).
    pub fn with_source(mut self) -> Self {
        self.source = true;
        self
    }

    /// Asks for the headers of the Kafka record, for [`Change::headers`](crate::Change::headers).
    pub fn with_headers(mut self) -> Self {
        self.headers = true;
        self
    }

    /// Asks for the columns that `T` reads, and no others, of the rows of a table. Tables that are not named are
    /// passed whole. Several row types of one table add up. A type that takes any column (a map) asks for all.
    pub fn columns_of<'de, T: Deserialize<'de>>(mut self, table: &str) -> Self {
        let columns = columns::of::<T>().map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        self.read(table, columns);
        self
    }

    /// Asks for the named columns, and no others, of the rows of a table. Adds up like
    /// [`columns_of`](Self::columns_of).
    pub fn columns<const N: usize>(mut self, table: &str, columns: [&str; N]) -> Self {
        self.read(table, Some(columns.map(str::to_owned).into()));
        self
    }

    fn read(&mut self, table: &str, columns: Option<Vec<String>>) {
        let Some(known) = self.reads.iter_mut().find(|reads| reads.table == table) else {
            self.reads.push(Reads { table: table.to_owned(), columns });
            return;
        };
        match (&mut known.columns, columns) {
            (Some(known), Some(columns)) => {
                for column in columns {
                    if !known.contains(&column) {
                        known.push(column);
                    }
                }
            }
            (known, _) => *known = None,
        }
    }

    pub(crate) fn into_wire(self) -> wire::Inputs {
        let reads = self.reads.into_iter().map(|Reads { table, columns }| wire::Reads { table, columns }).collect();
        wire::Inputs { before: self.before, source: self.source, headers: self.headers, reads }
    }
}

impl Default for Inputs {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Order<'a> {
        id: i64,
        #[serde(rename = "customer_id")]
        customer: &'a str,
    }

    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Status {
        id: i64,
        status: String,
    }

    fn columns(inputs: &Inputs) -> Option<Vec<&str>> {
        inputs.reads[0].columns.as_ref().map(|columns| columns.iter().map(String::as_str).collect())
    }

    #[test]
    fn a_row_type_names_its_own_columns() {
        let inputs = Inputs::rows().columns_of::<Order>("orders");
        assert_eq!(inputs.reads[0].table, "orders");
        assert_eq!(columns(&inputs), Some(vec!["id", "customer_id"]));
    }

    #[test]
    fn two_row_types_of_a_table_add_up() {
        let inputs = Inputs::rows().columns_of::<Order>("orders").columns_of::<Status>("orders");
        assert_eq!(columns(&inputs), Some(vec!["id", "customer_id", "status"]));
        assert_eq!(inputs.reads.len(), 1);
    }

    #[test]
    fn a_map_reads_all_columns() {
        let inputs =
            Inputs::rows().columns_of::<Order>("orders").columns_of::<BTreeMap<String, serde_json::Value>>("orders");
        assert_eq!(columns(&inputs), None);
    }
}
