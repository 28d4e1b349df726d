//! For tests: a store in memory that does what the contract says, one command after the other, and random events for
//! it. What a real store or a folded batch ends in is compared with it.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{BadWrite, Write, Written};
use crate::command::collapse::{Origin, Parts, Reach, Tagged, collapse, judge};
use crate::command::json::merge_into;
use crate::command::{Command, Fields, Port, Row};

pub(crate) mod strict;

/// The store. Values are JSON texts; a row's null column is left out, since a table cannot tell it from a missing one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// Key → value, seconds to live.
    pub(crate) cache: BTreeMap<String, (String, Option<u32>)>,
    /// Table and key → columns.
    pub(crate) rows: BTreeMap<(String, String), BTreeMap<String, String>>,
    /// Index and id → body.
    pub(crate) documents: BTreeMap<(String, String), String>,
    /// Values, in order.
    pub(crate) messages: Vec<String>,
    /// The ports whose targets are strict.
    pub(crate) strict: &'static [Port],
    /// Whether a row of the table `t` that is deleted takes along those of `child` that name it as their `parent`.
    pub(crate) cascades: bool,
}

impl Model {
    pub(crate) fn apply(&mut self, command: &Command) -> Result<(), String> {
        if self.strict.contains(&command.port())
            && let Some(reason) = strict::refusal(command)
        {
            return Err(reason);
        }
        let row_key = |row: &Row| (row.table.clone(), row.key[0].1.get().to_owned());
        match command {
            Command::CacheSet { key, value, ttl_seconds } => {
                self.cache.insert(key.clone(), (String::from_utf8(value.clone()).unwrap(), *ttl_seconds));
            }
            Command::CacheMerge { key, fields, ttl_seconds } => {
                if let Some((value, ttl)) = self.cache.get_mut(key) {
                    *value = merge_into(value.as_bytes(), fields)?;
                    *ttl = ttl_seconds.or(*ttl);
                }
            }
            Command::CacheDelete { key } => {
                self.cache.remove(key);
            }
            Command::RowUpsert(row) => set_columns(self.rows.entry(row_key(row)).or_default(), &row.values),
            Command::RowMerge(row) => set_columns(self.rows.get_mut(&row_key(row)).ok_or("no row")?, &row.values),
            Command::RowDelete(row) => {
                self.rows.remove(&row_key(row));
                if self.cascades && row.table == "t" {
                    let gone = row.key[0].1.get();
                    let hangs = |columns: &BTreeMap<_, String>| columns.get("parent").is_some_and(|key| key == gone);
                    self.rows.retain(|(table, _), columns| table != "child" || !hangs(columns));
                }
            }
            Command::DocumentIndex { index, id, body } => {
                self.documents.insert((index.clone(), id.clone()), body.get().to_owned());
            }
            Command::DocumentMerge { index, id, fields } => {
                let body = self.documents.get_mut(&(index.clone(), id.clone())).ok_or("no document")?;
                *body = merge_into(body.as_bytes(), fields)?;
            }
            Command::DocumentDelete { index, id } => {
                self.documents.remove(&(index.clone(), id.clone()));
            }
            Command::Publish { value, .. } => {
                self.messages.push(String::from_utf8(value.clone().unwrap_or_default()).unwrap());
            }
        }
        Ok(())
    }

    /// All commands of an event, or none.
    pub(crate) fn apply_event(&mut self, event: &[Tagged]) -> Result<(), String> {
        let mut next = self.clone();
        event.iter().try_for_each(|tagged| next.apply(&tagged.command))?;
        *self = next;
        Ok(())
    }

    /// All writes, or none and the bad ones: what a sink does beside its ledger.
    pub(crate) fn write(&mut self, writes: &[Write<'_>]) -> Written {
        let mut next = self.clone();
        let mut bad = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            if let Err(reason) = next.apply(&write.command) {
                bad.push(BadWrite { index, clash: false, by_trigger: false, reason });
            }
        }
        if !bad.is_empty() {
            return Written::Rejected(bad);
        }
        *self = next;
        Written::Applied
    }
}

fn set_columns(row: &mut BTreeMap<String, String>, values: &Fields) {
    for (name, value) in values {
        if value.get() == "null" {
            row.remove(name);
        } else {
            row.insert(name.clone(), value.get().to_owned());
        }
    }
}

/// Writes a batch until it is through, as the pipeline does; the answers that are rejected.
pub(crate) fn settle<'a>(
    commands: &(impl Iterator<Item = &'a Tagged> + Clone),
    mut write: impl FnMut(&[Write<'_>]) -> Written,
) -> Vec<Origin> {
    let parts = Parts::of(commands.clone());
    let (mut rejected, mut unfolded) = (Vec::new(), HashSet::new());
    loop {
        let left = commands.clone().filter(|tagged| !rejected.contains(&tagged.origin()));
        let writes = collapse(left.clone(), &parts, &unfolded, &Reach::default());
        match write(&writes) {
            Written::Rejected(bad) => {
                let verdict = judge(left, &writes, &bad);
                assert!(!verdict.unfold.is_empty() || !verdict.rejected.is_empty(), "no progress over {bad:?}");
                unfolded.extend(verdict.unfold);
                rejected.extend(verdict.rejected.into_iter().map(|(origin, _)| origin));
            }
            written => {
                assert_eq!(written, Written::Applied);
                return rejected;
            }
        }
    }
}

/// Random events of up to three commands on few targets, at offsets with gaps.
pub(crate) fn events(most: usize) -> impl Strategy<Value = Vec<Vec<Tagged>>> {
    in_order(command(), most, 3)
}

fn in_order(
    command: impl Strategy<Value = Command>,
    most: usize,
    parts: usize,
) -> impl Strategy<Value = Vec<Vec<Tagged>>> {
    let event = (1_u64..4, prop::collection::vec(command, 1..=parts));
    prop::collection::vec(event, 1..most).prop_map(|events| {
        let mut next = 0;
        let mut tag = |(step, commands): (u64, Vec<Command>)| {
            next += step;
            commands.into_iter().map(|command| Tagged { offset: next, transform: 0, command }).collect()
        };
        events.into_iter().map(&mut tag).collect()
    })
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["1", "2"])
}

fn command() -> impl Strategy<Value = Command> {
    let ttl = || prop::option::of(1_u32..100);
    let row = || (key(), fields()).prop_map(|(key, values)| Row { table: "t".into(), key: id(key), values });
    let set = (key(), prop_oneof![Just("text".to_owned()), object()], ttl());
    prop_oneof![
        1 => set.prop_map(|(key, value, ttl_seconds)| Command::CacheSet { key: key.into(), value: value.into(), ttl_seconds }),
        1 => (key(), fields(), ttl())
            .prop_map(|(key, fields, ttl_seconds)| Command::CacheMerge { key: key.into(), fields, ttl_seconds }),
        1 => key().prop_map(|key| Command::CacheDelete { key: key.into() }),
        3 => row().prop_map(Command::RowUpsert),
        1 => row().prop_map(Command::RowMerge),
        1 => key().prop_map(|key| Command::RowDelete(Row { table: "t".into(), key: id(key), values: vec![] })),
        2 => (key(), object()).prop_map(|(id, body)| Command::DocumentIndex {
            index: "i".into(),
            id: id.into(),
            body: RawValue::from_string(body).unwrap()
        }),
        1 => (key(), fields())
            .prop_map(|(id, fields)| Command::DocumentMerge { index: "i".into(), id: id.into(), fields }),
        1 => key().prop_map(|id| Command::DocumentDelete { index: "i".into(), id: id.into() }),
        1 => any::<u8>().prop_map(|n| Command::Publish {
            topic: "topic".into(),
            key: None,
            value: Some(n.to_string().into()),
            headers: vec![]
        }),
    ]
}

fn id(key: &str) -> Fields {
    vec![("id".into(), RawValue::from_string(key.into()).unwrap())]
}

fn fields() -> impl Strategy<Value = Fields> {
    let value = prop::sample::select(vec!["1", "2", "null", "9.50", "\"s\"", "18446744073709551616"]);
    prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), value, 0..3).prop_map(|members| {
        members.into_iter().map(|(n, v)| (n.to_owned(), RawValue::from_string(v.to_owned()).unwrap())).collect()
    })
}

fn object() -> impl Strategy<Value = String> {
    fields().prop_map(|fields| crate::command::json::write_object(&fields))
}
