//! A Kafka broker that is its own controller (KRaft), and Kafka Connect with Debezium.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::jars::Jars;
use super::java::{self, Pace, Program};
use super::process::{Ready, Running};
use super::quietly;

/// How brokers and workers log: to standard output, and little.
const LOGGING: &str = include_str!("../../../tests/services/kafka/log4j2.properties");

/// A Kafka broker. It makes no topic by itself, gives a topic three partitions by default, and lets a group's first
/// member begin at once.
///
/// A topic that was made this instant answers "not leader" for a moment: clients try again.
#[derive(Debug)]
pub struct Kafka<'a> {
    /// Where its jars are.
    pub jars: &'a Jars,
    /// Properties as in `server.properties`; they outrank ours (`tests/services/kafka/server.properties`). What
    /// clients connect to is the listener `CLIENT`, so that for instance TLS with passwords takes
    /// `listener.security.protocol.map=CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT` and
    /// `listener.name.client.…`.
    pub properties: Vec<(String, String)>,
    /// Users with passwords for SCRAM-SHA-256 and SCRAM-SHA-512, made before the first start.
    pub scram_users: Vec<(String, String)>,
    /// What it is started for.
    pub pace: Pace,
}

impl<'a> Kafka<'a> {
    /// A broker without a password.
    pub fn new(jars: &'a Jars) -> Self {
        Self { jars, properties: Vec::new(), scram_users: Vec::new(), pace: Pace::default() }
    }

    /// Starts it with its data in `folder`, which keeps the log of an earlier start. The URL is `127.0.0.1:PORT`, as
    /// in `bootstrap.servers`. The second address speaks Kafka too, without TLS or password whatever the properties
    /// say of the first: for the broker itself, for Connect, and for a test that makes topics.
    ///
    /// # Errors
    /// When the broker does not start; the message holds the end of its log.
    pub fn start(&self, folder: &Path) -> anyhow::Result<Running> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let logging = folder.join("log4j2.properties");
        fs::write(&logging, LOGGING).with_context(|| format!("cannot write {}", logging.display()))?;
        let config = folder.join("server.properties");
        let data = folder.join("data");
        Running::start(
            "Kafka",
            folder,
            3,
            |port| format!("127.0.0.1:{port}"),
            |ports| {
                let [client, internal, controller] = [ports[0], ports[1], ports[2]].map(|port| port.to_string());
                let filled = [
                    ("client", client.as_str()),
                    ("internal", internal.as_str()),
                    ("controller", controller.as_str()),
                    ("data", &data.to_string_lossy()),
                ];
                let template = include_str!("../../../tests/services/kafka/server.properties");
                java::write_properties(&config, template, &filled, &self.properties)?;
                if !data.join("meta.properties").exists() {
                    self.format(&config, &logging)?;
                }
                let arguments = vec![config.clone().into_os_string()];
                let broker = Program { pace: self.pace, ..program(self.jars, &logging, "kafka.Kafka", arguments) };
                Ok(broker.launch(Ready::Logged("Kafka Server started")))
            },
        )
    }

    /// Makes the empty data folder, which a broker does not do by itself.
    fn format(&self, config: &Path, logging: &Path) -> anyhow::Result<()> {
        // Any 16 bytes in base64; each broker here is a cluster of its own, which nothing tells apart.
        let mut arguments: Vec<OsString> =
            ["format", "--cluster-id", "dGlkZWdhdGUtdGVzdC0wMQ"].map(Into::into).to_vec();
        arguments.extend(["--config".into(), config.into()]);
        for (user, password) in &self.scram_users {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let user = format!("{mechanism}=[name={user},password={password}]");
                arguments.extend(["--add-scram".into(), user.into()]);
            }
        }
        let command = program(self.jars, logging, "kafka.tools.StorageTool", arguments).command();
        quietly(Command::new("java").args(command)).context("Kafka's data folder cannot be made")
    }
}

/// A Kafka Connect worker with the Debezium PostgreSQL connector. Its converters write JSON without schemas unless a
/// connector says otherwise.
///
/// The broker makes no topic by itself: a connector needs `topic.creation.default.replication.factor=1` and
/// `topic.creation.default.partitions`. For low latency it needs `poll.interval.ms` of 5 to 50.
#[derive(Debug)]
pub struct Connect<'a> {
    /// Where its jars are.
    pub jars: &'a Jars,
    /// The broker, as in `bootstrap.servers`; without TLS and password unless the properties say how.
    pub brokers: String,
    /// Properties as in `connect-distributed.properties`; they outrank ours (`tests/services/kafka/connect.properties`).
    pub properties: Vec<(String, String)>,
}

impl Connect<'_> {
    /// Starts it with its configuration in `folder`; what it remembers is in topics of the broker. The URL is that of
    /// its REST interface, `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When the worker does not start; the message holds the end of its log.
    pub fn start(&self, folder: &Path) -> anyhow::Result<Running> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let logging = folder.join("log4j2.properties");
        fs::write(&logging, LOGGING).with_context(|| format!("cannot write {}", logging.display()))?;
        let config = folder.join("connect.properties");
        Running::start(
            "Kafka Connect",
            folder,
            1,
            |port| format!("http://127.0.0.1:{port}"),
            |ports| {
                let port = ports[0].to_string();
                let plugins = self.jars.plugins();
                let filled = [
                    ("port", port.as_str()),
                    ("brokers", self.brokers.as_str()),
                    ("plugins", &plugins.to_string_lossy()),
                ];
                let template = include_str!("../../../tests/services/kafka/connect.properties");
                java::write_properties(&config, template, &filled, &self.properties)?;
                let class = "org.apache.kafka.connect.cli.ConnectDistributed";
                let worker = program(self.jars, &logging, class, vec![config.clone().into_os_string()]);
                Ok(worker.launch(Ready::Http("/health")))
            },
        )
    }
}

fn program<'a>(jars: &'a Jars, logging: &Path, class: &'a str, arguments: Vec<OsString>) -> Program<'a> {
    let mut configuration = OsString::from("-Dlog4j2.configurationFile=");
    configuration.push(logging);
    let machine = vec![configuration];
    Program { class, class_path: jars.kafka(), pace: Pace::default(), heap: "384m", machine, arguments }
}
