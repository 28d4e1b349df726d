//! tidegate in this process: one pipeline from a topic into a store.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tempfile::TempDir;
use tidegate::command::Port;
use tidegate::config::Config;
use tidegate::event::Format;
use tidegate::pipeline::{self, PipelineSummary, Stops};
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::commands::module;
use super::stores::Case;

/// When a lane claimed its first partition since this was last cleared.
static CLAIMED: Mutex<Option<Instant>> = Mutex::new(None);

fn claimed() -> std::sync::MutexGuard<'static, Option<Instant>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes when partitions are claimed, of which the log tells; what the log warns of is shown.
pub(crate) fn watch_claims() {
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(Claims.with_filter(LevelFilter::INFO)).with(shown).init();
}

struct Claims;

impl<S: Subscriber> Layer<S> for Claims {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut is_claim = false;
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            is_claim |= field.name() == "message" && format!("{value:?}") == "claimed";
        });
        if is_claim {
            claimed().get_or_insert_with(Instant::now);
        }
    }
}

/// A running host.
pub(crate) struct Host {
    stops: Arc<Stops>,
    thread: JoinHandle<PipelineSummary>,
    _folder: TempDir,
}

impl Host {
    /// Starts one pipeline of this name. `sink` is the block of the sink named `store`.
    pub(crate) fn start(case: &Case, brokers: &str, pipeline: &str, topic: &str, sink: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidegate.toml");
        fs::write(&file, configuration(case, brokers, pipeline, topic, sink)).unwrap();
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        *claimed() = None;
        let stops = Arc::new(Stops::default());
        let thread = thread::spawn({
            let stops = stops.clone();
            move || {
                let mut outcome = pipeline::run(&config, &stops).unwrap_or_else(|error| panic!("{error:#}"));
                assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
                outcome.summary.pipelines.remove(0)
            }
        });
        Self { stops, thread, _folder: folder }
    }

    /// When it claimed its first partition, if it has.
    pub(crate) fn claimed(&self) -> Option<Instant> {
        assert!(!self.thread.is_finished(), "tidegate has ended");
        *claimed()
    }

    /// Ends it; nothing may have been rejected.
    pub(crate) fn stop(self) -> PipelineSummary {
        self.stops.set();
        let summary = self.thread.join().expect("tidegate ends");
        assert!(summary.rejected.is_empty(), "{summary:?}");
        summary
    }
}

fn configuration(case: &Case, brokers: &str, pipeline: &str, topic: &str, sink: &str) -> String {
    let format = match case.format {
        Format::Flattened => "debezium-flattened",
        _ => "debezium-envelope",
    };
    // Ports that the case does not measure go nowhere.
    let ports: Vec<String> = Port::ALL
        .iter()
        .map(|port| format!("{} = \"{}\"", port.name(), if *port == case.port { "store" } else { "nowhere" }))
        .collect();
    let grants: Vec<String> = Port::ALL.iter().map(|port| format!("{} = [\"*\"]", port.name())).collect();
    format!(
        r#"
        [source.kafka]
        brokers = "{brokers}"
        {sink}
        [sinks.nowhere.null]
        [dead_letters.file]
        path = "dead-letters.jsonl"
        [engine]
        cache = "compiled"
        [[pipelines]]
        name = "{pipeline}"
        topics = ["{topic}"]
        format = "{format}"
        sinks = {{ {ports} }}
        [[pipelines.transforms]]
        name = "{transform}"
        module = {module:?}
        settings = {{ {settings} }}
        grants = {{ {grants} }}
        "#,
        ports = ports.join(", "),
        transform = case.transform,
        module = module(case.transform),
        settings = case.settings,
        grants = grants.join(", "),
    )
}
