//! Runs a pipeline, and starts it again after it has stopped, when `tidegate pipelines resume` asks for that. A restart checks
//! stores and group as a start of the program does, and uses the modules that serve now.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::progress::PipelineSummary;
use super::write::Stores;
use super::{Pipeline, Stops, lanes};
use crate::config::{self, Config};

/// Runs a pipeline until its source ends, it is asked to end, or it has stopped and cannot be started again: when the last
/// pipeline stops, the program ends. `running` counts the pipelines that run.
pub(super) fn run(
    pipeline: Pipeline,
    of: &config::Pipeline,
    config: &Config,
    stops: &Stops,
    running: &AtomicUsize,
) -> (PipelineSummary, Option<anyhow::Error>) {
    let observed = pipeline.stores.observed.clone();
    let (summary, failure) = run_on(pipeline, of, config, stops, running);
    if let Some(failure) = &failure {
        observed.ends_for_good(config.redact(&format!("{failure:#}")));
    }
    (summary, failure)
}

/// [`run`], before it is said that the end is for good.
fn run_on(
    mut pipeline: Pipeline,
    of: &config::Pipeline,
    config: &Config,
    stops: &Stops,
    running: &AtomicUsize,
) -> (PipelineSummary, Option<anyhow::Error>) {
    let (name, runtime) = (pipeline.name.clone(), pipeline.runtime.clone());
    let (source, stores) = (pipeline.source.clone(), pipeline.stores.clone());
    let observed = &stores.observed;
    let mut summary = PipelineSummary { name: name.clone(), ..PipelineSummary::default() };
    loop {
        let span = pipeline.source_span();
        let (done, failure) = pipeline.run();
        summary.add(&done);
        observed.ends(failure.as_ref().map(|failure| config.redact(&format!("{failure:#}"))));
        running.fetch_sub(1, Ordering::AcqRel);
        let Some(failure) = failure else { return (summary, None) };
        let is_over = || running.load(Ordering::Acquire) == 0 || stops.are_set();
        if is_over() {
            return (summary, Some(failure));
        }
        // The program reports failures when it ends, which may be days away.
        tracing::error!(
            "{}; the other pipelines go on. When the cause is gone, `tidegate pipelines resume` starts it again",
            config.redact(&format!("{failure:#}"))
        );
        let following = source.follower().map(|source| span.in_scope(|| source.follow()));
        if let Some(Err(error)) = &following {
            tracing::warn!(pipeline = name, "the lag of the stopped pipeline will not be seen: {error:#}");
        }
        if !observed.waits_for_start(is_over) || !stops.begin_again(&stores.stop) {
            return (summary, Some(failure));
        }
        drop(following);
        running.fetch_add(1, Ordering::AcqRel);
        stores.begin_again();
        tracing::info!(pipeline = name, "starting again");
        pipeline = match lanes(of, &stores, &runtime) {
            Ok((lanes, control)) => Pipeline {
                name: name.clone(),
                lanes,
                control,
                source: source.clone(),
                stores: stores.clone(),
                runtime: runtime.clone(),
            },
            Err(failure) => {
                running.fetch_sub(1, Ordering::AcqRel);
                return (summary, Some(failure));
            }
        };
    }
}

impl Stores {
    /// Resets what a run leaves behind.
    fn begin_again(&self) {
        self.is_ready.store(false, Ordering::Release);
        self.breaker.begin_again();
        self.observed.begins_again();
    }
}
