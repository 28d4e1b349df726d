//! A transform that misbehaves as its settings say, for the tests of the host.
//!
//! Settings: `start` says what `start` does, `do` what `apply` does with the changes at the offsets in `at` (all, when
//! it is absent). Every other change sets the cache entry `k:<offset>` to the row's text; with a `stamp`, it publishes
//! that under the key `<partition>@<offset>` instead. `describe` replaces parts of the declaration. With `do` as `obey`
//! the rows say what it answers, and with `picky` it refuses those that say that they are disliked.
#![cfg(target_family = "wasm")]
// To panic is what it is for.
#![allow(clippy::panic)]

#[allow(unsafe_code, missing_docs, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "transform" });
}
mod echo;
mod obey;

use std::cell::RefCell;
use std::hint::black_box;

use bindings::exports::tidegate::transform::transformer::{
    Batch, CacheEntry, Change, Command, Description, Fault, Guest, Index, Inputs, Message, Outcome, Outcomes,
    Rejection, Row, Table,
};
use bindings::tidegate::transform::log::{Level, write};
use serde_json::{Value, json};

struct Hostile;

/// A JSON object, laid over the settings. Tests write another one over it in the module's bytes, so that one build makes
/// many modules; blanks fill it up.
static PATCH: [u8; 256] = {
    let text = br#"{"tidegate-patch":""}"#;
    let mut patch = [b' '; 256];
    let mut place = 0;
    while place < text.len() {
        patch[place] = text[place];
        place += 1;
    }
    patch
};

#[derive(Default)]
struct State {
    settings: Value,
    calls: u64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl Guest for Hostile {
    fn start(settings: String) -> Result<Description, String> {
        std::panic::set_hook(Box::new(|info| write(Level::Error, &info.to_string())));
        let mut settings: Value = serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        let patch: Value = serde_json::from_slice(black_box(&PATCH)).map_err(|error| error.to_string())?;
        for (name, value) in patch.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        match text(&settings["start"]) {
            "refuse" => return Err("setting `start`: must not be\n\"refuse\"".into()),
            "trap" => panic!("cannot start"),
            "loop" => spin(),
            "tell" => {
                write(Level::Info, "starting");
                work();
            }
            _ => {}
        }
        let description = describe(&settings["describe"]);
        STATE.set(State { settings, calls: 0 });
        Ok(description)
    }

    fn apply(batch: Batch, changes: Vec<Change>) -> Outcomes {
        STATE.with_borrow_mut(|state| {
            state.calls += 1;
            let mut answer = Outcomes { commands: vec![], outcomes: vec![] };
            for change in changes {
                let at = &state.settings["at"];
                let chosen = at.as_array().is_none_or(|at| at.iter().any(|at| at.as_u64() == Some(change.offset)));
                let deed = if chosen { text(&state.settings["do"]) } else { "" };
                misbehave((deed, &state.settings), state.calls, &batch, change, &mut answer);
            }
            answer
        })
    }
}

fn misbehave((deed, settings): (&str, &Value), calls: u64, batch: &Batch, change: Change, answer: &mut Outcomes) {
    let offset = change.offset;
    let (stamp, declared) = (text(&settings["stamp"]), &settings["describe"]);
    let disliked = deed == "obey" && settings["picky"] == true && obey::is_disliked(&change);
    let refuse = |fault, reason: &str| Some(Rejection { fault, reason: reason.into() });
    match deed {
        "loop" => spin(),
        "allocate" => allocate(),
        "trap" => core::arch::wasm32::unreachable(),
        "overflow" => drop(black_box(descend(u64::MAX))),
        "panic" => panic!("no good\u{7} at offset {offset}"),
        "stick" => {
            write(Level::Info, &format!("stuck at offset {offset}"));
            spin();
        }
        "slow" => {
            write(Level::Info, "slow");
            work();
        }
        "toil" => (0..10_000).for_each(|_| work()),
        "wear-out" if calls > 2 => panic!("worn out"),
        "flood" => (0..5_000).for_each(|i| write(Level::Info, &format!("message {i}"))),
        "levels" => {
            write(Level::Error, "an error");
            write(Level::Warn, "a warning");
            write(Level::Info, "two\nlines");
            write(Level::Debug, &"x".repeat(10_000));
        }
        _ => {}
    }
    let commands = match deed {
        "nothing" | "reject" => vec![],
        "many" => vec![Command::CacheDelete("k".into()); 3],
        "big" => vec![Command::CacheDelete("k".repeat(1 << 20))],
        "mirror" => vec![mirror(&change)],
        "obey" if disliked => vec![],
        "obey" => obey::commands(&change, declared),
        "echo" => vec![echo::batch(batch), echo::change(change)],
        // What it does at other offsets than those where it misbehaves.
        _ if !stamp.is_empty() => vec![Command::Publish(Message {
            topic: "stamps".into(),
            key: Some(format!("{}@{offset}", batch.partition).into_bytes()),
            value: Some(stamp.as_bytes().to_vec()),
            headers: None,
        })],
        _ => vec![Command::CacheSet(CacheEntry {
            key: format!("k:{offset}"),
            value: change.after.unwrap_or_default().into_bytes(),
            ttl_seconds: None,
        })],
    };
    let mut count = u32::try_from(commands.len()).unwrap_or(u32::MAX);
    if deed == "wrong-sum" {
        count += 1;
    }
    let rejection = match deed {
        "reject" => refuse(Fault::NoKey, "the record has no\nkey"),
        "obey" if disliked => refuse(Fault::Refused, "it is disliked"),
        "reject-with-commands" => refuse(Fault::Refused, "both"),
        _ => None,
    };
    let outcome = Outcome { commands: count, rejection };
    match deed {
        "too-few" => {}
        "too-many" => answer.outcomes.extend([outcome, Outcome { commands: 0, rejection: None }]),
        _ => answer.outcomes.push(outcome),
    }
    answer.commands.extend(commands);
}

/// `id` and `status` of the row into the table `mirrored`, or out of it.
fn mirror(change: &Change) -> Command {
    let values = |values: Value| Row { table: "mirrored".into(), values: values.to_string() };
    let parsed = |text: &Option<String>| serde_json::from_str::<Value>(text.as_deref().unwrap_or_default()).ok();
    match parsed(&change.after) {
        Some(row) => Command::RowUpsert(values(json!({ "id": row["id"], "status": row["status"] }))),
        None => Command::RowDelete(values(parsed(&change.key).unwrap_or_default())),
    }
}

fn describe(given: &Value) -> Description {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|item| text(item).to_owned()).collect()
    };
    let items = |name: &str| given[name].as_array().cloned().unwrap_or_default();
    let table = |table: Value| Table { name: text(&table["name"]).into(), key: list(&table["key"]) };
    let index =
        |index: Value| Index { name: text(&index["name"]).into(), definition: text(&index["definition"]).into() };
    // So many names of so many bytes.
    let long = |given: &Value| -> Vec<String> {
        let number = |place: usize| usize::try_from(given[place].as_u64().unwrap_or_default()).unwrap_or_default();
        vec!["k".repeat(number(1)); number(0)]
    };
    Description {
        name: given["name"].as_str().unwrap_or("hostile").into(),
        version: "1.0.0".into(),
        inputs: Inputs { before: true, source: true, headers: true, reads: vec![] },
        cache_keys: [list(&given["cache_keys"]), long(&given["long"])].concat(),
        tables: items("tables").into_iter().map(table).collect(),
        indexes: items("indexes").into_iter().map(index).collect(),
        topics: list(&given["topics"]),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn spin() -> ! {
    loop {
        black_box(0);
    }
}

/// A little work, so that a deadline that has passed is noticed.
fn work() {
    for i in 0..1_000 {
        black_box(i);
    }
}

fn allocate() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn descend(depth: u64) -> u64 {
    if depth == 0 { 0 } else { black_box(descend(black_box(depth - 1))) + 1 }
}

#[allow(unsafe_code)]
mod exported {
    crate::bindings::export!(Hostile with_types_in crate::bindings);
    use crate::Hostile;
}
