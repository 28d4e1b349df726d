//! Each test that a document names by file and function is there.

use std::fs;

use tidegate_tests::root;

/// The documents, and how many tests they name at least: a page that names none shows nothing.
const DOCUMENTS: [(&str, usize); 3] =
    [("docs/delivery.md", 20), ("docs/sad-cases.md", 50), ("docs/reliability.md", 50)];

#[test]
fn each_test_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    for (document, least) in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let spans = text.split('`').skip(1).step_by(2);
        let named: Vec<(&str, &str)> = spans.filter_map(|span| span.split_once(".rs::")).collect();
        assert!(named.len() >= least, "{document} names {} tests", named.len());
        for (file, function) in named {
            let source = fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
            if !source.contains(&format!("fn {function}(")) {
                missing.push(format!("{document}: {file}.rs::{function}"));
            }
        }
    }
    assert!(missing.is_empty(), "these are not there:\n{}", missing.join("\n"));
}
