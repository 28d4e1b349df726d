//! What a transform declared, in the host's own form and held against its rules.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;

use super::bindings::exports::tidegate::transform::transformer as wit;
use crate::contract::{Description, Index, Inputs, Reads, Table};
use crate::printable::{NAME_BYTES, printable};

/// The declaration, if it keeps the contract's rules.
///
/// # Errors
/// Place, cause and remedy.
pub(super) fn describe(declared: wit::Description) -> Result<Description, String> {
    let description = Description {
        name: declared.name,
        version: declared.version,
        inputs: Inputs {
            before: declared.inputs.before,
            source: declared.inputs.source,
            headers: declared.inputs.headers,
            reads: declared.inputs.reads.into_iter().map(reads).collect(),
        },
        cache_keys: declared.cache_keys,
        tables: declared.tables.into_iter().map(|table| Table { name: table.name, key: table.key }).collect(),
        indexes: declared.indexes.into_iter().map(index).collect(),
        topics: declared.topics,
    };
    check(&description)?;
    Ok(description)
}

fn reads(reads: wit::Reads) -> Reads {
    Reads { table: reads.table, columns: reads.columns }
}

fn index(index: wit::Index) -> Index {
    Index { name: index.name, definition: index.definition }
}

fn check(description: &Description) -> Result<(), String> {
    named("name", [description.name.as_str()])?;
    named("version", [description.version.as_str()])?;
    for (place, name) in [("name", &description.name), ("version", &description.version)] {
        if shown(name) != *name {
            let shown = shown(name);
            return Err(format!(
                "{place}: `{shown}` has more than {NAME_BYTES} bytes, or characters that cannot be printed"
            ));
        }
    }
    distinct("inputs.reads", description.inputs.reads.iter().map(|reads| reads.table.as_str()))?;
    for Reads { table, columns } in &description.inputs.reads {
        distinct(&format!("inputs.reads of `{}`", shown(table)), columns.iter().flatten().map(String::as_str))?;
    }
    named("cache-keys", description.cache_keys.iter().map(String::as_str))?;
    for pattern in &description.cache_keys {
        if pattern.find('*').is_some_and(|at| at + 1 < pattern.len()) {
            let pattern = shown(pattern);
            return Err(format!("cache-keys: `{pattern}` has a * before its end; only the last character may be one"));
        }
    }
    distinct("tables", description.tables.iter().map(|table| table.name.as_str()))?;
    for Table { name, key } in &description.tables {
        if key.is_empty() {
            let name = shown(name);
            return Err(format!("tables: `{name}` has no key; name the columns that its rows are written by"));
        }
        distinct(&format!("key of table `{}`", shown(name)), key.iter().map(String::as_str))?;
    }
    distinct("indexes", description.indexes.iter().map(|index| index.name.as_str()))?;
    for Index { name, definition } in &description.indexes {
        if let Err(error) = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(definition) {
            let name = shown(name);
            return Err(format!("indexes: the definition of `{name}` is not a JSON object: {error}"));
        }
    }
    named("topics", description.topics.iter().map(String::as_str))
}

/// A name as it is quoted.
fn shown(name: &str) -> String {
    printable(name, NAME_BYTES)
}

/// No name may be empty.
fn named<'n>(place: &str, names: impl IntoIterator<Item = &'n str>) -> Result<(), String> {
    match names.into_iter().any(str::is_empty) {
        true => Err(format!("{place}: an empty name; fill it, or leave it out")),
        false => Ok(()),
    }
}

/// No name may be empty or come twice.
fn distinct<'n>(place: &str, names: impl IntoIterator<Item = &'n str> + Clone) -> Result<(), String> {
    named(place, names.clone())?;
    let mut seen = BTreeSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(format!("{place}: `{}` comes twice; name it once", shown(name))),
        None => Ok(()),
    }
}
