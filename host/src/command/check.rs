//! Turns what a transform answered into commands that can be executed, or says why not.
//!
//! The declaration was held against the grants before the first event; each command is held against both again, since
//! what a module said at its start binds nobody.

use serde_json::value::RawValue;

use super::declaration::{is_name, validate};
use super::grants::{Grants, Pattern, declared, noun, shown};
use super::json::{parse_fields, parse_object, quoted};
use super::reserved::Reserved;
use super::{Command, Fields, Port, Row};
use crate::contract::{Description, Fault, RawCommand, RawDocument, RawRow, Rejection, Table};
use crate::limits::{CACHE_KEY, DOCUMENT_ID, HEADERS, MEMBER_COST, NAME, first};
use crate::source::Header;

/// What the names of headers begin with that are the host's own.
const OWN_HEADERS: &str = "tidegate.";

/// Checks the commands of one transform.
#[derive(Debug)]
pub struct Checker {
    transform: String,
    cache: Scope,
    tables: Vec<Table>,
    tables_granted: Vec<Pattern>,
    documents: Scope,
    messages: Scope,
}

/// What is declared and what is granted for one port.
#[derive(Debug)]
struct Scope {
    port: Port,
    declared: Vec<Pattern>,
    granted: Vec<Pattern>,
    reserved: Reserved,
}

impl Scope {
    fn check(&self, transform: &str, name: &str) -> Result<(), Rejection> {
        if !self.declared.iter().any(|pattern| pattern.matches(name)) {
            return Err(not_declared(transform, self.port, name));
        }
        if !self.granted.iter().any(|pattern| pattern.matches(name)) {
            return Err(not_granted(transform, self.port, name));
        }
        match self.reserved.holds(name) {
            Some(what) => Err(reserved(self.port, name, what)),
            None => Ok(()),
        }
    }
}

impl Checker {
    /// A checker for a transform that declared this and was granted that.
    ///
    /// # Errors
    /// Everything that is wrong with the declaration: names and patterns that cannot be, and what is not granted.
    pub fn new(description: &Description, grants: &Grants) -> Result<Self, Vec<String>> {
        let mut problems = validate(description)?;
        if let Err(uncovered) = grants.covers(description) {
            problems.extend(uncovered);
        }
        let scope = |port| -> Result<Scope, String> {
            let declared = declared(description, port).into_iter().map(Pattern::parse).collect::<Result<_, _>>()?;
            let reserved = grants.reserved.get(&port).cloned().unwrap_or_default();
            Ok(Scope { port, declared, granted: grants.patterns(port)?, reserved })
        };
        let made = (|| {
            Ok::<_, String>(Self {
                transform: description.name.clone(),
                cache: scope(Port::Cache)?,
                tables: description.tables.clone(),
                tables_granted: grants.patterns(Port::Tables)?,
                documents: scope(Port::Documents)?,
                messages: scope(Port::Messages)?,
            })
        })();
        match made {
            Ok(checker) if problems.is_empty() => Ok(checker),
            // Whatever keeps a checker from being made is among the problems already.
            _ => Err(first(problems)),
        }
    }

    /// Checks all that a transform answered to one change. Together the commands may take so many bytes as the host holds
    /// them: an object that is taken apart takes many times its text.
    ///
    /// # Errors
    /// As for [`Checker::check`], and [`Fault::BadAnswer`] where they take more.
    pub fn check_all(&self, answer: Vec<RawCommand>, most: usize) -> Result<Vec<Command>, Rejection> {
        let mut taken = 0_usize;
        let mut commands = Vec::with_capacity(answer.len());
        for raw in answer {
            let command = self.check(raw)?;
            taken = taken.saturating_add(command.cost());
            if taken > most {
                return Err(bad(format!(
                    "the commands of this change take more than {most} bytes as the host holds them, which is {MEMBER_COST} for \
                     each member of an object beside its text: make fewer or smaller ones, or raise `max_answer_mb` in [engine]"
                )));
            }
            commands.push(command);
        }
        Ok(commands)
    }

    /// Checks one command. Texts and bytes are moved, not copied; JSON objects are taken apart where a store needs
    /// their members.
    ///
    /// # Errors
    /// [`Fault::NotGranted`] for a target outside the declaration or the grants, [`Fault::BadAnswer`] for what cannot
    /// be executed.
    pub fn check(&self, raw: RawCommand) -> Result<Command, Rejection> {
        match raw {
            RawCommand::CacheSet { key, value, ttl_seconds } => {
                self.cache_key(&key, ttl_seconds)?;
                Ok(Command::CacheSet { key, value, ttl_seconds })
            }
            RawCommand::CacheMerge { key, fields, ttl_seconds } => {
                self.cache_key(&key, ttl_seconds)?;
                let fields = parse_fields(&fields).map_err(|e| bad(format!("cache-merge of {}: {e}", shown(&key))))?;
                Ok(Command::CacheMerge { key, fields, ttl_seconds })
            }
            RawCommand::CacheDelete { key } => {
                self.cache_key(&key, None)?;
                Ok(Command::CacheDelete { key })
            }
            RawCommand::RowUpsert(row) => Ok(Command::RowUpsert(self.row(row)?)),
            RawCommand::RowMerge(row) => Ok(Command::RowMerge(self.row(row)?)),
            RawCommand::RowDelete(row) => {
                let row = self.row(row)?;
                match row.values.first() {
                    None => Ok(Command::RowDelete(row)),
                    Some((column, _)) => Err(bad(format!(
                        "row-delete from {}: column {} is not of the key; give the key columns alone",
                        shown(&row.table),
                        shown(column)
                    ))),
                }
            }
            RawCommand::DocumentIndex(RawDocument { index, id, body }) => {
                self.document(&index, &id)?;
                let body = parse_object(&body).map_err(|e| bad_document(&index, &id, &e))?;
                Ok(Command::DocumentIndex { index, id, body })
            }
            RawCommand::DocumentMerge(RawDocument { index, id, body }) => {
                self.document(&index, &id)?;
                let fields = parse_fields(&body).map_err(|e| bad_document(&index, &id, &e))?;
                Ok(Command::DocumentMerge { index, id, fields })
            }
            RawCommand::DocumentDelete { index, id } => {
                self.document(&index, &id)?;
                Ok(Command::DocumentDelete { index, id })
            }
            RawCommand::Publish { topic, key, value, headers } => {
                self.messages.check(&self.transform, &topic)?;
                self.headers(&topic, &headers)?;
                Ok(Command::Publish { topic, key, value, headers })
            }
        }
    }

    fn cache_key(&self, key: &str, ttl_seconds: Option<u32>) -> Result<(), Rejection> {
        if key.is_empty() || key.len() > CACHE_KEY.most {
            return Err(bad(format!(
                "a cache key must have 1 to {} bytes; this one has {}: {}",
                CACHE_KEY.most,
                key.len(),
                shown(key)
            )));
        }
        if ttl_seconds == Some(0) {
            return Err(bad(format!("cache key {}: ttl-seconds is 0; it must be at least 1, or none", shown(key))));
        }
        self.cache.check(&self.transform, key)
    }

    fn headers(&self, topic: &str, headers: &[Header]) -> Result<(), Rejection> {
        if headers.len() > HEADERS.most {
            return Err(bad(format!(
                "a message to {} has {} headers, and {} are allowed",
                shown(topic),
                headers.len(),
                HEADERS.most
            )));
        }
        for Header { name, .. } in headers {
            if name.len() > NAME.most {
                return Err(bad(format!(
                    "a message to {} has a header whose name has {} bytes, and {} are allowed: {}",
                    shown(topic),
                    name.len(),
                    NAME.most,
                    shown(name)
                )));
            }
            let own = name.get(..OWN_HEADERS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_HEADERS));
            if own {
                return Err(Rejection::new(
                    Fault::NotGranted,
                    format!(
                        "a message to {} has the header {}: those that begin with {OWN_HEADERS:?} are the host's own, give it \
                         another name",
                        shown(topic),
                        shown(name)
                    ),
                ));
            }
        }
        Ok(())
    }

    fn document(&self, index: &str, id: &str) -> Result<(), Rejection> {
        if id.is_empty() || id.len() > DOCUMENT_ID.most {
            return Err(bad(format!(
                "a document's id must have 1 to {} bytes; this one of {} has {}: {}",
                DOCUMENT_ID.most,
                shown(index),
                id.len(),
                shown(id)
            )));
        }
        self.documents.check(&self.transform, index)
    }

    fn row(&self, RawRow { table, values }: RawRow) -> Result<Row, Rejection> {
        let Some(known) = self.tables.iter().find(|known| known.name == table) else {
            return Err(not_declared(&self.transform, Port::Tables, &table));
        };
        if !self.tables_granted.iter().any(|pattern| pattern.matches(&table)) {
            return Err(not_granted(&self.transform, Port::Tables, &table));
        }
        let wrong = |problem: String| bad(format!("row of {}: {problem}", shown(&table)));
        let mut values = parse_fields(&values).map_err(wrong)?;
        if let Some((column, _)) = values.iter().find(|(column, _)| !is_name(column)) {
            return Err(wrong(format!(
                "{} is no name for a column: it is empty, longer than {} bytes, or holds control characters",
                shown(column),
                NAME.most
            )));
        }
        let mut key = Fields::with_capacity(known.key.len());
        for column in &known.key {
            let place = values.iter().position(|(name, _)| name == column);
            let Some(place) = place else {
                return Err(wrong(format!("the key column {} is missing", shown(column))));
            };
            let (name, value) = values.remove(place);
            key.push((name, key_value(value).map_err(|e| wrong(format!("the key column {} {e}", shown(column))))?));
        }
        Ok(Row { table, key, values })
    }
}

/// A key's value in the one spelling that all its writers come to, so that the same row is the same target.
fn key_value(value: Box<RawValue>) -> Result<Box<RawValue>, String> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Err("is null".into()),
        Some(b'{' | b'[') => Err("is no scalar".into()),
        Some(b'"') if text.contains('\\') => {
            let plain: String = serde_json::from_str(text).map_err(|e| format!("cannot be read: {e}"))?;
            RawValue::from_string(quoted(&plain)).map_err(|e| format!("cannot be written: {e}"))
        }
        _ => Ok(value),
    }
}

fn bad(reason: String) -> Rejection {
    Rejection::new(Fault::BadAnswer, reason)
}

fn bad_document(index: &str, id: &str, problem: &str) -> Rejection {
    bad(format!("document {} of {}: {problem}", shown(id), shown(index)))
}

fn not_declared(transform: &str, port: Port, name: &str) -> Rejection {
    Rejection::new(
        Fault::NotGranted,
        format!("{} lies outside the {} that the transform {transform} declares", shown(name), noun(port)),
    )
}

fn reserved(port: Port, name: &str, what: &str) -> Rejection {
    let reason = format!("{} among the {} is {what}, which no grant reaches: name another", shown(name), noun(port));
    Rejection::new(Fault::NotGranted, reason)
}

fn not_granted(transform: &str, port: Port, name: &str) -> Rejection {
    Rejection::new(
        Fault::NotGranted,
        format!(
            "{} lies outside the {} that the transform {transform} is granted (grants.{})",
            shown(name),
            noun(port),
            port.name()
        ),
    )
}

#[cfg(test)]
mod tests;
