//! The blocks `[[pipelines]]`: which events go through which transforms into which sinks.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::Duration;

use super::block::{Block, Document, Place, Placed, suggestion};
use super::sinks::Sinks;
use super::text::Text;
use super::transforms::{self, Transform};
use crate::command::Port;
use crate::event::{self, Format};
use crate::source::topics::{is_pattern, pattern};

const DEFAULT_MAX_EVENTS: u64 = 500;
const DEFAULT_MAX_BYTES: u64 = 4 << 20;
const DEFAULT_CLASH_PATIENCE_SECONDS: u64 = 30;
const DEFAULT_IN_A_ROW: u64 = 100;
const DEFAULT_PERCENT: u64 = 50;

/// `[[pipelines]]`.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name, unique in the file: it names the pipeline's rows in the ledgers.
    pub name: String,
    /// The topics: exact names, and patterns, which begin with `^`. At least one.
    pub topics: Vec<String>,
    /// The consumer group, under a Kafka source.
    pub group: String,
    /// How the records are laid out.
    pub format: Format,
    /// What to do when a table is truncated.
    pub on_truncate: OnTruncate,
    /// What to do when the source has lost records that a store lacks.
    pub on_lost_records: OnLost,
    /// What to do when a topic has more partitions than before, or is another of the same name.
    pub on_changed_topic: OnLost,
    /// What to do when a cache, and nothing but a cache, has lost its ledger.
    pub on_lost_cache: OnLostCache,
    /// How long a command is tried again that clashes with what another partition may still change.
    pub clash_patience: Duration,
    /// When so much is rejected that the fault must lie elsewhere.
    pub breaker: Breaker,
    /// Debezium's `unavailable.value.placeholder`.
    pub unavailable_placeholder: Text,
    /// `ExtractNewRecordState`'s `add.fields.prefix`.
    pub flattened_prefix: Text,
    /// Whether a null value of a flattened topic deletes its row.
    pub flattened_tombstone_is_delete: bool,
    /// The connector's `topic.heartbeat.prefix`.
    pub heartbeat_prefix: Text,
    /// Lanes that share the partitions, at least 1.
    pub lanes: usize,
    /// How much is handed on at once.
    pub batch: BatchSize,
    /// The sink of each bound port. Every port that a transform is granted anything on is bound, and every sink that
    /// is named here exists.
    pub sinks: BTreeMap<Port, String>,
    /// The transforms, at least one.
    pub transforms: Vec<Transform>,
}

/// What to do when a table is truncated, which no row's change tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTruncate {
    /// Stop the pipeline and tell the operator: the stores still hold the rows.
    #[default]
    Stop,
    /// Go on; the stores keep the rows.
    Ignore,
    /// Stop a fill, whose rows from before would come back. No configuration says so: `tidegate rewind` does.
    RefuseFill,
}

/// What to do when something of the source is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLost {
    /// Stop the pipeline and tell the operator.
    #[default]
    Stop,
    /// Say what was lost, and go on.
    Continue,
}

/// What to do when a cache has lost its ledger, and with it, for all that is known, its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLostCache {
    /// Delete what is left of the entries under the declared keys, and fill it from the start of the topics.
    #[default]
    Rebuild,
    /// Stop the pipeline and tell the operator.
    Stop,
}

/// The bounds of what may be rejected before the pipeline stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many events in a row; 0 is no bound.
    pub in_a_row: u32,
    /// So many in a hundred of the last thousand events; 0 is no bound.
    pub percent: u32,
}

/// The bounds of a batch. It ends at whichever is reached first; one record larger than `max_bytes` is a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Events.
    pub max_events: usize,
    /// Bytes of keys and values.
    pub max_bytes: usize,
}

impl Pipeline {
    /// How its records are to be understood.
    pub fn event_options(&self) -> event::Options {
        event::Options {
            format: self.format,
            unavailable_placeholder: self.unavailable_placeholder.to_string(),
            flattened_prefix: self.flattened_prefix.to_string(),
            flattened_tombstone_is_delete: self.flattened_tombstone_is_delete,
            heartbeat_prefix: self.heartbeat_prefix.to_string(),
        }
    }
}

pub(super) fn read(root: &mut Block<'_>, sinks: &Sinks) -> Vec<Placed<Pipeline>> {
    let blocks = root.blocks("pipelines");
    root.required("pipelines", Some(()), "add a `[[pipelines]]`");
    let document = root.document();
    let mut pipelines: Vec<Placed<Pipeline>> = Vec::new();
    for block in blocks {
        let place = block.place();
        let Some(pipeline) = read_one(block, sinks) else { continue };
        if pipelines.iter().any(|other| other.value.name == pipeline.name) {
            let cause = format!("another pipeline is named `{}`", pipeline.name);
            document.problem(&place, cause, "give each pipeline a name of its own");
        }
        pipelines.push(Placed { value: pipeline, place });
    }
    pipelines
}

fn read_one(mut block: Block<'_>, sinks: &Sinks) -> Option<Pipeline> {
    let document = block.document();
    let name = block.text("name");
    let name = block.required("name", name, "name it, as `name = \"orders\"`");
    if let Some(name) = name.as_ref() {
        check_name(document, &name.place, &name.value);
    }
    let topics = read_topics(&mut block);
    let formats =
        [("debezium-envelope", Format::Envelope), ("debezium-flattened", Format::Flattened), ("auto", Format::Auto)];
    let format = choice(&mut block, "format", &formats);
    let on_truncate = choice(&mut block, "on_truncate", &[("stop", OnTruncate::Stop), ("ignore", OnTruncate::Ignore)]);
    let event = event::Options::default();
    let lost = [("stop", OnLost::Stop), ("continue", OnLost::Continue)];
    let on_lost_records = choice(&mut block, "on_lost_records", &lost).unwrap_or_default();
    let on_changed_topic = choice(&mut block, "on_changed_topic", &lost).unwrap_or_default();
    let on_lost_cache =
        choice(&mut block, "on_lost_cache", &[("rebuild", OnLostCache::Rebuild), ("stop", OnLostCache::Stop)]);
    let clash_patience = block.number("clash_patience_seconds", &(0..=3600)).unwrap_or(DEFAULT_CLASH_PATIENCE_SECONDS);
    let breaker = read_breaker(&mut block);
    let group = block.text("group");
    if let Some(group) = group.as_ref() {
        check_name(document, &group.place, &group.value);
    }
    let unavailable_placeholder = nonempty(&mut block, "unavailable_placeholder", event.unavailable_placeholder);
    let flattened_prefix = block.text("flattened_prefix");
    let tombstone_is_delete = block.boolean("flattened_tombstone_is_delete");
    let heartbeat_prefix = nonempty(&mut block, "heartbeat_prefix", event.heartbeat_prefix);
    let lanes = block.number("lanes", &(1..=256)).and_then(|lanes| usize::try_from(lanes).ok());
    let batch = read_batch(&mut block);
    let bound = read_sinks(&mut block, sinks);
    let transforms = transforms::read(&mut block, &bound);
    block.finish("key");
    let name = name?.value.to_string();
    Some(Pipeline {
        group: group.map_or_else(|| format!("tidegate.{name}"), |group| group.value.to_string()),
        name,
        topics,
        format: format.unwrap_or_default(),
        on_truncate: on_truncate.unwrap_or_default(),
        on_lost_records,
        on_changed_topic,
        on_lost_cache: on_lost_cache.unwrap_or_default(),
        clash_patience: Duration::from_secs(clash_patience),
        breaker,
        unavailable_placeholder,
        flattened_prefix: flattened_prefix.map_or_else(|| Text::plain(event.flattened_prefix), |prefix| prefix.value),
        flattened_tombstone_is_delete: tombstone_is_delete.unwrap_or(event.flattened_tombstone_is_delete),
        heartbeat_prefix,
        lanes: lanes.unwrap_or_else(cores),
        batch,
        sinks: bound,
        transforms,
    })
}

fn read_topics(block: &mut Block<'_>) -> Vec<String> {
    let document = block.document();
    let place = block.place();
    let topics = block.texts("topics");
    let Some(topics) = block.required("topics", topics, "name them, as `topics = [\"server.public.orders\"]`") else {
        return Vec::new();
    };
    if topics.is_empty() {
        document.problem(&place, "`topics` is empty", "name at least one topic");
    }
    let mut names: Vec<Text> = Vec::new();
    for Placed { value, place } in topics {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if is_pattern(&value) {
            if let Err(cause) = pattern(&value) {
                let cause = format!("`{}` is no pattern of topics: {cause}", value.shown());
                document.problem(&place, cause, "write a regular expression after the `^`, as `^server\\.public\\.`");
            }
        } else if value.is_empty() || value.len() > 249 || !value.bytes().all(legal) {
            let cause = format!("`{}` is no name of a topic", value.shown());
            document.problem(
                &place,
                cause,
                "give an exact name: 1 to 249 letters, digits, `.`, `_`, `-`; or a pattern, which begins with `^`",
            );
        } else if names.contains(&value) {
            document.problem(&place, format!("`{}` is named twice", value.shown()), "name each topic once");
        }
        names.push(value);
    }
    names.iter().map(|name| name.to_string()).collect()
}

fn read_batch(block: &mut Block<'_>) -> BatchSize {
    let (mut max_events, mut max_bytes) = (DEFAULT_MAX_EVENTS, DEFAULT_MAX_BYTES);
    if let Some(mut batch) = block.block("batch") {
        max_events = batch.number("max_events", &(1..=100_000)).unwrap_or(max_events);
        max_bytes = batch.number("max_bytes", &(1..=1 << 30)).unwrap_or(max_bytes);
        batch.finish("key");
    }
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    BatchSize { max_events: size(max_events), max_bytes: size(max_bytes) }
}

fn read_breaker(block: &mut Block<'_>) -> Breaker {
    let (mut in_a_row, mut percent) = (DEFAULT_IN_A_ROW, DEFAULT_PERCENT);
    if let Some(mut breaker) = block.block("breaker") {
        in_a_row = breaker.number("in_a_row", &(0..=1_000_000)).unwrap_or(in_a_row);
        percent = breaker.number("percent", &(0..=100)).unwrap_or(percent);
        breaker.finish("key");
    }
    let bound = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Breaker { in_a_row: bound(in_a_row), percent: bound(percent) }
}

fn read_sinks(block: &mut Block<'_>, sinks: &Sinks) -> BTreeMap<Port, String> {
    let mut bound = BTreeMap::new();
    let Some(mut ports) = block.block("sinks") else { return bound };
    for port in Port::ALL {
        let Some(Placed { value: name, place }) = ports.text(port.name()) else { continue };
        if !sinks.names.iter().any(|known| known == name.as_str()) {
            let cause = format!("there is no sink `{}`", name.shown());
            ports.document().problem(&place, cause, suggestion(name.shown(), &sinks.names));
        }
        if let Some(sink) = sinks.known.get(name.as_str()).filter(|sink| !sink.ports().contains(&port)) {
            let served: Vec<_> = sink.ports().iter().map(|port| port.name()).collect();
            let cause = format!("the sink `{}` takes {} alone", name.shown(), served.join(", "));
            ports.document().problem(&place, cause, format!("bind a sink that takes {}", port.name()));
        }
        bound.insert(port, name.to_string());
    }
    ports.finish("port");
    bound
}

/// One of a few words.
pub(super) fn choice<T: Copy>(block: &mut Block<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
    let Placed { value, place } = block.text(key)?;
    let chosen = choices.iter().find(|(word, _)| *word == value.as_str());
    if chosen.is_none() {
        let known: Vec<String> = choices.iter().map(|(word, _)| (*word).to_owned()).collect();
        let cause = format!("`{}` is none of the choices", value.shown());
        block.document().problem(&place, cause, suggestion(value.shown(), &known));
    }
    chosen.map(|(_, choice)| *choice)
}

fn nonempty(block: &mut Block<'_>, key: &str, default: String) -> Text {
    match block.text(key) {
        Some(Placed { value, place }) => {
            if value.is_empty() {
                block.document().problem(&place, "the text is empty", "leave the key out for the default");
            }
            value
        }
        None => Text::plain(default),
    }
}

/// Names go into ledgers, metrics and paths.
pub(super) fn check_name(document: &Document<'_>, place: &Place, name: &Text) {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        let cause = format!("`{}` is no name", name.shown());
        document.problem(place, cause, "use 1 to 64 letters, digits, `.`, `_`, `-`");
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
