//! The order of a batch's rows where rows of one table hang on those of another.

use super::super::catalog::Facts;
use super::super::rows::{Change, Known, group};
use super::*;
use crate::command::collapse::{Parts, Tagged, collapse};

#[tokio::test]
async fn child_written_behind_its_parents_delete_survives_the_batch() {
    // An answer that replaces an aggregate: the parent goes, and its children with it; then both are made again.
    let commands = [
        vec![
            delete("parent", r#"{"id":1}"#),
            upsert("parent", r#"{"id":1}"#, r#"{"n":1}"#),
            upsert("child", r#"{"id":10}"#, r#"{"parent":1}"#),
        ],
        vec![
            delete("parent", r#"{"id":1}"#),
            upsert("parent", r#"{"id":1}"#, r#"{"n":2}"#),
            upsert("child", r#"{"id":11}"#, r#"{"parent":1}"#),
        ],
    ];
    let mut ends = Vec::new();
    for together in [false, true] {
        let bench = PostgresBench::new();
        bench.sql(
            "CREATE TABLE parent (id int PRIMARY KEY, n int);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE)",
        );
        let mut declared = table("parent", &["id"]);
        declared.tables.extend(table("child", &["id"]).tables);
        let mut run = Run::new(&bench, &declared).await;
        match together {
            false => {
                for answer in &commands {
                    run.applied(answer).await;
                }
            }
            true => run.applied(&commands.concat()).await,
        }
        ends.push(bench.sql("SELECT id FROM child ORDER BY id"));
    }
    assert_eq!(ends[0], ends[1], "left: a batch each; right: in one batch");
}

#[tokio::test]
async fn upsert_behind_a_parents_delete_is_not_folded_before_it() {
    let commands = || {
        [
            upsert("child", r#"{"id":10}"#, r#"{"parent":1}"#),
            delete("parent", r#"{"id":1}"#),
            upsert("parent", r#"{"id":1}"#, r#"{"n":2}"#),
            upsert("child", r#"{"id":10}"#, r#"{"parent":1}"#),
        ]
    };
    let mut ends = Vec::new();
    for together in [false, true] {
        let bench = PostgresBench::new();
        bench.sql(
            "CREATE TABLE parent (id int PRIMARY KEY, n int); INSERT INTO parent VALUES (1, 1);
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE)",
        );
        let mut declared = table("parent", &["id"]);
        declared.tables.extend(table("child", &["id"]).tables);
        let mut run = Run::new(&bench, &declared).await;
        let tagged: Vec<_> =
            (0..).zip(commands()).map(|(offset, command)| Tagged { offset, transform: 0, command }).collect();
        match together {
            false => {
                for one in &tagged {
                    run.applied(std::slice::from_ref(&one.command)).await;
                }
            }
            true => {
                let writes = collapse(&tagged, &Parts::of(&tagged), &Default::default(), &run.sink.reach());
                let folded: Vec<_> = writes.iter().map(|write| write.command.clone().into_owned()).collect();
                run.applied(&folded).await;
            }
        }
        ends.push(bench.sql("SELECT id FROM child ORDER BY id"));
    }
    assert_eq!(ends[0], ends[1], "left: a batch each; right: in one batch");
}

/// Rows of `parent` and `child` after these commands: a batch each, and in one batch.
async fn both_ends(schema: &str, commands: &[Command]) -> [Vec<Vec<Option<String>>>; 2] {
    let mut ends = Vec::new();
    for together in [false, true] {
        let bench = PostgresBench::new();
        bench.sql(schema);
        let mut declared = table("parent", &["id"]);
        declared.tables.extend(table("child", &["id"]).tables);
        let mut run = Run::new(&bench, &declared).await;
        for batch in commands.chunks(if together { commands.len() } else { 1 }) {
            run.applied(batch).await;
        }
        ends.push(bench.sql("SELECT to_jsonb(p) FROM parent p UNION ALL SELECT to_jsonb(c) FROM child c ORDER BY 1"));
    }
    ends.try_into().unwrap()
}

#[tokio::test]
async fn rows_that_others_reach_end_as_in_a_batch_each() {
    let child = |id: u32, values: &str| upsert("child", &format!("{{\"id\":{id}}}"), values);
    let parent = |id: u32, values: &str| upsert("parent", &format!("{{\"id\":{id}}}"), values);
    let without = |table: &str, id: u32| delete(table, &format!("{{\"id\":{id}}}"));
    let set_null = "CREATE TABLE parent (id int PRIMARY KEY);
                    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL)";
    let of_itself = "CREATE TABLE parent (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, n int);
                     CREATE TABLE child (id int PRIMARY KEY)";
    let handed_on = "CREATE TABLE parent (id int PRIMARY KEY, name text UNIQUE);
                     CREATE TABLE child (id int PRIMARY KEY, name text REFERENCES parent (name) ON UPDATE CASCADE)";
    let trigger = "CREATE TABLE parent (id int PRIMARY KEY, children int);
                   CREATE TABLE child (id int PRIMARY KEY, parent int);
                   CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN UPDATE parent SET children = coalesce(children, 0) + 1 WHERE id = NEW.parent; RETURN NULL; END';
                   CREATE TRIGGER counted AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION count_it()";
    let partitioned = "CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY LIST (id);
                       CREATE TABLE one PARTITION OF parent FOR VALUES IN (1);
                       CREATE TABLE two PARTITION OF parent FOR VALUES IN (2);
                       CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES one ON DELETE CASCADE)";
    let again = [parent(1, "{}"), child(9, r#"{"parent":1}"#), without("parent", 1), parent(1, "{}")];
    let replaced = [&again[..], &[child(10, r#"{"parent":1}"#)]].concat();
    let cases: [(&str, Vec<Command>); 6] = [
        (set_null, replaced.clone()),
        (partitioned, replaced),
        (
            of_itself,
            vec![
                parent(1, r#"{"parent":null,"n":1}"#),
                parent(2, r#"{"parent":1,"n":1}"#),
                without("parent", 1),
                parent(1, r#"{"parent":null,"n":2}"#),
                parent(3, r#"{"parent":1,"n":2}"#),
                parent(2, r#"{"parent":1}"#),
            ],
        ),
        (
            of_itself,
            // The first delete has taken row 2 along, and its `n`, before the second one comes.
            vec![
                parent(2, r#"{"parent":2,"n":1}"#),
                parent(1, r#"{"parent":1,"n":1}"#),
                parent(2, r#"{"parent":1}"#),
                without("parent", 1),
                parent(2, r#"{"parent":2}"#),
                without("parent", 1),
            ],
        ),
        (
            handed_on,
            vec![
                parent(1, r#"{"name":"a"}"#),
                child(1, r#"{"name":"a"}"#),
                parent(1, r#"{"name":"b"}"#),
                parent(2, r#"{"name":"a"}"#),
                child(2, r#"{"name":"a"}"#),
            ],
        ),
        (
            trigger,
            vec![
                parent(1, "{}"),
                child(1, r#"{"parent":1}"#),
                child(2, r#"{"parent":2}"#),
                parent(2, "{}"),
                child(3, r#"{"parent":2}"#),
            ],
        ),
    ];
    for (schema, commands) in cases {
        let [one_by_one, together] = both_ends(schema, &commands).await;
        assert_eq!(one_by_one, together, "{schema}");
    }
}

#[test]
fn rows_that_reach_no_others_are_gathered_over_those_of_other_tables() {
    let mut commands = Vec::new();
    for id in 0..20 {
        for name in ["a", "b", "c"] {
            commands.push(upsert(name, &format!("{{\"id\":{id}}}"), r#"{"n":1}"#));
        }
        commands.push(delete("a", &format!("{{\"id\":{}}}", id + 100)));
    }
    let writes: Vec<_> = commands.iter().map(|c| Write { command: Cow::Borrowed(c), origins: vec![] }).collect();
    let changes: Vec<_> = writes.iter().map(|write| Change::new(write).unwrap()).collect();
    let statements = |known: &Known<'_>| group(&changes, known).unwrap().len();
    assert_eq!(statements(&Known::new()), 4);
    let facts = Facts { deletes_reach: true, ..Facts::default() };
    assert_eq!(statements(&[("b", facts.into())].into()), 4, "no row of it is deleted");
    let facts = Facts { deletes_reach: true, ..Facts::default() };
    assert_eq!(statements(&[("a", facts.into())].into()), 80);
}

/// Rows after these commands, folded as the pipeline does: a batch each, and in one batch.
async fn folded_ends(schema: &str, commands: &[Command]) -> [Vec<Vec<Option<String>>>; 2] {
    let mut ends = Vec::new();
    for together in [false, true] {
        let bench = PostgresBench::new();
        bench.sql(schema);
        let mut declared = table("parent", &["id"]);
        declared.tables.extend(table("child", &["id"]).tables);
        let mut run = Run::new(&bench, &declared).await;
        let tag = |(offset, command): (u64, &Command)| Tagged { offset, transform: 0, command: command.clone() };
        let tagged: Vec<_> = (0..).zip(commands).map(tag).collect();
        for batch in tagged.chunks(if together { tagged.len() } else { 1 }) {
            let writes = collapse(batch, &Parts::of(batch), &Default::default(), &run.sink.reach());
            let folded: Vec<_> = writes.iter().map(|write| write.command.clone().into_owned()).collect();
            run.applied(&folded).await;
        }
        ends.push(bench.sql("SELECT to_jsonb(p) FROM parent p UNION ALL SELECT to_jsonb(c) FROM child c ORDER BY 1"));
    }
    ends.try_into().unwrap()
}

#[tokio::test]
async fn folded_rows_that_others_reach_end_the_same() {
    let child = |id: u32, values: &str| upsert("child", &format!("{{\"id\":{id}}}"), values);
    let parent = |id: u32, values: &str| upsert("parent", &format!("{{\"id\":{id}}}"), values);
    let handed_on = |action: &str| {
        format!(
            "CREATE TABLE parent (id int PRIMARY KEY, name text UNIQUE);
             CREATE TABLE child (id int PRIMARY KEY, name text REFERENCES parent (name) ON UPDATE {action}, n int);
             INSERT INTO parent VALUES (1, 'a')"
        )
    };
    let trigger = "CREATE TABLE parent (id int PRIMARY KEY, children int);
                   CREATE TABLE child (id int PRIMARY KEY, parent int);
                   CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN UPDATE parent SET children = coalesce(children, 0) + 1 WHERE id = NEW.parent; RETURN NULL; END';
                   CREATE TRIGGER counted AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION count_it()";
    let behind_a_change = vec![
        child(1, r#"{"name":"a","n":1}"#),
        parent(1, r#"{"name":"b"}"#),
        parent(2, r#"{"name":"a"}"#),
        child(1, r#"{"name":"a","n":2}"#),
    ];
    // Here it is the change itself that would pass over a row.
    let the_change = vec![
        parent(1, r#"{"name":"a"}"#),
        merge("child", r#"{"id":1}"#, r#"{"n":7}"#),
        child(2, r#"{"name":"a","n":1}"#),
        parent(1, r#"{"name":"b"}"#),
        parent(2, r#"{"name":"a"}"#),
    ];
    let with_child = format!("{}; INSERT INTO child VALUES (1, 'a', 1)", handed_on("SET NULL"));
    let counted = vec![parent(1, r#"{"children":0}"#), child(1, r#"{"parent":1}"#), parent(1, r#"{"children":1}"#)];
    for (schema, commands) in [
        (handed_on("CASCADE"), behind_a_change.clone()),
        (handed_on("SET NULL"), behind_a_change),
        (with_child, the_change),
        (trigger.to_owned(), counted),
    ] {
        let [each, one] = folded_ends(&schema, &commands).await;
        assert_eq!(each, one, "{schema}; left: a batch each; right: in one batch");
    }
}
