//! Rows of gaps: declared by agents, or found by the collector. It does not look for holes (`intake` does). It may
//! call rusqlite.

use rusqlite::{Connection, named_params, params};

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::intake::{self, Epoch, GapRow, Hole, Seq};
use crate::store::StoreError;

/// A stored gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGap {
    /// Position in the store: the page cursor.
    pub cursor: i64,
    /// Whose stream.
    pub agent: AgentId,
    /// Its fleet now.
    pub fleet: String,
    /// The spool.
    pub epoch: Epoch,
    /// First sequence that it covers.
    pub first: Seq,
    /// Last sequence that it covers.
    pub seq: Seq,
    /// `agent` or `collector`.
    pub source: String,
    /// First time that it covers; 0 when nobody knows.
    pub from: UnixNs,
    /// Last time that it covers.
    pub to: UnixNs,
    /// What is missing.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: String,
    /// When it was stored.
    pub stored: UnixNs,
}

/// Reason of a hole that nobody declared.
pub const SEQUENCE_HOLE: &str = "sequence_hole";

/// A page of gaps, oldest first.
pub fn list(
    connection: &Connection,
    fleet: Option<&str>,
    agent: Option<AgentId>,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredGap>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT gaps.id, gaps.agent, agents.fleet, epoch, first_seq, seq, source, from_ns, to_ns, kind, count,
                reason, stored_ns
         FROM gaps JOIN agents ON agents.id = gaps.agent
         WHERE gaps.id > :after AND (:fleet IS NULL OR agents.fleet = :fleet)
           AND (:agent IS NULL OR gaps.agent = :agent)
         ORDER BY gaps.id LIMIT :limit",
    )?;
    let rows = statement.query_map(
        named_params! { ":fleet": fleet, ":agent": agent.map(AgentId::text), ":after": after, ":limit": limit },
        |row| {
            Ok(StoredGap {
                cursor: row.get(0)?,
                agent: row.get(1)?,
                fleet: row.get(2)?,
                epoch: Epoch(row.get(3)?),
                first: Seq(row.get::<_, i64>(4)?.cast_unsigned()),
                seq: Seq(row.get::<_, i64>(5)?.cast_unsigned()),
                source: row.get(6)?,
                from: UnixNs::from_column(row.get(7)?),
                to: UnixNs::from_column(row.get(8)?),
                kind: row.get(9)?,
                count: row.get::<_, i64>(10)?.cast_unsigned(),
                reason: row.get(11)?,
                stored: UnixNs::from_column(row.get(12)?),
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How much of each kind a fleet's agents lost since a time. Agents say how much, and no claim makes a sum fail.
pub fn count_by_kind(
    connection: &Connection,
    fleet: &str,
    since: UnixNs,
) -> Result<Vec<(String, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, CAST(total(count) AS INTEGER) FROM gaps JOIN agents ON agents.id = gaps.agent
         WHERE agents.fleet = ?1 AND to_ns >= ?2 AND source = 'agent' GROUP BY kind",
    )?;
    let rows = statement.query_map(params![fleet, since.column()], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Stores a gap that the agent declares.
pub(super) fn insert_declared(
    connection: &Connection,
    agent: &str,
    epoch: Epoch,
    row: &intake::Row,
    gap: &GapRow,
    stored: UnixNs,
) -> Result<usize, StoreError> {
    let mut insert = connection.prepare_cached(INSERT)?;
    Ok(insert.execute(params![
        agent,
        epoch.0,
        row.first.0.cast_signed(),
        row.seq.0.cast_signed(),
        "agent",
        gap.from.column(),
        gap.to.column(),
        gap.kind,
        i64::try_from(gap.count).unwrap_or(i64::MAX),
        gap.reason,
        stored.column(),
    ])?)
}

/// Stores a hole that nobody declared.
pub(super) fn insert_hole(
    connection: &Connection,
    agent: &str,
    epoch: Epoch,
    hole: Hole,
    stored: UnixNs,
) -> Result<usize, StoreError> {
    let mut insert = connection.prepare_cached(INSERT)?;
    Ok(insert.execute(params![
        agent,
        epoch.0,
        hole.first.0.cast_signed(),
        hole.last.0.cast_signed(),
        "collector",
        stored.column(),
        stored.column(),
        "finding",
        i64::try_from(hole.count()).unwrap_or(i64::MAX),
        SEQUENCE_HOLE,
        stored.column(),
    ])?)
}

const INSERT: &str =
    "INSERT INTO gaps (agent, epoch, first_seq, seq, source, from_ns, to_ns, kind, count, reason,
     stored_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
     ON CONFLICT (agent, epoch, seq, source) DO NOTHING";
