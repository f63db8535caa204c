//! Fleets: tokens, candidate, baseline, rollout. What a change means is decided in `fleet`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use prost::Message;
use sensor_proto::v1;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{self, UnixNs};
use crate::collector::Collector;
use crate::fleet::approve::{Approval, Scope, approve as approve_finding};
use crate::fleet::candidate::candidate as fleet_candidate;
use crate::fleet::{self, FleetError, Push};
use crate::http::Operator;
use crate::http::agents::heartbeat;
use crate::http::error::ApiError;
use crate::http::extract::{Body, Params, Segment};
use crate::http::finding_id::FindingId;
use crate::identity::check_fleet_name;
use crate::identity::secret::{Sha256Hash, new_enrollment_token};
use crate::store::agents::{self, AgentRow};
use crate::store::baselines::{self, BaselineRow, FleetRow};
use crate::store::{StoreError, tokens};

type Shared = State<Arc<Collector>>;

pub(super) async fn list(State(collector): Shared) -> Result<Json<Value>, ApiError> {
    let fleets = collector.store.read(baselines::fleets).await?;
    let fleets: Vec<_> = fleets.iter().map(fleet_json).collect();
    Ok(Json(json!({ "fleets": fleets })))
}

fn fleet_json(fleet: &FleetRow) -> Value {
    json!({
        "name": fleet.name,
        "created_at": fleet.created.rfc3339(),
        "agents": fleet.agents,
        "baseline_version": fleet.baseline_version,
        "findings": fleet.findings,
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    lifetime_hours: Option<u64>,
}

/// Makes an enrollment token, and the fleet when it is new. The token is shown here and nowhere again.
pub(super) async fn create_token(
    State(collector): Shared,
    Extension(operator): Extension<Operator>,
    Segment(fleet): Segment,
    Body(body): Body,
) -> Result<Response, ApiError> {
    check_fleet_name(&fleet).map_err(|error| ApiError::bad_request(&error.to_string()))?;
    let request: TokenRequest = if body.is_empty() { TokenRequest::default() } else { parse_json(&body)? };
    let lifetime_seconds = match request.lifetime_hours {
        None => collector.config.token_lifetime.as_secs(),
        Some(hours) if (1..=TOKEN_HOURS_MAX).contains(&hours) => hours * 3600,
        Some(hours) => {
            let text = format!("lifetime_hours {hours}: expected 1 to {TOKEN_HOURS_MAX}");
            return Err(ApiError::bad_request(&text));
        }
    };
    let token = new_enrollment_token(&collector.authority.fingerprint())
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    let hash = Sha256Hash::of(token.as_bytes());
    let now = clock::now();
    let expires = now.plus_seconds(lifetime_seconds);
    let name = fleet.clone();
    collector
        .store
        .write(move |connection| -> Result<_, StoreError> {
            tokens::ensure_fleet(connection, &name, now)?;
            tokens::insert_enrollment(connection, hash, &name, &operator.0, now, expires)
        })
        .await?;
    let body = json!({ "fleet": fleet, "token": token, "expires_at": expires.rfc3339() });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

pub(super) async fn candidate(
    State(collector): Shared,
    Segment(fleet): Segment,
) -> Result<Response, ApiError> {
    let yaml = collector.store.read(move |connection| fleet_candidate(connection, &fleet)).await?;
    Ok(yaml_response(yaml))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionQuery {
    version: Option<u64>,
}

pub(super) async fn baseline(
    State(collector): Shared,
    Segment(fleet): Segment,
    Params(query): Params<VersionQuery>,
) -> Result<Response, ApiError> {
    let row = collector.store.read(move |connection| fleet::find(connection, &fleet, query.version)).await?;
    let version = row.version.to_string();
    let mut response = yaml_response(row.yaml);
    let value = header::HeaderValue::from_str(&version).expect("digits are a header value");
    response.headers_mut().insert("sensor-baseline-version", value);
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushQuery {
    base: Option<u64>,
}

pub(super) async fn push(
    State(collector): Shared,
    Extension(operator): Extension<Operator>,
    Segment(fleet): Segment,
    Params(query): Params<PushQuery>,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let yaml = String::from_utf8(body.to_vec()).map_err(|error| {
        let valid = &body[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = valid.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        FleetError::Invalid { line, column, message: "expected UTF-8 text".to_owned() }
    })?;
    let push = Push { fleet, yaml, author: operator.0, note: "pushed".to_owned(), base: query.base };
    Ok(Json(baseline_json(&fleet::push(&collector, push).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApproveRequest {
    finding: String,
    behaviours: Option<BehavioursWanted>,
    upto: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BehavioursWanted {
    One,
    All,
}

pub(super) async fn approve(
    State(collector): Shared,
    Extension(operator): Extension<Operator>,
    Segment(fleet): Segment,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let request: ApproveRequest = parse_json(&body)?;
    let id = FindingId::parse(&request.finding).ok_or_else(|| {
        ApiError::bad_request(&format!("finding id {:?}: expected AGENT:EPOCH:SEQ", request.finding))
    })?;
    let scope = match request.behaviours {
        None => Scope::Only,
        Some(BehavioursWanted::One) => Scope::One,
        Some(BehavioursWanted::All) => Scope::All {
            upto: request.upto.as_deref().and_then(|upto| upto.parse().ok()).ok_or_else(|| {
                ApiError::bad_request(
                    "behaviours \"all\" wants upto: the cursor of the finding as it was looked at",
                )
            })?,
        },
    };
    let approval = Approval { fleet, id, scope };
    let row = approve_finding(&collector, &approval, &operator.0).await?;
    Ok(Json(baseline_json(&row)))
}

fn baseline_json(row: &BaselineRow) -> Value {
    json!({
        "fleet": row.fleet,
        "version": row.version,
        "sha256": row.sha256.hex(),
        "author": row.author,
        "note": row.note,
        "created_at": row.created.rfc3339(),
    })
}

/// How far the current baseline has come on each agent.
#[derive(Serialize)]
struct RolloutJson {
    agent: String,
    hostname: String,
    state: &'static str,
    reason: String,
    /// The version in force on the agent.
    version: u64,
    reported_at: Option<String>,
}

pub(super) async fn rollout(
    State(collector): Shared,
    Segment(fleet): Segment,
) -> Result<Json<Value>, ApiError> {
    let (current, agents) = collector
        .store
        .read(move |connection| -> Result<_, FleetError> {
            let current = fleet::find(connection, &fleet, None)?;
            Ok((current, agents::list(connection, Some(&fleet))?))
        })
        .await?;
    let agents: Vec<_> = agents
        .iter()
        .filter(|agent| agent.revoked.is_none())
        .map(|agent| rollout_json(&current, agent))
        .collect();
    Ok(Json(json!({
        "fleet": current.fleet,
        "version": current.version,
        "sha256": current.sha256.hex(),
        "agents": agents,
    })))
}

/// What an agent reported of this very text; until then it is pending.
fn rollout_json(current: &BaselineRow, agent: &AgentRow) -> RolloutJson {
    let status = agent.status.as_deref().and_then(|body| v1::BaselineStatus::decode(body).ok());
    let status =
        status.filter(|status| status.version == current.version && status.sha256 == current.sha256.0);
    let heartbeat = heartbeat(agent).unwrap_or_default();
    let runs_it = heartbeat.baseline_sha256 == current.sha256.0;
    let (state, reason) = match status.as_ref().map(|status| (status.state(), status.reason.as_str())) {
        Some((v1::baseline_status::State::Failed, reason)) => ("FAILED", reason),
        Some((v1::baseline_status::State::Applied, _)) => ("APPLIED", ""),
        _ if runs_it => ("APPLIED", ""),
        _ => ("PENDING", ""),
    };
    RolloutJson {
        agent: agent.id.text(),
        hostname: agent.hostname.clone(),
        state,
        reason: reason.to_owned(),
        version: if state == "APPLIED" { current.version } else { heartbeat.baseline_version },
        reported_at: status.and(agent.status_at).map(UnixNs::rfc3339),
    }
}

fn yaml_response(yaml: String) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], yaml).into_response()
}

fn parse_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(&format!("request body: {error}")))
}

const TOKEN_HOURS_MAX: u64 = 8760;
