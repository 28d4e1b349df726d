//! A stream of which nothing can be handled is not drained into the dead letters: the pipeline stops, and goes on when
//! what was wrong is mended.

use super::support::{Broker, Orders, orders, repeated};

/// How many in a row are let through.
const IN_A_ROW: usize = 30;

/// Orders without end, as it were, of which no more than so many in a row may be rejected.
fn stream() -> Orders {
    let mut case = Orders::on(&Broker::shared());
    let transform = "[[pipelines.transforms]]";
    case.stream.program.change(transform, &format!("[pipelines.breaker]\nin_a_row = {IN_A_ROW}\n{transform}"));
    case.stream.produce(&repeated(&orders(), 10));
    case
}

/// The pipeline stops at every start, says why once, and files less than what it takes to stop it.
fn stops(case: &Orders, parts: &[&str]) {
    let remedy = "Is `format` right, does the module fit these events? Mend it and start again";
    for _ in 0..2 {
        let mut run = case.stream.program.start();
        run.says(
            &[&[&case.stream.pipeline, "30 events in a row are rejected", &case.stream.topic.name, remedy], parts]
                .concat(),
        );
        let (code, troubles) = run.ended();
        let errors = troubles.iter().filter(|line| !line.contains("dead letter")).count();
        assert_eq!((code, errors), (Some(1), 1), "{troubles:#?}");
    }
    assert!(case.stream.program.dead_letters() < IN_A_ROW, "{} dead letters", case.stream.program.dead_letters());
}

/// After the cure all goes through.
fn goes_on(case: &Orders) {
    let before = case.stream.program.dead_letters();
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
    assert_eq!(case.stream.program.dead_letters(), before);
}

#[test]
fn a_wrong_format_stops_the_pipeline_until_it_is_corrected() {
    let mut case = stream();
    case.stream.program.change("debezium-flattened", "debezium-envelope");
    stops(&case, &["undecodable"]);
    case.stream.program.change("debezium-envelope", "debezium-flattened");
    goes_on(&case);
}

#[test]
fn a_module_that_refuses_everything_stops_the_pipeline_until_it_is_replaced() {
    let mut case = stream();
    let fits = ["{guests}/order_cache.wasm", "settings = { ttl_seconds = 600 }"];
    let refuses =
        ["{guests}/hostile.wasm", "settings = { do = \"reject\", describe = { cache_keys = [\"order:*\"] } }"];
    fits.iter().zip(refuses).for_each(|(from, to)| case.stream.program.change(from, to));
    stops(&case, &["no-key", "the record has no"]);
    refuses.iter().zip(fits).for_each(|(from, to)| case.stream.program.change(from, to));
    goes_on(&case);
}
