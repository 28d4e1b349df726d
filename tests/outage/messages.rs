//! A pipeline that only publishes, whose topic lost records, was cut off, or whose group lost its commits: what it has
//! published is compared with the log as a store's ledger is.

use super::producer::Stamps;
use super::support::{Broker, orders};

fn stamps() -> Stamps {
    let broker = Broker::shared();
    Stamps::on(&broker, &format!("brokers = \"{}\"", broker.0))
}

#[test]
fn records_deleted_before_they_were_published_stop_the_pipeline_until_that_is_confirmed() {
    let mut case = stamps();
    case.stream.running().stop();
    let lost: Vec<_> = orders().into_iter().filter(|event| event.partition == 0).collect();
    let end = case.stream.topic.ends()[0];
    case.stream.topic.produce(&lost);
    case.stream.topic.delete_below(0, case.stream.topic.ends()[0]);
    // Nothing for the other partitions, which a start that fails may publish and not commit.
    case.stream.produce(&lost);
    let gone = format!("{} offsets are gone from the source", lost.len());
    let partition = format!("{}-0", case.stream.topic.name);
    for _ in 0..2 {
        let parts = [case.stream.pipeline.as_str(), "sink `events`", &partition, &gone, "on_lost_records"];
        case.stream.program.start().fails(&parts);
    }

    case.stream.program.change("format = ", "on_lost_records = \"continue\"\nformat = ");
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "sink", "events", "records that the source has lost"]);
    case.stream.settled(&mut run);
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
    let published = case.published();
    assert!(published.values().all(|times| *times == 1), "{published:#?}");
    let is_lost = |id: &String| {
        let (partition, offset) = id.split_once('@').unwrap();
        partition == "0" && (end..end + i64::try_from(lost.len()).unwrap()).contains(&offset.parse().unwrap())
    };
    assert!(!published.keys().any(is_lost), "{published:#?}");
    // A tombstone is no change.
    let wanted = case.stream.produced.iter().filter(|event| event.value.is_some()).count();
    assert_eq!(published.len(), wanted);
}

/// As where a cluster was restored without its last records, or a leader was elected that lacked them.
#[test]
fn log_that_ends_before_what_was_published_stops_the_pipeline_until_the_commits_are_deleted() {
    let case = stamps();
    case.stream.running().stop();
    case.check();
    let end = case.stream.topic.ends()[0];
    case.stream.topic.commit_further(&case.stream.pipeline, 0, 100);
    let (ends, stands) = (format!("ends at offset {end}"), format!("sink `events` has come to {}", end + 100));
    for _ in 0..2 {
        let parts = [case.stream.pipeline.as_str(), &ends, &stands, "kafka-consumer-groups --delete-offsets"];
        case.stream.program.start().fails(&parts);
    }
    case.stream.topic.delete_commits(&case.stream.pipeline);
    case.stream.running().stop();
    let published = case.published();
    assert!(published.values().all(|times| *times == 2), "{published:#?}");
}

#[test]
fn messages_are_not_published_again_beside_a_ledger_when_the_commits_are_gone() {
    let mut case = stamps();
    case.bind_a_cache();
    case.stream.running().stop();
    case.stream.produce(&orders());
    case.stream.running().stop();
    case.check();
    // As the brokers do, seven days after the last member has left.
    case.stream.topic.delete_commits(&case.stream.pipeline);
    case.stream.produce(&orders());
    case.stream.running().stop();
    let published = case.published();
    // The ledgers say how far the messages had come before the last batch of each partition.
    assert!(published.values().all(|times| *times <= 2), "{published:#?}");
    let once = (0..3).all(|partition| published[&format!("{partition}@0")] == 1);
    assert!(once, "from the start of the log: {published:#?}");
    let wanted = case.stream.produced.iter().filter(|event| event.value.is_some()).count();
    assert_eq!(published.len(), wanted);
}
