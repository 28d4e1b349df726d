//! What cannot be understood is a rejection that names the place and what was found; nothing panics.

use proptest::prelude::*;

use super::*;
use crate::contract::Fault;

fn reason(format: Format, record: &Record) -> String {
    match decoder(format).decode(record) {
        Err(rejection) => {
            assert_eq!(rejection.fault, Fault::Undecodable);
            rejection.reason
        }
        Ok(event) => panic!("expected a rejection, found {event:?}"),
    }
}

fn envelope_reason(value: &str) -> String {
    reason(Format::Envelope, &record(value))
}

#[test]
fn a_cut_off_value_is_rejected_with_its_end() {
    assert_eq!(
        envelope_reason(r#"{"before":null,"after":{"id":1"#),
        "the value is no valid JSON at byte 30: expected `,` or `}` after a member, found the end of the text; the \
         connector must write whole records with JsonConverter"
    );
}

#[test]
fn an_empty_value_is_no_tombstone() {
    assert!(envelope_reason("").contains("at byte 0: expected a value, found the end of the text"));
}

#[test]
fn a_value_that_is_not_utf_8_is_rejected_with_the_byte() {
    let mut bad = record("");
    bad.value = Some(b"{\"op\":\"c\xff\"}".to_vec());
    assert_eq!(reason(Format::Envelope, &bad), "the value: at byte 8: expected UTF-8 text, found byte 0xff");
}

#[test]
fn a_value_of_avro_is_rejected_with_its_first_byte() {
    assert!(envelope_reason("\0\0\0\0\u{1}x").contains("at byte 0: expected a value, found byte 0x00"));
}

#[test]
fn a_value_that_is_no_object_is_rejected() {
    assert_eq!(envelope_reason("[1,2]"), "the value: at byte 0: expected an object or null, found `[1,2]`");
    assert_eq!(envelope_reason("\"text\""), "the value: at byte 0: expected an object or null, found `\"text\"`");
}

#[test]
fn an_unknown_operation_is_rejected() {
    assert_eq!(
        envelope_reason(r#"{"before":null,"after":{"id":1},"op":"x"}"#),
        "the value: expected one of c, r, u, d, t and m in `op`, found `\"x\"`"
    );
    assert_eq!(
        envelope_reason(r#"{"before":null,"after":{"id":1},"op":7}"#),
        "the value: expected one of c, r, u, d, t and m in `op`, found `7`"
    );
    assert_eq!(
        reason(Format::Flattened, &record(r#"{"id":1,"__op":"x"}"#)),
        "the value: expected one of c, r, u, d, t and m in `__op`, found `x`"
    );
}

#[test]
fn members_of_a_wrong_type_are_rejected_by_name() {
    let reason = envelope_reason(r#"{"before":null,"after":[1],"op":"c"}"#);
    assert_eq!(reason, "the value: expected an object or null in `after`, found `[1]`");
    let reason = envelope_reason(r#"{"before":7,"after":{"id":1},"op":"u"}"#);
    assert_eq!(reason, "the value: expected an object or null in `before`, found `7`");
    let reason = envelope_reason(r#"{"before":null,"after":{"id":1},"source":"x","op":"u"}"#);
    assert_eq!(reason, "the value: expected an object in `source`, found `\"x\"`");
}

#[test]
fn a_row_as_a_string_names_mongodb() {
    let reason = envelope_reason(r#"{"before":null,"after":"{\"_id\":1}","op":"c"}"#);
    assert!(reason.contains("`after`") && reason.contains("MongoDB"), "{reason}");
}

#[test]
fn an_update_without_a_row_after_is_rejected() {
    let reason = envelope_reason(r#"{"before":{"id":1},"after":null,"op":"u"}"#);
    assert!(reason.starts_with("the value: expected an object in `after` of an event with op \"u\""), "{reason}");
}

#[test]
fn a_record_of_the_other_format_names_the_setting() {
    let found = envelope_reason(r#"{"id":1,"__op":"c","__deleted":"false"}"#);
    assert!(found.contains(r#"set format = "debezium-flattened""#), "{found}");
    let envelope = &recorded("torture/misc.public.truncated.jsonl")[0];
    let found = reason(Format::Flattened, envelope);
    assert!(found.contains(r#"set format = "debezium-envelope""#), "{found}");
}

#[test]
fn a_key_that_is_no_json_is_rejected() {
    let mut bad = record(r#"{"id":1}"#);
    bad.key = Some(b"K-1".to_vec());
    assert!(
        reason(Format::Flattened, &bad).starts_with("the key is no valid JSON at byte 0: expected a value, found `K`")
    );
}

#[test]
fn a_moved_key_that_is_no_json_is_rejected_with_its_header() {
    let mut bad = record(r#"{"id":1,"__op":"c"}"#);
    bad.headers = vec![Header { name: "__debezium.oldkey".into(), value: Some(b"{".to_vec()) }];
    assert!(reason(Format::Flattened, &bad).starts_with("the header __debezium.oldkey is no valid JSON at byte 1"));
}

#[test]
fn a_delete_that_names_no_row_has_no_key() {
    let mut bad = record(r#"{"before":null,"after":null,"op":"d"}"#);
    bad.key = None;
    let rejection = decoder(Format::Envelope).decode(&bad).unwrap_err();
    assert_eq!(rejection.fault, Fault::NoKey);
    assert!(rejection.reason.contains("REPLICA IDENTITY FULL"));
}

#[test]
fn a_wrapper_with_a_third_member_is_rejected() {
    let reason = envelope_reason(r#"{"schema":{"type":"struct"},"payload":{"op":"c","after":{"id":1}},"more":1}"#);
    assert!(reason.contains("expected `}` after `schema` and `payload`, found a member"), "{reason}");
}

#[test]
fn a_deep_nest_is_rejected_with_its_depth() {
    let reason = envelope_reason(&format!(r#"{{"op":"c","after":{{"a":{}"#, "[".repeat(20_000_000)));
    assert!(reason.contains("at byte 149: nested more than 128 levels deep"), "{reason}");
}

#[test]
fn a_record_of_20_megabytes_is_decoded() {
    let long = "x\\n".repeat(7_000_000);
    let big = record(&format!(r#"{{"before":null,"after":{{"id":1,"text":"{long}"}},"op":"c"}}"#));
    let mut decoder = decoder(Format::Envelope);
    let change = change(&mut decoder, &big);
    let projected = change.project(&mut Projection::new(&everything()));
    assert!(projected.after.unwrap().len() > 20_000_000);
}

#[test]
fn the_records_around_a_bad_one_are_unharmed() {
    let mut decoder = decoder(Format::Envelope);
    let good = &recorded("cdc-cascade/cdc-cascade-postgres.public.sinners.jsonl")[0];
    let columns = change(&mut decoder, good).columns.unwrap();
    let mut bad = good.clone();
    bad.value.as_mut().unwrap().truncate(2000);
    decoder.decode(&bad).unwrap_err();
    assert!(Arc::ptr_eq(&columns, &change(&mut decoder, good).columns.unwrap()));
}

#[test]
fn a_record_cut_off_anywhere_is_rejected() {
    for (path, format) in corpus() {
        let mut decoder = decoder(format);
        for record in recorded(&path).into_iter().step_by(11) {
            let Some(value) = record.value.clone().filter(|_| !path.contains("heartbeat")) else { continue };
            let step = 1.max(value.len() / 150);
            for length in (0..value.len()).step_by(step) {
                let cut = Record { value: Some(value[..length].to_vec()), ..record.clone() };
                decoder.decode(&cut).expect_err("a record that was cut off");
            }
        }
    }
}

#[test]
fn altered_records_are_rejected_or_projected_but_never_panic() {
    let mut records: Vec<(Record, Format)> = Vec::new();
    for (path, format) in corpus() {
        records.extend(recorded(&path).into_iter().step_by(9).map(|record| (record, format)));
    }
    records.retain(|(record, _)| record.value.as_ref().is_some_and(|value| value.len() < 20_000));
    let mut decoders = [Format::Envelope, Format::Flattened, Format::Auto].map(decoder);
    let mut projection = Projection::new(&everything());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let alteration = (
        prop::sample::select(records),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_usize..3), 1..4),
    );
    for _ in 0..8 {
        let decoders = std::cell::RefCell::new((&mut decoders, &mut projection));
        let outcome = runner.run(&alteration, |((mut record, _), edits)| {
            for (at, byte, cut) in edits {
                let value = record.value.as_mut().unwrap();
                let at = at.index(value.len());
                let end = (at + cut).min(value.len());
                value.splice(at..end, [byte]);
            }
            let (decoders, projection) = &mut *decoders.borrow_mut();
            for decoder in decoders.iter_mut() {
                if let Ok(Event::Change(change)) = decoder.decode(&record) {
                    let projected = change.project(projection);
                    for row in [&projected.before, &projected.after].into_iter().flatten() {
                        serde_json::from_str::<&RawValue>(row).expect("a projection is JSON");
                    }
                }
            }
            Ok(())
        });
        outcome.unwrap();
    }
}
