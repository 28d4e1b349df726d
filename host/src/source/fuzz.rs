//! Fuzzing of recorded lines: a line is the record that it says, or is refused in one short line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::recorded::parse_line;
use crate::fuzz::{Target, data};

/// An input is one line, without its end.
pub(crate) const LINES: Target = Target {
    name: "lines",
    run,
    seeds,
    words: &[
        "\"topic\":\"t\"",
        "\"partition\":0",
        "\"offset\":9223372036854775808",
        "\"timestamp\":-1",
        "\"headers\":[[\"a\",null],[\"b\",\"/w==\",\"base64\"]]",
        "\"key\":\"\"",
        "\"key_base64\":\"/w==\"",
        "\"value\":null",
        "\"value_base64\":\"\"",
        "base64",
        "\\ud83d",
        "\\u000a",
        "\u{2028}",
        "1e2",
        "-0",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "=",
    ],
    most_bytes: 1 << 13,
    runs: 4000,
};

fn seeds() -> Vec<Vec<u8>> {
    let every = r#"{"topic":"t","partition":2,"offset":7,"timestamp":5,"headers":[["a","b"],["c",null],["d","/w==","base64"]],"#;
    let mut seeds = vec![
        format!(r#"{every}"key":"1","value":null}}"#).into_bytes(),
        format!(r#"{every}"key_base64":"/w==","value_base64":""}}"#).into_bytes(),
    ];
    let captured = fs::read_to_string(data("corpus/torture/bare_precise.public.special.jsonl"));
    seeds.extend(captured.iter().flat_map(|text| text.split('\n').take(3)).map(|line| line.as_bytes().to_vec()));
    seeds
}

fn run(input: &[u8]) {
    let Ok(line) = std::str::from_utf8(input) else { return };
    let record = match parse_line(line) {
        Ok(record) => record,
        Err(error) => {
            let told = error.to_string();
            assert!(!told.chars().any(char::is_control) && told.len() < 1000, "{told:?}");
            return;
        }
    };
    let said: Value = serde_json::from_str(line).unwrap();
    assert_eq!(said["topic"], *record.partition.topic);
    assert_eq!(said["partition"], record.partition.partition);
    assert_eq!(said["offset"], record.offset);
    assert!(i64::try_from(record.offset).is_ok());
    assert_eq!(said["timestamp"].as_i64(), record.timestamp);
    assert_eq!(said["headers"].as_array().map_or(0, Vec::len), record.headers.len());
    for (index, header) in record.headers.iter().enumerate() {
        let said = &said["headers"][index];
        assert_eq!(said[0], header.name);
        assert_eq!(bytes(&said[1], !said[2].is_null()), header.value);
    }
    for (member, value) in [("key", &record.key), ("value", &record.value)] {
        let encoded = &said[format!("{member}_base64")];
        let expected = if encoded.is_null() { bytes(&said[member], false) } else { bytes(encoded, true) };
        assert_eq!(expected, *value, "{member}");
    }
}

fn bytes(said: &Value, encoded: bool) -> Option<Vec<u8>> {
    let text = said.as_str()?;
    Some(if encoded { BASE64_STANDARD.decode(text).unwrap() } else { text.as_bytes().to_vec() })
}
