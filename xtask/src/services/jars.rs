//! The Java servers' jars, from Maven, and the project's own launchers, compiled: once, until a version changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::elasticsearch::Flavour;
use super::prerequisites::{self, Program};
use super::quietly;
use crate::console;
use crate::workspace::Workspace;

/// What decides whether the jars are those that are wanted, below `tests/services`.
const SOURCES: [&str; 8] = [
    "pom.xml",
    "kafka/pom.xml",
    "debezium/pom.xml",
    "elasticsearch/pom.xml",
    "opensearch/pom.xml",
    "elasticsearch/log4j2.properties",
    ELASTICSEARCH,
    OPENSEARCH,
];
const ELASTICSEARCH: &str = "elasticsearch/ElasticsearchNode.java";
const OPENSEARCH: &str = "opensearch/OpenSearchNode.java";

/// The class paths of the Java servers.
#[derive(Debug)]
pub struct Jars {
    plugins: PathBuf,
    kafka: Vec<PathBuf>,
    elasticsearch: Vec<PathBuf>,
    opensearch: Vec<PathBuf>,
}

impl Jars {
    /// Those in `<target>/services/jars`. Downloads and compiles them when they are not there, or of other versions:
    /// half a minute and 150 MB the first time.
    ///
    /// # Errors
    /// When Java or Maven is not installed, and when the download fails twice.
    pub fn resolve(workspace: &Workspace) -> anyhow::Result<Self> {
        let sources = workspace.root.join("tests/services");
        let folder = workspace.target.join("services/jars");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        // Test programs run side by side: one resolves, the others wait.
        let lock = workspace.target.join("services/jars.lock");
        let lock = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
        lock.lock().context("cannot lock the folder of the jars")?;

        let mut wanted = String::new();
        for source in SOURCES {
            let source = sources.join(source);
            wanted += &fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        }
        let stamp = folder.join("stamp");
        if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
            prerequisites::require(&[Program::Java, Program::Maven])?;
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
            if let Err(first) = download(&sources, &folder) {
                if super::interrupt::requested() {
                    return Err(first);
                }
                console::complain(format_args!("the download of jars failed, which may pass; once more: {first:#}"));
                download(&sources, &folder)?;
            }
            for (source, name) in [(ELASTICSEARCH, "elasticsearch"), (OPENSEARCH, "opensearch")] {
                compile(&sources, source, &folder, name)?;
            }
            fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        }

        let all = |name: &str| folder.join(name).join("*");
        let node = |name: &str| vec![folder.join("classes").join(name), all(name)];
        Ok(Self {
            plugins: folder.join("plugins"),
            kafka: vec![all("kafka")],
            elasticsearch: node("elasticsearch"),
            opensearch: node("opensearch"),
        })
    }

    /// The class path of the broker, of Connect, and of Kafka's command line tools.
    pub fn kafka(&self) -> &[PathBuf] {
        &self.kafka
    }

    /// The folder of Connect's plug-ins.
    pub(super) fn plugins(&self) -> &Path {
        &self.plugins
    }

    pub(super) fn node(&self, flavour: Flavour) -> &[PathBuf] {
        match flavour {
            Flavour::Elasticsearch => &self.elasticsearch,
            Flavour::OpenSearch => &self.opensearch,
        }
    }
}

fn download(sources: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "-Dstyle.color=never", "--threads", "4", "--file"]);
    maven.arg(sources.join("pom.xml")).arg("dependency:copy-dependencies");
    maven.arg(format!("-Djars={}", folder.display()));
    quietly(&mut maven).context("the servers' jars cannot be had from Maven: is its repository to be reached?")
}

/// Compiles the launcher of a node into `classes/<name>`, beside how it logs.
fn compile(sources: &Path, launcher: &str, folder: &Path, name: &str) -> anyhow::Result<()> {
    let classes = folder.join("classes").join(name);
    fs::create_dir_all(&classes).with_context(|| format!("cannot make the folder {}", classes.display()))?;
    let logging = sources.join("elasticsearch/log4j2.properties");
    fs::copy(&logging, classes.join("log4j2.properties"))
        .with_context(|| format!("cannot copy {}", logging.display()))?;
    let mut compiler = Command::new("javac");
    compiler.args(["-nowarn", "-proc:none", "-cp"]).arg(folder.join(name).join("*"));
    compiler.arg("-d").arg(classes).arg(sources.join(launcher));
    quietly(&mut compiler)
}
