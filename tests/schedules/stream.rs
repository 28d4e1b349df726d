//! A stream of states of the same rows, made of captured events: in each round some rows change and some go, and every
//! state bears the number of its round, so that whoever reads a store knows how far it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::live::random::Random;
use crate::outage::support::{Event, Topic};

/// How many rows a stream has.
const ROWS: usize = 12;
/// How often a row changes in a hundred rounds: many do all the time, and the others so seldom that what goes wrong with
/// them is not mended by the next change.
const OFTEN: [usize; 2] = [50, 3];

/// Every state that a row has been produced in: the round, or that it is gone.
pub(crate) type States = Arc<Mutex<BTreeMap<String, Vec<Option<u32>>>>>;

/// A row, and its last state.
struct Row {
    partition: i32,
    key: String,
    value: Value,
    exists: bool,
}

/// A topic and what was produced there.
pub(crate) struct Stream {
    pub(crate) topic: Topic,
    pub(crate) pipeline: String,
    pub(crate) states: States,
    /// How many events were produced.
    pub(crate) produced: usize,
    rows: BTreeMap<String, Row>,
    /// The column that says in which round the row was written.
    column: &'static str,
    round: u32,
}

impl Stream {
    /// Of the rows that these captured events make.
    pub(crate) fn new(topic: Topic, pipeline: String, captured: &[Event], column: &'static str) -> Self {
        let mut rows = BTreeMap::new();
        for event in captured {
            let (Some(key), Some(value)) = (&event.key, &event.value) else { continue };
            let value: Value = serde_json::from_str(value).unwrap();
            let operation = value.get("op").or(value.get("__op")).and_then(Value::as_str);
            if matches!(operation, Some("c" | "r")) && rows.len() < ROWS {
                let row = Row { partition: event.partition, key: key.clone(), value, exists: false };
                rows.insert(id(key), row);
            }
        }
        assert!(rows.len() > ROWS / 2);
        Self { topic, pipeline, states: States::default(), produced: 0, rows, column, round: 0 }
    }

    /// The rows.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.rows.keys().cloned().collect()
    }

    /// Produces so many rounds, and answers what it produced.
    pub(crate) fn produce(&mut self, rounds: u32, random: &mut Random) -> Vec<Event> {
        let mut events = Vec::new();
        for round in self.round..self.round + rounds {
            for (place, (id, row)) in self.rows.iter_mut().enumerate() {
                if !random.percent(OFTEN[place % OFTEN.len()]) {
                    continue;
                }
                let goes = row.exists && random.percent(15);
                let state = (!goes).then_some(round);
                events.extend(row.next(state, self.column));
                self.states.lock().unwrap().entry(id.clone()).or_default().push(state);
            }
        }
        self.round += rounds;
        self.topic.produce(&events);
        self.produced += events.len();
        events
    }
}

impl Row {
    /// The events that bring it into this state.
    fn next(&mut self, state: Option<u32>, column: &str) -> Vec<Event> {
        let is_envelope = self.value.get("op").is_some();
        let operation = match (state, self.exists) {
            (None, _) => "d",
            (Some(_), true) => "u",
            (Some(_), false) => "c",
        };
        if let Some(round) = state {
            let row = if is_envelope { &mut self.value["after"] } else { &mut self.value };
            row[column] = marked(round).into();
        }
        let mut value = self.value.clone();
        if is_envelope {
            value["op"] = operation.into();
            if state.is_none() {
                value["before"] = value["after"].take();
            }
        } else {
            value["__op"] = operation.into();
            value["__deleted"] = json!(state.is_none().to_string());
        }
        self.exists = state.is_some();
        let event = |value| Event { partition: self.partition, key: Some(self.key.clone()), value };
        let mut events = vec![event(Some(value.to_string()))];
        if state.is_none() {
            events.push(event(None));
        }
        events
    }
}

/// The identity in a record's key.
fn id(key: &str) -> String {
    let key: Value = serde_json::from_str(key).unwrap();
    key["id"].as_str().map_or_else(|| key["id"].to_string(), ToOwned::to_owned)
}

/// How a round stands in a column.
fn marked(round: u32) -> String {
    format!("round-{round:06}")
}

/// The round that a stored text bears.
pub(crate) fn round_of(text: &str) -> u32 {
    let at = text.find("round-").unwrap_or_else(|| panic!("no round in {text}")) + 6;
    text[at..at + 6].parse().unwrap()
}
