//! Tables: brought to what was filled beside them, in one transaction.

use crate::live::random::Random;
use crate::outage::support::{Broker, Database, MIRROR, Program, Run, books, connect, service, settled, unique};
use crate::schedules::looks::kept;
use crate::schedules::stream::{Stream, round_of};
use crate::schedules::watcher::Watcher;

/// A table with what hangs on it: a column that is nobody's but its users', a view, a table that refers to it, and a list
/// of every state that was ever written, in order.
const TABLES: &str = "
    CREATE TABLE mirrored (id text PRIMARY KEY, status text, remark text, serial bigserial);
    CREATE VIEW seen AS SELECT id, status FROM mirrored;
    CREATE TABLE remarks (id text REFERENCES mirrored ON DELETE CASCADE);
    CREATE TABLE states (place bigserial, id text, status text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
        INSERT INTO states (id, status) VALUES (coalesce(NEW.id, OLD.id), CASE WHEN TG_OP <> ''DELETE'' THEN NEW.status END);
        RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON mirrored FOR EACH ROW EXECUTE FUNCTION note()";

/// A pipeline into tables of its own, and a reader that looks at them the whole time, through the view.
pub(super) struct Case {
    pub(super) database: Database,
    pub(super) program: Program,
    pub(super) stream: Stream,
    random: Random,
    watcher: Watcher,
}

impl Case {
    pub(super) fn new() -> Self {
        let broker = Broker::shared();
        let database = Database::new(&service("postgres"));
        database.run(TABLES);
        let stream = Stream::new(broker.topic("orders", 3, &[]), unique("warehouse"), &books(), "status");
        let config = format!(
            "[sinks.warehouse.postgres]\nurl = \"{}\"\n[[pipelines]]\nname = \"{}\"\ntopics = [\"{}\"]\n\
             format = \"auto\"\nbatch = {{ max_events = 10 }}\nsinks = {{ tables = \"warehouse\" }}\n{MIRROR}",
            database.url, stream.pipeline, stream.topic.name
        );
        let watcher = Watcher::start("postgres", stream.states.clone(), kept(&database.url, "seen", stream.ids()));
        Self { database, program: Program::new(&broker, &config), stream, random: Random::new(11), watcher }
    }

    pub(super) fn produce(&mut self, rounds: u32) {
        self.stream.produce(rounds, &mut self.random);
    }

    pub(super) fn settle(&self, run: &mut Run) {
        settled(run, &self.stream.topic, &self.stream.pipeline);
    }

    pub(super) fn rewind(&self) -> Run {
        self.program.rewind(&["--pipeline", &self.stream.pipeline])
    }

    /// The table holds the last state of each row and no other row; nobody saw an older state than before; and nothing is
    /// left of a rewind.
    pub(super) fn check(&self) {
        let states = self.stream.states.lock().unwrap();
        let expected: Vec<_> = states
            .iter()
            .filter_map(|(id, states)| Some(vec![id.clone(), states.last().copied().flatten()?.to_string()]))
            .collect();
        drop(states);
        let rows = self.database.rows("SELECT id, status FROM mirrored ORDER BY id COLLATE \"C\"");
        let found: Vec<_> = rows.into_iter().map(|row| vec![row[0].clone(), round_of(&row[1]).to_string()]).collect();
        assert_eq!(found, expected);
        assert_eq!(self.watcher.regressed(), [""; 0]);
        assert_eq!(self.program.dead_letters(), 0);
        let left = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tidegate\\_rewind%' UNION ALL
                    SELECT sink FROM tidegate.ledger WHERE sink LIKE '%~%' UNION ALL
                    SELECT sink FROM tidegate.pipelines WHERE sink LIKE '%~%'";
        assert_eq!(self.database.rows(left), [[""; 0]; 0]);
    }
}

#[test]
fn tables_are_filled_anew_while_the_pipeline_writes_and_somebody_reads() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(100);
    case.settle(&mut run);
    case.database.run("INSERT INTO mirrored (id, status) VALUES ('ghost', 'round-000000')");
    case.database.run("UPDATE mirrored SET remark = 'kept'");
    case.database.run("INSERT INTO remarks SELECT id FROM mirrored");
    let mut rewind = case.rewind();
    while rewind.is_running() {
        case.produce(5);
    }
    let said = rewind.ends_well();
    assert!(said.iter().any(|line| line.starts_with("table mirrored: ")), "{said:#?}");
    assert_eq!(case.database.rows("SELECT 1 FROM mirrored WHERE id = 'ghost'"), [[""; 0]; 0]);
    case.produce(20);
    case.settle(&mut run);
    case.check();
    assert!(case.watcher.behind().is_empty());
    // What the transform never writes is as it was, and so is what hangs on the table.
    assert_ne!(case.database.rows("SELECT 1 FROM mirrored WHERE remark = 'kept'"), [[""; 0]; 0]);
    assert_eq!(case.database.rows("SELECT 1 FROM remarks WHERE id = 'ghost'"), [[""; 0]; 0]);
    run.stop();
    // While nobody runs it; and a start goes on from there.
    case.rewind().ends_well();
    case.produce(5);
    let mut run = case.program.start();
    case.settle(&mut run);
    case.check();
    run.stop();
}

#[test]
fn a_rewind_that_is_killed_in_the_switch_has_changed_nothing_and_the_next_one_cleans_up() {
    let mut case = Case::new();
    let mut run = case.program.start();
    case.produce(60);
    case.settle(&mut run);
    case.database.run("INSERT INTO mirrored (id, status) VALUES ('ghost', 'round-000000')");
    for moment in ["claimed", "the fill is near", "putting the fresh target in place"] {
        let blocking = connect(&case.database.url);
        if moment.contains("place") {
            // The switch comes so far and no farther.
            let lock = "BEGIN; SELECT 1 FROM mirrored WHERE id = 'ghost' FOR UPDATE";
            blocking.0.block_on(blocking.1.batch_execute(lock)).unwrap();
        }
        let mut rewind = case.rewind();
        rewind.says(&[moment]);
        rewind.signal("KILL");
        assert_eq!(rewind.ended().0, None);
        drop(blocking);
        case.produce(20);
        case.settle(&mut run);
        assert_eq!(case.database.rows("SELECT 1 FROM mirrored WHERE id = 'ghost'").len(), 1, "{moment}");
        assert_eq!(case.watcher.regressed(), [""; 0], "{moment}");
    }
    let said = case.rewind().ends_well();
    assert!(said.iter().any(|line| line.starts_with("removed schema tidegate_rewind_")), "{said:#?}");
    case.produce(5);
    case.settle(&mut run);
    case.check();
    run.stop();
}
