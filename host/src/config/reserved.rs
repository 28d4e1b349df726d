//! Which names no grant of a pipeline reaches, by what the whole configuration keeps in the same stores.

use super::block::Placed;
use super::dead_letters::{DeadLetterStore, DeadLetters};
use super::pipelines::Pipeline;
use super::place::{self, Place};
use super::sinks::{Delivery, Sink, Sinks};
use super::source::Source;
use crate::command::Port;
use crate::command::reserved::Reserved;
use crate::sink::replace::{BESIDE, COPIES};
use crate::source::topics::Topics;

const LEDGER: &str = "the ledger's";
const DATABASE: &str = "the database's own";

/// Says to each transform what its grants do not reach.
pub(super) fn set(
    sinks: &Sinks,
    source: Option<&Source>,
    dead_letters: &DeadLetters,
    pipelines: &mut [Placed<Pipeline>],
) {
    let read: Vec<Topics> = pipelines.iter().filter_map(|pipeline| Topics::new(&pipeline.value.topics).ok()).collect();
    for Placed { value: pipeline, .. } in pipelines {
        for (port, name) in &pipeline.sinks {
            let Some(sink) = sinks.known.get(name) else { continue };
            let (place, spelling) = place::of(name, sink, *port);
            let mut reserved = Reserved::new(spelling);
            of_store(&mut reserved, *port, &place, sinks);
            if let (Sink::Kafka(_), Some(Source::Kafka(source))) = (sink, source) {
                of_cluster(&mut reserved, &place, &Place::of_cluster(&source.client), dead_letters, &read);
            }
            for transform in &mut pipeline.transforms {
                transform.grants.reserved.insert(*port, reserved.clone());
            }
        }
    }
}

/// What the sinks of one store keep there.
fn of_store(reserved: &mut Reserved, port: Port, place: &Place, sinks: &Sinks) {
    let same = sinks
        .known
        .iter()
        .filter(|(name, sink)| sink.ports().contains(&port) && place::of(name, sink, port).0.is_same(place));
    for (_, sink) in same {
        match sink {
            Sink::Null => {}
            Sink::Sqlite(_) if port == Port::Tables => {
                reserved.reserve("sqlite_", true, DATABASE);
                reserved.reserve("tidegate_", true, LEDGER);
            }
            Sink::Sqlite(_) => {}
            Sink::Redis(redis) => reserved.reserve(&redis.prefix, true, LEDGER),
            Sink::Postgres(postgres) => {
                reserved.reserve("pg_", true, DATABASE);
                reserved.reserve("information_schema.", true, DATABASE);
                reserved.reserve(&format!("{}.", postgres.ledger_schema.as_str()), true, LEDGER);
                reserved.reserve(COPIES, true, "that of a replacement which is being filled");
            }
            Sink::Elasticsearch(store) => {
                reserved.reserve(".", true, DATABASE);
                reserved.reserve(&store.ledger_index, false, LEDGER);
                reserved.reserve(&format!("{}-0", store.ledger_index.as_str()), true, LEDGER);
                reserved.reserve_ending(BESIDE, "that of a replacement which is being filled");
            }
            Sink::Kafka(kafka) => {
                reserved.reserve("__", true, "Kafka's own");
                if kafka.delivery == Delivery::ExactlyOnce {
                    reserved.reserve(&kafka.ledger_topic, false, LEDGER);
                }
            }
        }
    }
}

/// What the rest of the configuration keeps in the cluster that messages go to. Whoever may write to a topic that a
/// pipeline reads speaks for the database; to the pipeline's own it would be a loop.
fn of_cluster(reserved: &mut Reserved, place: &Place, source: &Place, dead_letters: &DeadLetters, read: &[Topics]) {
    if source.is_same(place) {
        for topics in read {
            reserved.reserve_topics(topics.clone(), "one that a pipeline reads");
        }
    }
    if let DeadLetterStore::Kafka(to) = &dead_letters.to {
        let its = to.client.as_ref().map(Place::of_cluster);
        if its.as_ref().unwrap_or(source).is_same(place) {
            reserved.reserve(&to.topic, false, "that of dead letters");
        }
    }
}
