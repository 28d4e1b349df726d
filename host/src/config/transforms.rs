//! The blocks `[[pipelines.transforms]]`: a module, its settings, and what it may touch.

use std::collections::BTreeMap;
use std::time::Duration;

use super::block::{Block, Placed};
use super::pipelines::{check_name, choice};
use super::settings;
use super::text::{FilePath, Text};
use crate::command::grants::Pattern;
use crate::command::reserved::Reserved;
use crate::command::{self, Port};

/// `[[pipelines.transforms]]`.
#[derive(Debug, Clone)]
pub struct Transform {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// The module's file.
    pub module: FilePath,
    /// The settings, a JSON object's text.
    pub settings: Text,
    /// What it may touch.
    pub grants: Grants,
    /// How a new module is compared with the one that serves, before it does; none: it serves at once.
    pub shadow: Option<Shadow>,
    /// The SHA-256 that the module's bytes must have: 64 lower-case hexadecimal digits, as `Module::digest` gives.
    pub digest: Option<String>,
}

/// `[pipelines.transforms.shadow]`: what a new module has to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// How many events it is compared at.
    pub events: u64,
    /// How long it is compared, from the first event on, where so many do not come.
    pub time: Duration,
    /// Who decides.
    pub promote: Promote,
    /// How many events it may answer differently.
    pub differences: u64,
    /// How many times as long as the serving one it may take.
    pub times_slower: u32,
}

/// Who decides whether a compared module comes to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// The rule of this block.
    ByRule,
    /// Somebody.
    ByHand,
}

/// What a transform may touch by port: names, of which the last character may be a `*` that stands for any rest.
/// What is not granted is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Cache keys.
    pub cache: Vec<Text>,
    /// Tables.
    pub tables: Vec<Text>,
    /// Indexes of documents.
    pub documents: Vec<Text>,
    /// Topics of messages.
    pub messages: Vec<Text>,
    /// What none of them reaches, by port.
    pub reserved: BTreeMap<Port, Reserved>,
}

impl Grants {
    /// The patterns of one port.
    pub fn of(&self, port: Port) -> &[Text] {
        match port {
            Port::Cache => &self.cache,
            Port::Tables => &self.tables,
            Port::Documents => &self.documents,
            Port::Messages => &self.messages,
        }
    }

    /// The same for whoever holds commands against them.
    pub fn to_command(&self) -> command::grants::Grants {
        let plain = |patterns: &[Text]| patterns.iter().map(|pattern| pattern.to_string()).collect();
        command::grants::Grants {
            cache: plain(&self.cache),
            tables: plain(&self.tables),
            documents: plain(&self.documents),
            messages: plain(&self.messages),
            reserved: self.reserved.clone(),
        }
    }
}

pub(super) fn read(pipeline: &mut Block<'_>, sinks: &BTreeMap<Port, String>) -> Vec<Transform> {
    let document = pipeline.document();
    let blocks = pipeline.blocks("transforms");
    pipeline.required("transforms", Some(()), "add a `[[pipelines.transforms]]`");
    let mut transforms: Vec<Transform> = Vec::new();
    for block in blocks {
        let place = block.place();
        let Some(transform) = read_one(block, sinks) else { continue };
        if transforms.iter().any(|other| other.name == transform.name) {
            let cause = format!("another transform of this pipeline is named `{}`", transform.name);
            document.problem(&place, cause, "give each transform a name of its own");
        }
        transforms.push(transform);
    }
    transforms
}

fn read_one(mut block: Block<'_>, sinks: &BTreeMap<Port, String>) -> Option<Transform> {
    let document = block.document();
    let name = block.text("name");
    let name = block.required("name", name, "name it, as `name = \"order-cache\"`");
    if let Some(name) = name.as_ref() {
        check_name(document, &name.place, &name.value);
    }
    let module = block.path("module");
    let module = block.required("module", module, "name its file, as `module = \"modules/order_cache.wasm\"`");
    if let Some(module) = module.as_ref().filter(|module| !module.value.is_file()) {
        let cause = format!("there is no file `{}`", module.value.shown());
        document.problem(&module.place, cause, "correct the path, or build the module");
    }
    let settings = match block.raw("settings") {
        Some((place, value)) => settings::to_json(document, &place, value),
        None => Some(Text::plain("{}")),
    };
    let grants = block.block("grants").map(|grants| read_grants(grants, sinks)).unwrap_or_default();
    let shadow = block.block("shadow").map(read_shadow);
    let digest = block.text("digest").and_then(|digest| read_digest(&block, &digest));
    block.finish("key");
    let (name, module) = (name?.value.to_string(), module?.value);
    Some(Transform { name, module, settings: settings?, grants, shadow, digest })
}

impl Shadow {
    /// The longest that a module may be compared.
    pub const LONGEST: Duration = Duration::from_secs(86_400);
}

impl Default for Shadow {
    fn default() -> Self {
        Self {
            events: 10_000,
            time: Duration::from_secs(60),
            promote: Promote::ByRule,
            differences: 0,
            times_slower: 5,
        }
    }
}

fn read_shadow(mut block: Block<'_>) -> Shadow {
    let promote = [("by-rule", Promote::ByRule), ("by-hand", Promote::ByHand)];
    let usual = Shadow::default();
    let shadow = Shadow {
        events: block.number("events", &(1..=1_000_000_000)).unwrap_or(usual.events),
        time: block.number("seconds", &(1..=Shadow::LONGEST.as_secs())).map_or(usual.time, Duration::from_secs),
        promote: choice(&mut block, "promote", &promote).unwrap_or(usual.promote),
        differences: block.number("differences", &(0..=1_000_000_000)).unwrap_or(usual.differences),
        times_slower: block
            .number("times_slower", &(1..=1_000))
            .and_then(|times| u32::try_from(times).ok())
            .unwrap_or(usual.times_slower),
    };
    block.finish("key");
    shadow
}

fn read_grants(mut block: Block<'_>, sinks: &BTreeMap<Port, String>) -> Grants {
    let mut read = |port: Port| {
        let place = block.place();
        let patterns = block.texts(port.name()).unwrap_or_default();
        if !patterns.is_empty() && !sinks.contains_key(&port) {
            let cause = format!("`{0}` is granted, and the pipeline binds no sink to the port `{0}`", port.name());
            let remedy = format!("add `{} = \"…\"` to the pipeline's `sinks`, or take the grant away", port.name());
            block.document().problem(&place, cause, remedy);
        }
        for Placed { value, place } in &patterns {
            if Pattern::parse(value).is_err() {
                let cause = format!("`{}` is no pattern", value.shown());
                block.document().problem(place, cause, "write a name with at most one `*`, at its end");
            }
        }
        patterns.into_iter().map(|pattern| pattern.value).collect()
    };
    let grants = Grants {
        cache: read(Port::Cache),
        tables: read(Port::Tables),
        documents: read(Port::Documents),
        messages: read(Port::Messages),
        reserved: BTreeMap::new(),
    };
    block.finish("port");
    grants
}

fn read_digest(block: &Block<'_>, digest: &Placed<Text>) -> Option<String> {
    let hexadecimal = digest.value.strip_prefix("sha256:").filter(|digits| {
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    if hexadecimal.is_none() {
        let cause = format!("`{}` is no digest", digest.value.shown());
        block.document().problem(&digest.place, cause, "write `sha256:` and 64 lower-case hexadecimal digits");
    }
    hexadecimal.map(str::to_owned)
}
