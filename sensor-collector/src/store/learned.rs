//! Rows of learned behaviours, per agent. It does not merge them. It may call rusqlite.

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::intake::Epoch;
use crate::store::StoreError;

/// One learned behaviour: the text of its parts, already checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedRow {
    /// For example `unit:nginx.service`.
    pub workload: String,
    /// For example `/usr/sbin/nginx`.
    pub subject: String,
    /// `v1::Action`.
    pub action: i32,
    /// As in `v1::Behaviour`.
    pub object: String,
    /// Total within the epoch.
    pub count: u64,
    /// First seen.
    pub first: UnixNs,
    /// Last seen.
    pub last: UnixNs,
    /// The rule that fired on it, so that it never enters a candidate.
    pub withheld_by: Option<String>,
}

/// Stores changed rows and the revision they lead to. Counts are totals, so the same frame twice changes nothing. An
/// epoch that differs from the stored one means that the agent has started afresh: its earlier rows go.
/// Returns how many rows were refused because the agent is at the bound.
pub fn apply(
    connection: &Connection,
    agent: AgentId,
    epoch: Epoch,
    revision: u64,
    rows: &[LearnedRow],
    unreadable: u64,
) -> Result<u64, StoreError> {
    let agent = agent.text();
    let stored: Option<[u8; 16]> =
        connection.query_row("SELECT learned_epoch FROM agents WHERE id = ?1", [&agent], |row| row.get(0))?;
    let is_new_epoch = stored != Some(epoch.0);
    if is_new_epoch {
        connection.execute("DELETE FROM learned WHERE agent = ?1", [&agent])?;
    }
    let (mut count, mut bytes) = connection.query_row(
        "SELECT count(*), coalesce(sum(octet_length(workload) + octet_length(subject) + octet_length(object)), 0)
         FROM learned WHERE agent = ?1",
        [&agent],
        |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned())),
    )?;
    let mut refused = 0;
    let mut known = connection.prepare_cached(
        "SELECT 1 FROM learned WHERE agent = ?1 AND workload = ?2 AND subject = ?3 AND action = ?4 AND object = ?5",
    )?;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO learned (agent, workload, subject, action, object, count, first_ns, last_ns, withheld_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (agent, workload, subject, action, object) DO UPDATE SET
             count = excluded.count, first_ns = excluded.first_ns, last_ns = excluded.last_ns,
             withheld_by = excluded.withheld_by",
    )?;
    for row in rows {
        let key = params![agent, row.workload, row.subject, row.action, row.object];
        if known.query_row(key, |_| Ok(())).optional()?.is_none() {
            let row_bytes = (row.workload.len() + row.subject.len() + row.object.len()) as u64;
            if count >= LEARNED_PER_AGENT_MAX || bytes + row_bytes > LEARNED_BYTES_PER_AGENT_MAX {
                refused += 1;
                continue;
            }
            count += 1;
            bytes += row_bytes;
        }
        upsert.execute(params![
            agent,
            row.workload,
            row.subject,
            row.action,
            row.object,
            i64::try_from(row.count).unwrap_or(i64::MAX),
            row.first.column(),
            row.last.column(),
            row.withheld_by,
        ])?;
    }
    connection.execute(
        "UPDATE agents SET learned_epoch = ?2, learned_refused = ?4,
             learned_revision = CASE WHEN learned_epoch = ?2 THEN max(learned_revision, ?3) ELSE ?3 END
         WHERE id = ?1",
        params![
            agent,
            epoch.0,
            i64::try_from(revision).unwrap_or(i64::MAX),
            if is_new_epoch { 0 } else { previously_refused(connection, &agent)? }
                .saturating_add(i64::try_from(refused + unreadable).unwrap_or(i64::MAX)),
        ],
    )?;
    Ok(refused)
}

/// The learned behaviours of every agent of a fleet that is not revoked.
pub fn of_fleet(connection: &Connection, fleet: &str) -> Result<Vec<(AgentId, Vec<LearnedRow>)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT agents.id, workload, subject, action, object, count, first_ns, last_ns, withheld_by
         FROM agents JOIN learned ON learned.agent = agents.id
         WHERE agents.fleet = ?1 AND agents.revoked_ns IS NULL ORDER BY agents.id",
    )?;
    let rows = statement.query_map([fleet], |row| {
        let learned = LearnedRow {
            workload: row.get(1)?,
            subject: row.get(2)?,
            action: row.get(3)?,
            object: row.get(4)?,
            count: row.get::<_, i64>(5)?.cast_unsigned(),
            first: UnixNs::from_column(row.get(6)?),
            last: UnixNs::from_column(row.get(7)?),
            withheld_by: row.get(8)?,
        };
        Ok((row.get::<_, AgentId>(0)?, learned))
    })?;
    let mut agents: Vec<(AgentId, Vec<LearnedRow>)> = Vec::new();
    for row in rows {
        let (agent, learned) = row?;
        match agents.last_mut() {
            Some((last, rows)) if *last == agent => rows.push(learned),
            _ => agents.push((agent, vec![learned])),
        }
    }
    Ok(agents)
}

/// How many behaviours each agent has learned.
pub fn count(connection: &Connection, agent: AgentId) -> Result<u64, StoreError> {
    let count: i64 =
        connection
            .query_row("SELECT count(*) FROM learned WHERE agent = ?1", [agent.text()], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn previously_refused(connection: &Connection, agent: &str) -> Result<i64, StoreError> {
    Ok(connection.query_row("SELECT learned_refused FROM agents WHERE id = ?1", [agent], |row| row.get(0))?)
}

/// Behaviours kept per agent. Beyond it they are refused and counted in `learned_refused`.
pub const LEARNED_PER_AGENT_MAX: u64 = 50_000;
/// Bytes of text in them: a candidate holds those of the whole fleet in memory. 50,000 ordinary ones are 10 MiB.
pub const LEARNED_BYTES_PER_AGENT_MAX: u64 = 32 << 20;
