//! The databases of the Docker system on a real PostgreSQL, read by a real Debezium.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_tests::{root, service, text};

use super::{Connector, connectors, read};

const ROLES: &str = "deploy/compose/postgres/1-roles.sql";
const SOURCES: &str = "deploy/compose/postgres/2-sources.sql";
const ANALYTICS: &str = "deploy/compose/postgres/3-analytics.sql";
const PASSWORD: &str = "of-the-test";

/// All databases and roles of the system, under names of this test's own, until it ends.
struct Databases {
    server: String,
    prefix: String,
    /// `DATABASE` or `ROLE`, and its name in the system.
    names: Vec<(&'static str, String)>,
}

impl Databases {
    fn new(test: &str) -> Self {
        let files = [ROLES, SOURCES, ANALYTICS].map(read);
        let mut names = Vec::new();
        for what in ["DATABASE", "ROLE"] {
            let created = format!("CREATE {what} ");
            for rest in files.iter().flat_map(|file| file.lines()).filter_map(|line| line.strip_prefix(&created)) {
                let name = rest.split([' ', ';']).next().unwrap().trim_matches('"');
                names.push((what, name.to_owned()));
            }
        }
        // Debezium remembers a connector by its name, also one that was deleted.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let databases = Self { server: service("postgres"), prefix: format!("compose_{test}_{now}_"), names };
        for file in &files {
            databases.run("postgres", file);
        }
        databases
    }

    /// Another name for each database and role of the system; the corpus where it lies here.
    fn renamed(&self, script: &str) -> String {
        let corpus = format!("\\i {}/tests/corpus/", root().display());
        let mut renamed = String::new();
        for line in script.lines() {
            let mut rest = line;
            if let Some(path) = line.strip_prefix("\\i /corpus/") {
                renamed.push_str(&corpus);
                rest = path;
            } else {
                while let Some(start) = rest.find(is_of_a_name) {
                    let end =
                        rest[start..].find(|letter| !is_of_a_name(letter)).map_or(rest.len(), |length| start + length);
                    renamed.push_str(&rest[..start]);
                    if self.names.iter().any(|(_, name)| name == &rest[start..end]) {
                        renamed.push_str(&self.prefix);
                    }
                    renamed.push_str(&rest[start..end]);
                    rest = &rest[end..];
                }
            }
            renamed.push_str(rest);
            renamed.push('\n');
        }
        renamed
    }

    /// What a script of the system prints in one of the databases.
    fn run(&self, database: &str, script: &str) -> String {
        self.psql(self.renamed(database).trim_end(), &self.renamed(script))
    }

    fn psql(&self, database: &str, script: &str) -> String {
        self.try_psql(database, script).unwrap_or_else(|error| panic!("{script}\n{error}"))
    }

    fn try_psql(&self, database: &str, script: &str) -> Result<String, String> {
        let mut client = Command::new("psql");
        client.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file=-"]);
        client.arg(format!("{}/{database}", self.server)).env("PGCLIENTENCODING", "UTF8");
        client.env("DEBEZIUM_PASSWORD", PASSWORD).env("TIDEGATE_PASSWORD", PASSWORD);
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A client that gave up reads no more; its answer tells why.
        drop(client.stdin.take().unwrap().write_all(script.as_bytes()));
        let output = client.wait_with_output().unwrap();
        let said = text(&output);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap()).ok_or(said)
    }

    fn remove(&self) -> Result<(), String> {
        // A slot outlives its connector, and a database its slot: without this the server would keep its log for ever.
        let slots = format!("FROM pg_replication_slots WHERE starts_with(slot_name, '{}')", self.prefix);
        let free = format!(
            "SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active \\g /dev/null\nSELECT count(*) {slots};"
        );
        let end = Instant::now() + Duration::from_secs(60);
        while self.try_psql("postgres", &free)?.trim() != "0" {
            if Instant::now() > end {
                return Err("Debezium holds its slots a minute after its connectors were deleted".to_owned());
            }
        }
        for (what, name) in &self.names {
            let how = if *what == "DATABASE" { " WITH (FORCE)" } else { "" };
            self.try_psql("postgres", &format!("DROP {what} IF EXISTS \"{}{name}\"{how};", self.prefix))?;
        }
        Ok(())
    }
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'
}

impl Drop for Databases {
    fn drop(&mut self) {
        let removed = self.remove();
        // A test that has failed says why; a second panic would end all tests.
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// Each connector's database has its tables with rows, under its publication, and Debezium may read them, and no more.
#[test]
fn the_sources_are_what_the_connectors_expect() {
    let databases = Databases::new("sources");
    for connector in connectors() {
        let database = connector.setting("database.dbname");
        for table in connector.tables() {
            let published = format!(
                "SELECT count(*) FROM pg_publication_tables \
                 WHERE pubname = '{}' AND schemaname || '.' || tablename = '{table}';",
                connector.setting("publication.name")
            );
            assert_eq!(databases.run(database, &published).trim(), "1", "{} does not get {table}", connector.name);
            // Its topic is there when its first row was read: without rows the registration would wait in vain.
            let filled = format!("SET ROLE debezium; SELECT EXISTS (SELECT FROM {table});");
            assert_eq!(databases.run(database, &filled).trim(), "t", "{database} {table}");
            let may_write = format!("SELECT has_table_privilege('debezium', '{table}', 'INSERT, UPDATE, DELETE');");
            assert_eq!(databases.run(database, &may_write).trim(), "f", "{database} {table}");
        }
    }
}

/// The SQL that the guide gives to try can be run, from its first block to its last.
#[test]
fn the_sql_of_the_guide_can_be_run() {
    let databases = Databases::new("guide");
    let guide = read("docs/compose.md");
    let blocks: Vec<_> = guide.split("```sql ").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 7);
    for block in blocks {
        let (database, sql) = block.split_once('\n').unwrap();
        databases.run(database, sql);
        // A change that finds no row shows nothing.
        for change in sql.split(';').map(str::trim).filter(|change| change.starts_with("UPDATE")) {
            let changed = databases.run(database, &format!("{change} RETURNING true;"));
            assert!(!changed.is_empty(), "nothing changes by: {change}");
        }
    }
}

/// tidegate may write its tables, and their keys are those that the transform declares.
#[test]
fn the_analytics_take_what_the_transform_writes() {
    let databases = Databases::new("analytics");
    let keys = "SELECT relation.relname, attribute.attname FROM pg_index AS key \
         JOIN pg_class AS relation ON relation.oid = key.indrelid \
         JOIN pg_attribute AS attribute ON attribute.attrelid = key.indrelid AND attribute.attnum = ANY (key.indkey) \
         WHERE key.indisprimary AND relation.relnamespace = 'public'::regnamespace ORDER BY 1;";
    let expected = "dim_books|id\nfact_inventory|book_id\nfact_order_items|id\nfact_orders|id\n";
    assert_eq!(databases.run("analytics", keys), expected);
    let write = "SET ROLE tidegate;
        INSERT INTO fact_orders SELECT * FROM json_populate_record(NULL::fact_orders, '{\"id\":
            \"0a6c5935-8bb9-45ae-a8f2-fdc7a323321e\", \"total\": 24684.425, \"created_at\": \"2024-06-09T06:18:27.123Z\"}');
        CREATE TABLE of_its_own (id integer);
        SELECT total, created_at AT TIME ZONE 'UTC' FROM fact_orders;";
    assert_eq!(databases.run("analytics", write), "24684.425|2024-06-09 06:18:27.123\n");
}

/// A connector that is registered, until the test ends.
struct Registered {
    url: String,
    name: String,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let connector = format!("{}/connectors/{}", self.url, self.name);
        let output = Command::new("curl").args(["--silent", "--request", "DELETE", &connector]).output().unwrap();
        assert!(output.status.success() || std::thread::panicking(), "{}", text(&output));
    }
}

/// Debezium, as the role that the databases have for it, reads every table, and each gets its topic: the script ends
/// well only then.
#[test]
fn debezium_reads_the_sources_as_it_is_registered() {
    let databases = Databases::new("debezium");
    let connect = service("connect");
    let address = databases.server.rsplit(['@', '/']).next().unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut registered = Vec::new();
    for Connector { name, mut settings } in connectors() {
        for (setting, value) in [("database.hostname", host), ("database.port", port), ("database.password", PASSWORD)]
        {
            settings[setting] = value.into();
        }
        for setting in ["database.dbname", "database.user", "topic.prefix"] {
            settings[setting] = format!("{}{}", databases.prefix, settings[setting].as_str().unwrap()).into();
        }
        settings["slot.name"] = format!("{}{}", databases.prefix, settings["slot.name"].as_str().unwrap()).into();
        let name = format!("{}{name}", databases.prefix);
        // A setting a line, as in the files.
        let content = serde_json::to_string_pretty(&settings).unwrap();
        fs::write(folder.path().join(format!("{name}.json")), content).unwrap();
        registered.push(Registered { url: connect.clone(), name });
    }

    let script = root().join("deploy/compose/register-connectors.sh");
    for attempt in ["the first time", "again"] {
        let output = Command::new("bash").arg(&script).arg(&connect).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{attempt}: {}", text(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.matches("running ").count(), registered.len(), "{said}");
    }
}
