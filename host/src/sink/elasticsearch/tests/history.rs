//! The history at a crash between its document and the ledger's row.

use super::*;
use crate::sink::elasticsearch::testing::Proxy;

#[test]
fn who_dies_before_the_row_changes_leaves_nothing_that_was_not_true() {
    on_each_server(|bench| async move {
        let proxy = Proxy::new(&bench.url);
        let key = key();
        let write = async |run: &Run, (from, to), digest: &str| {
            let step = Step { key: &key, token: run.token, from, to, epoch: 0, digest, note: "" };
            run.sink.write(&step, &[]).await
        };
        let history = async |run: &Run| {
            let rows = run.sink.history("p").await.unwrap();
            rows.iter().map(|row| (row.offset, row.digests.concat())).collect::<Vec<_>>()
        };
        let old = Run::start(Options { urls: vec![proxy.url.clone()], ..bench.options() }, 1).await;
        assert_eq!(write(&old, (0, 5), "a").await.unwrap(), Written::Applied);
        proxy.take();
        proxy.lose(Some("\"next\":9,".to_owned()));
        assert!(matches!(write(&old, (5, 9), "b").await, Err(SinkError::Retry(_))));
        assert!(proxy.take().contains("\"kind\":\"history\""), "what held before is kept first");

        // The modules before go on: what died has changed nothing.
        let successor = Run::start(bench.options(), 2).await;
        assert_eq!(history(&successor).await, [(0, "a".into())]);
        assert_eq!(write(&successor, (5, 7), "a").await.unwrap(), Written::Applied);
        assert_eq!(history(&successor).await, [(0, "a".into())]);
        assert_eq!(write(&successor, (7, 8), "c").await.unwrap(), Written::Applied);
        assert_eq!(history(&successor).await, [(0, "a".into()), (7, "c".into())]);
    });
}
