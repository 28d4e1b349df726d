//! The process itself: ended in good order or at once under load, or frozen while another replica takes over; and its
//! connections, cut in the middle of a transaction. In the
//! stores each row rises from state to state, without a gap that stays, without a step back, and nothing is written
//! twice.

mod killed;
mod monitor;

use std::net::SocketAddr;

use ::redis::{Commands as _, Connection};
use xtask::services::{Redis, Running};

use super::support::{
    BOOKSTORE, Broker, Cut, Cutter, Database, Event, Folder, ORDER_CACHE, Program, Run, Topic, books, cache_of,
    numbered, orders, service, settled, unique,
};

use self::monitor::Monitor;

/// The tables, and every state of an order that was ever written, in order.
const TABLES: &str = "
    CREATE TABLE fact_orders (id text PRIMARY KEY, user_id text, total numeric, status text, created_at timestamptz);
    CREATE TABLE fact_order_items (id text PRIMARY KEY);
    CREATE TABLE dim_books (id text PRIMARY KEY);
    CREATE TABLE fact_inventory (book_id text PRIMARY KEY);
    CREATE TABLE states (place bigserial, id text, status text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO states (id, status) VALUES (NEW.id, NEW.status); RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON fact_orders FOR EACH ROW EXECUTE FUNCTION note()";

/// How many updates of each row there are at once: enough that the program is at work for a while.
const ROUNDS: u32 = 500;

/// Two pipelines of one program, into PostgreSQL and into a Redis of its own.
struct Case {
    database: Database,
    program: Program,
    /// Topic and pipeline.
    books: (Topic, String),
    orders: (Topic, String),
    cache: Running,
    monitor: Monitor,
    rounds: u32,
    _folder: Folder,
}

impl Case {
    /// With the first load in its topics.
    fn new() -> Self {
        let (broker, database, folder) = (Broker::shared(), Database::new(&service("postgres")), Folder::new());
        database.run(TABLES);
        let cache = Redis::default().start(folder.path()).unwrap();
        let books = (broker.topic("orders", 3, &[]), unique("books"));
        let orders = (broker.topic("orders", 3, &[]), unique("orders"));
        let config = format!(
            "[sinks.warehouse.postgres]\nurl = \"{}\"\n[sinks.cache.redis]\nurl = \"{}\"\n\
             [[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\nbatch = {{ max_events = 20 }}\n\
             sinks = {{ tables = \"warehouse\" }}\n{BOOKSTORE}\n\
             [[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\nbatch = {{ max_events = 5 }}\n\
             format = \"debezium-flattened\"\nsinks = {{ cache = \"cache\" }}\n{}",
            database.url,
            cache.url(),
            books.1,
            books.0.name,
            orders.1,
            orders.0.name,
            ORDER_CACHE,
        );
        let mut program = Program::new(&broker, &config);
        // Who is gone without a word is not waited for for long.
        program.change("\"6000\"", "\"2000\"");
        let monitor = Monitor::of(cache.url());
        let mut case = Self { database, program, books, orders, cache, monitor, rounds: 0, _folder: folder };
        case.load();
        case
    }

    fn load(&mut self) {
        let rounds = self.rounds..self.rounds + ROUNDS;
        self.books.0.produce(&numbered(&books(), rounds.clone()));
        self.orders.0.produce(&numbered(&orders(), rounds.clone()));
        self.rounds = rounds.end;
    }

    fn settled(&self, run: &mut Run) {
        for (topic, pipeline) in [&self.books, &self.orders] {
            settled(run, topic, pipeline);
        }
    }

    fn connection(&self) -> Connection {
        ::redis::Client::open(self.cache.url()).unwrap().get_connection().unwrap()
    }

    /// The number of states that the table has been through.
    fn states(&self) -> u64 {
        self.database.rows("SELECT count(*) FROM states")[0][0].parse().unwrap()
    }

    /// Waits until the program has written to both stores, then sends it a signal while it has work left in both.
    fn interrupt(&self, run: &mut Run, signal: &str) {
        let mut cache = self.connection();
        let key = cache_of(&numbered(&orders(), 0..1), ORDER_CACHE).swap_remove(0).0;
        let mut standing = || -> (Option<String>, u64) { (cache.get(&key).unwrap(), self.states()) };
        let before = standing();
        run.until("it is at work", || {
            let now = standing();
            (now.0 != before.0 && now.1 != before.1).then_some(())
        });
        run.signal(signal);
        for (topic, pipeline) in [&self.books, &self.orders] {
            let ends: Vec<_> = topic.ends().into_iter().map(Some).collect();
            assert_ne!(topic.committed(pipeline), ends, "the load was too small: nothing was left to do");
        }
    }

    /// Both stores are what they should be, the table has been there by rising states, and no record went elsewhere.
    fn check(&self) {
        let last = self.rounds - 1..self.rounds;
        let ids = self.database.rows("SELECT id, status FROM fact_orders ORDER BY id COLLATE \"C\"");
        let mut wanted: Vec<Vec<String>> = numbered(&books(), last.clone()).iter().map(id_and_status).collect();
        wanted.sort();
        assert_eq!(ids, wanted);
        let steps = "SELECT id, status, before FROM (SELECT *, lag(status) OVER (PARTITION BY id ORDER BY place) AS \
                     before FROM states) AS steps WHERE before >= status";
        assert_eq!(self.database.rows(steps), Vec::<Vec<String>>::new(), "written twice, or a step back");

        let mut cache = self.connection();
        let keys: Vec<String> = cache.keys("order:*").unwrap();
        let mut entries: Vec<(String, String)> =
            keys.into_iter().map(|key| (key.clone(), cache.get(&key).unwrap())).collect();
        entries.sort();
        assert_eq!(entries, cache_of(&numbered(&orders(), last), ORDER_CACHE));
        let statuses = self.monitor.statuses(&mut cache);
        assert_eq!(statuses.keys().collect::<Vec<_>>(), entries.iter().map(|(key, _)| key).collect::<Vec<_>>());
        for (key, statuses) in statuses {
            assert!(
                statuses.is_sorted_by(|one, next| one < next),
                "{key} was written twice, or a step back: {statuses:?}"
            );
        }
        assert_eq!(self.program.dead_letters(), 0);
    }
}

fn id_and_status(event: &Event) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(event.value.as_ref().unwrap()).unwrap();
    ["id", "status"].map(|column| value["after"][column].as_str().unwrap().to_owned()).to_vec()
}

#[test]
fn a_signal_under_load_ends_the_program_in_time_and_in_good_order() {
    let case = Case::new();
    let mut run = case.program.start();
    case.interrupt(&mut run, "TERM");
    // One that takes longer than `shutdown_seconds` has another exit code.
    let (code, troubles) = run.ended();
    assert_eq!((code, troubles), (Some(0), Vec::new()));

    let mut run = case.program.start();
    case.settled(&mut run);
    assert_eq!(run.stop(), [""; 0]);
    case.check();
}

#[test]
fn a_program_that_is_killed_under_load_goes_on_where_its_stores_stand() {
    let mut case = Case::new();
    for _ in 0..2 {
        let mut run = case.program.start();
        case.interrupt(&mut run, "KILL");
        assert_eq!(run.ended().0, None);
        case.load();
    }
    let mut run = case.program.start();
    case.settled(&mut run);
    assert_eq!(run.stop(), [""; 0]);
    case.check();
}

#[test]
fn a_frozen_program_that_wakes_after_another_took_over_writes_nothing_of_its_own() {
    let mut case = Case::new();
    let mut frozen = case.program.start();
    case.interrupt(&mut frozen, "STOP");
    let replica = case.program.replica();
    let mut other = replica.start();
    case.settled(&mut other);
    // It wakes with a batch in flight, others in memory, and the claims of before.
    frozen.signal("CONT");
    frozen.says(&["claiming the partition again", "another claim owns it in sink"]);
    case.load();
    case.settled(&mut other);
    case.check();
    // And it serves again.
    other.stop();
    case.load();
    case.settled(&mut frozen);
    frozen.stop();
    case.check();
    assert_eq!(replica.dead_letters(), 0);
}

#[test]
fn a_transaction_whose_answer_is_lost_is_known_to_be_done_and_one_that_was_lost_is_done_again() {
    let mut case = Case::new();
    let database: SocketAddr = case.database.url.split(['@', '/']).nth(3).unwrap().parse().unwrap();
    // Not READ COMMITTED, which a transaction begins with.
    let commits = Cutter::before(database, "; COMMIT", "COMMIT");
    let executions = Cutter::before(case.cache.address(), "EXEC", "QUEUED");
    for (cutter, server) in [(&commits, database), (&executions, case.cache.address())] {
        case.program.change(&server.to_string(), &cutter.address.to_string());
        let (mut cuts, mut requests) = (0, 0);
        cutter.rule(move || {
            requests += 1;
            let cut = match requests % 6 {
                2 => Cut::Behind,
                5 => Cut::Before,
                _ => Cut::Nowhere,
            };
            // The last of them are left alone, so that it comes to an end.
            cuts += u32::from(cut != Cut::Nowhere);
            if cuts > 20 { Cut::Nowhere } else { cut }
        });
    }
    let mut run = case.program.start();
    case.settled(&mut run);
    run.stop();
    case.check();
    assert_eq!((commits.cuts(), executions.cuts()), (20, 20), "the load was too small");
}
