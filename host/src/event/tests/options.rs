//! What the options change: the placeholder in all its forms, the prefix, the null value of a flattened topic.

use super::*;
use crate::contract::Operation;

fn with(options: Options, record: &Record) -> (Operation, Option<String>, Vec<String>) {
    let mut decoder = Decoder::new(options);
    let projected = change(&mut decoder, record).project(&mut Projection::new(&everything()));
    let unsent = projected.unsent.iter().map(|name| name.to_string()).collect();
    (projected.operation, projected.after.map(Cow::into_owned), unsent)
}

fn flattened() -> Options {
    Options { format: Format::Flattened, ..Options::default() }
}

#[test]
fn another_placeholder_is_known_in_all_its_forms() {
    // `echo -n 'n/a' | base64`, and Java's UUID.nameUUIDFromBytes: MD5 with the version and variant bits set.
    let row = r#"{"id":1,"t":"n/a","b":"bi9h","ta":["n/a"],"ba":["bi9h"],"ia":[110,47,97],
        "ua":["274b6819-2b05-3e26-8f12-8ff63bfcd4a4"],"h":{"n/a":"n/a"},"hs":"{\"n/a\":\"n/a\"}","d":"__debezium_unavailable_value"}"#;
    let options = Options { unavailable_placeholder: "n/a".into(), ..flattened() };
    let (_, after, unsent) = with(options, &record(row));
    assert_eq!(unsent, ["t", "b", "ta", "ba", "ia", "ua", "h", "hs"]);
    assert!(after.unwrap().contains(r#""d":"__debezium_unavailable_value""#));
}

#[test]
fn a_placeholder_that_needs_escapes_is_known_as_jackson_writes_it() {
    let options = Options { unavailable_placeholder: "\"é\\\u{1f69a}\u{1}".into(), ..flattened() };
    let (_, _, unsent) = with(options, &record(r#"{"id":1,"t":"\"é\\\uD83D\uDE9A\u0001"}"#));
    assert_eq!(unsent, ["t"]);
}

#[test]
fn the_schema_tells_base64_of_the_placeholder_in_a_text_column_from_bytes() {
    let field = |of: &str, name: &str| format!(r#"{{"type":"{of}","optional":true,"field":"{name}"}}"#);
    let fields = [field("string", "text"), field("bytes", "bytes")].join(",");
    let base64 = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
    let row = format!(r#"{{"text":"{base64}","bytes":"{base64}"}}"#);
    let wrapped = record(&format!(r#"{{"schema":{{"type":"struct","fields":[{fields}]}},"payload":{row}}}"#));
    let (_, after, unsent) = with(flattened(), &wrapped);
    assert_eq!((after, unsent), (Some(format!(r#"{{"text":"{base64}"}}"#)), vec!["bytes".to_owned()]));
    let (_, after, unsent) = with(flattened(), &record(&row));
    assert_eq!((after, unsent), (Some("{}".to_owned()), vec!["text".to_owned(), "bytes".to_owned()]));
}

#[test]
fn a_text_that_holds_the_placeholder_among_others_is_data() {
    let row = r#"{"a":"x __debezium_unavailable_value","b":["__debezium_unavailable_value","x"],"c":{}}"#;
    assert_eq!(with(flattened(), &record(row)), (Operation::Read, Some(row.to_owned()), Vec::new()));
}

#[test]
fn any_prefix_names_the_added_fields_and_headers() {
    let options = || Options { flattened_prefix: "cdc.".into(), ..flattened() };
    let row = r#"{"id":1,"__x":2,"cdc.op":"u","cdc.source_table":"t","v":"w","__deleted":"false"}"#;
    let expected = Some(r#"{"id":1,"__x":2,"v":"w"}"#.to_owned());
    assert_eq!(with(options(), &record(row)), (Operation::Update, expected, Vec::new()));
    let mut by_header = record(r#"{"id":1}"#);
    by_header.headers = vec![Header { name: "cdc.op".into(), value: Some(b"c".to_vec()) }];
    assert_eq!(with(options(), &by_header).0, Operation::Create);
}

#[test]
fn under_an_empty_prefix_op_and_deleted_are_added_where_their_values_are_such() {
    let options = || Options { flattened_prefix: String::new(), ..flattened() };
    let row = r#"{"id":1,"deleted":"false","op":"u","source_lsn":7}"#;
    let expected = Some(r#"{"id":1,"source_lsn":7}"#.to_owned());
    assert_eq!(with(options(), &record(row)), (Operation::Update, expected, Vec::new()));
    let row = r#"{"id":1,"deleted":true,"op":"sell"}"#;
    assert_eq!(with(options(), &record(row)), (Operation::Read, Some(row.to_owned()), Vec::new()));
}

#[test]
fn a_null_value_of_a_flattened_topic_is_a_delete_unless_the_option_says_otherwise() {
    let mut null = record("null");
    null.headers = vec![Header { name: "__debezium.newkey".into(), value: Some(br#"{"id":2}"#.to_vec()) }];
    for value in [None, Some(b"null".to_vec()), Some(br#"{"schema":null,"payload":null}"#.to_vec())] {
        null.value = value;
        let mut decoder = Decoder::new(flattened());
        let change = change(&mut decoder, &null);
        assert_eq!(
            (change.operation, change.key, change.moved),
            (Operation::Delete, Some(r#"{"id":1}"#), Some(r#"{"id":2}"#))
        );
        assert!(change.before.is_none() && change.after.is_none());
        let options = Options { flattened_tombstone_is_delete: false, ..flattened() };
        let event =
            Decoder::new(options).decode(&null).map(|event| matches!(event, Event::Control(Control::Tombstone)));
        assert_eq!(event, Ok(true));
    }
}
