//! The configuration: one TOML file as typed blocks, one file of this module a block. [`Config::load`] reads and
//! checks all of it without touching a store, and either answers a configuration in which every name has its meaning
//! or names everything that is wrong. `docs/reference/configuration.md` documents every key.
//!
//! A string is a [`Text`] or a [`FilePath`]: what came from `${env:…}` or `${file:…}` is in the value and never in
//! `Debug` or an error. The names of pipelines, transforms, sinks and topics alone are plain strings: they stand in
//! ledgers, metrics and logs, and cannot be secret.

mod admin;
mod block;
mod dead_letters;
mod engine;
mod error;
#[cfg(test)]
pub(crate) mod fuzz;
mod kafka;
mod overlap;
mod pipelines;
mod place;
mod preview;
mod reserved;
mod rewind;
mod secret;
mod settings;
mod shown;
mod sinks;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod transforms;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env::VarError;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::command::Port;

pub use self::admin::{Admin, AdminAddress};
pub use self::dead_letters::{DeadLetterStore, DeadLetterTopic, DeadLetters};
pub use self::engine::EngineSettings;
pub use self::error::{ConfigError, Problem};
pub use self::kafka::{KafkaClient, KafkaSasl, KafkaTls};
pub use self::pipelines::{BatchSize, Breaker, OnLost, OnLostCache, OnTruncate, Pipeline};
pub use self::secret::Secrets;
pub use self::sinks::{Delivery, Elasticsearch, ElasticsearchCredentials, Kafka, Postgres, Redis, Sink, Sqlite};
pub use self::source::{Assignment, FileSource, KafkaSource, Source};
pub use self::text::{FilePath, Text};
pub use self::transforms::{Grants, Promote, Shadow, Transform};

use self::block::{Block, Document, Placed, line_of};
use self::sinks::Sinks;
use self::text::{Lookup, Reference};

/// A configuration whose names all have their meaning. Nothing has been opened or connected yet.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where records come from.
    pub source: Source,
    /// The stores, by the name that pipelines bind them under.
    pub sinks: BTreeMap<String, Sink>,
    /// Where records go that cannot be handled.
    pub dead_letters: DeadLetters,
    /// How transforms are run.
    pub engine: EngineSettings,
    /// Where the program answers questions about itself; none answers nowhere.
    pub admin: Option<Admin>,
    /// The pipelines, in the order of the file. At least one.
    pub pipelines: Vec<Pipeline>,
    references: Vec<Reference>,
}

impl Config {
    /// Reads and checks a configuration file. References are looked up in the environment of this process.
    ///
    /// # Errors
    /// All problems of the file at once. Where the file is no TOML, the first problem of its syntax.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_in(path, &|name| std::env::var(name))
    }

    /// A message in which whatever a reference of the file stands for is replaced by the reference: for messages of
    /// those who were given the values, such as a transform that complains about its settings or a store's driver. Secrets
    /// that stand in the file itself are left out as well.
    pub fn redact(&self, message: &str) -> String {
        self.secrets().hide(&text::redact(&self.references, message))
    }

    fn load_in(path: &Path, environment: &dyn Fn(&str) -> Result<String, VarError>) -> Result<Self, ConfigError> {
        let whole = |line, cause, remedy| whole_file(path, line, cause, remedy);
        let bytes = std::fs::read(path)
            .map_err(|error| whole(None, format!("cannot be read: {error}"), "name a readable configuration file"))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = bytes.iter().take(error.valid_up_to()).filter(|&&byte| byte == b'\n').count() + 1;
            whole(Some(line), "the file is not UTF-8".into(), "save it as UTF-8")
        })?;
        // A file in the working folder has the empty parent.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::read(text, path, Lookup { folder, environment })
    }

    fn read(text: &str, file: &Path, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        // The others follow from the first: after an open bracket nothing is what it looks like.
        if let Some(error) = errors.first() {
            // The error's own display quotes the line, which may hold a secret.
            let line = error.span().map(|span| line_of(text, span.start));
            let (cause, remedy) = match line {
                Some(_) => (error.message().replace('\n', ", "), "correct the TOML"),
                // It has no place when it gives up.
                None => ("keys, tables or arrays are nested too deep".into(), "nest them less deep"),
            };
            return Err(whole_file(file, line, cause, remedy));
        }
        let document = Document { text, lookup, problems: RefCell::default(), references: RefCell::default() };
        let mut root = Block::root(&document, &table);
        let source = source::read(&mut root);
        let sinks = sinks::read(&mut root);
        let dead_letters = dead_letters::read(&mut root);
        let engine = engine::read(&mut root);
        let admin = admin::read(&mut root);
        let mut pipelines = pipelines::read(&mut root, &sinks);
        root.finish("key");
        overlap::check(&document, &sinks, &pipelines);
        reserved::set(&sinks, source.as_ref(), &dead_letters, &mut pipelines);
        if let Some(Source::File(_)) = source {
            needs_commits(&document, &sinks, &dead_letters, &pipelines);
        }

        let problems = document.problems.take();
        match source {
            Some(source) if problems.is_empty() => Ok(Self {
                file: file.into(),
                source,
                sinks: sinks.known,
                dead_letters,
                engine,
                admin,
                pipelines: pipelines.into_iter().map(|pipeline| pipeline.value).collect(),
                references: document.references.take(),
            }),
            _ => Err(ConfigError::new(file, problems)),
        }
    }
}

/// The one problem of a file that cannot be read to its end.
fn whole_file(file: &Path, line: Option<usize>, cause: String, remedy: &str) -> ConfigError {
    ConfigError::new(file, vec![Problem { line, field: String::new(), cause, remedy: remedy.into() }])
}

/// At least once, Kafka has no ledger: positions are in the commits of a Kafka source. With files every start would publish
/// everything again.
fn needs_commits(document: &Document<'_>, sinks: &Sinks, dead_letters: &DeadLetters, pipelines: &[Placed<Pipeline>]) {
    let cause = "nothing keeps how far it came in Kafka, since the source is files";
    for pipeline in pipelines {
        let messages = pipeline.value.sinks.get(&Port::Messages).and_then(|name| sinks.known.get(name));
        if matches!(messages, Some(Sink::Kafka(Kafka { delivery: Delivery::AtLeastOnce, .. }))) {
            document.problem(
                &pipeline.place.inside(".sinks.messages", pipeline.place.span()),
                cause,
                "bind a sqlite sink, or write `delivery = \"exactly-once\"` in the sink",
            );
        }
    }
    if let DeadLetterStore::Kafka(_) = dead_letters.to {
        document.problems.borrow_mut().push(Problem {
            line: None,
            field: "dead_letters.kafka".into(),
            cause: cause.into(),
            remedy: "use [dead_letters.file]".into(),
        });
    }
}
