//! What is found before the first row is written.

use super::*;

async fn faults(bench: &PostgresBench, declared: &Declared) -> String {
    let sink = Postgres::open(bench.options()).unwrap();
    let told = stopped(sink.prepare("p", declared).await);
    let lines = sink.inspect("p", declared).await.unwrap().faults;
    assert!(lines.iter().any(|line| told.contains(line)), "{told}: {lines:?}");
    assert!(!sink.knows("p").await.unwrap(), "nothing is entered before all is well");
    told
}

#[tokio::test]
async fn a_table_that_is_not_as_declared_is_told_with_the_remedy() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE bare (id int, other int); CREATE TABLE partial (id int); CREATE TABLE deferred (id int);
         CREATE UNIQUE INDEX ON partial (id) WHERE id > 0; CREATE TABLE wide (id int, n int, UNIQUE (id, n));
         ALTER TABLE deferred ADD UNIQUE (id) DEFERRABLE; CREATE VIEW seen AS SELECT * FROM bare;
         CREATE TABLE ruled (id int PRIMARY KEY); CREATE RULE r AS ON INSERT TO ruled DO ALSO NOTHING;
         CREATE DOMAIN sure AS int NOT NULL; CREATE TABLE domained (id int PRIMARY KEY, n sure);
         CREATE TABLE computed (n int, id int GENERATED ALWAYS AS (n + 1) STORED UNIQUE);
         CREATE TABLE expression (id text); CREATE UNIQUE INDEX ON expression (lower(id))",
    );
    for (name, words) in [
        ("absent", r#"CREATE TABLE "public"."absent" ("id" … NOT NULL, …, PRIMARY KEY ("id"))"#),
        ("nowhere.absent", r#"CREATE TABLE "nowhere"."absent""#),
        ("bare", r#"ALTER TABLE "public"."bare" ADD UNIQUE ("id")"#),
        ("partial", "no unique constraint"),
        ("wide", "no unique constraint"),
        ("expression", "no unique constraint"),
        ("deferred", "NOT DEFERRABLE"),
        ("seen", "a view"),
        ("ruled", "rule"),
        ("domained", "ALTER DOMAIN sure"),
        ("computed", "computes its key column"),
        (&"x".repeat(64), "63 bytes"),
    ] {
        let told = faults(&bench, &table(name, &["id"])).await;
        assert!(told.contains(words), "{told}");
    }
    assert!(faults(&bench, &table("bare", &["key"])).await.contains(r#"no column "key""#));
}

#[tokio::test]
async fn tables_of_the_ledger_and_the_database_are_never_written() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    for (name, key) in [
        ("tidegate.ledger", "next_offset"),
        ("\"tidegate\".ledger", "next_offset"),
        ("TideGate.ledger", "next_offset"),
        ("pg_catalog.pg_authid", "rolname"),
        ("Pg_Catalog.pg_authid", "rolname"),
        ("pg_toast.pg_toast_1", "chunk_id"),
        ("pg_temp.x", "id"),
        ("information_schema.tables", "table_name"),
        ("tidegate_rewind_1.t", "id"),
    ] {
        let sink = Postgres::open(bench.options()).unwrap();
        let declared = table(name, &[key]);
        assert!(stopped(sink.prepare("p", &declared).await).contains("no transform writes"), "{name}");
        assert!(sink.inspect("p", &declared).await.unwrap().faults[0].contains("no transform writes"), "{name}");
        let key = format!("{{\"{key}\":1}}");
        for command in [upsert(name, &key, "{}"), merge(name, &key, r#"{"x":1}"#), delete(name, &key)] {
            let bad = run.rejected(&[upsert("t", r#"{"id":"1"}"#, "{}"), command]).await;
            assert!(bad.len() == 1 && bad[0].index == 1 && bad[0].reason.contains("no transform writes"), "{bad:?}");
        }
    }
    assert_eq!(texts(&one(&bench, "SELECT next_offset FROM tidegate.ledger")), ["0"]);
}

#[tokio::test]
async fn a_unique_index_on_the_key_will_do_whatever_the_order_of_its_columns() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE v (a int, b int, c int); CREATE UNIQUE INDEX ON v (b, a) INCLUDE (c);
         CREATE TABLE parts (a int, b int, PRIMARY KEY (a, b)) PARTITION BY RANGE (a);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
    );
    for name in ["v", "parts"] {
        let mut run = Run::new(&bench, &table(name, &["a", "b"])).await;
        run.next = run.sink.claim(&run.key, Token(1), 0).await.unwrap().next;
        run.applied(&[upsert(name, r#"{"a":1,"b":2}"#, "{}")]).await;
        assert_eq!(texts(&one(&bench, &format!("SELECT a, b FROM {name}"))), ["1", "2"]);
    }
}

#[tokio::test]
async fn what_may_hold_a_partition_is_noted_and_no_fault() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE v (id int PRIMARY KEY, email text CONSTRAINT one_mail UNIQUE,
             parent int CONSTRAINT has_parent REFERENCES parent, EXCLUDE (email WITH =));
         CREATE TABLE child (v int CONSTRAINT of_v REFERENCES v);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
         CREATE TRIGGER watch BEFORE INSERT ON v FOR EACH ROW EXECUTE FUNCTION f()",
    );
    let sink = Postgres::open(bench.options()).unwrap();
    let Inspection { faults, notes: lines } = sink.inspect("p", &table("v", &["id"])).await.unwrap();
    assert_eq!(faults, [""; 0]);
    for words in ["one_mail", "has_parent to parent", "of_v of child", "exclusion", "trigger watch"] {
        assert_eq!(lines.iter().filter(|line| line.contains(words)).count(), 1, "{words}: {lines:#?}");
    }
    sink.prepare("p", &table("v", &["id"])).await.unwrap();
    let found = sink.inspect("p", &table("parent", &["id"])).await.unwrap();
    assert!(found.faults.is_empty() && found.notes.len() == 1 && found.notes[0].contains("has_parent"), "{found:?}");
    assert_eq!(sink.inspect("p", &table("t", &["id"])).await.unwrap(), Inspection::default());
}

#[tokio::test]
async fn a_privilege_that_is_lacking_is_named_with_its_grant() {
    let bench = PostgresBench::new();
    let role = format!("{}_user", bench.database);
    bench.sql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON t TO {role}"));
    let mut options = bench.options();
    options.url = options.url.replace("postgres@", &format!("{role}@"));
    let sink = Postgres::open(options).unwrap();
    let told = stopped(sink.prepare("p", &table("t", &["id"])).await);
    assert!(told.contains("GRANT UPDATE, DELETE ON \"public\".\"t\""), "{told}");
    bench.sql(&format!("GRANT UPDATE, DELETE ON t TO {role}"));
    let told = stopped(sink.prepare("p", &table("t", &["id"])).await);
    assert!(told.contains("CREATE SCHEMA \"tidegate\" AUTHORIZATION"), "{told}");
    bench.sql("CREATE SCHEMA tidegate");
    let told = stopped(sink.prepare("p", &table("t", &["id"])).await);
    assert!(told.contains("GRANT USAGE, CREATE ON SCHEMA \"tidegate\""), "{told}");
    bench.sql(&format!("GRANT USAGE, CREATE ON SCHEMA tidegate TO {role}"));
    sink.prepare("p", &table("t", &["id"])).await.unwrap();
    bench.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_ledger() {
    let bench = PostgresBench::new();
    let declared = table("t", &["id"]);
    let sinks: Vec<_> = (0..6).map(|_| Postgres::open(bench.options()).unwrap()).collect();
    let starts = sinks.iter().map(|sink| sink.prepare("p", &declared));
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    assert_eq!(texts(&one(&bench, "SELECT pipeline, sink FROM tidegate.pipelines")), ["p", "store"]);
    bench.sql("UPDATE tidegate.version SET version = 99");
    assert!(stopped(sinks[0].prepare("q", &declared).await).contains("version 99"));
}
