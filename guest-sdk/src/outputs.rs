//! What a transform declares that it will touch.

use serde::Serialize;

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::encode;

/// Everything that a transform writes. The host holds it against the operator's grants and against the live stores
/// before the first event, and holds every command against it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs {
    cache_keys: Vec<String>,
    tables: Vec<Table>,
    indexes: Vec<Index>,
    topics: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: String,
    key: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    name: String,
    definition: Result<String, String>,
}

impl Outputs {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cache keys, as a pattern: a literal with at most one `*`, at its end. `order:*` is every key that begins with
    /// `order:`, and `*` every key there is. A `*` at any other place is refused when the transform starts: so is a
    /// setting that brings one into the middle of a pattern.
    pub fn cache(mut self, pattern: impl Into<String>) -> Self {
        self.cache_keys.push(pattern.into());
        self
    }

    /// A table, and the columns of the key that its rows are written by. The table must have a unique constraint on
    /// exactly these. The name may be qualified by a schema (`analytics.fact_orders`).
    pub fn table<const N: usize>(mut self, name: impl Into<String>, key: [&str; N]) -> Self {
        self.tables.push(Table { name: name.into(), key: key.map(str::to_owned).into() });
        self
    }

    /// An index, and its definition: `json!({"mappings": …, "settings": …})` as Elasticsearch takes them when an index
    /// is created; `json!({})` for none.
    pub fn index(mut self, name: impl Into<String>, definition: impl Serialize) -> Self {
        let definition = encode::to_text(&definition).map_err(|error| error.to_string());
        self.indexes.push(Index { name: name.into(), definition });
        self
    }

    /// A topic to publish to.
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topics.push(name.into());
        self
    }

    /// The key columns of a table that was declared.
    pub(crate) fn key_of(&self, table: &str) -> Option<&[String]> {
        self.tables.iter().find(|declared| declared.name == table).map(|declared| declared.key.as_slice())
    }

    /// What would be found out only by the first command otherwise.
    pub(crate) fn check(&self) -> Result<(), String> {
        for pattern in &self.cache_keys {
            if pattern.strip_suffix('*').unwrap_or(pattern).contains('*') {
                return Err(format!(
                    "the cache keys `{pattern}`: a `*` may stand at the end only; where a setting is part of the \
                     pattern, it must not hold one"
                ));
            }
        }
        for table in &self.tables {
            if table.key.is_empty() {
                return Err(format!("the table `{}` is declared without key columns", table.name));
            }
        }
        for index in &self.indexes {
            if let Err(error) = &index.definition {
                return Err(format!("the definition of the index `{}`: {error}", index.name));
            }
        }
        Ok(())
    }

    /// Whether a command is within what was declared.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn cover(&self, command: &crate::testing::Command) -> bool {
        use crate::testing::Command;
        match command {
            Command::CacheSet { key, .. } | Command::CacheMerge { key, .. } | Command::CacheDelete { key } => {
                self.cache_keys.iter().any(|pattern| match pattern.strip_suffix('*') {
                    Some(prefix) => key.starts_with(prefix),
                    None => key == pattern,
                })
            }
            Command::RowUpsert { table, .. } | Command::RowMerge { table, .. } | Command::RowDelete { table, .. } => {
                self.key_of(table).is_some()
            }
            Command::DocumentIndex { index, .. }
            | Command::DocumentMerge { index, .. }
            | Command::DocumentDelete { index, .. } => self.indexes.iter().any(|declared| declared.name == *index),
            Command::Publish { topic, .. } => self.topics.contains(topic),
        }
    }

    /// The JSON text of the definition of an index that was declared.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn definition_of(&self, index: &str) -> Option<&str> {
        let declared = self.indexes.iter().find(|declared| declared.name == index)?;
        declared.definition.as_deref().ok()
    }

    pub(crate) fn to_wire(&self, name: &str, version: &str, inputs: wire::Inputs) -> wire::Description {
        wire::Description {
            name: name.to_owned(),
            version: version.to_owned(),
            inputs,
            cache_keys: self.cache_keys.clone(),
            tables: self
                .tables
                .iter()
                .map(|table| wire::Table { name: table.name.clone(), key: table.key.clone() })
                .collect(),
            indexes: self
                .indexes
                .iter()
                .map(|index| wire::Index {
                    name: index.name.clone(),
                    definition: index.definition.clone().unwrap_or_default(),
                })
                .collect(),
            topics: self.topics.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_at_the_end_of_a_pattern_or_nowhere() {
        assert_eq!(Outputs::new().cache("order:*").cache("all").cache("*").check(), Ok(()));
        for pattern in ["a*b", "**", "*:*"] {
            let error = Outputs::new().cache(pattern).check();
            assert!(error.is_err_and(|error| error.contains(pattern) && error.contains("at the end only")));
        }
    }

    #[test]
    fn a_table_has_a_key() {
        assert!(Outputs::new().table("t", []).check().is_err_and(|error| error.contains("`t`")));
        assert_eq!(Outputs::new().table("t", ["a", "b"]).key_of("t").map(<[String]>::len), Some(2));
    }

    #[test]
    fn a_definition_that_is_no_json_is_an_error_of_the_start() {
        let error = Outputs::new().index("company", f64::NAN).check();
        assert_eq!(error, Err("the definition of the index `company`: NaN is no JSON number".to_owned()));
    }
}
