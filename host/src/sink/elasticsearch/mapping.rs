//! Where an index's mapping differs from the declared one, field by field.

use std::fmt;

use serde_json::Value;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// The field is not there; it can be added.
    New {
        /// Its path.
        field: String,
    },
    /// The field is of another type, which cannot be changed.
    Type {
        /// Its path.
        field: String,
        /// As declared.
        declared: String,
        /// As the store has it.
        stored: String,
    },
    /// A parameter is another; the server says whether it can be changed.
    Parameter {
        /// The field's path; empty for the mapping itself.
        field: String,
        /// The parameter.
        name: String,
        /// As declared.
        declared: String,
        /// As the store has it.
        stored: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New { field } => write!(f, "field {field} is not there yet"),
            Self::Type { field, declared, stored } => {
                write!(f, "field {field} is declared as {declared} and stored as {stored}")
            }
            Self::Parameter { field, name, declared, stored } => {
                let place = if field.is_empty() { "the mapping".to_owned() } else { format!("field {field}") };
                write!(f, "{name} of {place} is declared as {declared} and stored as {stored}")
            }
        }
    }
}

/// All differences. What is stored and not declared is none: others may have added fields, and the server fills in
/// and leaves out defaults as it likes.
pub(super) fn differences(declared: &Value, stored: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", declared, stored, &mut found);
    found
}

fn compare(path: &str, declared: &Value, stored: &Value, found: &mut Vec<Difference>) {
    let Value::Object(members) = declared else { return };
    for (name, value) in members {
        match name.as_str() {
            "properties" | "fields" => {
                let Value::Object(fields) = value else { continue };
                for (field, declared) in fields {
                    let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                    match stored.get(name).and_then(|fields| fields.get(field)) {
                        None => found.push(Difference::New { field: path }),
                        Some(stored) => compare_field(&path, declared, stored, found),
                    }
                }
            }
            // Whose the index is, and what the server rewrites in its own form.
            "_meta" | "type" | "dynamic_templates" => {}
            _ => {
                let Some(other) = stored.get(name) else { continue };
                if !is_same(value, other) {
                    found.push(Difference::Parameter {
                        field: path.to_owned(),
                        name: name.clone(),
                        declared: plain(value),
                        stored: plain(other),
                    });
                }
            }
        }
    }
}

fn compare_field(path: &str, declared: &Value, stored: &Value, found: &mut Vec<Difference>) {
    let kind = |field: &Value| field["type"].as_str().unwrap_or("object").to_owned();
    let (ours, theirs) = (kind(declared), kind(stored));
    if ours == theirs {
        compare(path, declared, stored, found);
    } else {
        found.push(Difference::Type { field: path.to_owned(), declared: ours, stored: theirs });
    }
}

/// The server gives `100.0` back for `100`.
fn is_same(declared: &Value, stored: &Value) -> bool {
    let (declared, stored) = (plain(declared), plain(stored));
    let number = |text: &str| text.parse::<f64>().ok();
    declared == stored || number(&declared).is_some_and(|number_declared| number(&stored) == Some(number_declared))
}

/// The server takes `"false"` for `false` and gives either back.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(declared: &Value, stored: &Value) -> Vec<String> {
        differences(declared, stored).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_declared_is_compared_and_what_others_added_is_not() {
        let stored = json!({"dynamic": "false", "_meta": {"x": 1}, "properties": {
            "a": {"type": "keyword", "ignore_above": 256}, "o": {"properties": {"n": {"type": "long"}}}, "theirs": {"type": "text"},
            "s": {"type": "scaled_float", "scaling_factor": 100.0}}});
        let same = json!({"dynamic": false, "properties": {
            "a": {"type": "keyword", "index": true}, "o": {"type": "object"},
            "s": {"type": "scaled_float", "scaling_factor": 100}}});
        assert_eq!(told(&same, &stored), [""; 0]);
        let other = json!({"dynamic": "strict", "properties": {
            "a": {"type": "text"}, "o": {"properties": {"n": {"type": "long", "fields": {"raw": {"type": "keyword"}}}, "m": {"type": "long"}}}}});
        assert_eq!(
            told(&other, &stored),
            [
                "dynamic of the mapping is declared as strict and stored as false",
                "field a is declared as text and stored as keyword",
                "field o.m is not there yet",
                "field o.n.raw is not there yet",
            ]
        );
    }
}
