//! The schema and its migrations, numbered by SQLite's `user_version`. It is not where rows are read or written. It
//! may call rusqlite and, to read stored messages, the protocol's types.

use std::path::Path;

use prost::Message as _;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use sensor_proto::v1;

use crate::intake::{self, NAME_BYTES_MAX};
use crate::store::{StoreError, prevalence};

/// Brings the file to the newest schema; refuses a newer one. Writes nothing when there is nothing to do: a collector
/// whose disk is full must still start, and say so.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    migrate_to(connection, path, VERSION)
}

/// Brings the file to this version of the schema.
pub(super) fn migrate_to(connection: &mut Connection, path: &Path, version: i64) -> Result<(), StoreError> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? == version {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > version {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known: version });
    }
    let (applied, wanted) = (usize::try_from(found).unwrap_or(0), usize::try_from(version).unwrap_or(0));
    for (index, migration) in MIGRATIONS.iter().enumerate().take(wanted).skip(applied) {
        transaction.execute_batch(migration)?;
        match index {
            INCIDENTS_STEP => tell_incidents(&transaction)?,
            NOVEL_STEP => tell_novel(&transaction)?,
            _ => {}
        }
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    Ok(())
}

/// The part of a step that SQL cannot do: the incidents of findings that were stored before heads were, from their messages.
/// One that cannot be read has none.
fn tell_incidents(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let mut update = transaction.prepare("UPDATE heads SET incident = ?1 WHERE first_row = ?2")?;
    let mut bodies = transaction.prepare("SELECT id, body FROM findings ORDER BY id")?;
    let mut rows = bodies.query([])?;
    while let Some(row) = rows.next()? {
        let incident = v1::Finding::decode(row.get_ref(1)?.as_blob().unwrap_or_default())
            .map_or_else(|_| String::new(), |finding| finding.incident);
        if (1..=NAME_BYTES_MAX).contains(&incident.len()) {
            update.execute(params![incident, row.get::<_, i64>(0)?])?;
        }
    }
    Ok(())
}

/// The same for what is novel: what a fleet has done all along is not rare in it.
fn tell_novel(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let mut update = transaction.prepare("UPDATE findings SET novel = ?1 WHERE id = ?2")?;
    let mut bodies = transaction.prepare("SELECT id, fleet, agent, body FROM findings ORDER BY id")?;
    let mut rows = bodies.query([])?;
    while let Some(row) = rows.next()? {
        let finding = v1::Finding::decode(row.get_ref(3)?.as_blob().unwrap_or_default());
        if let Some(novel) = finding.ok().as_ref().and_then(intake::novel) {
            let (fleet, agent): (String, String) = (row.get(1)?, row.get(2)?);
            update.execute(params![novel.0, row.get::<_, i64>(0)?])?;
            prevalence::note(transaction, &fleet, &agent, &novel.0)?;
        }
    }
    Ok(())
}

/// The newest schema version.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Step n brings version n to n + 1. A released step never changes.
const MIGRATIONS: [&str; 4] = [
    "
CREATE TABLE fleets (
    name       TEXT PRIMARY KEY,
    created_ns INTEGER NOT NULL
) STRICT;

-- Tokens are random, so a plain hash hides them; the text itself is shown once and stored nowhere.
CREATE TABLE api_tokens (
    hash       BLOB PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE enrollment_tokens (
    hash       BLOB PRIMARY KEY,
    fleet      TEXT NOT NULL REFERENCES fleets (name),
    created_by TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    used_ns    INTEGER,
    used_by    TEXT
) STRICT;

CREATE TABLE agents (
    id               TEXT PRIMARY KEY,
    fleet            TEXT NOT NULL REFERENCES fleets (name),
    enrolled_ns      INTEGER NOT NULL,
    certificate_expires_ns INTEGER NOT NULL,
    revoked_ns       INTEGER,
    -- Claimed by the agent.
    hostname         TEXT NOT NULL,
    agent_version    TEXT NOT NULL,
    kernel_release   TEXT NOT NULL,
    last_seen_ns     INTEGER,
    -- The last sensor.v1.Heartbeat.
    heartbeat        BLOB,
    learned_epoch    BLOB,
    learned_revision INTEGER NOT NULL DEFAULT 0,
    learned_refused  INTEGER NOT NULL DEFAULT 0,
    -- The last sensor.v1.BaselineStatus.
    status           BLOB,
    status_ns        INTEGER
) STRICT;

-- The high-water mark of each stream, written in the transaction that stores the items.
CREATE TABLE streams (
    agent TEXT NOT NULL REFERENCES agents (id),
    epoch BLOB NOT NULL,
    upto  INTEGER NOT NULL,
    PRIMARY KEY (agent, epoch)
) STRICT, WITHOUT ROWID;

-- body is the sensor.v1.Finding: the source of truth. The other columns only find it.
CREATE TABLE findings (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    agent     TEXT NOT NULL REFERENCES agents (id),
    epoch     BLOB NOT NULL,
    seq       INTEGER NOT NULL,
    fleet     TEXT NOT NULL,
    time_ns   INTEGER NOT NULL,
    stored_ns INTEGER NOT NULL,
    severity  INTEGER NOT NULL,
    reason    INTEGER NOT NULL,
    body      BLOB NOT NULL,
    UNIQUE (agent, epoch, seq)
) STRICT;
CREATE INDEX findings_by_fleet ON findings (fleet, id);
CREATE INDEX findings_by_agent ON findings (agent, id);

CREATE TABLE gaps (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    agent     TEXT NOT NULL REFERENCES agents (id),
    epoch     BLOB NOT NULL,
    -- The sequences that it covers.
    first_seq INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    -- 'agent' when declared, 'collector' when the sequence has a hole that nobody declared.
    source    TEXT NOT NULL,
    from_ns   INTEGER NOT NULL,
    to_ns     INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    count     INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    stored_ns INTEGER NOT NULL,
    UNIQUE (agent, epoch, seq, source)
) STRICT;

CREATE TABLE learned (
    agent    TEXT NOT NULL REFERENCES agents (id),
    workload TEXT NOT NULL,
    subject  TEXT NOT NULL,
    action   INTEGER NOT NULL,
    object   TEXT NOT NULL,
    count    INTEGER NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns  INTEGER NOT NULL,
    PRIMARY KEY (agent, workload, subject, action, object)
) STRICT, WITHOUT ROWID;

CREATE TABLE baselines (
    fleet      TEXT NOT NULL REFERENCES fleets (name),
    version    INTEGER NOT NULL,
    sha256     BLOB NOT NULL,
    yaml       TEXT NOT NULL,
    author     TEXT NOT NULL,
    note       TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    PRIMARY KEY (fleet, version)
) STRICT, WITHOUT ROWID;
",
    // The rule that keeps a behaviour out of candidates.
    "ALTER TABLE learned ADD COLUMN withheld_by TEXT;",
    // Step INCIDENTS_STEP.
    "
-- A row is a piece of evidence. What the agent calls the finding that it is evidence of; NULL: it is a finding by itself.
ALTER TABLE findings ADD COLUMN name TEXT;
ALTER TABLE findings ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE findings ADD COLUMN is_repeat INTEGER NOT NULL DEFAULT 0;
CREATE INDEX findings_by_name ON findings (agent, name, id) WHERE name IS NOT NULL;

-- What a person calls a finding: all rows of an agent with one name, kept in the transaction that stores them. last_row
-- is the page cursor: a finding that grows moves to the end.
CREATE TABLE heads (
    first_row  INTEGER PRIMARY KEY REFERENCES findings (id),
    last_row   INTEGER NOT NULL UNIQUE REFERENCES findings (id),
    -- The first among the most severe.
    worst_row  INTEGER NOT NULL REFERENCES findings (id),
    agent      TEXT NOT NULL REFERENCES agents (id),
    name       TEXT,
    fleet      TEXT NOT NULL,
    incident   TEXT,
    severity   INTEGER NOT NULL,
    -- Rows that are no repeat, and how often all of it was done.
    behaviours INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    first_ns   INTEGER NOT NULL,
    last_ns    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX heads_by_name ON heads (agent, name) WHERE name IS NOT NULL;
CREATE INDEX heads_by_fleet ON heads (fleet, last_row);
CREATE INDEX heads_by_agent ON heads (agent, last_row);
CREATE INDEX heads_by_incident ON heads (agent, incident, last_row) WHERE incident IS NOT NULL;
INSERT INTO heads (first_row, last_row, worst_row, agent, fleet, severity, behaviours, count, first_ns, last_ns)
    SELECT id, id, id, agent, fleet, severity, 1, 1, time_ns, time_ns FROM findings ORDER BY id;
",
    "
-- On which hosts a novel behaviour was found, by the hash of its texts: what one host of many does is worse.
ALTER TABLE findings ADD COLUMN novel BLOB;
CREATE TABLE novel_hosts (
    fleet TEXT NOT NULL,
    novel BLOB NOT NULL,
    agent TEXT NOT NULL REFERENCES agents (id),
    PRIMARY KEY (fleet, novel, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX agents_by_fleet ON agents (fleet) WHERE revoked_ns IS NULL;
",
];

/// The step that makes heads.
const INCIDENTS_STEP: usize = 2;
/// The step that counts hosts.
const NOVEL_STEP: usize = 3;
