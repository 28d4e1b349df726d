//! For tests: Redis servers of their own, and what one holds as the model has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Connection, FromRedisValue};

use super::{Options, Redis};
use crate::command::Port;
use crate::sink::Sink;
use crate::sink::contract_tests::Bench;
use crate::sink::model::Model;
use crate::sink::testing::free_port;

/// How often a server is started, since its port may be taken meanwhile.
const TRIES: usize = 5;

/// How long a server may take to answer, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keys of the ledger begin so in tests.
const PREFIX: &str = "tidegate:";

/// A server on a free port and a socket, in a folder of its own. `REDIS_SERVER` names another program than
/// `redis-server`.
pub(crate) struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// Starts one, with these arguments beside those that keep nothing on disk.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), || arguments.iter().map(ToString::to_string).collect())
    }

    /// The same in a folder that holds what the arguments name.
    fn start_in(folder: tempfile::TempDir, arguments: impl Fn() -> Vec<String>) -> Self {
        let launch = |folder: &tempfile::TempDir| {
            let (port, arguments) = (free_port(), arguments());
            (spawn(port, folder.path(), &arguments), port, arguments)
        };
        let (process, port, arguments) = launch(&folder);
        let mut server = Self { process, port, folder, arguments };
        for _ in 1..TRIES {
            if server.comes_up() {
                return server;
            }
            (server.process, server.port, server.arguments) = launch(&server.folder);
        }
        assert!(server.comes_up(), "redis-server has ended");
        server
    }

    /// Starts one that wants TLS on [`Server::tls_port`], and certificates of its clients: `ca.pem`, `cert.pem` and
    /// `key.pem` in its folder.
    pub(crate) fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let arguments = arguments.split_whitespace();
            let made = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        };
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(&format!("{new} -subj /CN=ca -keyout ca.key -out ca.pem"));
        openssl(&format!(
            "{new} -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
             -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem"
        ));
        let files = ["--tls-ca-cert-file", "ca.pem", "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"];
        Self::start_in(folder, || {
            let port = ["--tls-port".to_owned(), free_port().to_string()];
            port.into_iter().chain(files.map(str::to_owned)).collect()
        })
    }

    /// Ends it at once and starts it again: whatever it kept in memory is gone.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.port, self.folder.path(), &self.arguments);
        assert!(self.comes_up(), "redis-server has ended");
    }

    /// Waits until it answers. False when it ends, as one does whose port is taken.
    fn comes_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.client().get_connection().is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        true
    }

    fn client(&self) -> ::redis::Client {
        ::redis::Client::open(format!("unix://{}", self.socket().display())).unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn tls_port(&self) -> u16 {
        self.arguments[1].parse().unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            name: "store".into(),
            url: self.url(),
            ca: None,
            identity: None,
            prefix: PREFIX.into(),
            timeout: Duration::from_secs(20),
        }
    }

    /// Another connection, as a user would open it.
    pub(crate) fn look(&self) -> Connection {
        self.client().get_connection().unwrap()
    }

    /// Has the server execute a command, written as for `redis-cli`.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split_whitespace();
        let mut request = ::redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            request.arg(word);
        });
        request.query(&mut self.look()).unwrap()
    }
}

fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--unixsocket", "socket", "--enable-debug-command", "yes", "--dir"])
        .arg(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Times to live are read back as whole thousands of seconds: the time that a test takes does not show.
pub(crate) const TTL_STEP: u32 = 1000;

impl Bench for Server {
    fn ports(&self) -> &'static [Port] {
        &[Port::Cache]
    }

    fn open(&self) -> Arc<dyn Sink> {
        Arc::new(Redis::open(self.options()).unwrap())
    }

    fn contents(&self) -> Model {
        let mut model = Model::default();
        for key in self.ask::<Vec<String>>("KEYS *").into_iter().filter(|key| !key.starts_with(PREFIX)) {
            let left: i64 = self.ask(&format!("TTL {key}"));
            let ttl = u32::try_from(left).ok().map(|left| left.div_ceil(TTL_STEP) * TTL_STEP);
            model.cache.insert(key.clone(), (self.ask(&format!("GET {key}")), ttl));
        }
        model
    }
}
