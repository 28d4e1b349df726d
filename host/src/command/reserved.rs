//! Names that no grant reaches, `*` included: those of ledgers and catalogs, and of what a store or the host keeps for
//! itself. And how the names of a port are spelt in its store, so that two spellings of one name are known for one.

use std::fmt;

use super::grants::Pattern;
use crate::source::topics::Topics;

/// How a store knows what a transform names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Spelling {
    /// As it is given.
    #[default]
    Exact,
    /// Behind this prefix.
    Behind(String),
    /// Behind this prefix, capital and small letters being one.
    Folded(String),
    /// In this schema, unless the name begins with another and a dot.
    Schema(String),
}

impl Spelling {
    /// The name as the store knows it.
    pub fn name(&self, name: &str) -> String {
        match self {
            Self::Exact => name.to_owned(),
            Self::Behind(prefix) => format!("{prefix}{name}"),
            Self::Folded(prefix) => format!("{prefix}{name}").to_ascii_lowercase(),
            Self::Schema(schema) => {
                let plain = name.replace('"', "");
                if plain.contains('.') { plain } else { format!("{schema}.{plain}") }
            }
        }
    }

    /// The names that a pattern stands for, as the store knows them.
    pub fn spelt(&self, pattern: &Pattern) -> Spelt {
        let Pattern { prefix, open } = pattern;
        let abroad = matches!(self, Self::Schema(_)) && *open && !prefix.contains('.');
        Spelt {
            own: Pattern { prefix: self.name(prefix), open: *open },
            abroad: abroad.then(|| Pattern { prefix: prefix.replace('"', ""), open: true }),
        }
    }
}

/// The names that a pattern stands for in its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelt {
    own: Pattern,
    /// Where the beginning of a name may be the beginning of another schema too.
    abroad: Option<Pattern>,
}

impl Spelt {
    /// Whether a name can be in both. Two patterns that both reach into other schemas by chance are not held to meet there.
    pub fn meets(&self, other: &Self) -> bool {
        let into = |one: &Self, other: &Self| one.abroad.as_ref().is_some_and(|abroad| abroad.overlaps(&other.own));
        self.own.overlaps(&other.own) || into(self, other) || into(other, self)
    }
}

/// Names of one port that no grant reaches.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Reserved {
    spelling: Spelling,
    names: Vec<(Names, &'static str)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Names {
    Of(Pattern),
    Ending(&'static str),
    Topics(Topics),
}

impl Reserved {
    /// Nothing yet, of a port whose names are spelt so.
    pub fn new(spelling: Spelling) -> Self {
        Self { spelling, names: Vec::new() }
    }

    /// Reserves what begins so, as the store knows it, or just this name. `what` follows upon "which is".
    pub fn reserve(&mut self, prefix: &str, open: bool, what: &'static str) {
        self.names.push((Names::Of(Pattern { prefix: self.compared(prefix.to_owned()), open }), what));
    }

    /// Reserves what ends so.
    pub fn reserve_ending(&mut self, ending: &'static str, what: &'static str) {
        self.names.push((Names::Ending(ending), what));
    }

    /// Reserves the topics that a pipeline reads.
    pub fn reserve_topics(&mut self, topics: Topics, what: &'static str) {
        self.names.push((Names::Topics(topics), what));
    }

    /// What a name is, where no grant reaches it.
    pub fn holds(&self, name: &str) -> Option<&'static str> {
        if self.names.is_empty() {
            return None;
        }
        let name = self.compared(self.spelling.name(name));
        let held = self.names.iter().find(|(names, _)| match names {
            Names::Of(pattern) => pattern.matches(&name),
            Names::Ending(ending) => name.ends_with(ending),
            Names::Topics(topics) => topics.contains(&name),
        });
        held.map(|(_, what)| *what)
    }

    /// What all names of a pattern are, where no grant reaches any.
    pub(super) fn covers(&self, pattern: &Pattern) -> Option<&'static str> {
        if !pattern.open {
            return self.holds(&pattern.prefix);
        }
        let spelt = Pattern { prefix: self.compared(self.spelling.name(&pattern.prefix)), open: true };
        let covers = |(names, _): &&(Names, &'static str)| matches!(names, Names::Of(of) if of.covers(&spelt));
        self.names.iter().find(covers).map(|(_, what)| *what)
    }

    /// Schemas are compared in small letters: PostgreSQL's own are known by any spelling here.
    fn compared(&self, name: String) -> String {
        if matches!(self.spelling, Spelling::Schema(_)) { name.to_lowercase() } else { name }
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They are made of names that may come from secrets.
        write!(f, "Reserved({})", self.names.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn schema_in_every_spelling_is_reserved() {
        let mut reserved = Reserved::new(Spelling::Schema("public".into()));
        for prefix in ["pg_", "information_schema.", "tidegate."] {
            reserved.reserve(prefix, true, "the database's own");
        }
        for name in [
            "tidegate.ledger",
            "\"tidegate\".ledger",
            "TIDEGATE.ledger",
            "\"TideGate\".\"ledger\"",
            "pg_catalog.pg_authid",
            "Pg_Catalog.pg_authid",
            "PG_TOAST.x",
            "pg_temp_3.x",
            "\"pg_temp\".x",
            "information_schema.tables",
            "INFORMATION_SCHEMA.tables",
        ] {
            assert!(reserved.holds(name).is_some(), "{name}");
        }
        for name in ["ledger", "pg_x", "tidegates.ledger", "public.pg_x", "other.tidegate", "tidegate"] {
            assert!(reserved.holds(name).is_none(), "{name}");
        }
        assert!(reserved.covers(&pattern("tidegate.*")).is_some() && reserved.covers(&pattern("*")).is_none());
    }

    #[test]
    fn names_of_one_store_are_one_by_any_spelling() {
        let meets = |one: &Spelling, a: &str, other: &Spelling, b: &str| {
            one.spelt(&pattern(a)).meets(&other.spelt(&pattern(b)))
        };
        let (public, mart) = (Spelling::Schema("public".into()), Spelling::Schema("mart".into()));
        assert!(meets(&public, "fact_a", &public, "public.fact_a") && meets(&public, "\"fact_a\"", &public, "fact_a"));
        assert!(
            meets(&public, "mart.x", &mart, "x")
                && meets(&public, "*", &mart, "x")
                && meets(&public, "ma*", &mart, "x")
        );
        assert!(!meets(&public, "x", &mart, "x") && !meets(&public, "fact_*", &mart, "fact_*"));
        let behind = |prefix: &str| Spelling::Behind(prefix.into());
        assert!(meets(&behind("a-"), "b", &behind(""), "a-b") && !meets(&behind("a-"), "b", &behind(""), "b"));
        assert!(meets(&Spelling::Folded("A_".into()), "B", &Spelling::Folded(String::new()), "a_b"));
    }
}
