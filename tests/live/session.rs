//! A session of `psql` that stays open, and single scripts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};

use tidegate_tests::text;

/// The errors that random work at the same rows must run into: a key that is taken, a deadlock, and what follows them
/// in their transaction, a savepoint that could not be made among it.
const EXPECTED: [&str; 4] = ["ERROR:  23505", "ERROR:  40P01", "ERROR:  25P02", "ERROR:  3B001"];

/// What ends an answer.
const MARK: &str = "-- answered --";

/// A session, ended when it is dropped.
pub(super) struct Session {
    client: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it complained of.
    errors: Option<JoinHandle<String>>,
}

fn client(database: &str) -> Command {
    let mut client = Command::new("psql");
    client.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--file=-", database]);
    client.env("PGCLIENTENCODING", "UTF8").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    client
}

impl Session {
    pub(super) fn new(database: &str) -> Self {
        let mut client = client(database).spawn().unwrap();
        let (input, output) = (client.stdin.take(), BufReader::new(client.stdout.take().unwrap()));
        let mut complaints = client.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut said = String::new();
            complaints.read_to_string(&mut said).unwrap();
            said
        });
        let mut session = Self { client, input, output, errors: Some(errors) };
        session.run("\\set VERBOSITY sqlstate\nSET client_min_messages = error;\nSET deadlock_timeout = '100ms';\n");
        session
    }

    /// The lines that the script prints. Errors are of one statement each, and told when the session ends.
    pub(super) fn run(&mut self, script: &str) -> Vec<String> {
        let input = self.input.as_mut().unwrap();
        write!(input, "{script}\n\\echo '{MARK}'\n").and_then(|()| input.flush()).unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "psql ended amid: {script}");
            let line = line.trim_end_matches('\n');
            if line == MARK {
                return lines;
            }
            lines.push(line.to_owned());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.client.wait());
        let errors = self.errors.take().map(|errors| errors.join().unwrap_or_default()).unwrap_or_default();
        let unexpected = errors.lines().find(|line| !EXPECTED.iter().any(|code| line.contains(code)));
        assert!(unexpected.is_none() || thread::panicking(), "psql complains: {}", unexpected.unwrap_or_default());
    }
}

/// What a script prints. Its first error fails the test.
pub(super) fn psql(database: &str, script: &str) -> String {
    try_psql(database, script).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, with what `psql` complained of as the error.
pub(super) fn try_psql(database: &str, script: &str) -> Result<String, String> {
    let mut client = client(database).arg("--set=ON_ERROR_STOP=1").spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let script = script.to_owned();
    // A client that gave up reads no more; its answer tells why.
    let writer = thread::spawn(move || drop(input.write_all(script.as_bytes())));
    let output = client.wait_with_output().unwrap();
    writer.join().unwrap();
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(text(&output)) }
}
