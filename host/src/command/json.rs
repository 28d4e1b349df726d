//! JSON objects as their members: read, overlaid and written as text, so that no digit is lost.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Fields;
use crate::limits::MEMBERS;

/// Reads an object. Each value is on one line afterwards.
///
/// # Errors
/// Text that is no JSON object, a name that occurs twice, half of a surrogate pair, more members than are kept.
pub(crate) fn parse_fields(text: &str) -> Result<Fields, String> {
    let Members(mut fields) = serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))?;
    if let Some(name) = repeated_name(&fields) {
        return Err(format!("the name {name:?} occurs twice"));
    }
    if has_lone_surrogate(text) {
        return Err("a string holds half of a surrogate pair".into());
    }
    for (_, value) in &mut fields {
        if let Some(line) = joined_lines(value.get()) {
            *value = RawValue::from_string(line).map_err(|e| e.to_string())?;
        }
    }
    Ok(fields)
}

/// Reads an object without taking it apart: its text, on one line.
///
/// # Errors
/// As [`parse_fields`].
pub(crate) fn parse_object(text: &str) -> Result<Box<RawValue>, String> {
    let Names(names) = serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))?;
    if let Some(name) = repeated(names.iter().map(String::as_str)) {
        return Err(format!("the name {name:?} occurs twice"));
    }
    if has_lone_surrogate(text) {
        return Err("a string holds half of a surrogate pair".into());
    }
    let text = text.trim_ascii();
    let line = joined_lines(text).unwrap_or_else(|| text.to_owned());
    RawValue::from_string(line).map_err(|e| e.to_string())
}

/// Lays `patch` over `fields`: a name that is there gets the new value in its place, a new one comes at the end.
pub(crate) fn overlay(fields: &mut Fields, patch: &Fields) {
    for (place, (name, value)) in patch.iter().enumerate() {
        // Rows of one table mostly have their columns in one order.
        let found = match fields.get(place) {
            Some((candidate, _)) if candidate == name => Some(place),
            _ => fields.iter().position(|(candidate, _)| candidate == name),
        };
        match found.and_then(|at| fields.get_mut(at)) {
            Some(field) => field.1.clone_from(value),
            None => fields.push((name.clone(), value.clone())),
        }
    }
}

/// The object's text, without white space between its members.
pub(crate) fn write_object(fields: &Fields) -> String {
    let size = fields.iter().map(|(name, value)| name.len() + value.get().len() + 4).sum::<usize>();
    let mut text = String::with_capacity(size + 2);
    text.push('{');
    for (place, (name, value)) in fields.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        write_quoted(&mut text, name);
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    text
}

/// What a merge makes of a stored object: every store, and the folding of a batch, use this one function.
///
/// # Errors
/// When `stored` is not a JSON object with unique names; a merge into it is a bad write.
pub(crate) fn merge_into(stored: &[u8], patch: &Fields) -> Result<String, String> {
    let text = std::str::from_utf8(stored).map_err(|_| "not a JSON object: it is not UTF-8".to_owned())?;
    let mut fields = parse_fields(text)?;
    overlay(&mut fields, patch);
    if fields.len() > MEMBERS.most {
        return Err(format!("it would have {} members, and {} are allowed", fields.len(), MEMBERS.most));
    }
    Ok(write_object(&fields))
}

/// Writes a text as a JSON string. Names of fields hardly ever need an escape.
pub(crate) fn write_quoted(out: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&quoted(text));
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

/// The text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text of valid JSON without white space between its tokens, if that holds a line break; else none. A line break
/// in valid JSON is always between tokens.
pub(super) fn joined_lines(json: &str) -> Option<String> {
    memchr::memchr2(b'\n', b'\r', json.as_bytes())?;
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        text.push(c);
    }
    Some(text)
}

/// Whether valid JSON text escapes half of a surrogate pair: it is grammatical, and no store can keep it as text.
fn has_lone_surrogate(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    let mut high = false;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        if high && found > 0 {
            return true;
        }
        at += found;
        let unit = match bytes.get(at + 1) {
            Some(b'u') => json.get(at + 2..at + 6).and_then(|digits| u16::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        at += if unit.is_some() { 6 } else { 2 };
        match unit {
            Some(0xDC00..=0xDFFF) if high => high = false,
            Some(0xDC00..=0xDFFF) => return true,
            _ if high => return true,
            Some(0xD800..=0xDBFF) => high = true,
            _ => {}
        }
    }
    high
}

fn repeated_name(fields: &Fields) -> Option<String> {
    repeated(fields.iter().map(|(name, _)| name.as_str())).map(str::to_owned)
}

fn repeated<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    // Up to some twenty names, comparing each with each is quicker than hashing.
    if names.size_hint().0 <= 20 {
        while let Some(name) = names.next() {
            if names.clone().any(|other| other == name) {
                return Some(name);
            }
        }
        return None;
    }
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}

/// The next item of a list, if there is room for it.
fn room<T, I, E: serde::de::Error>(list: &[T], item: I) -> Result<I, E> {
    if list.len() < MEMBERS.most { Ok(item) } else { Err(E::custom(format!("more than {} members", MEMBERS.most))) }
}

struct Members(Fields);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut fields = Fields::new();
                while let Some(member) = map.next_entry()? {
                    fields.push(room(&fields, member)?);
                }
                Ok(Members(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<_, &'de RawValue>()? {
                    names.push(room(&names, name)?);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn merged(stored: &str, patch: &str) -> Result<String, String> {
        merge_into(stored.as_bytes(), &parse_fields(patch).unwrap())
    }

    #[test]
    fn digits_and_nested_text_survive_a_merge_as_they_are() {
        assert_eq!(
            merged(r#"{"a":9.50,"big":9007199254740993,"n":{"x": 1}}"#, r#"{"a":1e400,"b":null}"#).unwrap(),
            r#"{"a":1e400,"big":9007199254740993,"n":{"x": 1},"b":null}"#
        );
    }

    #[test]
    fn only_an_object_with_unique_names_can_be_merged_into() {
        for stored in ["", "7", "[]", "null", "{", r#"{"a":1,"a":2}"#, r#"{"a":1} x"#] {
            assert!(merged(stored, r#"{"b":1}"#).is_err(), "{stored}");
        }
        assert!(merge_into(b"{\"a\":\"\xff\"}", &Fields::new()).is_err());
    }

    #[test]
    fn names_are_compared_as_what_they_mean() {
        assert!(parse_fields(r#"{"a":1,"\u0061":2}"#).unwrap_err().contains("twice"));
        let many: Vec<_> = (0..40).map(|i| format!("\"c{i}\":{i}")).collect();
        assert_eq!(parse_fields(&format!("{{{}}}", many.join(","))).unwrap().len(), 40);
        assert!(parse_object(&format!("{{{},\"c7\":0}}", many.join(","))).unwrap_err().contains("\"c7\""));
    }

    #[test]
    fn members_have_a_bound_in_what_is_given_and_in_what_a_merge_makes() {
        let object = |beginning: &str, count: usize| {
            format!("{{{}}}", (0..count).map(|i| format!("\"{beginning}{i}\":1")).collect::<Vec<_>>().join(","))
        };
        let most = MEMBERS.most;
        assert!(parse_fields(&object("a", most)).is_ok() && parse_object(&object("a", most)).is_ok());
        for told in [
            parse_fields(&object("a", most + 1)).unwrap_err(),
            parse_object(&object("a", most + 1)).unwrap_err(),
            merged(&object("a", most), r#"{"b":1}"#).unwrap_err(),
            merged(&object("a", most + 1), r#"{"a0":1}"#).unwrap_err(),
        ] {
            assert!(told.contains(&format!("{most}")), "{told}");
        }
        assert!(merged(&object("a", most), r#"{"a0":2}"#).is_ok());
    }

    #[test]
    fn what_is_kept_has_no_line_break() {
        let text = "\r\n{\"a\" : [1,\n 2], \"s\":\"x \\\" \\\\ y\"}\n";
        assert_eq!(parse_object(text).unwrap().get(), r#"{"a":[1,2],"s":"x \" \\ y"}"#);
        let fields = parse_fields(text).unwrap();
        assert_eq!(write_object(&fields), r#"{"a":[1,2],"s":"x \" \\ y"}"#);
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_and_a_whole_one_is_not() {
        for bad in
            [r"\ud83d", r"\ud83d x", r"\ud83dx\ude9a", r"\ude9a", r"\ud83d\n", r"\ud83d\ud83d\ude9a", r"\ud83d\u0041"]
        {
            assert!(parse_object(&format!("{{\"a\":\"{bad}\"}}")).is_err(), "{bad}");
        }
        for good in [r"\ud83d\ude9a", r"\\ud83d", r"\u0041\n\u0000", "🚚"] {
            assert!(parse_fields(&format!("{{\"a\":\"{good}\"}}")).is_ok(), "{good}");
        }
    }
}
