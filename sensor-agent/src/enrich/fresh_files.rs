//! Files that a workload made or wrote a short while ago, by inode and by name. Not a file index: it forgets. It may
//! call `event` and the baseline crate's types.
//!
//! What a linker or a package manager writes is there to be executed: it is remembered for its names, and is not fresh.
//! That does not hold for `strip` and `objcopy`: what they write is whatever program they were given.
//! Nor does it for what is fresh already and is written in place: a log appended to a program leaves that program.
//!
//! A file can have several names. A write through any of them is a write of the file: it is told by the name that was
//! used, and every other name that a `link` record told of is as fresh.

use crate::enrich::Image;
use crate::enrich::recent::Recent;
use crate::event::{BootNs, Exec, FileOpen, Name, Rename};
use sensor_baseline::Workload;

/// Recently made files, bounded and counted.
#[derive(Debug)]
pub struct FreshFiles {
    by_inode: Recent<(Workload, u32, u64), ()>,
    by_path: Recent<(Workload, String), Fresh>,
    /// By each name of a file the names that it was linked from or to.
    links: Recent<(Workload, String), Vec<String>>,
    /// Directories that were made, and whether nobody but their owner may enter.
    folders: Recent<(Workload, String), Folder>,
}

/// What is known of a directory that was made.
#[derive(Clone, Copy, Debug)]
struct Folder {
    is_private: bool,
}

/// What is known of a name that was made or written.
#[derive(Clone, Copy, Debug)]
struct Fresh {
    is_ephemeral: bool,
    /// A program that makes programs wrote it.
    is_product: bool,
}

impl Default for FreshFiles {
    fn default() -> Self {
        Self {
            by_inode: Recent::new(FRESH_FILES_MAX, FRESH_NS_MAX),
            by_path: Recent::new(FRESH_FILES_MAX, FRESH_NS_MAX),
            links: Recent::new(FRESH_FILES_MAX, FRESH_NS_MAX),
            folders: Recent::new(FRESH_FILES_MAX, FRESH_NS_MAX),
        }
    }
}

impl FreshFiles {
    /// A file was opened for writing. Returns whether its name is ephemeral: made with `O_EXCL`, now or before, or below
    /// a directory made with mode 0700.
    pub fn wrote(&mut self, workload: &Workload, file: &FileOpen, writer: &Image, now: BootNs) -> bool {
        let path = &file.path.text;
        let was_ephemeral = self.is_name_ephemeral(workload, path, now);
        let is_made_so = file.is_ephemeral() || (was_ephemeral && !file.is_created());
        let inode = (file.dev, file.inode);
        let is_product =
            makes_programs(writer) && (file.is_created() || !self.is_written(workload, path, inode, now));
        let fresh = Fresh { is_ephemeral: is_made_so, is_product };
        self.put(workload, path, inode, fresh, now);
        is_made_so || self.is_below_private(workload, path, now)
    }

    /// A file that [`Self::wrote`] was told of was opened for writing once more, by a program that makes none: it is as
    /// fresh as then, by every name. Nothing but time has changed.
    pub fn wrote_again(&mut self, workload: &Workload, path: &str, (dev, inode): (u32, u64), now: BootNs) {
        self.by_inode.renew(&(workload.clone(), dev, inode), now);
        for name in self.names(workload, path, now) {
            self.by_path.renew(&(workload.clone(), name), now);
        }
    }

    /// A file was cut or extended by name or descriptor. Returns whether its name is ephemeral.
    pub fn truncated(&mut self, workload: &Workload, name: &Name, writer: &Image, now: BootNs) -> bool {
        let is_ephemeral = self.is_name_ephemeral(workload, &name.path.text, now);
        let inode = (name.dev, name.inode);
        let is_product = makes_programs(writer) && !self.is_written(workload, &name.path.text, inode, now);
        self.put(workload, &name.path.text, inode, Fresh { is_ephemeral, is_product }, now);
        is_ephemeral || self.is_below_private(workload, &name.path.text, now)
    }

    /// A directory was made. When nobody but its owner may enter, its name is ephemeral, and every name below it; its
    /// own is returned.
    pub fn made_folder(&mut self, workload: &Workload, mkdir: &Name, now: BootNs) -> bool {
        if mkdir.path.is_incomplete() {
            return self.is_ephemeral(workload, &mkdir.path.text, now);
        }
        let is_private = mkdir.value & OTHERS_MODE == 0;
        self.folders.put((workload.clone(), mkdir.path.text.clone()), Folder { is_private }, now);
        is_private || self.is_ephemeral(workload, &mkdir.path.text, now)
    }

    /// Whether a name that was removed is ephemeral. It stays so: a program that picks a free name with `O_EXCL` may
    /// remove it and use it for what no event shows, such as a symbolic link.
    #[must_use]
    pub fn is_ephemeral(&self, workload: &Workload, path: &str, now: BootNs) -> bool {
        self.is_name_ephemeral(workload, path, now) || self.is_below_private(workload, path, now)
    }

    /// A name was changed: the new one is as fresh, and stays when the old one was ephemeral. Returns whether the old
    /// one was. With `RENAME_EXCHANGE` the old name is the other file's afterwards.
    pub fn renamed(&mut self, workload: &Workload, rename: &Rename, now: BootNs) -> bool {
        let (from, to) = (&rename.from.text, &rename.to.text);
        let was_below_private = self.is_below_private(workload, from, now);
        let is_exchange = rename.rename_flags & RENAME_EXCHANGE != 0;
        let key = |path: &String| (workload.clone(), path.clone());
        self.rename_links(workload, from, to, is_exchange, now);
        let (old, displaced) = (self.by_path.remove(&key(from)), self.by_path.remove(&key(to)));
        let is_inode_fresh = self.is_inode_fresh(workload, rename.dev, rename.inode, now);
        if old.is_some() || is_inode_fresh {
            let is_product = !is_inode_fresh && old.is_some_and(|old| old.is_product);
            self.by_path.put(key(to), Fresh { is_ephemeral: false, is_product }, now);
        }
        if let Some(displaced) = displaced.filter(|_| is_exchange) {
            self.by_path.put(key(from), displaced, now);
        }
        was_below_private || old.is_some_and(|old| old.is_ephemeral)
    }

    /// A file got another name: it is as fresh by that, and so it stays. Returns whether the new name is ephemeral.
    pub fn linked(&mut self, workload: &Workload, link: &Rename, now: BootNs) -> bool {
        let (from, to) = (&link.from.text, &link.to.text);
        let mut names = self.names(workload, from, now);
        names.push(to.clone());
        names.truncate(NAMES_MAX);
        for name in names.clone() {
            self.links.put((workload.clone(), name), names.clone(), now);
        }
        let key = |path: &String| (workload.clone(), path.clone());
        let old = self.by_path.find(&key(from), now).copied();
        let is_inode_fresh = self.is_inode_fresh(workload, link.dev, link.inode, now);
        let is_ephemeral = self.is_below_private(workload, to, now);
        if old.is_some() || is_inode_fresh {
            let is_product = !is_inode_fresh && old.is_some_and(|old| old.is_product);
            self.by_path.put(key(to), Fresh { is_ephemeral: false, is_product }, now);
        }
        is_ephemeral
    }

    /// Which names of a path are folders that the workload made, as `Traits::folders_made` has them. What is used stays
    /// known.
    pub fn folders_in(&mut self, workload: &Workload, path: &str, now: BootNs) -> u64 {
        if self.folders.is_empty() {
            return 0;
        }
        let ends = path.match_indices('/').skip(1).map(|(at, _)| at).chain([path.len()]);
        let mut made = 0;
        for (place, end) in ends.take(u64::BITS as usize).enumerate() {
            let key = (workload.clone(), path[..end].to_owned());
            if let Some(folder) = self.folders.find(&key, now).copied() {
                self.folders.put(key, folder, now);
                made |= 1 << place;
            }
        }
        made
    }

    /// Whether the workload made or wrote what is executed: the program, or the script. Of a script the record has the
    /// interpreter's inode only: it is known by name.
    #[must_use]
    pub fn is_fresh(&self, workload: &Workload, exec: &Exec, now: BootNs) -> bool {
        let script = || self.by_path.find(&(workload.clone(), exec.filename_absolute.clone()), now);
        let is_script_fresh = exec.is_script() && script().is_some_and(|script| !script.is_product);
        is_script_fresh || self.is_inode_fresh(workload, exec.dev, exec.inode, now)
    }

    /// Entries that went to make room.
    #[must_use]
    pub const fn evicted_count(&self) -> u64 {
        self.by_inode.evicted_count()
            + self.by_path.evicted_count()
            + self.links.evicted_count()
            + self.folders.evicted_count()
    }

    fn put(&mut self, workload: &Workload, path: &str, file: (u32, u64), fresh: Fresh, now: BootNs) {
        let inode = (workload.clone(), file.0, file.1);
        if fresh.is_product {
            self.by_inode.remove(&inode);
        } else if file.1 != 0 {
            self.by_inode.put(inode, (), now);
        }
        for other in self.names(workload, path, now).into_iter().filter(|other| other != path) {
            let is_ephemeral = self.is_name_ephemeral(workload, &other, now);
            self.by_path.put((workload.clone(), other), Fresh { is_ephemeral, ..fresh }, now);
        }
        self.by_path.put((workload.clone(), path.to_owned()), fresh, now);
    }

    /// Every known name of the file that has this one, this one among them.
    fn names(&self, workload: &Workload, path: &str, now: BootNs) -> Vec<String> {
        let linked = self.links.find(&(workload.clone(), path.to_owned()), now).cloned();
        linked.unwrap_or_else(|| vec![path.to_owned()])
    }

    fn rename_links(&mut self, workload: &Workload, from: &str, to: &str, is_exchange: bool, now: BootNs) {
        let key = |path: &str| (workload.clone(), path.to_owned());
        let (moved, displaced) = (self.links.remove(&key(from)), self.links.remove(&key(to)));
        self.replace_name(workload, moved, from, Some(to), now);
        self.replace_name(workload, displaced, to, is_exchange.then_some(from), now);
    }

    /// Gives a file of several names another one in place of `old`, or none.
    fn replace_name(
        &mut self,
        workload: &Workload,
        names: Option<Vec<String>>,
        old: &str,
        new: Option<&str>,
        now: BootNs,
    ) {
        let Some(mut names) = names else { return };
        names.retain(|name| name != old);
        names.extend(new.map(str::to_owned));
        for name in names.clone() {
            self.links.put((workload.clone(), name), names.clone(), now);
        }
    }

    fn is_name_ephemeral(&self, workload: &Workload, path: &str, now: BootNs) -> bool {
        let key = (workload.clone(), path.to_owned());
        self.by_path.find(&key, now).is_some_and(|name| name.is_ephemeral)
    }

    /// Whether the file, by its name or inode, was written by a program that makes none.
    fn is_written(&self, workload: &Workload, path: &str, (dev, inode): (u32, u64), now: BootNs) -> bool {
        let name = self.by_path.find(&(workload.clone(), path.to_owned()), now);
        name.is_some_and(|name| !name.is_product) || self.is_inode_fresh(workload, dev, inode, now)
    }

    fn is_inode_fresh(&self, workload: &Workload, dev: u32, inode: u64, now: BootNs) -> bool {
        inode != 0 && self.by_inode.find(&(workload.clone(), dev, inode), now).is_some()
    }

    fn is_below_private(&self, workload: &Workload, path: &str, now: BootNs) -> bool {
        if self.folders.is_empty() {
            return false;
        }
        let folders = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
        let mut private = folders.filter(|folder| {
            let key = (workload.clone(), (*folder).to_owned());
            self.folders.find(&key, now).is_some_and(|folder| folder.is_private)
        });
        private.next().is_some()
    }
}

/// Whether a program writes programs for a living: it is installed, and called as linkers and package managers are, with or
/// without a target in front (`x86_64-linux-gnu-ld.bfd`). Who can have these write something could run it as well.
#[must_use]
pub fn makes_programs(writer: &Image) -> bool {
    let name = writer.base_name();
    let is_called = |maker: &&str| {
        name.strip_suffix(*maker).is_some_and(|front| front.is_empty() || front.ends_with('-'))
    };
    writer.is_installed() && MAKERS.iter().any(is_called)
}

const MAKERS: [&str; 10] =
    ["ld", "ld.bfd", "ld.gold", "ld.lld", "lld", "mold", "rustc", "dpkg", "rpm", "apk"];
/// Files remembered at most, by inode and by name each.
const FRESH_FILES_MAX: usize = 16_384;
/// How long a file is fresh: ten minutes.
const FRESH_NS_MAX: u64 = 600_000_000_000;
/// Names of one file remembered at most.
const NAMES_MAX: usize = 8;
/// Permission bits of everybody but the owner.
const OTHERS_MODE: u64 = 0o077;
/// `include/uapi/linux/fs.h`.
const RENAME_EXCHANGE: u32 = 2;
