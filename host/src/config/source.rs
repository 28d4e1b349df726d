//! The block `[source.…]`: where records come from.

use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::block::{Block, Placed};
use super::kafka::{self, KafkaClient};
use super::pipelines::choice;
use super::text::Text;

/// What librdkafka has for `session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(45);

/// Where records come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Recorded events in files.
    File(FileSource),
    /// A Kafka cluster.
    Kafka(KafkaSource),
}

/// `[source.kafka]`: consumes topics, one consumer group a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSource {
    /// The cluster.
    pub client: KafkaClient,
    /// How the group shares partitions.
    pub assignment: Assignment,
    /// `group.instance.id`, for static membership: a restart within the session timeout moves no partition. Each
    /// replica needs its own.
    pub instance: Option<Text>,
}

impl KafkaSource {
    /// How long the group waits for a member that is silent, before it gives its partitions to others.
    pub fn session(&self) -> Duration {
        let set = self.client.properties.get("session.timeout.ms").and_then(|set| set.as_str().parse().ok());
        set.map_or(SESSION, Duration::from_millis)
    }
}

/// How a consumer group shares partitions. All its members must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assignment {
    /// A rebalance takes every partition from every member, and gives them anew.
    #[default]
    Eager,
    /// A rebalance moves only the partitions that change their owner.
    Cooperative,
}

/// `[source.file]`: replays recorded events.
#[derive(Debug, Clone)]
pub struct FileSource {
    /// Glob patterns of files, absolute or relative to the working folder of this process: the folder of the
    /// configuration file is in them already. At least one.
    pub paths: Vec<Text>,
}

impl FileSource {
    /// The files that match, in the order of the patterns, and for each pattern in the order of their names. A file
    /// that two patterns match is in it once.
    ///
    /// # Errors
    /// When a pattern matches no file, or a folder cannot be read.
    pub fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for pattern in &self.paths {
            let before = files.len();
            let mut repeated = false;
            for path in glob::glob(pattern).with_context(|| format!("`{}` is no pattern", pattern.shown()))? {
                let path = path.with_context(|| format!("cannot look for `{}`", pattern.shown()))?;
                if files.contains(&path) {
                    repeated = true;
                } else if !path.is_dir() {
                    files.push(path);
                }
            }
            if files.len() == before && !repeated {
                bail!(
                    "no file matches `{}`: correct `paths` of [source.file], or record events there",
                    pattern.shown()
                );
            }
        }
        Ok(files)
    }
}

pub(super) fn read(root: &mut Block<'_>) -> Option<Source> {
    let block = root.block("source");
    let mut block = root.required("source", block, "add `[source.kafka]` with `brokers = \"localhost:9092\"`")?;
    let place = block.place();
    let (file, kafka) = (block.block("file"), block.block("kafka"));
    if block.names().len() != 1 {
        let cause = if block.names().is_empty() { "it names no source" } else { "it names more than one source" };
        block.document().problem(&place, cause, "write one of `[source.kafka]`, `[source.file]`");
    }
    block.finish("source");
    let kafka = kafka.and_then(read_kafka).map(Source::Kafka);
    let file = file.and_then(read_file).map(Source::File);
    kafka.or(file)
}

fn read_kafka(mut block: Block<'_>) -> Option<KafkaSource> {
    let client = kafka::read(&mut block);
    let assignments = [("eager", Assignment::Eager), ("cooperative", Assignment::Cooperative)];
    let assignment = choice(&mut block, "assignment", &assignments).unwrap_or_default();
    let instance = block.text("instance").map(|instance| instance.value);
    block.finish("key");
    Some(KafkaSource { client: client?, assignment, instance })
}

fn read_file(mut block: Block<'_>) -> Option<FileSource> {
    let document = block.document();
    let folder = document.lookup.folder;
    let paths = block.texts("paths");
    let paths = block.required("paths", paths, "name the files, as in `paths = [\"events/*.jsonl\"]`");
    let place = block.place();
    block.finish("key");
    let paths = paths?;
    if paths.is_empty() {
        document.problem(&place, "`paths` is empty", "name at least one file or pattern");
    }
    let mut patterns = Vec::new();
    for Placed { value, place } in paths {
        if value.is_empty() {
            document.problem(
                &place,
                "the path is empty",
                "give a file or a pattern, relative to the folder of this file",
            );
        } else if let Err(error) = glob::Pattern::new(&value) {
            let cause = format!("`{}` is no pattern: {}", value.shown(), error.msg);
            document.problem(&place, cause, "use `*`, `?`, `**` for folders, `[ab]`");
        } else {
            patterns.push(in_folder(folder, value));
        }
    }
    Some(FileSource { paths: patterns })
}

/// A pattern relative to a folder whose own name is no pattern.
fn in_folder(folder: &Path, pattern: Text) -> Text {
    if Path::new(pattern.as_str()).is_absolute() {
        return pattern;
    }
    let mut joined = Text::default();
    joined.push(&glob::Pattern::escape(&folder.to_string_lossy()));
    joined.push(MAIN_SEPARATOR_STR);
    joined.append(&pattern, str::to_owned);
    joined
}
