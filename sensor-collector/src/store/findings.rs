//! Rows of evidence: the commit that an ack promises, and the queries over them. A row never changes. What a person calls a
//! finding is in `heads`. It decides nothing about sequences (`intake` did). It may call rusqlite.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sensor_proto::v1;

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::intake::{Commit, Content, Epoch, Seq};
use crate::store::heads::StoredHead;
use crate::store::{StoreError, gaps, heads, prevalence};

/// A stored piece of evidence.
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
    /// What the agent calls the finding; `None` when it is one by itself.
    pub name: Option<String>,
    /// How often it was done.
    pub count: u64,
    /// The behaviour was told before in the same finding.
    pub is_repeat: bool,
    /// The encoded `v1::Finding`.
    pub body: Vec<u8>,
    /// Of a novel behaviour the hash of its texts.
    pub novel: Option<Vec<u8>>,
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
        "INSERT INTO findings (agent, epoch, seq, fleet, time_ns, stored_ns, severity, reason, body, name, count,
                is_repeat, novel) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (agent, epoch, seq) DO NOTHING",
    )?;
    let mut inserted = 0;
    for row in &commit.rows {
        inserted += match &row.content {
            Content::Finding(finding) => {
                let is_new = insert.execute(params![
                    agent_text,
                    commit.epoch.0,
                    row.seq.0.cast_signed(),
                    fleet,
                    finding.time.column(),
                    stored.column(),
                    finding.severity,
                    finding.reason,
                    finding.body,
                    finding.name,
                    i64::try_from(finding.count).unwrap_or(i64::MAX),
                    finding.is_repeat,
                    finding.novel.map(|novel| novel.0),
                ])?;
                if is_new > 0 {
                    let id = connection.last_insert_rowid();
                    if let Some(novel) = &finding.novel {
                        prevalence::note(connection, fleet, &agent_text, &novel.0)?;
                    }
                    heads::grow(connection, &agent_text, fleet, id, finding)?;
                }
                is_new
            }
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

/// What follows `after` of a finding's evidence, in the order it was stored: at most `limit` rows and about
/// [`PAGE_BYTES_MAX`] bytes. And how many rows are left off behind them.
pub fn evidence(
    connection: &Connection,
    head: &StoredHead,
    after: i64,
    limit: u32,
) -> Result<(Vec<StoredFinding>, u64), StoreError> {
    let Some(name) = &head.name else {
        let row = Some(head.worst.clone()).filter(|row| row.cursor > after);
        return Ok((row.into_iter().collect(), 0));
    };
    let agent = head.worst.agent.text();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM findings WHERE agent = ?1 AND name = ?2 AND id > ?3 ORDER BY id LIMIT ?4"
    ))?;
    let rows = statement.query_map(params![agent, name, after, limit], |row| stored_finding(row, 0))?;
    let (rows, _) = page(rows, PAGE_BYTES_MAX, |row| row.body.len())?;
    let last = rows.last().map_or(after, |row| row.cursor);
    let mut behind = connection
        .prepare_cached("SELECT count(*) FROM findings WHERE agent = ?1 AND name = ?2 AND id > ?3")?;
    let left_off: i64 = behind.query_row(params![agent, name, last], |row| row.get(0))?;
    Ok((rows, left_off.cast_unsigned()))
}

/// As many rows as fit, at least one, and whether that is not all of them.
pub(super) fn page<T>(
    rows: impl Iterator<Item = Result<T, rusqlite::Error>>,
    bytes_max: usize,
    bytes_of: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, bool), StoreError> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        bytes += bytes_of(&row);
        if bytes > bytes_max && !page.is_empty() {
            return Ok((page, true));
        }
        page.push(row);
    }
    Ok((page, false))
}

/// The evidence of this agent and sequence whose epoch begins with `epoch_prefix` (hexadecimal, upper case).
pub fn find(
    connection: &Connection,
    agent: AgentId,
    epoch_prefix: &str,
    seq: Seq,
) -> Result<Option<StoredFinding>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM findings
         WHERE agent = ?1 AND seq = ?2 AND substr(hex(epoch), 1, length(?3)) = ?3"
    ))?;
    let found = statement
        .query_row(params![agent.text(), seq.0.cast_signed(), epoch_prefix], |row| stored_finding(row, 0))
        .optional()?;
    Ok(found)
}

/// The newest evidence of a fleet since a time that is novel behaviour and no repeat of it, at most [`NOVEL_MAX`].
pub fn novel_since(connection: &Connection, fleet: &str, since: UnixNs) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT body FROM findings WHERE fleet = ?1 AND stored_ns >= ?2 AND reason = ?3 AND NOT is_repeat
         ORDER BY id DESC LIMIT ?4",
    )?;
    let novel = v1::Reason::Novel as i32;
    let rows = statement.query_map(params![fleet, since.column(), novel, NOVEL_MAX], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Novel behaviours looked at together at most: more are drift in any case.
const NOVEL_MAX: u32 = 5_000;

/// How many pieces of evidence are stored.
pub fn count(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM findings", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// The columns of [`COLUMNS`], from `at`.
pub(super) fn stored_finding(row: &Row<'_>, at: usize) -> Result<StoredFinding, rusqlite::Error> {
    Ok(StoredFinding {
        cursor: row.get(at)?,
        agent: row.get(at + 1)?,
        epoch: Epoch(row.get(at + 2)?),
        seq: Seq(row.get::<_, i64>(at + 3)?.cast_unsigned()),
        fleet: row.get(at + 4)?,
        stored: UnixNs::from_column(row.get(at + 5)?),
        name: row.get(at + 6)?,
        count: row.get::<_, i64>(at + 7)?.cast_unsigned(),
        is_repeat: row.get(at + 8)?,
        body: row.get(at + 9)?,
        novel: row.get(at + 10)?,
    })
}

/// Bytes of messages in one page, except that one always fits. An agent may send findings of any size that a frame
/// has, and a page is held in memory.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

const COLUMNS: &str = "id, agent, epoch, seq, fleet, stored_ns, name, count, is_repeat, body, novel";
