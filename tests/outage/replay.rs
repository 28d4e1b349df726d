//! Dead letters replayed into the running pipeline: what still may be made up for is, and nothing comes over what is
//! newer.

use std::process::Output;

use super::support::{BOOKSTORE, Broker, Database, Run, Stream, books, rows_of, service, until};

const ADMIN: &str = "[admin]\nlisten = \"unix:admin.sock\"\n";

/// What the command says, and its exit code.
fn replay(stream: &Stream, arguments: &[&str]) -> (i32, Vec<String>) {
    let command = [&["dead-letters", "replay", "tidegate.toml"], arguments].concat();
    let Output { status, stdout, stderr } = stream.program.run(&command);
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), said.lines().map(ToOwned::to_owned).collect())
}

/// How many records came to this.
fn count(said: &[String], outcome: &str) -> usize {
    said.iter().filter(|line| line.contains('@') && line.contains(&format!(" {outcome}"))).count()
}

/// A shop whose PostgreSQL does not take orders that are pending. Each event is written by itself, so that none hides
/// behind a later one.
fn shop() -> (Database, Stream) {
    let database = Database::new(&service("postgres"));
    database.run(
        "CREATE TABLE fact_order_items (id text PRIMARY KEY);
         CREATE TABLE dim_books (id text PRIMARY KEY);
         CREATE TABLE fact_inventory (book_id text PRIMARY KEY);
         CREATE TABLE fact_orders (id text PRIMARY KEY, user_id text, total numeric, status text,
            created_at timestamptz, CONSTRAINT settled CHECK (status <> 'PENDING'))",
    );
    let config = format!(
        "{ADMIN}[sinks.warehouse.postgres]\nurl = \"{}\"\n[[pipelines]]\nname = \"{{pipeline}}\"\n\
         topics = [\"{{topic}}\"]\nbatch = {{ max_events = 1 }}\nsinks = {{ tables = \"warehouse\" }}\n{BOOKSTORE}",
        database.url
    );
    let stream = Stream::new(&Broker::shared(), "orders", books(), &config);
    (database, stream)
}

fn table(database: &Database) -> Vec<Vec<String>> {
    database.rows("SELECT id, status FROM fact_orders ORDER BY id COLLATE \"C\"")
}

/// The program answers from this moment on.
fn listening(run: &mut Run) {
    run.says(&["admin.sock"]);
}

#[test]
fn rows_that_a_table_refused_are_there_after_a_replay_and_none_steps_back() {
    let (database, stream) = shop();
    let mut run = stream.program.start();
    listening(&mut run);
    stream.settled(&mut run);
    let letters = stream.program.dead_letters();
    let before = table(&database);
    let (code, said) = replay(&stream, &[]);
    assert_eq!(code, 1, "{said:#?}");
    let rejected = count(&said, "rejected");
    assert!(rejected > 0 && rejected < letters, "{said:#?}");
    assert_eq!(count(&said, "superseded"), letters - rejected, "{said:#?}");
    assert_eq!(table(&database), before);
    // Where the process ends, the marks stay.
    run.stop();
    database.run("ALTER TABLE fact_orders DROP CONSTRAINT settled");
    let mut run = stream.program.start();
    listening(&mut run);
    stream.settled(&mut run);
    until("that its partitions are its own", || {
        let (_, said) = replay(&stream, &["no-topic-0@0"]);
        assert_eq!(said, ["records: 0"]);
        (run.said().iter().filter(|line| line.contains("claimed")).count() == 3).then_some(())
    });
    let (code, said) = replay(&stream, &[]);
    assert_eq!((code, count(&said, "applied")), (0, rejected), "{said:#?}");
    let untroubled: Vec<Vec<String>> =
        rows_of(&stream.produced, "orders", "tables", BOOKSTORE, "SELECT id, status FROM fact_orders ORDER BY id")
            .into_iter()
            .map(|row| ["id", "status"].map(|column| row[column].clone()).to_vec())
            .collect();
    assert_eq!(table(&database), untroubled);
    // Once more is nothing new.
    let (code, said) = replay(&stream, &[]);
    assert_eq!((code, count(&said, "superseded")), (0, letters), "{said:#?}");
    assert_eq!(table(&database), untroubled);
    run.stop();
    assert_eq!(stream.program.dead_letters(), letters);
}
