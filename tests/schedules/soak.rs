//! Load, exchanges of modules, rebalances and faults together, for as long as told: nothing is lost, nothing steps back,
//! nothing is done twice, and the process that lives through all of it does not grow.
//!
//! - `TIDEGATE_SOAK_SECONDS`: how long, instead of the half minute of a usual run.
//! - `TIDEGATE_SOAK_SEED`: the seed of what is produced and of which faults come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::load::Load;
use super::vitals::Vitals;
use super::world::{STORES, VICTIM, World};
use super::{moment, number};
use crate::live::random::Random;

/// How long a usual run lasts, in seconds.
const USUAL: u64 = 30;
/// How often everything is let come to rest, and compared.
const CHECK: Duration = Duration::from_secs(120);
/// How often something is said.
const TOLD: Duration = Duration::from_secs(60);

/// What a soak has seen.
struct Soak {
    world: World,
    begin: Instant,
    /// What the replica that lives through all of it takes.
    vitals: Vitals,
    faults: BTreeMap<&'static str, usize>,
    checks: usize,
}

#[test]
fn nothing_is_lost_and_nothing_grows_under_load_exchanges_rebalances_and_faults() {
    let lasting = Duration::from_secs(number("TIDEGATE_SOAK_SECONDS").unwrap_or(USUAL));
    let seed = number("TIDEGATE_SOAK_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    println!("soak of {} s: TIDEGATE_SOAK_SEED={seed}", lasting.as_secs());
    let mut random = Random::new(seed);
    let mut soak = Soak::new();
    let mut choices = Random::new(seed.wrapping_add(1));
    let mut told = Duration::ZERO;
    while soak.begin.elapsed() < lasting {
        let check = (soak.begin.elapsed() + CHECK).min(lasting);
        let streams = std::mem::take(&mut soak.world.streams);
        let load = Load::start(streams, soak.world.watchers.to_vec(), choices);
        while soak.begin.elapsed() < check {
            moment(&soak.world, &mut random);
            let fault = Fault::lossless(&mut random);
            if fault.strike(&mut soak.world, &mut random) {
                *soak.faults.entry(fault.kind()).or_default() += 1;
            }
            soak.world.assert_runs();
            soak.vitals.look();
            if soak.begin.elapsed() >= told + TOLD {
                told = soak.begin.elapsed();
                println!("{}", soak.line(load.produced()));
            }
        }
        (soak.world.streams, choices) = load.stop();
        soak.check(seed);
    }
    soak.tell();
}

impl Soak {
    fn new() -> Self {
        let mut world = World::new(3);
        let last = world.last();
        world.replicas.iter_mut().for_each(|(replica, _)| replica.compile_alone());
        world.start(VICTIM);
        world.start(last);
        let vitals = Vitals::of(world.replicas[last].1.as_ref().unwrap().id());
        Self { world, begin: Instant::now(), vitals, faults: BTreeMap::new(), checks: 0 }
    }

    /// Lets everything come to rest, and holds the stores against what was produced.
    fn check(&mut self, seed: u64) {
        self.world.settle();
        let wrong = self.world.wrong();
        let after = self.begin.elapsed().as_secs();
        assert!(wrong.is_empty(), "seed {seed}, after {after} s: {wrong:#?}");
        self.world.forget();
        self.checks += 1;
    }

    /// How often the replica that lives through all of it has said this.
    fn said(&self, what: &str) -> usize {
        let run = self.world.replicas[self.world.last()].1.as_ref().unwrap();
        run.said().iter().filter(|line| line.contains(what)).count()
    }

    /// What is said every minute.
    fn line(&self, produced: usize) -> String {
        let lags: Vec<_> = STORES
            .iter()
            .zip(&self.world.watchers)
            .map(|(store, watcher)| format!("{store} {}", watcher.lag()))
            .collect();
        format!(
            "{:5} s: {produced} events produced, {} faults, {} modules taken, {} claims, states not yet seen: {}; {}",
            self.begin.elapsed().as_secs(),
            self.faults.values().sum::<usize>(),
            self.said("a new module serves"),
            self.said("claimed"),
            lags.join(", "),
            self.vitals.now()
        )
    }

    /// What came of it, when all is durable and compared.
    fn tell(&self) {
        let produced: usize = self.world.streams.iter().map(|stream| stream.produced).sum();
        let handled: i64 =
            self.world.streams.iter().flat_map(|stream| stream.topic.committed(&stream.pipeline)).flatten().sum();
        let looks: u64 = self.world.watchers.iter().map(|watcher| watcher.looks()).sum();
        let [taken, claims] = ["a new module serves", "claimed"].map(|what| self.said(what));
        println!("events: {produced} produced, {handled} handled; looks at stores: {looks}");
        println!("all stores equal at {} checks; lost: 0, stepped back: 0, doubled: 0", self.checks);
        println!(
            "the replica that lived through it took {taken} modules and claimed {claims} partitions; its medians:"
        );
        self.vitals.table().iter().for_each(|line| println!("  {line}"));
        println!("faults: {}", self.faults.values().sum::<usize>());
        self.faults.iter().for_each(|(kind, count)| println!("  {count:4} {kind}"));
        assert_eq!(i64::try_from(produced).unwrap(), handled);
        let flat = self.vitals.is_flat();
        println!(
            "memory, descriptors and threads: {}",
            match flat {
                Some(true) => "flat",
                Some(false) => "NOT FLAT",
                None => "too short to tell",
            }
        );
        assert_ne!(flat, Some(false), "what it takes of the machine is not flat");
    }
}
