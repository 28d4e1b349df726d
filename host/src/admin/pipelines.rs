//! `/v1/pipelines`: what each does and how far it is behind, and pausing it. `/v1/config`: what is in effect.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Json, Refused};
use super::{State, samples};
use crate::pipeline::{ObservedPipeline, State as Doing, Tally};

/// Every pipeline.
pub(super) async fn list(Shared(state): Shared<Arc<State>>) -> Json {
    let pipelines: Vec<_> = state.observed.pipelines().iter().map(|pipeline| shown(&state, pipeline)).collect();
    Json(json!({ "pipelines": pipelines }))
}

/// Has it take in nothing more.
pub(super) async fn pause(state: Shared<Arc<State>>, name: Path<String>) -> Answer {
    set_paused(&state.0, &name.0, true)
}

/// Has it go on, or start again where it has stopped.
pub(super) async fn resume(state: Shared<Arc<State>>, name: Path<String>) -> Answer {
    find(&state.0, &name.0)?.start_again();
    set_paused(&state.0, &name.0, false)
}

/// The configuration as it is in effect.
pub(super) async fn config(Shared(state): Shared<Arc<State>>) -> Json {
    Json(state.config.shown())
}

/// One pipeline.
pub(super) fn show(state: &State, name: &str) -> Answer {
    find(state, name).map(|pipeline| Json(shown(state, pipeline)))
}

/// Nothing of this configuration has the name that was asked for.
pub(super) fn unknown() -> Refused {
    Refused::not_found("there is no such pipeline", "`/v1/pipelines` lists those that there are")
}

fn set_paused(state: &State, name: &str, paused: bool) -> Answer {
    let pipeline = find(state, name)?;
    match pipeline.state() {
        Doing::Ended => return Err(Refused::conflict("the pipeline has ended", "start the program again")),
        Doing::Stopped(reason) => {
            let error = format!("the pipeline has stopped: {}", state.config.redact(&reason));
            return Err(Refused::conflict(error, "when the cause is gone, `resume` starts it again"));
        }
        _ => {}
    }
    pipeline.pause(paused);
    show(state, name)
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a ObservedPipeline, Refused> {
    state.observed.pipeline(name).map(|pipeline| &**pipeline).ok_or_else(unknown)
}

fn shown(state: &State, pipeline: &ObservedPipeline) -> Value {
    let doing = pipeline.state();
    let lags = pipeline.source.lags();
    let (lag, behind) = samples::behind(&lags);
    let partitions: Vec<_> = lags
        .iter()
        .map(|lag| {
            json!({
                "topic": &*lag.partition.topic,
                "partition": lag.partition.partition,
                "next_offset": lag.next,
                "end_offset": lag.end,
                "lag": lag.offsets,
                "seconds_behind": lag.seconds,
            })
        })
        .collect();
    let waiting: Vec<_> = pipeline
        .waiting_for()
        .iter()
        .map(|(store, cause)| json!({ "store": store, "cause": state.config.redact(cause) }))
        .collect();
    let transforms: Vec<_> = pipeline
        .transforms
        .iter()
        .map(|transform| json!({ "name": transform.name, "digest": transform.digest() }))
        .collect();
    json!({
        "name": pipeline.name,
        "state": doing.name(),
        "reason": match &doing {
            Doing::Stopped(reason) => Some(reason),
            _ => None,
        },
        "paused": pipeline.is_paused(),
        "waiting": waiting,
        "lag": lag,
        "seconds_behind": behind,
        "events": counted(&pipeline.events),
        "commands": counted(&pipeline.commands),
        "dead_letters": counted(&pipeline.dead_letters),
        "transforms": transforms,
        "partitions": partitions,
    })
}

/// What was counted at all.
fn counted(tally: &Tally) -> Map<String, Value> {
    tally.counts().filter(|(_, count)| *count > 0).map(|(name, count)| (name.into(), count.into())).collect()
}
