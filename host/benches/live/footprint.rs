//! How soon the program is ready, and how much memory it holds when it has nothing to do.
//!
//! It is started with one module and its compiled code on disk, and asked over and over, by the socket of its admin API,
//! whether it is ready; what it answers says how far it has come. Then it is given many events, which leave in it what
//! such events leave: buffers, connections, plans. After a rest its memory is looked at.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::{Broker, PATIENCE};
use super::commands::Commands;
use super::events::Events;
use super::figures::Footprint;
use super::host::{configuration, from_kafka};
use super::stores::{CASES, Case, Store, Turn};

const STARTS: usize = 20;
const EVENTS: usize = 100_000;
/// Longer than any buffer is kept that is kept for the next moment.
const REST: Duration = Duration::from_secs(8);
/// Between two questions while it starts.
const LOOK: Duration = Duration::from_micros(300);

/// From Kafka into the store of a case.
pub(crate) async fn measure(case: &Case, store: &dyn Store, broker: &mut Broker) -> Footprint {
    let turn = Turn::new(&format!("{}-idle", case.id), "", 1);
    store.empty(&turn).await;
    go_through(case, case.name.split(':').next().unwrap(), &turn, &store.sink(&turn), broker).await
}

/// From Kafka into a file, which is no connection.
pub(crate) async fn measure_sqlite(broker: &mut Broker) -> Footprint {
    let turn = Turn::new("sqlite-idle", "", 1);
    go_through(&CASES[0], "SQLite", &turn, "[sinks.store.sqlite]\npath = \"store.db\"", broker).await
}

/// Starts it over and over, and then has it take events.
async fn go_through(case: &Case, name: &str, turn: &Turn, sink: &str, broker: &mut Broker) -> Footprint {
    let mut made = Commands::new(case);
    let events = Events::captured(case.capture, |record| !made.of(record).is_empty());
    let topic = format!("{}.{}", turn.pipeline, case.table);
    broker.make(&topic, 1).await;
    let configuration = configuration(case, &from_kafka(&broker.address), &turn.pipeline, &topic, sink);
    // The null sink forgets at each start where it stood.
    let configuration = configuration.replace("[sinks.nowhere.null]", "[sinks.nowhere.sqlite]\npath = \"nowhere.db\"");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("tidegate.toml"), format!("{configuration}\n[admin]\nlisten = \"unix:admin\"\n")).unwrap();

    let (program, cold) = Program::start(folder);
    program.stop();
    let mut starts: Vec<Start> = (0..STARTS)
        .map(|_| {
            let (program, start) = Program::start(folder);
            program.stop();
            start
        })
        .collect();
    starts.sort_by(|one, other| one.phases[READY - 1].cmp(&other.phases[READY - 1]));
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;

    let (program, _) = Program::start(folder);
    let fresh = program.memory("VmRSS");
    broker.fill((0..EVENTS).map(|number| events.record(&topic, number)));
    let begun = Instant::now();
    while program.durable() < EVENTS {
        // The group may wait for a member that is gone for as long as a session lasts.
        assert!(begun.elapsed() < 3 * PATIENCE, "tidegate does not get through");
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(REST);
    let figures = Footprint {
        store: format!("Kafka to {name}"),
        cold: milliseconds(cold.phases[READY - 1]),
        starts: STARTS,
        quickest: starts[0].phases.map(milliseconds),
        median: milliseconds(starts[STARTS / 2].phases[READY - 1]),
        processor: milliseconds(starts.iter().map(|start| start.processor).min().unwrap()),
        fresh,
        events: EVENTS,
        idle: program.memory("VmRSS"),
        anonymous: program.memory("RssAnon"),
        threads: program.status("Threads"),
    };
    program.stop();
    println!("sidecar: {}", serde_json::to_string(&figures).unwrap());
    figures
}

/// How far it has come: it answers, has its modules, has seen its stores, is ready.
const READY: usize = 4;

struct Start {
    /// When it had come so far.
    phases: [Duration; READY],
    /// Processor time until it was ready.
    processor: Duration,
}

/// The running program. It is killed when the value is dropped.
struct Program {
    process: Child,
    socket: PathBuf,
}

impl Program {
    /// Starts it, and waits until it is ready.
    fn start(folder: &Path) -> (Self, Start) {
        let begun = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "tidegate.toml"])
            .env("TIDEGATE_LOG", "error")
            .current_dir(folder)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut program = Self { process, socket: folder.join("admin") };
        let mut phases = [None; READY];
        loop {
            let reached = program.phase();
            let now = begun.elapsed();
            // One that was passed between two questions was reached by the later one at the latest.
            phases[..reached].iter_mut().for_each(|phase| *phase = phase.or(Some(now)));
            if let [Some(a), Some(b), Some(c), Some(d)] = phases {
                let processor = program.processor();
                return (program, Start { phases: [a, b, c, d], processor });
            }
            let ended = program.process.try_wait().unwrap();
            assert!(ended.is_none() && now < PATIENCE, "tidegate is not ready: {ended:?}");
            thread::sleep(LOOK);
        }
    }

    fn phase(&self) -> usize {
        let Some(answer) = self.ask("/readyz") else { return 0 };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        match answer["reasons"][0]["reason"].as_str() {
            None => READY,
            Some(reason) if reason.contains("modules are being loaded") => 1,
            Some(reason) if reason.contains("partitions are not assigned") => 3,
            Some(_) => 2,
        }
    }

    /// How many events are durable.
    fn durable(&self) -> usize {
        let metrics = self.ask("/metrics").unwrap();
        let counts = metrics.lines().filter(|line| line.starts_with("tidegate_events_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    /// The body of the answer; nothing while nobody listens.
    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// The processor time of its threads.
    fn processor(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let times = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("schedstat")).ok());
        times.map(|times| Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())).sum()
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// MiB.
    fn memory(&self, name: &str) -> f64 {
        self.status(name) as f64 / 1024.0
    }

    fn stop(mut self) {
        let asked = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &self.process.id().to_string()]).status();
        assert!(asked.unwrap().success(), "tidegate cannot be asked to end");
        assert!(self.process.wait().unwrap().success(), "tidegate fails");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Once it has ended there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
