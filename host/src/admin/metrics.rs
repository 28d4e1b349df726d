//! `/metrics`: everything that is counted, in Prometheus' text format.
//!
//! The counters live where they are raised; this only writes them down. `docs/admin.md` lists them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::State;
use crate::pipeline::{Histogram, Observed, ObservedPipeline, ObservedTransform, State as Doing, Tally};
use crate::source::status::{Lag, TopicStatus};

pub(super) async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let text = written(&state.observed);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// All metrics.
pub(super) fn written(observed: &Observed) -> String {
    let mut page = Page(String::new());
    page.family("build_info", "gauge", "The version of the program.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(bytes) = resident_bytes() {
        page.family("memory_bytes", "gauge", "Memory of the program that is resident.");
        page.sample("memory_bytes", &[], bytes);
    }
    let pipelines = observed.pipelines();
    page.family("pipeline_state", "gauge", "1 for the state that the pipeline is in, 0 for the others.");
    for pipeline in pipelines {
        let doing = pipeline.state().name();
        for state in Doing::NAMES {
            page.sample("pipeline_state", &[("pipeline", &pipeline.name), ("state", state)], u8::from(state == doing));
        }
    }
    page.family("waiting", "gauge", "1 for each store, or the source, that the pipeline waits for.");
    for pipeline in pipelines {
        for (store, _) in pipeline.waiting_for() {
            page.sample("waiting", &[("pipeline", &pipeline.name), ("for", &store)], 1);
        }
    }
    page.tallies("events_total", "Events that are durable, by what they mean.", "kind", pipelines, |one| &one.events);
    write_commands(&mut page, pipelines);
    let help = "Dead letters that are filed, by fault.";
    page.tallies("dead_letters_total", help, "fault", pipelines, |one| &one.dead_letters);
    page.family("claims_total", "counter", "How often a partition was claimed.");
    for pipeline in pipelines {
        page.sample("claims_total", &[("pipeline", &pipeline.name)], pipeline.claims.load(Ordering::Relaxed));
    }
    let help = "Modules that came to serve, failed on trial, were rolled back by hand, or were refused.";
    page.tallies("module_exchanges_total", help, "outcome", pipelines, |one| &one.exchanges);
    page.family("batch_events", "histogram", "Events of a batch that is durable.");
    for pipeline in pipelines {
        page.histogram("batch_events", &[("pipeline", &pipeline.name)], &pipeline.batches);
    }
    page.family("sink_write_seconds", "histogram", "Time of one write into a sink, whatever came of it.");
    for pipeline in pipelines {
        for (sink, times) in &pipeline.sinks {
            page.histogram("sink_write_seconds", &[("pipeline", &pipeline.name), ("sink", sink)], times);
        }
    }
    write_transforms(&mut page, pipelines);
    write_topics(&mut page, pipelines);
    write_partitions(&mut page, pipelines);
    page.0
}

fn write_commands(page: &mut Page, pipelines: &[Arc<ObservedPipeline>]) {
    page.family("commands_total", "counter", "Commands whose events are durable: done, or left out with a reject.");
    for pipeline in pipelines {
        for ((kind, given), (_, left_out)) in pipeline.commands.counts().zip(pipeline.left_out.counts()) {
            // The two are raised one after the other.
            for (outcome, count) in [("done", given.saturating_sub(left_out)), ("rejected", left_out)] {
                let labels = [("pipeline", pipeline.name.as_str()), ("kind", kind), ("outcome", outcome)];
                page.sample("commands_total", &labels, count);
            }
        }
    }
}

fn write_transforms(page: &mut Page, pipelines: &[Arc<ObservedPipeline>]) {
    let transforms =
        || pipelines.iter().flat_map(|pipeline| pipeline.transforms.iter().map(move |one| (pipeline, one)));
    page.family("module_info", "gauge", "The module that serves a transform.");
    for (pipeline, transform) in transforms() {
        let digest = transform.digest();
        let labels = [("pipeline", pipeline.name.as_str()), ("transform", &transform.name), ("digest", &digest)];
        page.sample("module_info", &labels, 1);
    }
    page.family("transform_seconds", "histogram", "Time of one call of a transform, tries after a failure among it.");
    for (pipeline, transform) in transforms() {
        page.histogram("transform_seconds", &labels(pipeline, transform), &transform.time);
    }
    page.family("transform_faults_total", "counter", "Events that a transform refused or failed on, by fault.");
    for (pipeline, transform) in transforms() {
        for (fault, count) in transform.faults.counts() {
            let [one, two] = labels(pipeline, transform);
            page.sample("transform_faults_total", &[one, two, ("fault", fault)], count);
        }
    }
    page.family("transform_memory_peak_bytes", "gauge", "The most memory that an instance has held after a call.");
    for (pipeline, transform) in transforms() {
        let memory = transform.memory.load(Ordering::Relaxed);
        page.sample("transform_memory_peak_bytes", &labels(pipeline, transform), memory);
    }
}

fn labels<'a>(pipeline: &'a ObservedPipeline, transform: &'a ObservedTransform) -> [(&'static str, &'a str); 2] {
    [("pipeline", &pipeline.name), ("transform", &transform.name)]
}

/// Whether somebody has each partition: what is assigned, summed over the processes, against what there is.
fn write_topics(page: &mut Page, pipelines: &[Arc<ObservedPipeline>]) {
    let topics: Vec<_> = pipelines.iter().map(|pipeline| (pipeline, pipeline.source.topics())).collect();
    let mut write = |name: &str, help: &str, value: fn(&TopicStatus) -> Option<u32>| {
        page.family(name, "gauge", help);
        for (pipeline, topics) in &topics {
            for (topic, status) in topics {
                if let Some(value) = value(status) {
                    page.sample(name, &[("pipeline", pipeline.name.as_str()), ("topic", topic)], value);
                }
            }
        }
    };
    write("topic_partitions", "Partitions that the topic has.", |status| status.partitions);
    let help = "Partitions of the topic that the consumer group has assigned to this process.";
    write("assigned_partitions", help, |status| Some(status.assigned));
}

fn write_partitions(page: &mut Page, pipelines: &[Arc<ObservedPipeline>]) {
    let lags: Vec<_> = pipelines.iter().map(|pipeline| (pipeline, pipeline.source.lags())).collect();
    let mut write = |name: &str, help: &str, value: fn(&Lag) -> Option<f64>| {
        page.family(name, "gauge", help);
        for (pipeline, lags) in &lags {
            for lag in lags {
                let number = lag.partition.partition.to_string();
                let labels =
                    [("pipeline", pipeline.name.as_str()), ("topic", &*lag.partition.topic), ("partition", &number)];
                if let Some(value) = value(lag) {
                    page.sample(name, &labels, value);
                }
            }
        }
    };
    write("partition_next_offset", "The next offset: everything below is durable.", |lag| Some(float(lag.next)));
    write("partition_end_offset", "The offset after the newest that the source knows.", |lag| lag.end.map(float));
    write("partition_lag_offsets", "Offsets between the two.", |lag| lag.offsets.map(float));
    write(
        "partition_lag_seconds",
        "How much later it is than the newest event that is durable; 0 at the end.",
        |lag| lag.seconds,
    );
}

/// Prometheus knows floating numbers alone; offsets are below 2^53 for all that can be written.
#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

/// The memory of this process that is resident; none where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// The text, while it is written.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "tidegate_{name}");
        for (number, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if number == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (bound, number) in histogram.cumulated() {
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            self.sample(&format!("{name}_bucket"), &[labels, &[("le", &bound)]].concat(), number);
            count = number;
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn tallies(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        pipelines: &[Arc<ObservedPipeline>],
        tally: fn(&ObservedPipeline) -> &Tally,
    ) {
        self.family(name, "counter", help);
        for pipeline in pipelines {
            for (kind, count) in tally(pipeline).counts() {
                self.sample(name, &[("pipeline", &pipeline.name), (label, kind)], count);
            }
        }
    }
}
