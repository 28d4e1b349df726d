//! What a start may do and declare.

use serde_json::json;
use tidegate::contract::{Index, Table};
use tidegate::engine::{Limits, LoadError};

use crate::harness::{engine, hasty, module, transform};
use crate::made::component;

fn refused(settings: &serde_json::Value, limits: &Limits) -> LoadError {
    module(limits).start(&settings.to_string()).unwrap_err()
}

fn undeclarable(describe: &serde_json::Value) -> String {
    match refused(&json!({ "describe": describe }), &Limits::default()) {
        LoadError::Declaration { cause, .. } => cause,
        error => panic!("{error}"),
    }
}

#[test]
fn the_declaration_arrives_as_it_was_made() {
    let definition = r#"{"mappings": {"properties": {}}}"#;
    let started = transform(&json!({ "describe": {
        "cache_keys": ["order:*", "all", "*"],
        "tables": [{ "name": "analytics.orders", "key": ["id", "region"] }],
        "indexes": [{ "name": "company", "definition": definition }],
        "topics": ["order-events"],
    }}));
    let description = started.description();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("hostile", "1.0.0"));
    assert!(description.inputs.before && description.inputs.source && description.inputs.headers);
    assert_eq!(description.cache_keys, ["order:*", "all", "*"]);
    let key = vec!["id".to_owned(), "region".to_owned()];
    assert_eq!(description.tables, [Table { name: "analytics.orders".into(), key }]);
    assert_eq!(description.indexes, [Index { name: "company".into(), definition: definition.into() }]);
    assert_eq!(description.topics, ["order-events"]);
}

#[test]
fn settings_that_the_transform_refuses_are_told_in_its_words() {
    let error = refused(&json!({ "start": "refuse" }), &Limits::default());
    assert_eq!(
        error.to_string(),
        "transform `hostile` refuses its settings: setting `start`: must not be\\n\"refuse\""
    );
}

#[test]
fn a_start_that_panics_is_an_error_with_its_message() {
    let error = refused(&json!({ "start": "trap" }), &Limits::default());
    assert!(matches!(&error, LoadError::Start { cause, .. } if cause.contains("cannot start")), "{error}");
}

#[test]
fn a_start_that_never_answers_is_an_error() {
    let error = refused(&json!({ "start": "loop" }), &hasty());
    assert_eq!(error.to_string(), "transform `hostile` cannot start: it did not answer within 300ms");
}

#[test]
fn a_module_that_needs_more_memory_than_it_may_have_is_an_error() {
    let error = refused(&json!({}), &Limits { memory_bytes: 64 << 10, ..Limits::default() });
    assert_eq!(
        error.to_string(),
        "transform `hostile` cannot start: it asked for more than the 65536 bytes of memory that it may have: raise `memory_mb` in [engine], or have it keep less"
    );
}

#[test]
fn declarations_that_cannot_be_are_refused() {
    for (describe, place) in [
        (json!({ "name": "" }), "name: an empty name"),
        (json!({ "cache_keys": ["order:*", ""] }), "cache-keys: an empty name"),
        (json!({ "cache_keys": ["order:*:x"] }), "cache-keys: `order:*:x` has a * before its end"),
        (json!({ "cache_keys": ["**"] }), "cache-keys: `**` has a * before its end"),
        (json!({ "name": "a\u{1b}[2Jb" }), "name: `a\\u{1b}[2Jb` has more than"),
        (json!({ "name": "1".repeat(200) }), "name: `111"),
        (json!({ "tables": [{ "name": "t", "key": [] }] }), "tables: `t` has no key"),
        (json!({ "tables": [{ "name": "t", "key": [""] }] }), "key of table `t`: an empty name"),
        (json!({ "tables": [{ "name": "t", "key": ["a", "a"] }] }), "key of table `t`: `a` comes twice"),
        (
            json!({ "tables": [{ "name": "t", "key": ["a"] }, { "name": "t", "key": ["b"] }] }),
            "tables: `t` comes twice",
        ),
        (json!({ "tables": [{ "name": "", "key": ["a"] }] }), "tables: an empty name"),
        (
            json!({ "indexes": [{ "name": "i", "definition": "[]" }] }),
            "indexes: the definition of `i` is not a JSON object",
        ),
        (
            json!({ "indexes": [{ "name": "i", "definition": "{" }] }),
            "indexes: the definition of `i` is not a JSON object",
        ),
        (json!({ "topics": [""] }), "topics: an empty name"),
    ] {
        let cause = undeclarable(&describe);
        assert!(cause.starts_with(place), "{describe}: {cause}");
    }
}

#[test]
fn a_fork_serves_beside_the_first() {
    use crate::harness::rejected;
    let mut first = transform(&json!({ "do": "panic", "at": [1] }));
    let mut second = first.fork().unwrap();
    assert_eq!(first.description(), second.description());
    std::thread::spawn(move || rejected(&mut second, 3, &[1])).join().unwrap();
    rejected(&mut first, 3, &[1]);
}

/// A component with so many instances of an empty core module more.
fn of_instances(count: u8) -> Vec<u8> {
    let mut bytes = component(&crate::made::transform(&[]));
    // An empty core module, which is the second, and its instances.
    bytes.extend([1, 8]);
    bytes.extend(b"\0asm\x01\0\0\0");
    let section: Vec<u8> = [vec![count], [0, 1, 0].repeat(count.into())].concat();
    assert!(count < 128);
    let length = u16::try_from(section.len()).unwrap();
    bytes.extend([2, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
    bytes.extend(section);
    bytes
}

#[test]
fn limits_are_named() {
    let start = |bytes: &[u8]| engine().load("orders", bytes, &Limits::default()).unwrap().start("{}");
    start(&of_instances(60)).unwrap();
    let error = start(&of_instances(100)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "module `orders` asks for more than an instance may hold: it has more than 64 instances of core modules, and that \
         cannot be raised: link it to fewer"
    );
}
