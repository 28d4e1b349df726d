//! Events a second: tidegate and the bare client in turns.

use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tidegate::command::Command;

use super::broker::{Broker, PATIENCE};
use super::commands::Commands;
use super::events::Events;
use super::figures::Throughput;
use super::host::Host;
use super::stores::{Case, Client, Store, Turn};

const TURNS: usize = 3;
/// As a pipeline's batches are by default.
const BATCH: usize = 500;
/// Batches that a connection of the bare client has on the way.
const ON_THE_WAY: usize = 2;
/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(4);

/// With one partition and with three.
pub(crate) async fn measure(case: &Case, store: &dyn Store, broker: &mut Broker) -> Vec<Throughput> {
    let mut made = Commands::new(case);
    let events = Events::captured(case.capture, |record| !made.of(record).is_empty());
    let commands: Vec<Command> = (0..case.events).flat_map(|number| made.of(&events.record("bare", number))).collect();
    let batches: Vec<&[Command]> = commands.chunks(BATCH).collect();
    let lanes = thread::available_parallelism().unwrap().get();

    let mut figures = Vec::new();
    for (partitions, connections) in [(1, 1), (3, lanes.min(3))] {
        // A table is the last part of a topic's name.
        let topic = format!("tidegate-bench-{}.{}.{partitions}.{}", std::process::id(), case.id, case.table);
        broker.make(&topic, partitions).await;
        broker.fill((0..case.events).map(|number| events.record(&topic, number)));
        let (mut tidegate, mut bare) = (f64::MAX, f64::MAX);
        for number in 0..TURNS {
            let turn = Turn::new(&format!("{}-{partitions}-{number}", case.id), &topic, partitions);
            store.empty(&turn).await;
            let took = one_turn(case, store, broker, &turn).await.as_secs_f64();
            let turn = Turn::new(&format!("{}-{partitions}-{number}-bare", case.id), &topic, partitions);
            store.empty(&turn).await;
            store.declare(&turn, made.description()).await;
            let by_itself = write(store, &turn, &batches, connections).await.as_secs_f64();
            println!(
                "live/{}: {partitions} partitions, turn {number}: tidegate {:.0}/s, bare {:.0}/s, {:.2}",
                case.id,
                case.events as f64 / took,
                case.events as f64 / by_itself,
                by_itself / took
            );
            (tidegate, bare) = (tidegate.min(took), bare.min(by_itself));
        }
        let rate = |seconds| case.events as f64 / seconds;
        let (tidegate, bare) = (rate(tidegate), rate(bare));
        figures.push(Throughput { store: case.name, partitions, events: case.events, tidegate, bare });
    }
    figures
}

/// How long tidegate takes from its first claim to the last event durable.
async fn one_turn(case: &Case, store: &dyn Store, broker: &Broker, turn: &Turn) -> Duration {
    let mut host = Host::start(case, &broker.address, &turn.pipeline, &turn.topic, &store.sink(turn));
    let started = Instant::now();
    let begun = loop {
        match host.claimed() {
            Some(begun) => break begun,
            None => tokio::time::sleep(LOOK).await,
        }
        assert!(started.elapsed() < PATIENCE, "tidegate claims no partition");
    };
    while store.durable(turn).await < case.events as u64 {
        assert!(host.claimed().is_some() && begun.elapsed() < 10 * PATIENCE, "tidegate does not get through");
        tokio::time::sleep(LOOK).await;
    }
    let took = begun.elapsed();
    host.stop();
    took
}

/// How long the bare client takes for all batches, over so many connections.
async fn write(store: &dyn Store, turn: &Turn, batches: &[&[Command]], connections: usize) -> Duration {
    let mut clients: Vec<Box<dyn Client>> = Vec::new();
    for _ in 0..connections {
        clients.push(store.connect(turn).await);
    }
    let begun = Instant::now();
    let shares = clients.iter().zip(batches.chunks(batches.len().div_ceil(connections)));
    join_all(shares.map(|(client, share)| async move {
        let sent = stream::iter(share).map(|batch| client.send(batch)).buffered(ON_THE_WAY);
        sent.for_each(|()| async {}).await;
        client.flush().await;
    }))
    .await;
    begun.elapsed()
}
