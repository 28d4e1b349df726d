//! What an operator sees ahead of a run, with nothing changed: what `check --connect` finds in the brokers and the
//! stores, and what `run --preview` would write.

use super::support::{BOOKSTORE, Broker, Database, ORDER_CACHE, Program, books, rows_of, service, settled, unique};

const TABLES: &str = "
    CREATE TABLE fact_orders (
        id text PRIMARY KEY, user_id text, total numeric, status text, created_at timestamptz);
    CREATE TABLE fact_order_items (
        id text PRIMARY KEY, order_id text, book_id text, quantity integer, price_at_purchase numeric);
    CREATE TABLE dim_books (
        id text PRIMARY KEY, title text, author text, price numeric, description text, cover_url text,
        isbn text, genre text, published_year integer, created_at timestamptz);
    CREATE TABLE fact_inventory (book_id text PRIMARY KEY, quantity integer, reserved integer, updated_at timestamptz)";

#[test]
fn check_finds_what_would_stop_a_pipeline_and_is_content_when_it_is_mended() {
    let (broker, database) = (Broker::shared(), Database::new(&service("postgres")));
    database.run(TABLES);
    database.run("DROP TABLE fact_order_items; ALTER TABLE fact_inventory DROP CONSTRAINT fact_inventory_pkey");
    let topic = broker.topic("orders", 1, &[]);
    let missing = Broker::name("orders");
    let pipeline = |name: &str, topic: &str, sinks: &str, transform: &str| {
        format!("[[pipelines]]\nname = \"{name}\"\ntopics = [\"{topic}\"]\nsinks = {{ {sinks} }}\n{transform}")
    };
    let (cached, stored) = (unique("cached"), unique("stored"));
    let config = format!(
        "[sinks.cache.redis]\nurl = \"redis://127.0.0.1:1\"\n[sinks.warehouse.postgres]\nurl = \"{}\"\n{}{}",
        database.url,
        pipeline(&cached, &missing, "cache = \"cache\"", ORDER_CACHE),
        pipeline(&stored, &topic.name, "tables = \"warehouse\"", BOOKSTORE),
    );
    let mut program = Program::new(&broker, &config);

    let (code, lines) = program.check();
    assert_eq!(code, 2, "{lines:#?}");
    let found = |parts: &[&str]| {
        let told = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        assert_eq!(told, 1, "{parts:?} is not told once: {lines:#?}");
    };
    found(&["tidegate.toml: ", &cached, "topics", &missing, "is not there"]);
    found(&["tidegate.toml: ", &cached, "sink `cache`", "127.0.0.1:1", "is it running"]);
    found(&["tidegate.toml: ", &stored, "sink `warehouse`", "fact_order_items", "CREATE TABLE"]);
    found(&["tidegate.toml: ", &stored, "sink `warehouse`", "fact_inventory", "UNIQUE"]);
    let faults = lines.iter().filter(|line| !line.contains(": note: ")).count();
    assert_eq!(faults, 4, "{lines:#?}");
    assert_eq!(database.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'tidegate'"), [[""; 0]; 0], "it has written");

    program.change(&missing, &topic.name);
    program.change("redis://127.0.0.1:1", &service("redis"));
    database.run("DROP TABLE fact_inventory, fact_orders, dim_books");
    database.run(TABLES);
    let (code, lines) = program.check();
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines.last().unwrap().contains("nothing wrong"), "{lines:#?}");
}

#[test]
fn what_may_only_hold_a_partition_for_a_while_is_noted_and_nothing_is_wrong() {
    let (broker, database) = (Broker::shared(), Database::new(&service("postgres")));
    database.run(TABLES);
    database.run("ALTER TABLE fact_order_items ADD CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES fact_orders");
    let (topic, pipeline) = (broker.topic("orders", 1, &[]), unique("noted"));
    let config = format!(
        "[sinks.warehouse.postgres]\nurl = \"{}\"\n[[pipelines]]\nname = \"{pipeline}\"\ntopics = [\"{}\"]\n\
         sinks = {{ tables = \"warehouse\" }}\n{BOOKSTORE}",
        database.url, topic.name
    );

    let (code, lines) = Program::new(&broker, &config).check();
    assert_eq!(code, 0, "{lines:#?}");
    let noted = |line: &&String| line.contains("sink `warehouse`: note: ") && line.contains("foreign key of_order");
    // Both of its ends may have to wait: the items for their order, and an order's delete for its items.
    assert_eq!(lines.iter().filter(noted).count(), 2, "{lines:#?}");
    assert!(lines.last().unwrap().contains("nothing wrong"), "{lines:#?}");
}

#[test]
fn a_preview_shows_what_would_be_written_and_leaves_store_and_group_alone() {
    let (broker, pipeline, database) = (Broker::shared(), unique("preview"), Database::new(&service("postgres")));
    database.run(TABLES);
    let topic = broker.topic("orders", 3, &books());
    let config = format!(
        "[sinks.warehouse.postgres]\nurl = \"{}\"\n[[pipelines]]\nname = \"{pipeline}\"\ntopics = [\"{}\"]\n\
         sinks = {{ tables = \"warehouse\" }}\n{BOOKSTORE}",
        database.url, topic.name
    );
    let program = Program::new(&broker, &config);
    let query = "SELECT id, user_id, status FROM fact_orders ORDER BY id";
    let untroubled = rows_of(&books(), "orders", "tables", BOOKSTORE, query);

    let mut run = program.preview("out.db");
    run.until("the preview to hold all", || (program.rows("out.db", query) == Some(untroubled.clone())).then_some(()));
    assert_eq!(run.stop(), [""; 0]);
    assert_eq!(topic.committed(&pipeline), [None; 3], "the pipeline's own group has moved");
    assert_eq!(database.rows(query), [[""; 0]; 0]);

    // What was seen is then done for good, from the first record on.
    let mut run = program.start();
    settled(&mut run, &topic, &pipeline);
    assert_eq!(run.stop(), [""; 0]);
    let stored = database.rows("SELECT id, user_id, status FROM fact_orders ORDER BY id COLLATE \"C\"");
    let previewed: Vec<_> =
        untroubled.iter().map(|row| ["id", "user_id", "status"].map(|column| row[column].clone())).collect();
    assert_eq!(stored, previewed);
}
