//! What the search indexes hold of companies, contacts and job postings.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use company_search::CompanySearch;
use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json::{self, Value};
use tidegate_sdk::testing::{Body, Command, Event, Tester};

const CORPUS: &str = "../../tests/corpus/company-search";

fn tester() -> Tester<CompanySearch> {
    Tester::start(json!({})).unwrap()
}

fn company() -> Value {
    json!({
        "id": 9_007_199_254_740_993_i64, "name": "Acme", "description": "long", "industry": "steel",
        "employee_count": null, "revenue": "96280863578.40", "founded_on": -4220, "is_public": true,
        "tags": ["b2b", null, "x,y"], "attributes": "{\"n\": 1, \"deep\": {\"a\": [1, null]}}", "website": null,
        "created_at": "2026-06-06T15:07:08.000000Z", "updated_at": 1_727_790_496_123_000_i64,
    })
}

fn indexed(commands: &[Command]) -> (&str, &str, &Body) {
    match commands {
        [Command::DocumentIndex { index, id, body }] => (index, id, body),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_recorded_events_leave_a_document_of_each_row_under_its_renamed_fields() {
    let source: Value =
        serde_json::from_str(include_str!("../../../tests/corpus/company-search/source-final.json")).unwrap();
    for (table, renames) in [
        ("company", &[("name", "company_name"), ("description", "about")][..]),
        ("contact", &[("full_name", "name")]),
        ("job_posting", &[("body", "description")]),
    ] {
        let mut documents = BTreeMap::new();
        for change in tester().replay_file(format!("{CORPUS}/app.public.{table}.jsonl")).unwrap() {
            for command in change.answer.unwrap() {
                match command {
                    Command::DocumentIndex { id, body, .. } => {
                        documents.insert(id, body.to_json().as_object().unwrap().clone());
                    }
                    Command::DocumentMerge { id, body, .. } => {
                        let document = documents.get_mut(&id).unwrap_or_else(|| panic!("{id} is not there"));
                        document.extend(body.to_json().as_object().unwrap().clone());
                    }
                    Command::DocumentDelete { id, .. } => {
                        documents.remove(&id);
                    }
                    other => panic!("{other}"),
                }
            }
        }
        let rows = source[table].as_array().unwrap();
        assert_eq!(documents.len(), rows.len(), "{table}");
        for row in rows.iter().map(|row| row.as_object().unwrap()) {
            let id = match table {
                "job_posting" => format!("{}:{}", row["company_id"], row["ref"].as_str().unwrap()),
                _ => row["id"].to_string(),
            };
            let document = &documents[&id];
            assert_eq!(document.len(), row.len(), "{table} {id}");
            // Times are written in another way; the test below has them.
            for (column, value) in row.iter().filter(|(column, _)| !column.ends_with("_at")) {
                let field = renames.iter().find(|(from, _)| from == column).map_or(column.as_str(), |(_, into)| into);
                match value.as_f64().filter(|_| column == "revenue") {
                    Some(revenue) => assert_eq!(document[field].as_f64(), Some(revenue), "{table} {id}: {field}"),
                    None => assert_eq!(&document[field], value, "{table} {id}: {field}"),
                }
            }
        }
    }
}

#[test]
fn a_company_is_indexed_with_every_value_exact() {
    let commands =
        tester().apply(&Event::create("company", json!({"id": 9_007_199_254_740_993_i64}), company())).unwrap();
    let (index, id, body) = indexed(&commands);
    assert_eq!((index, id), ("company", "9007199254740993"));
    assert_eq!(
        body.text(),
        concat!(
            r#"{"id":9007199254740993,"company_name":"Acme","about":"long","industry":"steel","#,
            r#""employee_count":null,"revenue":96280863578.40,"founded_on":"1958-06-13","is_public":true,"#,
            r#""tags":["b2b",null,"x,y"],"attributes":{"n":1,"deep":{"a":[1,null]}},"website":null,"#,
            r#""created_at":"2026-06-06T15:07:08Z","updated_at":"2024-10-01T13:48:16.123Z"}"#,
        )
    );
}

#[test]
fn a_job_posting_is_known_by_its_company_and_its_reference() {
    let key = json!({"company_id": 9_007_199_254_740_994_i64, "ref": "a0ef"});
    let row = json!({
        "company_id": 9_007_199_254_740_994_i64, "ref": "a0ef", "title": "Smith", "body": null, "salary_min": null,
        "remote": true, "posted_at": "2024-07-20T14:35:02.123000Z",
    });
    let commands = tester().apply(&Event::update("job_posting", &key, row)).unwrap();
    assert_eq!((indexed(&commands).0, indexed(&commands).1), ("job_posting", "9007199254740994:a0ef"));
    let (index, id) = ("job_posting".to_owned(), "9007199254740994:a0ef".to_owned());
    let commands = tester().apply(&Event::delete("job_posting", &key)).unwrap();
    assert_eq!(commands, [Command::DocumentDelete { index, id }]);
}

#[test]
fn an_unsent_description_stays_under_the_field_that_it_became() {
    let mut company = company();
    company.as_object_mut().unwrap().remove("description");
    let event = Event::update("company", json!({"id": 4}), company).with_unsent(["description"]);
    let commands = tester().apply(&event).unwrap();
    let [Command::DocumentMerge { id, body, .. }] = &commands[..] else { panic!("{commands:?}") };
    let body = body.to_json();
    assert_eq!((id.as_str(), &body["company_name"]), ("4", &json!("Acme")));
    assert_eq!((body.get("about"), body.get("description")), (None, None));
}

#[test]
fn a_company_that_gets_another_id_is_deleted_and_indexed_anew() {
    let (old, new) = (json!({"id": 4}), json!({"id": 504}));
    let commands = tester().apply(&Event::delete("company", &old).with_moved(&new)).unwrap();
    assert_eq!(commands, [Command::DocumentDelete { index: "company".to_owned(), id: "4".to_owned() }]);
    let commands = tester().apply(&Event::create("company", &new, company()).with_moved(&old)).unwrap();
    assert_eq!(indexed(&commands).1, "504");
}

#[test]
fn each_field_is_mapped_under_its_renamed_name() {
    let tester = Tester::<CompanySearch>::start(json!({
        "shards": 3, "analyzer": "english",
        "company": {"index": "firms", "renames": {"name": "title"}},
    }))
    .unwrap();
    let definition = tester.index_definition("firms").unwrap();
    assert_eq!(
        definition["settings"],
        json!({"number_of_shards": 3, "analysis": {"analyzer": {"default": {"type": "english"}}}})
    );
    let fields = &definition["mappings"]["properties"];
    assert_eq!(fields.as_object().unwrap().len(), 13);
    assert_eq!(
        fields["title"],
        json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 8191}}})
    );
    assert_eq!((fields.get("name"), fields.get("company_name")), (None, None));
    assert_eq!(fields["attributes"], json!({"type": "object", "enabled": false}));
    assert_eq!(fields["created_at"]["type"], "date");

    let commands = tester.apply(&Event::read("company", json!({"id": 4}), company())).unwrap();
    let (index, _, body) = indexed(&commands);
    assert_eq!((index, &body.to_json()["title"]), ("firms", &json!("Acme")));
}

#[test]
fn renames_that_cannot_be_are_refused_at_the_start() {
    let error = |renames| {
        let settings = json!({"contact": {"index": "contact", "renames": renames}});
        Tester::<CompanySearch>::start(settings).unwrap_err()
    };
    assert_eq!(error(json!({"nmae": "x"})), "setting `contact.renames`: the table has no column `nmae`");
    assert_eq!(error(json!({"email": "phone"})), "setting `contact.renames`: two columns become the field `phone`");
    let error = Tester::<CompanySearch>::start(json!({"shards": 0})).unwrap_err();
    assert_eq!(error, "setting `shards`: an index has at least 1");
}

#[test]
fn a_table_without_an_index_is_refused() {
    let refused = tester().apply(&Event::create("users", json!({"id": 1}), json!({"id": 1}))).unwrap_err();
    assert_eq!(refused.reason(), "the table `users` has no index: take its topic out of the pipeline's `topics`");
}
