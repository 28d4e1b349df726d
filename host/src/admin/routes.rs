//! Every route in one list: what is served, and what `openapi.json` has to describe.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::answer::Refused;
use super::body::{Limit, change};
use super::guard::{changes, guard};
use super::{State, dead_letters, history, metrics, modules, page, pipelines, probes, samples};

/// The description of all routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    handler: MethodRouter<Arc<State>>,
    /// How large the body of a change may be.
    limit: Limit,
}

impl Route {
    /// A question.
    pub(super) fn get(path: &'static str, handler: MethodRouter<Arc<State>>) -> Self {
        Self { method: Method::GET, path, handler, limit: Limit::Small }
    }

    /// A change. Its body is read before its handler is called.
    pub(super) fn post(path: &'static str, limit: Limit, handler: MethodRouter<Arc<State>>) -> Self {
        Self { method: Method::POST, path, handler, limit }
    }
}

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", get(page::page)),
        Route::get("/page/{part}", get(page::part)),
        Route::get("/livez", get(probes::livez)),
        Route::get("/readyz", get(probes::readyz)),
        Route::get("/metrics", get(metrics::metrics)),
        Route::get("/openapi.json", get(openapi)),
        Route::get("/v1/config", get(pipelines::config)),
        Route::get("/v1/dead-letters", get(dead_letters::list)),
        Route::get("/v1/dead-letters/{position}", get(dead_letters::show)),
        Route::post("/v1/replays", Limit::Small, post(dead_letters::replay)),
        Route::get("/v1/modules", get(modules::list)),
        Route::get("/v1/offers/{id}", get(modules::show)),
        Route::post("/v1/offers/{id}/discard", Limit::Small, post(modules::discard)),
        Route::post("/v1/offers/{id}/promote", Limit::Small, post(modules::promote)),
        Route::post("/v1/modules/{pipeline}/{transform}", Limit::Module, post(modules::upload)),
        Route::get("/v1/pipelines", get(pipelines::list)),
        Route::get("/v1/pipelines/{name}/history", get(history::history)),
        Route::get("/v1/pipelines/{name}/samples", get(samples::list)),
        Route::post("/v1/pipelines/{name}/pause", Limit::Small, post(pipelines::pause)),
        Route::post("/v1/pipelines/{name}/resume", Limit::Small, post(pipelines::resume)),
        Route::post("/v1/pipelines/{name}/roll-back", Limit::Small, post(modules::roll_back)),
    ]
}

/// What answers.
pub(super) fn router(state: Arc<State>) -> Router {
    let mut router = Router::new();
    for Route { method, path, handler, limit } in routes() {
        let handler = match changes(&method) {
            true => handler.layer(from_fn_with_state((state.clone(), limit), change)),
            false => handler,
        };
        router = router.route(path, handler);
    }
    router
        .fallback(async || Refused::not_found("there is nothing of this path", "`/openapi.json` lists what there is"))
        .method_not_allowed_fallback(async || {
            let remedy = "`/openapi.json` lists the methods of each path";
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not know this method", remedy)
        })
        // `body.rs` bounds bodies, as the configuration says.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
