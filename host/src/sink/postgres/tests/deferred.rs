//! Constraints that wait for the end of the transaction.

use super::*;

/// The rows of a batch that are refused; those with one number are one answer.
async fn refused(bench: &PostgresBench, batch: &[(u64, Command)]) -> Vec<usize> {
    let run = Run::new(bench, &table("v", &["id"])).await;
    let write = |(offset, command): &'_ (u64, Command)| Write {
        command: Cow::Owned(command.clone()),
        origins: vec![Origin { offset: *offset, transform: 0 }],
    };
    let writes: Vec<_> = batch.iter().map(write).collect();
    let step = Step { key: &run.key, token: Token(1), from: 0, to: 9, epoch: 0, digest: "d", note: "" };
    let written = run.sink.write(&step, &writes).await.unwrap();
    bench.sql("DELETE FROM v; DROP SCHEMA tidegate CASCADE");
    match written {
        Written::Applied => Vec::new(),
        Written::Clashes(bad) => bad.iter().map(|bad| bad.index).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn deferred_constraint_refuses_the_row_at_fault_alone() {
    let bench = PostgresBench::new();
    bench.sql("CREATE TABLE v (id int PRIMARY KEY, parent int REFERENCES v DEFERRABLE INITIALLY DEFERRED)");
    let child = |answer: u64, id: u32, parent: u32| {
        (answer, upsert("v", &format!("{{\"id\":{id}}}"), &format!("{{\"parent\":{parent}}}")))
    };
    let chain = [child(0, 1, 2), child(1, 2, 3), child(2, 3, 3)];
    let circle = [child(0, 1, 2), child(1, 2, 1)];
    let circle_of_one = [child(0, 1, 2), child(0, 2, 1)];
    let orphans = [child(3, 5, 9), child(4, 6, 5), child(5, 7, 9)];
    for family in [&chain[..], &circle, &circle_of_one] {
        assert_eq!(refused(&bench, family).await, [0; 0], "{family:?}");
        let beside = [family, &orphans[..1]].concat();
        assert_eq!(refused(&bench, &beside).await, [family.len()], "{beside:?}");
    }
    let beside = [&orphans[..], &chain].concat();
    assert_eq!(refused(&bench, &beside).await, [0, 1, 2]);
    let beside = [&circle_of_one[..], &orphans].concat();
    assert_eq!(refused(&bench, &beside).await, [2, 3, 4]);
    let long: Vec<_> = (1..200).map(|id| child(u64::from(id), id, id + 1)).chain([child(0, 200, 1)]).collect();
    let beside = [&long[..], &orphans[..1]].concat();
    assert_eq!(refused(&bench, &beside[1..]).await, (0..=199).collect::<Vec<_>>(), "row 1 is missing");
}

#[tokio::test]
async fn deferred_trigger_that_no_row_fails_commits() {
    let bench = PostgresBench::new();
    bench.sql(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent int, n int);
         CREATE FUNCTION there() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN IF NOT EXISTS (SELECT 1 FROM parent WHERE id = NEW.parent) THEN
            RAISE EXCEPTION ''no parent %'', NEW.parent; END IF; RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER there AFTER INSERT OR UPDATE ON child DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION there()",
    );
    let mut declared = table("parent", &["id"]);
    declared.tables.extend(table("child", &["id"]).tables);
    let mut run = Run::new(&bench, &declared).await;
    // At the end of the transaction the trigger looks for the parent of each version of the row.
    let moved = [
        upsert("child", r#"{"id":1}"#, r#"{"parent":1,"n":1}"#),
        merge("child", r#"{"id":1}"#, r#"{"parent":2}"#),
        delete("parent", r#"{"id":1}"#),
    ];
    bench.sql("INSERT INTO parent VALUES (1), (2)");
    let told = run.try_write(&moved).await;
    assert!(matches!(told, Ok(Written::Applied)), "{told:?}");
    let look = "SELECT c.parent, c.n, next_offset FROM child c, tidegate.ledger";
    assert_eq!(texts(&one(&bench, look)), ["2", "1", "1"]);
    // Here the rows pass in another order only, in which they must not be kept.
    bench.sql("DELETE FROM child; DELETE FROM parent; INSERT INTO parent VALUES (2)");
    let second = r#"{"id":2}"#;
    let batch = [
        upsert("child", r#"{"id":1}"#, r#"{"parent":1,"n":1}"#),
        upsert("parent", r#"{"id":1}"#, "{}"),
        upsert("child", second, r#"{"parent":2}"#),
        merge("child", second, r#"{"parent":1}"#),
        delete("parent", second),
    ];
    let write =
        |(offset, command)| Write { command: Cow::Borrowed(command), origins: vec![Origin { offset, transform: 0 }] };
    let writes: Vec<_> = (1..).zip(&batch).map(write).collect();
    let step = Step { key: &run.key, token: Token(1), from: 1, to: 9, epoch: 0, digest: "d", note: "" };
    let told = run.sink.write(&step, &writes).await.unwrap();
    assert!(matches!(&told, Written::Rejected(bad) if bad.len() == 1 && bad[0].index == 0), "{told:?}");
    assert_eq!(run.sink.write(&step, &writes[1..]).await.unwrap(), Written::Applied);
    assert_eq!(texts(&one(&bench, "SELECT id, parent FROM child")), ["2", "1"]);
}
