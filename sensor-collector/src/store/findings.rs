//! Rows of findings: the commit that an ack promises, and the queries over them. It decides nothing about sequences
//! (`intake` did). It may call rusqlite.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use sensor_proto::v1;

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::intake::{Commit, Content, Epoch, Seq};
use crate::store::{StoreError, gaps};

/// A stored finding.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFinding {
    /// Position in the store: the page cursor.
    pub cursor: i64,
    /// Whose it is.
    pub agent: AgentId,
    /// The spool it came from.
    pub epoch: Epoch,
    /// Its place in it.
    pub seq: Seq,
    /// The agent's fleet when it was stored.
    pub fleet: String,
    /// When it was stored.
    pub stored: UnixNs,
    /// The encoded `v1::Finding`.
    pub body: Vec<u8>,
}

/// Which findings, in which order.
#[derive(Clone, Debug, Default)]
pub struct FindingQuery {
    /// Only this fleet's.
    pub fleet: Option<String>,
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only what follows this cursor, in the order asked for.
    pub after: Option<i64>,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
    /// How many.
    pub limit: u32,
}

/// The high-water mark of a stream.
pub fn high_water(connection: &Connection, agent: AgentId, epoch: Epoch) -> Result<Option<Seq>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT upto FROM streams WHERE agent = ?1 AND epoch = ?2")?;
    let upto = statement.query_row(params![agent.text(), epoch.0], |row| row.get::<_, i64>(0)).optional()?;
    Ok(upto.map(|upto| Seq(upto.cast_unsigned())))
}

/// Writes a batch and its high-water mark. What is stored already is left as it is, so that two streams of one agent
/// that overlap during a reconnection cannot store anything twice. Returns how many rows were new.
pub fn commit(
    connection: &Connection,
    agent: AgentId,
    fleet: &str,
    commit: &Commit,
    stored: UnixNs,
) -> Result<u64, StoreError> {
    check_order(high_water(connection, agent, commit.epoch)?, commit)?;
    let agent_text = agent.text();
    let mut insert = connection.prepare_cached(
        "INSERT INTO findings (agent, epoch, seq, fleet, time_ns, stored_ns, severity, reason, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (agent, epoch, seq) DO NOTHING",
    )?;
    let mut inserted = 0;
    for row in &commit.rows {
        inserted += match &row.content {
            Content::Finding(finding) => insert.execute(params![
                agent_text,
                commit.epoch.0,
                row.seq.0.cast_signed(),
                fleet,
                finding.time.column(),
                stored.column(),
                finding.severity,
                finding.reason,
                finding.body,
            ])?,
            Content::Gap(gap) => {
                gaps::insert_declared(connection, &agent_text, commit.epoch, row, gap, stored)?
            }
        } as u64;
    }
    if let Some(hole) = commit.hole {
        gaps::insert_hole(connection, &agent_text, commit.epoch, hole, stored)?;
    }
    let mut mark = connection.prepare_cached(
        "INSERT INTO streams (agent, epoch, upto) VALUES (?1, ?2, ?3)
         ON CONFLICT (agent, epoch) DO UPDATE SET upto = max(upto, excluded.upto)",
    )?;
    mark.execute(params![agent_text, commit.epoch.0, commit.upto.0.cast_signed()])?;
    Ok(inserted)
}

/// The mark may only move over what is stored: a batch whose predecessor failed must fail as well.
fn check_order(stored: Option<Seq>, commit: &Commit) -> Result<(), StoreError> {
    match (stored, commit.after) {
        (_, None) => Ok(()),
        (Some(stored), Some(after)) if stored >= after => Ok(()),
        (stored, Some(after)) => {
            Err(StoreError::OutOfOrder { stored: stored.unwrap_or_default().0, needed: after.0 })
        }
    }
}

/// A page of findings, and whether it was cut short of its limit at [`PAGE_BYTES_MAX`].
pub fn list(connection: &Connection, query: &FindingQuery) -> Result<(Vec<StoredFinding>, bool), StoreError> {
    let sql = if query.newest_first { LIST_NEWEST } else { LIST_OLDEST };
    let after = query.after.unwrap_or(if query.newest_first { i64::MAX } else { 0 });
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(
        named_params! {
            ":fleet": query.fleet,
            ":agent": query.agent.map(AgentId::text),
            ":after": after,
            ":limit": query.limit,
        },
        stored_finding,
    )?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        bytes += row.body.len();
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            return Ok((page, true));
        }
        page.push(row);
    }
    Ok((page, false))
}

/// The finding of this agent and sequence whose epoch begins with `epoch_prefix` (hexadecimal, upper case).
pub fn find(
    connection: &Connection,
    agent: AgentId,
    epoch_prefix: &str,
    seq: Seq,
) -> Result<Option<StoredFinding>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, agent, epoch, seq, fleet, stored_ns, body FROM findings
         WHERE agent = ?1 AND seq = ?2 AND substr(hex(epoch), 1, length(?3)) = ?3",
    )?;
    let found = statement
        .query_row(params![agent.text(), seq.0.cast_signed(), epoch_prefix], stored_finding)
        .optional()?;
    Ok(found)
}

/// The newest findings of a fleet since a time that are novel behaviour, at most [`NOVEL_MAX`].
pub fn novel_since(connection: &Connection, fleet: &str, since: UnixNs) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT body FROM findings WHERE fleet = ?1 AND stored_ns >= ?2 AND reason = ?3
         ORDER BY id DESC LIMIT ?4",
    )?;
    let novel = v1::Reason::Novel as i32;
    let rows = statement.query_map(params![fleet, since.column(), novel, NOVEL_MAX], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Novel findings looked at together at most: more are drift in any case.
const NOVEL_MAX: u32 = 5_000;

/// How many findings are stored.
pub fn count(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM findings", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn stored_finding(row: &Row<'_>) -> Result<StoredFinding, rusqlite::Error> {
    Ok(StoredFinding {
        cursor: row.get(0)?,
        agent: row.get(1)?,
        epoch: Epoch(row.get(2)?),
        seq: Seq(row.get::<_, i64>(3)?.cast_unsigned()),
        fleet: row.get(4)?,
        stored: UnixNs::from_column(row.get(5)?),
        body: row.get(6)?,
    })
}

/// Bytes of findings in one page, except that one always fits. An agent may send findings of any size that a frame
/// has, and a page is held in memory.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

// Two texts rather than one built at run time: nothing that a caller sends becomes part of a query.
const LIST_OLDEST: &str = "SELECT id, agent, epoch, seq, fleet, stored_ns, body FROM findings
     WHERE id > :after AND (:fleet IS NULL OR fleet = :fleet) AND (:agent IS NULL OR agent = :agent)
     ORDER BY id LIMIT :limit";
const LIST_NEWEST: &str = "SELECT id, agent, epoch, seq, fleet, stored_ns, body FROM findings
     WHERE id < :after AND (:fleet IS NULL OR fleet = :fleet) AND (:agent IS NULL OR agent = :agent)
     ORDER BY id DESC LIMIT :limit";
