//! A process that was killed is a member of its group until its session times out. One that starts says that it waits for
//! that; under the killed one's instance it does not wait.

use super::super::support::{Broker, Orders};

#[test]
fn start_after_a_kill_says_what_the_group_waits_for() {
    let mut case = Orders::on(&Broker::shared());
    // Longer than it takes to be told.
    case.stream.program.change("\"6000\"", "\"15000\"");
    let run = case.stream.running();
    run.signal("KILL");
    assert_eq!(run.ended().0, None);
    let mut run = case.stream.program.start();
    run.says(&[
        "INFO",
        &case.stream.pipeline,
        "waiting for the group to assign partitions",
        "members=2",
        "session_timeout_ms=\"15000\"",
        "instance",
    ]);
    case.stream.produce(&super::orders());
    case.stream.settled(&mut run);
    assert_eq!(run.stop(), [""; 0]);
    case.check();
}

#[test]
fn start_after_a_kill_under_the_same_instance_waits_for_nothing() {
    let mut case = Orders::on(&Broker::shared());
    // Nobody would get the partitions within the test's patience.
    case.stream.program.change("\"6000\"", "\"120000\"");
    case.stream.program.change("[source.kafka]\n", "[source.kafka]\ninstance = \"one\"\n");
    let run = case.stream.running();
    run.signal("KILL");
    assert_eq!(run.ended().0, None);
    case.stream.produce(&super::orders());
    let run = case.stream.running();
    let waits = |line: &String| line.contains("waiting for the group to assign partitions");
    assert!(!run.said().iter().any(waits), "{:#?}", run.said());
    assert_eq!(run.stop(), [""; 0]);
    case.check();
}
