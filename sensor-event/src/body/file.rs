//! Bodies of file records. It may call zerocopy only.

use crate::path::PathRef;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Properties of a file operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct FileFlags(pub u32);

impl FileFlags {
    /// The open created the file (`FMODE_CREATED`): the kernel's word.
    pub const CREATED: Self = Self(1);
    /// The call removed a directory.
    pub const DIRECTORY: Self = Self(1 << 1);
    /// `open_flags` come from the caller's memory (`openat2`), not from a register.
    pub const FLAGS_FROM_CALLER: Self = Self(1 << 2);
    /// The operation came through io_uring, not through a system call of its own.
    pub const IO_URING: Self = Self(1 << 3);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// [`crate::Kind::FILE_OPEN`], [`crate::Kind::EXEC_MAP`] and [`crate::Kind::MEMFD`]. Tail: path, name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileBody {
    /// Inode number; 0 for an open that failed.
    pub inode: u64,
    /// Device of the superblock, as `s_dev`.
    pub dev: u32,
    /// Type and permission bits of the inode (`i_mode`).
    pub mode: u32,
    /// `O_*` flags of an open, `PROT_*` of a mapping, `MFD_*` of a memfd.
    pub open_flags: u32,
    /// Properties.
    pub flags: FileFlags,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// Of an open that succeeded: how often what it may be judged by had changed, as far as the kernel side remembers
    /// verdicts; else 0.
    pub stamp: u32,
    /// The file, walked by the kernel; of an open that failed, the directory that `name` starts at.
    pub path: PathRef,
    /// The name given to an open that failed, as [`NameBody::name`]; else empty.
    pub name: PathRef,
}

/// Operations on one name: [`crate::Kind::FILE_UNLINK`], [`crate::Kind::FILE_SYMLINK`], [`crate::Kind::FILE_MKDIR`],
/// [`crate::Kind::FILE_CHMOD`], [`crate::Kind::FILE_CHOWN`], [`crate::Kind::FILE_TRUNCATE`],
/// [`crate::Kind::FILE_SETXATTR`] and [`crate::Kind::MOUNT`]. Tail: base, name, text, second text.
///
/// `name`, with or without a leading `/`, starts at `base`. Where the kernel gave its own object, `base` is walked, and
/// `name` is empty or one component; else `name` carries [`crate::PathFlags::CALLER`].
///
/// | kind | `value` | `text` | `second_text` |
/// |---|---|---|---|
/// | unlink | | | |
/// | symlink | | what the link says | |
/// | mkdir | mode | | |
/// | chmod | mode | | |
/// | chown | user id, and group id shifted left by 32; `u32::MAX` leaves it | | |
/// | truncate | length in bytes | | |
/// | setxattr | `XATTR_*` flags | name of the attribute | |
/// | mount | `MS_*` flags, [`NameBody::UNMOUNT`] | source | file system type |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NameBody {
    /// The directory the name starts at, walked by the kernel: for a relative name the working directory or the
    /// `dirfd`, for an absolute one the task's root (`fs->root`; no components outside a chroot).
    pub base: PathRef,
    /// The name.
    pub name: PathRef,
    /// Inode number of what has the name; 0 when unknown.
    pub inode: u64,
    /// By kind: see above.
    pub value: u64,
    /// Device of the superblock, as `s_dev`; 0 when unknown.
    pub dev: u32,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// Properties.
    pub flags: FileFlags,
    /// Bytes of the text. Without NUL.
    pub text_len: u16,
    /// Bytes of the second text. Without NUL.
    pub second_text_len: u16,
}

impl NameBody {
    /// `value` of a [`crate::Kind::MOUNT`] record: something was unmounted. A bit that is no `MS_*` flag.
    pub const UNMOUNT: u64 = 1 << 63;
}

/// Operations on two names: [`crate::Kind::FILE_RENAME`] and [`crate::Kind::FILE_LINK`] (of an existing file's new
/// name). Tail: old base, old name, new base, new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RenameBody {
    /// As [`NameBody::base`], of the old name.
    pub old_base: PathRef,
    /// The old name.
    pub old_name: PathRef,
    /// As [`NameBody::base`], of the new name.
    pub new_base: PathRef,
    /// The new name.
    pub new_name: PathRef,
    /// Inode number of what has the old name; 0 when unknown.
    pub inode: u64,
    /// Device of the superblock, as `s_dev`; 0 when unknown.
    pub dev: u32,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// `RENAME_*` flags of `renameat2`, `AT_*` flags of `linkat`.
    pub rename_flags: u32,
    /// Properties.
    pub flags: FileFlags,
}

const _: () = assert!(size_of::<FileBody>() == 48, "file body has no hidden padding");
const _: () = assert!(size_of::<NameBody>() == 48, "name body has no hidden padding");
const _: () = assert!(size_of::<RenameBody>() == 56, "rename body has no hidden padding");
