//! The golden cases in `tests/cases/events`: a folder a case, with the record and what it means.
//!
//! `record.json` is a line of a recorded file (or `recorded.txt` names one: path below `corpus`, partition, offset),
//! `options.json` says how to read it where that is not the envelope of the defaults, `event.json` is the outcome
//! with everything projected. To write the outcomes anew, set `WRITE_GOLDEN=1`, and read the difference.

use serde_json::{Value, json};

use super::*;
use crate::contract::Operation;

fn options(case: &Path) -> Options {
    let Ok(text) = fs::read_to_string(case.join("options.json")) else { return Options::default() };
    let given: Members = serde_json::from_str(&text).unwrap();
    let mut options = Options::default();
    for (name, value) in given.0 {
        let value: Value = serde_json::from_str(&value).unwrap();
        match (name.as_str(), value.as_str()) {
            ("format", Some("debezium-flattened")) => options.format = Format::Flattened,
            ("format", Some("auto")) => options.format = Format::Auto,
            ("flattened_tombstone_is_delete", None) => {
                options.flattened_tombstone_is_delete = value.as_bool().unwrap();
            }
            other => panic!("{}: {other:?}", case.display()),
        }
    }
    options
}

fn the_record(case: &Path) -> Record {
    let Ok(place) = fs::read_to_string(case.join("recorded.txt")) else {
        let text = fs::read_to_string(case.join("record.json")).unwrap();
        return serde_json::from_str::<Line>(&text).unwrap().into();
    };
    let [path, partition, offset] = place.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{place}") };
    let (partition, offset) = (partition.parse().unwrap(), offset.parse().unwrap());
    let mut records = recorded(path).into_iter();
    records.find(|record| (record.partition.partition, record.offset) == (partition, offset)).unwrap()
}

/// Rows as text: what counts is that no digit changes.
fn outcome(options: Options, record: &Record) -> Value {
    let mut decoder = Decoder::new(options);
    let change = match decoder.decode(record) {
        Ok(Event::Change(change)) => change,
        Ok(Event::Truncate) => return json!({ "event": "truncate" }),
        Ok(Event::Control(control)) => return json!({ "event": "control", "control": format!("{control:?}") }),
        Err(rejection) => return json!({ "rejected": rejection.fault.label(), "reason": rejection.reason }),
    };
    let projected = change.project(&mut Projection::new(&everything()));
    let operation = match projected.operation {
        Operation::Create => "create",
        Operation::Read => "read",
        Operation::Update => "update",
        Operation::Delete => "delete",
    };
    let value_type = |of: &crate::contract::ValueType| {
        let scale = of.scale.map_or_else(String::new, |scale| format!(" scale {scale}"));
        format!(
            "{}{}{scale}",
            of.connect_type,
            of.logical_type.as_ref().map_or_else(String::new, |of| format!(" {of}"))
        )
    };
    let columns = change.columns.as_ref().map(|columns| {
        let column = |column: &Column| {
            let element = column.element.as_ref().map_or_else(String::new, |of| format!(" of {}", value_type(of)));
            format!("{}: {}{element}", column.name, value_type(&column.of))
        };
        columns.iter().map(column).collect::<Vec<_>>()
    });
    json!({
        "event": operation, "table": change.table, "key": projected.key, "moved": projected.moved,
        "before": projected.before, "after": projected.after, "unsent": projected.unsent,
        "source": projected.source, "columns": columns,
    })
}

#[test]
fn each_case_means_what_is_written() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(data("cases/events")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    assert!(cases.len() >= 20, "{}", cases.len());
    for case in cases {
        let found = outcome(options(&case), &the_record(&case));
        let path = case.join("event.json");
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            fs::write(&path, format!("{found:#}\n")).unwrap();
        }
        let expected: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(found, expected, "{}", case.display());
    }
}
