//! File facts. Not what is fresh or ephemeral about them over time. It may call the event crate.

use super::KernelPath;
use sensor_event::{FileFlags, NameBody};

/// An opened, mapped or nameless file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOpen {
    /// The file.
    pub path: KernelPath,
    /// Inode number.
    pub inode: u64,
    /// Device.
    pub dev: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// `O_*` flags of an open, `PROT_*` of a mapping, `MFD_*` of a memfd.
    pub open_flags: u32,
    /// 0 or a positive errno.
    pub result: i32,
    /// Properties.
    pub flags: FileFlags,
}

impl FileOpen {
    /// Whether the open can have changed the file, or made it.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        let is_writable = self.open_flags & O_ACCMODE != 0 || self.open_flags & O_TRUNC != 0;
        self.result == 0 && (is_writable || self.is_created())
    }

    /// Whether the open made the file.
    #[must_use]
    pub const fn is_created(&self) -> bool {
        self.flags.contains(FileFlags::CREATED) || self.is_unnamed()
    }

    /// Whether the open made a name that must not exist before, or a file without a name.
    #[must_use]
    pub const fn is_ephemeral(&self) -> bool {
        let exclusive = self.flags.contains(FileFlags::CREATED) && self.open_flags & O_EXCL != 0;
        exclusive || self.is_unnamed()
    }

    /// What the open was for, in a word: `create`, `truncate`, `append`, `write` or `read`.
    #[must_use]
    pub const fn intent(&self) -> &'static str {
        if self.is_created() {
            "create"
        } else if self.open_flags & O_TRUNC != 0 {
            "truncate"
        } else if self.open_flags & O_ACCMODE == 0 {
            "read"
        } else if self.open_flags & O_APPEND != 0 {
            "append"
        } else {
            "write"
        }
    }

    const fn is_unnamed(&self) -> bool {
        self.open_flags & O_TMPFILE_BIT != 0
    }
}

/// An operation on one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name, made absolute.
    pub path: KernelPath,
    /// 0 or a positive errno.
    pub result: i32,
    /// Properties.
    pub flags: FileFlags,
    /// By kind, as [`sensor_event::NameBody`] has it: mode, ids, length or flags.
    pub value: u64,
    /// By kind: what a symbolic link says, an attribute's name, or a mount's source; escaped.
    pub text: String,
    /// By kind: a mount's file system type; escaped.
    pub second_text: String,
    /// Inode number of what has the name, 0 when unknown.
    pub inode: u64,
    /// Its device, 0 when unknown.
    pub dev: u32,
}

impl Name {
    /// Whether it is a directory that was removed.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        self.flags.contains(FileFlags::DIRECTORY)
    }

    /// Of a mount: whether something was unmounted.
    #[must_use]
    pub const fn is_unmount(&self) -> bool {
        self.value & NameBody::UNMOUNT != 0
    }

    /// Of a chown: the new user and group, each when it changes.
    #[must_use]
    pub fn owner(&self) -> (Option<u32>, Option<u32>) {
        let set = |id: u64| u32::try_from(id & u64::from(u32::MAX)).ok().filter(|id| *id != u32::MAX);
        (set(self.value), set(self.value >> 32))
    }
}

/// A changed name, or another name of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The name before, made absolute.
    pub from: KernelPath,
    /// The name after, made absolute.
    pub to: KernelPath,
    /// 0 or a positive errno.
    pub result: i32,
    /// `RENAME_*` flags; of a link `AT_*` flags.
    pub rename_flags: u32,
    /// Inode number of what has the old name, 0 when unknown.
    pub inode: u64,
    /// Its device, 0 when unknown.
    pub dev: u32,
    /// Properties.
    pub flags: FileFlags,
}

const O_ACCMODE: u32 = 0o3;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
const O_EXCL: u32 = 0o200;
/// `__O_TMPFILE`, of the generic ABI that x86-64, arm64 and riscv64 share.
const O_TMPFILE_BIT: u32 = 0o20_000_000;
