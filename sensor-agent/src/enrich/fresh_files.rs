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
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};

/// Recently made files, bounded and counted.
#[derive(Debug)]
pub struct FreshFiles {
    keys: Keys,
    by_inode: Recent<Key, ()>,
    by_path: Recent<Key, Fresh>,
    /// By each name of a file the names that it was linked from or to.
    links: Recent<Key, Vec<Key>>,
    /// Directories that were made, and whether nobody but their owner may enter.
    folders: Recent<Key, Folder>,
}

/// Stands for a name, or for a device and inode, of a workload: a hash whose key nobody else has, so that nobody can make
/// two that are the same. Names are long, and each operation asks for several.
type Key = u64;

/// Makes keys.
#[derive(Debug, Default)]
struct Keys(RandomState);

impl Keys {
    fn name(&self, workload: &Workload, path: &str) -> Key {
        let mut hasher = self.of(workload);
        hasher.write(path.as_bytes());
        hasher.finish()
    }

    fn inode(&self, workload: &Workload, (dev, inode): (u32, u64)) -> Key {
        let mut hasher = self.of(workload);
        (dev, inode).hash(&mut hasher);
        hasher.finish()
    }

    /// The keys of the names above and of the path, as [`Self::name`] makes them; the root is none.
    fn upwards<'a>(&self, workload: &Workload, path: &'a str) -> impl Iterator<Item = Key> + use<'a> {
        let mut hasher = self.of(workload);
        let mut written = 0;
        let ends = path.match_indices('/').skip(1).map(|(at, _)| at).chain([path.len()]);
        ends.map(move |end| {
            hasher.write(&path.as_bytes()[written..end]);
            written = end;
            hasher.finish()
        })
    }

    fn of(&self, workload: &Workload) -> <RandomState as std::hash::BuildHasher>::Hasher {
        let mut hasher = self.0.build_hasher();
        workload.hash(&mut hasher);
        hasher
    }
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
            keys: Keys::default(),
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
        let (name, inode) = (self.keys.name(workload, path), self.inode_key(workload, file.dev, file.inode));
        let was_ephemeral = self.is_name_ephemeral(name, now);
        let is_made_so = file.is_ephemeral() || (was_ephemeral && !file.is_created());
        let is_product = makes_programs(writer) && (file.is_created() || !self.is_written(name, inode, now));
        let fresh = Fresh { is_ephemeral: is_made_so, is_product };
        self.put(name, inode, fresh, now);
        is_made_so || self.is_below_private(workload, path, now)
    }

    /// A file that [`Self::wrote`] was told of was opened for writing once more, by a program that makes none: it is as
    /// fresh as then, by every name. Nothing but time has changed.
    pub fn wrote_again(&mut self, workload: &Workload, path: &str, file: (u32, u64), now: BootNs) {
        self.by_inode.renew(&self.keys.inode(workload, file), now);
        let name = self.keys.name(workload, path);
        self.by_path.renew(&name, now);
        for other in self.links.find(&name, now).into_iter().flatten() {
            self.by_path.renew(other, now);
        }
    }

    /// A file was cut or extended by name or descriptor. Returns whether its name is ephemeral.
    pub fn truncated(&mut self, workload: &Workload, name: &Name, writer: &Image, now: BootNs) -> bool {
        let path = &name.path.text;
        let (key, inode) = (self.keys.name(workload, path), self.inode_key(workload, name.dev, name.inode));
        let is_ephemeral = self.is_name_ephemeral(key, now);
        let is_product = makes_programs(writer) && !self.is_written(key, inode, now);
        self.put(key, inode, Fresh { is_ephemeral, is_product }, now);
        is_ephemeral || self.is_below_private(workload, path, now)
    }

    /// A directory was made. When nobody but its owner may enter, its name is ephemeral, and every name below it; its
    /// own is returned.
    pub fn made_folder(&mut self, workload: &Workload, mkdir: &Name, now: BootNs) -> bool {
        let path = &mkdir.path.text;
        if mkdir.path.is_incomplete() {
            return self.is_ephemeral(workload, path, now);
        }
        let is_private = mkdir.value & OTHERS_MODE == 0;
        self.folders.put(self.keys.name(workload, path), Folder { is_private }, now);
        is_private || self.is_ephemeral(workload, path, now)
    }

    /// Whether a name that was removed is ephemeral. It stays so: a program that picks a free name with `O_EXCL` may
    /// remove it and use it for what no event shows, such as a symbolic link.
    #[must_use]
    pub fn is_ephemeral(&self, workload: &Workload, path: &str, now: BootNs) -> bool {
        self.is_name_ephemeral(self.keys.name(workload, path), now)
            || self.is_below_private(workload, path, now)
    }

    /// A name was changed: the new one is as fresh, and stays when the old one was ephemeral. Returns whether the old
    /// one was. With `RENAME_EXCHANGE` the old name is the other file's afterwards.
    pub fn renamed(&mut self, workload: &Workload, rename: &Rename, now: BootNs) -> bool {
        let was_below_private = self.is_below_private(workload, &rename.from.text, now);
        let is_exchange = rename.rename_flags & RENAME_EXCHANGE != 0;
        let from = self.keys.name(workload, &rename.from.text);
        let to = self.keys.name(workload, &rename.to.text);
        self.rename_links(from, to, is_exchange, now);
        let (old, displaced) = (self.by_path.remove(&from), self.by_path.remove(&to));
        let is_inode_fresh = self.is_inode_fresh(self.inode_key(workload, rename.dev, rename.inode), now);
        if old.is_some() || is_inode_fresh {
            let is_product = !is_inode_fresh && old.is_some_and(|old| old.is_product);
            self.by_path.put(to, Fresh { is_ephemeral: false, is_product }, now);
        }
        if let Some(displaced) = displaced.filter(|_| is_exchange) {
            self.by_path.put(from, displaced, now);
        }
        was_below_private || old.is_some_and(|old| old.is_ephemeral)
    }

    /// A file got another name: it is as fresh by that, and so it stays. Returns whether the new name is ephemeral.
    pub fn linked(&mut self, workload: &Workload, link: &Rename, now: BootNs) -> bool {
        let from = self.keys.name(workload, &link.from.text);
        let to = self.keys.name(workload, &link.to.text);
        let mut names = self.links.find(&from, now).cloned().unwrap_or_else(|| vec![from]);
        names.push(to);
        names.truncate(NAMES_MAX);
        for name in names.clone() {
            self.links.put(name, names.clone(), now);
        }
        let old = self.by_path.find(&from, now).copied();
        let is_inode_fresh = self.is_inode_fresh(self.inode_key(workload, link.dev, link.inode), now);
        if old.is_some() || is_inode_fresh {
            let is_product = !is_inode_fresh && old.is_some_and(|old| old.is_product);
            self.by_path.put(to, Fresh { is_ephemeral: false, is_product }, now);
        }
        self.is_below_private(workload, &link.to.text, now)
    }

    /// Which names of a path are folders that the workload made, as `Traits::folders_made` has them. What is used stays
    /// known.
    pub fn folders_in(&mut self, workload: &Workload, path: &str, now: BootNs) -> u64 {
        if self.folders.is_empty() {
            return 0;
        }
        let mut made = 0;
        for (place, key) in self.keys.upwards(workload, path).take(u64::BITS as usize).enumerate() {
            if self.folders.find(&key, now).is_some() {
                self.folders.renew(&key, now);
                made |= 1 << place;
            }
        }
        made
    }

    /// Whether the workload made or wrote what is executed: the program, or the script. Of a script the record has the
    /// interpreter's inode only: it is known by name.
    #[must_use]
    pub fn is_fresh(&self, workload: &Workload, exec: &Exec, now: BootNs) -> bool {
        let script = || self.by_path.find(&self.keys.name(workload, &exec.filename_absolute), now);
        let is_script_fresh = exec.is_script() && script().is_some_and(|script| !script.is_product);
        is_script_fresh || self.is_inode_fresh(self.inode_key(workload, exec.dev, exec.inode), now)
    }

    /// Entries that went to make room.
    #[must_use]
    pub const fn evicted_count(&self) -> u64 {
        self.by_inode.evicted_count()
            + self.by_path.evicted_count()
            + self.links.evicted_count()
            + self.folders.evicted_count()
    }

    /// `None` of a file whose inode is not known.
    fn inode_key(&self, workload: &Workload, dev: u32, inode: u64) -> Option<Key> {
        (inode != 0).then(|| self.keys.inode(workload, (dev, inode)))
    }

    /// The file is as fresh by its other names; each stays ephemeral for itself.
    fn put(&mut self, name: Key, inode: Option<Key>, fresh: Fresh, now: BootNs) {
        match inode {
            Some(inode) if fresh.is_product => drop(self.by_inode.remove(&inode)),
            Some(inode) => self.by_inode.put(inode, (), now),
            None => {}
        }
        for other in self.links.find(&name, now).into_iter().flatten().filter(|other| **other != name) {
            let is_ephemeral = self.by_path.find(other, now).is_some_and(|known| known.is_ephemeral);
            self.by_path.put(*other, Fresh { is_ephemeral, ..fresh }, now);
        }
        self.by_path.put(name, fresh, now);
    }

    fn rename_links(&mut self, from: Key, to: Key, is_exchange: bool, now: BootNs) {
        let (moved, displaced) = (self.links.remove(&from), self.links.remove(&to));
        self.replace_name(moved, from, Some(to), now);
        self.replace_name(displaced, to, is_exchange.then_some(from), now);
    }

    /// Gives a file of several names another one in place of `old`, or none.
    fn replace_name(&mut self, names: Option<Vec<Key>>, old: Key, new: Option<Key>, now: BootNs) {
        let Some(mut names) = names else { return };
        names.retain(|name| *name != old);
        names.extend(new);
        for name in names.clone() {
            self.links.put(name, names.clone(), now);
        }
    }

    fn is_name_ephemeral(&self, name: Key, now: BootNs) -> bool {
        self.by_path.find(&name, now).is_some_and(|name| name.is_ephemeral)
    }

    /// Whether the file, by its name or inode, was written by a program that makes none.
    fn is_written(&self, name: Key, inode: Option<Key>, now: BootNs) -> bool {
        let name = self.by_path.find(&name, now);
        name.is_some_and(|name| !name.is_product) || self.is_inode_fresh(inode, now)
    }

    fn is_inode_fresh(&self, inode: Option<Key>, now: BootNs) -> bool {
        inode.is_some_and(|inode| self.by_inode.find(&inode, now).is_some())
    }

    fn is_below_private(&self, workload: &Workload, path: &str, now: BootNs) -> bool {
        if self.folders.is_empty() {
            return false;
        }
        let above = path.rfind('/').map_or("", |at| &path[..at]);
        let mut folders = self.keys.upwards(workload, above);
        folders.any(|key| self.folders.find(&key, now).is_some_and(|folder| folder.is_private))
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
