//! The spool's table in SQLite: numbering, reading, deletion after an ack, eviction when full. Not a thread and not
//! a queue: every call is one transaction. It may call SQLite through rusqlite, [`super::evict`], and files
//! through [`super::file`].
//!
//! ```text
//! state: one row   epoch, last_seq                     numbering outlives deletion
//! items: a row     seq..=seq_last  rank  times  finding | kind, count, reason
//! ```
//!
//! A row covers one sequence number, except for evicted ones: see [`super::evict`].

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, params};

use super::evict::evict_one;
use super::item::{Content, Epoch, Gap, NewItem, Rank, Seq, StoredItem};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not a whole, well-formed spool: it must be set aside.
    #[error("{}: damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The disk is full or failing, or the file cannot be reached. The same call may work later.
    #[error("{}: {detail}", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// What the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The numbering.
    pub epoch: Epoch,
    /// Oldest number held; `last.next()` when nothing is.
    pub first: Seq,
    /// Newest number ever given.
    pub last: Seq,
    /// Newest number of an urgent item that this process appended.
    pub urgent: Seq,
    /// Bytes counted against the limit.
    pub bytes: u64,
    /// Items evicted by this process.
    pub evicted_count: u64,
}

impl Holding {
    /// Numbers held.
    #[must_use]
    pub const fn items(&self) -> u64 {
        self.last.next().0 - self.first.0
    }
}

/// Limits of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// At most so many items.
    pub items_max: usize,
    /// At most so many bytes, except that one item is always read.
    pub bytes_max: u64,
}

/// An open spool file.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    bytes_max: u64,
    holding: Holding,
}

impl Store {
    /// Writes an empty spool at `path`, whole or not at all: a half-made one never has this name.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(path: &Path, epoch: Epoch) -> Result<(), StoreError> {
        let fresh = super::file::beside(path, "new");
        super::file::remove_with_journals(&fresh).map_err(|error| unavailable(path, &error))?;
        crate::state_dir::close_file(&fresh).map_err(|error| unavailable(path, &error))?;
        let db = Connection::open(&fresh).map_err(|error| fault(path, &error))?;
        let made = db
            .pragma_update(None, "synchronous", "FULL")
            .and_then(|()| db.execute_batch(SCHEMA))
            .and_then(|()| db.execute("INSERT INTO state (epoch, last_seq) VALUES (?1, 0)", [epoch.0]));
        // On a disk that has no room for it, the spool is made without.
        let _has_reserve = db.execute_batch(RESERVE);
        drop(db);
        made.map_err(|error| fault(path, &error))?;
        super::file::rename_durably(&fresh, path).map_err(|error| unavailable(path, &error))
    }

    /// Opens the spool at `path` and checks that it is whole.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not a whole spool, [`StoreError::Unavailable`] when that cannot be told.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, StoreError> {
        let length = std::fs::metadata(path).map_err(|error| unavailable(path, &error))?.len();
        if length == 0 {
            return Err(damaged(path, "the file is empty"));
        }
        crate::state_dir::close_file(path).map_err(|error| unavailable(path, &error))?;
        let db = Connection::open(path).map_err(|error| fault(path, &error))?;
        let holding = check_whole(&db, path)?;
        Ok(Self { db, path: path.to_owned(), bytes_max, holding })
    }

    /// What is held now.
    #[must_use]
    pub const fn holding(&self) -> Holding {
        self.holding
    }

    /// Accepts `items` in this order and deletes what `acked` covers: one transaction, durable when it returns.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn commit<'a>(
        &mut self,
        items: impl IntoIterator<Item = &'a NewItem>,
        acked: Option<Seq>,
    ) -> Result<Holding, StoreError> {
        let items: Vec<&NewItem> = items.into_iter().collect();
        let mut result = self.commit_inner(&items, acked);
        if let Err(error) = &result
            && error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            && self.reuse_log().is_ok()
        {
            result = self.commit_inner(&items, acked);
        }
        let after = result.map_err(|error| fault(&self.path, &error))?;
        self.holding = after;
        Ok(after)
    }

    /// Lets the write-ahead log start over in the room it has, which a full disk cannot take away.
    fn reuse_log(&self) -> rusqlite::Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
    }

    fn commit_inner(&mut self, items: &[&NewItem], acked: Option<Seq>) -> rusqlite::Result<Holding> {
        let mut after = self.holding;
        let tx = self.db.transaction()?;
        if let Some(upto) = acked {
            delete_acked(&tx, upto.min(after.last), &mut after)?;
        }
        for item in items {
            insert(&tx, item, &mut after)?;
        }
        while after.bytes > self.bytes_max {
            if !evict_one(&tx, &mut after)? {
                break;
            }
        }
        tx.execute("UPDATE state SET last_seq = ?1", [sql(after.last.0)])?;
        tx.commit()?;
        Ok(after)
    }

    /// Items from `from` on, in order, without holes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, from: Seq, limits: ReadLimits) -> Result<Vec<StoredItem>, StoreError> {
        self.read_inner(from, limits).map_err(|error| fault(&self.path, &error))
    }

    fn read_inner(&self, from: Seq, limits: ReadLimits) -> rusqlite::Result<Vec<StoredItem>> {
        let mut statement = self.db.prepare_cached(
            "SELECT seq, seq_last, from_ns, to_ns, finding, kind, count, reason FROM items
             WHERE seq_last >= ?1 ORDER BY seq LIMIT ?2",
        )?;
        let rows_max = i64::try_from(limits.items_max).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![sql(from.0), rows_max])?;
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let last = unsql(row.get(1)?);
            let first = unsql(row.get(0)?).max(from.0);
            // Only an evicted row covers more than one number, and it counts one for each.
            let evicted_count = last + 1 - first;
            let content = match row.get::<_, Option<Vec<u8>>>(4)? {
                Some(finding) => Content::Finding(finding),
                None => Content::Gap(Gap {
                    from_ns: unsql(row.get(2)?),
                    to_ns: unsql(row.get(3)?),
                    kind: row.get(5)?,
                    count: unsql(row.get(6)?).max(evicted_count),
                    reason: row.get(7)?,
                }),
            };
            bytes += content_bytes(&content);
            if bytes > limits.bytes_max && !items.is_empty() {
                break;
            }
            items.push(StoredItem { first: Seq(first), seq: Seq(last), content });
        }
        Ok(items)
    }

    /// Starts a new numbering for what is held, because the old one was used by somebody else: a restored backup
    /// or a cloned disk has given the same numbers to other items.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn renumber(&mut self, epoch: Epoch) -> Result<Holding, StoreError> {
        let path = self.path.clone();
        let after = self.renumber_inner(epoch).map_err(|error| fault(&path, &error))?;
        self.holding = after;
        Ok(after)
    }

    fn renumber_inner(&mut self, epoch: Epoch) -> rusqlite::Result<Holding> {
        let before = self.holding;
        let shift = before.first.previous().0;
        let after = Holding {
            epoch,
            first: Seq(1),
            last: Seq(before.last.0 - shift),
            urgent: Seq(before.urgent.0.saturating_sub(shift)),
            ..before
        };
        let tx = self.db.transaction()?;
        // Upwards through negative numbers, so that no two rows ever share one.
        tx.execute("UPDATE items SET seq = ?1 - seq, seq_last = seq_last - ?1", [sql(shift)])?;
        tx.execute("UPDATE items SET seq = -seq", [])?;
        tx.execute("UPDATE state SET epoch = ?1, last_seq = ?2", params![epoch.0, sql(after.last.0)])?;
        tx.commit()?;
        Ok(after)
    }

    /// Limits the file to `pages`, so that a test can fill the disk without one.
    #[doc(hidden)]
    pub fn limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        self.db
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .map_err(|error| fault(&self.path, &error))
    }
}

fn check_whole(db: &Connection, path: &Path) -> Result<Holding, StoreError> {
    let number = |pragma: &str| -> Result<i64, StoreError> {
        db.pragma_query_value(None, pragma, |row| row.get(0)).map_err(|error| fault(path, &error))
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION_ID || version != SCHEMA_VERSION {
        return Err(damaged(
            path,
            &format!(
                "not a spool of this format: application id {application:#x}, version {version}, \
                 expected {APPLICATION_ID:#x}, {SCHEMA_VERSION}"
            ),
        ));
    }
    let setup = db
        .busy_timeout(std::time::Duration::from_secs(5))
        .and_then(|()| db.pragma_update(None, "journal_mode", "WAL"))
        .and_then(|()| db.pragma_update(None, "synchronous", "FULL"))
        .and_then(|()| bound_log(db));
    setup.map_err(|error| fault(path, &error))?;
    let report: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| fault(path, &error))?;
    if report != "ok" {
        return Err(damaged(path, &report));
    }
    read_holding(db)
        .map_err(|error| damaged(path, &error.to_string()))?
        .ok_or_else(|| damaged(path, "the numbers have a hole, or the state row is missing"))
}

/// Keeps the write-ahead log small, on a disk that has no room for the usual 4 MiB.
pub(crate) fn bound_log(db: &Connection) -> rusqlite::Result<()> {
    for (pragma, bound) in [("wal_autocheckpoint", LOG_PAGES_MAX), ("journal_size_limit", LOG_BYTES_MAX)] {
        // A pragma that answers with a row: update would call that an error.
        db.query_row(&format!("PRAGMA {pragma} = {bound}"), [], |_| Ok(()))?;
    }
    Ok(())
}

fn read_holding(db: &Connection) -> rusqlite::Result<Option<Holding>> {
    let state = db
        .query_row("SELECT epoch, last_seq FROM state", [], |row| {
            Ok((Epoch(row.get(0)?), Seq(unsql(row.get(1)?))))
        })
        .optional()?;
    let Some((epoch, last)) = state else { return Ok(None) };
    let (first, newest, covered, bytes) = db.query_row(
        "SELECT min(seq), max(seq_last), total(seq_last - seq + 1), coalesce(sum(bytes), 0) FROM items",
        [],
        |row| {
            let first: Option<i64> = row.get(0)?;
            let newest: Option<i64> = row.get(1)?;
            // `total` is a float: exact below 2^53 items.
            Ok((first.map(unsql), newest.map(unsql), row.get::<_, f64>(2)?, unsql(row.get(3)?)))
        },
    )?;
    let first = match (first, newest) {
        (Some(first), Some(newest)) => {
            let span = (newest + 1).saturating_sub(first);
            if newest != last.0 || (covered - span as f64).abs() >= 0.5 {
                return Ok(None);
            }
            Seq(first)
        }
        _ => last.next(),
    };
    Ok(Some(Holding { epoch, first, last, urgent: Seq(0), bytes, evicted_count: 0 }))
}

fn delete_acked(tx: &Transaction<'_>, upto: Seq, after: &mut Holding) -> rusqlite::Result<()> {
    if upto < after.first {
        return Ok(());
    }
    let freed: i64 = tx
        .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM items WHERE seq <= ?1 AND seq_last <= ?1")?
        .query_row([sql(upto.0)], |row| row.get(0))?;
    tx.prepare_cached("DELETE FROM items WHERE seq <= ?1 AND seq_last <= ?1")?.execute([sql(upto.0)])?;
    // An evicted range that the ack ends in keeps its upper part.
    tx.prepare_cached("UPDATE items SET seq = ?1 + 1 WHERE seq <= ?1")?.execute([sql(upto.0)])?;
    after.bytes = after.bytes.saturating_sub(unsql(freed));
    after.first = upto.next();
    Ok(())
}

fn insert(tx: &Transaction<'_>, item: &NewItem, after: &mut Holding) -> rusqlite::Result<()> {
    let seq = after.last.next();
    let cost = item.cost_bytes();
    let mut statement = tx.prepare_cached(
        "INSERT INTO items (seq, seq_last, rank, from_ns, to_ns, bytes, finding, kind, count, reason)
         VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let (at, bytes) = (sql(item.time_ns), sql(cost));
    match &item.content {
        Content::Finding(finding) => statement.execute(params![
            sql(seq.0),
            item.rank.0,
            at,
            at,
            bytes,
            finding,
            "finding",
            1_i64,
            ""
        ])?,
        Content::Gap(gap) => statement.execute(params![
            sql(seq.0),
            item.rank.0,
            sql(gap.from_ns),
            sql(gap.to_ns),
            bytes,
            None::<Vec<u8>>,
            gap.kind,
            sql(gap.count),
            gap.reason
        ])?,
    };
    after.last = seq;
    after.bytes += cost;
    if item.rank >= Rank::URGENT && item.rank < Rank::GAP {
        after.urgent = seq;
    }
    Ok(())
}

fn content_bytes(content: &Content) -> u64 {
    match content {
        Content::Finding(bytes) => bytes.len() as u64,
        Content::Gap(gap) => (gap.kind.len() + gap.reason.len()) as u64,
    }
}

fn fault(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, &error.to_string()),
        _ => unavailable(path, error),
    }
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}

fn unavailable(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable { path: path.to_owned(), detail: error.to_string() }
}

/// SQLite integers are signed. Sequence numbers, times and byte counts never reach 2^63.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// "SPOL": tells a spool from any other SQLite file.
const APPLICATION_ID: i64 = 0x5350_4f4c;
const SCHEMA_VERSION: i64 = 1;
/// Pages of the write-ahead log before it is folded into the file: 256 KiB. A small disk has to hold the log and, to
/// fold it, the same pages once more.
const LOG_PAGES_MAX: i64 = 64;
/// What the log is cut to once it is folded, if one large commit has made it larger.
const LOG_BYTES_MAX: i64 = LOG_PAGES_MAX * 4096;

/// Leaves 512 KiB of free pages in the file: what is in the log can be folded into them when the disk has filled up.
/// Two transactions, so that the pages are really written.
const RESERVE: &str = "
BEGIN;
CREATE TABLE reserve (bytes BLOB);
INSERT INTO reserve VALUES (zeroblob(524288));
COMMIT;
DROP TABLE reserve;
";

const SCHEMA: &str = "
BEGIN;
PRAGMA application_id = 1397772108;
PRAGMA user_version = 1;
CREATE TABLE state (epoch BLOB NOT NULL, last_seq INTEGER NOT NULL) STRICT;
CREATE TABLE items (
    seq      INTEGER PRIMARY KEY,
    seq_last INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    from_ns  INTEGER NOT NULL,
    to_ns    INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    finding  BLOB,
    kind     TEXT NOT NULL,
    count    INTEGER NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX items_by_rank ON items (rank, seq);
COMMIT;
";
