//! What is SQLite's own beside the contract that all sinks share.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::fs;

use rusqlite::types::Value;
use serde_json::value::RawValue;

use super::testing::SqliteBench;
use super::{Options, Sqlite};
use crate::command::collapse::Origin;
use crate::command::json::parse_fields;
use crate::command::{Command, Row};
use crate::contract::Table;
use crate::sink::testing::STRANGE_TEXTS;
use crate::sink::{Declared, LedgerKey, Sink, SinkError, Step, Token, Write, Written};
use crate::source::{Header, TopicPartition};

fn table(name: &str, key: &[&str]) -> Declared {
    let key = key.iter().map(ToString::to_string).collect();
    Declared { tables: vec![Table { name: name.into(), key }], ..Declared::default() }
}

fn upsert(table: &str, key: &str, values: &str) -> Command {
    let fields = |text| parse_fields(text).unwrap();
    Command::RowUpsert(Row { table: table.into(), key: fields(key), values: fields(values) })
}

/// A sink that was prepared and claimed, and writes one batch after the other.
struct Run {
    sink: Sqlite,
    key: LedgerKey,
    next: u64,
}

impl Run {
    async fn new(sink: Sqlite, declared: &Declared) -> Self {
        let key = LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition: 0 } };
        sink.prepare("p", declared).await.unwrap();
        sink.claim(&key, Token(1), 0).await.unwrap();
        Self { sink, key, next: 0 }
    }

    async fn write(&mut self, commands: &[Command]) -> Written {
        let writes: Vec<_> = commands
            .iter()
            .map(|c| Write { command: Cow::Borrowed(c), origins: vec![Origin { offset: self.next, transform: 0 }] })
            .collect();
        let step = Step {
            key: &self.key,
            token: Token(1),
            from: self.next,
            to: self.next + 1,
            epoch: 0,
            digest: "d",
            note: "",
        };
        let written = self.sink.write(&step, &writes).await.unwrap();
        self.next += u64::from(written == Written::Applied);
        written
    }
}

fn stopped(result: Result<(), SinkError>) -> String {
    match result {
        Err(SinkError::Stop(reason)) => reason,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn text_of_a_stranger_stays_text() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &table("v", &["id"])).await;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    // As a key, as the name of a column, and as a value.
    let row = |text: &str| upsert("v", &format!("{{\"id\":{}}}", quoted(text)), &format!("{{{0}:{0}}}", quoted(text)));
    let set = |text: &str| Command::CacheSet { key: text.into(), value: text.into(), ttl_seconds: None };
    let commands: Vec<_> = STRANGE_TEXTS.into_iter().flat_map(|text| [row(text), set(text)]).collect();
    assert_eq!(run.write(&commands).await, Written::Applied);
    let connection = bench.look();
    for text in STRANGE_TEXTS {
        let sql = format!("SELECT \"{}\" FROM v WHERE id = ?1", text.replace('"', "\"\""));
        assert_eq!(connection.query_row(&sql, [text], |row| row.get::<_, String>(0)).unwrap(), text);
        let sql = "SELECT value FROM tidegate_cache WHERE key = ?1";
        assert_eq!(connection.query_row(sql, [text], |row| row.get::<_, String>(0)).unwrap(), text);
    }
    let count =
        |of: &str| connection.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!([count("v"), count("tidegate_cache")], [18; 2]);
}

#[tokio::test]
async fn a_table_has_the_declared_key_and_gets_each_column_as_it_appears() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &table("facts", &["b", "a"])).await;
    let rows = [
        upsert("facts", r#"{"b":1,"a":"x"}"#, r#"{"price":9.50,"odd \"name\"":true}"#),
        upsert("facts", r#"{"b":1,"a":"x"}"#, r#"{"big":18446744073709551616,"nested":{"x": [1]},"price":null}"#),
        upsert("facts", r#"{"b":2,"a":"x"}"#, "{}"),
    ];
    assert_eq!(run.write(&rows).await, Written::Applied);
    let look = bench.look();
    let sql = r#"SELECT "odd ""name""", price, big, nested, typeof(b) FROM facts WHERE b = 1 AND a = 'x'"#;
    let read: Vec<Value> = look.query_row(sql, [], |row| (0..5).map(|at| row.get(at)).collect()).unwrap();
    let text = |text: &str| Value::Text(text.into());
    let expected =
        [Value::Integer(1), Value::Null, text("18446744073709551616"), text(r#"{"x": [1]}"#), text("integer")];
    assert_eq!(read, expected);
    assert!(look.execute("INSERT INTO facts (b, a) VALUES (2, 'x')", []).is_err(), "the key is unique");
}

#[tokio::test]
async fn a_column_that_came_with_a_rejected_batch_comes_again_with_the_next() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &table("t", &["id"])).await;
    let good = upsert("t", r#"{"id":1}"#, r#"{"new":1}"#);
    let bad = Command::DocumentMerge { index: "i".into(), id: "1".into(), fields: vec![] };
    assert!(matches!(run.write(&[good.clone(), bad]).await, Written::Rejected(_)));
    assert_eq!(run.write(&[good]).await, Written::Applied);
}

/// What a write of these commands was rejected for.
fn rejected(written: Written) -> Vec<(usize, String)> {
    match written {
        Written::Rejected(bad) => bad.into_iter().map(|bad| (bad.index, bad.reason)).collect(),
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn columns_that_sqlite_cannot_add_are_a_bad_write() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &table("t", &["id"])).await;
    for name in ["rowid", "RowID", "oid", "_rowid_"] {
        let commands = [
            upsert("t", r#"{"id":1}"#, r#"{"a":1}"#),
            upsert("t", r#"{"id":2}"#, &format!("{{\"b\":1,\"{name}\":1}}")),
        ];
        let bad = rejected(run.write(&commands).await);
        assert!(matches!(bad.as_slice(), [(1, reason)] if reason.contains(name)), "{bad:?}");
        assert_eq!(run.write(&commands[..1]).await, Written::Applied);
    }
    // A declared key of that name is a column like others.
    let mut run = Run::new(bench.open_with(bench.options("other")), &table("numbered", &["rowid"])).await;
    assert_eq!(run.write(&[upsert("numbered", r#"{"rowid":"x"}"#, r#"{"a":1}"#)]).await, Written::Applied);
}

#[tokio::test]
async fn tables_of_the_ledger_and_of_sqlite_are_never_written() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &table("t", &["id"])).await;
    for name in ["tidegate_ledger", "Tidegate_Ledger", "sqlite_master", "SQLITE_schema"] {
        assert!(stopped(run.sink.prepare("p", &table(name, &["topic"])).await).contains("is taken"), "{name}");
        let commands = [upsert("t", r#"{"id":1}"#, "{}"), upsert(name, r#"{"topic":1}"#, r#"{"next_offset":9}"#)];
        let bad = rejected(run.write(&commands).await);
        assert!(matches!(bad.as_slice(), [(1, reason)] if reason.contains("no transform writes")), "{bad:?}");
    }
}

#[tokio::test]
async fn columns_of_a_bad_row_are_not_added() {
    let bench = SqliteBench::new();
    let look = bench.look();
    look.execute_batch("CREATE TABLE t (id NOT NULL, PRIMARY KEY (id))").unwrap();
    let mut tables = super::tables::Tables::new(String::new());
    let wide = format!("{{{}}}", (0..2_000).map(|n| format!("\"c{n}\":1")).collect::<Vec<_>>().join(","));
    let row = |values: &str| Row {
        table: "t".into(),
        key: parse_fields(r#"{"id":1}"#).unwrap(),
        values: parse_fields(values).unwrap(),
    };
    let columns =
        || look.query_row("SELECT count(*) FROM pragma_table_info('t')", [], |row| row.get::<_, i64>(0)).unwrap();
    // Outside of a transaction, what is added stays.
    assert!(tables.upsert(&look, &row(&wide)).is_err());
    assert!(tables.upsert(&look, &row(r#"{"a":1,"A":1}"#)).is_err());
    assert!(tables.upsert(&look, &row(r#"{"a":1,"rowid":1}"#)).is_err());
    assert!(tables.merge(&look, &row(r#"{"a":1}"#)).is_err());
    assert_eq!(columns(), 1);
    tables.upsert(&look, &row(r#"{"a":1}"#)).unwrap();
    tables.merge(&look, &row(r#"{"b":1}"#)).unwrap();
    assert_eq!(columns(), 3);
}

#[tokio::test]
async fn columns_that_differ_by_case_alone_are_a_bad_write() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &table("t", &["id"])).await;
    let rows = [upsert("t", r#"{"id":1}"#, r#"{"name":1}"#), upsert("t", r#"{"id":2}"#, r#"{"Name":1}"#)];
    let Written::Rejected(bad) = run.write(&rows).await else { unreachable!() };
    assert!(bad.len() == 1 && bad[0].index == 1 && bad[0].reason.contains("case"), "{bad:?}");
}

#[tokio::test]
async fn a_table_belongs_to_one_sink_under_one_key_and_one_spelling() {
    let bench = SqliteBench::new();
    let first = bench.open_with(bench.options("first"));
    first.prepare("p", &table("facts", &["id"])).await.unwrap();
    first.prepare("p", &table("facts", &["id"])).await.unwrap();
    assert!(stopped(first.prepare("p", &table("facts", &["other"])).await).contains("written by the key"));
    assert!(stopped(first.prepare("p", &table("Facts", &["id"])).await).contains("case"));
    assert!(stopped(first.prepare("p", &table("two", &["id", "ID"])).await).contains("case"));
    assert!(stopped(first.prepare("p", &table("tidegate_ledger", &["id"])).await).contains("table_prefix"));
    bench.look().execute_batch("CREATE TABLE own (id)").unwrap();
    assert!(stopped(first.prepare("p", &table("own", &["id"])).await).contains("not made by tidegate"));

    let second = bench.open_with(bench.options("second"));
    assert!(stopped(second.prepare("p", &table("facts", &["id"])).await).contains("belongs to the sink first"));
    let prefixed = Options { table_prefix: "second_".into(), ..bench.options("second") };
    bench.open_with(prefixed).prepare("p", &table("facts", &["id"])).await.unwrap();
    let sql = "SELECT count(*) FROM sqlite_master WHERE name IN ('facts', 'second_facts')";
    assert_eq!(bench.look().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[tokio::test]
async fn an_expired_entry_is_missing_and_then_deleted() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &Declared::default()).await;
    let set = |ttl_seconds| Command::CacheSet { key: "k".into(), value: b"{\"a\":1}".to_vec(), ttl_seconds };
    let merge =
        |ttl_seconds| Command::CacheMerge { key: "k".into(), fields: parse_fields(r#"{"b":2}"#).unwrap(), ttl_seconds };
    let value = || {
        let sql = "SELECT value FROM tidegate_cache";
        bench.look().query_row(sql, [], |row| row.get::<_, String>(0)).ok()
    };
    run.write(&[set(Some(2))]).await;
    bench.pass(1999);
    run.write(&[merge(None)]).await;
    assert_eq!(value().unwrap(), r#"{"a":1,"b":2}"#);
    bench.pass(1);
    run.write(&[merge(None)]).await;
    assert_eq!(value(), None);

    run.write(&[set(Some(2)), merge(Some(10))]).await;
    bench.pass(9999);
    run.write(&[]).await;
    assert!(value().is_some());
    bench.pass(1);
    run.write(&[]).await;
    assert_eq!(value(), None);
}

#[tokio::test]
async fn an_entry_that_is_no_object_cannot_be_merged_into() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &Declared::default()).await;
    let set = Command::CacheSet { key: "k".into(), value: vec![0xff], ttl_seconds: None };
    let merge = Command::CacheMerge { key: "k".into(), fields: vec![], ttl_seconds: None };
    run.write(&[set]).await;
    let Written::Rejected(bad) = run.write(&[merge]).await else { unreachable!() };
    assert!(bad[0].reason.contains("\"k\"") && bad[0].reason.contains("UTF-8"), "{bad:?}");
}

#[tokio::test]
async fn messages_are_kept_in_order_with_their_headers() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &Declared::default()).await;
    let headers =
        vec![Header { name: "h".into(), value: Some(b"v".to_vec()) }, Header { name: "n".into(), value: None }];
    let publish = |value: Option<&[u8]>| Command::Publish {
        topic: "events".into(),
        key: Some(b"k".to_vec()),
        value: value.map(<[u8]>::to_vec),
        headers: headers.clone(),
    };
    run.write(&[publish(Some(b"1")), publish(None), publish(Some(&[0xff]))]).await;
    let look = bench.look();
    let mut statement = look.prepare("SELECT value, headers FROM tidegate_messages ORDER BY sequence").unwrap();
    let read: Vec<(Value, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
    let headers = r#"[["h","v"],["n",null]]"#.to_owned();
    let expected = [Value::Text("1".into()), Value::Null, Value::Blob(vec![0xff])];
    assert_eq!(read, expected.map(|value| (value, headers.clone())));
}

#[tokio::test]
async fn the_seed_is_written_with_the_first_head_and_never_again() {
    let bench = SqliteBench::new();
    let seed = bench.options("s").path.with_file_name("seed.jsonl");
    let seeded = || bench.open_with(Options { seed: Some(seed.clone()), ..bench.options("s") });
    fs::write(&seed, "{\"key\":\"a\",\"value\":{\"x\": 1}}\n{\"key\":\"b\"}\n").unwrap();
    assert!(stopped(seeded().prepare("p", &Declared::default()).await).contains("line 2"));

    fs::write(&seed, "{\"key\":\"a\",\"value\":{\"x\": 1}}\n{\"key\":\"b\",\"value\":\"text\",\"ttl_seconds\":1}\n")
        .unwrap();
    let mut run = Run::new(seeded(), &Declared::default()).await;
    let entries = || {
        let look = bench.look();
        let mut statement = look.prepare("SELECT key || '=' || value FROM tidegate_cache ORDER BY key").unwrap();
        statement.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(entries(), [r#"a={"x": 1}"#, "b=text"]);
    run.write(&[Command::CacheDelete { key: "a".into() }]).await;
    drop(run);
    let again = seeded();
    again.prepare("p", &Declared::default()).await.unwrap();
    again.prepare("q", &Declared::default()).await.unwrap();
    assert_eq!(entries(), ["b=text"]);
}

#[tokio::test]
async fn sinks_that_share_a_file_do_not_see_each_other() {
    let bench = SqliteBench::new();
    let mut first = Run::new(bench.open_with(bench.options("first")), &Declared::default()).await;
    let mut second = Run::new(bench.open_with(bench.options("second")), &Declared::default()).await;
    let body = RawValue::from_string("{}".into()).unwrap();
    let index = Command::DocumentIndex { index: "i".into(), id: "1".into(), body };
    let set = Command::CacheSet { key: "k".into(), value: vec![], ttl_seconds: None };
    assert_eq!(first.write(&[index, set]).await, Written::Applied);
    let merge = Command::DocumentMerge { index: "i".into(), id: "1".into(), fields: vec![] };
    assert!(matches!(second.write(&[merge]).await, Written::Rejected(_)));
    let delete = [Command::CacheDelete { key: "k".into() }];
    assert_eq!(second.write(&delete).await, Written::Applied);
    let count = bench.look().query_row("SELECT count(*) FROM tidegate_cache", [], |row| row.get::<_, i64>(0));
    assert_eq!(count.unwrap(), 1);
}

#[tokio::test]
async fn a_ledger_that_goes_away_is_told_and_not_made_anew() {
    let bench = SqliteBench::new();
    let mut run = Run::new(bench.open_with(bench.options("s")), &Declared::default()).await;
    bench.look().execute("DELETE FROM tidegate_pipelines", []).unwrap();
    let claim = run.sink.claim(&run.key, Token(2), 0).await;
    assert!(stopped(claim.map(|_| ())).contains("tidegate_pipelines"));
    assert!(stopped(run.sink.prepare("p", &Declared::default()).await).contains("tidegate_ledger"));
    bench.look().execute("DELETE FROM tidegate_ledger", []).unwrap();
    assert_eq!(run.write(&[]).await, Written::LedgerMissing);
}

#[test]
fn a_file_that_is_something_else_stops_with_a_remedy() {
    let bench = SqliteBench::new();
    let options = bench.options("s");
    fs::write(&options.path, "this is a text of some length, and not a database at all".repeat(20)).unwrap();
    let reason = stopped(Sqlite::open(options.clone()).map(|_| ()));
    assert!(reason.contains("store.db") && reason.contains("another path"), "{reason}");
    let missing = Options { path: options.path.with_file_name("no").join("store.db"), ..options };
    assert!(stopped(Sqlite::open(missing).map(|_| ())).contains("folder"));
}
