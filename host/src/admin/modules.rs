//! `/v1/modules`: which modules serve, what was offered and what came of it, and having others serve.
//!
//! An upload is answered at once; it is looked at beside the stream, and its offer tells what becomes of it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Json, Refused, wrong_query};
use super::{State, pipelines};
use crate::config::{Promote, Shadow};
use crate::pipeline::{Comparison, Exchange, Refusal};
use crate::registry::{How, NotPromoted, Offer, Origin, Registry, State as Offered};

/// How an uploaded module is to come to serve, where not as configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    shadow: Option<Compared>,
    events: Option<u64>,
    seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Compared {
    No,
    ByRule,
    ByHand,
}

/// Every transform, with the module that serves and the offers for it, the newest first.
pub(super) async fn list(Shared(state): Shared<Arc<State>>) -> Answer {
    let registry = registry(&state)?;
    let offers = registry.offers();
    let mut modules = Vec::new();
    for exchange in registry.exchanges() {
        let before = exchange.before();
        for (transform, digest) in exchange.serving() {
            let own = |offer: &&Offer| offer.pipeline == *exchange.pipeline().name && offer.transform == transform;
            let shown: Vec<_> =
                offers.iter().rev().filter(own).map(|offer| shown(&state, registry, &offers, offer)).collect();
            let configured = exchange.pipeline().transforms.iter().find(|one| one.name == transform);
            let before = before.as_ref().and_then(|before| {
                let (_, digest) = before.modules.iter().find(|(name, _)| *name == transform)?;
                let failure = before.failure.as_ref().map(|failure| state.config.redact(failure));
                Some(json!({ "digest": digest, "failure": failure }))
            });
            modules.push(json!({
                "pipeline": exchange.pipeline().name.to_string(),
                "transform": transform,
                "module": configured.map(|one| one.module.shown().to_string()),
                "digest": digest,
                "before": before,
                "offers": shown,
            }));
        }
    }
    Ok(Json(json!({ "modules": modules })))
}

/// One offer, with examples of what it answers differently.
pub(super) async fn show(Shared(state): Shared<Arc<State>>, id: Result<Path<u64>, PathRejection>) -> Answer {
    let (registry, id) = (registry(&state)?, number(id)?);
    let offers = registry.offers();
    let offer = find(&offers, id)?;
    let samples = offer.state.comparison().map(|comparison| comparison.samples.as_slice()).unwrap_or_default();
    let differences: Vec<_> = samples
        .iter()
        .map(|one| json!({ "position": one.position, "serving": one.serving, "candidate": one.candidate }))
        .collect();
    let mut answer = shown(&state, registry, &offers, offer);
    answer["differences"] = differences.into();
    Ok(Json(answer))
}

/// Takes a module for a transform.
pub(super) async fn upload(
    Shared(state): Shared<Arc<State>>,
    Path((pipeline, transform)): Path<(String, String)>,
    asked: Result<Query<Asked>, QueryRejection>,
    module: Bytes,
) -> Result<Response, Refused> {
    let Query(asked) = asked.map_err(|error| wrong_query(&error))?;
    let registry = registry(&state)?;
    let exchange = exchange(registry, &pipeline)?;
    let Some(configured) = exchange.pipeline().transforms.iter().find(|one| one.name == transform) else {
        return Err(Refused::not_found(
            "the pipeline has no such transform",
            "`/v1/modules` lists those that there are",
        ));
    };
    let how = how(&asked, configured.shadow.as_ref())?;
    if !exchange.is_running() {
        return Err(Refused::conflict("the pipeline does not run", "`/v1/pipelines` says why; ask again when it runs"));
    }
    let taken = registry.upload(exchange, &transform, module.into(), how).map_err(|busy| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string(), "ask again in a few seconds")
    })?;
    match taken {
        Some(id) => {
            let offers = registry.offers();
            let offer = find(&offers, id)?;
            Ok((StatusCode::ACCEPTED, Json(shown(&state, registry, &offers, offer))).into_response())
        }
        None => Ok(Json(json!({ "pipeline": pipeline, "transform": transform, "state": "serving" })).into_response()),
    }
}

/// Has the candidate of an offer serve.
pub(super) async fn promote(state: Shared<Arc<State>>, id: Result<Path<u64>, PathRejection>) -> Answer {
    decide(state.0, id, Registry::promote).await
}

/// Drops the candidate of an offer.
pub(super) async fn discard(state: Shared<Arc<State>>, id: Result<Path<u64>, PathRejection>) -> Answer {
    decide(state.0, id, Registry::discard).await
}

/// Has the modules before serve again.
pub(super) async fn roll_back(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Answer {
    let exchange = exchange(registry(&state)?, &name)?.clone();
    let gone = tokio::task::spawn_blocking(move || exchange.go_back()).await.map_err(|error| unexpected(&error))?;
    gone.map_err(|refusal| Refused::conflict(refusal.to_string(), "upload the module that is to serve"))?;
    pipelines::show(&state, &name)
}

/// Decides about an offer, where waiting for stores holds up nobody.
async fn decide(
    state: Arc<State>,
    id: Result<Path<u64>, PathRejection>,
    decision: fn(&Registry, u64) -> Result<(), NotPromoted>,
) -> Answer {
    let (registry, id) = (registry(&state)?.clone(), number(id)?);
    find(&registry.offers(), id)?;
    let asked = registry.clone();
    let decided =
        tokio::task::spawn_blocking(move || decision(&asked, id)).await.map_err(|error| unexpected(&error))?;
    decided.map_err(|refused| match refused {
        NotPromoted::NotThere(_) => {
            Refused::conflict(refused.to_string(), "upload the module again, if it is to serve")
        }
        NotPromoted::Refused(why) => refusal(&state, &why),
    })?;
    let offers = registry.offers();
    let offer = find(&offers, id)?;
    Ok(Json(shown(&state, &registry, &offers, offer)))
}

/// One of the offers.
fn shown(state: &State, registry: &Registry, offers: &[Offer], offer: &Offer) -> Value {
    let (name, reason) = standing(registry, offers, offer);
    let millis = offer.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    json!({
        "id": offer.id,
        "time": u64::try_from(millis).unwrap_or(u64::MAX),
        "pipeline": offer.pipeline,
        "transform": offer.transform,
        "digest": offer.digest,
        "from": match offer.from {
            Origin::File => "file",
            Origin::Upload => "upload",
        },
        "state": name,
        "reason": reason.map(|reason| state.config.redact(&reason)),
        "comparison": offer.state.comparison().map(|comparison| compared(state, comparison)),
    })
}

/// What has become of an offer, and why.
fn standing(registry: &Registry, offers: &[Offer], offer: &Offer) -> (&'static str, Option<String>) {
    let exchange = registry.exchanges().iter().find(|one| *one.pipeline().name == offer.pipeline);
    match (&offer.state, exchange) {
        (Offered::Refused(why, _), _) => ("refused", Some(why.clone())),
        (Offered::Promoted(_), Some(exchange)) => {
            // The same module may have been offered again after it was left.
            let is_last =
                offers.iter().rev().find(|other| promoted_alike(other, offer)).is_none_or(|last| last.id == offer.id);
            let serves =
                exchange.serving().iter().any(|(name, digest)| *name == offer.transform && *digest == offer.digest);
            if is_last && serves {
                return ("serving", None);
            }
            match exchange.left(&offer.transform, &offer.digest, offer.time) {
                Some(why) => ("rolled-back", Some(why)),
                None => ("replaced", None),
            }
        }
        (state, _) => (state.label(), None),
    }
}

fn promoted_alike(one: &Offer, other: &Offer) -> bool {
    matches!(one.state, Offered::Promoted(_))
        && (&one.pipeline, &one.transform, &one.digest) == (&other.pipeline, &other.transform, &other.digest)
}

fn compared(state: &State, comparison: &Comparison) -> Value {
    json!({
        "events": comparison.events,
        "missed": comparison.missed,
        "same": comparison.same,
        "different": comparison.different,
        "newly_rejected": comparison.newly_rejected,
        "no_longer_rejected": comparison.no_longer_rejected,
        "serving_seconds": comparison.serving_took.as_secs_f64(),
        "candidate_seconds": comparison.candidate_took.as_secs_f64(),
        "failure": comparison.failure.as_ref().map(|failure| state.config.redact(failure)),
    })
}

/// How a module comes to serve: what the request says, over what is configured.
fn how(asked: &Asked, configured: Option<&Shadow>) -> Result<How, Refused> {
    let wrong = |cause: &str| {
        let remedy =
            "ask for `shadow=by-rule` or `by-hand`, with `events` and `seconds` from 1 on, or for none of these";
        Err(Refused::new(StatusCode::BAD_REQUEST, cause, remedy))
    };
    let bounds = asked.events.is_some() || asked.seconds.is_some();
    let promote = match (asked.shadow, configured) {
        (Some(Compared::No), _) if bounds => return wrong("what is not compared has no bounds"),
        (Some(Compared::No), _) => return Ok(How::AtOnce),
        (None, _) if !bounds => return Ok(How::Configured),
        (None, None) => return wrong("`events` and `seconds` are of a comparison, and none is asked for"),
        (None, Some(configured)) => configured.promote,
        (Some(Compared::ByRule), _) => Promote::ByRule,
        (Some(Compared::ByHand), _) => Promote::ByHand,
    };
    let mut rule = configured.cloned().unwrap_or_default();
    rule.promote = promote;
    rule.events = asked.events.unwrap_or(rule.events);
    rule.time = asked.seconds.map_or(rule.time, Duration::from_secs);
    if rule.events == 0 || rule.time.is_zero() || rule.time > Shadow::LONGEST {
        return wrong("a comparison has at least an event, and takes from a second to a day");
    }
    Ok(How::Compared(rule))
}

pub(super) fn registry(state: &State) -> Result<&Registry, Refused> {
    state.registry.get().ok_or_else(|| {
        let remedy = "ask again when `/readyz` says that it is ready";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the modules are still being loaded", remedy)
    })
}

pub(super) fn exchange<'a>(registry: &'a Registry, pipeline: &str) -> Result<&'a Exchange, Refused> {
    let found = registry.exchanges().iter().find(|one| *one.pipeline().name == *pipeline);
    found.ok_or_else(pipelines::unknown)
}

fn find(offers: &[Offer], id: u64) -> Result<&Offer, Refused> {
    let found = offers.iter().find(|offer| offer.id == id);
    found.ok_or_else(|| Refused::not_found("there is no such offer", "`/v1/modules` lists those that are remembered"))
}

fn number(id: Result<Path<u64>, PathRejection>) -> Result<u64, Refused> {
    let remedy = "`/v1/modules` lists the offers with their numbers";
    id.map(|Path(id)| id).map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.body_text(), remedy))
}

fn refusal(state: &State, why: &Refusal) -> Refused {
    let remedy = "the stream has not noticed; mend what the text says, and ask again";
    Refused::conflict(state.config.redact(&why.to_string()), remedy)
}

pub(super) fn unexpected(error: &tokio::task::JoinError) -> Refused {
    let remedy = "see the log, and report this";
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("it failed unexpectedly: {error}"), remedy)
}
