//! The collector's durable state: one SQLite file, one writer thread, a few readers. It decides nothing about what is
//! stored: callers pass closures over the functions of its submodules. It may call rusqlite and the clock-free types
//! of the crate; no blocking call happens in an async task.

pub mod agents;
pub mod baselines;
pub mod findings;
pub mod gaps;
pub mod heads;
pub mod learned;
pub mod prevalence;
pub mod schema;
pub mod tokens;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

use writer::{Job, Task};

/// Why the store did not do something. Cloned to every job of a group that failed to commit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, or the configured bound, is full.
    #[error("store is full: {0}")]
    Full(Arc<rusqlite::Error>),
    /// The engine said no.
    #[error("store: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// The file was written by a later version.
    #[error("{path}: schema version {found} is newer than {known}, the newest this collector knows", path = path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file could not be opened.
    #[error("{path}: {cause}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        cause: Arc<rusqlite::Error>,
    },
    /// The engine gave up a transaction half way; nothing of it is stored.
    #[error("store: the transaction was rolled back")]
    RolledBack,
    /// A batch whose predecessor is not stored.
    #[error("store: the batch follows sequence {needed}, but {stored} is the last one stored")]
    OutOfOrder {
        /// The high-water mark.
        stored: u64,
        /// What it should be.
        needed: u64,
    },
    /// The writer has stopped.
    #[error("store: the writer has stopped")]
    Stopped,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(Arc::new(error)),
            _ => Self::Sqlite(Arc::new(error)),
        }
    }
}

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Box<dyn Job>>,
    readers: Arc<Readers>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Store {
    /// Opens or creates the file and brings its schema up to date. `bytes_max` bounds the file: beyond it, writes
    /// fail with [`StoreError::Full`].
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, StoreError> {
        let open = |cause| StoreError::Open { path: path.to_owned(), cause: Arc::new(cause) };
        create_private(path)
            .map_err(|cause| open(rusqlite::Error::ToSqlConversionFailure(Box::new(cause))))?;
        let mut connection = Connection::open(path).map_err(open)?;
        configure_writer(&connection).map_err(open)?;
        // Before the bound: a store that is full must not keep a newer collector from starting.
        schema::migrate(&mut connection, path)?;
        bound(&connection, bytes_max).map_err(open)?;
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(connection, inbox))
            .map_err(|error| open(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        let readers = Readers {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(READERS_MAX),
        };
        Ok(Self { jobs, readers: Arc::new(readers) })
    }

    /// Queues `work` behind everything queued before it and returns where its result will appear, once committed.
    /// Waits while the queue is full.
    pub async fn submit<T, E, F>(&self, work: F) -> Result<oneshot::Receiver<Result<T, E>>, StoreError>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        self.jobs.send(Box::new(Task::new(work, reply))).await.map_err(|_| StoreError::Stopped)?;
        Ok(result)
    }

    /// Does `work` in a transaction and returns its result once that is committed; an error of `work` undoes what it
    /// wrote, and only that.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let result = self.submit(work).await?;
        result.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }

    /// Reads the committed state.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        let _permit = self.readers.permits.acquire().await.map_err(|_| StoreError::Stopped)?;
        let result = tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let result = work(&connection);
            readers.give_back(connection);
            result
        });
        result.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }
}

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().expect("no code panics while it holds the reader list").pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().expect("no code panics while it holds the reader list").push(connection);
    }
}

/// SQLite gives its log files the mode of the database; findings are nobody else's to read.
fn create_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path).map(|_file| ())
}

fn configure_writer(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // FULL, not NORMAL: with WAL only FULL survives a power cut, and an ack promises that.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn bound(connection: &Connection, bytes_max: u64) -> Result<(), rusqlite::Error> {
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = bytes_max / u64::try_from(page_bytes).unwrap_or(1).max(1);
    let pages = i64::try_from(pages).unwrap_or(i64::MAX).clamp(1, PAGES_MAX);
    // A pragma that answers with a row: update would call that an error.
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

const FILE_MODE: u32 = 0o600;
/// Writes waiting for the writer thread. Beyond it, streams wait, and so do their agents.
const JOBS_MAX: usize = 256;
/// Concurrent reading queries.
const READERS_MAX: usize = 4;
/// How long a connection waits for a lock. Only a foreign process on the file makes one wait at all.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's own limit.
const PAGES_MAX: i64 = 0xffff_fffe;
