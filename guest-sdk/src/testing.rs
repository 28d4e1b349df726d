//! Runs a transform natively, in an ordinary `#[test]`: on recorded events or on hand-made ones.
//!
//! ```
//! # use tidegate_sdk::prelude::*;
//! # #[row] struct Order { id: i64, status: String }
//! # #[settings] struct OrderCache { ttl_seconds: u32 }
//! # impl Transform for OrderCache {
//! #     fn outputs(&self) -> Outputs { Outputs::new().cache("order:*") }
//! #     fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
//! #         let key = format!("order:{}", change.key::<i64>()?);
//! #         match change.row::<Order>()? {
//! #             Some(order) => out.cache_set(key, &order, self.ttl_seconds),
//! #             None => out.cache_delete(key),
//! #         }
//! #     }
//! # }
//! use tidegate_sdk::testing::{Command, Event, Tester};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tester = Tester::<OrderCache>::start(json!({"ttl_seconds": 600}))?;
//!
//! let update = Event::update("orders", json!({"id": 7}), json!({"id": 7, "status": "paid"}));
//! let commands = tester.apply(&update)?;
//! assert_eq!(commands[0].to_json(), json!({
//!     "cache-set": {"key": "order:7", "value": {"id": 7, "status": "paid"}, "ttl-seconds": 600}
//! }));
//!
//! let delete = Event::delete("orders", json!({"id": 7}));
//! assert_eq!(tester.apply(&delete)?, [Command::CacheDelete { key: "order:7".to_owned() }]);
//! # Ok(())
//! # }
//! ```
//!
//! The tester treats a transform as the host does: it passes only what [`inputs`](Transform::inputs) asks for, takes
//! unsent columns out, and refuses a command that [`outputs`](Transform::outputs) does not declare.

mod command;
mod event;
mod placeholder;
mod recorded;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::bindings::exports::tidegate::transform::transformer as wire;
use crate::guest::Instance;
use crate::reject::{Fault, Reject};
use crate::{Inputs, Outputs, Transform, encode};

pub use command::{Body, Command};
pub use event::Event;

/// A transform with its settings, ready for events.
#[derive(Debug)]
pub struct Tester<T>(Instance<T>);

/// What became of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Handled {
    /// The event.
    pub event: Event,
    /// Its commands, in order, or why it was refused.
    pub answer: Result<Vec<Command>, Reject>,
}

impl<T: Transform> Tester<T> {
    /// Begins with settings: `json!({"ttl_seconds": 600})`.
    ///
    /// # Errors
    /// What the host would show the operator: the setting and what it should be.
    pub fn start(settings: impl Serialize) -> Result<Self, String> {
        let text = encode::to_text(&settings).map_err(|error| format!("the settings: {error}"))?;
        Instance::start(&text).map(Self)
    }

    /// What the transform asks for.
    pub fn inputs(&self) -> &Inputs {
        &self.0.inputs
    }

    /// What the transform declares to write.
    pub fn outputs(&self) -> &Outputs {
        &self.0.outputs
    }

    /// The definition of an index that the transform declares: its mappings and settings.
    pub fn index_definition(&self, index: &str) -> Option<Value> {
        serde_json::from_str(self.0.outputs.definition_of(index)?).ok()
    }

    /// Hands one event to the transform.
    ///
    /// # Errors
    /// The rejection of the transform, or one that names a command outside its `outputs()`.
    pub fn apply(&self, event: &Event) -> Result<Vec<Command>, Reject> {
        let (batch, change) = event.seen_with(&self.0.inputs)?;
        let outcomes = self.0.apply(batch, &[change]);
        if let Some(rejection) = outcomes.outcomes.into_iter().find_map(|outcome| outcome.rejection) {
            return Err(Reject::new(fault(rejection.fault), rejection.reason));
        }
        let commands: Vec<Command> = outcomes.commands.into_iter().map(Command::from_wire).collect();
        match commands.iter().find(|command| !self.0.outputs.cover(command)) {
            Some(command) => {
                Err(Reject::refused(format!("{command} is not declared in `outputs()`: the host would refuse it")))
            }
            None => Ok(commands),
        }
    }

    /// Hands each row change of recorded events to the transform, in order. A line is one record:
    /// `{"topic", "partition", "offset", "timestamp", "headers": [[name, value], …], "key", "value"}`, with key and
    /// value as the exact text from Kafka, or null. Envelopes and flattened records, with and without schema, are told
    /// apart by their looks. Tombstones, heartbeats and other records that are no row change are passed over.
    ///
    /// # Errors
    /// Names the line that is no record.
    pub fn replay(&self, lines: &str) -> Result<Vec<Handled>, String> {
        let mut handled = Vec::new();
        for (index, line) in lines.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let event = Event::recorded(line).map_err(|error| format!("line {}: {error}", index + 1))?;
            if let Some(event) = event {
                handled.push(Handled { answer: self.apply(&event), event });
            }
        }
        Ok(handled)
    }

    /// [`replay`](Self::replay) of a file. Paths are relative to the crate's folder, as in every test.
    ///
    /// # Errors
    /// Names the file.
    pub fn replay_file(&self, path: impl AsRef<Path>) -> Result<Vec<Handled>, String> {
        let path = path.as_ref();
        let named = |error: String| format!("{}: {error}", path.display());
        let lines = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        self.replay(&lines).map_err(named)
    }
}

fn fault(fault: wire::Fault) -> Fault {
    match fault {
        wire::Fault::Undecodable => Fault::Undecodable,
        wire::Fault::NoKey => Fault::NoKey,
        wire::Fault::NoBefore => Fault::NoBefore,
        wire::Fault::Unsent => Fault::Unsent,
        wire::Fault::Refused => Fault::Refused,
    }
}

#[cfg(test)]
mod tests;
