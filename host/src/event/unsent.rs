//! Recognises the values that stand for a column that Debezium did not send, in each form they take on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::contract::Column;

/// What a column must be for a form to be a placeholder there, where the schema tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
    TextArray,
    BytesArray,
    IntegerArray,
    UuidArray,
    Map,
    MapText,
    Geometry,
}

/// The wire texts of a placeholder.
///
/// Not among them is `numeric[]`: it comes as null in every mode, and cannot be told from a real null.
#[derive(Debug, Clone)]
pub(super) struct Placeholder {
    forms: Vec<(Kind, Box<str>)>,
    /// Whether a form has this length.
    lengths: Vec<bool>,
}

impl Placeholder {
    /// The forms of a configured `unavailable.value.placeholder`.
    pub(super) fn new(placeholder: &str) -> Self {
        let bytes = STANDARD.encode(placeholder);
        let integers: Vec<String> = placeholder.bytes().map(|byte| i8::from_ne_bytes([byte]).to_string()).collect();
        let mut forms = vec![
            (Kind::Bytes, quoted(&bytes)),
            (Kind::BytesArray, format!("[{}]", quoted(&bytes))),
            (Kind::IntegerArray, format!("[{}]", integers.join(","))),
            (Kind::UuidArray, format!("[{}]", quoted(&name_uuid(placeholder)))),
        ];
        // PostGIS columns have values of their own, whatever placeholder is configured: a point far outside the world
        // for a geometry, one beside the pole for a geography.
        for wkb in ["AQEAACDmEAAAAAAA/IPXl8EAAAD8g9eXwQ==", "AQEAACDmEAAADCHn/f9/ZkAYQs77/39WQA=="] {
            forms.push((Kind::Geometry, format!(r#"{{"wkb":"{wkb}","srid":4326}}"#)));
        }
        let literal = quoted(placeholder);
        let map = format!("{{{literal}:{literal}}}");
        forms.push((Kind::TextArray, format!("[{literal}]")));
        forms.push((Kind::MapText, quoted(&map)));
        forms.push((Kind::Map, map));
        forms.push((Kind::Text, literal));
        let mut lengths = vec![false; forms.iter().map(|(_, form)| form.len() + 1).max().unwrap_or(0)];
        forms.iter().for_each(|(_, form)| lengths[form.len()] = true);
        Self { forms: forms.into_iter().map(|(kind, form)| (kind, form.into())).collect(), lengths }
    }

    /// Whether this value says that its column was not sent. `column` is asked for only when the text is one of the
    /// forms; without a schema any form counts.
    #[inline]
    pub(super) fn is<'c>(&self, value: &str, column: impl FnOnce() -> Option<&'c Column>) -> bool {
        if self.lengths.get(value.len()) != Some(&true) {
            return false;
        }
        match self.forms.iter().find(|(_, form)| **form == *value) {
            None => false,
            Some((kind, _)) => column().is_none_or(|column| fits(*kind, column)),
        }
    }
}

/// Whether a column of this type takes this form. In the textual modes of `binary.handling.mode` a bytea column is a
/// string, and its placeholder the literal.
fn fits(kind: Kind, column: &Column) -> bool {
    let element = column.element.as_ref();
    let element_is = |of: &[&str]| element.is_none_or(|element| of.contains(&element.connect_type.as_str()));
    match (kind, column.of.connect_type.as_str()) {
        (Kind::Text, "string") | (Kind::Bytes, "bytes") | (Kind::Map, "map") | (Kind::Geometry, "struct") => true,
        (Kind::MapText, "string") => column.of.logical_type.as_deref() == Some("io.debezium.data.Json"),
        (Kind::TextArray | Kind::UuidArray, "array") => element_is(&["string"]),
        (Kind::BytesArray, "array") => element_is(&["bytes"]),
        (Kind::IntegerArray, "array") => element_is(&["int8", "int16", "int32", "int64"]),
        _ => false,
    }
}

/// A JSON string as Connect's JsonConverter (Jackson) writes it: characters beyond the Basic Multilingual Plane as
/// escaped pairs of surrogates, in upper-case hexadecimal.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..'\u{20}' | '\u{10000}'.. => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    quoted.push_str(&format!("\\u{unit:04X}"));
                }
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// The name-based (version 3) UUID of Java's `UUID.nameUUIDFromBytes`.
fn name_uuid(name: &str) -> String {
    let mut bytes: [u8; 16] = Md5::digest(name).into();
    bytes[6] = bytes[6] & 0x0f | 0x30;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut uuid = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            uuid.push('-');
        }
        uuid.push_str(&format!("{byte:02x}"));
    }
    uuid
}
