//! The schema and its migrations, numbered by SQLite's `user_version`. It is not where rows are read or written. It
//! may call rusqlite.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;

/// Brings the file to the newest schema; refuses a newer one. Writes nothing when there is nothing to do: a collector
/// whose disk is full must still start, and say so.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let applied = usize::try_from(found).unwrap_or(0);
    if applied > MIGRATIONS.len() {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known: VERSION });
    }
    for migration in &MIGRATIONS[applied..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// The newest schema version.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Step n brings version n to n + 1. A released step never changes.
const MIGRATIONS: [&str; 2] = [
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
];
