//! How long one event takes that comes alone.

use std::time::{Duration, Instant};

use super::broker::{Broker, OneByOne, PATIENCE};
use super::commands::Commands;
use super::events::Events;
use super::figures::{Latency, Quantiles};
use super::host::Host;
use super::stores::{Case, Client, Store, Turn};

const SAMPLES: usize = 600;
/// How many come before, which are not counted: connections, plans and compiled code are made for the first ones.
const WARM: usize = 100;
/// Between two records everything comes to rest; the pauses differ, so that they keep step with nothing.
const PAUSES: [u64; 5] = [7, 13, 19, 26, 31];

pub(crate) async fn measure(case: &Case, store: &dyn Store, broker: &mut Broker) -> Latency {
    let mut made = Commands::new(case);
    let events = Events::captured(case.capture, |record| !made.of(record).is_empty());
    let topic = format!("tidegate-bench-{}.{}.alone.{}", std::process::id(), case.id, case.table);
    broker.make(&topic, 1).await;
    let turn = Turn::new(&format!("{}-alone", case.id), &topic, 1);
    store.empty(&turn).await;

    let mut host = Host::start(case, &broker.address, &turn.pipeline, &topic, &store.sink(&turn));
    let producer = OneByOne::new(broker);
    let client = store.connect(&turn).await;
    let mut samples = Vec::new();
    for number in 0..WARM + SAMPLES {
        let record = events.record(&topic, number);
        let command = made.of(&record).remove(0);
        pause(number).await;
        let acknowledged = producer.publish(&record);
        until(client.as_ref(), &command).await;
        samples.push(acknowledged.elapsed());
        assert!(host.claimed().is_some());
    }
    host.stop();
    let tidegate = Quantiles::of(samples.split_off(WARM));

    let turn = Turn::new(&format!("{}-direct", case.id), &topic, 1);
    store.empty(&turn).await;
    store.declare(&turn, made.description()).await;
    let (client, watcher) = (store.connect(&turn).await, store.connect(&turn).await);
    let mut samples = Vec::new();
    for number in 0..WARM + SAMPLES {
        let command = made.of(&events.record(&topic, number)).remove(0);
        pause(number).await;
        let sent = Instant::now();
        client.send(std::slice::from_ref(&command)).await;
        client.flush().await;
        until(watcher.as_ref(), &command).await;
        samples.push(sent.elapsed());
    }
    let direct = Quantiles::of(samples.split_off(WARM));
    println!(
        "live/{}: alone: {:.2} ms, p99 {:.2}, most {:.2}; written directly: {:.2} ms, p99 {:.2}, most {:.2}",
        case.id, tidegate.median, tidegate.p99, tidegate.most, direct.median, direct.p99, direct.most
    );
    Latency { store: case.name, samples: SAMPLES, tidegate, direct }
}

async fn pause(number: usize) {
    tokio::time::sleep(Duration::from_millis(PAUSES[number % PAUSES.len()])).await;
}

async fn until(client: &dyn Client, command: &tidegate::command::Command) {
    let begun = Instant::now();
    while !client.has(command).await {
        assert!(begun.elapsed() < PATIENCE, "the store does not get {command:?}");
    }
}
