//! The switch of a rewind, among lost answers and writes that come late.

use super::super::Rewind;
use super::faults::behind_proxy;
use super::*;
use crate::sink::replace::Replacement;

#[tokio::test(flavor = "multi_thread")]
async fn switch_whose_answer_is_lost_with_the_server_for_a_moment_is_known_to_be_done() {
    let bench = PostgresBench::new();
    let declared = table("t", &["id"]);
    let mut run = Run::new(&bench, &declared).await;
    run.applied(&[upsert("t", r#"{"id":"1"}"#, r#"{"a":1}"#)]).await;
    let (options, proxy) = behind_proxy(&bench);
    let rewind = Rewind::open(options, "p").unwrap();
    rewind.discard().await.unwrap();
    rewind.begin(&[]).await.unwrap();
    let fresh = rewind.fresh();
    fresh.prepare("p", &declared).await.unwrap();
    fresh.claim(&run.key, Token(9), 0).await.unwrap();
    let command = upsert("t", r#"{"id":"1"}"#, r#"{"a":2}"#);
    let writes = [Write { command: Cow::Borrowed(&command), origins: vec![Origin { offset: 0, transform: 0 }] }];
    let step = Step { key: &run.key, token: Token(9), from: 0, to: 1, epoch: 0, digest: "d", note: "" };
    assert_eq!(fresh.write(&step, &writes).await.unwrap(), Written::Applied);
    rewind.hold().await.unwrap();
    rewind.stands().await.unwrap();
    proxy.cut_behind("COMMIT", "COMMIT");
    proxy.then_before("~rewind");
    // As `tidegate rewind` does.
    let done = loop {
        match rewind.put_in_place().await {
            Err(SinkError::Retry(_)) => {}
            done => break done,
        }
    };
    let row = texts(&one(&bench, "SELECT a FROM t")).join("");
    assert!(done.is_ok(), "a is {row} now, and the operator is told: {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn write_of_the_fill_that_was_given_up_at_its_end_is_in_the_switch_or_not_in_the_ledger() {
    let bench = PostgresBench::new();
    let declared = table("t", &["id"]);
    let both = [upsert("t", r#"{"id":"1"}"#, r#"{"a":1}"#), upsert("t", r#"{"id":"3"}"#, r#"{"a":1}"#)];
    let mut run = Run::new(&bench, &declared).await;
    run.applied(&both).await;
    let rewind = std::sync::Arc::new(Rewind::open(bench.options(), "p").unwrap());
    rewind.discard().await.unwrap();
    rewind.begin(&[]).await.unwrap();
    let fresh = rewind.fresh();
    fresh.prepare("p", &declared).await.unwrap();
    fresh.claim(&run.key, Token(9), 0).await.unwrap();
    let write = |from: u64, commands: Vec<Command>| {
        let (fresh, key) = (fresh.clone(), run.key.clone());
        async move {
            let writes: Vec<_> = commands
                .iter()
                .map(|c| Write { command: Cow::Borrowed(c), origins: vec![Origin { offset: from, transform: 0 }] })
                .collect();
            let step = Step { key: &key, token: Token(9), from, to: from + 1, epoch: 0, digest: "d", note: "" };
            fresh.write(&step, &writes).await
        }
    };
    // The module is another one now: row 1 comes out otherwise, row 3 the same.
    let mended = [upsert("t", r#"{"id":"1"}"#, r#"{"a":2}"#), both[1].clone()];
    assert_eq!(write(0, mended.to_vec()).await.unwrap(), Written::Applied);

    let blocked = async |number: usize| {
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while bench.sql(sql).len() != number {
            tokio::task::yield_now().await;
        }
    };
    // The next event of row 3 is written slowly, and given up when the fill is to end, as the pipeline does.
    let schema =
        one(&bench, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tidegate_rewind_%'")[0].clone().unwrap();
    let slow = bench.connect().await;
    slow.batch_execute(&format!("BEGIN; SELECT 1 FROM {schema}.t WHERE id = '3' FOR UPDATE")).await.unwrap();
    let filling = tokio::spawn(write(1, vec![upsert("t", r#"{"id":"3"}"#, r#"{"a":9}"#)]));
    blocked(1).await;
    filling.abort();
    assert!(filling.await.is_err());

    // The switch takes a while.
    let busy = bench.connect().await;
    busy.batch_execute("BEGIN; SELECT 1 FROM t WHERE id = '1' FOR UPDATE").await.unwrap();
    rewind.hold().await.unwrap();
    let switching = {
        let rewind = rewind.clone();
        tokio::spawn(async move { rewind.put_in_place().await })
    };
    blocked(2).await;
    slow.batch_execute("COMMIT").await.unwrap();
    blocked(1).await;
    busy.batch_execute("COMMIT").await.unwrap();
    switching.await.unwrap().unwrap();
    let row = texts(&one(&bench, "SELECT a FROM t WHERE id = '3'")).join("");
    let next = texts(&one(&bench, "SELECT next_offset FROM tidegate.ledger")).join("");
    assert!(next == "1" || row == "9", "the ledger stands at {next}, and the row of offset 1 holds {row}");
}

/// A rewind whose fill is these commands; what is told of the switch.
async fn rewound(bench: &PostgresBench, run: &Run, declared: &Declared, fill: &[Command]) -> Result<(), SinkError> {
    let rewind = Rewind::open(bench.options(), "p").unwrap();
    rewind.discard().await.unwrap();
    rewind.begin(&[]).await.unwrap();
    let fresh = rewind.fresh();
    fresh.prepare("p", declared).await.unwrap();
    fresh.claim(&run.key, Token(9), 0).await.unwrap();
    let write = |command| Write { command: Cow::Borrowed(command), origins: vec![Origin { offset: 0, transform: 0 }] };
    let writes: Vec<_> = fill.iter().map(write).collect();
    let step = Step { key: &run.key, token: Token(9), from: 0, to: 1, epoch: 0, digest: "d", note: "" };
    assert_eq!(fresh.write(&step, &writes).await.unwrap(), Written::Applied);
    rewind.hold().await.unwrap();
    rewind.put_in_place().await.map(drop)
}

/// Tables `parent` and `child` as a wrong module filled them: it made of key 1 what is key 2. `remark` is somebody else's.
async fn wrong_parent(bench: &PostgresBench, parent: &str, child: &str) -> (Run, Declared) {
    bench.sql(&format!(
        "CREATE TABLE z_parent (id int PRIMARY KEY, {parent});
         CREATE TABLE child (id int PRIMARY KEY, parent int, remark text, {child})"
    ));
    let mut declared = table("z_parent", &["id"]);
    declared.tables.extend(table("child", &["id"]).tables);
    let mut run = Run::new(bench, &declared).await;
    let (row, gone) = (upsert("child", r#"{"id":10}"#, r#"{"parent":1}"#), r#"{"id":11}"#);
    run.applied(&[upsert("z_parent", r#"{"id":1}"#, r#"{"n":1}"#), row]).await;
    run.applied(&[upsert("child", gone, r#"{"parent":1}"#), upsert("child", r#"{"id":13}"#, r#"{"parent":1}"#)]).await;
    bench.sql("UPDATE child SET remark = 'of somebody else'");
    (run, declared)
}

/// What the mended module makes of it.
fn mended() -> [Command; 4] {
    [
        upsert("z_parent", r#"{"id":2}"#, r#"{"n":2}"#),
        upsert("child", r#"{"id":10}"#, r#"{"parent":2}"#),
        upsert("child", r#"{"id":12}"#, r#"{"parent":2}"#),
        upsert("child", r#"{"id":13}"#, r#"{"parent":2}"#),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_over_foreign_keys_keeps_other_columns() {
    for action in ["ON DELETE CASCADE", "ON DELETE SET NULL", "", "ON DELETE RESTRICT ON UPDATE CASCADE"] {
        let bench = PostgresBench::new();
        let key = format!("FOREIGN KEY (parent) REFERENCES z_parent {action}");
        let (run, declared) = wrong_parent(&bench, "n int", &key).await;
        rewound(&bench, &run, &declared, &mended()).await.unwrap();
        let rows = bench.sql("SELECT concat_ws(',', id, parent, remark) FROM child ORDER BY id");
        let rows: Vec<_> = rows.iter().flat_map(|row| texts(row)).collect();
        assert_eq!(rows, ["10,2,of somebody else", "12,2", "13,2,of somebody else"], "{action}");
        assert_eq!(texts(&one(&bench, "SELECT id, n FROM z_parent")), ["2", "2"], "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_of_table_that_refers_to_itself_succeeds() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE v (id int PRIMARY KEY, name text UNIQUE, remark text,
                         parent int REFERENCES v ON DELETE CASCADE)",
    );
    let declared = table("v", &["id"]);
    let row = |id: u32, name: &str, parent: &str| {
        upsert("v", &format!("{{\"id\":{id}}}"), &format!("{{\"name\":\"{name}\",\"parent\":{parent}}}"))
    };
    let mut run = Run::new(&bench, &declared).await;
    run.applied(&[row(1, "root", "null"), row(2, "leaf", "1"), row(3, "gone", "1")]).await;
    bench.sql("UPDATE v SET remark = 'kept'");
    rewound(&bench, &run, &declared, &[row(4, "gone", "null"), row(2, "leaf", "4")]).await.unwrap();
    let rows = bench.sql("SELECT concat_ws(',', id, name, remark, parent) FROM v ORDER BY id");
    assert_eq!(rows.iter().flat_map(|row| texts(row)).collect::<Vec<_>>(), ["2,leaf,kept,4", "4,gone"]);
}
