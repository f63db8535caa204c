//! How a path travels in a record. Not path policy: nothing is normalised here. It may call `core` only.
//!
//! The kernel walks from the file's dentry up to the root of its mount namespace and appends one NUL-terminated
//! component per step, so the section reads *leaf first*: `b"nginx\0sbin\0usr\0"` is `/usr/sbin/nginx`. That
//! keeps the kernel side at one bounded append per step, and the agent turns it round. A name that only exists
//! in the caller's memory ([`PathFlags::CALLER`]) is carried forwards, as given.
//!
//! The walk does not stop at the task's own root: a process in a chroot would otherwise choose how its files are
//! called. `root_components` says how many components lie below the task's root, so that the process's own view
//! can be shown too.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Steps of a walk at most: one per component and one per mount crossed. A longer path carries
/// [`PathFlags::TRUNCATED`].
pub const PATH_COMPONENTS_MAX: usize = 64;

/// Properties of a path section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PathFlags(pub u16);

impl PathFlags {
    /// The walk hit its bound: components nearest the root are missing.
    pub const TRUNCATED: Self = Self(1);
    /// The inode has no name left (`i_nlink == 0`) or the dentry is unhashed.
    pub const DELETED: Self = Self(1 << 1);
    /// The bytes come from the caller's memory: its word, not the kernel's.
    pub const CALLER: Self = Self(1 << 2);
    /// The mount belongs to no namespace: memfd, pipe, socket, or a detached mount.
    pub const NO_NAMESPACE: Self = Self(1 << 3);
    /// A read failed on the way: the bytes up to there are real, the rest is unknown.
    pub const FAULT: Self = Self(1 << 4);
    /// The abstract name of a unix socket: bytes as given, without the leading NUL; no file.
    pub const ABSTRACT: Self = Self(1 << 5);
    /// The hook knew no mount: the walk went to the root of the file system, wherever that is mounted.
    pub const NO_MOUNT: Self = Self(1 << 6);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Length and properties of one path section of the tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PathRef {
    /// Bytes in the tail.
    pub len: u16,
    /// Properties.
    pub flags: PathFlags,
    /// Components between the file and the task's root; [`PathRef::ROOT_NOT_MET`] when the walk did not meet it.
    pub root_components: u16,
    /// Always zero.
    pub reserved: u16,
}

impl PathRef {
    /// Value of `root_components` when the task's root was not on the way.
    pub const ROOT_NOT_MET: u16 = u16::MAX;
}

/// A path section of a decoded record, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathSection<'a> {
    /// Length and properties as the kernel wrote them.
    pub reference: PathRef,
    /// The section: leaf-first components, or the caller's bytes.
    pub bytes: &'a [u8],
}

impl<'a> PathSection<'a> {
    /// Components from the leaf to the root. Empty for a caller's path.
    pub fn leaf_first(self) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone {
        let walked = if self.reference.flags.contains(PathFlags::CALLER) { &[][..] } else { self.bytes };
        let walked = walked.strip_suffix(&[0]).unwrap_or(walked);
        walked.split(|byte| *byte == 0).filter(|component| !component.is_empty())
    }

    /// The bytes the caller gave, up to the first NUL; `None` for a path the kernel walked.
    #[must_use]
    pub fn caller(self) -> Option<&'a [u8]> {
        let end = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(self.bytes.len());
        self.reference.flags.contains(PathFlags::CALLER).then(|| &self.bytes[..end])
    }
}
