//! Looks at the topics of a pipeline, changing nothing, for `tidegate check --connect`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;

use super::KafkaSource;
use super::client::client_config;
use super::context::{Context, Noted, hear};
use super::metadata;
use crate::inspection::Inspection;
use crate::source::topics::Topics;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl KafkaSource {
    /// Asks the brokers whether the topics are there, and whether they keep all of their history.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse this client; the text names the remedy.
    pub async fn inspect(&self) -> anyhow::Result<Inspection> {
        let noted = Arc::new(Noted::default());
        let consumer = self.create(&self.consumer(), &noted, true)?;
        let topics = Topics::new(&self.topics).map_err(|cause| anyhow!("`topics`: {cause}"))?;
        let there = self.there(&consumer, &noted, &topics)?;
        let mut inspection = Inspection::default();
        for written in topics.written() {
            let one = Topics::new(std::slice::from_ref(written)).map_err(|cause| anyhow!("`topics`: {cause}"))?;
            if !there.iter().any(|topic| one.contains(topic)) {
                let cause = if one.has_patterns() { "matches no topic" } else { "is not there" };
                inspection.faults.push(format!(
                    "`{written}` {cause}: is it spelt as the connector names it, and may this user describe it?"
                ));
            }
        }
        inspection.notes = self.history(&there).await?;
        Ok(inspection)
    }

    /// The pipeline's topics that are there.
    pub(super) fn there(
        &self,
        consumer: &BaseConsumer<Context>,
        noted: &Noted,
        topics: &Topics,
    ) -> anyhow::Result<Vec<String>> {
        // Gives the client its token.
        let _ = consumer.poll(Duration::ZERO);
        let brokers = self.config.client.brokers.shown();
        let metadata = consumer.fetch_metadata(None, PATIENCE).map_err(|error| {
            hear(consumer, noted).unwrap_or_else(|| {
                // That a broker hangs up at once is no error to librdkafka, so that no cause is known.
                let tls = if self.config.client.tls.is_some() { "" } else { ", and does it ask for `tls`" };
                anyhow!("Kafka ({brokers}) does not answer: {error}; is it running, and reachable from here{tls}?")
            })
        })?;
        // One that brokers cannot tell more of now is there.
        let is_there = |topic: &&MetadataTopic| {
            metadata::of(topic).map_or_else(|error| !metadata::is_unknown(error.rdkafka_error_code()), |_| true)
        };
        let named = metadata.topics().iter().filter(|topic| topics.contains(topic.name()));
        Ok(named.filter(is_there).map(|topic| topic.name().to_owned()).collect())
    }

    /// Which topics do not keep what a store that begins afresh would need.
    async fn history(&self, topics: &[String]) -> anyhow::Result<Vec<String>> {
        let admin: AdminClient<DefaultClientContext> =
            client_config(&self.config.client).create().context("cannot ask for the topics' settings")?;
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        if resources.is_empty() {
            return Ok(Vec::new());
        }
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let Ok(described) = admin.describe_configs(&resources, &options).await else {
            return Ok(vec![
                "the topics' settings cannot be read, so that nothing is known of how long they keep records".into(),
            ]);
        };
        let notes = topics.iter().zip(described).filter_map(|(topic, described)| incomplete(topic, &described.ok()?));
        Ok(notes.collect())
    }
}

/// What of a topic's history goes, if anything does.
fn incomplete(topic: &str, settings: &ConfigResource) -> Option<String> {
    let setting = |name: &str| settings.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    let policy = setting("cleanup.policy");
    let remedy = "a store that begins afresh lacks what is gone; have the connector take a new snapshot then";
    if policy.contains("compact") {
        return Some(format!("`{topic}` is compacted, and forgets older states and, after a while, deletes: {remedy}"));
    }
    let limits = ["retention.ms", "retention.bytes"];
    let (name, value) =
        limits.iter().find_map(|name| Some((name, setting(name))).filter(|(_, value)| *value != "-1"))?;
    let hours = value.parse::<u64>().ok().filter(|_| *name == "retention.ms").map(|ms| ms / 3_600_000);
    let told = hours.map_or_else(String::new, |hours| format!(", {hours} hours"));
    Some(format!("`{topic}` does not keep its records for ever (`{name}` is {value}{told}): {remedy}"))
}
