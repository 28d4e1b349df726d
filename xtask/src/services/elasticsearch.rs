//! Elasticsearch and OpenSearch: one node each, from the project's own launchers in `tests/services`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::jars::Jars;
use super::java::{Pace, Program};
use super::process::{Ready, Running};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Elasticsearch 7.17: without x-pack, Painless and the language analysers.
    Elasticsearch,
    /// OpenSearch 2, with Painless and the language analysers.
    OpenSearch,
}

/// A node of Elasticsearch or OpenSearch: plain HTTP, no password, no look at how full the disk is.
#[derive(Debug)]
pub struct Elasticsearch<'a> {
    /// Where its jars are.
    pub jars: &'a Jars,
    /// Which of the two.
    pub flavour: Flavour,
    /// Settings as in `elasticsearch.yml`, dotted; they outrank ours.
    pub settings: Vec<(String, String)>,
    /// What it is started for.
    pub pace: Pace,
}

impl<'a> Elasticsearch<'a> {
    /// A node with our settings alone.
    pub fn new(jars: &'a Jars, flavour: Flavour) -> Self {
        Self { jars, flavour, settings: Vec::new(), pace: Pace::default() }
    }

    /// Starts it with its data in `folder`, which keeps the indexes of an earlier start. The URL is
    /// `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When the node does not start; the message holds the end of its log.
    pub fn start(&self, folder: &Path) -> anyhow::Result<Running> {
        let (name, file, class) = match self.flavour {
            Flavour::Elasticsearch => ("Elasticsearch", "elasticsearch.yml", "ElasticsearchNode"),
            Flavour::OpenSearch => ("OpenSearch", "opensearch.yml", "OpenSearchNode"),
        };
        // The node looks into all of them.
        for part in ["config", "plugins", "modules", "tmp"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make the folder {}", part.display()))?;
        }
        let home = fs::canonicalize(folder).with_context(|| format!("cannot find {}", folder.display()))?;
        let config = home.join("config").join(file);
        Running::start(
            name,
            folder,
            2,
            |port| format!("http://127.0.0.1:{port}"),
            |ports| {
                fs::write(&config, self.config(ports[0], ports[1])?)
                    .with_context(|| format!("cannot write {}", config.display()))?;
                let mut temporary = OsString::from("-Djava.io.tmpdir=");
                temporary.push(home.join("tmp"));
                let quiet = [
                    "-Dlog4j2.formatMsgNoLookups=true",
                    "-Dlog4j.shutdownHookEnabled=false",
                    "-Dio.netty.noUnsafe=true",
                    "-Dio.netty.noKeySetOptimization=true",
                    "-Dio.netty.allocator.numDirectArenas=0",
                    // What its answer at / says of how it was installed.
                    "-Des.distribution.flavor=default",
                    "-Des.distribution.type=tar",
                    "-Dopensearch.distribution.type=tar",
                ];
                let mut machine = vec![temporary];
                machine.extend(quiet.map(OsString::from));
                let class_path = self.jars.node(self.flavour);
                let arguments = vec![home.clone().into_os_string()];
                let node = Program { class, class_path, pace: self.pace, heap: "512m", machine, arguments };
                Ok(node.launch(Ready::Http("/_cluster/health?wait_for_status=yellow&timeout=1s")))
            },
        )
    }

    /// The node's configuration. Dotted names in quotes are both YAML and JSON strings.
    fn config(&self, http: u16, transport: u16) -> anyhow::Result<String> {
        let own = [
            ("cluster.name", "tidegate-test".to_owned()),
            ("node.name", "node".to_owned()),
            ("network.host", "127.0.0.1".to_owned()),
            ("http.port", http.to_string()),
            ("transport.port", transport.to_string()),
            ("http.type", "netty4".to_owned()),
            ("transport.type", "netty4".to_owned()),
            ("discovery.type", "single-node".to_owned()),
            // Developers' disks are full, and tests set the block that a full disk sets by themselves.
            ("cluster.routing.allocation.disk.threshold_enabled", "false".to_owned()),
        ];
        let mut lines = String::new();
        for (name, value) in &own {
            if !self.settings.iter().any(|(given, _)| given == name) {
                writeln!(lines, "{name}: {}", serde_json::to_string(value)?)?;
            }
        }
        for (name, value) in &self.settings {
            writeln!(lines, "{name}: {}", serde_json::to_string(value)?)?;
        }
        Ok(lines)
    }
}
