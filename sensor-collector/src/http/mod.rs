//! The operators' HTTP API: JSON over TLS with a bearer token. `docs/http-api.md` is its description. It holds no
//! state and no policy: it reads the store and calls `fleet`. It may call everything in the crate but `grpc`'s
//! services.

mod agents;
mod error;
mod extract;
pub mod finding_id;
mod findings;
mod fleets;
mod json;
mod maturity;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::collector::Collector;
use crate::counters::add;
use crate::fleet::BASELINE_BYTES_MAX;
use crate::identity::secret::Sha256Hash;
use crate::store::{StoreError, findings as stored, heads};
use error::ApiError;

/// Who is asking: the name of the API token.
#[derive(Clone)]
struct Operator(String);

/// The API, ready to be served.
pub fn router(collector: Arc<Collector>) -> Router {
    let guarded = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/findings", get(findings::list))
        .route("/v1/findings/{id}", get(findings::show))
        .route("/v1/gaps", get(findings::gaps))
        .route("/v1/agents", get(agents::list))
        .route("/v1/agents/{id}/revoke", post(agents::revoke))
        .route("/v1/fleets", get(fleets::list))
        .route("/v1/fleets/{fleet}/tokens", post(fleets::create_token))
        .route("/v1/fleets/{fleet}/candidate", get(fleets::candidate))
        .route("/v1/fleets/{fleet}/maturity", get(maturity::maturity))
        .route("/v1/fleets/{fleet}/baseline", get(fleets::baseline).put(fleets::push))
        .route("/v1/fleets/{fleet}/baseline/approve", post(fleets::approve))
        .route("/v1/fleets/{fleet}/rollout", get(fleets::rollout))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&collector), require_token));
    Router::new()
        .route("/healthz", get(healthz))
        .merge(guarded)
        .fallback(no_such_page)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(collector)
}

async fn require_token(
    State(collector): State<Arc<Collector>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let offered = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let operator = offered.and_then(|value| value.strip_prefix("Bearer ")).and_then(|token| {
        let hash = Sha256Hash::of(token.trim().as_bytes());
        collector.api_tokens.iter().find(|known| known.hash.matches(&hash))
    });
    let Some(operator) = operator else {
        add(&collector.counters.requests_unauthorized, 1);
        let message = if offered.is_none() { "no bearer token" } else { "bearer token is unknown" };
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
    };
    request.extensions_mut().insert(Operator(operator.name.clone()));
    Ok(next.run(request).await)
}

/// Says that the process answers and the store can be read; nothing that needs a token.
async fn healthz(State(collector): State<Arc<Collector>>) -> Response {
    let read =
        collector.store.read(|connection| crate::store::tokens::list_api(connection).map(|_| ())).await;
    match read {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(error) => ApiError::from(error).into_response(),
    }
}

async fn status(State(collector): State<Arc<Collector>>) -> Result<Json<serde_json::Value>, ApiError> {
    let (findings, evidence) = collector
        .store
        .read(|connection| -> Result<_, StoreError> {
            Ok((heads::count(connection)?, stored::count(connection)?))
        })
        .await?;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "findings": findings,
        "evidence": evidence,
        "streams": collector.sessions.count(),
        "counters": collector.counters.snapshot(),
    })))
}

async fn no_such_page(request: Request) -> ApiError {
    ApiError::not_found(&format!("no such page: {}", request.uri().path()))
}

async fn no_such_method(request: Request) -> ApiError {
    let text = format!("{} is not possible on {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, &text)
}

/// Well above the largest baseline: a connection that is closed in the middle of a body shows as a broken pipe, and a
/// baseline that is too large should get the answer that says so.
const BODY_BYTES_MAX: usize = 4 * BASELINE_BYTES_MAX;
