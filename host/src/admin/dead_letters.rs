//! `/v1/dead-letters`: what could not be handled, read from where it is filed. `/v1/replays`: handling it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Answer, Json, Refused, wrong_query};
use super::{State, pipelines};
use crate::config::Config;
use crate::pipeline::dead_letter::{self, Wanted};

/// What a list holds where nobody says, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pipeline: Option<String>,
    fault: Option<String>,
    limit: Option<usize>,
}

/// The newest, and how many there are of each fault.
pub(super) async fn list(Shared(state): Shared<Arc<State>>, asked: Result<Query<Asked>, QueryRejection>) -> Answer {
    let Query(asked) = asked.map_err(|error| wrong_query(&error))?;
    let limit = asked.limit.unwrap_or(LIMIT);
    if !(1..=MOST).contains(&limit) {
        let remedy = format!("give a `limit` from 1 to {MOST}");
        return Err(Refused::new(StatusCode::BAD_REQUEST, format!("the limit is {limit}"), remedy));
    }
    let wanted = wanted(&state, asked)?;
    read(&state, move |config, go_on| Ok(serde_json::to_value(dead_letter::list(config, &wanted, limit, go_on)?)?))
        .await
}

/// All letters of one record.
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Path(position): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let Query(asked) = asked.map_err(|error| wrong_query(&error))?;
    if !dead_letter::is_position(&position) {
        let remedy = "write it as `orders-0@17`";
        return Err(Refused::new(StatusCode::BAD_REQUEST, "what the path names is no position", remedy));
    }
    let wanted = wanted(&state, asked)?;
    let found = move |config: &Config, go_on: &mut dyn FnMut() -> anyhow::Result<()>| {
        Ok(serde_json::to_value(dead_letter::find(config, &wanted, &position, go_on)?)?)
    };
    let Json(found) = read(&state, found).await?;
    if found["letters"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refused::not_found("there is no dead letter of this record", "`/v1/dead-letters` lists them"));
    }
    Ok(Json(found))
}

/// Has the lanes handle letters again.
pub(super) async fn replay(Shared(state): Shared<Arc<State>>, body: Bytes) -> Answer {
    let request: dead_letter::Request = serde_json::from_slice(&body).map_err(|error| {
        let remedy = "send an object with `pipeline`, `fault`, `positions` and `from`, each of which may be left out";
        Refused::new(StatusCode::BAD_REQUEST, format!("the body does not say what to replay: {error}"), remedy)
    })?;
    if let Some(wrong) = request.positions.iter().find(|position| !dead_letter::is_position(position)) {
        let error = format!("{wrong:?} is no position");
        return Err(Refused::new(StatusCode::BAD_REQUEST, error, "write it as `orders-0@17`"));
    }
    wanted(&state, Asked { pipeline: request.pipeline.clone(), fault: None, limit: None })?;
    let observed = state.observed.clone();
    // So that the answer comes before the connection is ended.
    let patience = state.config.admin.as_ref().map_or(Duration::ZERO, |admin| admin.timeout) / 2;
    let until = Instant::now() + patience;
    read(&state, move |config, go_on| {
        Ok(serde_json::to_value(dead_letter::replay(config, &observed, &request, until, MOST, go_on)?)?)
    })
    .await
}

/// A name that is none of the configuration's is a slip of the pen, not an empty list.
fn wanted(state: &State, asked: Asked) -> Result<Wanted, Refused> {
    if let Some(name) = &asked.pipeline
        && state.observed.pipeline(name).is_none()
    {
        return Err(pipelines::unknown());
    }
    Ok(Wanted { pipeline: asked.pipeline, fault: asked.fault })
}

/// Reads on a thread that may wait. It is given up when the client is gone.
async fn read(
    state: &Arc<State>,
    work: impl FnOnce(&Config, &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<Value> + Send + 'static,
) -> Answer {
    let Ok(one) = state.reading.clone().acquire_owned().await else {
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the program ends", "ask another one"));
    };
    let gone = GivenUp(Arc::default());
    let flag = gone.0.clone();
    let reading = state.clone();
    let read = tokio::task::spawn_blocking(move || {
        let _one = one;
        let mut go_on = || {
            if flag.load(Ordering::Relaxed) {
                bail!("given up");
            }
            Ok(())
        };
        work(&reading.config, &mut go_on)
    });
    let read = match read.await {
        Ok(read) => read,
        Err(error) => Err(error.into()),
    };
    drop(gone);
    read.map(Json).map_err(|error| {
        // What a client says may quote what came from a reference.
        let cause = state.config.redact(&format!("{error:#}"));
        Refused::new(StatusCode::BAD_GATEWAY, cause, "mend what the text says, and ask again")
    })
}

/// Ends the reading when the request is dropped.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
