//! What an operator allows a transform to touch, and whether a transform's declaration stays within it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Port;
use super::reserved::Reserved;
use crate::contract::{Description, beginning};
use crate::limits::{LISTED, first};

/// What a transform may touch, by port; nothing by default. Each entry is a literal with at most one `*`, at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Cache keys.
    pub cache: Vec<String>,
    /// Tables.
    pub tables: Vec<String>,
    /// Indexes.
    pub documents: Vec<String>,
    /// Topics.
    pub messages: Vec<String>,
    /// What none of them reaches, by port.
    #[serde(skip)]
    pub reserved: BTreeMap<Port, Reserved>,
}

/// A literal, or the prefix of an open set of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub(super) prefix: String,
    pub(super) open: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty, or holds a `*` that is not at its end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (prefix, open) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if text.is_empty() {
            return Err("a pattern is empty: name what is meant, or \"*\" for all".into());
        }
        if prefix.contains('*') {
            let text = shown(text);
            return Err(format!("pattern {text}: at most one * is allowed, and it must be the last character"));
        }
        Ok(Self { prefix: prefix.to_owned(), open })
    }

    /// Whether a name is in the set.
    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.prefix) } else { name == self.prefix }
    }

    /// Whether every name of the other set is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        if self.open { other.prefix.starts_with(&self.prefix) } else { self == other }
    }

    /// Whether a name can be in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.open, other.open) {
            (true, true) => self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix),
            (true, false) => self.matches(&other.prefix),
            (false, _) => other.matches(&self.prefix),
        }
    }
}

impl Grants {
    /// The patterns of one port.
    pub fn of(&self, port: Port) -> &[String] {
        match port {
            Port::Cache => &self.cache,
            Port::Tables => &self.tables,
            Port::Documents => &self.documents,
            Port::Messages => &self.messages,
        }
    }

    /// The patterns of one port, read.
    ///
    /// # Errors
    /// Names the port and the pattern that is none.
    pub fn patterns(&self, port: Port) -> Result<Vec<Pattern>, String> {
        let read = |text: &String| Pattern::parse(text).map_err(|e| format!("grants.{}: {e}", port.name()));
        self.of(port).iter().map(read).collect()
    }

    fn reserved(&self, port: Port, pattern: &Pattern) -> Option<&'static str> {
        self.reserved.get(&port).and_then(|reserved| reserved.covers(pattern))
    }

    /// Whether all that a transform declares is granted.
    ///
    /// # Errors
    /// One text a port: what is not granted, and the line that would grant it.
    pub fn covers(&self, description: &Description) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for port in Port::ALL {
            let granted = match self.patterns(port) {
                Ok(granted) => granted,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let mut missing = Vec::new();
            for text in declared(description, port) {
                match Pattern::parse(text) {
                    Ok(pattern) if self.reserved(port, &pattern).is_some() => {
                        let what = self.reserved(port, &pattern).unwrap_or_default();
                        problems.push(format!(
                            "it declares {} {}, which is {what}: no grant reaches it, name another",
                            noun(port),
                            shown(text)
                        ));
                    }
                    Ok(pattern) if granted.iter().any(|grant| grant.covers(&pattern)) => {}
                    Ok(_) => missing.push(text),
                    Err(e) => problems.push(format!("it declares {}: {e}", noun(port))),
                }
            }
            if !missing.is_empty() {
                let missing = listed(&missing);
                let line: Vec<_> =
                    self.of(port).iter().map(|grant| format!("{grant:?}")).chain([missing.clone()]).collect();
                problems.push(format!(
                    "it writes {} [{missing}], which its grants do not hold; if that is right, set {} = [{}] in them",
                    noun(port),
                    port.name(),
                    line.join(", "),
                ));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(first(problems)) }
    }

    /// The patterns of one port that two pipelines on one sink would both write: they must not, since each keeps a
    /// ledger of its own and neither would see the other's order. A pattern that cannot be read overlaps nothing.
    pub fn overlaps<'a>(&'a self, other: &'a Self, port: Port) -> Vec<(&'a str, &'a str)> {
        let mut found = Vec::new();
        for mine in self.of(port) {
            for theirs in other.of(port) {
                if let (Ok(a), Ok(b)) = (Pattern::parse(mine), Pattern::parse(theirs))
                    && a.overlaps(&b)
                {
                    found.push((mine.as_str(), theirs.as_str()));
                }
            }
        }
        found
    }
}

/// What a port's things are called in messages.
pub(super) fn noun(port: Port) -> &'static str {
    match port {
        Port::Cache => "cache keys",
        Port::Tables => "tables",
        Port::Documents => "indexes",
        Port::Messages => "topics",
    }
}

/// Names as they stand in a list, the first of them by their beginnings: a module may declare many and long ones.
fn listed(names: &[&str]) -> String {
    let mut shown: Vec<_> = names.iter().take(LISTED.most).map(|name| shown(name)).collect();
    if names.len() > LISTED.most {
        shown.push(format!("and {} more", names.len() - LISTED.most));
    }
    shown.join(", ")
}

/// A name for a message: quoted, and not too long to read.
pub(super) fn shown(name: &str) -> String {
    let (name, more) = beginning(name);
    format!("{name:?}{more}")
}

/// What a transform declares for a port.
pub(super) fn declared(description: &Description, port: Port) -> Vec<&str> {
    match port {
        Port::Cache => description.cache_keys.iter().map(String::as_str).collect(),
        Port::Tables => description.tables.iter().map(|table| table.name.as_str()).collect(),
        Port::Documents => description.indexes.iter().map(|index| index.name.as_str()).collect(),
        Port::Messages => description.topics.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{Index, Inputs, Table};

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn description(cache: &[&str], tables: &[&str]) -> Description {
        Description {
            name: "orders".into(),
            version: "1".into(),
            inputs: Inputs::default(),
            cache_keys: cache.iter().map(ToString::to_string).collect(),
            tables: tables.iter().map(|name| Table { name: (*name).into(), key: vec!["id".into()] }).collect(),
            indexes: vec![Index { name: "company".into(), definition: "{}".into() }],
            topics: vec![],
        }
    }

    #[test]
    fn a_pattern_is_a_literal_with_at_most_one_final_star() {
        assert!(pattern("order:*").matches("order:") && pattern("order:*").matches("order:7"));
        assert!(!pattern("order:*").matches("orders:7"));
        assert!(pattern("order").matches("order") && !pattern("order").matches("order:7"));
        assert!(pattern("*").matches("") && pattern("*").matches("x"));
        for bad in ["", "a*b", "**", "*a", "a**"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_covers_what_lies_in_it_and_overlaps_what_meets_it() {
        for (a, b, covers, overlaps) in [
            ("order:*", "order:*", true, true),
            ("order:*", "order:status:*", true, true),
            ("order:status:*", "order:*", false, true),
            ("order:*", "order:7", true, true),
            ("order:7", "order:*", false, true),
            ("order:7", "order:8", false, false),
            ("order:*", "orders:*", false, false),
            ("*", "x", true, true),
        ] {
            assert_eq!(pattern(a).covers(&pattern(b)), covers, "{a} covers {b}");
            assert_eq!(pattern(a).overlaps(&pattern(b)), overlaps, "{a} overlaps {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), overlaps, "{b} overlaps {a}");
        }
    }

    #[test]
    fn what_is_not_granted_is_named_with_the_line_that_would_grant_it() {
        let grants = Grants { cache: vec!["order:*".into()], documents: vec!["comp*".into()], ..Grants::default() };
        assert_eq!(grants.covers(&description(&["order:7", "order:x:*"], &[])), Ok(()));
        let problems = grants.covers(&description(&["order:*", "orders:*"], &["fact_orders"])).unwrap_err();
        assert_eq!(
            problems,
            [
                "it writes tables [\"fact_orders\"], which its grants do not hold; \
                 if that is right, set tables = [\"fact_orders\"] in them",
                "it writes cache keys [\"orders:*\"], which its grants do not hold; \
                 if that is right, set cache = [\"order:*\", \"orders:*\"] in them",
            ]
        );
    }

    #[test]
    fn many_long_names_are_told_by_the_beginnings_of_a_few() {
        let names = vec!["k".repeat(4_000); 200];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let told = Grants::default().covers(&description(&names, &[])).unwrap_err().join("; ");
        assert!(told.len() < 8_000 && told.contains("and 192 more"), "{} bytes: {told:.500}", told.len());
    }

    #[test]
    fn two_pipelines_overlap_where_one_name_can_match_both() {
        let a = Grants { cache: vec!["order:*".into(), "x".into()], ..Grants::default() };
        let b = Grants { cache: vec!["order:status:*".into(), "y".into()], ..Grants::default() };
        assert_eq!(a.overlaps(&b, Port::Cache), [("order:*", "order:status:*")]);
        assert!(a.overlaps(&b, Port::Tables).is_empty());
    }
}
