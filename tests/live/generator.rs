//! Random work of many sessions at a time: transactions that insert, update and delete, change keys, and roll back.

use std::fmt::Write as _;

use super::random::Random;
use super::session::Session;
use super::tables::{Table, value};

/// What a session did that leaves no trace in the tables.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) committed: usize,
    pub(super) rolled_back: usize,
    pub(super) rolled_back_in_part: usize,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.rolled_back += other.rolled_back;
        self.rolled_back_in_part += other.rolled_back_in_part;
    }
}

/// Works on the tables of a database as long as it is told to go on.
pub(super) fn work(database: &str, tables: &[Table], seed: u64, goes_on: impl Fn() -> bool) -> Tally {
    let mut random = Random::new(seed);
    let mut session = Session::new(database);
    let mut tally = Tally::default();
    while goes_on() {
        let transaction = transaction(tables, &mut random, &mut tally);
        session.run(&transaction);
    }
    tally
}

/// One transaction, and a pause as between two users of an application.
fn transaction(tables: &[Table], random: &mut Random, tally: &mut Tally) -> String {
    let mut sql = String::from("BEGIN;\n");
    for _ in 0..=random.below(6) {
        sql += &statement(tables, random);
    }
    if random.percent(10) {
        tally.rolled_back_in_part += 1;
        let (undone, kept) = (statement(tables, random), statement(tables, random));
        writeln!(sql, "SAVEPOINT s;\n{undone}ROLLBACK TO s;\n{kept}").unwrap();
    }
    if random.percent(10) {
        tally.rolled_back += 1;
        sql += "ROLLBACK;\n";
    } else {
        tally.committed += 1;
        sql += "COMMIT;\n";
    }
    writeln!(sql, "SELECT pg_sleep(0.0{});", 1 + random.below(5)).unwrap();
    sql
}

fn statement(tables: &[Table], random: &mut Random) -> String {
    let table = &tables[random.below(tables.len())];
    let name = format!("\"{}\"", table.name);
    let columns = table.key_columns();
    let keys = |random: &mut Random| {
        let count = if random.percent(25) { 2 + random.below(4) } else { 1 };
        (0..count).map(|_| key(table, random)).collect::<Vec<_>>()
    };
    match random.below(100) {
        0..35 => insert(table, &keys(random), random),
        35..75 => {
            let changes = changes(table, random);
            format!("UPDATE {name} SET {changes} WHERE {columns} IN ({});\n", keys(random).join(", "))
        }
        75..87 => format!("DELETE FROM {name} WHERE {columns} IN ({});\n", keys(random).join(", ")),
        87..92 => {
            // The same key again, within one transaction.
            let key = [key(table, random)];
            format!("DELETE FROM {name} WHERE {columns} IN ({});\n{}", key[0], insert(table, &key, random))
        }
        _ => {
            let (from, to) = (key(table, random), key(table, random));
            let others = if random.percent(40) { format!(", {}", changes(table, random)) } else { String::new() };
            format!(
                "UPDATE {name} SET {columns} = ROW {to}{others} WHERE {columns} = {from} \
                 AND NOT EXISTS (SELECT FROM {name} WHERE {columns} = {to});\n"
            )
        }
    }
}

/// A key as a row of SQL.
fn key(table: &Table, random: &mut Random) -> String {
    format!("({})", table.keys[random.below(table.keys.len())].join(", "))
}

/// Inserts a row under each of the keys where there is none yet.
fn insert(table: &Table, keys: &[String], random: &mut Random) -> String {
    let others: Vec<_> = table.columns.iter().filter(|column| !column.is_key).collect();
    let mut rows = Vec::new();
    for key in keys {
        let values = others.iter().map(|column| value(table, column, random)).collect::<Vec<_>>();
        rows.push(format!("({}, {})", &key[1..key.len() - 1], values.join(", ")));
    }
    let keys = table.columns.iter().filter(|column| column.is_key);
    let columns = keys.chain(others.iter().copied()).map(|column| format!("\"{}\"", column.name));
    let (columns, rows) = (columns.collect::<Vec<_>>().join(", "), rows.join(",\n"));
    format!("INSERT INTO \"{}\" ({columns}) VALUES {rows} ON CONFLICT DO NOTHING;\n", table.name)
}

/// Some columns with new values. The large one is seldom among them.
fn changes(table: &Table, random: &mut Random) -> String {
    let large = table.large.filter(|_| random.percent(15));
    let others: Vec<_> = table.columns.iter().filter(|column| !column.is_key).collect();
    let small: Vec<_> = others.iter().filter(|column| table.large != Some(&column.name)).collect();
    let first = random.below(small.len());
    let count = 1 + random.below(3.min(small.len()));
    let chosen = (0..count).map(|place| *small[(first + place) % small.len()]).collect::<Vec<_>>();
    let large = others.iter().find(|column| large == Some(&column.name));
    let chosen = chosen.iter().copied().chain(large.copied());
    chosen
        .map(|column| format!("\"{}\" = {}", column.name, value(table, column, random)))
        .collect::<Vec<_>>()
        .join(", ")
}
