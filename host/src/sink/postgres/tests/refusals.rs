//! Whose an error is that the server reports: the row's, or not.

use super::*;

/// Writes two rows of a table `v`, the first of them without `v`.
async fn beside_a_good_row(bench: &PostgresBench, schema: &str, value: &str) -> Result<Written, SinkError> {
    bench.sql(schema);
    let mut run = Run::new(bench, &table("v", &["id"])).await;
    run.try_write(&[upsert("v", r#"{"id":1}"#, "{}"), upsert("v", r#"{"id":2}"#, value)]).await
}

fn refused(told: Result<Written, SinkError>) -> (usize, String) {
    match told {
        Ok(Written::Rejected(bad)) if bad.len() == 1 => (bad[0].index, bad[0].reason.clone()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn value_its_type_cannot_parse_is_rejected() {
    for (of, extension, value, code) in [
        ("tsvector", "", "a '", "42601"),
        ("tsquery", "", "a b", "42601"),
        ("jsonpath", "", "{", "42601"),
        ("jsonpath", "", r#"$ ? (@ like_regex \"a\" flag \"x\")"#, "0A000"),
        ("ltree", "CREATE EXTENSION ltree;", "a b", "42601"),
        ("hstore", "CREATE EXTENSION hstore;", r#"{\"a\":1}"#, ""),
    ] {
        let schema = format!("{extension} CREATE TABLE v (id int PRIMARY KEY, v {of})");
        let value = format!("{{\"v\":\"{value}\"}}");
        let bench = PostgresBench::new();
        let (index, reason) = refused(beside_a_good_row(&bench, &schema, &value).await);
        assert!(index == 1 && reason.contains(code), "{of}: {reason}");
        assert!(reason.contains("key 2, column \"v\""), "{of}: {reason}");
        // By itself too, with no other row to compare with.
        let mut run = Run { sink: Postgres::open(bench.options()).unwrap(), key: ledger_key(), next: 0 };
        run.sink.claim(&run.key, Token(1), 0).await.unwrap();
        assert_eq!(refused(run.try_write(&[upsert("v", r#"{"id":2}"#, &value)]).await).0, 0, "{of}");
    }
}

#[tokio::test]
async fn trigger_with_its_own_code_refuses_its_row() {
    for raised in ["UX001", "38000", "20000", "XX000"] {
        for of in ["TRIGGER judge BEFORE INSERT OR UPDATE", "CONSTRAINT TRIGGER judge AFTER INSERT OR UPDATE"] {
            let deferred = if of.starts_with('C') { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
            let schema = format!(
                "CREATE TABLE v (id int PRIMARY KEY, n int);
                 CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.n < 0 THEN
                   RAISE EXCEPTION ''negative'' USING ERRCODE = ''{raised}''; END IF; RETURN NEW; END';
                 CREATE {of} ON v {deferred} FOR EACH ROW EXECUTE FUNCTION judge()"
            );
            let (index, reason) = refused(beside_a_good_row(&PostgresBench::new(), &schema, r#"{"n":-1}"#).await);
            assert!(index == 1 && reason.contains(raised), "{of}: {reason}");
        }
    }
}

#[tokio::test]
async fn row_that_a_policy_refuses_is_rejected() {
    let bench = PostgresBench::new();
    let role = format!("{}_user", bench.database);
    bench.sql(&format!(
        "CREATE ROLE {role} LOGIN; CREATE SCHEMA tidegate AUTHORIZATION {role};
         CREATE TABLE v (id int PRIMARY KEY, n int); GRANT SELECT, INSERT, UPDATE, DELETE ON v TO {role};
         ALTER TABLE v ENABLE ROW LEVEL SECURITY; CREATE POLICY small ON v USING (true) WITH CHECK (n < 10)"
    ));
    let mut options = bench.options();
    options.url = options.url.replace("postgres@", &format!("{role}@"));
    let mut run = Run::with(Postgres::open(options).unwrap(), &table("v", &["id"])).await;
    let rows = [upsert("v", r#"{"id":1}"#, r#"{"n":1}"#), upsert("v", r#"{"id":2}"#, r#"{"n":10}"#)];
    let (index, reason) = refused(run.try_write(&rows).await);
    assert!(index == 1 && reason.contains("policy"), "{reason}");
    bench.sql(&format!("REVOKE INSERT ON v FROM {role}"));
    assert!(stopped(run.try_write(&rows[..1]).await).contains("GRANT"));
    bench.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test]
async fn error_of_each_statement_stops_or_is_retried() {
    for (raised, stops) in [("UX001", true), ("XX000", false)] {
        // No row is needed to have this fail.
        let schema = format!(
            "CREATE TABLE v (id int PRIMARY KEY, n int);
             CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
               RAISE EXCEPTION ''closed'' USING ERRCODE = ''{raised}''; END';
             CREATE TRIGGER judge BEFORE INSERT ON v FOR EACH STATEMENT EXECUTE FUNCTION judge()"
        );
        let told = beside_a_good_row(&PostgresBench::new(), &schema, "{}").await;
        let reason = if stops { stopped(told) } else { passing(told) };
        assert!(reason.contains(raised), "{reason}");
    }
}

#[tokio::test]
async fn internal_error_of_each_row_is_retried() {
    let schema = "CREATE TABLE v (id int PRIMARY KEY, n int);
                  CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
                    RAISE EXCEPTION ''broken'' USING ERRCODE = ''XX000''; END';
                  CREATE TRIGGER judge BEFORE INSERT ON v FOR EACH ROW EXECUTE FUNCTION judge()";
    assert!(passing(beside_a_good_row(&PostgresBench::new(), schema, "{}").await).contains("broken"));
}

#[tokio::test]
async fn row_behind_a_rejected_delete_is_kept() {
    use crate::command::collapse::{Parts, Tagged, collapse, judge};
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
         CREATE TABLE child (id int PRIMARY KEY, parent int);
         CREATE FUNCTION there() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN IF NOT EXISTS (SELECT 1 FROM parent WHERE id = NEW.parent) THEN
            RAISE EXCEPTION ''no parent %'', NEW.parent; END IF; RETURN NEW; END';
         CREATE TRIGGER there BEFORE INSERT OR UPDATE ON child FOR EACH ROW EXECUTE FUNCTION there()",
    );
    let mut declared = table("parent", &["id"]);
    declared.tables.extend(table("child", &["id"]).tables);
    let run = Run::new(&bench, &declared).await;
    let tagged = |offset, command| Tagged { offset, transform: 0, command };
    let all = [
        tagged(0, delete("parent", r#"{"id":1}"#)),
        tagged(0, merge("child", r#"{"id":404}"#, r#"{"parent":1}"#)),
        tagged(1, upsert("child", r#"{"id":1}"#, r#"{"parent":1}"#)),
        tagged(2, upsert("child", r#"{"id":2}"#, r#"{"parent":"x"}"#)),
    ];
    let writes = collapse(&all, &Parts::of(&all), &Default::default(), &run.sink.reach());
    let step = Step { key: &run.key, token: Token(1), from: 0, to: 3, epoch: 0, digest: "d", note: "" };
    let Written::Rejected(bad) = run.sink.write(&step, &writes).await.unwrap() else { panic!("nothing is refused") };
    let verdict = judge(&all, &writes, &bad);
    let offsets: Vec<u64> = verdict.rejected.iter().map(|(origin, _)| origin.offset).collect();
    assert_eq!(offsets, [0, 2], "the parent of row 1 stays: {verdict:?}");
}
