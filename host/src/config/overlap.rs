//! No two pipelines may write the same thing: their ledgers are apart, so neither would know of the other's writes.

use std::collections::BTreeMap;

use super::block::{Document, Placed};
use super::pipelines::Pipeline;
use super::sinks::{Sink, Sinks};
use crate::command::Port;
use crate::command::grants::Pattern;

/// Names grants of two pipelines that can meet in one store.
pub(super) fn check(document: &Document<'_>, sinks: &Sinks, pipelines: &[Placed<Pipeline>]) {
    for port in Port::ALL {
        // By store: the pipeline, the pattern as the store sees it, and as it was written.
        let mut seen: BTreeMap<String, Vec<(usize, Pattern, &str)>> = BTreeMap::new();
        for (number, pipeline) in pipelines.iter().enumerate() {
            let Some(sink) = pipeline.value.sinks.get(&port) else { continue };
            let (store, prefix) = store(sinks, port, sink);
            let others = seen.entry(store).or_default();
            for grant in pipeline.value.transforms.iter().flat_map(|transform| transform.grants.of(port)) {
                // What is no pattern is a problem of its own already.
                let Ok(pattern) = Pattern::parse(&format!("{prefix}{}", grant.as_str())) else { continue };
                if let Some((other, _, written)) =
                    others.iter().find(|(other, theirs, _)| *other != number && pattern.overlaps(theirs))
                {
                    let other = pipelines.get(*other).map_or("", |other| other.value.name.as_str());
                    let cause = format!(
                        "its grant `{}` on {} overlaps `{written}` of the pipeline `{other}`",
                        grant.shown(),
                        port.name()
                    );
                    document.problem(
                        &pipeline.place,
                        cause,
                        "narrow one of them, or give each pipeline a sink of its own",
                    );
                }
                others.push((number, pattern, grant.shown()));
            }
        }
    }
}

/// Which store a port of a sink is, and what the names in it begin with. Sinks that share a SQLite file keep their
/// cache entries, documents and messages apart by name, and their tables by prefix.
fn store(sinks: &Sinks, port: Port, sink: &str) -> (String, String) {
    match sinks.known.get(sink) {
        Some(Sink::Sqlite(sqlite)) if port == Port::Tables => {
            let file = std::path::absolute(sqlite.path.as_path()).unwrap_or_else(|_| sqlite.path.to_path_buf());
            (format!("file {}", file.display()), sqlite.table_prefix.to_string())
        }
        _ => (format!("sink {sink}"), String::new()),
    }
}
