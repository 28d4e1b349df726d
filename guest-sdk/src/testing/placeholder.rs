//! The placeholders that Debezium writes for a value that the database did not tell.

use std::sync::LazyLock;

use serde_json::value::RawValue;
use serde_json::{Value, json};

const TEXT: &str = "__debezium_unavailable_value";
const BASE64: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
/// What stands for an element of a `uuid[]`.
const UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// Text and bytes; arrays of text, bytes, UUIDs and integers; hstore as text and as a map.
static PLACEHOLDERS: LazyLock<[Value; 8]> = LazyLock::new(|| {
    [
        json!(TEXT),
        json!(BASE64),
        json!([TEXT]),
        json!([BASE64]),
        json!([UUID]),
        json!(TEXT.as_bytes()),
        json!({ TEXT: TEXT }),
        json!(format!("{{\"{TEXT}\":\"{TEXT}\"}}")),
    ]
});

/// Whether a column's value is one of them.
pub(super) fn is_placeholder(value: &RawValue) -> bool {
    serde_json::from_str::<Value>(value.get()).is_ok_and(|value| PLACEHOLDERS.contains(&value))
}
