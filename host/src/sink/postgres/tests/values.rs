//! What becomes of values, names and keys.

use super::*;
use crate::sink::testing::STRANGE_TEXTS;

#[tokio::test]
async fn values_are_converted_by_the_type_of_their_column() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TYPE mood AS ENUM ('fine', 'bad'); CREATE TYPE pair AS (n int, s text);
         CREATE DOMAIN digest AS bytea;
         CREATE TABLE v (id numeric PRIMARY KEY, big numeric, small numeric(10, 2), t text, js json, jb jsonb, jstr jsonb,
             texts text[], moods mood[], m mood, b bytea, hex bytea, d digest, z timestamptz, f bool, p pair, day date,
             gone text)",
    );
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let values = r#"{"big":123456789012345678901234567890.123456789, "small":9.5, "t":"a\"b\u0041🚚",
        "js":{"x":  1.50, "x":2}, "jb":{"b":1.50,"a":[null]}, "jstr":"text", "texts":["a","b,c",null],
        "moods":["bad"], "m":"fine", "b":"AQID", "hex":"\\x0a0b", "d":"/w==", "z":"2024-02-29T23:59:59.123456Z",
        "f":true, "p":{"n":1,"s":"x"}, "day":"2024-02-29", "gone":null}"#;
    run.applied(&[upsert("v", r#"{"id":18446744073709551616}"#, values)]).await;
    let read = one(&bench, "SET timezone = 'Asia/Tokyo'; SELECT * FROM v");
    let expected = [
        "18446744073709551616",
        "123456789012345678901234567890.123456789",
        "9.50",
        "a\"bA🚚",
        r#"{"x":  1.50, "x":2}"#,
        r#"{"a": [null], "b": 1.50}"#,
        "\"text\"",
        r#"{a,"b,c",NULL}"#,
        "{bad}",
        "fine",
        "\\x010203",
        "\\x0a0b",
        "\\xff",
        "2024-03-01 08:59:59.123456+09",
        "t",
        "(1,x)",
        "2024-02-29",
        "NULL",
    ];
    assert_eq!(texts(&read), expected);
}

#[tokio::test]
async fn columns_that_are_left_out_stay_and_null_is_a_value() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id int PRIMARY KEY, a int, b int DEFAULT 7)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    run.applied(&[upsert("v", r#"{"id":1}"#, r#"{"a":1}"#), upsert("v", r#"{"id":2}"#, "{}")]).await;
    run.applied(&[upsert("v", r#"{"id":1}"#, r#"{"a":null}"#), merge("v", r#"{"id":2}"#, r#"{"a":2}"#)]).await;
    run.applied(&[merge("v", r#"{"id":2}"#, "{}"), upsert("v", r#"{"id":2}"#, "{}")]).await;
    let rows = bench.sql("SELECT * FROM v ORDER BY id");
    assert_eq!(rows.iter().map(|row| texts(row)).collect::<Vec<_>>(), [["1", "NULL", "7"], ["2", "2", "7"]]);
    let bad = run.rejected(&[merge("v", r#"{"id":3}"#, "{}"), merge("v", r#"{"id":2}"#, r#"{"a":3}"#)]).await;
    assert!(bad.len() == 1 && bad[0].index == 0 && bad[0].reason.contains("no row"), "{bad:?}");
    run.applied(&[delete("v", r#"{"id":1}"#), delete("v", r#"{"id":9}"#)]).await;
    assert_eq!(texts(&one(&bench, "SELECT id FROM v")), ["2"]);
}

#[tokio::test]
async fn names_are_taken_exactly() {
    let bench = PostgresBench::new();
    bench.sql(
        r#"CREATE SCHEMA "Sales Data"; CREATE TABLE "Sales Data"."Order ""Lines""" ("Id" int, "select" text, "a'b" text,
           id int, PRIMARY KEY ("Id", "select"))"#,
    );
    let name = r#"Sales Data.Order "Lines""#;
    let mut run = Run::new(&bench, &table(name, &["Id", "select"])).await;
    run.applied(&[upsert(name, r#"{"Id":1,"select":"x"}"#, r#"{"a'b":"1","id":5}"#)]).await;
    run.applied(&[merge(name, r#"{"Id":1,"select":"x"}"#, r#"{"a'b":"2"}"#)]).await;
    let read = one(&bench, r#"SELECT * FROM "Sales Data"."Order ""Lines""""#);
    assert_eq!(texts(&read), ["1", "x", "2", "5"]);
    run.applied(&[delete(name, r#"{"Id":1,"select":"x"}"#)]).await;
    assert!(bench.sql(r#"SELECT 1 FROM "Sales Data"."Order ""Lines""""#).is_empty());
}

#[tokio::test]
async fn text_of_a_stranger_stays_text() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id text PRIMARY KEY, a text, js jsonb, n float8)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (key, all) = (
        |text: &str| format!("{{\"id\":{}}}", quoted(text)),
        |text: &str| format!("{{\"a\":{0},\"js\":{{{0}:{0}}},\"n\":\"NaN\"}}", quoted(text)),
    );
    let long = "'\"\\".repeat(500_000);
    let texts = || STRANGE_TEXTS.into_iter().chain([""]);
    let mut rows: Vec<_> = texts().map(|text| upsert("v", &key(text), &all(text))).collect();
    rows.push(upsert("v", &key("long"), &all(&long)));
    run.applied(&rows).await;
    run.applied(&texts().map(|text| merge("v", &key(text), &all(text))).collect::<Vec<_>>()).await;
    let client = bench.connect().await;
    for (name, text) in texts().map(|text| (text, text)).chain([("long", long.as_str())]) {
        let sql = "SELECT a, js->>$2, n::text FROM v WHERE id = $1";
        let row = client.query_one(sql, &[&name, &text]).await.unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (text, text, "NaN"), "{name:?}");
    }
    run.applied(&texts().map(|text| delete("v", &key(text))).collect::<Vec<_>>()).await;
    assert_eq!(texts_of(&bench, "SELECT id FROM v"), ["long"]);
}

fn texts_of(bench: &PostgresBench, sql: &str) -> Vec<String> {
    bench.sql(sql).into_iter().flatten().flatten().collect()
}

#[tokio::test]
async fn what_a_column_cannot_hold_is_its_own_record_alone() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id text PRIMARY KEY, a text, js jsonb, n int)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    // More than an index takes, and not to be compressed.
    let long: String = (0..2000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_769))).collect();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let rows = [
        upsert("v", r#"{"id":"nul"}"#, r#"{"a":"x\u0000y"}"#),
        upsert("v", r#"{"id":"fine"}"#, r#"{"a":"1"}"#),
        upsert("v", r#"{"id":"nul in json"}"#, r#"{"js":{"a":"\u0000"}}"#),
        upsert("v", r#"{"id":"nan"}"#, r#"{"n":"NaN"}"#),
        upsert("v", r#"{"id":"huge"}"#, r#"{"n":1e400}"#),
        upsert("v", &format!("{{\"id\":\"{long}\"}}"), "{}"),
        upsert("v", r#"{"id":"deep"}"#, &format!("{{\"js\":{deep}}}")),
        upsert("v", r#"{"id":"fine too"}"#, r#"{"a":"2"}"#),
    ];
    let bad = run.rejected(&rows).await;
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6], "{bad:?}");
    assert!(bad.iter().all(|bad| bad.reason.contains('[')), "without the server's code: {bad:?}");
    run.applied(&[rows[1].clone(), rows[7].clone()]).await;
    assert_eq!(texts_of(&bench, "SELECT id FROM v ORDER BY id"), ["fine", "fine too"]);
}

#[tokio::test]
async fn a_name_that_would_be_cut_off_is_a_bad_write() {
    let bench = PostgresBench::new();
    let cut = "x".repeat(63);
    bench.sql(&format!("CREATE TABLE v (id int PRIMARY KEY, {cut} text)"));
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let bad = run.rejected(&[upsert("v", r#"{"id":1}"#, &format!("{{\"{cut}y\":\"a\"}}"))]).await;
    assert!(bad[0].reason.contains("63 bytes"), "{bad:?}");
}

#[tokio::test]
async fn identity_columns_take_the_sources_values_and_computed_ones_none() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE v (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,
             twice int GENERATED ALWAYS AS (a * 2) STORED, n int GENERATED BY DEFAULT AS IDENTITY)",
    );
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    run.applied(&[upsert("v", r#"{"id":41}"#, r#"{"a":1,"n":5}"#)]).await;
    run.applied(&[upsert("v", r#"{"id":41}"#, r#"{"a":2,"n":6}"#), merge("v", r#"{"id":41}"#, r#"{"a":3}"#)]).await;
    assert_eq!(texts(&one(&bench, "SELECT * FROM v")), ["41", "3", "6", "6"]);
    let bad = run.rejected(&[upsert("v", r#"{"id":42}"#, r#"{"a":1,"twice":2}"#)]).await;
    assert!(bad[0].reason.contains("twice"), "{bad:?}");
}

#[tokio::test]
async fn keys_that_postgresql_takes_for_one_are_written_in_order() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id numeric PRIMARY KEY, a int, b int)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    run.applied(&[upsert("v", r#"{"id":1}"#, r#"{"a":1}"#), upsert("v", r#"{"id":1.0}"#, r#"{"a":2}"#)]).await;
    assert_eq!(texts(&one(&bench, "SELECT a FROM v")), ["2"]);
    run.applied(&[merge("v", r#"{"id":1.0}"#, r#"{"a":3}"#), merge("v", r#"{"id":1}"#, r#"{"a":4}"#)]).await;
    assert_eq!(texts(&one(&bench, "SELECT a FROM v")), ["4"]);
    // The same row again and again, in statements of different kinds.
    let batch = [
        delete("v", r#"{"id":"1"}"#),
        upsert("v", r#"{"id":1}"#, r#"{"b":1}"#),
        upsert("v", r#"{"id":2}"#, r#"{"b":1}"#),
        delete("v", r#"{"id":2}"#),
        upsert("v", r#"{"id":2}"#, r#"{"a":9}"#),
        merge("v", r#"{"id":2}"#, r#"{"b":8}"#),
        merge("v", r#"{"id":2}"#, r#"{"b":7}"#),
    ];
    run.applied(&batch).await;
    let rows = bench.sql("SELECT a, b FROM v ORDER BY id");
    assert_eq!(rows.iter().map(|row| texts(row)).collect::<Vec<_>>(), [["NULL", "1"], ["9", "7"]]);
    // A number and the same as text are one key: the last row does not join the first one's statement.
    let batch = [
        upsert("v", r#"{"id":3}"#, r#"{"a":0}"#),
        upsert("v", r#"{"id":"4"}"#, r#"{"a":1,"b":1}"#),
        upsert("v", r#"{"id":4}"#, r#"{"a":2}"#),
    ];
    run.applied(&batch).await;
    assert_eq!(texts(&one(&bench, "SELECT a, b FROM v WHERE id = 4")), ["2", "1"]);
}

#[tokio::test]
async fn all_bad_rows_of_a_thousand_are_named_with_column_and_cause() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id int PRIMARY KEY, n int NOT NULL CHECK (n <> 13), t varchar(3), f bytea)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let values = |id: u32| match id {
        100 => r#"{"n":"many"}"#,
        200 => r#"{"n":null}"#,
        300 => r#"{"n":13}"#,
        400 => r#"{"n":1,"t":"four"}"#,
        500 => r#"{"n":1,"t":"a\u0000"}"#,
        600 => r#"{"n":3000000000}"#,
        700 => r#"{"n":1,"f":"no base64"}"#,
        _ => r#"{"n":1}"#,
    };
    let all: Vec<_> = (0..1000).map(|id| upsert("v", &format!("{{\"id\":{id}}}"), values(id))).collect();
    let bad = run.rejected(&all).await;
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [100, 200, 300, 400, 500, 600, 700]);
    for (BadWrite { index, reason, .. }, words) in
        bad.iter().zip(["many", "null", "v_n_check", "too long", "u0000", "3000000000", "base64"])
    {
        assert!(reason.contains(words) && reason.contains("\"v\""), "{reason}");
        let column = match index {
            300 => continue,
            400 | 500 => "\"t\"",
            700 => "\"f\"",
            _ => "\"n\"",
        };
        assert!(reason.contains(column), "{reason}");
    }
    assert!(bench.sql("SELECT 1 FROM v").is_empty(), "nothing was changed");
    let rest = all.iter().enumerate().filter(|(at, _)| !bad.iter().any(|bad| bad.index == *at));
    let rest: Vec<_> = rest.map(|(_, command)| command.clone()).collect();
    run.applied(&rest).await;
    assert_eq!(texts(&one(&bench, "SELECT count(*) FROM v")), ["993"]);
}

#[tokio::test]
async fn an_altered_table_is_written_as_it_is_now() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id int PRIMARY KEY, a numeric(10, 1), b text)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let batch = [upsert("v", r#"{"id":1}"#, r#"{"a":1.25}"#)];
    run.applied(&batch).await;
    bench
        .sql("ALTER TABLE v DROP COLUMN b; ALTER TABLE v ALTER a TYPE numeric(10, 3), ALTER id TYPE bigint, ADD c int");
    run.applied(&[upsert("v", r#"{"id":1}"#, r#"{"a":1.255}"#)]).await;
    run.applied(&[upsert("v", r#"{"id":3000000000}"#, r#"{"a":1}"#)]).await;
    let rows = bench.sql("SELECT a FROM v ORDER BY id");
    assert_eq!(rows.iter().map(|row| texts(row)).collect::<Vec<_>>(), [["1.255"], ["1.000"]]);
}

#[tokio::test]
async fn arrays_of_bytes_are_base64_too() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE DOMAIN digest AS bytea; CREATE DOMAIN digests AS bytea[];
         CREATE TABLE v (id int PRIMARY KEY, many bytea[], of_domain digest[], domain_of digests, text text[])",
    );
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let values =
        r#"{"many":["AQI=",null,"\\x0a",""], "of_domain":["/w=="], "domain_of":[["AQI="],["AQ=="]], "text":["AQI="]}"#;
    run.applied(&[upsert("v", r#"{"id":1}"#, values)]).await;
    let expected = ["1", r#"{"\\x0102",NULL,"\\x0a","\\x"}"#, r#"{"\\xff"}"#, r#"{{"\\x0102"},{"\\x01"}}"#, "{AQI=}"];
    assert_eq!(texts(&one(&bench, "SELECT * FROM v")), expected);
    // As PostgreSQL spells an array.
    run.applied(&[upsert("v", r#"{"id":1}"#, r#"{"many":"{\"\\\\x03\"}"}"#)]).await;
    assert_eq!(texts(&one(&bench, "SELECT many FROM v")), [r#"{"\\x03"}"#]);
    let bad = run.rejected(&[upsert("v", r#"{"id":1}"#, r#"{"many":["no base64"]}"#)]).await;
    assert!(bad[0].reason.contains("many") && bad[0].reason.contains("base64"), "{bad:?}");
}
