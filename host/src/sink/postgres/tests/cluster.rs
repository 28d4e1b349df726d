//! Passwords, TLS and a restart, on a server of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use super::super::Options;
use super::*;
use crate::sink::testing::free_port;

/// How often it is started, since its port may be taken meanwhile.
const TRIES: usize = 5;

/// A server that takes TCP connections with TLS and a password alone, under a certificate for `localhost`. It goes with
/// the value.
struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_owned();
        std::fs::write(at.join("password"), "päss:word").unwrap();
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        run(Process::new("openssl").args(format!("{new} -subj /CN=ca -keyout ca.key -out ca.pem").split(' ')), &at);
        let server = format!(
            "{new} -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
             -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem"
        );
        run(Process::new("openssl").args(server.split(' ')), &at);
        if is_root() {
            run(Process::new("chown").args(["-R", "postgres"]).arg(&at), &at);
        }
        let mut cluster = Self { folder, port: free_port() };
        let password = at.join("password").display().to_string();
        let made =
            cluster.tool("initdb", &["-U", "postgres", "-A", "scram-sha-256", "--pwfile", &password, "--no-sync"]);
        made.unwrap_or_else(|told| panic!("{told}"));
        std::fs::write(
            at.join("data/pg_hba.conf"),
            "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n",
        )
        .unwrap();
        for _ in 1..TRIES {
            if cluster.try_control("start").is_ok() {
                return cluster;
            }
            cluster.port = free_port();
        }
        cluster.control("start");
        cluster
    }

    fn control(&self, action: &str) {
        self.try_control(action).unwrap_or_else(|told| panic!("{action}: {told}"));
    }

    fn try_control(&self, action: &str) -> Result<(), String> {
        let at = self.folder.path().display().to_string();
        let settings = format!(
            "-p {} -h 127.0.0.1 -k {at} -c ssl=on -c ssl_cert_file={at}/cert.pem -c ssl_key_file={at}/key.pem -c fsync=off",
            self.port
        );
        let log = format!("{at}/log");
        let wait = ["-w", "-t", "120", "-m", "immediate"];
        self.tool("pg_ctl", &[&[action][..], &wait, &["-l", &log, "-o", &settings]].concat())
    }

    /// Runs a program of PostgreSQL, which refuses to be root.
    fn tool(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        let program = programs().join(name);
        let mut process = if is_root() {
            let mut process = Process::new("runuser");
            process.args(["-u", "postgres", "--"]).arg(program);
            process
        } else {
            Process::new(program)
        };
        process.arg("-D").arg(self.folder.path().join("data")).args(arguments);
        try_run(&mut process, self.folder.path())
    }

    fn open(&self, host: &str, password: &str, parameters: &str, ca: bool) -> Postgres {
        Postgres::open(Options {
            name: "store".into(),
            url: format!("postgres://postgres:{password}@{host}:{}/postgres?{parameters}", self.port),
            schema: "public".into(),
            ledger_schema: "tidegate".into(),
            ca: ca.then(|| self.folder.path().join("ca.pem")),
            certificate: None,
            key: None,
            statement_timeout: std::time::Duration::from_secs(20),
        })
        .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.control("stop");
    }
}

fn run(process: &mut Process, folder: &Path) {
    try_run(process, folder).unwrap_or_else(|told| panic!("{process:?}: {told}"));
}

/// Where it fails, what it said.
fn try_run(process: &mut Process, folder: &Path) -> Result<(), String> {
    // Into a file: a server that is started would keep a pipe open.
    let output = folder.join("output");
    let file = std::fs::File::options().create(true).append(true).open(&output).unwrap();
    let done = process.current_dir(folder).stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    if done.success() { Ok(()) } else { Err(std::fs::read_to_string(output).unwrap()) }
}

fn is_root() -> bool {
    Process::new("id").arg("-u").output().unwrap().stdout.trim_ascii() == b"0"
}

/// Where Debian has them, or else the search path.
fn programs() -> PathBuf {
    let found = glob::glob("/usr/lib/postgresql/*/bin").unwrap().filter_map(Result::ok).last();
    found.unwrap_or_default()
}

#[tokio::test]
async fn passwords_tls_and_a_restart() {
    let cluster = Cluster::start();
    let password = "p%C3%A4ss%3Aword";

    let mode = |mode: &str| format!("sslmode={mode}");
    for (parameters, ca) in
        [(mode("require"), true), (mode("verify-full"), true), (mode("prefer"), false), (mode("prefer"), true)]
    {
        let sink = cluster.open("localhost", password, &parameters, ca);
        assert!(!sink.knows("p").await.unwrap(), "{parameters}");
    }
    // Neither a certificate of nobody's nor another name is taken.
    for (host, parameters, ca) in
        [("localhost", "sslmode=require", false), ("127.0.0.1", "sslmode=require", true), ("127.0.0.1", "", true)]
    {
        let told = stopped(cluster.open(host, password, parameters, ca).knows("p").await);
        assert!(told.contains("TLS") && told.contains("certificate"), "{told}");
    }
    let plain = cluster.open("localhost", password, "sslmode=disable", false);
    let told = stopped(plain.inspect("p", &Declared::default()).await);
    assert!(told.contains("28000") && told.contains("sslmode=require"), "{told}");
    let told = stopped(cluster.open("localhost", "wrong", "sslmode=require", true).knows("p").await);
    assert!(told.contains("28P01") && told.contains("password") && !told.contains("wrong"), "{told}");

    let socket = cluster.folder.path().display().to_string().replace('/', "%2F");
    let mut run = Run::with(cluster.open(&socket, password, "", false), &Declared::default()).await;
    run.applied(&[]).await;
    cluster.control("restart");
    // The connection is gone, and is found to be, once.
    while let Err(error) = run.try_write(&[]).await {
        passing::<()>(Err(error));
    }
    assert_eq!(run.next, 2);
    cluster.control("stop");
    passing(run.try_write(&[]).await);
    cluster.control("start");
    run.applied(&[]).await;
}
