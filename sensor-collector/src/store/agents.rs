//! Rows of agents: enrollment, last heartbeat, baseline status. It parses no message. It may call rusqlite.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::intake::Epoch;
use crate::store::StoreError;

/// An agent as stored.
#[derive(Clone, Debug)]
pub struct AgentRow {
    /// Chosen at enrollment.
    pub id: AgentId,
    /// Server state: an agent cannot choose it.
    pub fleet: String,
    /// When it enrolled.
    pub enrolled: UnixNs,
    /// When its newest certificate ends.
    pub certificate_expires: UnixNs,
    /// When it was revoked.
    pub revoked: Option<UnixNs>,
    /// Claimed at enrollment, then in each heartbeat.
    pub hostname: String,
    /// Claimed.
    pub agent_version: String,
    /// Claimed.
    pub kernel_release: String,
    /// Of the last heartbeat.
    pub last_seen: Option<UnixNs>,
    /// The last encoded `v1::Heartbeat`.
    pub heartbeat: Option<Vec<u8>>,
    /// Where its learned behaviours stand.
    pub learned: Option<(Epoch, u64)>,
    /// Learned behaviours that were not stored: unreadable, or beyond the bound.
    pub learned_refused: u64,
    /// The last encoded `v1::BaselineStatus`.
    pub status: Option<Vec<u8>>,
    /// When that came.
    pub status_at: Option<UnixNs>,
}

/// What an agent claims about itself.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Host name.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
    /// `uname -r`.
    pub kernel_release: String,
}

impl FromSql for AgentId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
    }
}

/// Adds an agent that has just enrolled.
pub fn insert(
    connection: &Connection,
    id: AgentId,
    fleet: &str,
    claims: &Claims,
    now: UnixNs,
    certificate_expires: UnixNs,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO agents (id, fleet, enrolled_ns, certificate_expires_ns, hostname, agent_version, kernel_release)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id.text(),
            fleet,
            now.column(),
            certificate_expires.column(),
            claims.hostname,
            claims.agent_version,
            claims.kernel_release,
        ],
    )?;
    Ok(())
}

/// One agent.
pub fn find(connection: &Connection, id: AgentId) -> Result<Option<AgentRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    Ok(statement.query_row([id.text()], agent_row).optional()?)
}

/// Every agent, by host name.
pub fn list(connection: &Connection, fleet: Option<&str>) -> Result<Vec<AgentRow>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("{SELECT} WHERE ?1 IS NULL OR fleet = ?1 ORDER BY fleet, hostname, id"))?;
    let rows = statement.query_map([fleet], agent_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Refuses the agent from now on. False when there is no such agent; a second time changes nothing.
pub fn revoke(connection: &Connection, id: AgentId, now: UnixNs) -> Result<bool, StoreError> {
    let changed = connection.execute(
        "UPDATE agents SET revoked_ns = coalesce(revoked_ns, ?2) WHERE id = ?1",
        params![id.text(), now.column()],
    )?;
    Ok(changed == 1)
}

/// The agent has a new certificate.
pub fn set_certificate_expiry(
    connection: &Connection,
    id: AgentId,
    expires: UnixNs,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE agents SET certificate_expires_ns = ?2 WHERE id = ?1",
        params![id.text(), expires.column()],
    )?;
    Ok(())
}

/// Stores a heartbeat.
pub fn set_heartbeat(
    connection: &Connection,
    id: AgentId,
    claims: &Claims,
    heartbeat: &[u8],
    now: UnixNs,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE agents SET last_seen_ns = ?2, heartbeat = ?3, hostname = ?4, agent_version = ?5, kernel_release = ?6
         WHERE id = ?1",
        params![
            id.text(),
            now.column(),
            heartbeat,
            claims.hostname,
            claims.agent_version,
            claims.kernel_release,
        ],
    )?;
    Ok(())
}

/// Stores what became of an offered baseline.
pub fn set_status(
    connection: &Connection,
    id: AgentId,
    status: &[u8],
    now: UnixNs,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE agents SET status = ?2, status_ns = ?3 WHERE id = ?1",
        params![id.text(), status, now.column()],
    )?;
    Ok(())
}

fn agent_row(row: &Row<'_>) -> Result<AgentRow, rusqlite::Error> {
    let time =
        |index: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(UnixNs::from_column));
    let epoch: Option<[u8; 16]> = row.get(10)?;
    let revision = row.get::<_, i64>(11)?.cast_unsigned();
    Ok(AgentRow {
        id: row.get(0)?,
        fleet: row.get(1)?,
        enrolled: UnixNs::from_column(row.get(2)?),
        certificate_expires: UnixNs::from_column(row.get(3)?),
        revoked: time(4)?,
        hostname: row.get(5)?,
        agent_version: row.get(6)?,
        kernel_release: row.get(7)?,
        last_seen: time(8)?,
        heartbeat: row.get(9)?,
        learned: epoch.map(|epoch| (Epoch(epoch), revision)),
        learned_refused: row.get::<_, i64>(12)?.cast_unsigned(),
        status: row.get(13)?,
        status_at: time(14)?,
    })
}

const SELECT: &str = "SELECT id, fleet, enrolled_ns, certificate_expires_ns, revoked_ns, hostname, agent_version,
     kernel_release, last_seen_ns, heartbeat, learned_epoch, learned_revision, learned_refused, status, status_ns
     FROM agents";
