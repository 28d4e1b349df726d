//! `--preview FILE`: what a configuration would write, in one SQLite file instead of its stores.

use std::path::Path;

use super::sinks::{Sink, Sqlite};
use super::text::{FilePath, Text};
use super::{Config, DeadLetterStore, Source};

impl Config {
    /// The same configuration with every sink in this SQLite file, and the dead letters beside it in
    /// `FILE.dead-letters.jsonl`. A sink keeps its name; its tables keep theirs where there is one sink, and begin
    /// with the sink's name otherwise. Each pipeline is a member of a group of its own, whose name ends in `run`: the
    /// real group's partitions and commits are left alone. The admin API's address is the real run's too.
    #[must_use]
    pub fn into_preview(mut self, file: &Path, run: &str) -> Self {
        let alone = self.sinks.len() == 1;
        for (name, sink) in &mut self.sinks {
            let prefix = if alone { String::new() } else { format!("{}_", name.replace(['.', '-'], "_")) };
            let path = FilePath::plain(file);
            *sink = Sink::Sqlite(Sqlite { path, table_prefix: Text::plain(prefix), seed: None });
        }
        for pipeline in &mut self.pipelines {
            pipeline.group = format!("{}.preview-{run}", pipeline.group);
        }
        if let Source::Kafka(kafka) = &mut self.source {
            kafka.instance = None;
        }
        self.admin = None;
        let mut dead_letters = file.as_os_str().to_owned();
        dead_letters.push(".dead-letters.jsonl");
        self.dead_letters.to = DeadLetterStore::File(FilePath::plain(dead_letters));
        self
    }
}
