//! Fuzzing of records: whatever is in them, it is understood as `serde_json` reads it, or refused with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::tests::{Members, corpus, recorded};
use super::{Change, Decoder, Event, Format, Options, Projected, Projection};
use crate::contract::{Column, Fault, Inputs, Operation, Reads, Rejection};
use crate::fuzz::Target;
use crate::source::{Claim, Header, Record, TopicPartition};

/// The parts of an input stand between lines of `%%`: value, key, the other key, topic. `-` is null, and what is missing
/// too.
pub(crate) const EVENTS: Target = Target {
    name: "events",
    run,
    seeds,
    words: &[
        "{\"schema\":null,\"payload\":",
        "{\"schema\":{\"type\":\"struct\"},\"payload\":",
        "\"before\":",
        "\"after\":",
        "\"source\":{\"table\":\"t\"}",
        "\"op\":\"c\"",
        "\"op\":\"d\"",
        "\"op\":\"t\"",
        "\"__deleted\":\"true\"",
        "\"__op\":\"d\"",
        "\"__table\":\"t\"",
        "\"__debezium_unavailable_value\"",
        "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"",
        "{\"a\":",
        "[",
        "]",
        "}",
        "{",
        ",",
        ":",
        "null",
        "true",
        "1e400",
        "-0.0",
        "9223372036854775808",
        "\\u0000",
        "\\ud83d",
        "\\u0061",
        "\u{2028}",
        "\n%%\n",
        "\"",
        "\\",
    ],
    most_bytes: 1 << 16,
    runs: 2000,
};

fn seeds() -> Vec<Vec<u8>> {
    let files = corpus();
    let records = files.iter().flat_map(|(path, _)| recorded(path).into_iter().step_by(41));
    let part = |bytes: Option<Vec<u8>>| bytes.unwrap_or_else(|| b"-".to_vec());
    let seed = |record: Record| {
        let moved = record.headers.into_iter().find(|header| header.name.starts_with("__debezium."));
        let parts = [part(record.value), part(record.key), part(moved.and_then(|moved| moved.value))];
        let topic = record.partition.topic.as_bytes().to_vec();
        parts.into_iter().chain([topic]).collect::<Vec<_>>().join(SEPARATOR)
    };
    records.map(seed).filter(|seed| seed.len() < 12_000).collect()
}

const SEPARATOR: &[u8] = b"\n%%\n";

fn record(input: &[u8]) -> Record {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = memchr::memmem::find(rest, SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    let part = |index: usize| parts.get(index).filter(|part| ***part != *b"-").map(|part| part.to_vec());
    let header = |name: &str| Header { name: name.to_owned(), value: part(2) };
    let topic = part(3).map_or_else(|| "s.public.t".into(), |topic| String::from_utf8_lossy(&topic).into_owned());
    Record {
        partition: TopicPartition { topic: topic.into(), partition: 0 },
        offset: 1,
        timestamp: None,
        headers: if part(2).is_some() {
            vec![header("__debezium.newkey"), header("__debezium.oldkey")]
        } else {
            Vec::new()
        },
        key: part(1),
        value: part(0),
        claim: Claim(0),
    }
}

const FORMATS: [Format; 3] = [Format::Envelope, Format::Flattened, Format::Auto];

thread_local! {
    /// Decoders that have seen all inputs before.
    static USED: RefCell<[(Decoder, Projection); 3]> = RefCell::new(FORMATS.map(fresh));
}

fn fresh(format: Format) -> (Decoder, Projection) {
    (Decoder::new(Options { format, ..Options::default() }), projection(Vec::new()))
}

fn projection(reads: Vec<Reads>) -> Projection {
    Projection::new(&Inputs { before: true, source: true, headers: true, reads })
}

/// What a record came to.
type Seen<'r> = Result<Option<(Operation, String, Option<Arc<Vec<Column>>>, Projected<'r>)>, Rejection>;

fn seen<'r>((decoder, projection): &mut (Decoder, Projection), record: &'r Record) -> Seen<'r> {
    Ok(match decoder.decode(record)? {
        Event::Change(change) => {
            narrowed(&change);
            let projected = change.project(projection);
            Some((change.operation, change.table.into_owned(), change.columns, projected))
        }
        Event::Truncate | Event::Control(_) => None,
    })
}

fn run(input: &[u8]) {
    let record = record(input);
    let seen: Vec<_> = FORMATS.iter().map(|format| seen(&mut fresh(*format), &record)).collect();
    USED.with_borrow_mut(|used| {
        for (used, fresh) in used.iter_mut().zip(&seen) {
            assert_eq!(&self::seen(used, &record), fresh, "what a record means depends on those before");
        }
    });
    for (format, seen) in FORMATS.iter().zip(&seen) {
        match seen {
            Ok(Some((operation, _, _, projected))) => holds(&record, *format, *operation, projected),
            Ok(None) => {}
            Err(rejection) => refused(&record, rejection),
        }
    }
    if let Ok(Some(guessed)) = &seen[2] {
        let named = [&seen[0], &seen[1]].into_iter().flatten().flatten();
        assert!(named.into_iter().any(|named| named == guessed), "a guess that neither layout comes to: {guessed:?}");
    }
}

fn json(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

fn refused(record: &Record, rejection: &Rejection) {
    let reason = &rejection.reason;
    assert!(!reason.is_empty() && reason.len() < 2000, "{reason}");
    if rejection.fault == Fault::NoKey {
        return;
    }
    let part = match () {
        () if reason.starts_with("the value") => record.value.as_deref(),
        () if reason.starts_with("the key") => record.key.as_deref(),
        () if reason.starts_with("the header __debezium.") => record.headers[0].value.as_deref(),
        () => panic!("it does not say in which part: {reason}"),
    };
    let is_deep = reason.contains("levels deep");
    if reason.contains("no valid JSON") && !is_deep {
        assert!(json(part.unwrap()).is_none(), "serde_json reads what is refused: {reason}");
    }
}

/// What is kept of a change is what `serde_json` reads there.
fn holds(record: &Record, format: Format, operation: Operation, projected: &Projected<'_>) {
    let unwrapped = |bytes: &Option<Vec<u8>>| bytes.as_ref().and_then(|bytes| payload(bytes));
    assert_eq!(projected.key.as_deref(), unwrapped(&record.key).as_deref());
    let moved = record.headers.first().and_then(|header| unwrapped(&header.value));
    assert_eq!(projected.moved.as_deref(), moved.as_deref());
    assert_eq!(projected.after.is_none(), operation == Operation::Delete);
    for text in [&projected.before, &projected.after].into_iter().flatten() {
        assert!(serde_json::from_str::<Members>(text).is_ok() || has_lone_surrogate(text), "{text}");
    }
    let Some(value) = unwrapped(&record.value) else { return };
    let Ok(members) = serde_json::from_str::<Members>(&value) else { return };
    let row = match format {
        Format::Envelope => members.get("after").map(str::to_owned),
        Format::Flattened if operation != Operation::Delete => Some(value),
        Format::Flattened | Format::Auto => return,
    };
    let (Some(after), Some(row)) = (&projected.after, row) else { return };
    let (Ok(after), Ok(row)) = (serde_json::from_str::<Members>(after), serde_json::from_str::<Members>(&row)) else {
        return;
    };
    if is_repeated(&row) || (format == Format::Envelope && is_repeated(&members)) {
        return;
    }
    let added = |name: &str| format == Format::Flattened && name.starts_with("__");
    let unsent = |name: &str| projected.unsent.iter().any(|unsent| unsent == name);
    let sent = row.0.into_iter().filter(|(name, _)| !added(name) && !unsent(name));
    assert_eq!(after.0, sent.collect::<Vec<_>>());
}

/// A transform that reads every second column gets those of the whole row.
fn narrowed(change: &Change<'_>) {
    let mut whole = projection(Vec::new());
    let Some(after) = change.project(&mut whole).after else { return };
    let Ok(Members(all)) = serde_json::from_str::<Members>(&after) else { return };
    let wanted: Vec<String> = all.iter().step_by(2).map(|(name, _)| name.clone()).collect();
    let reads = Reads { table: change.table.to_string(), columns: Some(wanted.clone()) };
    let picked = change.project(&mut projection(vec![reads])).after.unwrap();
    let kept = all.into_iter().filter(|(name, _)| wanted.contains(name));
    assert_eq!(Members::of(&picked).0, kept.collect::<Vec<_>>());
}

/// The text behind Connect's wrapper, or the whole; none for null.
fn payload(bytes: &[u8]) -> Option<String> {
    let whole = json(bytes)?.get();
    let payload = wrapped(whole).unwrap_or_else(|| whole.to_owned());
    (payload != "null").then_some(payload)
}

fn wrapped(whole: &str) -> Option<String> {
    let Members(members) = serde_json::from_str(whole).ok()?;
    let of = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let (schema, payload) = (of("schema")?, of("payload")?);
    if members.len() != 2 || !(schema == "null" || is_schema(schema)) {
        return None;
    }
    Some(payload.clone())
}

fn is_schema(text: &str) -> bool {
    let Ok(Members(members)) = serde_json::from_str(text) else { return false };
    members.iter().find(|(name, _)| name == "type").is_some_and(|(_, value)| value.starts_with('"'))
}

fn is_repeated(Members(members): &Members) -> bool {
    members.iter().enumerate().any(|(at, (name, _))| members[..at].iter().any(|(before, _)| before == name))
}

/// A name that is grammatical, and that `serde_json` cannot give as text.
fn has_lone_surrogate(text: &str) -> bool {
    text.contains("\\u")
}
