//! Holds a configuration against its live source and stores, changing nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;

use super::bind;
use super::commit::CommitMetadata;
use super::open::{self, Source};
use super::start::{declared, start};
use crate::config::{self, Config, DeadLetterStore, OnLostCache};
use crate::engine::Engine;
use crate::inspection::Inspection;
use crate::sink::{Declared, SinkError};
use crate::source::KafkaSource;

/// How long one store may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that was found out.
#[derive(Debug)]
pub struct Finding {
    /// The pipeline and the part of it.
    pub place: String,
    /// The cause, and the remedy.
    pub text: String,
    /// Whether the pipeline cannot run like this; else the operator should know of it.
    pub wrong: bool,
}

/// Connects to the source and the stores of each pipeline, and holds them against what its transforms declare. SQLite
/// files are left alone: a run makes what is missing in them.
///
/// # Errors
/// When nothing can be asked at all. A store that cannot be reached is a finding, and so is a module that cannot serve.
pub fn inspect(config: &Config, engine: &Engine) -> anyhow::Result<Vec<Finding>> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut findings = Vec::new();
    let remote = |sink: &config::Sink| !matches!(sink, config::Sink::Sqlite(_) | config::Sink::Null);
    let mut sinks = BTreeMap::new();
    for (name, sink) in config.sinks.iter().filter(|(_, sink)| remote(sink)) {
        match open::sink(name, sink) {
            Ok(opened) => drop(sinks.insert(name.clone(), opened)),
            Err(error) => findings.push(wrong(format!("sink `{name}`"), format!("{error:#}"))),
        }
    }
    for pipeline in &config.pipelines {
        let place = |part: &str| format!("pipeline `{}`, {part}", pipeline.name);
        let mut committed = Vec::new();
        match open::source(config, pipeline, &Arc::default()) {
            Ok(Source::Kafka(source)) => {
                let looked = runtime.block_on(source.inspect()).and_then(|found| {
                    findings.extend(placed(&place("topics"), found));
                    committed = commits(&source)?;
                    Ok(())
                });
                if let Err(error) = looked {
                    findings.push(wrong(place("source"), format!("{error:#}")));
                }
            }
            Ok(Source::File(_)) => {}
            Err(error) => findings.push(wrong(place("source"), format!("{error:#}"))),
        }
        // What is wrong with a module has been told by the check that connects to nothing.
        let started: Vec<_> =
            pipeline.transforms.iter().filter_map(|one| Some(Arc::new(start(engine, config, one).ok()?))).collect();
        for bound in bind(pipeline, &sinks) {
            let declared = declared(&bound.ports, started.iter().map(|one| one.description()));
            let had_a_ledger = committed.iter().any(|commit| commit.sinks.contains_key(&bound.name));
            let look = async {
                let mut found = bound.sink.inspect(&pipeline.name, &declared).await?;
                if had_a_ledger && !bound.sink.knows(&pipeline.name).await? {
                    if bound.is_cache() && pipeline.on_lost_cache == OnLostCache::Rebuild {
                        found
                            .notes
                            .push("its ledger is gone: a run clears the cache, and fills it from the start".into());
                    } else {
                        found.faults.push(bound.is_lost("is gone"));
                    }
                }
                Ok(found)
            };
            let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, look).await });
            let place = place(&format!("sink `{}`", bound.name));
            match asked {
                Ok(Ok(found)) => findings.extend(placed(&place, found)),
                Ok(Err(SinkError::Retry(cause) | SinkError::Stop(cause))) => findings.push(wrong(place, cause)),
                Err(_) => {
                    let cause =
                        format!("it has not answered for {PATIENCE:?}: is it running, and reachable from here?");
                    findings.push(wrong(place, cause));
                }
            }
        }
    }
    if let DeadLetterStore::Kafka(to) = &config.dead_letters.to {
        let declared = Declared { topics: vec![to.topic.clone()], ..Declared::default() };
        let asked = open::cluster(config, to).and_then(|client| {
            let kafka = config::Sink::Kafka(config::Kafka::at_least_once(client.clone()));
            // It has no ledger, and letters of every pipeline.
            let topic = open::sink("dead letters", &kafka)?;
            Ok(runtime.block_on(topic.inspect("", &declared))?)
        });
        match asked {
            Ok(found) => findings.extend(placed("dead_letters.kafka", found)),
            Err(error) => findings.push(wrong("dead_letters.kafka".into(), format!("{error:#}"))),
        }
    }
    Ok(findings)
}

/// What the group has committed of a pipeline's topics.
fn commits(source: &KafkaSource) -> anyhow::Result<Vec<CommitMetadata>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (done, read) = mpsc::channel::<()>();
        let stop = &stop;
        scope.spawn(move || {
            if read.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        let committed = source.committed(stop);
        drop(done);
        Ok(committed?.iter().map(|metadata| CommitMetadata::read(metadata)).collect())
    })
}

fn placed(place: &str, found: Inspection) -> impl Iterator<Item = Finding> {
    let at = |wrong: bool| move |text| Finding { place: place.to_owned(), text, wrong };
    found.faults.into_iter().map(at(true)).chain(found.notes.into_iter().map(at(false)))
}

fn wrong(place: String, text: String) -> Finding {
    Finding { place, text, wrong: true }
}
