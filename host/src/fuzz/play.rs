//! The loop: alters an input, runs it, keeps it where it has taken a new branch.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::alter::{Chance, alter};
use super::coverage::Coverage;
use super::{Asked, Target, data};

/// An input that takes longer has found something.
const LONGEST: Duration = Duration::from_secs(20);
/// The memory that all inputs of a target may bring the program to.
const MOST_MEMORY: u64 = 1 << 30;

/// Plays the inputs of a target and alterations of them, as many as its tests do, or for as long as the command says.
pub(super) fn play(target: &Target) {
    let asked = Asked::of_environment();
    let mut inputs = (target.seeds)();
    inputs.extend(files(&data("fuzz").join(target.name)));
    assert!(!inputs.is_empty(), "{} has nothing to begin with", target.name);
    match &asked {
        None => for_a_moment(target, &inputs),
        Some(asked) => at_length(target, inputs, asked),
    }
}

fn for_a_moment(target: &Target, inputs: &[Vec<u8>]) {
    let mut chance = Chance::new(1);
    inputs.iter().for_each(|input| run(target, input, &std::env::temp_dir()));
    for _ in 0..target.runs {
        run(target, &next(target, inputs, &mut chance), &std::env::temp_dir());
    }
}

fn at_length(target: &Target, mut inputs: Vec<Vec<u8>>, asked: &Asked) {
    let folder = asked.folder.join(target.name);
    fs::create_dir_all(&folder).unwrap();
    inputs.extend(files(&folder));
    let mut coverage = Coverage::new();
    assert!(coverage.is_counted(), "branches are not counted: use `cargo xtask fuzz`");
    let mut chance = Chance::new(asked.seed);
    let began = Instant::now();
    // Also kept where the process ends without a word, or not at all.
    let current = asked.folder.join(format!("{}-last", target.name));
    let runs = Arc::new(AtomicU64::new(0));
    watch(runs.clone(), current.clone());
    let last = File::create(&current).unwrap();
    let mut one = |input: &[u8]| {
        last.write_all_at(input, 0).and_then(|()| last.set_len(input.len() as u64)).unwrap();
        run(target, input, &asked.folder);
        runs.fetch_add(1, Ordering::Relaxed);
        coverage.is_new()
    };
    // What takes no branch that another does not take is left behind.
    let mut kept: Vec<Vec<u8>> = inputs.into_iter().filter(|input| one(input)).collect();
    let (begun_with, mut told) = (kept.len(), began);
    while began.elapsed() < asked.time {
        let input = next(target, &kept, &mut chance);
        if one(&input) {
            fs::write(folder.join(name_of(&input)), &input).unwrap();
            kept.push(input);
        }
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!("  {}: {} runs, {} inputs", target.name, runs.load(Ordering::Relaxed), kept.len());
        }
    }
    let (taken, all) = coverage.taken();
    println!(
        "  {}: {} runs in {} s, {begun_with} inputs became {}, {taken} of {all} branches, {} MiB at most",
        target.name,
        runs.load(Ordering::Relaxed),
        began.elapsed().as_secs(),
        kept.len(),
        most_memory() >> 20,
    );
    assert!(most_memory() < MOST_MEMORY, "the inputs of {} take too much memory", target.name);
}

/// An alteration of one of the inputs: the newest are the most promising.
fn next(target: &Target, inputs: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let recent = inputs.len().min(20);
    let of_recent = chance.below(3) == 0;
    let at = if of_recent { inputs.len() - 1 - chance.below(recent) } else { chance.below(inputs.len()) };
    let other = &inputs[chance.below(inputs.len())];
    alter(&inputs[at], other, target.words, target.most_bytes, chance)
}

/// Runs one input. One that fails is kept in this folder.
fn run(target: &Target, input: &[u8], folder: &Path) {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = began.elapsed();
    if outcome.is_ok() && took < LONGEST {
        return;
    }
    let path = folder.join(format!("{}-failed-{}", target.name, name_of(input)));
    fs::write(&path, input).unwrap();
    panic!(
        "{} fails after {took:?} on {}: mend it, and keep the file in tests/fuzz/{} under a name that says what it was",
        target.name,
        path.display(),
        target.name,
    );
}

/// Ends the process when an input hangs: it cannot be stopped otherwise.
#[allow(clippy::exit)]
fn watch(runs: Arc<AtomicU64>, current: PathBuf) {
    std::thread::spawn(move || {
        let mut before = u64::MAX;
        loop {
            std::thread::sleep(LONGEST * 3);
            let now = runs.load(Ordering::Relaxed);
            if Arc::strong_count(&runs) > 1 && now == before {
                println!("  hangs on {}", current.display());
                std::process::exit(101);
            }
            before = now;
        }
    });
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn name_of(input: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The most memory that this process has held, bytes; 0 where the system does not tell.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}
