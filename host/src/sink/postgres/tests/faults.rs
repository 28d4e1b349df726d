//! Clashes, locks, lost connections and what an operator does while a pipeline runs.

use std::net::TcpListener;
use std::time::Duration;

use super::super::connect::Address;
use super::super::tls::TlsFiles;
use super::*;
use crate::sink::testing::proxy::Proxy;

/// The options of the sink with a proxy before the server.
pub(super) fn behind_proxy(bench: &PostgresBench) -> (super::super::Options, Proxy) {
    let url = bench.url();
    let (before, server) = url.split_once("@").unwrap();
    let (server, database) = server.split_once('/').unwrap();
    let proxy = Proxy::start(server.parse().unwrap());
    let url = format!("{before}@{}/{database}", proxy.address);
    (super::super::Options { url, ..bench.options() }, proxy)
}

#[tokio::test]
async fn what_another_partition_may_clear_clashes() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE v (id int PRIMARY KEY, email text UNIQUE, parent int REFERENCES parent, n int)",
    );
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    run.applied(&[upsert("v", r#"{"id":1}"#, r#"{"email":"a"}"#)]).await;
    let batch = [
        upsert("v", r#"{"id":2}"#, r#"{"email":"a"}"#),
        upsert("v", r#"{"id":3}"#, r#"{"parent":7}"#),
        upsert("v", r#"{"id":4}"#, r#"{"n":"x"}"#),
        upsert("v", r#"{"id":5}"#, r#"{"n":1}"#),
    ];
    let Written::Clashes(bad) = run.write(&batch).await else { panic!("no clash") };
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(bad[0].reason.contains("v_email_key") && bad[1].reason.contains("v_parent_fkey"), "{bad:?}");
    bench.sql("INSERT INTO parent VALUES (7)");
    // A value that moves within the batch is no clash, in whichever statements the rows are.
    let moved = [
        delete("v", r#"{"id":1}"#),
        upsert("v", r#"{"id":3}"#, r#"{"parent":7}"#),
        upsert("v", r#"{"id":2}"#, r#"{"email":"a"}"#),
        upsert("v", r#"{"id":2}"#, r#"{"email":"b"}"#),
        upsert("v", r#"{"id":6}"#, r#"{"email":"a"}"#),
    ];
    run.applied(&moved).await;
    assert_eq!(
        texts(&one(&bench, "SELECT string_agg(id || coalesce(email, ''), ' ' ORDER BY id) FROM v")),
        ["2b 3 6a"]
    );
}

#[tokio::test]
async fn constraints_that_wait_for_the_commit_name_their_rows() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id int PRIMARY KEY, parent int REFERENCES v DEFERRABLE INITIALLY DEFERRED)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let child = |id: u32, parent: u32| upsert("v", &format!("{{\"id\":{id}}}"), &format!("{{\"parent\":{parent}}}"));
    // A child before its parent is what they wait for.
    run.applied(&[child(1, 2), upsert("v", r#"{"id":2}"#, "{}")]).await;
    let batch = [child(3, 4), child(5, 9), upsert("v", r#"{"id":4}"#, "{}")];
    let Written::Clashes(bad) = run.write(&batch).await else { panic!("no clash") };
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1], "{bad:?}");
    run.applied(&[child(3, 4), upsert("v", r#"{"id":4}"#, "{}")]).await;
}

#[tokio::test]
async fn a_trigger_that_raises_rejects_its_row() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE v (id int PRIMARY KEY);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN IF new.id = 2 THEN RAISE ''not two''; END IF; RETURN new; END';
         CREATE TRIGGER watch BEFORE INSERT ON v FOR EACH ROW EXECUTE FUNCTION f()",
    );
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    let bad = run.rejected(&[1, 2, 3].map(|id| upsert("v", &format!("{{\"id\":{id}}}"), "{}"))).await;
    assert!(bad.len() == 1 && bad[0].index == 1 && bad[0].reason.contains("not two"), "{bad:?}");
}

#[tokio::test]
async fn column_that_the_table_never_had_is_a_bad_write() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    let good = upsert("t", r#"{"id":"1"}"#, r#"{"a":1}"#);
    for name in ["never", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid", "é", "A"] {
        for row in [upsert, merge] {
            let bad = row("t", r#"{"id":"1"}"#, &format!("{{\"b\":1,\"{name}\":\"(0,1)\"}}"));
            let found = run.rejected(&[good.clone(), bad]).await;
            assert!(found.len() == 1 && found[0].index == 1 && found[0].reason.contains(name), "{name}: {found:?}");
        }
    }
    let wide: Vec<_> = (0..1_700).map(|n| format!("\"c{n}\":1")).collect();
    let bad = run.rejected(&[upsert("t", r#"{"id":"1"}"#, &format!("{{{}}}", wide.join(",")))]).await;
    assert_eq!(bad.len(), 1, "{bad:?}");
    run.applied(&[good]).await;
}

#[tokio::test]
async fn a_column_or_table_that_goes_stops_and_coming_back_goes_on() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    let batch = [upsert("t", r#"{"id":"1"}"#, r#"{"a":1}"#)];
    run.applied(&batch).await;
    bench.sql("ALTER TABLE t DROP COLUMN a");
    let told = stopped(run.try_write(&batch).await);
    assert!(told.contains("\"a\"") && told.contains("ADD COLUMN") && told.contains(&bench.database), "{told}");
    bench.sql("ALTER TABLE t ADD COLUMN a json");
    run.applied(&batch).await;
    bench.sql("ALTER TABLE t RENAME TO gone");
    assert!(stopped(run.try_write(&batch).await).contains("create the table"));
    bench.sql("ALTER TABLE gone RENAME TO t; ALTER TABLE t DROP CONSTRAINT t_pkey");
    assert!(stopped(run.try_write(&batch).await).contains("unique index"));
    bench.sql("ALTER TABLE t ADD PRIMARY KEY (id)");
    run.applied(&batch).await;
}

#[tokio::test]
async fn read_only_server_is_waited_for_and_told() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    let batch = [upsert("t", r#"{"id":"1"}"#, r#"{"a":1}"#)];
    run.applied(&batch).await;
    let switch = |mode: &str| {
        let database = &bench.database;
        bench.sql(&format!(
            "SET TRANSACTION READ WRITE; ALTER DATABASE {database} SET default_transaction_read_only = {mode}"
        ));
        bench.sql(
            "SET default_transaction_read_only = off; SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'tidegate' AND datname = current_database()",
        );
    };
    switch("on");
    let told = loop {
        let told = passing(run.try_write(&batch).await);
        if told.contains("25006") {
            break told;
        }
    };
    assert!(told.contains("target_session_attrs=read-write") && told.contains("primary"), "{told}");
    let found = run.sink.inspect("p", &table("t", &["id"])).await.unwrap();
    assert!(found.faults.iter().any(|fault| fault.contains("takes no writes")), "{found:?}");
    switch("off");
    while run.try_write(&batch).await.is_err() {}
    assert_eq!(texts(&one(&bench, "SELECT a FROM t")), ["1"]);
}

#[tokio::test]
async fn a_backend_that_dies_in_mid_write_leaves_nothing_and_the_next_try_is_whole() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    let other = bench.connect().await;
    other.batch_execute("BEGIN; INSERT INTO t VALUES ('2')").await.unwrap();
    let batch = [upsert("t", r#"{"id":"1"}"#, "{}"), upsert("t", r#"{"id":"2"}"#, "{}")];
    let kill = async {
        // Waits until the write hangs on the row that the other transaction has made.
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while other.query(sql, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let (written, ()) = futures_util::future::join(run.try_write(&batch), kill).await;
    passing(written);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(bench.sql("SELECT 1 FROM t").is_empty());
    run.applied(&batch).await;
    assert_eq!(texts(&one(&bench, "SELECT count(*) FROM t")), ["2"]);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_known_to_be_done_and_one_that_was_lost_is_done_again() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE states (id text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO states VALUES (NEW.id); RETURN NULL; END';
         CREATE TRIGGER note AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
    );
    let (options, proxy) = behind_proxy(&bench);
    let mut run = Run::with(Postgres::open(options).unwrap(), &table("t", &["id"])).await;

    // A batch that goes out in one piece, and one that has to look at what its merge found.
    let batches = [
        vec![upsert("t", r#"{"id":"1"}"#, r#"{"a":0}"#), upsert("t", r#"{"id":"2"}"#, r#"{"a":0}"#)],
        vec![merge("t", r#"{"id":"1"}"#, r#"{"a":1}"#)],
    ];
    for (batch, states) in batches.iter().zip(["2", "5"]) {
        // Not READ COMMITTED, which a transaction begins with.
        proxy.cut_behind("; COMMIT", "COMMIT");
        passing(run.try_write(batch).await);
        assert_eq!(texts(&one(&bench, "SELECT count(*) FROM states")), [states]);
        assert_eq!(run.write(batch).await, Written::AlreadyApplied);
        assert_eq!(texts(&one(&bench, "SELECT count(*) FROM states")), [states]);
        run.next += 1;

        proxy.cut_before("; COMMIT");
        passing(run.try_write(batch).await);
        assert_eq!(texts(&one(&bench, "SELECT count(*) FROM states")), [states]);
        run.applied(batch).await;
    }
    assert_eq!(texts(&one(&bench, "SELECT count(*) FROM states")), ["6"]);
}

#[tokio::test]
async fn a_lock_or_a_slow_statement_is_tried_again_later() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    let mut hasty = bench.options();
    hasty.statement_timeout = Duration::from_millis(300);
    let patient = std::mem::replace(&mut run.sink, Postgres::open(hasty).unwrap());
    let other = bench.connect().await;
    other.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let batch = [upsert("t", r#"{"id":"1"}"#, "{}")];
    assert!(passing(run.try_write(&batch).await).contains("57014"));
    other.batch_execute("ROLLBACK").await.unwrap();
    run.sink = patient;
    run.applied(&batch).await;
}

#[tokio::test]
async fn two_owners_fence_each_other_while_one_is_in_mid_write() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    let successor = Postgres::open(bench.options()).unwrap();
    successor.claim(&run.key, Token(2), 0).await.unwrap();
    assert_eq!(run.write(&[upsert("t", r#"{"id":"1"}"#, "{}")]).await, Written::Fenced);
    assert!(bench.sql("SELECT 1 FROM t").is_empty());
}

#[tokio::test]
async fn a_write_touches_no_row_before_it_has_the_ledgers() {
    let bench = PostgresBench::new();
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    run.applied(&[upsert("t", r#"{"id":"1"}"#, r#"{"a":1}"#)]).await;
    // A claim that has not come to its end.
    let successor = bench.connect().await;
    successor.batch_execute("BEGIN; UPDATE tidegate.ledger SET token = lpad('2', 32, '0')").await.unwrap();
    let batch = [upsert("t", r#"{"id":"1"}"#, r#"{"a":2}"#)];
    let others = async {
        let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while successor.query(waits, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        // Nobody holds the row, for as long as the write waits.
        successor.batch_execute("SELECT 1 FROM t WHERE id = '1' FOR UPDATE NOWAIT; COMMIT").await
    };
    let (written, others) = futures_util::future::join(run.write(&batch), others).await;
    others.unwrap();
    assert_eq!(written, Written::Fenced);
    assert_eq!(texts(&one(&bench, "SELECT a FROM t")), ["1"]);
}

#[tokio::test]
async fn a_connection_gives_up_sooner_than_a_group_gives_a_silent_members_partitions_away() {
    let bench = PostgresBench::new();
    let address = Address::new(&bench.url(), &TlsFiles::default(), Duration::from_secs(20));
    let mut session = address.unwrap_or_else(|problem| panic!("{problem:?}")).connect().await.unwrap();
    let settings = "SELECT name, setting::int FROM pg_settings WHERE name IN
        ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout') ORDER BY name";
    let rows = session.query(settings, &[]).await.unwrap();
    let told: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let wanted =
        [("idle_in_transaction_session_timeout", 10_000), ("lock_timeout", 5_000), ("statement_timeout", 20_000)];
    assert_eq!(told, wanted.map(|(name, time)| (name.to_owned(), time)));
}

#[tokio::test]
async fn transaction_on_reset_session_keeps_its_time_limits() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE limits (name text, value text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO limits SELECT name, setting FROM pg_settings WHERE name IN
                 (''idle_in_transaction_session_timeout'', ''lock_timeout'', ''statement_timeout''); RETURN NULL; END';
         CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
    );
    let mut run = Run::new(&bench, &table("t", &["id"])).await;
    // What a pooler does that gives each transaction another connection.
    let address = Address::new(&bench.url(), &TlsFiles::default(), Duration::from_secs(20));
    let address = address.unwrap_or_else(|problem| panic!("{problem:?}"));
    let wanted = Some(&run.key.partition);
    let session = run.sink.pool.take(&address, wanted).await.unwrap_or_else(|problem| panic!("{problem:?}"));
    session.run("RESET ALL").await.unwrap();
    run.sink.pool.give_back(wanted, session);
    run.applied(&[upsert("t", r#"{"id":"1"}"#, "{}")]).await;
    let limits = bench.sql("SELECT value FROM limits ORDER BY name");
    let limits: Vec<_> = limits.iter().map(|row| texts(row).join("")).collect();
    assert_eq!(limits, ["10000", "5000", "20000"]);
}

#[tokio::test]
async fn a_ledger_that_goes_away_is_told_and_not_made_anew() {
    let bench = PostgresBench::new();
    let declared = table("t", &["id"]);
    let mut run = Run::new(&bench, &declared).await;
    run.applied(&[]).await;
    // The row moved: it is found by its key.
    bench.sql("UPDATE tidegate.ledger SET note = 'x'");
    run.applied(&[]).await;
    bench.sql("DELETE FROM tidegate.pipelines");
    assert!(stopped(run.sink.claim(&run.key, Token(2), 0).await).contains("tidegate.pipelines"));
    assert!(stopped(run.sink.prepare("p", &declared).await).contains("tidegate.ledger"));
    bench.sql("DELETE FROM tidegate.ledger");
    assert_eq!(run.write(&[]).await, Written::LedgerMissing);
    bench.sql("DROP SCHEMA tidegate CASCADE");
    assert_eq!(run.write(&[]).await, Written::LedgerMissing);
    assert!(!run.sink.knows("p").await.unwrap());
    assert!(stopped(run.sink.clear_cache("p", &[]).await).contains("no cache"));
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_told_by_what_is_wrong_with_it() {
    let bench = PostgresBench::new();
    let open = |url: String| Postgres::open(super::super::Options { url, ..bench.options() }).unwrap();
    let absent = open(format!("{}_absent", bench.url()));
    assert!(stopped(absent.knows("p").await).contains("3D000"));
    let user = open(bench.url().replace("postgres@", "no_such_user:secret@"));
    let told = stopped(user.knows("p").await);
    assert!(told.contains("28000") && !told.contains("secret"), "{told}");
    let away = open("postgres://u:secret@127.0.0.1:1/db".into());
    let told = passing(away.knows("p").await);
    assert!(told.contains("127.0.0.1:1/db") && !told.contains("secret"), "{told}");
    let plain = open(format!("{}?sslmode=require", bench.url()));
    assert!(stopped(plain.knows("p").await).contains("TLS"));
}

#[tokio::test]
async fn an_owner_that_stands_still_in_mid_write_does_not_keep_its_successor_out() {
    let bench = PostgresBench::new();
    let run = Run::new(&bench, &table("t", &["id"])).await;
    let address = Address::new(&bench.url(), &TlsFiles::default(), Duration::from_secs(20));
    let stuck = address.unwrap_or_else(|problem| panic!("{problem:?}")).connect().await;
    let stuck = stuck.unwrap_or_else(|problem| panic!("{problem:?}"));
    let successor = Postgres::open(bench.options()).unwrap();
    // It has its connection before the transaction's time begins to run, which is ten seconds.
    assert!(successor.knows("p").await.unwrap());
    stuck.run("BEGIN; UPDATE tidegate.ledger SET note = 'stuck'").await.unwrap();
    assert!(passing(successor.claim(&run.key, Token(2), 0).await).contains("55P03"));
    let standing = loop {
        match successor.claim(&run.key, Token(2), 0).await {
            Ok(standing) => break standing,
            Err(error) => passing::<()>(Err(error)),
        };
    };
    assert_eq!((standing.next, standing.note.as_str()), (0, ""));
    assert!(stuck.run("COMMIT").await.is_err());
}

/// An address that takes connections and says nothing: the kernel takes them, and nobody asks for them.
fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test]
async fn silent_server_is_given_up_within_fifteen_seconds() {
    let (bench, silent) = (PostgresBench::new(), silent());
    let url = format!("postgres://u:secret@{}/db", silent.local_addr().unwrap());
    let sink = Postgres::open(super::super::Options { url, ..bench.options() }).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(15), sink.knows("p")).await;
    let told = passing(told.expect("the attempt has an end"));
    assert!(told.contains("no session within 10 s") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn silent_host_does_not_keep_from_the_next_one() {
    let (bench, silent) = (PostgresBench::new(), silent());
    let url = bench.url().replace('@', &format!("@{},", silent.local_addr().unwrap()));
    let sink = Postgres::open(super::super::Options { url, ..bench.options() }).unwrap();
    let known = tokio::time::timeout(Duration::from_secs(15), sink.knows("p")).await;
    assert!(!known.expect("the second host answers").unwrap());
}

#[tokio::test]
async fn positions_of_many_partitions_are_one_request() {
    let bench = PostgresBench::new();
    let (options, proxy) = behind_proxy(&bench);
    let run = Run::with(Postgres::open(options).unwrap(), &table("t", &["id"])).await;
    let key =
        |partition| LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition } };
    let keys: Vec<_> = (0..250).map(key).collect();
    let before = proxy.requests();
    let positions = run.sink.positions(&keys).await.unwrap();
    assert_eq!(positions[0], Some((Token(1), 0)));
    assert!(positions.len() == 250 && positions[1..].iter().all(Option::is_none));
    // The statement is described, and then asked.
    let requests = proxy.requests() - before;
    assert!(requests <= 5, "{requests}");
}
