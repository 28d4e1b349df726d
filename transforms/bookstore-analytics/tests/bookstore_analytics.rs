//! What the analytics tables hold of the bookstore.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use bookstore_analytics::BookstoreAnalytics;
use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json::{self, Map, Value};
use tidegate_sdk::testing::{Command, Event, Tester};

const CORPUS: &str = "../../tests/corpus/bookstore-analytics";

fn tester() -> Tester<BookstoreAnalytics> {
    Tester::start(json!({})).unwrap()
}

fn only(event: &Event) -> Command {
    let commands = tester().apply(event).unwrap();
    let [command] = <[Command; 1]>::try_from(commands).unwrap();
    command
}

fn order() -> Value {
    json!({
        "id": "6acf7a29-94fd-4c45-ae32-5f21db5c9998", "user_id": "kc-4", "total": 447.8, "status": "PENDING",
        "created_at": 1_732_127_904_123_i64,
    })
}

fn book() -> Value {
    json!({
        "id": "fadaa2ee-79ab-456b-a004-e91d36455a14", "title": "Solaris", "author": "Stanisław Lem", "price": 60008.28,
        "description": "long", "cover_url": null, "isbn": "9789452586912", "genre": "Poetry", "published_year": null,
        "created_at": 1_689_835_007_000_i64,
    })
}

/// The tables after the recorded events of a topic, by the key column's value.
fn replayed(topic: &str, key: &str) -> BTreeMap<(String, String), Map<String, Value>> {
    let mut rows = BTreeMap::new();
    for change in tester().replay_file(format!("{CORPUS}/{topic}.jsonl")).unwrap() {
        for command in change.answer.unwrap() {
            let (table, values, merge) = match command {
                Command::RowUpsert { table, values } => (table, values, false),
                Command::RowMerge { table, values } => (table, values, true),
                other => panic!("{other}"),
            };
            let values = values.to_json().as_object().unwrap().clone();
            let id = (table, values[key].as_str().unwrap().to_owned());
            assert!(!merge || rows.contains_key(&id), "a merge of a row that is not there: {id:?}");
            rows.entry(id).or_insert_with(Map::new).extend(values);
        }
    }
    rows
}

#[test]
fn the_recorded_events_leave_the_rows_of_each_source_table_in_its_analytics_table() {
    let source: Value =
        serde_json::from_str(include_str!("../../../tests/corpus/bookstore-analytics/source-final.json")).unwrap();
    // The last number counts the rows that were deleted for good: they stay.
    for (connector, from, into, key, deleted) in [
        ("ecom", "orders", "fact_orders", "id", 5),
        ("ecom", "order_items", "fact_order_items", "id", 1),
        ("ecom", "books", "dim_books", "id", 2),
        ("inventory", "inventory", "fact_inventory", "book_id", 0),
    ] {
        let held = replayed(&format!("{connector}-connector.public.{from}"), key);
        assert!(held.keys().all(|(table, _)| table == into));
        let living = source[from].as_array().unwrap();
        assert_eq!(held.len(), living.len() + deleted, "the rows of {into}");
        for row in living.iter().map(|row| row.as_object().unwrap()) {
            let held = &held[&(into.to_owned(), row[key].as_str().unwrap().to_owned())];
            assert_eq!(held.len(), row.len(), "the columns of {into}");
            // Times are written in another way; the tests below have them.
            for (column, value) in row.iter().filter(|(column, _)| !column.ends_with("_at")) {
                match value.as_f64() {
                    Some(number) => assert_eq!(held[column].as_f64(), Some(number), "{into}.{column} of {}", row[key]),
                    None => assert_eq!(&held[column], value, "{into}.{column} of {}", row[key]),
                }
            }
        }
    }
}

#[test]
fn an_order_is_written_with_the_digits_that_came_and_its_time_in_iso_8601() {
    let Command::RowUpsert { table, values } = only(&Event::create("orders", json!({"id": "6acf"}), order())) else {
        panic!("no upsert");
    };
    assert_eq!(table, "fact_orders");
    assert_eq!(
        values.text(),
        concat!(
            r#"{"id":"6acf7a29-94fd-4c45-ae32-5f21db5c9998","user_id":"kc-4","total":447.8,"status":"PENDING","#,
            r#""created_at":"2024-11-20T18:38:24.123Z"}"#,
        )
    );
}

#[test]
fn the_stock_of_a_book_is_written_under_the_book_with_its_time_to_the_last_digit() {
    let stock = json!({"book_id": "fada", "quantity": 5, "reserved": 0, "updated_at": "2024-09-13T05:58:19.999999Z"});
    let Command::RowUpsert { table, values } = only(&Event::update("inventory", json!({"book_id": "fada"}), &stock))
    else {
        panic!("no upsert");
    };
    assert_eq!((table.as_str(), values.to_json()), ("fact_inventory", stock));
}

#[test]
fn an_unsent_description_is_left_as_it_is() {
    let mut book = book();
    book.as_object_mut().unwrap().remove("description");
    let event = Event::update("books", json!({"id": "fada"}), book).with_unsent(["description"]);
    let Command::RowMerge { table, values } = only(&event) else { panic!("no merge") };
    assert_eq!(table, "dim_books");
    assert_eq!(values.to_json().get("description"), None);
    assert_eq!(values.to_json()["price"], 60008.28);
}

#[test]
fn a_deleted_row_stays_also_when_it_goes_on_under_another_key() {
    for event in [
        Event::delete("orders", json!({"id": "6acf"})).with_before(order()),
        Event::delete("books", json!({"id": "fada"})).with_moved(json!({"id": "459e"})),
    ] {
        assert_eq!(tester().apply(&event).unwrap(), []);
    }
}

#[test]
fn a_bare_row_is_taken_as_it_stands() {
    let line = json!({
        "topic": "ecom-connector.public.books", "partition": 0, "offset": 0, "key": null, "value": book().to_string(),
    });
    let handled = tester().replay(&line.to_string()).unwrap();
    let [Command::RowUpsert { table, .. }] = &handled[0].answer.as_ref().unwrap()[..] else { panic!("{handled:?}") };
    assert_eq!(table, "dim_books");
}

#[test]
fn the_tables_can_have_other_names() {
    let tester = Tester::<BookstoreAnalytics>::start(json!({"orders": "analytics.orders"})).unwrap();
    let commands = tester.apply(&Event::read("orders", json!({"id": "6acf"}), order())).unwrap();
    assert!(matches!(&commands[..], [Command::RowUpsert { table, .. }] if table == "analytics.orders"));
}

#[test]
fn a_table_that_is_not_mirrored_is_refused() {
    let refused = tester().apply(&Event::create("users", json!({"id": 1}), json!({"id": 1}))).unwrap_err();
    assert_eq!(refused.reason(), "the table `users` is not mirrored: take its topic out of the pipeline's `topics`");
}
