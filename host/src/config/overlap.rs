//! No two pipelines may write the same thing: their ledgers are apart, so neither would know of the other's writes.

use super::block::{Document, Placed};
use super::pipelines::Pipeline;
use super::place::{self, Place};
use super::sinks::Sinks;
use crate::command::Port;
use crate::command::grants::Pattern;
use crate::command::reserved::Spelt;

/// A grant as its store sees it, and as it was written.
struct Seen<'a> {
    pipeline: usize,
    place: Place,
    names: Spelt,
    written: &'a str,
}

impl Seen<'_> {
    fn meets(&self, other: &Self) -> bool {
        self.pipeline != other.pipeline && self.place.is_same(&other.place) && self.names.meets(&other.names)
    }
}

/// Names grants of two pipelines that can meet in one store.
pub(super) fn check(document: &Document<'_>, sinks: &Sinks, pipelines: &[Placed<Pipeline>]) {
    for port in Port::ALL {
        let mut seen: Vec<Seen<'_>> = Vec::new();
        for (number, pipeline) in pipelines.iter().enumerate() {
            let Some(name) = pipeline.value.sinks.get(&port) else { continue };
            let Some(sink) = sinks.known.get(name) else { continue };
            let (place, spelling) = place::of(name, sink, port);
            for grant in pipeline.value.transforms.iter().flat_map(|transform| transform.grants.of(port)) {
                // What is no pattern is a problem of its own already.
                let Ok(pattern) = Pattern::parse(grant.as_str()) else { continue };
                let names = spelling.spelt(&pattern);
                let one = Seen { pipeline: number, place: place.clone(), names, written: grant.shown() };
                if let Some(other) = seen.iter().find(|other| one.meets(other)) {
                    let cause = format!(
                        "its grant `{}` on {} overlaps `{}` of the pipeline `{}`",
                        one.written,
                        port.name(),
                        other.written,
                        pipelines.get(other.pipeline).map_or("", |other| other.value.name.as_str())
                    );
                    let remedy = "narrow one of them, or give each pipeline a store of its own";
                    document.problem(&pipeline.place, cause, remedy);
                }
                seen.push(one);
            }
        }
    }
}
