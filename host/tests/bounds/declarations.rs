//! Declarations, and what is said of those that are refused.

use tidegate::command::check::Checker;
use tidegate::command::grants::Grants;
use tidegate::contract::{Description, Index, Inputs, Table};

use crate::alone::grows_by_less_than;

/// A declaration of nothing.
fn nothing() -> Description {
    Description {
        name: "long".into(),
        version: "1".into(),
        inputs: Inputs::default(),
        cache_keys: vec![],
        tables: vec![],
        indexes: vec![],
        topics: vec![],
    }
}

fn refused(mebibytes: u64, name: &str, description: impl FnOnce() -> Description) {
    grows_by_less_than(mebibytes, name, description, |description| {
        let problems = Checker::new(&description, &Grants::default()).unwrap_err();
        let said: usize = problems.iter().map(String::len).sum();
        assert!(said < 64 << 10, "{said} bytes are said");
        problems
    });
}

#[test]
fn long_names_that_are_not_granted_are_quoted_by_their_beginnings() {
    refused(8, "declarations::long_names_that_are_not_granted_are_quoted_by_their_beginnings", || Description {
        cache_keys: vec!["k".repeat(100_000); 600],
        ..nothing()
    });
}

#[test]
fn many_names_that_cannot_be_are_told_by_a_few() {
    refused(16, "declarations::many_names_that_cannot_be_are_told_by_a_few", || {
        let bad = |n: usize| format!("\n{n}");
        Description {
            tables: (0..300_000).map(|n| Table { name: bad(n), key: vec![] }).collect(),
            indexes: (0..100_000).map(|n| Index { name: bad(n), definition: String::new() }).collect(),
            topics: (0..300_000).map(bad).collect(),
            ..nothing()
        }
    });
}
