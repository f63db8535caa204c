//! Files that a workload made or wrote a short while ago, by inode and by name. Not a file index: it forgets. It may
//! call `event` and the baseline crate's types.

use crate::enrich::recent::Recent;
use crate::event::{BootNs, Exec, FileOpen, Rename};
use sensor_baseline::Workload;

/// Recently made files, bounded and counted.
#[derive(Debug)]
pub struct FreshFiles {
    by_inode: Recent<(Workload, u32, u64), ()>,
    by_path: Recent<(Workload, String), Name>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    is_ephemeral: bool,
}

impl Default for FreshFiles {
    fn default() -> Self {
        Self {
            by_inode: Recent::new(FRESH_FILES_MAX, FRESH_NS_MAX),
            by_path: Recent::new(FRESH_FILES_MAX, FRESH_NS_MAX),
        }
    }
}

impl FreshFiles {
    /// A file was opened for writing. Returns whether its name is ephemeral: made with `O_EXCL`, now or before.
    pub fn wrote(&mut self, workload: &Workload, file: &FileOpen, now: BootNs) -> bool {
        let key = (workload.clone(), file.path.text.clone());
        let was_ephemeral = self.by_path.find(&key, now).is_some_and(|name| name.is_ephemeral);
        let is_ephemeral = file.is_ephemeral() || (was_ephemeral && !file.is_created());
        self.by_inode.put((workload.clone(), file.dev, file.inode), (), now);
        self.by_path.put(key, Name { is_ephemeral }, now);
        is_ephemeral
    }

    /// Whether a name that was removed is ephemeral. It stays so: a program that picks a free name with `O_EXCL` may
    /// remove it and use it for what no event shows, such as a symbolic link.
    #[must_use]
    pub fn is_ephemeral(&self, workload: &Workload, path: &str, now: BootNs) -> bool {
        let key = (workload.clone(), path.to_owned());
        self.by_path.find(&key, now).is_some_and(|name| name.is_ephemeral)
    }

    /// A name was changed: the new one is as fresh, and stays when the old one was ephemeral. Returns whether the old
    /// one was.
    pub fn renamed(&mut self, workload: &Workload, rename: &Rename, now: BootNs) -> bool {
        let Some(old) = self.by_path.remove(&(workload.clone(), rename.from.text.clone())) else {
            return false;
        };
        self.by_path.put((workload.clone(), rename.to.text.clone()), Name { is_ephemeral: false }, now);
        old.is_ephemeral
    }

    /// Whether the workload made or wrote what is executed: the program, or the script.
    #[must_use]
    pub fn is_fresh(&self, workload: &Workload, exec: &Exec, now: BootNs) -> bool {
        let is_script_fresh = exec.is_script()
            && self.by_path.find(&(workload.clone(), exec.filename_absolute.clone()), now).is_some();
        is_script_fresh || self.by_inode.find(&(workload.clone(), exec.dev, exec.inode), now).is_some()
    }

    /// Entries that went to make room.
    #[must_use]
    pub const fn evicted_count(&self) -> u64 {
        self.by_inode.evicted_count() + self.by_path.evicted_count()
    }
}

/// Files remembered at most, by inode and by name each.
const FRESH_FILES_MAX: usize = 16_384;
/// How long a file is fresh: ten minutes.
const FRESH_NS_MAX: u64 = 600_000_000_000;
