//! The scanner accepts what `serde_json` accepts as raw text, and finds the same parts.

use proptest::prelude::*;

use super::super::json::{MAX_DEPTH, Scanner};
use super::*;

/// The members that the scanner finds, or why the text is no object.
fn scanned(text: &str) -> Result<Members, String> {
    let mut scanner = Scanner::new(text);
    let mut members = Vec::new();
    let mut scan = || {
        let mut object = scanner.enter()?;
        while let Some(name) = scanner.member(&mut object)? {
            let value = scanner.value()?;
            members.push((name.of(text).into_owned(), value.to_owned()));
        }
        scanner.end()
    };
    scan().map_err(|malformed| malformed.to_string())?;
    Ok(Members(members))
}

fn accepts(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.skip_value().and_then(|()| scanner.end()).is_ok()
}

/// Holds the scanner against `serde_json`, which takes nesting of any depth as raw text.
fn agrees(text: &str) -> Result<(), TestCaseError> {
    let brackets = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if brackets > MAX_DEPTH as usize {
        return Ok(());
    }
    let raw: Result<&RawValue, _> = serde_json::from_str(text);
    prop_assert_eq!(accepts(text), raw.is_ok(), "{}", text);
    if text.trim_start().starts_with('{') {
        // Names with lone surrogates are text that serde_json cannot give as a String.
        if let Ok(members) = serde_json::from_str::<Members>(text) {
            prop_assert_eq!(scanned(text), Ok(members));
        } else {
            prop_assert!(scanned(text).is_err() || raw.is_ok(), "{}", text);
        }
    }
    Ok(())
}

/// JSON with odd spaces, escapes and numbers.
fn json() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        "\"([ -!#-\\[\\]-~]|[à-ÿ]|[\u{1f600}-\u{1f64f}]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,20}\"",
        Just("\"\\ud83d\\ude9a\"".to_owned()),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
        string.clone(),
    ];
    let space = "[ \n\r\t]{0,2}";
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let element = (space, inner, space).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (space, string.clone(), space, element.clone())
            .prop_map(|(a, name, b, value)| format!("{a}{name}{b}:{value}"));
        prop_oneof![
            (space, prop::collection::vec(element, 0..6))
                .prop_map(|(a, elements)| format!("[{a}{}]", elements.join(","))),
            (space, prop::collection::vec(member, 0..6))
                .prop_map(|(a, members)| format!("{{{a}{}}}", members.join(","))),
        ]
    })
}

fn real_values() -> Vec<String> {
    let files = corpus().into_iter().flat_map(|(path, _)| recorded(&path).into_iter().step_by(7));
    files.filter_map(|record| String::from_utf8(record.value?).ok()).filter(|value| value.len() < 4000).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_accepts_what_serde_json_accepts_of_json(text in json()) {
        prop_assert!(accepts(&text));
        agrees(&text)?;
    }

    #[test]
    fn it_accepts_what_serde_json_accepts_of_broken_json(
        text in json(),
        at in any::<prop::sample::Index>(),
        with in "[\"\\\\{}\\[\\],:0-9eE+.tfnu \u{0}\u{1f}é-]{0,2}",
        cut in 0_usize..3,
    ) {
        let mut characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len() + 1);
        let end = (at + cut).min(characters.len());
        characters.splice(at..end, with.chars());
        agrees(&characters.into_iter().collect::<String>())?;
    }

    #[test]
    fn it_accepts_what_serde_json_accepts_of_random_text(text in "[\"\\\\{}\\[\\],:0-9eE+.a-z \n\u{1f}é-]{0,40}") {
        agrees(&text)?;
    }
}

#[test]
fn it_accepts_what_serde_json_accepts_of_altered_records() {
    let values = real_values();
    assert!(values.len() > 100);
    for value in &values {
        agrees(value).unwrap();
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let alteration = (prop::sample::select(values), any::<prop::sample::Index>(), "[ -~]{0,3}", 0_usize..4);
    let outcome = runner.run(&alteration, |(value, at, with, cut)| {
        let mut characters: Vec<char> = value.chars().collect();
        let at = at.index(characters.len());
        let end = (at + cut).min(characters.len());
        characters.splice(at..end, with.chars());
        agrees(&characters.into_iter().collect::<String>())
    });
    outcome.unwrap();
}

#[test]
fn nesting_is_accepted_up_to_the_bound_and_named_beyond() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bound = MAX_DEPTH as usize;
    assert!(accepts(&nested(bound)));
    assert!(!accepts(&nested(bound + 1)));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(bound), "}".repeat(bound));
    assert!(accepts(&objects));
    let error = scanned(&format!(r#"{{"a":{}}}"#, "[".repeat(1_000_000))).unwrap_err();
    assert_eq!(error, "at byte 132: nested more than 128 levels deep");
}

#[test]
fn an_error_names_position_expectation_and_finding() {
    for (text, error) in [
        ("", "at byte 0: expected an object, found the end of the text"),
        (r#"{"a":1"#, "at byte 6: expected `,` or `}` after a member, found the end of the text"),
        (r#"{"a":1,}"#, "at byte 7: expected a member's name in double quotes, found `}`"),
        (r#"{"a" 1}"#, "at byte 5: expected `:` after a member's name, found `1`"),
        (r#"{"a":[1 2]}"#, "at byte 8: expected `,` or `]` after an element, found `2`"),
        (r#"{"a":01}"#, "at byte 6: expected a number without leading zeros, found `1`"),
        (r#"{"a":-}"#, "at byte 6: expected a digit, found `}`"),
        (r#"{"a":nul}"#, "at byte 8: expected null, found `}`"),
        (r#"{"a":"\x"}"#, "at byte 7: expected one of \" \\ / b f n r t u after a backslash, found `x`"),
        (r#"{"a":"\u12g4"}"#, "at byte 10: expected four hexadecimal digits after \\u, found `g`"),
        ("{\"a\":\"b\nc\"}", "at byte 7: expected a string's closing quote, found byte 0x0a"),
        (r#"{"a":"b"#, "at byte 7: expected a string's closing quote, found the end of the text"),
        (r#"{"a":1} x"#, "at byte 8: expected the end of the text after the value, found `x`"),
    ] {
        assert_eq!(scanned(text), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn names_are_compared_without_their_escapes() {
    let members = scanned(r#"{"\u0061\"\n\\\/\ud83d\ude9a":1}"#).unwrap();
    assert_eq!(members.0[0].0, "a\"\n\\/\u{1f69a}");
}
