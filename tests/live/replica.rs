//! The program on the live stores: one configuration with five pipelines, run by one or more replicas.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tidegate_tests::{guest, program, service};

use super::wait_for;

/// What the configuration of a run names.
pub(super) struct Names<'a> {
    pub(super) run: &'a str,
    /// The Redis databases of order-cache, cache-invalidation and trackops-cache.
    pub(super) caches: [&'a str; 3],
    pub(super) analytics: &'a str,
    pub(super) index_prefix: &'a str,
    /// The topics of each system, in the order of the demo.
    pub(super) topics: [Vec<String>; 5],
    pub(super) messages: &'a str,
    pub(super) dead_letters: &'a str,
}

/// The configuration. The pipelines are those of `demo/tidegate.toml`, under names of the run.
pub(super) fn configuration(names: &Names<'_>) -> String {
    let Names { run, analytics, index_prefix, messages, dead_letters, .. } = names;
    let (brokers, elasticsearch) = (service("kafka"), service("elasticsearch"));
    let modules = guest("order-cache").parent().unwrap().display().to_string();
    let cache = std::env::temp_dir().join("tidegate-tests-compiled").display().to_string();
    let mut config = format!(
        r#"
[source.kafka]
brokers = "{brokers}"
properties = {{ "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "200" }}

[sinks.analytics.postgres]
url = "{analytics}"

[sinks.search.elasticsearch]
url = "{elasticsearch}"
index_prefix = "{index_prefix}"
ledger_index = "{index_prefix}ledger"

[sinks.events.kafka]
brokers = "{brokers}"

[dead_letters.kafka]
topic = "{dead_letters}"

[engine]
cache = "{cache}"
"#
    );
    for (name, url) in ["order-cache", "cache-invalidation", "trackops-cache"].iter().zip(names.caches) {
        config += &format!("\n[sinks.{name}.redis]\nurl = \"{url}\"\nprefix = \"{run}:\"\n");
    }
    let pipelines = [
        ("order-cache", "debezium-flattened", r#"cache = "order-cache""#, r#"cache = ["order:*"]"#.to_owned()),
        ("cache-invalidation", "debezium-envelope", r#"cache = "cache-invalidation""#, r#"cache = ["*"]"#.to_owned()),
        ("bookstore-analytics", "auto", r#"tables = "analytics""#, r#"tables = ["fact_*", "dim_books"]"#.to_owned()),
        (
            "trackops-cache",
            "debezium-envelope",
            r#"cache = "trackops-cache", messages = "events""#,
            format!(r#"cache = ["order:*", "orders:customer:*"], messages = ["{messages}"]"#),
        ),
        (
            "company-search",
            "debezium-envelope",
            r#"documents = "search""#,
            r#"documents = ["company", "contact", "job_posting"]"#.to_owned(),
        ),
    ];
    for ((name, format, sinks, grants), topics) in pipelines.into_iter().zip(&names.topics) {
        let settings = match name {
            "order-cache" => "ttl_seconds = 600".to_owned(),
            "trackops-cache" => format!(r#"topic = "{messages}""#),
            _ => String::new(),
        };
        config += &format!(
            r#"
[[pipelines]]
name = "{run}-{name}"
topics = {topics:?}
format = "{format}"
sinks = {{ {sinks} }}

[[pipelines.transforms]]
name = "{name}"
module = "{modules}/{}.wasm"
settings = {{ {settings} }}
grants = {{ {grants} }}
"#,
            name.replace('-', "_")
        );
    }
    config
}

/// A replica, killed when it is dropped.
pub(super) struct Replica {
    child: Child,
    log: PathBuf,
}

impl Replica {
    /// Starts one on a configuration file, with its log beside it.
    pub(super) fn start(config: &std::path::Path, name: &str) -> Self {
        let log = config.with_file_name(format!("{name}.log"));
        let child = Command::new(program())
            .arg("run")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until it has claimed a partition beyond those `before`, and tells how many it claimed in all.
    pub(super) fn wait_for_claims(&mut self, before: usize) -> usize {
        wait_for("a claim", || {
            let claims = self.log().matches("claimed").count();
            self.assert_runs();
            if claims > before { Ok(claims) } else { Err(self.log()) }
        })
    }

    /// How many partitions it has claimed so far.
    pub(super) fn claims(&self) -> usize {
        self.log().matches("claimed").count()
    }

    pub(super) fn assert_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "tidegate ended ({ended:?}): {}", self.log());
    }

    /// Asks it to end, which it does well.
    pub(super) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = wait_for("the end of tidegate", || self.child.try_wait().unwrap().ok_or_else(|| self.log()));
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Ends it at once: nothing of the program runs after that.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}
