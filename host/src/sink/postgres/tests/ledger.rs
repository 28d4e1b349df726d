//! What the ledger costs while a long report holds its snapshot.

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
