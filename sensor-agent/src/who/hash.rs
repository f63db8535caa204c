//! sha256 of programs, each content once. Not a file integrity check: it tells what ran, when it could still be read.
//! It opens and reads files; when its budget allows the next piece it tells, and does not wait itself.
//!
//! Which file it was is found out by [`program`]. What was read counts only if the file is the same afterwards.

mod program;

use crate::enrich::recent::Recent;
use crate::enrich::subject::FileId;
use crate::event::{BootNs, Identity};
use crate::who::stage::WAIT_NS;
use nix::sys::stat::fstat;
use program::{Content, Program, is_alive};
use sensor_baseline::UnixNs;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which program to hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HashKey {
    /// The process that runs it.
    pub identity: Identity,
    /// The file it mapped.
    pub file: FileId,
    /// Whether a name that it has on the host was known when this was asked.
    pub is_named: bool,
}

/// A program to hash, and how to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub key: HashKey,
    /// Names that it may have on the host, escaped, first the likeliest.
    pub names: Vec<String>,
    /// When it was executed, at the latest: a file that was changed after that is another.
    pub ran: BootNs,
}

/// A name on the host, and the file that may have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName {
    /// Escaped.
    pub path: String,
    /// Which file.
    pub file: FileId,
}

impl HostName {
    /// Whether that file has that name now.
    pub(super) fn is_so(&self) -> bool {
        Program::named(&self.path, self.file).is_some()
    }
}

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Now.
    pub now: UnixNs,
    /// What is added to a `BootNs` to make it a `UnixNs`.
    pub boot_to_unix_ns: i64,
}

impl Clock {
    /// When that was by the wall clock.
    const fn unix(self, time: BootNs) -> UnixNs {
        UnixNs(time.0.saturating_add_signed(self.boot_to_unix_ns))
    }
}

/// Why there is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHash {
    /// More than [`FILE_BYTES_MAX`] bytes.
    TooLarge,
    /// Process and name were gone, or another file had the name.
    Gone,
    /// It was written to since it ran, or so shortly before that the times cannot tell.
    Changed,
    /// It cannot be read.
    Unreadable,
    /// The item did not wait any longer.
    Late,
    /// Too many were asked for at once.
    Refused,
}

impl NoHash {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too large",
            Self::Gone => "gone before it could be read",
            Self::Changed => "may have changed since it ran",
            Self::Unreadable => "cannot be read",
            Self::Late => "not ready in time",
            Self::Refused => "too many programs at once",
        }
    }
}

/// 64 hex digits, or why not.
pub type Hash = Result<Arc<str>, NoHash>;

/// Hashes programs, a piece at a time, what is nearest to its end first: a large program holds no small one up.
#[derive(Debug)]
pub struct Hasher {
    known: Recent<Content, Arc<str>>,
    jobs: Vec<Job>,
    budget: Budget,
    bytes_max: i64,
    chunk: Vec<u8>,
}

/// A file that is being read.
#[derive(Debug)]
struct Job {
    /// Who wants it.
    keys: Vec<HashKey>,
    /// When the last of them came.
    added: UnixNs,
    content: Content,
    /// Every change since it was opened shows in its times.
    is_settled: bool,
    file: File,
    sum: Sha256,
    left: i64,
}

impl Job {
    /// Whether the file is still what it was when it was opened. A name that went changes a file too, and a change right
    /// after another may not show: then only a process that still runs it vouches for it, since what is run cannot be
    /// written to.
    fn is_as_it_was(&self) -> bool {
        let Ok(stat) = fstat(&self.file) else { return false };
        let now = Content::of(&stat);
        (self.is_settled && now == self.content)
            || (now.is_same_but_name(&self.content)
                && self.keys.iter().any(|key| Program::running(key).is_some()))
    }

    fn answer(self, hash: &Hash) -> impl Iterator<Item = (HashKey, Hash)> {
        self.keys.into_iter().map(|key| (key, hash.clone()))
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new(FILE_BYTES_MAX, BYTES_PER_SECOND)
    }
}

impl Hasher {
    /// Of files up to `bytes_max`, reading `bytes_per_second` at most over any second or more.
    #[must_use]
    pub fn new(bytes_max: i64, bytes_per_second: u64) -> Self {
        let budget = Budget { since: Instant::now(), bytes_per_second, spent: 0 };
        let (known, chunk) = (Recent::new(HASHES_MAX, u64::MAX), vec![0; CHUNK_BYTES]);
        Self { known, jobs: Vec::new(), budget, bytes_max, chunk }
    }

    /// Takes a program, and opens it while it is there. The answers that there are at once: its own, or those of others
    /// that it displaces.
    pub fn add(&mut self, wanted: &Wanted, clock: Clock) -> Vec<(HashKey, Hash)> {
        let mut answers = Vec::new();
        if let Some(hash) = self.admit(wanted, clock, &mut answers) {
            answers.push((wanted.key.clone(), hash));
        }
        answers
    }

    fn admit(&mut self, wanted: &Wanted, clock: Clock, displaced: &mut Vec<(HashKey, Hash)>) -> Option<Hash> {
        let program = match Program::locate(wanted, clock) {
            Ok(program) => program,
            Err(missing) => return Some(Err(missing)),
        };
        let content = program.content;
        if let Some(known) = self.known.find(&content, BootNs(0)) {
            return Some(Ok(Arc::clone(known)));
        }
        let shared = |job: &&mut Job| job.is_settled && job.content == content && job.keys.len() < KEYS_MAX;
        if let Some(job) = self.jobs.iter_mut().find(shared) {
            job.keys.push(wanted.key.clone());
            job.added = clock.now;
            return None;
        }
        if content.size() > self.bytes_max {
            return Some(Err(NoHash::TooLarge));
        }
        let file = match program.open() {
            Ok(file) => file,
            Err(missing) => return Some(Err(missing)),
        };
        if !self.make_room(content.size(), clock.now, displaced) {
            return Some(Err(NoHash::Refused));
        }
        self.jobs.push(Job {
            keys: vec![wanted.key.clone()],
            added: clock.now,
            content,
            is_settled: content.is_settled(clock.now),
            file,
            sum: Sha256::new(),
            left: content.size(),
        });
        None
    }

    /// Makes room for a file of so many bytes: by what nobody waits for any longer, and whose process has ended, so that
    /// nobody will ask again; else by the one with the most left, if that is more. Whether there is room.
    fn make_room(&mut self, bytes: i64, now: UnixNs, displaced: &mut Vec<(HashKey, Hash)>) -> bool {
        if self.jobs.len() < JOBS_MAX {
            return true;
        }
        for job in self.jobs.iter_mut().filter(|job| job.added.0.saturating_add(WAIT_NS) < now.0) {
            while let Some(key) = job.keys.pop_if(|key| !is_alive(key.identity)) {
                displaced.push((key, Err(NoHash::Late)));
            }
        }
        self.jobs.retain(|job| !job.keys.is_empty());
        if self.jobs.len() < JOBS_MAX {
            return true;
        }
        let largest = (0..self.jobs.len()).max_by_key(|&job| self.jobs[job].left);
        let Some(largest) = largest.filter(|&job| self.jobs[job].left > bytes) else { return false };
        displaced.extend(self.jobs.swap_remove(largest).answer(&Err(NoHash::Refused)));
        true
    }

    /// Reads a piece. The answers that it makes known, none or one for each who wants it.
    pub fn step(&mut self) -> Vec<(HashKey, Hash)> {
        let Some(next) = (0..self.jobs.len()).min_by_key(|&job| self.jobs[job].left) else {
            return Vec::new();
        };
        let job = &mut self.jobs[next];
        let hash = match job.file.read(&mut self.chunk) {
            Ok(0) if job.is_as_it_was() => {
                let sum = std::mem::take(&mut job.sum).finalize();
                let digits: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(Arc::from(digits))
            }
            Ok(0) => Err(NoHash::Changed),
            Ok(length) if job.left < 0 => {
                // It grows while it is read, perhaps faster than that.
                self.budget.spend(length as u64);
                Err(NoHash::Changed)
            }
            Ok(length) => {
                job.sum.update(&self.chunk[..length]);
                job.left = job.left.saturating_sub_unsigned(length as u64);
                self.budget.spend(length as u64);
                return Vec::new();
            }
            Err(_) => Err(NoHash::Unreadable),
        };
        let job = self.jobs.swap_remove(next);
        if let Ok(sum) = &hash
            && job.is_settled
        {
            self.known.put(job.content, Arc::clone(sum), BootNs(0));
        }
        job.answer(&hash).collect()
    }

    /// How long to wait before the next piece may be read; `None` when there is nothing to read.
    #[must_use]
    pub fn next_in(&mut self) -> Option<Duration> {
        (!self.jobs.is_empty()).then(|| self.budget.ahead())
    }

    /// Bytes read since the start.
    #[must_use]
    pub const fn bytes_read(&self) -> u64 {
        self.budget.spent
    }
}

/// Bytes that may be read by now.
#[derive(Debug)]
struct Budget {
    since: Instant,
    bytes_per_second: u64,
    spent: u64,
}

impl Budget {
    const fn spend(&mut self, bytes: u64) {
        self.spent += bytes;
    }

    /// How long until what was spent was due. What was not used is not saved up.
    fn ahead(&mut self) -> Duration {
        let due = u128::from(self.spent) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let due = Duration::from_nanos(due.try_into().unwrap_or(u64::MAX));
        let elapsed = self.since.elapsed();
        self.since += elapsed.saturating_sub(due);
        due.saturating_sub(elapsed)
    }
}

/// Larger programs are not hashed.
pub const FILE_BYTES_MAX: i64 = 256 << 20;
/// Bytes read in a second at most: a large program takes some seconds, and costs a tenth of a core meanwhile.
pub const BYTES_PER_SECOND: u64 = 64 << 20;
/// Hashes remembered at most.
const HASHES_MAX: usize = 8_192;
const CHUNK_BYTES: usize = 128 << 10;
/// Files read at a time at most: so many are open.
const JOBS_MAX: usize = 128;
/// Who may wait for one file at most; more read it again.
const KEYS_MAX: usize = 1_024;

#[cfg(test)]
#[path = "hash/tests.rs"]
mod tests;
