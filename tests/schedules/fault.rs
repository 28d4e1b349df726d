//! The faults, and what each of them does to a world.

use std::fmt;
use std::net::Shutdown;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::proxy::{Mode, Sign, Trap};
use super::world::{GUEST, STORES, VICTIM, World};
use crate::live::random::Random;

/// What says that a store is being written to.
const WRITES: [Sign; 3] = [Sign::Request(b"EXEC"), Sign::Request(b"COMMIT"), Sign::Request(b"/_bulk")];
/// What says that it has been.
const WRITTEN: [Sign; 3] = [Sign::AnswerTo(b"EXEC"), Sign::Answer(b"COMMIT\0"), Sign::AnswerTo(b"/_bulk")];

/// What a program says that is asked to end while a store does not answer.
const WAITED: &str = "stopped while waiting";

/// How long a program may freeze: longer than its group waits for it.
const FROZEN: Duration = Duration::from_millis(3500);

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The program is killed.
    Kill,
    /// It is killed when it has asked a store to write: before the answer, or just after the store has given it.
    KillAtWrite { store: usize, answered: bool },
    /// It is asked to end, and started again.
    Restart,
    /// It freezes until another replica has taken over, and wakes.
    Freeze,
    /// Another replica comes, or goes.
    Rebalance,
    /// Another module takes the place of the one that writes a store.
    Exchange { store: usize },
    /// The connections to a store break: both sides see it, or the store does not.
    Cut { store: usize, half: bool },
    /// A store does what it is asked to next, or writes next, and its answer is lost.
    LoseAnswer { store: usize, write: bool },
    /// A store is away for so many milliseconds.
    Away { store: usize, millis: u64 },
    /// A store says nothing for so long.
    Silent { store: usize, millis: u64 },
    /// A store is slow for so long.
    Slow { store: usize, millis: u64 },
}

impl Fault {
    /// Any of them.
    pub(super) fn any(random: &mut Random) -> Self {
        let store = random.below(STORES.len());
        let millis = 100 + u64::try_from(random.below(2500)).unwrap();
        match random.below(13) {
            0 | 1 => Self::Kill,
            2 | 3 => Self::KillAtWrite { store, answered: random.percent(50) },
            4 => Self::Restart,
            5 => Self::Freeze,
            6 => Self::Rebalance,
            7 => Self::Cut { store, half: random.percent(50) },
            8 | 9 => Self::LoseAnswer { store, write: random.percent(70) },
            10 if random.percent(50) => Self::Away { store, millis },
            10 => Self::Slow { store, millis },
            11 => Self::Exchange { store },
            _ => Self::Silent { store, millis },
        }
    }

    /// Its kind, to be counted by.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::KillAtWrite { answered: false, .. } => "killed with a write on its way",
            Self::KillAtWrite { answered: true, .. } => "killed after a write",
            Self::Restart => "ended and started",
            Self::Freeze => "frozen until another took over",
            Self::Rebalance => "a replica came or went",
            Self::Exchange { .. } => "a module exchanged",
            Self::Cut { half: false, .. } => "connections cut",
            Self::Cut { half: true, .. } => "connections half cut",
            Self::LoseAnswer { .. } => "an answer lost",
            Self::Away { .. } => "a store away",
            Self::Silent { .. } => "a store silent",
            Self::Slow { .. } => "a store slow",
        }
    }

    /// Has it happen. False where there was nothing that it could happen to: no write came in time.
    pub(super) fn strike(self, world: &mut World) -> bool {
        match self {
            Self::Kill => {
                kill(world, VICTIM);
                world.start(VICTIM);
            }
            Self::KillAtWrite { store, answered } => {
                let process = world.replicas[VICTIM].1.as_ref().map(|run| run.id()).unwrap();
                let killed = Arc::new(AtomicBool::new(false));
                let done = killed.clone();
                let spring = Box::new(move || {
                    signal(process, "KILL");
                    done.store(true, Ordering::Relaxed);
                });
                let sign = if answered { WRITTEN[store] } else { WRITES[store] };
                world.wires[store].trap(Trap { replica: Some(VICTIM), sign, spring });
                // Others may have all partitions, or all may be done.
                let patience = std::time::Instant::now() + FROZEN;
                while !killed.load(Ordering::Relaxed) && std::time::Instant::now() < patience {
                    thread::yield_now();
                }
                world.wires[store].heal();
                kill(world, VICTIM);
                world.start(VICTIM);
                return killed.load(Ordering::Relaxed);
            }
            Self::Restart => {
                end(world, VICTIM);
                world.start(VICTIM);
            }
            Self::Freeze => {
                world.start(GUEST);
                let frozen = world.replicas[world.last()].1.as_ref().unwrap();
                frozen.signal("STOP");
                thread::park_timeout(FROZEN);
                frozen.signal("CONT");
            }
            Self::Rebalance if world.replicas[GUEST].1.is_some() => end(world, GUEST),
            Self::Rebalance => world.start(GUEST),
            Self::Exchange { store } => world.exchange(store),
            Self::Cut { store, half } => world.wires[store].cut(if half { Shutdown::Write } else { Shutdown::Both }),
            Self::LoseAnswer { store, write: false } => world.wires[store].set(Mode::LoseAnswer),
            Self::LoseAnswer { store, write: true } => {
                world.wires[store].trap(Trap { replica: None, sign: WRITTEN[store], spring: Box::new(|| {}) });
            }
            Self::Away { store, millis } => hold(world, store, Mode::Refuse, millis),
            Self::Silent { store, millis } => hold(world, store, Mode::Hold, millis),
            Self::Slow { store, millis } => {
                hold(world, store, Mode::Slow(Duration::from_millis(20)), millis);
            }
        }
        true
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillAtWrite { store, .. }
            | Self::Exchange { store }
            | Self::Cut { store, .. }
            | Self::LoseAnswer { store, .. } => {
                write!(f, "{} ({})", self.kind(), STORES[*store])
            }
            Self::Away { store, millis } | Self::Silent { store, millis } | Self::Slow { store, millis } => {
                write!(f, "{} ({}, {millis} ms)", self.kind(), STORES[*store])
            }
            _ => f.write_str(self.kind()),
        }
    }
}

fn hold(world: &World, store: usize, mode: Mode, millis: u64) {
    world.wires[store].set(mode);
    thread::park_timeout(Duration::from_millis(millis));
    world.wires[store].heal();
}

/// Asks a replica to end, and waits for that.
fn end(world: &mut World, replica: usize) {
    if let Some(run) = world.replicas[replica].1.take() {
        run.signal("TERM");
        let (code, troubles) = run.ended();
        // A store may still be in trouble: then it says that it was waiting.
        let waited = troubles.iter().filter(|line| line.starts_with("error")).all(|line| line.contains(WAITED));
        assert!(matches!(code, Some(0 | 4)) || code == Some(1) && waited, "it ended with {code:?}: {troubles:#?}");
    }
}

fn kill(world: &mut World, replica: usize) {
    if let Some(run) = world.replicas[replica].1.take() {
        signal(run.id(), "KILL");
        drop(run);
    }
}

fn signal(process: u32, name: &str) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([format!("-{name}"), process.to_string()]).output();
}
