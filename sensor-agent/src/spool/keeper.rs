//! Keeps accepting whatever the disk does: commits in groups, holds a bounded queue in memory while the file cannot
//! be written, counts what that queue drops, and replaces a damaged file. Not a thread and not the table. It may call
//! [`super::store`], [`super::file`] and the log; times are arguments.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file;
use super::item::{Epoch, Gap, LossTally, NewItem, Rank, Seq, StoredItem};
use super::store::{Holding, ReadLimits, Store, StoreError};

/// Two clocks at one moment: a monotonic one for intervals, the wall for what people read.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time since some fixed moment of this process.
    pub monotonic: Duration,
    /// Nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

/// What an operator should see of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why items wait in memory; `None` when they are written.
    pub degraded: Option<String>,
    /// Items accepted by this process.
    pub accepted_count: u64,
    /// Items dropped because the memory queue was full while the file could not be written.
    pub dropped_count: u64,
    /// Files set aside as damaged by this process.
    pub damaged_count: u64,
    /// Items that wait in memory.
    pub pending_count: u64,
}

/// The spool without its thread.
pub struct Keeper {
    path: PathBuf,
    bytes_max: u64,
    new_epoch: fn() -> Epoch,
    store: Option<Store>,
    pending: Pending,
    losses: LossTally,
    acked: Option<Seq>,
    health: Health,
    commit_at: Option<Duration>,
    retry_at: Option<Duration>,
    retry_delay: Duration,
}

impl Keeper {
    /// Opens the spool at `path`, or makes it, or starts without it: it never fails.
    pub fn start(path: &Path, bytes_max: u64, new_epoch: fn() -> Epoch, now: Clock) -> Self {
        let mut keeper = Self {
            path: path.to_owned(),
            bytes_max,
            new_epoch,
            store: None,
            pending: Pending::default(),
            losses: LossTally::default(),
            acked: None,
            health: Health::default(),
            commit_at: None,
            retry_at: None,
            retry_delay: RETRY_FIRST,
        };
        if let Err(error) = keeper.ensure_store(now) {
            keeper.fail(&error, now);
        }
        keeper
    }

    /// Takes an item; it is accepted once a commit has covered it.
    pub fn push(&mut self, item: NewItem, now: Clock) {
        let due = if item.rank >= Rank::URGENT && item.rank < Rank::GAP {
            now.monotonic
        } else {
            now.monotonic + COMMIT_INTERVAL
        };
        self.commit_at = Some(self.commit_at.map_or(due, |at| at.min(due)));
        if let Some(dropped) = self.pending.push(item) {
            self.health.dropped_count += dropped.count;
            self.losses.add(dropped);
        }
        self.health.pending_count = self.pending.items.len() as u64;
    }

    /// Takes losses that happened elsewhere; they become gaps with one of the next commits.
    pub fn push_losses(&mut self, losses: LossTally, now: Clock) {
        if losses.is_empty() {
            return;
        }
        self.losses.absorb(losses);
        let due = now.monotonic + GAP_INTERVAL;
        self.commit_at = Some(self.commit_at.map_or(due, |at| at.min(due)));
    }

    /// Notes that the collector has stored everything up to `upto` of `epoch`; another epoch is ignored.
    pub fn acknowledge(&mut self, epoch: Epoch, upto: Seq, now: Clock) {
        if self.holding().is_none_or(|holding| holding.epoch != epoch || upto < holding.first) {
            return;
        }
        self.acked = Some(self.acked.map_or(upto, |acked| acked.max(upto)));
        let due = now.monotonic + COMMIT_INTERVAL;
        self.commit_at = Some(self.commit_at.map_or(due, |at| at.min(due)));
    }

    /// When [`Keeper::commit_if_due`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.retry_at.or(self.commit_at)
    }

    /// Commits, when it is time.
    pub fn commit_if_due(&mut self, now: Clock) {
        if self.deadline().is_some_and(|at| at <= now.monotonic) {
            self.commit(now);
        }
    }

    /// Commits now.
    pub fn commit(&mut self, now: Clock) {
        match self.try_commit(now) {
            Ok(()) => {
                if let Some(reason) = self.health.degraded.take() {
                    tracing::info!("spool works again, it was: {reason}");
                }
                self.commit_at = None;
                self.retry_at = None;
                self.retry_delay = RETRY_FIRST;
            }
            Err(error) => self.fail(&error, now),
        }
    }

    fn try_commit(&mut self, now: Clock) -> Result<(), StoreError> {
        while self.try_commit_some(now)? {}
        Ok(())
    }

    /// Commits as much as one transaction takes. Whether there is more.
    fn try_commit_some(&mut self, now: Clock) -> Result<bool, StoreError> {
        self.ensure_store(now)?;
        let Some(store) = self.store.as_mut() else { return Ok(false) };
        let gaps: Vec<NewItem> = self.losses.gaps().cloned().map(NewItem::gap).collect();
        if gaps.is_empty() && self.pending.items.is_empty() && self.acked.is_none() {
            return Ok(false);
        }
        let is_short = self.health.degraded.is_some();
        let count = self.pending.head_count(if is_short { COMMIT_BYTES_SHORT } else { COMMIT_BYTES_MAX });
        match store.commit(gaps.iter().chain(self.pending.items.range(..count)), self.acked) {
            Ok(_) => {
                self.health.accepted_count += (gaps.len() + count) as u64;
                self.losses = LossTally::default();
                self.pending.remove_head(count);
                self.acked = None;
                self.health.pending_count = self.pending.items.len() as u64;
                Ok(!self.pending.items.is_empty())
            }
            Err(StoreError::Damaged { detail, .. }) => {
                self.start_afresh(&detail, now)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Items from `from` on; empty when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read. A damaged one has been replaced by then.
    pub fn read(&mut self, from: Seq, limits: ReadLimits, now: Clock) -> Result<Vec<StoredItem>, StoreError> {
        let Some(store) = self.store.as_ref() else { return Ok(Vec::new()) };
        let read = store.read(from, limits);
        if let Err(StoreError::Damaged { detail, .. }) = &read
            && let Err(error) = self.start_afresh(detail, now)
        {
            self.fail(&error, now);
        }
        read
    }

    /// Starts a new numbering for what is held; see [`Store::renumber`].
    pub fn renumber(&mut self, now: Clock) {
        let epoch = (self.new_epoch)();
        self.acked = None;
        if let Some(Err(error)) = self.store.as_mut().map(|store| store.renumber(epoch)) {
            self.fail(&error, now);
        }
    }

    /// What the file holds; `None` when there is none.
    #[must_use]
    pub fn holding(&self) -> Option<Holding> {
        self.store.as_ref().map(Store::holding)
    }

    /// How the spool is.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    fn ensure_store(&mut self, now: Clock) -> Result<(), StoreError> {
        if self.store.is_some() {
            return Ok(());
        }
        if !self.path.exists() {
            Store::create(&self.path, (self.new_epoch)())?;
        }
        match Store::open(&self.path, self.bytes_max) {
            Ok(store) => {
                self.store = Some(store);
                Ok(())
            }
            Err(StoreError::Damaged { detail, .. }) => self.start_afresh(&detail, now),
            Err(error) => Err(error),
        }
    }

    /// Puts an empty spool in the place of a damaged one, and a gap into it.
    fn start_afresh(&mut self, detail: &str, now: Clock) -> Result<(), StoreError> {
        self.store = None;
        self.acked = None;
        let kept = file::set_aside(&self.path, now.unix_ns / 1_000_000_000).map_err(|error| {
            StoreError::Unavailable {
                path: self.path.clone(),
                detail: format!("damaged ({detail}), and cannot be set aside: {error}"),
            }
        })?;
        tracing::error!("{}: damaged: {detail}; kept as {}", self.path.display(), kept.display());
        self.health.damaged_count += 1;
        let reason = "spool_damaged".to_owned();
        let (from_ns, to_ns) = (now.unix_ns, now.unix_ns);
        self.losses.add(Gap { from_ns, to_ns, kind: "spool".to_owned(), count: 1, reason });
        self.commit_at = Some(now.monotonic);
        Store::create(&self.path, (self.new_epoch)())?;
        self.store = Some(Store::open(&self.path, self.bytes_max)?);
        Ok(())
    }

    fn fail(&mut self, error: &StoreError, now: Clock) {
        let reason = error.to_string();
        if self.health.degraded.as_ref() != Some(&reason) {
            tracing::error!("spool: {reason}; findings wait in memory");
        }
        self.health.degraded = Some(reason);
        self.retry_at = Some(now.monotonic + self.retry_delay);
        self.retry_delay = (self.retry_delay * 2).min(RETRY_MAX);
    }

    /// Limits the file to `pages`, so that a test can fill the disk without one.
    #[doc(hidden)]
    pub fn limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        self.store.as_ref().map_or(Ok(()), |store| store.limit_pages(pages))
    }
}

/// Items that no commit has covered yet.
#[derive(Default)]
struct Pending {
    items: VecDeque<NewItem>,
    bytes: u64,
}

impl Pending {
    /// Adds an item; when the queue is over its limit, the lowest-ranked, then oldest ones leave, and the gap that
    /// counts them is returned.
    fn push(&mut self, item: NewItem) -> Option<Gap> {
        self.bytes += item.cost_bytes();
        self.items.push_back(item);
        let mut dropped: Option<Gap> = None;
        while self.bytes > PENDING_BYTES_MAX || self.items.len() > PENDING_ITEMS_MAX {
            let (index, _) = self.items.iter().enumerate().min_by_key(|(_, item)| item.rank)?;
            let item = self.items.remove(index)?;
            self.bytes -= item.cost_bytes();
            let gap = dropped.get_or_insert_with(|| Gap {
                from_ns: item.time_ns,
                to_ns: item.time_ns,
                kind: "finding".to_owned(),
                count: 0,
                reason: "spool_unavailable".to_owned(),
            });
            gap.count += 1;
            gap.from_ns = gap.from_ns.min(item.time_ns);
            gap.to_ns = gap.to_ns.max(item.time_ns);
        }
        dropped
    }
}

impl Pending {
    /// How many of the oldest items one commit takes: what has waited for a disk to have room again must not need all
    /// the room at once.
    fn head_count(&self, bytes_max: u64) -> usize {
        let mut bytes = 0;
        let fits = |item: &&NewItem| {
            bytes += item.cost_bytes();
            bytes <= bytes_max
        };
        self.items.iter().take_while(fits).count().max(self.items.len().min(1))
    }

    fn remove_head(&mut self, count: usize) {
        self.bytes -= self.items.drain(..count).map(|item| item.cost_bytes()).sum::<u64>();
    }
}

/// An item waits at most so long for company in its commit.
const COMMIT_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of items in one commit, except that one item always fits.
const COMMIT_BYTES_MAX: u64 = 128 * 1024;
/// The same after a failure: small enough for the room that the log has kept on a disk without any other.
const COMMIT_BYTES_SHORT: u64 = 32 * 1024;
/// Losses are summed for so long before they become gaps.
const GAP_INTERVAL: Duration = Duration::from_secs(1);
/// Waits between attempts to write a failing file: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Bounds of the queue in memory while the file cannot be written.
const PENDING_BYTES_MAX: u64 = 8 * 1024 * 1024;
const PENDING_ITEMS_MAX: usize = 16 * 1024;
