//! Bytes and JSON for whoever reads them in a terminal.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::IgnoredAny;

/// Text on one line, without what a terminal would act upon.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Bytes as they were on the wire: JSON over lines, other text as it is, and what is no text as base64.
pub(super) fn wire(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("(base64, {} bytes) {}", bytes.len(), BASE64_STANDARD.encode(bytes));
    };
    let text = if serde_json::from_str::<IgnoredAny>(text).is_ok() { indented(text) } else { text.to_owned() };
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { ' ' } else { letter }).collect()
}

/// JSON text with a line for each member; nothing but blanks differs.
fn indented(json: &str) -> String {
    let mut laid_out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let line = |laid_out: &mut String, depth: usize| {
        laid_out.push('\n');
        laid_out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_text {
            laid_out.push(letter);
            (in_text, escaped) = (escaped || letter != '"', letter == '\\' && !escaped);
            continue;
        }
        match letter {
            '{' | '[' => {
                laid_out.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    laid_out.push(end);
                } else {
                    depth += 1;
                    line(&mut laid_out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut laid_out, depth);
                laid_out.push(letter);
            }
            ',' => {
                laid_out.push(letter);
                line(&mut laid_out, depth);
            }
            ':' => laid_out.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => {
                in_text = letter == '"';
                laid_out.push(letter);
            }
        }
    }
    laid_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_its_digits_and_texts_stay() {
        let json = r#" {"a" :[1.10,{ }, [ ]],"b":"x\",: {","c":9007199254740993} "#;
        let laid_out = wire(Some(json.as_bytes()));
        assert_eq!(
            laid_out,
            "{\n  \"a\": [\n    1.10,\n    {},\n    []\n  ],\n  \"b\": \"x\\\",: {\",\n  \"c\": 9007199254740993\n}"
        );
    }

    #[test]
    fn what_a_terminal_would_act_upon_is_blank() {
        assert_eq!(wire(Some(b"{\"cut\x1b[2J\n")), "{\"cut [2J\n");
        assert_eq!(one_line("a\nb\u{9b}c"), "a b c");
        assert_eq!(wire(Some(&[0xff])), "(base64, 1 bytes) /w==");
        assert_eq!(wire(None), "null");
    }
}
