//! The ledger's transaction and its history, and what they cost while a long report holds its snapshot.

use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn the_ledger_moves_without_its_index_while_a_long_report_holds_its_snapshot() {
    const PARTITIONS: u32 = 60;
    const BATCHES: u64 = 4;
    let bench = PostgresBench::new();
    let sink = Postgres::open(bench.options()).unwrap();
    sink.prepare("p", &table("t", &["id"])).await.unwrap();
    let report = bench.connect().await;
    report.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await.unwrap();
    let key =
        |partition| LedgerKey { pipeline: "p".into(), partition: TopicPartition { topic: "t".into(), partition } };
    for partition in 0..PARTITIONS {
        sink.claim(&key(partition), Token(1), 0).await.unwrap();
    }
    for from in 0..BATCHES {
        for partition in 0..PARTITIONS {
            let (key, to) = (&key(partition), from + 1);
            let step = Step { key, token: Token(1), from, to, epoch: 0, digest: "d", note: "" };
            assert_eq!(sink.write(&step, &[]).await.unwrap(), Written::Applied);
        }
    }
    // A connection that ends tells what it did.
    drop(sink);
    let moved = BATCHES * u64::from(PARTITIONS);
    let begin = Instant::now();
    let [hot, searches] = loop {
        let counts = one(
            &bench,
            "SELECT n_tup_upd, n_tup_hot_upd, idx_scan + seq_scan FROM pg_stat_all_tables
             WHERE schemaname = 'tidegate' AND relname = 'ledger'",
        );
        let [updated, hot, searches] =
            [0, 1, 2].map(|at: usize| counts[at].as_deref().unwrap().parse::<u64>().unwrap());
        if updated == moved {
            break [hot, searches];
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{updated} updates are told of {moved}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Old versions stay for the report. New ones find room on the page, so that the index does not grow.
    assert_eq!(hot, moved);
    // By key, each would be a search past all old versions. A claim looks once.
    assert!(searches < moved, "{searches} searches for {moved} updates");
    report.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn batch_of_many_statements_is_written_whole_or_not_at_all() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id int PRIMARY KEY, a int, b int)");
    let mut run = Run::new(&bench, &table("v", &["id"])).await;
    // Each of these rows is a statement, and they are more than are sent in one go.
    let columns = |n: u32| if n.is_multiple_of(2) { "a" } else { "b" };
    let mut batch: Vec<_> =
        (0..40).map(|n| upsert("v", r#"{"id":1}"#, &format!("{{\"{}\":{n}}}", columns(n)))).collect();
    batch.push(upsert("v", r#"{"id":1}"#, r#"{"a":"x"}"#));
    assert_eq!(run.rejected(&batch).await.iter().map(|bad| bad.index).collect::<Vec<_>>(), [40]);
    assert!(bench.sql("SELECT 1 FROM v").is_empty());
    run.applied(&batch[..40]).await;
    assert_eq!(texts(&one(&bench, "SELECT a, b FROM v")), ["38", "39"]);
}

#[tokio::test]
async fn history_stays_in_order_when_the_servers_clock_was_set_back() {
    let bench = PostgresBench::new();
    let run = Run::new(&bench, &table("t", &["id"])).await;
    for (from, digest) in [(0, "a"), (1, "b"), (2, "c")] {
        let (key, to) = (&run.key, from + 1);
        let step = Step { key, token: Token(1), from, to, epoch: 0, digest, note: "" };
        assert_eq!(run.sink.write(&step, &[]).await.unwrap(), Written::Applied);
        if from == 0 {
            bench.sql("UPDATE tidegate.history SET changed_at = now() + interval '1 hour'");
        }
    }
    let history = run.sink.history("p").await.unwrap();
    assert_eq!(history.iter().map(|row| row.digests.concat()).collect::<Vec<_>>(), ["a", "b", "c"]);
}
