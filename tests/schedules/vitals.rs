//! What a process takes of the machine over time, and whether that is flat.

use std::fs;
use std::time::{Duration, Instant};

/// How long a process must have lived for its memory to be judged.
const ENOUGH: Duration = Duration::from_secs(600);

/// What a process had at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    /// Of memory that is resident.
    kibibytes: u64,
    descriptors: u64,
    threads: u64,
}

/// What a process had, from its beginning on.
pub(super) struct Vitals {
    process: u32,
    begin: Instant,
    samples: Vec<Sample>,
}

/// Whether a process has a handler for SIGTERM.
pub(super) fn listens(process: u32) -> bool {
    const SIGTERM: u64 = 15;
    // One that has ended has no such line.
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|caught| u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (SIGTERM - 1)) != 0)
}

impl Vitals {
    pub(super) fn of(process: u32) -> Self {
        Self { process, begin: Instant::now(), samples: Vec::new() }
    }

    /// Looks once more.
    pub(super) fn look(&mut self) {
        let folder = format!("/proc/{}", self.process);
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("{folder}/fd")).unwrap().count();
        self.samples.push(Sample {
            at: self.begin.elapsed(),
            kibibytes: number("VmRSS:"),
            descriptors: u64::try_from(descriptors).unwrap(),
            threads: number("Threads:"),
        });
    }

    /// The last look in a few words.
    pub(super) fn now(&self) -> String {
        self.samples.last().map_or_else(String::new, Sample::told)
    }

    /// The medians of each twelfth of the time, a line each.
    pub(super) fn table(&self) -> Vec<String> {
        let line = |part: u32| {
            let median = self.median(part, part + 1, 12)?;
            Some(format!("{:5} s: {}", median.at.as_secs(), median.told()))
        };
        (0..12).filter_map(line).collect()
    }

    /// Whether it is flat: the median of the last quarter of the time at most a tenth and 4 MiB of memory, 8 descriptors
    /// and 4 threads above that of the second. None of a process that has not lived long enough to tell.
    pub(super) fn is_flat(&self) -> Option<bool> {
        self.samples.last().filter(|last| last.at >= ENOUGH)?;
        let (early, late) = (self.median(1, 2, 4)?, self.median(3, 4, 4)?);
        Some(
            late.kibibytes <= early.kibibytes + early.kibibytes / 10 + (4 << 10)
                && late.descriptors <= early.descriptors + 8
                && late.threads <= early.threads + 4,
        )
    }

    /// The medians of what was seen between two parts of the time.
    fn median(&self, from: u32, to: u32, of: u32) -> Option<Sample> {
        let end = self.samples.last()?.at;
        let within = |sample: &&Sample| sample.at > end * from / of && sample.at <= end * to / of;
        let within: Vec<&Sample> = self.samples.iter().filter(within).collect();
        let middle = |figure: &dyn Fn(&Sample) -> u64| {
            let mut figures: Vec<u64> = within.iter().map(|sample| figure(sample)).collect();
            figures.sort_unstable();
            figures.get(figures.len() / 2).copied()
        };
        Some(Sample {
            at: end * to / of,
            kibibytes: middle(&|sample| sample.kibibytes)?,
            descriptors: middle(&|sample| sample.descriptors)?,
            threads: middle(&|sample| sample.threads)?,
        })
    }
}

impl Sample {
    fn told(&self) -> String {
        let Self { kibibytes, descriptors, threads, .. } = self;
        format!(
            "{:.1} MiB, {descriptors} descriptors, {threads} threads",
            f64::from(u32::try_from(*kibibytes).unwrap()) / 1024.0
        )
    }
}

#[test]
fn growth_is_told_from_what_comes_and_goes() {
    let of = |kibibytes: &dyn Fn(u64) -> u64, descriptors: &dyn Fn(u64) -> u64| Vitals {
        process: 0,
        begin: Instant::now(),
        samples: (0..=1200)
            .map(|second| Sample {
                at: Duration::from_secs(second),
                kibibytes: kibibytes(second),
                descriptors: descriptors(second),
                threads: 20,
            })
            .collect(),
    };
    let (steady, spikes) = (|_| 60 << 10, |second| if second % 60 < 10 { 100 << 10 } else { 50 << 10 });
    assert_eq!(of(&steady, &|_| 50).is_flat(), Some(true));
    assert_eq!(of(&spikes, &|second| 50 + second % 7).is_flat(), Some(true));
    assert_eq!(of(&|second| (40 << 10) + 20 * second, &|_| 50).is_flat(), Some(false));
    assert_eq!(of(&steady, &|second| 50 + second / 40).is_flat(), Some(false));
    let mut short = of(&steady, &|_| 50);
    short.samples.truncate(100);
    assert_eq!(short.is_flat(), None);
}
