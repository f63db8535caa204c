//! Pages of findings, their evidence, and gaps. It changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::collector::Collector;
use crate::http::error::ApiError;
use crate::http::extract::{Params, Segment};
use crate::http::finding_id::FindingId;
use crate::http::json::{EvidenceJson, FindingJson, GapJson, WholeFindingJson};
use crate::identity::AgentId;
use crate::store::heads::{self, HeadQuery};
use crate::store::{StoreError, findings, gaps};

/// Which page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<u32>,
    after: Option<i64>,
    fleet: Option<String>,
    agent: Option<String>,
    incident: Option<String>,
    #[serde(default)]
    order: Order,
}

/// Which evidence of a finding.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EvidenceQuery {
    after: Option<i64>,
}

#[derive(Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Oldest,
    Newest,
}

/// A page, and where the next one begins: `null` when this one was not full.
#[derive(Serialize)]
pub(super) struct FindingPage {
    findings: Vec<FindingJson>,
    next: Option<String>,
}

/// A page of gaps.
#[derive(Serialize)]
pub(super) struct GapPage {
    gaps: Vec<GapJson>,
    next: Option<String>,
}

impl PageQuery {
    fn limit(&self) -> Result<u32, ApiError> {
        match self.limit {
            None => Ok(LIMIT_DEFAULT),
            Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            Some(limit) => Err(ApiError::bad_request(&format!("limit {limit}: expected 1 to {LIMIT_MAX}"))),
        }
    }

    fn agent(&self) -> Result<Option<AgentId>, ApiError> {
        self.agent.as_deref().map(parse_agent).transpose()
    }
}

pub(super) fn parse_agent(text: &str) -> Result<AgentId, ApiError> {
    AgentId::parse(text).ok_or_else(|| ApiError::bad_request(&format!("agent {text:?}: expected a uuid")))
}

pub(super) async fn list(
    State(collector): State<Arc<Collector>>,
    Params(page): Params<PageQuery>,
) -> Result<Json<FindingPage>, ApiError> {
    let query = HeadQuery {
        limit: page.limit()?,
        agent: page.agent()?,
        newest_first: page.order == Order::Newest,
        fleet: page.fleet,
        incident: page.incident,
        after: page.after,
    };
    if query.incident.is_some() && query.agent.is_none() {
        return Err(ApiError::bad_request("incident without agent: two agents may call theirs the same"));
    }
    let limit = query.limit;
    let (rows, is_cut) = collector
        .store
        .read(move |connection| -> Result<_, StoreError> { heads::list(connection, &query) })
        .await?;
    let is_full = is_cut || rows.len() >= limit as usize;
    let next = next_cursor(is_full, rows.last().map(|row| row.cursor));
    let findings = rows.iter().map(FindingJson::new).collect::<Result<_, _>>()?;
    Ok(Json(FindingPage { findings, next }))
}

pub(super) async fn show(
    State(collector): State<Arc<Collector>>,
    Segment(id): Segment,
    Params(query): Params<EvidenceQuery>,
) -> Result<Json<WholeFindingJson>, ApiError> {
    let wanted = FindingId::parse(&id)
        .ok_or_else(|| ApiError::bad_request(&format!("finding id {id:?}: expected AGENT:EPOCH:SEQ")))?;
    let found = collector
        .store
        .read(move |connection| -> Result<_, StoreError> {
            let row = findings::find(connection, wanted.agent, &wanted.epoch_prefix, wanted.seq)?;
            let Some(head) = row.map(|row| heads::of(connection, &row)).transpose()?.flatten() else {
                return Ok(None);
            };
            let after = query.after.unwrap_or(0);
            let (evidence, left_off) = findings::evidence(connection, &head, after, EVIDENCE_MAX)?;
            Ok(Some((head, evidence, left_off)))
        })
        .await?;
    let (head, evidence, evidence_left_off) =
        found.ok_or_else(|| ApiError::not_found(&format!("finding {id:?} does not exist")))?;
    Ok(Json(WholeFindingJson {
        finding: FindingJson::new(&head)?,
        evidence_next: next_cursor(evidence_left_off > 0, evidence.last().map(|row| row.cursor)),
        evidence: evidence.iter().map(EvidenceJson::new).collect::<Result<_, _>>()?,
        evidence_left_off,
    }))
}

pub(super) async fn gaps(
    State(collector): State<Arc<Collector>>,
    Params(page): Params<PageQuery>,
) -> Result<Json<GapPage>, ApiError> {
    if page.order == Order::Newest {
        return Err(ApiError::bad_request("gaps are listed oldest first only"));
    }
    if page.incident.is_some() {
        return Err(ApiError::bad_request("gaps are of no incident"));
    }
    let (limit, agent, after) = (page.limit()?, page.agent()?, page.after.unwrap_or(0));
    let rows = collector
        .store
        .read(move |connection| -> Result<_, StoreError> {
            gaps::list(connection, page.fleet.as_deref(), agent, after, limit)
        })
        .await?;
    let next = next_cursor(rows.len() >= limit as usize, rows.last().map(|row| row.cursor));
    Ok(Json(GapPage { gaps: rows.into_iter().map(GapJson::from).collect(), next }))
}

fn next_cursor(is_full: bool, last: Option<i64>) -> Option<String> {
    last.filter(|_| is_full).map(|cursor| cursor.to_string())
}

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;
/// Pieces of evidence shown at once.
const EVIDENCE_MAX: u32 = 1000;
