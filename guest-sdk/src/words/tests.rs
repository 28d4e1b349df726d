//! Words of eight bytes against what serde_json does byte by byte.
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

#[test]
fn the_first_quote_or_backslash_is_found_at_every_place() {
    for length in 0..20 {
        for end in [b'"', b'\\'] {
            let mut text = vec![b'x'; length];
            assert_eq!(end_of_plain(&text, 0), None);
            text.extend([end, 0x80, b'"']);
            for at in 0..=length {
                assert_eq!(end_of_plain(&text, at), Some(length), "{text:?} from {at}");
            }
        }
    }
}

#[test]
fn text_of_every_length_survives_between_escapes() {
    for length in 0..20 {
        let run = "é".repeat(length);
        assert_eq!(unescaped(&format!("{run}\\\"{run}\\n\\u00e9")).unwrap(), format!("{run}\"{run}\né"));
    }
    for rare in ["\\ud83d\\ude9a", "\\ud83d", "\\x", "\\u12", "\\"] {
        assert_eq!(unescaped(rare), None, "{rare}");
    }
}

#[test]
fn what_is_no_json_is_left_alone() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[}",
        "{]",
        "1 2",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "nul",
        "nulll",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "[1]]",
        ",",
    ] {
        assert_eq!(compact(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn compact_takes_what_serde_json_takes_and_no_more(text in "[-{}\\[\\]:,\"\\\\ \n019.eEu+truefalsnull]{0,12}") {
        prop_assert_eq!(compact(&text).is_some(), serde_json::from_str::<&RawValue>(&text).is_ok());
    }

    #[test]
    fn any_string_is_unescaped_as_serde_json_does(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        if let Some(unescaped) = unescaped(&json[1..json.len() - 1]) {
            prop_assert_eq!(unescaped, text);
        }
    }

    #[test]
    fn a_document_means_the_same_without_its_spaces(strings in prop::collection::vec(any::<String>(), 0..4)) {
        let document = serde_json::json!({"a": [1.5, null, {"b": strings, "c": {}, "d": []}], "e": true});
        let compacted = compact(&serde_json::to_string_pretty(&document).unwrap()).unwrap();
        prop_assert_eq!(compacted, document.to_string());
    }
}
