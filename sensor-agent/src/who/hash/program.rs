//! Finds the file that a process ran, and tells one content of it from another. It opens files; it reads none.
//!
//! A file is found through `/proc/PID/exe` while the process lives, and else by a name. Either is opened for its place
//! only (`O_PATH`), and compared with what the kernel said ran: inode number, and the device of the superblock.
//!
//! While a program runs the kernel refuses writes to its file (`ETXTBSY`), so that what `/proc/PID/exe` leads to has
//! the content that ran. By name there is only the time of the last change, which the kernel rounds down to the
//! timer's last tick: it counts as older only when it is so by more than one.

use super::{Clock, HashKey, NoHash, Wanted};
use crate::enrich::process_table::TICK_NS;
use crate::enrich::seed::kernel_dev;
use crate::enrich::subject::FileId;
use crate::event::Identity;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use sensor_baseline::UnixNs;
use sensor_baseline::text::unescape;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A content of a file: when any of these differs, the content may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    dev: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Content {
    pub(super) const fn of(stat: &FileStat) -> Self {
        Self {
            dev: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Bytes of the file.
    pub(super) const fn size(&self) -> i64 {
        self.size
    }

    /// Whether the two are the same but for what a change of the file's names leaves behind.
    pub(super) fn is_same_but_name(&self, other: &Self) -> bool {
        Self { changed: self.changed, ..*other } == *self
    }

    /// Whether the last change is so much older than `time` that every change after that shows.
    pub(super) fn is_settled(&self, time: UnixNs) -> bool {
        let changed = self.changed.0.saturating_mul(1_000_000_000).saturating_add(self.changed.1);
        u64::try_from(changed).is_ok_and(|changed| changed.saturating_add(JIFFY_NS) < time.0)
    }
}

/// A file, opened for its place.
#[derive(Debug)]
pub(super) struct Program {
    place: OwnedFd,
    pub(super) content: Content,
}

impl Program {
    /// What `wanted` ran: as what the process runs, or by a name.
    pub(super) fn locate(wanted: &Wanted, clock: Clock) -> Result<Self, NoHash> {
        if let Some(program) = Self::running(&wanted.key) {
            return Ok(program);
        }
        let mut named = wanted.names.iter().filter_map(|name| Self::named(name, wanted.key.file));
        let program = named.next().ok_or(NoHash::Gone)?;
        let is_older = program.content.is_settled(clock.unix(wanted.ran));
        if is_older { Ok(program) } else { Err(NoHash::Changed) }
    }

    /// The program of a process that lives.
    pub(super) fn running(key: &HashKey) -> Option<Self> {
        let process = PathBuf::from(format!("/proc/{}", key.identity.pid));
        let program = Self::at(&process.join("exe"))?;
        // The link is resolved before this: it was that process's.
        (is_alive(key.identity) && program.is_file(key.file, &process)).then_some(program)
    }

    /// What has a name, escaped, if it is that file.
    pub(super) fn named(name: &str, file: FileId) -> Option<Self> {
        let name = unescape(name).ok()?;
        let program = Self::at(Path::new(OsStr::from_bytes(&name)))?;
        program.is_file(file, Path::new("/proc/self")).then_some(program)
    }

    fn at(path: &Path) -> Option<Self> {
        let place = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let stat = fstat(&place).ok()?;
        (stat.st_mode & S_IFMT == S_IFREG).then(|| Self { place, content: Content::of(&stat) })
    }

    /// Whether it is the file that the kernel told of. A file system of several layers or volumes shows another device
    /// with a file than its superblock has: that one stands with the mount, in the list of `process`, which sees it.
    fn is_file(&self, file: FileId, process: &Path) -> bool {
        self.content.inode == file.inode
            && (kernel_dev(self.content.dev) == file.dev || self.superblock_dev(process) == Some(file.dev))
    }

    fn superblock_dev(&self, process: &Path) -> Option<u32> {
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.place.as_raw_fd())).ok()?;
        let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        let mut mounts = Vec::new();
        let list = File::open(process.join("mountinfo")).ok()?;
        list.take(MOUNTS_BYTES_MAX).read_to_end(&mut mounts).ok()?;
        mount_dev(&String::from_utf8_lossy(&mounts), mount)
    }

    /// Opens it for reading. Never waits for whoever holds a lease on it, and takes no terminal.
    pub(super) fn open(&self) -> Result<File, NoHash> {
        // A place cannot be read, and naming it through /proc opens that very file.
        let path = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened: Result<OwnedFd, Errno> = open(path.as_str(), flags, Mode::empty());
        opened.map(File::from).map_err(|_| NoHash::Unreadable)
    }
}

/// The device of a mount in a list as `/proc/PID/mountinfo` has it: number, number of the mount above, MAJOR:MINOR.
fn mount_dev(mounts: &str, mount: &str) -> Option<u32> {
    let dev = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some(mount)).then(|| fields.nth(1)).flatten()
    })?;
    let (major, minor) = dev.split_once(':')?;
    Some(kernel_dev(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?)))
}

/// Whether that very process lives.
pub(super) fn is_alive(identity: Identity) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", identity.pid)).unwrap_or_default();
    // Behind the name, which may contain anything: state, and 18 fields on the start time in clock ticks.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let started: Option<u64> =
        fields.split_ascii_whitespace().nth(START_FIELD).and_then(|ticks| ticks.parse().ok());
    started == Some(identity.start_time_ns / TICK_NS)
}

/// The longest time between ticks of the kernel's timer (`CONFIG_HZ=100`): so far back a time of change may lie.
const JIFFY_NS: u64 = 10_000_000;
/// Bytes of a list of mounts read at most.
const MOUNTS_BYTES_MAX: u64 = 4 << 20;
/// Field 22 of `proc_pid_stat(5)`, counted from the one behind the name.
const START_FIELD: usize = 19;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::seed::own_identity;

    fn own_key() -> HashKey {
        use std::os::unix::fs::MetadataExt as _;
        let exe = std::fs::metadata("/proc/self/exe").unwrap();
        let file = FileId { dev: kernel_dev(exe.dev()), inode: exe.ino() };
        HashKey { identity: own_identity().unwrap(), file, is_named: false }
    }

    #[test]
    fn a_file_of_that_number_on_another_device_is_not_the_program() {
        let key = own_key();
        assert!(Program::running(&key).is_some());
        let elsewhere = FileId { dev: key.file.dev ^ 1, ..key.file };
        assert!(Program::running(&HashKey { file: elsewhere, ..key }).is_none());
    }

    #[test]
    fn the_mount_tells_the_device_of_the_superblock() {
        let mounts =
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n210 21 0:46 /x /m\\040n rw shared:1 - overlay o rw\n";
        let check = |mount: &str, expected: Option<u32>| assert_eq!(mount_dev(mounts, mount), expected);
        check("21", Some(8 << 20 | 1));
        check("210", Some(46));
        check("2", None);
        check("", None);
        let own = Program::at(Path::new("/proc/self/exe")).unwrap();
        assert!(own.superblock_dev(Path::new("/proc/self")).is_some());
    }

    #[test]
    fn a_change_is_old_only_when_no_later_one_could_have_its_time() {
        let content = Content { dev: 1, inode: 1, size: 1, modified: (0, 0), changed: (5, 7) };
        let check = |time: u64, expected: bool| assert_eq!(content.is_settled(UnixNs(time)), expected);
        check(5_000_000_007, false);
        check(5_010_000_007, false);
        check(5_010_000_008, true);
        let before = Content { changed: (-1, 0), ..content };
        assert!(!before.is_settled(UnixNs(u64::MAX)), "before 1970: no clock was set");
    }
}
