//! Every captured record, decoded and projected, held against an independent reading by `serde_json`.

use std::collections::BTreeMap;

use super::*;
use crate::contract::{Operation, Reads};

const PLACEHOLDERS: [&str; 4] = [
    "__debezium_unavailable_value",
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
    "95,95,100,101",
    "b68a35a7-17ad-35b3-af2a-ae46edb4545a",
];

fn kind(event: &Event<'_>) -> &'static str {
    match event {
        Event::Change(change) => match change.operation {
            Operation::Create => "create",
            Operation::Read => "read",
            Operation::Update => "update",
            Operation::Delete => "delete",
        },
        Event::Truncate => "truncate",
        Event::Control(control) => match control {
            Control::Tombstone => "tombstone",
            Control::Heartbeat => "heartbeat",
            Control::Transaction => "transaction",
            Control::SchemaChange => "schema change",
            Control::Message => "message",
        },
    }
}

/// The payload as `serde_json` sees it, out of its wrapper.
fn payload(record: &Record, schema: bool) -> Members {
    let members = Members::of(std::str::from_utf8(record.value.as_ref().unwrap()).unwrap());
    if schema { Members::of(members.get("payload").unwrap()) } else { members }
}

/// The row that a change is about, as `serde_json` sees it, without added fields.
fn expected_row(record: &Record, path: &str, format: Format, member: &str) -> Option<Members> {
    let payload = payload(record, path.contains("/schema_") || path.starts_with("cdc-cascade/"));
    match format {
        Format::Flattened => Some(Members(payload.0.into_iter().filter(|(name, _)| !name.starts_with("__")).collect())),
        _ => payload.get(member).filter(|value| *value != "null").map(Members::of),
    }
}

fn without(row: &Members, unsent: &[Cow<'_, str>]) -> Members {
    Members(row.0.iter().filter(|(name, _)| !unsent.iter().any(|of| of == name)).cloned().collect())
}

#[test]
fn every_captured_record_is_of_a_known_kind() {
    let mut kinds: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    for (path, format) in corpus() {
        let group = path.split('/').next().unwrap().to_owned();
        // The flattened twin was captured under `rewrite-with-tombstone`.
        let options = Options { format, flattened_tombstone_is_delete: false, ..Options::default() };
        let mut decoder = Decoder::new(options);
        for record in recorded(&path) {
            let event = decoder.decode(&record).unwrap_or_else(|error| panic!("{path} {}: {error:?}", record.offset));
            *kinds.entry((group.clone(), kind(&event))).or_default() += 1;
        }
    }
    let lines: Vec<String> =
        kinds.into_iter().map(|((group, kind), count)| format!("{group}: {count} {kind}")).collect();
    let expected = fs::read_to_string(data("cases/events/corpus-kinds.txt")).unwrap();
    assert_eq!(lines.join("\n"), expected.trim_end());
}

#[test]
fn a_projection_of_everything_is_the_row_without_added_and_unsent_columns() {
    let mut unsent_columns = 0;
    for (path, format) in corpus() {
        let mut decoder = decoder(format);
        let mut projection = Projection::new(&everything());
        for record in recorded(&path) {
            let Ok(Event::Change(change)) = decoder.decode(&record) else { continue };
            if record.value.is_none() {
                continue;
            }
            let projected = change.project(&mut projection);
            unsent_columns += projected.unsent.len();
            let (before, after) = match (format, change.operation) {
                (Format::Flattened, Operation::Delete) => (expected_row(&record, &path, format, ""), None),
                (Format::Flattened, _) => (None, expected_row(&record, &path, format, "")),
                _ => (expected_row(&record, &path, format, "before"), expected_row(&record, &path, format, "after")),
            };
            let place = format!("{path} {}", record.offset);
            assert_eq!(projected.before.as_deref().map(Members::of), before, "{place}");
            let after = after.map(|after| without(&after, &projected.unsent));
            assert_eq!(projected.after.as_deref().map(Members::of), after, "{place}");
            for text in PLACEHOLDERS {
                assert!(!projected.after.as_deref().unwrap_or_default().contains(text), "{place}");
                assert!(!projected.before.as_deref().unwrap_or_default().contains(text), "{place}");
            }
        }
    }
    assert_eq!(unsent_columns, 251);
}

#[test]
fn a_projection_of_some_columns_holds_these_alone_in_their_order() {
    for (path, format) in corpus() {
        let mut decoder = decoder(format);
        for record in recorded(&path) {
            let Ok(Event::Change(change)) = decoder.decode(&record) else { continue };
            let whole = change.project(&mut Projection::new(&everything()));
            let names = whole.after.as_deref().map(Members::of).unwrap_or(Members(Vec::new())).0;
            let every_third =
                names.iter().map(|(name, _)| name.clone()).chain(whole.unsent.iter().map(|of| of.to_string()));
            let columns: Vec<String> =
                every_third.enumerate().filter(|(at, _)| at % 3 == 1).map(|(_, name)| name).collect();
            let reads = vec![Reads { table: change.table.to_string(), columns: Some(columns.clone()) }];
            let mut projection = Projection::new(&Inputs { reads, ..Inputs::default() });
            // The second time by prediction.
            for _ in 0..2 {
                let some = change.project(&mut projection);
                let expected = names.iter().filter(|(name, _)| columns.contains(name)).cloned().collect();
                assert_eq!(some.after.as_deref().map(Members::of), whole.after.as_ref().map(|_| Members(expected)));
                assert!(some.unsent.iter().all(|name| columns.contains(&name.to_string())));
                assert_eq!((some.before, some.source, some.headers), (None, None, &[][..]));
            }
        }
    }
}

#[test]
fn the_guess_is_right_for_every_captured_record() {
    for (path, format) in corpus() {
        let mut known = Decoder::new(Options { format, flattened_tombstone_is_delete: false, ..Options::default() });
        let mut guessing = decoder(Format::Auto);
        let (mut one, mut other) = (Projection::new(&everything()), Projection::new(&everything()));
        for record in recorded(&path) {
            let (known, guessed) = (known.decode(&record).unwrap(), guessing.decode(&record).unwrap());
            assert_eq!(kind(&known), kind(&guessed), "{path} {}", record.offset);
            if let (Event::Change(known), Event::Change(guessed)) = (known, guessed) {
                assert_eq!(known.project(&mut one), guessed.project(&mut other), "{path} {}", record.offset);
                assert_eq!(known.columns, guessed.columns, "{path} {}", record.offset);
            }
        }
    }
}

#[test]
fn a_record_with_its_schema_brings_its_columns_and_the_same_schema_is_the_same_arc() {
    for (path, format) in corpus() {
        let with_schema = path.contains("/schema_") || path.starts_with("cdc-cascade/");
        let mut decoder = decoder(format);
        let mut last: Option<Arc<Vec<Column>>> = None;
        for record in recorded(&path) {
            let Ok(Event::Change(change)) = decoder.decode(&record) else { continue };
            assert_eq!(change.columns.is_some(), with_schema, "{path} {}", record.offset);
            let Some(columns) = change.columns else { continue };
            let row = change.after.as_ref().or(change.before.as_ref()).unwrap();
            let names: Vec<String> = Members::of(row.text).0.into_iter().map(|(name, _)| name).collect();
            assert_eq!(columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>(), names);
            if let Some(last) = last {
                assert_eq!(Arc::ptr_eq(&last, &columns), last == columns, "{path} {}", record.offset);
            }
            last = Some(columns);
        }
    }
}

#[test]
fn both_halves_of_a_key_change_know_of_each_other() {
    let mut pairs = 0;
    for (path, format) in corpus() {
        let records = recorded(&path);
        let mut decoder = decoder(format);
        let mut moves: Vec<(String, String)> = Vec::new();
        let mut arrivals = Vec::new();
        for record in &records {
            let Ok(Event::Change(change)) = decoder.decode(record) else { continue };
            let (Some(key), Some(moved)) = (change.key, change.moved) else { continue };
            // The delete that a flattened tombstone repeats.
            if record.value.is_none() {
                continue;
            }
            match change.operation {
                Operation::Delete => moves.push((same_key(key), same_key(moved))),
                Operation::Create => arrivals.push((same_key(moved), same_key(key))),
                other => panic!("{other:?} moved"),
            }
        }
        moves.sort();
        arrivals.sort();
        assert_eq!(moves, arrivals, "{path}");
        pairs += moves.len();
    }
    assert_eq!(pairs, 36);
}

/// A key with its members in order: a header may name them in another.
fn same_key(key: &str) -> String {
    let mut members = Members::of(key).0;
    members.sort();
    format!("{members:?}")
}
