//! The source tables as they were captured at the end: what a replica must equal.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::json::{self, Json, Members};

/// A column of a source table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// As PostgreSQL spells it: `numeric(10,2)`, `timestamp with time zone`.
    pub of: String,
    /// Whether it is part of the primary key.
    pub is_key: bool,
}

/// A source table and its rows.
#[derive(Debug)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, as PostgreSQL writes them as JSON.
    pub rows: Vec<Members>,
}

impl Table {
    /// The values of a row's key as one text, to tell rows apart.
    pub fn identity(&self, row: &[(String, Json)]) -> String {
        let keys = self.columns.iter().filter(|column| column.is_key);
        keys.map(|column| json::get(row, &column.name).map(Json::bare).unwrap_or_default())
            .collect::<Vec<_>>()
            .join(":")
    }
}

/// The tables of one system.
#[derive(Debug)]
pub struct Source {
    tables: Vec<(String, Table)>,
}

impl Source {
    /// Reads `source-types.json` and `source-final.json` of a folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let types = read_object(&folder.join("source-types.json"))?;
        let finals = read_object(&folder.join("source-final.json"))?;
        let mut tables = Vec::new();
        for (name, columns) in &types {
            let rows = json::get(&finals, name).with_context(|| format!("source-final.json lacks the table {name}"))?;
            let table = table(columns, rows).with_context(|| format!("table {name} of {}", folder.display()))?;
            tables.push((name.clone(), table));
        }
        Ok(Self { tables })
    }

    /// The table of that name.
    pub(crate) fn table(&self, name: &str) -> anyhow::Result<&Table> {
        let found = self.tables.iter().find(|(other, _)| other == name);
        found.map(|(_, table)| table).with_context(|| format!("the source has no table {name}"))
    }
}

fn read_object(path: &Path) -> anyhow::Result<Members> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    match Json::parse(&text).with_context(|| path.display().to_string())? {
        Json::Object(members) => Ok(members),
        _ => bail!("{} holds no JSON object", path.display()),
    }
}

/// A table by its columns, as `source-types.json` lists them, and an array of its rows.
///
/// # Errors
/// When either has another shape.
pub fn table(columns: &Json, rows: &Json) -> anyhow::Result<Table> {
    let (Json::Array(columns), Json::Array(rows)) = (columns, rows) else {
        bail!("columns and rows are arrays");
    };
    let column = |column: &Json| {
        let text = |name| column.get(name).and_then(Json::text).map(str::to_owned);
        let is_key = matches!(column.get("pk"), Some(Json::Bool(true)));
        Some(Column { name: text("name")?, of: text("type")?, is_key })
    };
    let columns = columns.iter().map(column).collect::<Option<_>>().context("a column lacks its name or its type")?;
    let rows = rows.iter().map(|row| row.members().cloned()).collect::<Option<_>>().context("a row is no object")?;
    Ok(Table { columns, rows })
}
