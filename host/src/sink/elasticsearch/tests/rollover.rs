//! A replacement of indexes that was announced, as other processes see it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::sink::elasticsearch::Rewind;
use crate::sink::now;
use crate::sink::replace::Replacement as _;

/// A hold that its host's clock has end at this time, and that is not renewed.
async fn hold_lasts_by_the_clock_of_who_waits(bench: ElasticBench, until: i64) {
    Run::start(bench.options(), 1).await;
    let rewind = Rewind::open(bench.options(), "p").unwrap();
    rewind.fresh().prepare("p", &declared()).await.unwrap();
    rewind.hold().await.unwrap();
    let path = format!("{}ledger/_doc/pipeline%2Fsearch%2Fp", bench.prefix);
    let mut head = bench.ask("GET", &path, &Value::Null)["_source"].take();
    head["replacement"]["until"] = until.into();
    bench.ask("PUT", &path, &head);

    let mut sink = bench.open_sink();
    sink.hold = Duration::from_secs(1);
    let Err(SinkError::Retry(cause)) = sink.claim(&key(), Token(2), 0).await else { panic!("not held") };
    assert!(cause.contains("being replaced"), "{cause}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = sink.claim(&key(), Token(2), 0).await {
        assert!(matches!(error, SinkError::Retry(_)) && Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    let mut run = Run::claim(sink, 3).await;
    assert_eq!(run.write(1, &[(0, index("a", "{}"))]).await, Written::Applied);
    assert_eq!(documents(&bench), ["a:{}"]);
    assert!(rewind.put_in_place().await.is_err());
}

#[test]
fn hold_of_a_host_whose_clock_is_wrong_lasts_as_long_as_any() {
    on_each_server(|bench| hold_lasts_by_the_clock_of_who_waits(bench, now() - 60_000));
    on_each_server(|bench| hold_lasts_by_the_clock_of_who_waits(bench, now() + 3_600_000));
}
