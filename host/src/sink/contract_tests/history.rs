//! The cases of the history: which rows a ledger's moves leave in it.

use super::*;
use crate::sink::HistoryRow;

/// The cases of the history: what stands in it, and what does not come into it.
pub(super) async fn the_history_follows_the_digests(sink: &dyn Sink, port: Port) {
    let digests = |row: &HistoryRow| (row.partition.partition, row.offset, row.digests.join("+"));
    let history = async |pipeline: &str| sink.history(pipeline).await.unwrap();
    let rows = async |pipeline: &str| history(pipeline).await.iter().map(digests).collect::<Vec<_>>();
    let row = |partition: u32, offset: u64, digests: &str| (partition, offset, digests.to_owned());
    assert_eq!(rows("p").await, [], "before the first start");
    sink.prepare("p", &declared()).await.unwrap();
    sink.prepare("q", &Declared { indexes: vec![], ..declared() }).await.unwrap();
    assert_eq!(rows("p").await, []);

    let (zero, one, other) = (key("p", 0), key("p", 1), key("q", 0));
    for key in [&zero, &one, &other] {
        sink.claim(key, Token(1), 7).await.unwrap();
    }
    assert_eq!(rows("p").await, [], "a claim has handled nothing");
    let write = async |key: &LedgerKey, token: u128, (from, to): (u64, u64), digest: &str| {
        let step = Step { key, token: Token(token), from, to, epoch: 0, digest, note: "" };
        sink.write(&step, &writes(&[put(port, &format!("{key:?}"), "1")])).await.unwrap()
    };
    // The first write of a partition makes a row, and those under the same digests make none.
    assert_eq!(write(&zero, 1, (7, 10), "a,b").await, Written::Applied);
    assert_eq!(write(&zero, 1, (10, 12), "a,b").await, Written::Applied);
    assert_eq!(rows("p").await, [row(0, 7, "a+b")]);
    // Others make one where the ledger stood; what was applied already makes no second.
    assert_eq!(write(&zero, 1, (12, 20), "a,c").await, Written::Applied);
    assert_eq!(write(&zero, 1, (12, 20), "a,c").await, Written::AlreadyApplied);
    assert_eq!(write(&zero, 1, (20, 21), "a,c").await, Written::Applied);
    let both = [row(0, 7, "a+b"), row(0, 12, "a+c")];
    assert_eq!(rows("p").await, both);

    // What changes nothing makes none: it stands elsewhere, is fenced, or is bad.
    assert_eq!(write(&zero, 1, (30, 31), "d").await, Written::StandsAt(21));
    sink.claim(&zero, Token(2), 0).await.unwrap();
    assert_eq!(write(&zero, 1, (21, 22), "d").await, Written::Fenced);
    let bad = match port {
        Port::Tables => Some(Command::RowMerge(super::row("9", "a", "1"))),
        Port::Documents => Some(Command::DocumentMerge { index: "i".into(), id: "none".into(), fields: vec![] }),
        Port::Cache | Port::Messages => None,
    };
    if let Some(bad) = bad {
        let step = Step { key: &zero, token: Token(2), from: 21, to: 22, epoch: 0, digest: "d", note: "" };
        let written = sink.write(&step, &writes(&[put(port, "k", "1"), bad])).await.unwrap();
        assert!(matches!(written, Written::Rejected(_)), "{written:?}");
    }
    assert_eq!(rows("p").await, both);
    // A new owner that goes on with the same digests makes none, and a ledger that is moved alone is a write too.
    assert_eq!(write(&zero, 2, (21, 25), "a,c").await, Written::Applied);
    assert_eq!(rows("p").await, both);
    let alone = Step { key: &zero, token: Token(2), from: 25, to: 30, epoch: 0, digest: "a,b", note: "" };
    assert_eq!(sink.write(&alone, &[]).await.unwrap(), Written::Applied);
    assert_eq!(rows("p").await, [&both[..], &[row(0, 25, "a+b")]].concat());

    // Partitions and pipelines have rows of their own.
    assert_eq!(write(&one, 1, (7, 8), "e").await, Written::Applied);
    assert_eq!(write(&other, 1, (7, 9), "f").await, Written::Applied);
    let mut of_p = rows("p").await;
    of_p.sort();
    assert_eq!(of_p, [&both[..], &[row(0, 25, "a+b"), row(1, 7, "e")]].concat());
    assert_eq!(rows("q").await, [row(0, 7, "f")]);
    assert_eq!(rows("none").await, []);

    // By time, as the store or the host has it.
    let times: Vec<_> = history("p").await.iter().map(|row| row.time).collect();
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
}

/// A partition that begins again below: the last row that is not above an offset says what made it. `later` waits until
/// the clock is past a time.
pub(super) async fn a_history_that_begins_again_comes_after(sink: &dyn Sink, later: impl Fn(i64)) {
    sink.prepare("p", &declared()).await.unwrap();
    let key = key("p", 0);
    let write = async |from, to, digest: &str| {
        let step = Step { key: &key, token: Token(1), from, to, epoch: 0, digest, note: "" };
        assert_eq!(sink.write(&step, &[]).await.unwrap(), Written::Applied);
    };
    sink.claim(&key, Token(1), 0).await.unwrap();
    write(0, 10, "a").await;
    write(10, 20, "b").await;
    later(sink.history("p").await.unwrap()[1].time);
    sink.clear_cache("p", &[]).await.unwrap();
    sink.claim(&key, Token(1), 5).await.unwrap();
    write(5, 7, "b").await;
    let rows = sink.history("p").await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.offset, row.digests.concat())).collect();
    assert_eq!(rows, [(0, "a".into()), (10, "b".into()), (5, "b".into())]);
}
