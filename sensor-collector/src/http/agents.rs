//! Agents: how they are, and revoking them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use prost::Message;
use sensor_proto::v1;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock;
use crate::collector::Collector;
use crate::http::error::ApiError;
use crate::http::extract::{Params, Segment};
use crate::http::findings::parse_agent;
use crate::http::json::HealthJson;
use crate::identity::secret::hex;
use crate::sessions::StreamKind;
use crate::store::agents::{self, AgentRow};
use crate::store::{StoreError, learned};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentQuery {
    fleet: Option<String>,
}

#[derive(Serialize)]
pub(super) struct AgentList {
    agents: Vec<AgentJson>,
}

/// One agent.
#[derive(Serialize)]
struct AgentJson {
    id: String,
    hostname: String,
    fleet: String,
    connected: bool,
    last_seen: Option<String>,
    enrolled_at: String,
    certificate_expires_at: String,
    revoked_at: Option<String>,
    agent_version: String,
    kernel_release: String,
    baseline: BaselineJson,
    learned: LearnedJson,
    health: Option<HealthJson>,
}

/// The baseline in force, as the agent says.
#[derive(Serialize)]
struct BaselineJson {
    version: u64,
    sha256: String,
}

#[derive(Serialize)]
struct LearnedJson {
    behaviours: u64,
    refused: u64,
}

pub(super) async fn list(
    State(collector): State<Arc<Collector>>,
    Params(query): Params<AgentQuery>,
) -> Result<Json<AgentList>, ApiError> {
    let rows = collector
        .store
        .read(move |connection| -> Result<_, StoreError> {
            let rows = agents::list(connection, query.fleet.as_deref())?;
            rows.into_iter()
                .map(|row| Ok((learned::count(connection, row.id)?, row)))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let agents = rows.into_iter().map(|(behaviours, row)| agent_json(&collector, row, behaviours)).collect();
    Ok(Json(AgentList { agents }))
}

pub(super) async fn revoke(
    State(collector): State<Arc<Collector>>,
    Segment(id): Segment,
) -> Result<Json<Value>, ApiError> {
    let agent = parse_agent(&id)?;
    let revoked = collector
        .store
        .write(move |connection| -> Result<_, StoreError> { agents::revoke(connection, agent, clock::now()) })
        .await?;
    if !revoked {
        return Err(ApiError::not_found(&format!("agent {id} does not exist")));
    }
    collector.sessions.revoke(agent);
    Ok(Json(json!({ "agent": id, "revoked": true })))
}

/// The last heartbeat; none when it was never sent or is damaged.
pub(super) fn heartbeat(row: &AgentRow) -> Option<v1::Heartbeat> {
    row.heartbeat.as_deref().and_then(|body| v1::Heartbeat::decode(body).ok())
}

fn agent_json(collector: &Collector, row: AgentRow, behaviours: u64) -> AgentJson {
    let heartbeat = heartbeat(&row);
    let (version, sha256) = heartbeat.as_ref().map_or((0, String::new()), |heartbeat| {
        (heartbeat.baseline_version, hex(&heartbeat.baseline_sha256))
    });
    AgentJson {
        id: row.id.text(),
        connected: collector.sessions.is_connected(row.id, StreamKind::Control),
        hostname: row.hostname,
        fleet: row.fleet,
        last_seen: row.last_seen.map(clock::UnixNs::rfc3339),
        enrolled_at: row.enrolled.rfc3339(),
        certificate_expires_at: row.certificate_expires.rfc3339(),
        revoked_at: row.revoked.map(clock::UnixNs::rfc3339),
        agent_version: row.agent_version,
        kernel_release: row.kernel_release,
        baseline: BaselineJson { version, sha256 },
        learned: LearnedJson { behaviours, refused: row.learned_refused },
        health: heartbeat.map(HealthJson::from),
    }
}
