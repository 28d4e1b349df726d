//! Servers of a test's own: they answer, survive a crash, and never outlive the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use xtask::services::{Jars, Kafka, Postgres, Redis, Running};
use xtask::workspace::Workspace;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)).trim().to_owned()
}

fn redis(server: &Running, command: &[&str]) -> String {
    let port = server.address().port().to_string();
    text(&Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(command).output().unwrap())
}

fn sql(url: &str, statement: &str) -> String {
    let database = format!("{url}/postgres");
    text(&Command::new("psql").args(["-X", "-A", "-t", "-q", "-c", statement, &database]).output().unwrap())
}

fn runs(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn redis_answers_and_is_restarted_on_its_port_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Redis::default().start(&folder.path().join("redis")).unwrap();
    assert_eq!(redis(&server, &["SET", "a", "1"]), "OK");

    let (address, killed) = (server.address(), server.pid().unwrap());
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(!runs(killed));
    assert!(TcpStream::connect(address).is_err());
    server.kill().unwrap();
    server.stop().unwrap();

    server.restart().unwrap();
    assert_eq!(server.address(), address);
    assert_eq!(redis(&server, &["GET", "a"]), "", "nothing is kept on disk");

    let running = server.pid().unwrap();
    drop(server);
    assert!(!runs(running));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn redis_takes_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--requirepass", "secret"].map(str::to_owned).to_vec();
    let server = Redis { arguments, ..Redis::default() }.start(folder.path()).unwrap();
    assert_eq!(redis(&server, &["GET", "a"]), "NOAUTH Authentication required.");
    assert_eq!(redis(&server, &["--no-auth-warning", "-a", "secret", "SET", "a", "1"]), "OK");
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--nonsense", "1"].map(str::to_owned).to_vec();
    let error = Redis { arguments, ..Redis::default() }.start(folder.path()).err().unwrap().to_string();
    assert!(error.starts_with("Redis ended as it started") && error.contains("nonsense"), "{error}");
}

#[test]
fn postgres_keeps_what_was_committed_before_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Postgres::default().start(&folder.path().join("postgres")).unwrap();
    let url = server.url().to_owned();
    assert_eq!(sql(&url, "SHOW wal_level"), "logical");
    sql(&url, "CREATE TABLE t (id int); INSERT INTO t VALUES (7); CHECKPOINT");

    // A session that is in the middle of something does not keep the server alive.
    let sleep = ["-X", "-q", "-c", "SELECT pg_sleep(600)", &format!("{url}/postgres")].map(str::to_owned);
    let mut session = Command::new("psql").args(sleep).stderr(Stdio::null()).spawn().unwrap();
    while sql(&url, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1" {}
    server.kill().unwrap();
    assert!(!session.wait().unwrap().success());

    server.restart().unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(sql(&url, "SELECT id FROM t"), "7");
    server.stop().unwrap();
    server.restart().unwrap();
    assert_eq!(sql(&url, "SELECT id FROM t"), "7");

    let pid = server.pid().unwrap();
    drop(server);
    assert!(!runs(pid));
}

#[test]
fn postgres_asks_for_a_password_by_scram() {
    let folder = tempfile::tempdir().unwrap();
    let options = Postgres { password: Some("secret".to_owned()), ..Postgres::default() };
    let server = options.start(folder.path()).unwrap();
    let url = server.url();
    assert_eq!(sql(url, "SELECT left(rolpassword, 13) FROM pg_authid WHERE rolname = 'postgres'"), "SCRAM-SHA-256");
    let refused = sql(&url.replace("secret", "wrong"), "SELECT 1");
    assert!(refused.contains("password authentication failed"), "{refused}");
}

#[test]
fn postgres_with_tls_refuses_connections_without() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["server.crt", "server.key"].map(|name| folder.path().join(name));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    let made = make.arg("-out").arg(&certificate).arg("-keyout").arg(&key).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));

    let tls = Some(xtask::services::Identity { certificate, key });
    let server = Postgres { tls, ..Postgres::default() }.start(&folder.path().join("postgres")).unwrap();
    let (_, place) = server.url().split_once("//").unwrap();
    let asked = |mode| {
        let database = format!("postgres://{place}/postgres?sslmode={mode}");
        let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        text(&Command::new("psql").args(["-X", "-A", "-t", "-c", query, &database]).output().unwrap())
    };
    assert_eq!(asked("require"), "t");
    let refused = asked("disable");
    assert!(refused.contains("no encryption"), "{refused}");
}

/// The thread of a test that started a server may end before the server does; the process that started it may not.
#[test]
fn a_server_outlives_the_thread_that_started_it_and_not_the_process() {
    const CHILD: &str = "TIDEGATE_TEST_STARTS_A_SERVER_IN";
    if let Some(folder) = std::env::var_os(CHILD) {
        let folder = std::path::PathBuf::from(folder);
        let path = folder.clone();
        let server = std::thread::spawn(move || Redis::default().start(&path).unwrap()).join().unwrap();
        assert_eq!(redis(&server, &["PING"]), "PONG");
        std::fs::write(folder.join("pid"), server.pid().unwrap().to_string()).unwrap();
        // As a run that is killed: nothing is dropped.
        std::process::abort();
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "a_server_outlives_the_thread_that_started_it_and_not_the_process";
    let mut again = Command::new(std::env::current_exe().unwrap());
    let ended = again.args(["--exact", name]).env(CHILD, folder.path()).output().unwrap();
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap_or_else(|_| panic!("{}", text(&ended)));
    let cmdline = Path::new("/proc").join(pid).join("cmdline");
    // An empty one is of a process that ended and that nobody has taken note of.
    while std::fs::read(&cmdline).is_ok_and(|line| line.starts_with(b"redis-server")) {}
}

#[test]
fn kafka_asks_its_clients_for_a_password_and_keeps_its_log_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let jars = Jars::resolve(&Workspace::load().unwrap()).unwrap();
    let mut options = Kafka::new(&jars);
    options.scram_users = vec![("alice".to_owned(), "secret".to_owned())];
    options.properties = [
        ("listener.security.protocol.map", "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("listener.name.client.sasl.enabled.mechanisms", "SCRAM-SHA-256"),
        (
            "listener.name.client.scram-sha-256.sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let mut server = options.start(&folder.path().join("kafka")).unwrap();

    let topics = |broker: SocketAddr, password: Option<&str>, command: &[&str]| {
        let config = folder.path().join("client.properties");
        let login = password.map(|password| {
            let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
            format!(
                "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n\
                 sasl.jaas.config={module} required username=\"alice\" password=\"{password}\";\n"
            )
        });
        std::fs::write(&config, login.unwrap_or_default()).unwrap();
        let class_path = jars.kafka().iter().map(|part| part.display().to_string()).collect::<Vec<_>>().join(":");
        let mut tool = Command::new("java");
        tool.args(["-cp", &class_path, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server"]);
        text(&tool.arg(broker.to_string()).arg("--command-config").arg(config).args(command).output().unwrap())
    };
    let (client, internal) = (server.addresses()[0], server.addresses()[1]);
    topics(internal, None, &["--create", "--topic", "orders"]);
    let refused = topics(client, Some("wrong"), &["--list"]);
    assert!(refused.contains("SaslAuthenticationException"), "{refused}");

    server.kill().unwrap();
    server.restart().unwrap();
    let described = topics(client, Some("secret"), &["--describe", "--topic", "orders"]);
    assert!(described.contains("PartitionCount: 3"), "{described}");
}
