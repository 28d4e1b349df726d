//! The description of the routes and the routes themselves are held against each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::routes::{OPENAPI, routes};

#[test]
fn every_route_is_described_and_everything_that_is_described_is_a_route() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let served: Vec<_> = routes().iter().map(|route| (route.path.to_owned(), route.method.to_string())).collect();
    assert_eq!(served.len(), described.len());
    assert_eq!(served.into_iter().collect::<BTreeSet<_>>(), described);
}

#[test]
fn every_operation_says_what_it_answers_and_every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert!(operation["responses"]["200"].is_object(), "{method} {path}");
            let named = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = named.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{method} {path}");
        }
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            members.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
