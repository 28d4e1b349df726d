//! What a module answers, through the checks up to what a store would be asked to do.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::super::bindings::exports::tidegate::transform::transformer as wit;
use super::super::convert::outcomes;
use super::super::describe::describe;
use crate::command::check::Checker;
use crate::command::collapse::Tagged;
use crate::command::grants::Grants;
use crate::command::json::write_object;
use crate::command::{Command, Fields, Row, meaning};
use crate::contract::{Description, Fault, Index, Inputs, RawCommand, Table};
use crate::engine::Outcome;
use crate::fuzz::Target;
use crate::sink::model::{Model, settle};

/// An input is lines, though they end with a record separator, and their words with a unit separator: what is declared,
/// the outcomes, and the commands.
pub(crate) const ANSWERS: Target = Target {
    name: "answers",
    run,
    seeds,
    words: &[
        "\x1eset\x1fk:1\x1f",
        "\x1emerge\x1fk:1\x1f{\"a\":1}",
        "\x1edelete\x1fk:1",
        "\x1eupsert\x1ft\x1f{\"id\":1,\"a\":1}",
        "\x1erow-merge\x1ft\x1f{\"id\":1,\"b\":2}",
        "\x1erow-delete\x1ft\x1f{\"id\":1}",
        "\x1edocument\x1fi\x1f1\x1f{\"a\":1}",
        "\x1edocument-merge\x1fi\x1f1\x1f{\"b\":1}",
        "\x1edocument-delete\x1fi\x1f1",
        "\x1epublish\x1fm\x1fkey\x1fvalue\x1fname\x1fvalue",
        "\x1eoutcome\x1f1",
        "\x1eoutcome\x1f0\x1f4\x1fno",
        "\x1ecache\x1fk:*",
        "\x1etable\x1ft\x1fid",
        "\x1eindex\x1fi\x1f{}",
        "\x1etopic\x1fm",
        "\x1ereads\x1ft\x1fid",
        "\x1f",
        "\x1e",
        "{\"id\":",
        "\"\\u0061\"",
        "\\ud83d",
        "\\u0000",
        "\u{2028}",
        "\r\n",
        "null",
        "1e999",
        "-0",
        "[[",
        "}",
        "\"",
        "*",
    ],
    most_bytes: 1 << 13,
    runs: 4000,
};

fn seeds() -> Vec<Vec<u8>> {
    let all = "cache\x1fk:*\x1etable\x1ft\x1fid\x1eindex\x1fi\x1f{}\x1etopic\x1fm\x1ereads\x1ft\x1fid\x1fa\x1e\
               outcome\x1f2\x1eoutcome\x1f0\x1f4\x1fno\x1eoutcome\x1f8\x1e\
               set\x1fk:1\x1f{\"a\":1}\x1f60\x1emerge\x1fk:1\x1f{\"a\": 2}\x1f\x1edelete\x1fk:2\x1e\
               upsert\x1ft\x1f{\"id\":1,\"a\":\"x\"}\x1erow-merge\x1ft\x1f{\"id\":1,\"b\":9.50}\x1erow-delete\x1ft\x1f{\"id\":2}\x1e\
               document\x1fi\x1f1\x1f{\"a\":[1,\n2]}\x1edocument-merge\x1fi\x1f1\x1f{\"b\":null}\x1edocument-delete\x1fi\x1f2\x1e\
               publish\x1fm\x1fkey\x1fvalue\x1fname\x1fvalue";
    vec![
        all.into(),
        all.split('\x1e').filter(|line| !line.starts_with("outcome")).collect::<Vec<_>>().join("\x1e").into(),
    ]
}

/// What an input says.
struct Said {
    declared: wit::Description,
    answer: wit::Outcomes,
}

fn read(input: &[u8]) -> Said {
    let inputs = wit::Inputs { before: false, source: false, headers: false, reads: Vec::new() };
    let (name, version) = ("t".to_owned(), "1".to_owned());
    let (cache_keys, tables, indexes, topics) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut declared = wit::Description { name, version, inputs, cache_keys, tables, indexes, topics };
    let mut answer = wit::Outcomes { commands: Vec::new(), outcomes: Vec::new() };
    for line in input.split(|byte| *byte == 0x1e) {
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0x1f).collect();
        let bytes = |at: usize| words.get(at).map(|word| word.to_vec());
        let text = |at: usize| bytes(at).map_or_else(String::new, |word| String::from_utf8_lossy(&word).into_owned());
        let texts = |from: usize| (from..words.len()).map(text).collect::<Vec<_>>();
        let ttl_seconds = |at: usize| text(at).parse().ok();
        let row = || wit::Row { table: text(1), values: text(2) };
        let document = || wit::Document { index: text(1), id: text(2), body: text(3) };
        let command = match words[0] {
            b"cache" => {
                declared.cache_keys.push(text(1));
                continue;
            }
            b"table" => {
                declared.tables.push(wit::Table { name: text(1), key: texts(2) });
                continue;
            }
            b"index" => {
                declared.indexes.push(wit::Index { name: text(1), definition: text(2) });
                continue;
            }
            b"topic" => {
                declared.topics.push(text(1));
                continue;
            }
            b"reads" => {
                let columns = (words.len() > 2).then(|| texts(2));
                declared.inputs.reads.push(wit::Reads { table: text(1), columns });
                continue;
            }
            b"outcome" => {
                let commands = text(1).parse().unwrap_or(0);
                let rejection =
                    (words.len() > 2).then(|| wit::Rejection { fault: wit::Fault::Refused, reason: text(3) });
                answer.outcomes.push(wit::Outcome { commands, rejection });
                continue;
            }
            b"set" => wit::Command::CacheSet(wit::CacheEntry {
                key: text(1),
                value: bytes(2).unwrap_or_default(),
                ttl_seconds: ttl_seconds(3),
            }),
            b"merge" => {
                wit::Command::CacheMerge(wit::CachePatch { key: text(1), fields: text(2), ttl_seconds: ttl_seconds(3) })
            }
            b"delete" => wit::Command::CacheDelete(text(1)),
            b"upsert" => wit::Command::RowUpsert(row()),
            b"row-merge" => wit::Command::RowMerge(row()),
            b"row-delete" => wit::Command::RowDelete(row()),
            b"document" => wit::Command::DocumentIndex(document()),
            b"document-merge" => wit::Command::DocumentMerge(document()),
            b"document-delete" => wit::Command::DocumentDelete(wit::DocumentId { index: text(1), id: text(2) }),
            b"publish" => wit::Command::Publish(wit::Message {
                topic: text(1),
                key: bytes(2),
                value: bytes(3),
                headers: bytes(5).map(|value| vec![wit::HeaderResult { name: text(4), value: Some(value) }]),
            }),
            _ => continue,
        };
        answer.commands.push(command);
    }
    // Without any outcome the commands are those of one change.
    if answer.outcomes.is_empty() {
        let commands = u32::try_from(answer.commands.len()).unwrap();
        answer.outcomes.push(wit::Outcome { commands, rejection: None });
    }
    Said { declared, answer }
}

/// How many commands a change may make.
const MOST: usize = 20;

fn run(input: &[u8]) {
    let Said { declared, answer } = read(input);
    let checker = checker_of(declared);
    let (changes, commands) = (answer.outcomes.len(), answer.commands.len());
    let sum: u64 = answer.outcomes.iter().map(|outcome| u64::from(outcome.commands)).sum();
    let mut answered: Vec<Outcome> = vec![Ok(Vec::new())];
    let taken = outcomes(answer, changes, MOST, &mut answered);
    assert_eq!(taken.is_ok(), sum == commands as u64, "{taken:?}");
    let Ok(()) = taken else {
        assert_eq!(answered.len(), 1, "something is left of an answer that was refused");
        return;
    };
    assert_eq!(answered.len(), 1 + changes);
    let mut events = Vec::new();
    for (offset, outcome) in (0..).zip(answered.iter().skip(1)) {
        one_line_of_json(&meaning::answer(outcome));
        let Ok(raw) = outcome else { continue };
        assert!(raw.len() <= MOST);
        if let Some(checker) = &checker {
            raw.iter().for_each(|raw| drop(checked(checker, raw)));
        }
        let commands: Option<Vec<Command>> = raw.iter().map(|raw| checked(&wide(), raw)).collect();
        let Some(commands) = commands.filter(|commands| commands.iter().all(is_of_the_model)) else { continue };
        let tag = |command| Tagged { offset, transform: 0, command };
        events.push(commands.into_iter().map(tag).collect::<Vec<_>>());
    }
    folding_changes_nothing(&events);
}

/// The checker of what was declared, under grants for everything; none where that cannot be.
fn checker_of(declared: wit::Description) -> Option<Checker> {
    let all = || vec!["*".to_owned()];
    let grants = Grants { cache: all(), tables: all(), documents: all(), messages: all(), ..Grants::default() };
    match describe(declared) {
        Ok(description) => match Checker::new(&description, &grants) {
            Ok(checker) => Some(checker),
            Err(problems) => {
                assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()));
                None
            }
        },
        Err(problem) => {
            assert!(!problem.is_empty());
            None
        }
    }
}

fn wide() -> Checker {
    let description = Description {
        name: "t".into(),
        version: "1".into(),
        inputs: Inputs::default(),
        cache_keys: vec!["k:*".into()],
        tables: vec![Table { name: "t".into(), key: vec!["id".into()] }],
        indexes: vec![Index { name: "i".into(), definition: "{}".into() }],
        topics: vec!["m".into()],
    };
    let one = |name: &str| vec![name.to_owned()];
    let grants =
        Grants { cache: one("k:*"), tables: one("t"), documents: one("i"), messages: one("m"), ..Grants::default() };
    Checker::new(&description, &grants).unwrap()
}

/// A command that a store may be asked to execute, if it is one.
fn checked(checker: &Checker, raw: &RawCommand) -> Option<Command> {
    one_line_of_json(&meaning::to_json(raw));
    match checker.check(raw.clone()) {
        Ok(command) => {
            well_formed(&command);
            Some(command)
        }
        Err(rejection) => {
            assert!(matches!(rejection.fault, Fault::NotGranted | Fault::BadAnswer), "{rejection:?}");
            assert!(!rejection.reason.is_empty() && rejection.reason.len() < 4096, "{rejection:?}");
            None
        }
    }
}

fn well_formed(command: &Command) {
    match command {
        Command::CacheSet { key, ttl_seconds, .. } | Command::CacheMerge { key, ttl_seconds, .. } => {
            assert!((1..=4096).contains(&key.len()) && *ttl_seconds != Some(0), "{command:?}");
        }
        Command::CacheDelete { key } => assert!((1..=4096).contains(&key.len())),
        Command::RowUpsert(row) | Command::RowMerge(row) => key_of(row),
        Command::RowDelete(row) => {
            key_of(row);
            assert!(row.values.is_empty());
        }
        Command::DocumentIndex { id, body, .. } => {
            assert!((1..=512).contains(&id.len()));
            one_line_of_json(body.get());
            assert!(body.get().starts_with('{'));
        }
        Command::DocumentMerge { id, .. } | Command::DocumentDelete { id, .. } => {
            assert!((1..=512).contains(&id.len()));
        }
        Command::Publish { .. } => {}
    }
    match command {
        Command::CacheMerge { fields, .. } | Command::DocumentMerge { fields, .. } => object(fields),
        Command::RowUpsert(row) | Command::RowMerge(row) => object(&row.values),
        _ => {}
    }
}

fn key_of(row: &Row) {
    assert!(!row.key.is_empty());
    for (name, value) in &row.key {
        assert!(!matches!(value.get().as_bytes()[0], b'n' | b'{' | b'['), "{name}: {value}");
        assert!(row.values.iter().all(|(other, _)| other != name));
    }
}

fn object(fields: &Fields) {
    one_line_of_json(&write_object(fields));
    let names: HashSet<_> = fields.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), fields.len());
}

/// What is a line of a request, and is all of it.
fn one_line_of_json(text: &str) {
    assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "no JSON: {text}");
    assert!(!text.contains(['\n', '\r']), "more than a line: {text}");
}

/// The model holds values as text.
fn is_of_the_model(command: &Command) -> bool {
    match command {
        Command::CacheSet { value, .. } => std::str::from_utf8(value).is_ok(),
        Command::Publish { value, .. } => std::str::from_utf8(value.as_deref().unwrap_or_default()).is_ok(),
        _ => true,
    }
}

/// All events in one batch come to what each by itself comes to, one after the other.
fn folding_changes_nothing(events: &[Vec<Tagged>]) {
    let (mut one_by_one, mut refused) = (Model::default(), HashMap::new());
    for event in events {
        if let (Err(reason), Some(first)) = (one_by_one.apply_event(event), event.first()) {
            refused.insert(first.offset, reason);
        }
    }
    let mut folded = Model::default();
    let rejected = settle(&events.iter().flatten(), |writes| folded.write(writes));
    assert_eq!(folded, one_by_one);
    let rejected: HashSet<u64> = rejected.iter().map(|origin| origin.offset).collect();
    assert_eq!(rejected, refused.into_keys().collect());
}
