//! Random faults, many of them, at random moments of a stream: after each schedule every store holds the last state of
//! every row, and whoever read it meanwhile never met an older state than before.
//!
//! A schedule is some rounds of changes, and faults among them. Several are played in one world, one after the other. A
//! seed is printed, and repeats what is produced and which faults come; the moments are those of the machine.
//!
//! - `TIDEGATE_FAULT_SCHEDULES`: how many schedules, instead of the few of a usual run.
//! - `TIDEGATE_FAULT_SEED`: the seed of the first world.
//! - `TIDEGATE_FAULT_REFUSED_DOCUMENTS`: how many documents of a hundred are such as their mapping refuses, instead of five.
//! - `TIDEGATE_FAULT_AT_REST`: after every schedule what has this place in `AtRest::ALL` happens, and nothing else does.

mod fault;
mod load;
pub(crate) mod looks;
mod proxy;
mod servers;
mod soak;
pub(crate) mod stream;
mod typed;
mod vitals;
pub(crate) mod watcher;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::fault::Fault;
use self::typed::operator::AtRest;
use self::world::{VICTIM, World};
use crate::live::random::Random;

/// How many schedules a usual run plays.
const USUAL: u64 = 6;
/// How many are played in one world.
const SERIES: u64 = 20;
/// After how many schedules of a hundred something happens while all is at rest.
const AT_REST: usize = 35;
/// How many worlds are played in at the same time: most of the time they wait.
const WORLDS: u64 = 3;

/// What was seen in all worlds.
#[derive(Default)]
struct Tally {
    faults: BTreeMap<&'static str, usize>,
    events: usize,
    looks: u64,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn nothing_is_lost_and_nothing_steps_back_whatever_fails() {
    let schedules = number("TIDEGATE_FAULT_SCHEDULES").unwrap_or(USUAL);
    let seed = number("TIDEGATE_FAULT_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let (tally, next, failed) = (Mutex::new(Tally::default()), AtomicU64::new(0), AtomicBool::new(false));
    let play = || {
        // Where one world fails, the others come to an end too.
        let failing = Failing(&failed);
        while !failed.load(Ordering::Relaxed) {
            let series = next.fetch_add(1, Ordering::Relaxed);
            let left = schedules.saturating_sub(series * SERIES);
            if left == 0 {
                break;
            }
            play(seed.wrapping_add(series), SERIES.min(left), &tally, &failed);
        }
        std::mem::forget(failing);
    };
    thread::scope(|scope| (0..WORLDS).for_each(|_| drop(scope.spawn(play))));
    let Tally { faults, events, looks } = tally.into_inner().unwrap();
    println!(
        "schedules: {schedules}, events: {events}, looks at stores: {looks}, lost: 0, stepped back: 0, doubled: 0"
    );
    faults.iter().for_each(|(kind, count)| println!("  {count:4} {kind}"));
}

/// Says so when it is dropped, as it is by a panic.
struct Failing<'a>(&'a AtomicBool);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Plays some schedules in a world of their own.
fn play(seed: u64, schedules: u64, tally: &Mutex<Tally>, failed: &AtomicBool) {
    println!("a world: TIDEGATE_FAULT_SEED={seed}");
    let mut random = Random::new(seed);
    let mut world = World::new(2);
    world.start(VICTIM);
    for schedule in (0..schedules).take_while(|_| !failed.load(Ordering::Relaxed)) {
        let faults: Vec<_> = (0..1 + random.below(4)).map(|_| Fault::any(&mut random)).collect();
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        println!("{seed}, schedule {schedule}: {}", told.join(", "));
        for fault in &faults {
            world.produce(40, &mut random);
            moment(&world, &mut random);
            world.assert_runs();
            if fault.strike(&mut world, &mut random) {
                *tally.lock().unwrap().faults.entry(fault.kind()).or_default() += 1;
            }
        }
        if random.percent(50) {
            // Else a loss is to be found although nothing comes.
            world.produce(40, &mut random);
        }
        world.settle();
        let wrong = world.wrong();
        assert!(wrong.is_empty(), "seed {seed}, schedule {schedule} ({told:?}): {wrong:#?}");
        let only = number("TIDEGATE_FAULT_AT_REST").map(|place| AtRest::ALL[usize::try_from(place).unwrap()]);
        if only.is_some() || random.percent(AT_REST) {
            let trouble = only.unwrap_or_else(|| AtRest::any(&mut random));
            println!("{seed}, schedule {schedule}, at rest: {trouble}");
            if trouble.happen(&mut world, &mut random) {
                *tally.lock().unwrap().faults.entry(trouble.kind()).or_default() += 1;
            }
            world.produce(20, &mut random);
            world.settle();
            let wrong = world.wrong();
            assert!(wrong.is_empty(), "seed {seed}, schedule {schedule}, after {trouble}: {wrong:#?}");
        }
    }
    let mut tally = tally.lock().unwrap();
    tally.events += world.produced();
    *tally.faults.entry("a store filled anew, to its end").or_default() += world.rewound;
    tally.looks += world.watched().map(|watcher| watcher.looks()).sum::<u64>();
}

/// Waits until a store has come so far in what was just produced, or is done with it.
fn moment(world: &World, random: &mut Random) {
    let watchers: Vec<_> = world.watched().collect();
    let watcher = watchers[random.below(watchers.len())];
    let until = watcher.progress() + random.below(120);
    let end = Instant::now() + Duration::from_secs(2);
    while watcher.progress() < until && Instant::now() < end {
        thread::yield_now();
    }
}
