//! Random faults, many of them, at random moments of a stream: after each schedule every store holds the last state of
//! every row, and whoever read it meanwhile never met an older state than before.
//!
//! A schedule is some rounds of changes, and faults among them. Several are played in one world, one after the other. A
//! seed is printed, and repeats what is produced and which faults come; the moments are those of the machine.
//!
//! - `TIDEGATE_FAULT_SCHEDULES`: how many schedules, instead of the few of a usual run.
//! - `TIDEGATE_FAULT_SEED`: the seed of the first world.

mod fault;
mod proxy;
pub(crate) mod stream;
pub(crate) mod watcher;
mod world;

use std::collections::BTreeMap;

use self::fault::Fault;
use self::world::World;
use crate::live::random::Random;

/// How many schedules a usual run plays.
const USUAL: u64 = 6;
/// How many are played in one world.
const SERIES: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn nothing_is_lost_and_nothing_steps_back_whatever_fails() {
    let schedules = number("TIDEGATE_FAULT_SCHEDULES").unwrap_or(USUAL);
    let seed = number("TIDEGATE_FAULT_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut events, mut looks) = (0, 0);
    for series in 0..schedules.div_ceil(SERIES) {
        let seed = seed.wrapping_add(series);
        println!("world {series}: TIDEGATE_FAULT_SEED={seed}");
        let mut random = Random::new(seed);
        let mut world = World::new();
        world.start(0);
        for schedule in 0..SERIES.min(schedules - series * SERIES) {
            let faults: Vec<_> = (0..1 + random.below(4)).map(|_| Fault::any(&mut random)).collect();
            let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
            println!("schedule {schedule}: {}", told.join(", "));
            for fault in faults {
                world.produce(40, &mut random);
                moment(&world, &mut random);
                if fault.strike(&mut world) {
                    *counts.entry(fault.kind()).or_default() += 1;
                }
            }
            world.settle();
            let wrong = world.wrong();
            assert!(wrong.is_empty(), "seed {seed}, schedule {schedule} ({told:?}): {wrong:#?}");
        }
        events += world.streams.iter().map(|stream| stream.produced.len()).sum::<usize>();
        looks += world.watchers.iter().map(|watcher| watcher.looks()).sum::<u64>();
    }
    println!(
        "schedules: {schedules}, events: {events}, looks at stores: {looks}, lost: 0, stepped back: 0, doubled: 0"
    );
    for (kind, count) in counts {
        println!("  {count:4} {kind}");
    }
}

/// Waits until a store has come so far in what was just produced, or is done with it.
fn moment(world: &World, random: &mut Random) {
    let watcher = &world.watchers[random.below(world.watchers.len())];
    let until = watcher.progress() + random.below(120);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while watcher.progress() < until && std::time::Instant::now() < end {
        std::thread::yield_now();
    }
}
