//! The faults, and what each of them does to a world.

use std::fmt;
use std::net::Shutdown;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::proxy::{Mode, Sign, Trap};
use super::servers::Kept;
use super::vitals::listens;
use super::world::{GUEST, STORES, VICTIM, World};
use crate::live::random::Random;

/// What a request to write holds, by the store.
const WRITE: [&[u8]; 3] = [b"EXEC", b"COMMIT", b"/_bulk"];
/// What says that a store has written.
const WRITTEN: [Sign; 3] = [Sign::AnswerTo(WRITE[0]), Sign::Answer(b"COMMIT\0"), Sign::AnswerTo(WRITE[2])];
/// What says that Elasticsearch has moved the ledger, which is a request of its own there.
const MOVED: Sign = Sign::AnswerTo(b"if_seq_no=");

/// Ends the sessions of the program.
const TERMINATE: &str = "
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'tidegate' AND datname = current_database()";

/// What a program says that is asked to end while a store does not answer.
const WAITED: &str = "stopped while waiting";

/// How long a program may freeze: longer than its group waits for it.
const FROZEN: Duration = Duration::from_millis(3500);

/// What is filled anew: a stream's place, and a sink.
const REWOUND: [(usize, &str); 4] = [(0, "cache"), (0, "beside"), (1, "warehouse"), (2, "search")];

/// When a program is killed that writes to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// It has asked the store to write, which never hears of it: what was written before that in another store stands.
    Before,
    /// The store has been asked.
    Meanwhile,
    /// The store has written, and the program does not hear of it.
    After,
    /// The ledger has been moved, and the program does not hear of it: before the commit to Kafka. Where ledger and rows
    /// are one transaction that is the same as after the write.
    AfterLedger,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The program is killed.
    Kill,
    /// It is killed when it writes to a store.
    KillAtWrite { store: usize, moment: Moment },
    /// It is asked to end, and started again.
    Restart,
    /// It freezes until another replica has taken over, and wakes.
    Freeze,
    /// Another replica comes, or goes.
    Rebalance,
    /// Another module takes the place of the one that writes a store.
    Exchange { store: usize },
    /// Another module takes the place of the one of the typed pipelines: one that refuses what it does not like, or one that
    /// takes all.
    Swap { picky: bool },
    /// An operator has a replica handle all dead letters of a pipeline again.
    Replay { pipeline: usize },
    /// An operator has a store filled anew.
    Rewind { place: usize },
    /// The cache's ledger loses the row of a partition, and nothing else.
    CacheRowLost { partition: usize },
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
    /// PostgreSQL ends the sessions of the program.
    Terminate,
    /// PostgreSQL crashes and comes back.
    RestartPostgres,
    /// Redis crashes and comes back, with what it keeps.
    RestartRedis(Kept),
    /// All keys of Redis are deleted.
    Flush,
    /// Elasticsearch refuses every request as too many for so long.
    Busy { millis: u64 },
    /// An index refuses writes for so long, all of them or all but deletes.
    ReadOnly { but_deletes: bool, millis: u64 },
    /// The broker says nothing for so long.
    BrokerSilent { millis: u64 },
    /// The broker crashes and comes back.
    RestartBroker,
}

impl Fault {
    /// Any of them.
    pub(super) fn any(random: &mut Random) -> Self {
        let store = random.below(STORES.len());
        let millis = 100 + u64::try_from(random.below(2500)).unwrap();
        match random.below(31) {
            0 | 1 => Self::Kill,
            2..=4 => Self::KillAtWrite { store, moment: Moment::After },
            5 | 6 => Self::KillAtWrite { store, moment: Moment::Before },
            7 => Self::KillAtWrite { store, moment: Moment::Meanwhile },
            8 => Self::KillAtWrite { store: 2, moment: Moment::AfterLedger },
            9 => Self::Restart,
            10 => Self::Freeze,
            11 => Self::Rebalance,
            12 => Self::Exchange { store },
            13 => Self::Cut { store, half: random.percent(50) },
            14 | 15 => Self::LoseAnswer { store, write: random.percent(70) },
            16 => Self::Away { store, millis },
            17 => Self::Slow { store, millis },
            18 => Self::Silent { store, millis },
            19 if random.percent(50) => Self::Terminate,
            19 => Self::RestartPostgres,
            20 => Self::RestartRedis([Kept::All, Kept::Some, Kept::None][random.below(3)]),
            21 => Self::Flush,
            22 if random.percent(40) => Self::Busy { millis },
            22 => Self::ReadOnly { but_deletes: random.percent(50), millis },
            23 => Self::BrokerSilent { millis },
            24 => Self::Swap { picky: random.percent(60) },
            25 | 26 => Self::Replay { pipeline: 2 * random.below(2) },
            27 | 28 => Self::Rewind { place: random.below(REWOUND.len()) },
            29 => Self::CacheRowLost { partition: random.below(3) },
            _ => Self::RestartBroker,
        }
    }

    /// Any of those by which no store loses what it held.
    pub(super) fn lossless(random: &mut Random) -> Self {
        loop {
            let fault = Self::any(random);
            if !fault.loses() {
                return fault;
            }
        }
    }

    /// Whether a store loses what it held.
    pub(super) fn loses(&self) -> bool {
        matches!(self, Self::Flush | Self::RestartRedis(Kept::Some | Kept::None) | Self::CacheRowLost { .. })
    }

    /// Its kind, to be counted by.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::KillAtWrite { moment: Moment::Before, .. } => "killed before a write",
            Self::KillAtWrite { moment: Moment::Meanwhile, .. } => "killed with a write on its way",
            Self::KillAtWrite { moment: Moment::After, .. } => "killed after a write",
            Self::KillAtWrite { moment: Moment::AfterLedger, .. } => "killed after the ledger",
            Self::Restart => "ended and started",
            Self::Freeze => "frozen until another took over",
            Self::Rebalance => "a replica came or went",
            Self::Exchange { .. } => "a module exchanged",
            Self::Swap { picky: true } => "a module exchanged for one that refuses",
            Self::Swap { picky: false } => "a module exchanged for one that takes all",
            Self::Replay { .. } => "dead letters replayed",
            Self::Rewind { .. } => "a store filled anew",
            Self::CacheRowLost { .. } => "a row of the cache's ledger lost",
            Self::Cut { half: false, .. } => "connections cut",
            Self::Cut { half: true, .. } => "connections half cut",
            Self::LoseAnswer { .. } => "an answer lost",
            Self::Away { .. } => "a store away",
            Self::Silent { .. } => "a store silent",
            Self::Slow { .. } => "a store slow",
            Self::Terminate => "sessions ended by PostgreSQL",
            Self::RestartPostgres => "PostgreSQL restarted",
            Self::RestartRedis(Kept::All) => "Redis restarted",
            Self::RestartRedis(Kept::Some) => "Redis restarted as it was before",
            Self::RestartRedis(Kept::None) => "Redis restarted empty",
            Self::Flush => "Redis emptied",
            Self::Busy { .. } => "Elasticsearch too busy",
            Self::ReadOnly { but_deletes: false, .. } => "an index read-only",
            Self::ReadOnly { but_deletes: true, .. } => "an index read-only but for deletes",
            Self::BrokerSilent { .. } => "the broker silent",
            Self::RestartBroker => "the broker restarted",
        }
    }

    /// Has it happen. False where there was nothing that it could happen to: no write came in time.
    pub(super) fn strike(self, world: &mut World, random: &mut Random) -> bool {
        match self {
            Self::Kill => {
                kill(world, VICTIM);
                world.start(VICTIM);
            }
            Self::KillAtWrite { store, moment } => {
                let process = world.replicas[VICTIM].1.as_ref().map(|run| run.id()).unwrap();
                let killed = Arc::new(AtomicBool::new(false));
                let done = killed.clone();
                let spring = Box::new(move || {
                    signal(process, "KILL");
                    done.store(true, Ordering::Relaxed);
                });
                let sign = match moment {
                    Moment::Before => Sign::Unsent(WRITE[store]),
                    Moment::Meanwhile => Sign::Request(WRITE[store]),
                    Moment::After => WRITTEN[store],
                    Moment::AfterLedger => MOVED,
                };
                world.wires[store].trap(Trap { replica: Some(VICTIM), sign, spring });
                // So that there is something to write; others may have all partitions nonetheless.
                world.produce(10, random);
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
            // A soak has no pipelines that refuse, and keeps its streams to itself.
            Self::Swap { .. } | Self::Replay { .. } | Self::CacheRowLost { .. } if world.typed.is_empty() => {
                return false;
            }
            Self::Rewind { .. } if world.streams.is_empty() || !world.rewinds.is_empty() => return false,
            Self::Swap { picky } => world.typed.swap(picky),
            Self::Replay { pipeline } => {
                let name = world.typed.topics()[pipeline].1.to_owned();
                let replicas = world.replicas.iter().filter(|(_, run)| run.is_some());
                // Whatever they answer: a replica may have just begun, or a store be away.
                replicas.for_each(|(program, _)| {
                    drop(program.run(&["dead-letters", "replay", "tidegate.toml", "--pipeline", &name]));
                });
            }
            Self::Rewind { place } => {
                let (stream, sink) = REWOUND[place];
                let arguments = ["--pipeline", &world.streams[stream].pipeline, "--sink", sink];
                world.rewinds.push(world.replicas[VICTIM].0.rewind(&arguments));
            }
            Self::CacheRowLost { partition } => {
                let (topic, pipeline) = world.typed.topics()[0];
                let (topic, pipeline) = (topic.name.clone(), pipeline.to_owned());
                world.lose_cache(|servers| servers.drop_cached(&pipeline, &topic, partition));
            }
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
            Self::Terminate => drop(world.database.rows(TERMINATE)),
            Self::RestartPostgres => {
                world.servers.restart_postgres();
                world.database.reconnect();
            }
            Self::RestartRedis(Kept::All) => world.servers.restart_redis(Kept::All),
            Self::RestartRedis(kept) => world.lose_cache(|servers| servers.restart_redis(kept)),
            Self::Flush => world.lose_cache(|servers| servers.flush_redis()),
            Self::Busy { millis } => hold(world, 2, Mode::Busy, millis),
            Self::ReadOnly { but_deletes, millis } => {
                let block = if but_deletes { "read_only_allow_delete" } else { "write" };
                if !world.servers.block(block, true) {
                    return false;
                }
                thread::park_timeout(Duration::from_millis(millis));
                assert!(world.servers.block(block, false));
            }
            Self::BrokerSilent { millis } => {
                let broker = world.servers.broker.pid().unwrap();
                signal(broker, "STOP");
                thread::park_timeout(Duration::from_millis(millis));
                signal(broker, "CONT");
            }
            Self::RestartBroker => world.servers.restart_broker(),
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
            Self::Busy { millis } | Self::ReadOnly { millis, .. } | Self::BrokerSilent { millis } => {
                write!(f, "{} ({millis} ms)", self.kind())
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
    if let Some(mut run) = world.replicas[replica].1.take() {
        // One that was started just now would merely die of the signal.
        let process = run.id();
        run.until("it to listen for signals", || listens(process).then_some(()));
        run.signal("TERM");
        let (code, troubles) = run.ended();
        // A store may still be in trouble: then it says that it was waiting.
        let waited = troubles.iter().filter(|line| line.starts_with("error")).all(|line| line.contains(WAITED));
        assert!(matches!(code, Some(0 | 4)) || code == Some(1) && waited, "it ended with {code:?}: {troubles:#?}");
    }
}

pub(super) fn kill(world: &mut World, replica: usize) {
    if let Some(run) = world.replicas[replica].1.take() {
        signal(run.id(), "KILL");
        drop(run);
    }
}

fn signal(process: u32, name: &str) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([format!("-{name}"), process.to_string()]).output();
}
