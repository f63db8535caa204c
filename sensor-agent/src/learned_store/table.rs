//! The learned behaviours' table in SQLite: rows with revisions. Not the learner and not a thread. It may call SQLite
//! and the wall clock.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension as _, params};
use sensor_baseline::{Action, Behaviour, Object, Remembered, Seen, Subject, UnixNs, Workload};

use super::LearnedRow;
use crate::spool::{Epoch, bound_log, random_epoch};
use crate::state_dir::close_file;
use crate::uplink::control::{Chunk, LearnedMark, Revision};

/// The file, and what is known to be in it.
pub(super) struct Table {
    db: Connection,
    pub(super) mark: LearnedMark,
    /// When each row last took a revision.
    pub(super) written: HashMap<Arc<Behaviour>, Written>,
    /// Whether no row has taken a revision since the file was opened.
    is_fresh: bool,
}

/// A row's last revision.
#[derive(Clone, Copy)]
pub(super) struct Written {
    /// Nanoseconds since the Unix epoch.
    at_ns: u64,
    is_withheld: bool,
}

impl Table {
    /// Writes what changed and removes what is gone, in one transaction. Whoever has copies of what is gone must
    /// forget them, so that starts a new epoch.
    pub(super) fn write(
        &mut self,
        changed: &BTreeMap<Arc<Behaviour>, Remembered>,
        gone: &[Arc<Behaviour>],
    ) -> rusqlite::Result<()> {
        let (mut mark, mut is_fresh) = (self.mark, self.is_fresh);
        let now_ns = unix_ns();
        let tx = self.db.transaction()?;
        let mut written = Vec::with_capacity(changed.len());
        for (behaviour, Remembered { seen, withheld_by }) in changed {
            let [workload, subject, action, object] = key(behaviour);
            let (count, first, last) = (sql(seen.count), sql(seen.first.0), sql(seen.last.0));
            let is_withheld = withheld_by.is_some();
            let known = self.written.get(behaviour).copied().filter(|known| {
                // The wall clock may have been set back since.
                known.is_withheld == is_withheld && now_ns.abs_diff(known.at_ns) < REVISE_INTERVAL_NS
            });
            let is_revised = known.is_none();
            if is_revised {
                mark.revision.0 += 1;
                if std::mem::take(&mut is_fresh) {
                    // A power cut, or a disk put back to an earlier state, takes revisions back that the collector has
                    // seen already; it would think that it has what takes them now. A time is beyond all of them.
                    mark.revision.0 = mark.revision.0.max(now_ns);
                }
                tx.prepare_cached(UPSERT)?.execute(params![
                    workload,
                    subject,
                    action,
                    object,
                    count,
                    first,
                    last,
                    sql(mark.revision.0),
                    withheld_by.as_deref()
                ])?;
            } else {
                tx.prepare_cached(RECOUNT)?
                    .execute(params![workload, subject, action, object, count, last])?;
            }
            written.push((Arc::clone(behaviour), known.unwrap_or(Written { at_ns: now_ns, is_withheld })));
        }
        for behaviour in gone {
            tx.prepare_cached(DELETE)?.execute(key(behaviour))?;
        }
        if !gone.is_empty() {
            mark.epoch = random_epoch();
        }
        tx.execute(
            "UPDATE state SET epoch = ?1, revision = ?2",
            params![mark.epoch.0, sql(mark.revision.0)],
        )?;
        tx.commit()?;
        self.mark = mark;
        self.is_fresh = is_fresh;
        self.written.extend(written);
        for behaviour in gone {
            self.written.remove(behaviour);
        }
        Ok(())
    }

    pub(super) fn read(&self, since: Revision, behaviours_max: usize) -> rusqlite::Result<Chunk> {
        let mut statement = self.db.prepare_cached(
            "SELECT workload, subject, action, object, count, first_ns, last_ns, withheld_by, revision FROM behaviours
             WHERE revision > ?1 ORDER BY revision LIMIT ?2",
        )?;
        let rows_max = i64::try_from(behaviours_max).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![sql(since.0), rows_max])?;
        let mut chunk = Chunk { mark: LearnedMark { revision: since, ..self.mark }, rows: Vec::new() };
        while let Some(row) = rows.next()? {
            chunk.mark.revision = Revision(unsql(row.get(8)?));
            chunk.rows.extend(learned_row(row)?);
        }
        Ok(chunk)
    }
}

/// What is in a file.
type Rows = Vec<(Arc<Behaviour>, Remembered)>;

pub(super) fn open_table(path: &Path) -> rusqlite::Result<(Table, Rows)> {
    // When it cannot be made, SQLite says why.
    let _cannot_be_made = close_file(path);
    let mut db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    bound_log(&db)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < 2 {
        let tx = db.transaction()?;
        if version == 0 {
            tx.execute_batch(SCHEMA)?;
            tx.execute("INSERT INTO state (epoch, revision) VALUES (?1, 0)", [random_epoch().0])?;
        }
        tx.execute_batch(SCHEMA_2)?;
        tx.commit()?;
    }
    let (epoch, revision) = db
        .query_row("SELECT epoch, revision FROM state", [], |row| Ok((Epoch(row.get(0)?), row.get(1)?)))
        .optional()?
        .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let mut behaviours = Vec::new();
    let mut written = HashMap::new();
    {
        let mut statement = db.prepare(
            "SELECT workload, subject, action, object, count, first_ns, last_ns, withheld_by FROM behaviours",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(row) = learned_row(row)? else { continue };
            let seen = Seen { count: row.count, first: UnixNs(row.first_ns), last: UnixNs(row.last_ns) };
            let behaviour = Arc::new(row.behaviour);
            let revised = Written { at_ns: row.last_ns, is_withheld: row.withheld_by.is_some() };
            written.insert(Arc::clone(&behaviour), revised);
            behaviours.push((behaviour, Remembered { seen, withheld_by: row.withheld_by }));
        }
    }
    let mark = LearnedMark { epoch, revision: Revision(unsql(revision)) };
    Ok((Table { db, mark, written, is_fresh: true }, behaviours))
}

/// A row as a value; `None` for one whose action or object this build does not know.
fn learned_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<LearnedRow>> {
    let (action, object): (String, String) = (row.get(2)?, row.get(3)?);
    let parsed = Action::parse(&action)
        .and_then(|action| Object::parse(action, &object).ok().map(|object| (action, object)));
    let Some((action, object)) = parsed else { return Ok(None) };
    let behaviour =
        Behaviour { workload: Workload(row.get(0)?), subject: Subject(row.get(1)?), action, object };
    Ok(Some(LearnedRow {
        behaviour,
        count: unsql(row.get(4)?),
        first_ns: unsql(row.get(5)?),
        last_ns: unsql(row.get(6)?),
        withheld_by: row.get::<_, Option<String>>(7)?.map(Into::into),
    }))
}

fn key(behaviour: &Behaviour) -> [String; 4] {
    [
        behaviour.workload.0.clone(),
        behaviour.subject.0.clone(),
        behaviour.action.name().to_owned(),
        behaviour.object.to_string(),
    ]
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    match error {
        // A missing table or column, or a value of the wrong type: not our file, or not whole.
        rusqlite::Error::SqliteFailure(cause, _) => {
            matches!(cause.code, DatabaseCorrupt | NotADatabase | Unknown)
        }
        _ => true,
    }
}

pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

const REVISE_INTERVAL_NS: u64 = 60_000_000_000;

const UPSERT: &str = "INSERT INTO behaviours
    (workload, subject, action, object, count, first_ns, last_ns, revision, withheld_by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
    ON CONFLICT DO UPDATE SET count = ?5, last_ns = ?7, revision = ?8, withheld_by = ?9";
const RECOUNT: &str = "UPDATE behaviours SET count = ?5, last_ns = ?6
    WHERE workload = ?1 AND subject = ?2 AND action = ?3 AND object = ?4";
const DELETE: &str =
    "DELETE FROM behaviours WHERE workload = ?1 AND subject = ?2 AND action = ?3 AND object = ?4";

const SCHEMA: &str = "
CREATE TABLE state (epoch BLOB NOT NULL, revision INTEGER NOT NULL) STRICT;
CREATE TABLE behaviours (
    workload TEXT NOT NULL,
    subject  TEXT NOT NULL,
    action   TEXT NOT NULL,
    object   TEXT NOT NULL,
    count    INTEGER NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns  INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (workload, subject, action, object)
) STRICT;
CREATE INDEX behaviours_by_revision ON behaviours (revision);
";

/// What version 2 added: the rule that keeps a behaviour out of candidates.
const SCHEMA_2: &str = "
PRAGMA user_version = 2;
ALTER TABLE behaviours ADD COLUMN withheld_by TEXT;
";
