//! A transform's settings: any TOML table as the JSON text that the module gets. Numbers keep their digits, dates
//! become strings, references in strings are replaced.

use toml::de::{DeInteger, DeTable, DeValue};

use super::block::{Document, Place};
use super::text::Text;

/// The JSON object of a table; none when a part of it has no JSON form.
pub(super) fn to_json(document: &Document<'_>, place: &Place, value: &DeValue<'_>) -> Option<Text> {
    let Some(table) = value.as_table() else {
        document.problem(place, "the settings are not a table", "write `settings = { name = value }`");
        return None;
    };
    let mut json = Text::default();
    object(document, place, table, &mut json).then_some(json)
}

fn object(document: &Document<'_>, place: &Place, table: &DeTable<'_>, json: &mut Text) -> bool {
    let mut complete = true;
    json.push("{");
    for (number, (key, value)) in table.iter().enumerate() {
        json.push(if number > 0 { "," } else { "" });
        json.push(&quoted(key.get_ref()));
        json.push(":");
        complete &= append(document, &place.inside(&format!(".{}", key.get_ref()), key.span()), value.get_ref(), json);
    }
    json.push("}");
    complete
}

fn append(document: &Document<'_>, place: &Place, value: &DeValue<'_>, json: &mut Text) -> bool {
    match value {
        DeValue::String(_) => match document.text(place, value) {
            Some(text) => json.append(&text, quoted),
            None => return false,
        },
        DeValue::Integer(number) => match digits(number) {
            Some(digits) => json.push(&digits),
            None => {
                document.problem(place, format!("{number} is too large"), "write it as a string");
                return false;
            }
        },
        DeValue::Float(number) => {
            let digits = number.as_str().trim_start_matches('+');
            if digits.ends_with("inf") || digits.ends_with("nan") {
                document.problem(place, format!("JSON has no {digits}"), "write it as a string");
                return false;
            }
            json.push(digits);
        }
        DeValue::Boolean(value) => json.push(if *value { "true" } else { "false" }),
        DeValue::Datetime(value) => json.push(&quoted(&value.to_string())),
        DeValue::Array(items) => {
            let mut complete = true;
            json.push("[");
            for (index, item) in items.iter().enumerate() {
                json.push(if index > 0 { "," } else { "" });
                complete &= append(document, &place.inside(&format!("[{index}]"), item.span()), item.get_ref(), json);
            }
            json.push("]");
            return complete;
        }
        DeValue::Table(table) => return object(document, place, table, json),
    }
    true
}

/// The digits of an integer. A decimal one never passes through a number type.
fn digits(number: &DeInteger<'_>) -> Option<String> {
    if number.radix() != 10 {
        return i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string());
    }
    let text = number.as_str();
    Some(text.strip_prefix('+').unwrap_or(text).to_owned())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
