//! The servers: those that the tests of a run share, and what a test needs to talk to them and to its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};
use xtask::services::Jars;
use xtask::workspace::Workspace;

use super::{unique, until};

/// The address of a shared server.
pub(crate) fn service(name: &str) -> String {
    let file = std::env::var_os("TIDEGATE_SERVICES").map_or_else(
        || std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("services/addresses.json"),
        PathBuf::from,
    );
    let addresses = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask test` starts the servers", file.display()));
    let addresses: Value = serde_json::from_str(&addresses).unwrap();
    addresses[name].as_str().unwrap_or_else(|| panic!("{} has no `{name}`", file.display())).to_owned()
}

/// The jars of the Java servers.
pub(crate) fn jars() -> &'static Jars {
    static JARS: OnceLock<Jars> = OnceLock::new();
    JARS.get_or_init(|| Jars::resolve(&Workspace::load().unwrap()).unwrap())
}

/// A folder for the data of a server of the test's own, which other users may enter.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A session with a PostgreSQL server, in a database that was made for it.
pub(crate) struct Database {
    runtime: Runtime,
    client: Client,
    /// The address of the database.
    pub(crate) url: String,
    server: String,
    name: String,
}

impl Database {
    /// A new database on a server.
    pub(crate) fn new(server: &str) -> Self {
        let name = unique("db");
        let (runtime, client) = connect(&format!("{server}/postgres"));
        runtime.block_on(client.batch_execute(&format!("CREATE DATABASE {name}"))).unwrap();
        let url = format!("{server}/{name}");
        let (runtime, client) = connect(&url);
        Self { runtime, client, url, server: server.to_owned(), name }
    }

    /// Connects again, after a restart of the server.
    pub(crate) fn reconnect(&mut self) {
        (self.runtime, self.client) = connect(&self.url);
    }

    pub(crate) fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }

    /// A query's rows, each as its columns' texts.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_rows(&self, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
        let answers = self.runtime.block_on(self.client.simple_query(sql))?;
        let text = |row: &tokio_postgres::SimpleQueryRow| -> Vec<String> {
            (0..row.len()).map(|column| row.get(column).unwrap_or("null").to_owned()).collect()
        };
        let rows = answers.iter().filter_map(|answer| match answer {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(text(row)),
            _ => None,
        });
        Ok(rows.collect())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let url = format!("{}/postgres", self.server);
        let (name, runtime) = (&self.name, Builder::new_current_thread().enable_all().build().unwrap());
        runtime.block_on(async {
            // A server of the test's own may be gone by now.
            let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else { return };
            let connection = tokio::spawn(connection);
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            drop(client);
            let _ = connection.await;
        });
    }
}

/// A session, and what drives it.
pub(crate) fn connect(url: &str) -> (Runtime, Client) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = until("PostgreSQL answers", || {
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).ok()?;
        runtime.spawn(connection);
        Some(client)
    });
    (runtime, client)
}

/// A server that speaks JSON over HTTP.
pub(crate) struct Http(pub(crate) String);

impl Http {
    /// Sends a request and answers its status and body; none while nobody answers.
    pub(crate) fn try_send(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let host = self.0.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).ok()?;
        let length = body.len();
        // HTTP/1.0 has no chunks and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// The same where it must go well.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.try_send(method, path, body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}
