//! The five systems on real servers: sources under random load, Debezium, Kafka, the program, and the stores. When the
//! load rests, each store equals its source by the system's own rule.
//!
//! `TIDEGATE_LIVE_SECONDS` is how long the load lasts in all, and `TIDEGATE_LIVE_SEED` repeats its choices; how sessions
//! and replicas meet is never the same.

mod application;
mod audit;
mod broker;
mod generator;
pub(crate) mod random;
mod replica;
mod rules;
mod session;
mod source;
mod stores;
mod tables;

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_tests::service;
use xtask::verify::check::Verdict;
use xtask::verify::recorded::{Change, Operation};

use self::application::Application;
use self::broker::Broker;
use self::generator::Tally;
use self::replica::{Names, Replica};
use self::rules::Facts;
use self::session::psql;
use self::source::Source;
use self::stores::{Indexes, RedisDatabase, now};

/// Sessions at work on each database.
const SESSIONS: u64 = 2;

/// How long anything may take that is waited for, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `attempt` succeeds, and fails when it has not in time, with its last error.
fn wait_for<T, E: Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < end, "{what}: waited in vain: {error}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

/// Everything that a run has on the servers. What is named first is removed first.
struct Systems {
    order_cache: Vec<Source>,
    cache_invalidation: Vec<Source>,
    bookstore: Vec<Source>,
    trackops: Vec<Source>,
    company_search: Vec<Source>,
    /// Of order-cache, cache-invalidation and trackops-cache.
    caches: [RedisDatabase; 3],
    analytics: Analytics,
    indexes: Indexes,
    _broker: Broker,
    messages: String,
    dead_letters: String,
    folder: TempDir,
    /// When the first entry can have been written, in milliseconds since 1970.
    begin: i64,
    /// Those of cache-invalidation and trackops-cache.
    applications: [Application; 2],
}

/// The database of the tables that bookstore-analytics writes.
struct Analytics {
    server: String,
    name: String,
}

impl Analytics {
    fn new(run: &str) -> Self {
        let analytics = Self { server: service("postgres"), name: format!("{run}_analytics") };
        psql(&format!("{}/postgres", analytics.server), &format!("CREATE DATABASE {};", analytics.name));
        // The tables of the Docker system, without its roles.
        let tables = std::fs::read_to_string(tidegate_tests::root().join("deploy/compose/postgres/3-analytics.sql"));
        let tables = tables.unwrap();
        let (_, tables) = tables.split_once("SET ROLE tidegate;").unwrap();
        psql(&analytics.url(), tables);
        analytics
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }
}

impl Drop for Analytics {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE);", self.name);
        let dropped = session::try_psql(&format!("{}/postgres", self.server), &drop);
        assert!(dropped.is_ok() || thread::panicking(), "{dropped:?}");
    }
}

impl Systems {
    fn new(run: &str) -> Self {
        let (messages, dead_letters) = (format!("{run}.order-events"), format!("{run}.dead-letters"));
        let broker = Broker::new(run, &[&messages, &dead_letters]);
        let mut caches = [2, 12, 13].map(|number| RedisDatabase::new(number, &format!("{run}:")));
        let groups = ["order-cache", "cdc-cascade", "bookstore-analytics", "trackops-cache", "company-search"];
        let [order_cache, cache_invalidation, bookstore, trackops, company_search] = thread::scope(|scope| {
            groups
                .map(|group| scope.spawn(move || Source::all(group, run)))
                .map(|source| source.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure)))
        });
        let codes = cache_invalidation[0].tables[0].keys.iter().map(|key| key[0].trim_matches('\'').to_owned());
        let codes = codes.chain(["777001", "777002"].map(str::to_owned)).collect();
        let customers = (0..tables::CUSTOMERS + 2).map(tables::customer).collect();
        let mut applications = [
            Application::new(&cache_invalidation[0].url, "", "code", codes),
            Application::new(&trackops[0].url, "orders:customer:", "customer_id", customers),
        ];
        // Entries from before the first event.
        for (application, cache) in applications.iter_mut().zip(&mut caches[1..]) {
            application.read_all(cache);
        }
        let systems = Self {
            order_cache,
            cache_invalidation,
            bookstore,
            trackops,
            company_search,
            caches,
            analytics: Analytics::new(run),
            indexes: Indexes::new(run),
            _broker: broker,
            messages,
            dead_letters,
            folder: tempfile::tempdir().unwrap(),
            begin: now(),
            applications,
        };
        systems.sources().for_each(Source::wait_for_stream);
        let config = replica::configuration(&Names {
            run,
            caches: systems.caches.each_ref().map(|cache| cache.url.as_str()),
            analytics: &systems.analytics.url(),
            index_prefix: &systems.indexes.prefix,
            topics: systems.groups().map(|sources| {
                let topics =
                    sources.iter().flat_map(|source| source.tables.iter().map(|table| source.topic(&table.name)));
                topics.collect()
            }),
            messages: &systems.messages,
            dead_letters: &systems.dead_letters,
        });
        std::fs::write(systems.config(), config).unwrap();
        systems
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    fn groups(&self) -> [&[Source]; 5] {
        [&self.order_cache, &self.cache_invalidation, &self.bookstore, &self.trackops, &self.company_search]
            .map(Vec::as_slice)
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.groups().into_iter().flatten()
    }

    /// Random work on all sources, at least for that long, while `meanwhile` runs.
    fn load(&mut self, seed: u64, lasting: Duration, meanwhile: impl FnOnce(&Path)) -> Tally {
        let until = Instant::now() + lasting;
        let done = AtomicBool::new(false);
        let goes_on = || !done.load(Ordering::Relaxed) || Instant::now() < until;
        let config = self.config();
        let [_, sinners, customers] = &mut self.caches;
        let [readers, others] = &mut self.applications;
        let sources =
            [&self.order_cache, &self.cache_invalidation, &self.bookstore, &self.trackops, &self.company_search];
        let sources: Vec<_> = sources.into_iter().flatten().collect();
        thread::scope(|scope| {
            let mut sessions = Vec::new();
            for (number, source) in (0..).zip(&sources) {
                for session in 0..SESSIONS {
                    let seed = seed + 1000 * number + session;
                    sessions.push(scope.spawn(move || generator::work(&source.url, &source.tables, seed, goes_on)));
                }
            }
            scope.spawn(move || readers.work(sinners, seed + 100, goes_on));
            scope.spawn(move || others.work(customers, seed + 200, goes_on));
            // Also when it panics: the sessions would go on for ever.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(&config)));
            done.store(true, Ordering::Relaxed);
            let mut tally = Tally::default();
            for session in sessions {
                tally.add(session.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure)));
            }
            ended.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
            tally
        })
    }

    /// Waits until every store equals its source. `at_rest` says whether the stores had taken everything in when the
    /// applications last read.
    fn assert_equal(&mut self, replicas: &mut [&mut Replica], at_rest: bool) -> [Facts; 5] {
        let facts = self.groups().map(Facts::new);
        let mut last = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            for replica in &mut *replicas {
                replica.assert_runs();
            }
            let verdicts = self.verdicts(&facts, at_rest);
            let differences: Vec<_> = verdicts.iter().flat_map(|verdict| &verdict.differences).collect();
            if differences.is_empty() {
                for verdict in verdicts {
                    println!("{}: {} values are the same", verdict.system, verdict.compared);
                    assert_ne!(verdict.compared, 0, "{}: nothing was compared", verdict.system);
                }
                return facts;
            }
            let told: Vec<_> = differences.iter().map(|difference| difference.to_string()).collect();
            let system = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
            let mut shown: Vec<String> = Vec::new();
            for line in told {
                if shown.iter().filter(|other| system(other) == system(&line)).count() < 8 {
                    shown.push(line);
                }
            }
            last.clone_from(&shown);
            assert!(
                Instant::now() < end,
                "{} values differ long after the load; of each system the first:\n{}",
                differences.len(),
                last.join("\n")
            );
            thread::sleep(Duration::from_millis(250));
        }
    }

    fn verdicts(&mut self, facts: &[Facts; 5], at_rest: bool) -> Vec<Verdict> {
        let written = self.begin..=now();
        let [orders, sinners, bookstore, trackops, company] = facts;
        let [order_entries, sinner_entries, trackops_entries] = self.caches.each_mut().map(RedisDatabase::entries);
        let [readers, customers] = &self.applications;
        let messages = (self.messages.as_str(), Broker::records(&self.messages));
        let letters = Broker::records(&self.dead_letters);
        let systems: Vec<_> = self.groups().into_iter().zip([orders, sinners, bookstore, trackops, company]).collect();
        vec![
            rules::order_cache(orders, order_entries, &written),
            rules::cache_invalidation(readers, sinner_entries, at_rest),
            rules::bookstore_analytics(bookstore, &self.analytics.url()),
            rules::trackops_cache(trackops, customers, trackops_entries, at_rest, &written, messages),
            rules::company_search(company, &self.indexes),
            rules::dead_letters(&systems, &letters),
        ]
    }
}

#[test]
fn five_systems_equal_their_sources_under_random_load_on_one_replica_and_on_two_that_come_and_go() {
    let seed = setting("TIDEGATE_LIVE_SEED").unwrap_or_else(|| u64::try_from(now()).unwrap() % 1_000_000);
    let lasting = Duration::from_secs(setting("TIDEGATE_LIVE_SECONDS").unwrap_or(20)) / 2;
    println!("TIDEGATE_LIVE_SEED={seed}");
    let mut systems = Systems::new(&format!("live_{}", now()));
    let config = systems.config();

    let mut first = Replica::start(&config, "first");
    first.wait_for_claims(0);
    let mut tally = systems.load(seed, lasting, |_| ());
    systems.assert_equal(&mut [&mut first], false);

    // Partitions go to the second and come back; then the first dies, and all go to the second at once.
    let mut second = None;
    let mut claims = first.claims();
    let first = &mut Some(first);
    tally.add(systems.load(seed + 1, lasting, |config| {
        let one = first.as_mut().unwrap();
        let mut other = Replica::start(config, "second");
        other.wait_for_claims(0);
        claims = one.claims();
        other.stop();
        one.wait_for_claims(claims);
        let mut other = Replica::start(config, "third");
        let before = other.wait_for_claims(0);
        first.take().unwrap().kill();
        other.wait_for_claims(before);
        let mut one = Replica::start(config, "fourth");
        one.wait_for_claims(0);
        *first = Some(one);
        second = Some(other);
    }));
    let (mut first, mut second) = (first.take().unwrap(), second.unwrap());
    systems.assert_equal(&mut [&mut first, &mut second], false);

    // At rest, an entry that an application reads again stays until its row changes, and no longer.
    for (application, cache) in systems.applications.iter_mut().zip(&mut systems.caches[1..]) {
        application.read_all(cache);
    }
    psql(&systems.cache_invalidation[0].url, "UPDATE sinners SET name = 'renamed ' || code WHERE code % 3 = 0;");
    let change = format!(
        "UPDATE orders SET customer_id = '{}' WHERE customer_id = '{}';",
        tables::customer(1),
        tables::customer(0)
    );
    psql(&systems.trackops[0].url, &change);
    let facts = systems.assert_equal(&mut [&mut first, &mut second], true);

    first.stop();
    second.stop();
    tell(tally, &facts);
}

/// Prints what the load was made of. Each kind of trouble must have been among it, or the test has shown nothing of it.
fn tell(tally: Tally, facts: &[Facts; 5]) {
    println!("{tally:?}");
    assert!(tally.committed > 0 && tally.rolled_back > 0 && tally.rolled_back_in_part > 0, "{tally:?}");
    for (system, facts) in
        ["order-cache", "cache-invalidation", "bookstore-analytics", "trackops-cache", "company-search"]
            .iter()
            .zip(facts)
    {
        let count = |of: &dyn Fn(&Change) -> bool| facts.changes.iter().filter(|change| of(change)).count();
        let kinds = [
            ("created", count(&|change| change.operation == Operation::Create)),
            ("updated", count(&|change| change.operation == Operation::Update)),
            ("deleted", count(&|change| change.operation == Operation::Delete)),
            ("moved to another key", count(&|change| change.moved_here)),
        ];
        let unsent = count(&|change| !change.unsent.is_empty());
        println!("{system}: {kinds:?}, with a value left unsent: {unsent}");
        for (kind, count) in kinds {
            assert_ne!(count, 0, "{system}: nothing was {kind}");
        }
        let has_unsent = !matches!(*system, "cache-invalidation" | "trackops-cache");
        assert_eq!(unsent > 0, has_unsent, "{system}: values left unsent");
    }
}
