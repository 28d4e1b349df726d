//! The rule of each system, over what the audit tells and what the live store holds. They are those of the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use tidegate_tests::corpus;
use xtask::verify::bookstore_analytics::{TABLES, cut_to_milliseconds};
use xtask::verify::check::{Verdict, expiry};
use xtask::verify::company_search::field;
use xtask::verify::json::{Json, Members};
use xtask::verify::recorded::{Change, Images};
use xtask::verify::source::{self, Table};
use xtask::verify::store::{Cache, Message};
use xtask::verify::trackops_cache::{compare_messages, expected_messages, orders_in_cache};
use xtask::verify::value::Form;

use super::application::Application;
use super::audit;
use super::broker::Record;
use super::source::{Source, rows};
use super::stores::Indexes;

/// What a system's sources hold at rest, and how they came to it.
pub(super) struct Facts {
    tables: BTreeMap<String, Table>,
    pub(super) changes: Vec<Change>,
}

impl Facts {
    pub(super) fn new(sources: &[Source]) -> Self {
        let group = sources[0].group;
        let types = std::fs::read_to_string(corpus(&format!("{group}/source-types.json"))).unwrap();
        let types = Json::parse(&types).unwrap();
        let mut facts = Self { tables: BTreeMap::new(), changes: Vec::new() };
        for source in sources {
            for table in &source.tables {
                let rows = Json::Array(source.rows(&table.name));
                let read = source::table(types.get(&table.name).unwrap(), &rows).unwrap();
                facts.tables.insert(table.name.clone(), read);
            }
            facts.changes.extend(audit::changes(source));
        }
        facts
    }

    /// The keys of a table under which a change left a row that the events never brought whole.
    fn ever_incomplete(&self, table: &str, keep_deleted: bool) -> BTreeSet<String> {
        let (mut whole, mut found) = (BTreeSet::new(), BTreeSet::new());
        for change in self.changes.iter().filter(|change| change.table == table) {
            let identity = change.identity();
            match &change.after {
                None if keep_deleted => {}
                None => drop(whole.remove(&identity)),
                Some(_) if change.unsent.is_empty() => drop(whole.insert(identity)),
                Some(_) if whole.contains(&identity) => {}
                Some(_) => drop(found.insert(identity)),
            }
        }
        found
    }

    /// The keys of a table that a change of key made, of which an event did not bring the whole row.
    fn made_incomplete(&self, table: &str) -> BTreeSet<String> {
        let of_table = self.changes.iter().filter(|change| change.table == table);
        of_table.filter(|change| change.moved_here && !change.unsent.is_empty()).map(Change::identity).collect()
    }

    /// The keys of a table whose unsent column no event brought since the change of key that made them.
    fn stale(&self, table: &str) -> BTreeSet<String> {
        let mut stale = BTreeSet::new();
        for change in self.changes.iter().filter(|change| change.table == table && change.after.is_some()) {
            if change.unsent.is_empty() {
                stale.remove(&change.identity());
            } else if change.moved_here {
                stale.insert(change.identity());
            }
        }
        stale
    }
}

pub(super) fn order_cache(facts: &Facts, mut cache: Cache, written: &RangeInclusive<i64>) -> Verdict {
    let mut verdict = Verdict::new("order-cache");
    let images = Images::follow(&facts.changes, "orders", false);
    verdict.rows_in_cache(&mut cache, "order:", (&facts.tables["orders"], &images), &expiry(written, 600));
    nothing_else(&mut verdict, &cache);
    verdict
}

pub(super) fn cache_invalidation(application: &Application, mut cache: Cache, at_rest: bool) -> Verdict {
    let mut verdict = Verdict::new("cache-invalidation");
    application.check(&mut verdict, &mut cache, at_rest);
    nothing_else(&mut verdict, &cache);
    verdict
}

pub(super) fn bookstore_analytics(facts: &Facts, analytics: &str) -> Verdict {
    let mut verdict = Verdict::new("bookstore-analytics");
    for (from, into) in TABLES {
        let table = &facts.tables[from];
        // Deletes are skipped, so a row that comes again finds what was left of it.
        let images = Images::follow(&facts.changes, from, true);
        let stale = facts.stale(from);
        let found = rows(analytics, into).into_iter().map(|row| row.members().unwrap().clone());
        let mut found: BTreeMap<String, Members> = found.map(|row| (table.identity(&row), row)).collect();
        let living = table.rows.iter().map(|row| (table.identity(row), row));
        let living: BTreeMap<_, _> = living.filter(|(identity, _)| !stale.contains(identity)).collect();
        let last = images.whole().filter(|(identity, _)| !living.contains_key(*identity));
        let last = last.map(|(identity, row)| (identity.to_owned(), row));
        for (identity, row) in living.clone().into_iter().chain(last) {
            let key = format!("{into} {identity}");
            let expected = cut_to_milliseconds(table, row);
            match found.remove(&identity) {
                Some(found) => verdict.row(&key, &table.columns, (&expected, &found), Form::Json, str::to_owned),
                None => verdict.differs(&key, None, "the row", "nothing"),
            }
        }
        // Among them are the keys of which no event brought the whole.
        for (identity, row) in found {
            verdict.differs(&format!("{into} {identity}"), None, "nothing", Json::Object(row).to_string());
        }
    }
    verdict
}

pub(super) fn trackops_cache(
    facts: &Facts,
    application: &Application,
    mut cache: Cache,
    at_rest: bool,
    written: &RangeInclusive<i64>,
    (topic, records): (&str, Vec<Record>),
) -> Verdict {
    let mut verdict = Verdict::new("trackops-cache");
    let images = Images::follow(&facts.changes, "orders", false);
    orders_in_cache(&mut verdict, &mut cache, (&facts.tables["orders"], &images), written);
    application.check(&mut verdict, &mut cache, at_rest);
    nothing_else(&mut verdict, &cache);

    // A message may come again; its id tells.
    let mut seen = BTreeMap::<String, String>::new();
    let mut messages = Vec::new();
    for record in records {
        let Some(id) = record.header("tidegate.id").map(str::to_owned) else {
            verdict.differs(&record.key, None, "a message with the header tidegate.id", record.value);
            continue;
        };
        match seen.get(&id) {
            Some(value) => verdict.text(&id, value, &record.value),
            None => {
                seen.insert(id, record.value.clone());
                messages.push(Message { topic: topic.to_owned(), key: record.key, value: record.value });
            }
        }
    }
    compare_messages(&mut verdict, topic, &expected_messages(&facts.changes), messages);
    verdict
}

pub(super) fn company_search(facts: &Facts, indexes: &Indexes) -> Verdict {
    let mut verdict = Verdict::new("company-search");
    for (index, table) in &facts.tables {
        let mut documents = indexes.documents(index);
        let images = Images::follow(&facts.changes, index, false);
        for row in &table.rows {
            let identity = table.identity(row);
            let key = format!("{index} {identity}");
            let document = documents.remove(&identity);
            if verdict.must_be_absent(&key, images.is_incomplete(&identity), document.is_some()) {
                continue;
            }
            let Some(document) = document else {
                verdict.differs(&key, None, "the living row", "nothing");
                continue;
            };
            if let Some(found) = verdict.object(&key, &document) {
                verdict.row(&key, &table.columns, (row, &found), Form::Json, |column| field(index, column));
            }
        }
        verdict.nothing_else(documents.iter().map(|(id, body)| (format!("{index} {id}"), body.as_bytes())));
    }
    verdict
}

/// Only a row that no event brought whole is a dead letter, and one that is so still must be. In a cache, every change of key
/// that did not bring the whole row is one.
pub(super) fn dead_letters(systems: &[(&[Source], &Facts)], records: &[Record]) -> Verdict {
    let mut verdict = Verdict::new("dead letters");
    let mut letters = BTreeMap::<(String, String), &str>::new();
    for record in records {
        let key = Json::parse(&record.key).unwrap();
        let values = key.members().unwrap().iter().map(|(_, value)| value.bare());
        let identity = values.collect::<Vec<_>>().join(":");
        let topic = record.header("__connect.errors.topic").unwrap().to_owned();
        letters.insert((topic, identity), record.header("__connect.errors.exception.message").unwrap());
    }
    for (sources, facts) in systems {
        let keep_deleted = match sources[0].group {
            "bookstore-analytics" => Some(true),
            "company-search" => Some(false),
            "order-cache" => None,
            // No value is left unsent there.
            _ => continue,
        };
        for source in *sources {
            for table in &source.tables {
                let (name, topic) = (&table.name, source.topic(&table.name));
                let (may_be, must_be) = match keep_deleted {
                    Some(keep) => {
                        let images = Images::follow(&facts.changes, name, keep);
                        let found = facts.ever_incomplete(name, keep);
                        let still = found.iter().filter(|identity| images.is_incomplete(identity)).cloned().collect();
                        (found, still)
                    }
                    None => (facts.made_incomplete(name), facts.made_incomplete(name)),
                };
                for identity in may_be {
                    let letter = letters.remove(&(topic.clone(), identity.clone()));
                    verdict.compared += 1;
                    if letter.is_none() && must_be.contains(&identity) {
                        verdict.differs(&format!("{name} {identity}"), None, "a dead letter", "none");
                    }
                }
            }
        }
    }
    for ((topic, identity), reason) in letters {
        verdict.differs(&format!("{topic} {identity}"), None, "no dead letter", reason);
    }
    verdict
}

fn nothing_else(verdict: &mut Verdict, cache: &Cache) {
    verdict.nothing_else(cache.iter().map(|(key, entry)| (key.clone(), entry.value.as_slice())));
}
