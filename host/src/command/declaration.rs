//! What is wrong with a transform's declaration in itself: names that cannot be, and more than the host keeps.

use std::collections::HashSet;

use super::Port;
use super::grants::{declared, noun, shown};
use super::json::parse_object;
use crate::contract::{Description, Reads};
use crate::limits::{Bound, CACHE_KEY, DECLARATION, DECLARED, KEY_COLUMNS, NAME};

/// What a name takes beside its text.
const EACH: usize = 56;

/// What is wrong with a declaration in itself.
///
/// # Errors
/// Where it is larger than anything that is looked into.
pub(super) fn validate(description: &Description) -> Result<Vec<String>, Vec<String>> {
    measure(description).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut problem = |text: String| problems.push(format!("the transform {} declares {text}", description.name));
    for port in Port::ALL {
        let mut seen = HashSet::new();
        for name in declared(description, port) {
            if port == Port::Cache {
                if name.len() > CACHE_KEY.most {
                    problem(format!("among its cache keys {}: {}", shown(name), too_long(name, CACHE_KEY)));
                }
                continue;
            }
            if !is_name(name) || name.contains('*') {
                problem(format!(
                    "among its {} {}: a name has 1 to {} bytes, and holds no control characters and no *",
                    noun(port),
                    shown(name),
                    NAME.most
                ));
            }
            if !seen.insert(name) {
                problem(format!("among its {} {} twice", noun(port), shown(name)));
            }
        }
    }
    for table in &description.tables {
        let mut seen = HashSet::new();
        if table.key.is_empty() || table.key.len() > KEY_COLUMNS.most {
            problem(format!(
                "the table {} {} key columns: name 1 to {} that its rows are written by",
                shown(&table.name),
                if table.key.is_empty() { "without".to_owned() } else { format!("with {}", table.key.len()) },
                KEY_COLUMNS.most
            ));
        }
        for column in &table.key {
            if !is_name(column) || !seen.insert(column) {
                problem(format!(
                    "for the table {} the key column {}: it is empty, longer than {} bytes, holds control characters, or \
                     stands there twice",
                    shown(&table.name),
                    shown(column),
                    NAME.most
                ));
            }
        }
    }
    for index in &description.indexes {
        if let Err(e) = parse_object(&index.definition) {
            problem(format!("for the index {} a definition that is {e}", shown(&index.name)));
        }
    }
    Ok(problems)
}

/// Whether a declaration is small enough to be looked into and kept.
fn measure(description: &Description) -> Result<(), String> {
    for (what, name) in [("name", &description.name), ("version", &description.version)] {
        if !is_name(name) {
            return Err(format!(
                "the transform has the {what} {}: it has 1 to {} bytes, and holds no control characters",
                shown(name),
                NAME.most
            ));
        }
    }
    let name = &description.name;
    let reads = &description.inputs.reads;
    let counts = Port::ALL.map(|port| (noun(port), declared(description, port).len()));
    for (what, count) in counts.into_iter().chain([("inputs", reads.len())]) {
        if count > DECLARED.most {
            return Err(format!("the transform {name} declares {count} {what}, and {} are allowed", DECLARED.most));
        }
    }
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + EACH).sum::<usize>();
    let columns = |Reads { table, columns }: &Reads| table.len() + EACH + texts(columns.as_deref().unwrap_or_default());
    let bytes = texts(&description.cache_keys)
        + texts(&description.topics)
        + description.tables.iter().map(|table| table.name.len() + EACH + texts(&table.key)).sum::<usize>()
        + description.indexes.iter().map(|index| index.name.len() + index.definition.len() + EACH).sum::<usize>()
        + reads.iter().map(columns).sum::<usize>();
    if bytes > DECLARATION.most {
        return Err(format!(
            "the transform {name} declares {bytes} bytes of names and definitions, and {} are allowed: declare patterns \
             of cache keys, and shorter mappings",
            DECLARATION.most
        ));
    }
    Ok(())
}

fn too_long(name: &str, bound: Bound) -> String {
    format!("it has {} bytes, and {} are allowed", name.len(), bound.most)
}

/// Whether this can be the name of anything but a cache key.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME.most && !name.chars().any(char::is_control)
}
