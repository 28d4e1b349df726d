//! The suite on each store.

use proptest::prelude::*;

use super::history::{a_history_that_begins_again_comes_after, the_history_follows_the_digests};
use super::run::{a_run_ends_as_the_model, plan};
use super::*;
use crate::command::collapse::Tagged;
use crate::sink::elasticsearch::testing::ElasticBench;
use crate::sink::kafka::exactly_once::testing::KafkaBench;
use crate::sink::model::events;
use crate::sink::model::strict::strict_events;
use crate::sink::null::Null;
use crate::sink::postgres::testing::PostgresBench;
use crate::sink::redis::testing::{Server, TTL_STEP};
use crate::sink::sqlite::testing::SqliteBench;

/// Waits until the clock is past a time.
fn later(time: i64) {
    while crate::sink::now() <= time {
        std::thread::yield_now();
    }
}

#[test]
fn the_null_sinks_ledger_is_compared_and_set() {
    runtime().block_on(the_ledger_is_compared_and_set(&Null::new(), Port::Cache));
}

#[test]
fn the_history_of_the_null_sink_follows_the_digests() {
    runtime().block_on(the_history_follows_the_digests(&Null::new(), Port::Cache));
    runtime().block_on(a_history_that_begins_again_comes_after(&Null::new(), later));
}

#[test]
fn the_history_in_sqlite_follows_the_digests() {
    for port in Port::ALL {
        runtime().block_on(the_history_follows_the_digests(SqliteBench::new().open().as_ref(), port));
    }
    let bench = SqliteBench::new();
    runtime().block_on(a_history_that_begins_again_comes_after(bench.open().as_ref(), |_| bench.pass(1)));
}

#[test]
fn sqlites_ledger_is_compared_and_set() {
    runtime().block_on(the_ledger_is_compared_and_set(SqliteBench::new().open().as_ref(), Port::Cache));
}

#[test]
fn sqlites_contents_follow_the_contract() {
    runtime().block_on(contents_follow_the_contract(&SqliteBench::new()));
}

#[test]
fn a_cleared_cache_in_sqlite_begins_afresh() {
    runtime().block_on(a_cleared_cache_begins_afresh(&SqliteBench::new()));
}

#[test]
fn lanes_do_not_disturb_each_other_in_the_null_sink() {
    let sink = Arc::new(Null::new());
    runtime().block_on(lanes_do_not_disturb_each_other(Arc::clone(&sink) as Arc<dyn Sink>, Port::Cache, 200));
    assert_eq!(sink.executed()[0], ("cache-set", 800));
}

#[test]
fn lanes_do_not_disturb_each_other_in_sqlite() {
    let bench = SqliteBench::new();
    runtime().block_on(lanes_do_not_disturb_each_other(bench.open(), Port::Cache, 50));
    assert_eq!(bench.contents().cache.len(), 200);
}

#[test]
fn the_ledger_in_redis_is_compared_and_set() {
    runtime().block_on(the_ledger_is_compared_and_set(Server::start(&[]).open().as_ref(), Port::Cache));
}

#[test]
fn the_history_in_redis_follows_the_digests() {
    runtime().block_on(the_history_follows_the_digests(Server::start(&[]).open().as_ref(), Port::Cache));
    runtime().block_on(a_history_that_begins_again_comes_after(Server::start(&[]).open().as_ref(), later));
}

#[test]
fn contents_in_redis_follow_the_contract() {
    runtime().block_on(contents_follow_the_contract(&Server::start(&[])));
}

#[test]
fn a_cleared_cache_in_redis_begins_afresh() {
    runtime().block_on(a_cleared_cache_begins_afresh(&Server::start(&[])));
}

#[test]
fn lanes_do_not_disturb_each_other_in_redis() {
    let server = Server::start(&[]);
    runtime().block_on(lanes_do_not_disturb_each_other(server.open(), Port::Cache, 50));
    assert_eq!(server.contents().cache.len(), 200);
}

/// The events with times to live that outlast a test.
fn long_lived(mut events: Vec<Vec<Tagged>>) -> Vec<Vec<Tagged>> {
    for tagged in events.iter_mut().flatten() {
        if let Command::CacheSet { ttl_seconds, .. } | Command::CacheMerge { ttl_seconds, .. } = &mut tagged.command {
            *ttl_seconds = ttl_seconds.map(|seconds| seconds * TTL_STEP);
        }
    }
    events
}

#[test]
fn a_run_on_redis_ends_as_the_model() {
    let server = Server::start(&[]);
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in events(60), plan in plan())| {
        server.ask::<()>("FLUSHALL");
        runtime().block_on(a_run_ends_as_the_model(&server, long_lived(events), &plan));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_on_sqlite_ends_as_the_model(events in events(24), plan in plan()) {
        runtime().block_on(a_run_ends_as_the_model(&SqliteBench::new(), events, &plan));
    }

    #[test]
    fn a_run_on_sqlite_that_refuses_values_ends_as_the_model(events in strict_events(24, 3), plan in plan()) {
        runtime().block_on(a_run_ends_as_the_model(&SqliteBench::strict(), events, &plan));
    }
}

fn for_each_server(test: impl Fn(&ElasticBench)) {
    for server in ["elasticsearch", "opensearch"] {
        test(&ElasticBench::new(server));
    }
}

#[test]
fn elasticsearchs_ledger_is_compared_and_set() {
    for_each_server(|bench| {
        runtime().block_on(the_ledger_is_compared_and_set(bench.open().as_ref(), Port::Documents));
    });
}

#[test]
fn the_history_in_elasticsearch_follows_the_digests() {
    for_each_server(|bench| {
        runtime().block_on(the_history_follows_the_digests(bench.open().as_ref(), Port::Documents));
    });
}

#[test]
fn elasticsearchs_contents_follow_the_contract() {
    for_each_server(|bench| runtime().block_on(contents_follow_the_contract(bench)));
}

#[test]
fn lanes_do_not_disturb_each_other_in_elasticsearch() {
    for_each_server(|bench| {
        runtime().block_on(lanes_do_not_disturb_each_other(bench.open(), Port::Documents, 10));
        assert_eq!(bench.contents().documents.len(), 40);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_on_elasticsearch_ends_as_the_model(events in strict_events(24, 3), plan in plan(), second: bool) {
        let bench = ElasticBench::new(if second { "opensearch" } else { "elasticsearch" });
        runtime().block_on(a_run_ends_as_the_model(&bench, events, &plan));
    }
}

#[test]
fn postgresqls_ledger_is_compared_and_set() {
    runtime().block_on(the_ledger_is_compared_and_set(PostgresBench::new().open().as_ref(), Port::Tables));
}

#[test]
fn the_history_in_postgresql_follows_the_digests() {
    runtime().block_on(the_history_follows_the_digests(PostgresBench::new().open().as_ref(), Port::Tables));
}

#[test]
fn postgresqls_contents_follow_the_contract() {
    runtime().block_on(contents_follow_the_contract(&PostgresBench::new()));
}

#[test]
fn lanes_do_not_disturb_each_other_in_postgresql() {
    let bench = PostgresBench::new();
    runtime().block_on(lanes_do_not_disturb_each_other(bench.open(), Port::Tables, 50));
    assert_eq!(bench.contents().rows.len(), 200);
}

#[test]
fn a_run_on_postgresql_ends_as_the_model() {
    let bench = PostgresBench::new();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in events(24), plan in plan())| {
        bench.empty();
        runtime().block_on(a_run_ends_as_the_model(&bench, events, &plan));
    });
}

#[test]
fn a_run_on_postgresql_that_refuses_values_ends_as_the_model() {
    let bench = PostgresBench::strict();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in strict_events(24, 3), plan in plan())| {
        bench.empty();
        runtime().block_on(a_run_ends_as_the_model(&bench, events, &plan));
    });
}

#[test]
fn the_ledger_in_kafka_is_compared_and_set() {
    runtime().block_on(the_ledger_is_compared_and_set(KafkaBench::new().open().as_ref(), Port::Messages));
}

#[test]
fn the_history_in_kafka_follows_the_digests() {
    runtime().block_on(the_history_follows_the_digests(KafkaBench::new().open().as_ref(), Port::Messages));
}

#[test]
fn contents_in_kafka_follow_the_contract() {
    runtime().block_on(contents_follow_the_contract(&KafkaBench::new()));
}

#[test]
fn lanes_do_not_disturb_each_other_in_kafka() {
    let bench = KafkaBench::new();
    runtime().block_on(lanes_do_not_disturb_each_other(bench.open(), Port::Messages, 50));
    assert_eq!(bench.contents().messages.len(), 200);
}

#[test]
fn a_run_on_kafka_ends_as_the_model() {
    let config = ProptestConfig { cases: 15, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in events(60), plan in plan())| {
        runtime().block_on(a_run_ends_as_the_model(&KafkaBench::new(), events, &plan));
    });
}
