//! Findings as a person counts them: each is the head of all evidence that an agent gives one name. It decides nothing
//! about what belongs together (the agent's names did) and writes no evidence (`findings` does). It may call rusqlite.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};

use crate::clock::UnixNs;
use crate::identity::AgentId;
use crate::intake::{Epoch, FindingRow, Seq};
use crate::store::StoreError;
use crate::store::findings::{self, PAGE_BYTES_MAX, StoredFinding};
use crate::store::prevalence::{self, Prevalence};

/// A finding, with its worst piece of evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHead {
    /// Position in the store: the page cursor. Moves to the end when evidence comes.
    pub cursor: i64,
    /// The incident that its first piece of evidence belongs to.
    pub incident: Option<String>,
    /// What its agent calls it; `None` when it is one piece of evidence by itself.
    pub name: Option<String>,
    /// The spool of its first piece of evidence, and the place in it: they name the finding.
    pub first: (Epoch, Seq),
    /// The first among the most severe pieces of evidence.
    pub worst: StoredFinding,
    /// How much.
    pub tally: Tally,
    /// On how many hosts the worst behaviour was found, when it is novel.
    pub prevalence: Option<Prevalence>,
}

/// What the evidence of a finding adds up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The worst.
    pub severity: i32,
    /// Pieces of evidence that are no repeat. None, if the first were lost on the way here.
    pub behaviours: u64,
    /// How often all of it was done.
    pub count: u64,
    /// The earliest time of a piece of evidence.
    pub first: UnixNs,
    /// The latest.
    pub last: UnixNs,
}

/// Which findings, in which order.
#[derive(Clone, Debug, Default)]
pub struct HeadQuery {
    /// Only this fleet's.
    pub fleet: Option<String>,
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only of this incident; with an agent, since another agent's may be called the same.
    pub incident: Option<String>,
    /// Only what follows this cursor, in the order asked for.
    pub after: Option<i64>,
    /// That with the newest evidence first, instead of last.
    pub newest_first: bool,
    /// How many.
    pub limit: u32,
}

impl Tally {
    /// Of one piece of evidence.
    pub fn of(evidence: &FindingRow) -> Self {
        Self {
            severity: evidence.severity,
            behaviours: u64::from(!evidence.is_repeat),
            count: evidence.count.min(COUNT_MAX),
            first: evidence.time,
            last: evidence.time,
        }
    }

    /// With one piece more.
    #[must_use]
    pub fn and(self, evidence: &FindingRow) -> Self {
        let more = Self::of(evidence);
        Self {
            severity: self.severity.max(more.severity),
            behaviours: self.behaviours + more.behaviours,
            count: self.count.saturating_add(more.count).min(COUNT_MAX),
            first: self.first.min(more.first),
            last: self.last.max(more.last),
        }
    }
}

/// Adds a row that was just stored to the finding that it is evidence of, which it may be the first of.
pub(super) fn grow(
    connection: &Connection,
    agent: &str,
    fleet: &str,
    row: i64,
    evidence: &FindingRow,
) -> Result<(), StoreError> {
    let mut known = connection.prepare_cached(
        "SELECT first_row, severity, behaviours, count, first_ns, last_ns FROM heads
         WHERE agent = ?1 AND name = ?2",
    )?;
    let known = known
        .query_row(params![agent, evidence.name], |row| Ok((row.get::<_, i64>(0)?, tally(row, 1)?)))
        .optional()?;
    let Some((first_row, before)) = known else {
        return begin(connection, agent, fleet, row, evidence);
    };
    let after = before.and(evidence);
    let worst_row = (after.severity > before.severity).then_some(row);
    let mut update = connection.prepare_cached(
        "UPDATE heads SET last_row = ?2, worst_row = coalesce(?3, worst_row), severity = ?4, behaviours = ?5,
                count = ?6, first_ns = ?7, last_ns = ?8 WHERE first_row = ?1",
    )?;
    update.execute(params![
        first_row,
        row,
        worst_row,
        after.severity,
        after.behaviours.cast_signed(),
        after.count.cast_signed(),
        after.first.column(),
        after.last.column(),
    ])?;
    Ok(())
}

fn begin(
    connection: &Connection,
    agent: &str,
    fleet: &str,
    row: i64,
    evidence: &FindingRow,
) -> Result<(), StoreError> {
    let tally = Tally::of(evidence);
    let mut insert = connection.prepare_cached(
        "INSERT INTO heads (first_row, last_row, worst_row, agent, name, fleet, incident, severity, behaviours, count,
                first_ns, last_ns) VALUES (?1, ?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    insert.execute(params![
        row,
        agent,
        evidence.name,
        fleet,
        evidence.incident,
        tally.severity,
        tally.behaviours.cast_signed(),
        tally.count.cast_signed(),
        tally.first.column(),
        tally.last.column(),
    ])?;
    Ok(())
}

/// A page of findings, and whether it was cut short of its limit at [`PAGE_BYTES_MAX`].
pub fn list(connection: &Connection, query: &HeadQuery) -> Result<(Vec<StoredHead>, bool), StoreError> {
    let after = query.after.unwrap_or(if query.newest_first { i64::MAX } else { 0 });
    let mut statement = connection.prepare_cached(&list_sql(query))?;
    let rows = statement.query_map(
        named_params! {
            ":fleet": query.fleet,
            ":agent": query.agent.map(AgentId::text),
            ":incident": query.incident,
            ":after": after,
            ":limit": query.limit,
        },
        stored_head,
    )?;
    let (mut page, is_cut) = findings::page(rows, PAGE_BYTES_MAX, |head| head.worst.body.len())?;
    prevalence::tell(connection, &mut page)?;
    Ok((page, is_cut))
}

/// The finding that this row is evidence of.
pub fn of(connection: &Connection, row: &StoredFinding) -> Result<Option<StoredHead>, StoreError> {
    let find = |condition: &str, values: &[&dyn ToSql]| -> Result<_, StoreError> {
        let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE {condition}"))?;
        let mut found = statement.query_row(values, stored_head).optional()?;
        prevalence::tell(connection, found.as_mut_slice())?;
        Ok(found)
    };
    match &row.name {
        Some(name) => find("heads.agent = ?1 AND heads.name = ?2", &[&row.agent.text(), name]),
        None => find("first_row = ?1", &[&row.cursor]),
    }
}

/// How many findings there are.
pub fn count(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM heads", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Each of these texts names every parameter, and a condition that is not asked for leaves the planner an index for those
/// that are. Nothing that a caller sends becomes part of it.
fn list_sql(query: &HeadQuery) -> String {
    let asked = |is_asked: bool, condition: &'static str, otherwise: &'static str| {
        if is_asked { condition } else { otherwise }
    };
    let fleet = asked(query.fleet.is_some(), "heads.fleet = :fleet", ":fleet IS NULL");
    let agent = asked(query.agent.is_some(), "heads.agent = :agent", ":agent IS NULL");
    let incident = asked(query.incident.is_some(), "incident = :incident", ":incident IS NULL");
    let (after, order) =
        if query.newest_first { ("last_row < :after", "DESC") } else { ("last_row > :after", "ASC") };
    format!(
        "{SELECT} WHERE {after} AND {fleet} AND {agent} AND {incident} ORDER BY last_row {order} LIMIT :limit"
    )
}

fn stored_head(row: &Row<'_>) -> Result<StoredHead, rusqlite::Error> {
    Ok(StoredHead {
        cursor: row.get(0)?,
        name: row.get(1)?,
        first: (Epoch(row.get(2)?), Seq(row.get::<_, i64>(3)?.cast_unsigned())),
        tally: tally(row, 4)?,
        incident: row.get(9)?,
        worst: findings::stored_finding(row, 10)?,
        prevalence: None,
    })
}

/// The five columns from `at`.
fn tally(row: &Row<'_>, at: usize) -> Result<Tally, rusqlite::Error> {
    Ok(Tally {
        severity: row.get(at)?,
        behaviours: row.get::<_, i64>(at + 1)?.cast_unsigned(),
        count: row.get::<_, i64>(at + 2)?.cast_unsigned(),
        first: UnixNs::from_column(row.get(at + 3)?),
        last: UnixNs::from_column(row.get(at + 4)?),
    })
}

const SELECT: &str = "SELECT last_row, heads.name, begun.epoch, begun.seq,
        heads.severity, behaviours, heads.count, first_ns, last_ns, incident,
        worst.id, worst.agent, worst.epoch, worst.seq, worst.fleet, worst.stored_ns, worst.name, worst.count,
        worst.is_repeat, worst.body, worst.novel
    FROM heads JOIN findings AS begun ON begun.id = first_row JOIN findings AS worst ON worst.id = worst_row";
/// What a column can hold.
const COUNT_MAX: u64 = i64::MAX as u64;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::{HeadQuery, list_sql};
    use crate::identity::AgentId;
    use crate::store::schema;

    #[test]
    fn every_list_walks_an_index_in_its_own_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, Path::new("memory")).unwrap();
        let check = |query: HeadQuery, index: &str| {
            for newest_first in [false, true] {
                let sql = list_sql(&HeadQuery { newest_first, ..query.clone() });
                let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let plan: Vec<String> =
                    statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap();
                assert!(plan[0].contains(&format!("INDEX {index} ")), "{plan:?}");
                assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
            }
        };
        let (fleet, agent) = (Some("web".to_owned()), Some(AgentId::random()));
        let everything = HeadQuery { limit: 10, ..HeadQuery::default() };
        check(everything.clone(), "sqlite_autoindex_heads_1");
        check(HeadQuery { fleet, ..everything.clone() }, "heads_by_fleet");
        check(HeadQuery { agent, ..everything.clone() }, "heads_by_agent");
        check(HeadQuery { agent, incident: Some("x".to_owned()), ..everything }, "heads_by_incident");
    }
}
