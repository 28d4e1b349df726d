//! `tidegate rewind`: the fill of one sink's fresh target as a configuration of its own.

use std::path::Path;

use super::text::FilePath;
use super::{Config, DeadLetterStore, Source};

impl Config {
    /// The same configuration with this pipeline alone, and of its sinks this one alone, under the name of its `fresh`
    /// target. The pipeline is a member of a group of its own, whose name ends in `run`, files its dead letters into a file
    /// of their own, and answers nobody.
    #[must_use]
    pub fn into_rewind(mut self, pipeline: &str, sink: &str, fresh: &str, run: &str, dead_letters: &Path) -> Self {
        self.pipelines.retain(|one| one.name == pipeline);
        for pipeline in &mut self.pipelines {
            pipeline.group = format!("{}.rewind-{run}", pipeline.group);
            pipeline.sinks.retain(|_, bound| bound == sink);
            pipeline.sinks.values_mut().for_each(|bound| fresh.clone_into(bound));
        }
        if let Source::Kafka(kafka) = &mut self.source {
            kafka.instance = None;
        }
        self.admin = None;
        self.dead_letters.to = DeadLetterStore::File(FilePath::plain(dead_letters));
        self
    }
}
