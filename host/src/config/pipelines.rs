//! The blocks `[[pipelines]]`: which events go through which transforms into which sinks.

use std::collections::BTreeMap;
use std::num::NonZero;

use super::block::{Block, Document, Place, Placed, suggestion};
use super::sinks::Sinks;
use super::text::Text;
use super::transforms::{self, Transform};
use crate::command::Port;
use crate::event::{self, Format};

const DEFAULT_MAX_EVENTS: u64 = 500;
const DEFAULT_MAX_BYTES: u64 = 4 << 20;

/// `[[pipelines]]`.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name, unique in the file: it names the pipeline's rows in the ledgers.
    pub name: String,
    /// The topics, by their exact names. At least one.
    pub topics: Vec<String>,
    /// How the records are laid out.
    pub format: Format,
    /// What to do when a table is truncated.
    pub on_truncate: OnTruncate,
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
    let unavailable_placeholder = nonempty(&mut block, "unavailable_placeholder", event.unavailable_placeholder);
    let flattened_prefix = block.text("flattened_prefix");
    let tombstone_is_delete = block.boolean("flattened_tombstone_is_delete");
    let heartbeat_prefix = nonempty(&mut block, "heartbeat_prefix", event.heartbeat_prefix);
    let lanes = block.number("lanes", &(1..=256)).and_then(|lanes| usize::try_from(lanes).ok());
    let batch = read_batch(&mut block);
    let bound = read_sinks(&mut block, sinks);
    let transforms = transforms::read(&mut block, &bound);
    block.finish("key");
    Some(Pipeline {
        name: name?.value.to_string(),
        topics,
        format: format.unwrap_or_default(),
        on_truncate: on_truncate.unwrap_or_default(),
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
        if value.is_empty() || value.len() > 249 || !value.bytes().all(legal) {
            let cause = format!("`{}` is no name of a topic", value.shown());
            document.problem(&place, cause, "give an exact name: 1 to 249 letters, digits, `.`, `_`, `-`");
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

fn read_sinks(block: &mut Block<'_>, sinks: &Sinks) -> BTreeMap<Port, String> {
    let mut bound = BTreeMap::new();
    let Some(mut ports) = block.block("sinks") else { return bound };
    for port in Port::ALL {
        let Some(Placed { value: name, place }) = ports.text(port.name()) else { continue };
        if !sinks.names.iter().any(|known| known == name.as_str()) {
            let cause = format!("there is no sink `{}`", name.shown());
            ports.document().problem(&place, cause, suggestion(name.shown(), &sinks.names));
        }
        bound.insert(port, name.to_string());
    }
    ports.finish("port");
    bound
}

/// One of a few words.
fn choice<T: Copy>(block: &mut Block<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
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
