//! Answers to one change: short as text, and many times that once they are taken apart.

use tidegate::command::check::Checker;
use tidegate::command::grants::Grants;
use tidegate::command::meaning;
use tidegate::contract::{Description, Inputs, RawCommand};
use tidegate::engine::Limits;

use crate::alone::grows_by_less_than;

fn checker() -> Checker {
    let all = || vec!["*".to_owned()];
    let description = Description {
        name: "amplifier".into(),
        version: "1".into(),
        inputs: Inputs::default(),
        cache_keys: all(),
        tables: vec![],
        indexes: vec![],
        topics: vec![],
    };
    Checker::new(&description, &Grants { cache: all(), ..Grants::default() }).unwrap()
}

/// An object of so many members, each as short as can be.
fn object(members: usize) -> String {
    format!("{{{}}}", (0..members).map(|n| format!("\"{n:x}\":1")).collect::<Vec<_>>().join(","))
}

fn merges(count: usize, members: usize) -> Vec<RawCommand> {
    let fields = object(members);
    (0..count)
        .map(|n| RawCommand::CacheMerge { key: n.to_string(), fields: fields.clone(), ttl_seconds: None })
        .collect()
}

#[test]
fn many_objects_of_many_members_are_refused() {
    grows_by_less_than(
        160,
        "answers::many_objects_of_many_members_are_refused",
        || merges(1_000, 7_500),
        |commands| checker().check_all(commands, Limits::default().answer_bytes).unwrap_err(),
    );
}

#[test]
fn one_object_of_too_many_members_is_refused() {
    grows_by_less_than(
        16,
        "answers::one_object_of_too_many_members_is_refused",
        || merges(1, 3_000_000),
        |commands| checker().check_all(commands, Limits::default().answer_bytes).unwrap_err(),
    );
}

#[test]
fn comparing_objects_of_many_members_takes_no_multiple_of_them() {
    // The answer itself, as one text.
    grows_by_less_than(
        160,
        "answers::comparing_objects_of_many_members_takes_no_multiple_of_them",
        || Ok(merges(1, 3_000_000)),
        |answered| meaning::answer(&answered).len(),
    );
}
