//! sha256 of programs, each content once. Not a file integrity check: it tells what ran, when it could still be read.
//! It opens and reads files; when its budget
//! allows the next piece it tells, and does not wait itself.
//!
//! A file is found through `/proc/PID/exe` while the process lives, and else by its name on the host. Either is opened
//! for its place only (`O_PATH`), compared with what the kernel said ran (inode, and device by name), and read after
//! that. What was read counts only if the file is the same afterwards.

use crate::enrich::process_table::TICK_NS;
use crate::enrich::recent::Recent;
use crate::enrich::seed::kernel_dev;
use crate::enrich::subject::FileId;
use crate::event::{BootNs, Identity};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use sensor_baseline::UnixNs;
use sensor_baseline::text::unescape;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
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

/// Why there is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHash {
    /// More than [`FILE_BYTES_MAX`] bytes.
    TooLarge,
    /// Process and name were gone, or another file had the name.
    Gone,
    /// It was written to meanwhile.
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
            Self::Changed => "changed while it was read",
            Self::Unreadable => "cannot be read",
            Self::Late => "not ready in time",
            Self::Refused => "too many programs at once",
        }
    }
}

/// 64 hex digits, or why not.
pub type Hash = Result<Arc<str>, NoHash>;

/// A content of a file: when any of these differs, the content may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Content {
    dev: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Content {
    const fn of(stat: &FileStat) -> Self {
        Self {
            dev: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

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
    content: Content,
    file: File,
    sum: Sha256,
    left: i64,
}

impl Job {
    /// Whether the file is still what it was when it was opened. A name that went changes a file too: then only a
    /// process that still runs it vouches for it, since what is run cannot be written to.
    fn is_as_it_was(&self) -> bool {
        let Ok(stat) = fstat(&self.file) else { return false };
        let now = Content::of(&stat);
        let is_same_but_name = Content { changed: self.content.changed, ..now } == self.content;
        now == self.content || (is_same_but_name && self.keys.iter().any(|key| running(key).is_some()))
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

    /// Takes the program that `key` names, and opens it while it is there. `names` are those it has on the host,
    /// escaped, first the likeliest; a file that was changed after `until`, when the program was known to run, is
    /// another. An answer at once, when there is one.
    pub fn add(&mut self, key: &HashKey, names: &[String], until: UnixNs) -> Option<Hash> {
        let Some((place, stat)) = locate(key, names, until) else { return Some(Err(NoHash::Gone)) };
        let content = Content::of(&stat);
        if let Some(known) = self.known.find(&content, BootNs(0)) {
            return Some(Ok(Arc::clone(known)));
        }
        if let Some(job) =
            self.jobs.iter_mut().find(|job| job.content == content && job.keys.len() < KEYS_MAX)
        {
            job.keys.push(key.clone());
            return None;
        }
        if stat.st_size > self.bytes_max {
            return Some(Err(NoHash::TooLarge));
        }
        if self.jobs.len() >= JOBS_MAX {
            return Some(Err(NoHash::Refused));
        }
        // A place cannot be read, and naming it through /proc opens that very file.
        let Ok(file) = File::open(format!("/proc/self/fd/{}", place.as_raw_fd())) else {
            return Some(Err(NoHash::Unreadable));
        };
        self.jobs.push(Job {
            keys: vec![key.clone()],
            content,
            file,
            sum: Sha256::new(),
            left: stat.st_size,
        });
        None
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
        if let Ok(sum) = &hash {
            self.known.put(job.content, Arc::clone(sum), BootNs(0));
        }
        job.keys.into_iter().map(|key| (key, hash.clone())).collect()
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

/// Opens the place of the program: as what the process runs, or by a name.
fn locate(key: &HashKey, names: &[String], until: UnixNs) -> Option<(OwnedFd, FileStat)> {
    let named = |name: &String| {
        let name = unescape(name).ok()?;
        let (file, stat) = place(Path::new(OsStr::from_bytes(&name)))?;
        let found = FileId { dev: kernel_dev(stat.st_dev), inode: stat.st_ino };
        let changed = stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec);
        let is_older = changed.unsigned_abs() <= until.0.saturating_add(CLOCKS_NS);
        (found == key.file && is_older).then_some((file, stat))
    };
    running(key).or_else(|| names.iter().find_map(named))
}

/// The program of a process that lives.
fn running(key: &HashKey) -> Option<(OwnedFd, FileStat)> {
    let process = PathBuf::from(format!("/proc/{}", key.identity.pid));
    let (file, stat) = place(&process.join("exe"))?;
    // The link is resolved before this: it was that process's. A file system of several layers shows another device
    // than the kernel has; the inode number is the kernel's.
    (is_alive(&process, key.identity) && stat.st_ino == key.file.inode).then_some((file, stat))
}

fn place(path: &Path) -> Option<(OwnedFd, FileStat)> {
    let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    (stat.st_mode & S_IFMT == S_IFREG).then_some((file, stat))
}

fn is_alive(process: &Path, identity: Identity) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    // Behind the name, which may contain anything: state, and 18 fields on the start time in clock ticks.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let started: Option<u64> =
        fields.split_ascii_whitespace().nth(START_FIELD).and_then(|ticks| ticks.parse().ok());
    started == Some(identity.start_time_ns / TICK_NS)
}

/// Larger programs are not hashed.
pub const FILE_BYTES_MAX: i64 = 256 << 20;
/// Bytes read in a second at most: a large program takes some seconds, and costs a tenth of a core meanwhile.
pub const BYTES_PER_SECOND: u64 = 64 << 20;
/// Hashes remembered at most.
const HASHES_MAX: usize = 8_192;
/// How far the clocks of events and files may be apart.
const CLOCKS_NS: u64 = 2_000_000;
const CHUNK_BYTES: usize = 128 << 10;
/// Files read at a time at most: so many are open.
const JOBS_MAX: usize = 128;
/// Who may wait for one file at most; more read it again.
const KEYS_MAX: usize = 1_024;
/// Field 22 of `proc_pid_stat(5)`, counted from the one behind the name.
const START_FIELD: usize = 19;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::seed::own_identity;
    use sensor_baseline::text::escape;

    fn key_of(path: &Path, identity: Identity) -> HashKey {
        let stat = nix::sys::stat::stat(path).unwrap();
        HashKey {
            identity,
            file: FileId { dev: kernel_dev(stat.st_dev), inode: stat.st_ino },
            is_named: true,
        }
    }

    /// Asks, and reads as fast as the budget allows.
    fn hash(hasher: &mut Hasher, key: &HashKey, names: &[String]) -> Hash {
        if let Some(hash) = hasher.add(key, names, UnixNs(u64::MAX)) {
            return hash;
        }
        loop {
            let (never, begun) =
                (crossbeam_channel::never::<()>(), hasher.next_in().expect("there is a job"));
            // Nobody sends: this waits.
            let _timeout = never.recv_timeout(begun);
            if let Some((_, hash)) = hasher.step().pop() {
                return hash;
            }
        }
    }

    const NOBODY: Identity = Identity { pid: u32::MAX, start_time_ns: 1 };

    fn names(path: &Path) -> Vec<String> {
        vec![escape(path.as_os_str().as_bytes())]
    }

    #[test]
    fn the_hash_is_that_of_the_file_and_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let mut hasher = Hasher::default();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&mut hasher, &key_of(&path, NOBODY), &names(&path)).as_deref(), Ok(expected));
        let read = hasher.bytes_read();
        assert_eq!(hash(&mut hasher, &key_of(&path, NOBODY), &names(&path)).as_deref(), Ok(expected));
        assert_eq!((read, hasher.bytes_read()), (3, 3));
        std::fs::write(&path, "abd").unwrap();
        assert_ne!(
            hash(&mut hasher, &key_of(&path, NOBODY), &names(&path)).as_deref(),
            Ok(expected),
            "same inode"
        );
    }

    #[test]
    fn another_file_under_the_name_is_not_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "one").unwrap();
        let key = key_of(&path, NOBODY);
        std::fs::write(folder.path().join("other"), "two").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(hash(&mut Hasher::default(), &key, &names(&path)), Err(NoHash::Gone));
    }

    #[test]
    fn a_file_that_was_changed_after_the_program_ran_is_not_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "one").unwrap();
        let (key, long_ago) = (key_of(&path, NOBODY), UnixNs(1_000_000_000_000_000_000));
        assert_eq!(Hasher::default().add(&key, &names(&path), long_ago), Some(Err(NoHash::Gone)));
    }

    #[test]
    fn a_running_program_is_found_without_its_name() {
        let (own, exe) = (own_identity().unwrap(), std::env::current_exe().unwrap());
        let mut hasher = Hasher::default();
        let expected = hash(&mut Hasher::default(), &key_of(&exe, NOBODY), &names(&exe)).unwrap();
        assert_eq!(hash(&mut hasher, &key_of(&exe, own), &[]), Ok(expected));
        let reused = Identity { start_time_ns: own.start_time_ns + TICK_NS, ..own };
        assert_eq!(
            hash(&mut hasher, &key_of(&exe, reused), &[]),
            Err(NoHash::Gone),
            "another process of that pid"
        );
    }

    #[test]
    fn a_large_file_and_a_pipe_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, "12345").unwrap();
        let mut hasher = Hasher::new(4, BYTES_PER_SECOND);
        assert_eq!(hash(&mut hasher, &key_of(&path, NOBODY), &names(&path)), Err(NoHash::TooLarge));
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR).unwrap();
        assert_eq!(hash(&mut hasher, &key_of(&pipe, NOBODY), &names(&pipe)), Err(NoHash::Gone));
    }

    #[test]
    fn reading_takes_as_long_as_the_budget_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, vec![7; 50_000]).unwrap();
        let mut hasher = Hasher::new(FILE_BYTES_MAX, 500_000);
        let begun = Instant::now();
        hash(&mut hasher, &key_of(&path, NOBODY), &names(&path)).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_small_program_overtakes_a_large_one_and_one_reading_serves_all() {
        let folder = tempfile::tempdir().unwrap();
        let (large, small) = (folder.path().join("large"), folder.path().join("small"));
        std::fs::write(&large, vec![7; 4 * CHUNK_BYTES]).unwrap();
        std::fs::write(&small, "small").unwrap();
        let mut hasher = Hasher::default();
        let another = Identity { pid: u32::MAX - 1, ..NOBODY };
        for key in [key_of(&large, NOBODY), key_of(&large, another)] {
            assert_eq!(hasher.add(&key, &names(&large), UnixNs(u64::MAX)), None);
        }
        assert!(hasher.step().is_empty());
        assert_eq!(hasher.add(&key_of(&small, NOBODY), &names(&small), UnixNs(u64::MAX)), None);
        // Gone by name, and still open.
        std::fs::remove_file(&small).unwrap();
        let mut order = Vec::new();
        while hasher.next_in().is_some() {
            order.extend(hasher.step().into_iter().map(|(key, hash)| (key, hash.is_ok())));
        }
        let expected = [key_of(&large, NOBODY), key_of(&large, another)].map(|key| (key, true));
        assert_eq!(order.len(), 3);
        assert_eq!(
            (order[0].1, &order[1..]),
            (false, &expected[..]),
            "what was unlinked meanwhile has changed"
        );
        assert_eq!(hasher.bytes_read(), 4 * CHUNK_BYTES as u64 + 5);
    }
}
