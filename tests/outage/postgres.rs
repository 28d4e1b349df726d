//! Tables in PostgreSQL: closed, missing, altered under the running pipeline, locked, away, without their ledger.

use xtask::services::Postgres;

use super::support::{BOOKSTORE, Broker, Database, Event, Folder, Stream, books, repeated, rows_of, service};

const ORDERS: &str = "CREATE TABLE fact_orders (
    id text PRIMARY KEY, user_id text, total numeric, status text, created_at timestamptz)";

/// The other tables that the transform declares.
const OTHERS: &str = "
    CREATE TABLE fact_order_items (id text PRIMARY KEY);
    CREATE TABLE dim_books (id text PRIMARY KEY);
    CREATE TABLE fact_inventory (book_id text PRIMARY KEY)";

/// A pipeline into a database of its own.
struct Case {
    database: Database,
    stream: Stream,
}

impl Case {
    fn new() -> Self {
        let case = Self::on(&service("postgres"));
        case.database.run(OTHERS);
        case.database.run(ORDERS);
        case
    }

    /// On this server, without tables.
    fn on(server: &str) -> Self {
        let database = Database::new(server);
        let config = format!(
            "[sinks.warehouse.postgres]\nurl = \"{}\"\n[[pipelines]]\n\
             name = \"{{pipeline}}\"\ntopics = [\"{{topic}}\"]\nsinks = {{ tables = \"warehouse\" }}\n{BOOKSTORE}",
            database.url
        );
        Self { stream: Stream::new(&Broker::shared(), "orders", books(), &config), database }
    }

    /// The table is what it should be, and no record went elsewhere.
    fn check(&self) {
        let query = "SELECT id, user_id, status FROM fact_orders ORDER BY id";
        let untroubled: Vec<Vec<String>> = rows_of(&self.stream.produced, "orders", "tables", BOOKSTORE, query)
            .into_iter()
            .map(|row| ["id", "user_id", "status"].map(|column| row[column].clone()).to_vec())
            .collect();
        assert!(!untroubled.is_empty());
        assert_eq!(
            self.database.rows("SELECT id, user_id, status FROM fact_orders ORDER BY id COLLATE \"C\""),
            untroubled
        );
        assert_eq!(self.stream.program.dead_letters(), 0);
    }

    /// The pipeline does not start, and says so once; after the cure it does.
    fn refuses(&self, parts: &[&str], cure: &str) {
        self.stream
            .program
            .start()
            .fails(&[&[&self.stream.pipeline, "sink `warehouse`", "PostgreSQL"], parts].concat());
        self.database.run(cure);
        let troubles = self.stream.running().stop();
        assert_eq!(troubles, [""; 0]);
        self.check();
    }

    /// The pipeline stops in mid-stream after `trouble`, and says so once; after the cure, a new start goes on.
    fn stops(mut self, trouble: &str, parts: &[&str], cure: &str) {
        let run = self.stream.running();
        self.database.run(trouble);
        self.stream.produce(&books());
        run.fails(&[&[&self.stream.pipeline, "sink `warehouse`", "PostgreSQL"], parts].concat());
        assert_eq!(self.stream.program.dead_letters(), 0);
        self.database.run(cure);
        self.stream.running().stop();
        self.check();
    }
}

#[test]
fn a_missing_table_stops_the_pipeline() {
    let case = Case::on(&service("postgres"));
    case.database.run(OTHERS);
    case.refuses(&["fact_orders", "is not there", "CREATE TABLE"], ORDERS);
}

#[test]
fn a_key_that_is_not_unique_stops_the_pipeline() {
    let case = Case::new();
    case.database.run("ALTER TABLE fact_orders DROP CONSTRAINT fact_orders_pkey");
    case.refuses(&["fact_orders", "UNIQUE"], "ALTER TABLE fact_orders ADD UNIQUE (id)");
}

#[test]
fn a_column_that_is_dropped_in_mid_stream_stops_the_pipeline() {
    Case::new().stops(
        "ALTER TABLE fact_orders DROP COLUMN status",
        &["fact_orders", "status", "ADD COLUMN"],
        "ALTER TABLE fact_orders ADD COLUMN status text",
    );
}

#[test]
fn a_table_that_is_dropped_in_mid_stream_stops_the_pipeline() {
    // The rows of before are gone with it: whoever drops a table brings it back whole.
    Case::new().stops(
        "ALTER TABLE fact_orders RENAME TO elsewhere",
        &["fact_orders", "create the table"],
        "ALTER TABLE elsewhere RENAME TO fact_orders",
    );
}

#[test]
fn a_constraint_that_is_dropped_in_mid_stream_stops_the_pipeline() {
    Case::new().stops(
        "ALTER TABLE fact_orders DROP CONSTRAINT fact_orders_pkey",
        &["CREATE UNIQUE INDEX"],
        "CREATE UNIQUE INDEX ON fact_orders (id)",
    );
}

#[test]
fn a_ledger_that_is_dropped_in_mid_stream_stops_the_pipeline() {
    let mut case = Case::new();
    let run = case.stream.running();
    case.database.run("ALTER SCHEMA tidegate RENAME TO elsewhere");
    case.stream.produce(&books());
    run.fails(&[&case.stream.pipeline, "sink `warehouse`", "ledger", "Restore it"]);
    // The rows are there and nobody knows of when: it is not begun afresh by a restart.
    case.stream.program.start().fails(&[&case.stream.pipeline, "the ledger of sink `warehouse` is gone", "Restore it"]);
    case.database.run("ALTER SCHEMA elsewhere RENAME TO tidegate");
    case.stream.running().stop();
    case.check();
}

#[test]
fn row_of_the_ledger_that_is_deleted_stops_the_pipeline_at_each_start_until_it_is_restored() {
    let case = Case::new();
    let run = case.stream.running();
    case.database.run("CREATE TABLE kept AS SELECT * FROM tidegate.ledger; DELETE FROM tidegate.ledger");
    // Nothing comes: it is found by looking.
    let lost = [case.stream.pipeline.as_str(), "the ledger of sink `warehouse` does not know", "Restore it"];
    run.fails(&lost);
    for _ in 0..2 {
        case.stream.program.start().fails(&lost);
    }
    assert_eq!(case.database.rows("SELECT count(*)::text FROM tidegate.ledger"), [["0"]]);
    case.database.run("INSERT INTO tidegate.ledger SELECT * FROM kept");
    case.stream.running().stop();
    case.check();
}

#[test]
fn a_table_that_is_locked_is_waited_for() {
    let mut case = Case::new();
    case.stream.program.change("[[pipelines]]\n", "statement_timeout_ms = 2000\n[[pipelines]]\n");
    let mut run = case.stream.running();
    case.database.run("BEGIN; LOCK TABLE fact_orders");
    case.stream.produce(&repeated(&books(), 20));
    run.complains(&[&case.stream.pipeline, "sink `warehouse`", "timeout", "lock"]);
    case.database.run("COMMIT");
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_unique_value_that_another_partition_frees_in_time_is_no_dead_letter() {
    let mut case = Case::new();
    case.stream.program.change("sinks = {", "clash_patience_seconds = 100\nsinks = {");
    case.database.run("CREATE UNIQUE INDEX one_each ON fact_orders (user_id) WHERE status = 'CLASHES'");
    let mut run = case.stream.running();
    // Two orders of the captured ones, on two partitions, that meet in one value.
    let pick = |partition| books().into_iter().find(|event| event.partition == partition).unwrap();
    let user = |event: &Event, user: &str, status: &str| {
        let mut value: serde_json::Value = serde_json::from_str(event.value.as_ref().unwrap()).unwrap();
        (value["after"]["user_id"], value["after"]["status"]) = (user.into(), status.into());
        Event { value: Some(value.to_string()), ..event.clone() }
    };
    let (first, second) = (pick(0), pick(1));
    case.stream.produce(&[user(&first, "kc-1", "CLASHES")]);
    case.stream.settled(&mut run);
    case.stream.produce(&[user(&second, "kc-1", "CLASHES")]);
    run.complains(&[&case.stream.pipeline, "-1", "sink `warehouse`", "one_each"]);
    case.stream.produce(&[user(&first, "kc-1", "FREE")]);
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
}

#[test]
fn a_server_that_refuses_the_password_or_is_away_is_told_and_gone_on_with() {
    let folder = Folder::new();
    let open = Postgres { password: Some("of-the-test".into()), ..Postgres::default() };
    let mut server = open.start(folder.path()).unwrap();
    let mut case = Case::on(server.url());
    case.database.run(OTHERS);
    case.database.run(ORDERS);

    case.stream.program.change("of-the-test", "hunter2");
    let said = case.stream.program.start().fails(&[
        &case.stream.pipeline,
        "sink `warehouse`",
        "PostgreSQL",
        "correct user and password",
    ]);
    assert!(!said.contains("hunter2"), "{said}");
    case.stream.program.change("hunter2", "of-the-test");

    server.stop().unwrap();
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "sink `warehouse`", "PostgreSQL", "refused", "is it running"]);
    server.restart().unwrap();
    case.stream.settled(&mut run);
    assert_eq!(run.troubles().len(), 1, "{:#?}", run.troubles());

    server.kill().unwrap();
    case.stream.produce(&repeated(&books(), 20));
    run.complains_after(1, &[&case.stream.pipeline, "sink `warehouse`", "PostgreSQL"]);
    server.restart().unwrap();
    case.database.reconnect();
    case.stream.settled(&mut run);
    case.check();
    let troubles = run.stop();
    assert_eq!(troubles.len(), 2, "{troubles:#?}");
}

#[test]
fn silent_server_is_told_and_does_not_keep_the_end() {
    let mut case = Case::new();
    // The kernel takes the connections, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = case.database.url.clone();
    case.stream.program.change(&url, &format!("postgres://u@{}/d", silent.local_addr().unwrap()));
    let mut run = case.stream.program.start();
    run.complains(&[&case.stream.pipeline, "sink `warehouse`", "waiting for the store", "no session within 10 s"]);
    let asked = std::time::Instant::now();
    run.signal("TERM");
    // By the deadline of 30 seconds it would be 4.
    let (code, troubles) = run.ended();
    assert!(matches!(code, Some(0 | 1)) && asked.elapsed().as_secs() < 15, "{code:?} {troubles:#?}");
}
