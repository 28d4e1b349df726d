//! Kafka: topics that are missing, grown, cut off or made anew; brokers that are away; a topic of dead letters that is
//! not there.

use xtask::services::Kafka;

use super::support::{Broker, Event, Folder, Orders, Run, Topic, jars, orders, repeated};

/// An order that was not there before, on this partition.
fn another(partition: i32) -> Event {
    let event = orders().into_iter().find(|event| event.value.is_some()).unwrap();
    let with = |text: Option<String>| text.map(|text| text.replace("\"ord_", "\"ord_another_"));
    Event { partition, key: with(event.key), value: with(event.value) }
}

/// A record that nothing can decode.
fn poison() -> Event {
    Event { partition: 0, key: None, value: Some("poison".into()) }
}

/// With the dead letters in a topic of their own.
fn with_dead_letters(broker: &Broker) -> (Orders, Topic) {
    let mut case = Orders::on(broker);
    let letters = broker.create(&Broker::name("letters"), 1);
    let place = format!("[dead_letters.kafka]\ntopic = \"{}\"\n[engine]", letters.name);
    case.stream.program.change("[engine]", &place);
    (case, letters)
}

/// The pipeline, stopped for a change of its topic, goes on once the operator says that it may, and says so once.
fn goes_on(mut case: Orders, setting: &str, parts: &[&str]) {
    assert_eq!(case.stream.program.dead_letters(), 0);
    case.stream.program.change("format = ", &format!("{setting} = \"continue\"\nformat = "));
    let mut run = case.stream.program.start();
    run.complains(&[&[case.stream.pipeline.as_str(), "sink", "cache", &case.stream.topic.name], parts].concat());
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");

    // From then on the topic is what it is.
    case.stream.program.change(&format!("{setting} = \"continue\""), &format!("{setting} = \"stop\""));
    case.stream.produce(&orders());
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
    assert_eq!(case.stream.program.dead_letters(), 0);
}

fn stopped_by_growth(case: &Orders, run: Run) {
    run.fails(&[
        &case.stream.pipeline,
        "sink `cache`",
        &case.stream.topic.name,
        "has 4 partitions, and had 3",
        "on_changed_topic",
    ]);
}

#[test]
fn a_topic_that_is_missing_is_waited_for() {
    let case = Orders::on(&Broker::shared());
    case.stream.topic.delete();
    let mut run = case.stream.program.start();
    run.complains(&[
        &case.stream.pipeline,
        &case.stream.topic.name,
        "create it, or correct `topics`",
        "waiting for it",
    ]);
    case.stream.topic.make(3);
    case.stream.topic.produce(&orders());
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
    assert_eq!(case.stream.program.dead_letters(), 0);
}

#[test]
fn a_topic_that_grows_in_mid_stream_stops_the_pipeline_until_that_is_confirmed() {
    let mut case = Orders::on(&Broker::shared());
    let run = case.stream.running();
    case.stream.topic.grow(4);
    case.stream.produce(&[another(3)]);
    stopped_by_growth(&case, run);
    goes_on(case, "on_changed_topic", &["has 4 partitions, and had 3"]);
}

#[test]
fn a_topic_that_has_grown_before_a_start_stops_the_pipeline_until_that_is_confirmed() {
    let mut case = Orders::on(&Broker::shared());
    case.stream.running().stop();
    case.stream.topic.grow(4);
    case.stream.produce(&[another(3)]);
    for _ in 0..2 {
        stopped_by_growth(&case, case.stream.program.start());
    }
    goes_on(case, "on_changed_topic", &["has 4 partitions, and had 3"]);
}

/// The orders' topic is made anew, with the orders so many times: the pipeline stops until it begins anew.
fn made_anew(rounds: usize) {
    let mut case = Orders::on(&Broker::shared());
    case.stream.produce(&repeated(&orders(), 2));
    case.stream.running().stop();
    case.stream.topic.delete();
    case.stream.topic.make(3);
    case.stream.produced.clear();
    case.stream.produce(&repeated(&orders(), rounds));
    for _ in 0..2 {
        let parts =
            [&case.stream.pipeline, "sink `cache`", &case.stream.topic.name, "was made anew", "tidegate rewind"];
        case.stream.program.start().fails(&parts);
    }
    assert_eq!(case.stream.program.dead_letters(), 0);
    case.begin_anew();
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

#[test]
fn a_topic_that_was_made_anew_is_known_by_its_offsets() {
    made_anew(1);
}

#[test]
fn a_topic_that_was_made_anew_and_is_longer_already_is_known_by_its_records() {
    made_anew(5);
}

/// The same under a running program, which reads on at its offset or reads nothing more.
fn made_anew_while_running(rounds: usize) {
    let mut case = Orders::on(&Broker::shared());
    case.stream.produce(&repeated(&orders(), 2));
    // So seldom, as in practice, that its client does not see the topic go away.
    case.stream.program.change("refresh.interval.ms\" = \"500\"", "refresh.interval.ms\" = \"600000\"");
    let run = case.stream.running();
    case.stream.topic.delete();
    case.stream.topic.make(3);
    case.stream.produced.clear();
    case.stream.produce(&repeated(&orders(), rounds));
    let parts = [&case.stream.pipeline, "sink `cache`", &case.stream.topic.name, "was made anew", "tidegate rewind"];
    run.fails(&parts);
    // Whatever it has taken of the new topic hides nothing.
    case.stream.program.start().fails(&parts);
    assert_eq!(case.stream.program.dead_letters(), 0);
    case.begin_anew();
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
}

#[test]
fn topic_made_anew_under_a_running_pipeline_stops_it() {
    made_anew_while_running(1);
}

#[test]
fn longer_topic_made_anew_under_a_running_pipeline_stops_it() {
    made_anew_while_running(5);
}

#[test]
fn records_that_are_deleted_before_they_were_read_stop_the_pipeline_until_that_is_confirmed() {
    let mut case = Orders::on(&Broker::shared());
    case.stream.running().stop();
    let lost: Vec<_> = orders().into_iter().filter(|event| event.partition == 0).collect();
    case.stream.topic.produce(&lost);
    case.stream.topic.delete_below(0, case.stream.topic.ends()[0]);
    case.stream.produce(&orders());
    for _ in 0..2 {
        let gone = format!("{} offsets are gone from the source", lost.len());
        let partition = format!("{}-0", case.stream.topic.name);
        case.stream.program.start().fails(&[
            &case.stream.pipeline,
            "sink `cache`",
            &partition,
            &gone,
            "on_lost_records",
        ]);
    }
    goes_on(case, "on_lost_records", &["records that the source has lost"]);
}

#[test]
fn records_that_are_deleted_in_mid_stream_stop_the_pipeline_until_that_is_confirmed() {
    let mut case = Orders::on(&Broker::shared());
    let run = case.stream.running();
    // Too slow for the topic's retention. What is under way to it gets no more than the first records.
    run.signal("STOP");
    case.stream.topic.produce(&orders());
    case.stream.topic.produce(&orders());
    case.stream.topic.delete_below(0, case.stream.topic.ends()[0]);
    case.stream.produce(&orders());
    run.signal("CONT");
    let partition = format!("{}-0", case.stream.topic.name);
    run.fails(&[
        &case.stream.pipeline,
        "sink `cache`",
        &partition,
        "offsets are gone from the source",
        "on_lost_records",
    ]);
    goes_on(case, "on_lost_records", &["records that the source has lost"]);
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let folder = Folder::new();
    let mut server = Kafka::new(jars()).start(folder.path()).unwrap();
    let mut case = Orders::on(&Broker(server.url().to_owned()));
    server.stop().unwrap();
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, server.url(), "cannot be reached", "refused", "is it running"]);
    server.restart().unwrap();
    case.stream.settled(&mut run);
    assert_eq!(run.troubles().len(), 1, "{:#?}", run.troubles());

    server.kill().unwrap();
    run.complains_after(1, &[&case.stream.pipeline, server.url(), "cannot be reached", "is it running"]);
    server.restart().unwrap();
    case.stream.produce(&orders());
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 2, "{troubles:#?}");
    assert_eq!(case.stream.program.dead_letters(), 0);
}

#[test]
fn null_sink_begins_anew_at_each_start() {
    let mut case = Orders::on(&Broker::shared());
    let store = format!("[sinks.cache.sqlite]\npath = \"{}\"", case.store());
    case.stream.program.change(&store, "[sinks.cache.null]");
    for _ in 0..2 {
        assert_eq!(case.stream.running().stop(), [""; 0]);
        case.stream.produce(&orders());
    }
    assert_eq!(case.stream.running().stop(), [""; 0]);
}

#[test]
fn a_missing_topic_of_dead_letters_ends_the_start() {
    let (case, letters) = with_dead_letters(&Broker::shared());
    letters.delete();
    case.stream.program.start().fails(&["[dead_letters.kafka]", &letters.name, "there is no topic", "create it"]);
    letters.make(1);
    let troubles = case.stream.running().stop();
    assert_eq!(troubles, [""; 0]);
    case.check();
    assert_eq!(letters.dead_letters(), [""; 0]);
}

#[test]
fn a_topic_of_dead_letters_that_is_deleted_stops_the_pipeline_and_no_letter_is_lost() {
    let (mut case, letters) = with_dead_letters(&Broker::shared());
    let run = case.stream.running();
    letters.delete();
    case.stream.topic.produce(&[poison()]);
    let (code, mut troubles) = run.ended();
    let last = troubles.pop().unwrap();
    let parts = [&case.stream.pipeline, "dead letters", &letters.name, "there is no topic", "create it"];
    assert!(code == Some(1) && parts.iter().all(|part| last.contains(part)), "{last}");
    // The client may lose the broker of the topic before it learns that there is none.
    assert!(troubles.iter().all(|line| line.contains(&letters.name)) && troubles.len() < 2, "{troubles:#?}");
    letters.make(1);
    case.stream.produce(&orders());
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "dead letter", &case.stream.topic.name]);
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
    assert_eq!(letters.dead_letters().len(), 1);
}
