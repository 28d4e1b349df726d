//! The check passes a store that is as it should be, and names whatever is changed in it.

#![allow(clippy::unwrap_used)]

use super::fixture::{CorrectStore, corpus};
use super::{Difference, verify};

/// What differs after one change of a correct store.
fn differences_after(sql: &str) -> Vec<Difference> {
    let store = CorrectStore::new();
    let changed = store.connection.execute(sql, []).unwrap();
    assert_eq!(changed, 1, "{sql}");
    verify(&store.path, &corpus()).unwrap().into_iter().flat_map(|verdict| verdict.differences).collect()
}

/// The one difference after a change of a correct store.
fn difference_after(sql: &str) -> Difference {
    let mut differences = differences_after(sql);
    assert_eq!(differences.len(), 1, "{sql}: {differences:#?}");
    differences.remove(0)
}

#[test]
fn a_store_that_is_as_it_should_be_equals_the_source() {
    let store = CorrectStore::new();
    for verdict in verify(&store.path, &corpus()).unwrap() {
        assert_eq!(verdict.differences, [], "{}", verdict.system);
        assert!(verdict.compared > 50, "{}: {}", verdict.system, verdict.compared);
    }
}

#[test]
fn a_changed_value_is_named_with_its_key_and_column() {
    for (sql, system, key, column) in [
        (
            "UPDATE tidegate_cache SET value = replace(CAST(value AS TEXT), '-44.934749', '-44.9347490000000001')
             WHERE sink = 'order-cache' AND key = 'order:ord_1'",
            "order-cache",
            "order:ord_1",
            Some("points"),
        ),
        (
            "UPDATE tidegate_cache SET value = replace(CAST(value AS TEXT), '02:39:05.5+00:00', '02:39:05.500001+00:00')
             WHERE sink = 'order-cache' AND key = 'order:ord_1'",
            "order-cache",
            "order:ord_1",
            Some("created_at"),
        ),
        (
            "UPDATE tidegate_cache SET value = 'PENDING ' WHERE key = 'order:status:111952b9-2067-455a-a925-f486f2751731'",
            "trackops-cache",
            "order:status:111952b9-2067-455a-a925-f486f2751731",
            None,
        ),
        (
            "UPDATE dim_books SET price = CAST(price AS REAL) WHERE id = '2b19eb15-e6af-47db-ad02-dcc4912660bd'",
            "bookstore-analytics",
            "dim_books 2b19eb15-e6af-47db-ad02-dcc4912660bd",
            Some("price"),
        ),
        (
            "UPDATE tidegate_documents SET body = replace(body, '\"revenue\":45616119004.09', '\"revenue\":45616119004.1')
             WHERE index_name = 'company' AND id = '13'",
            "company-search",
            "company 13",
            Some("revenue"),
        ),
        (
            "UPDATE tidegate_documents SET body = replace(body, '\"company_name\":', '\"name\":')
             WHERE index_name = 'company' AND id = '13'",
            "company-search",
            "company 13",
            Some("company_name"),
        ),
    ] {
        let differences = differences_after(sql);
        let found = &differences[0];
        assert_eq!((found.system, found.key.as_str(), found.column.as_deref()), (system, key, column), "{found}");
    }
}

#[test]
fn an_id_beyond_2_to_the_53_must_keep_its_last_digit() {
    let found = difference_after(
        "UPDATE tidegate_documents SET body = replace(body, '\"company_id\":9007199254740994', '\"company_id\":9007199254740993')
         WHERE rowid = (SELECT rowid FROM tidegate_documents WHERE body LIKE '%\"company_id\":9007199254740994%'
                        AND index_name = 'contact' LIMIT 1)",
    );
    assert_eq!(found.column.as_deref(), Some("company_id"));
    assert_eq!((found.expected.as_str(), found.found.as_str()), ("9007199254740994", "9007199254740993"));
}

#[test]
fn what_is_missing_is_named() {
    for (sql, key) in [
        ("DELETE FROM tidegate_cache WHERE key = 'order:ord_10'", "order:ord_10"),
        ("DELETE FROM tidegate_cache WHERE sink = 'cache-invalidation' AND key = '10'", "10"),
        (
            "DELETE FROM tidegate_cache WHERE key LIKE 'orders:customer:%'",
            "orders:customer:00000000-0000-4000-8000-000000000000",
        ),
        (
            "DELETE FROM dim_books WHERE id = '2b19eb15-e6af-47db-ad02-dcc4912660bd'",
            "dim_books 2b19eb15-e6af-47db-ad02-dcc4912660bd",
        ),
        ("DELETE FROM tidegate_documents WHERE index_name = 'company' AND id = '13'", "company 13"),
    ] {
        let found = difference_after(sql);
        assert_eq!((found.key.as_str(), found.found.as_str()), (key, "nothing"), "{found}");
    }
}

#[test]
fn the_last_image_of_a_deleted_row_must_be_kept() {
    let living = super::fixture::source("bookstore-analytics");
    let living: Vec<String> = living.table("orders").unwrap().rows.iter().map(|row| row[0].1.bare()).collect();
    let found = difference_after(&format!(
        "DELETE FROM fact_orders WHERE rowid = (SELECT rowid FROM fact_orders WHERE id NOT IN ('{}') LIMIT 1)",
        living.join("','")
    ));
    assert!(found.key.starts_with("fact_orders "), "{found}");
    assert_eq!(found.found, "nothing");
}

#[test]
fn what_should_not_be_there_is_named() {
    for (sql, key) in [
        ("INSERT INTO tidegate_cache VALUES ('order-cache', 'order:ord_6', '{}', 605000)", "order:ord_6"),
        ("INSERT INTO tidegate_cache VALUES ('cache-invalidation', '5', '{}', NULL)", "5"),
        (
            "INSERT INTO tidegate_cache VALUES ('trackops-cache', 'orders:customer:someone', '[]', NULL)",
            "orders:customer:someone",
        ),
        ("INSERT INTO fact_inventory (book_id) VALUES ('nothing')", "fact_inventory nothing"),
        ("INSERT INTO tidegate_documents VALUES ('company-search', 'company', '999', '{}')", "company 999"),
    ] {
        let found = difference_after(sql);
        assert_eq!(found.key, key, "{found}");
        assert!(found.expected.starts_with("nothing"), "{found}");
    }
}

#[test]
fn a_message_too_few_too_many_or_changed_is_named() {
    let one = "(SELECT min(sequence) FROM tidegate_messages)";
    let lost = difference_after(&format!("DELETE FROM tidegate_messages WHERE sequence = {one}"));
    assert_eq!(lost.found, "no message");
    let twice = difference_after(&format!(
        "INSERT INTO tidegate_messages (sink, topic, key, value) SELECT sink, topic, key, value FROM tidegate_messages WHERE sequence = {one}"
    ));
    assert_eq!(twice.expected, "no message");
    let changed = difference_after(&format!(
        "UPDATE tidegate_messages SET value = replace(CAST(value AS TEXT), 'ORDER_CREATED', 'ORDER_MADE') WHERE sequence = {one}"
    ));
    assert!(changed.found.contains("ORDER_MADE"), "{changed}");
}

#[test]
fn an_entry_with_another_expiry_is_named() {
    for (expiry, key) in [
        ("NULL", "order:ord_10"),
        ("expires_at - 1001", "order:ord_10"),
        ("expires_at + 1001", "order:ord_10"),
        ("5000 + 1800000", "order:entity:111952b9-2067-455a-a925-f486f2751731"),
        ("5000 + 3600000", "order:status:111952b9-2067-455a-a925-f486f2751731"),
    ] {
        let found = difference_after(&format!("UPDATE tidegate_cache SET expires_at = {expiry} WHERE key = '{key}'"));
        assert_eq!((found.key.as_str(), found.column.as_deref()), (key, Some("expiry")), "{found}");
    }
}

#[test]
fn a_store_without_a_table_differs_and_the_others_are_still_checked() {
    let store = CorrectStore::new();
    store.connection.execute_batch("DROP TABLE dim_books").unwrap();
    let verdicts = verify(&store.path, &corpus()).unwrap();
    let differing: Vec<&str> =
        verdicts.iter().filter(|verdict| !verdict.differences.is_empty()).map(|verdict| verdict.system).collect();
    assert_eq!(differing, ["bookstore-analytics"]);
}

#[test]
fn a_long_difference_is_shown_where_it_begins() {
    let same = "é".repeat(500);
    let difference = Difference {
        system: "order-cache",
        key: "order:ord_1".into(),
        column: Some("receipt".into()),
        expected: format!("{same}right{same}"),
        found: format!("{same}wrong{same}"),
    };
    let shown = difference.to_string();
    assert!(shown.contains("right") && shown.contains("wrong") && shown.len() < 400, "{shown}");
}
