//! The fixed body of each kind of record. Sections of the tail follow in the order of the body's length fields.
//! Not the decoder. It may call zerocopy only.

use crate::path::PathRef;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Properties of an execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct ExecFlags(pub u32);

impl ExecFlags {
    /// `argv` was longer than the record carries.
    pub const ARGV_TRUNCATED: Self = Self(1);
    /// `argv` could not be read from the new address space.
    pub const ARGV_FAULT: Self = Self(1 << 1);
    /// The kernel started an interpreter for a script: `interpreter` differs from `filename`.
    pub const SCRIPT: Self = Self(1 << 2);
    /// The credentials changed through set-id bits or file capabilities (`bprm->secureexec`).
    pub const SECURE: Self = Self(1 << 3);
    /// The executable is a memfd.
    pub const MEMFD: Self = Self(1 << 4);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// [`crate::Kind::EXEC`]. Tail: exe, cwd, cgroup, filename, interpreter, argv.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExecBody {
    /// Inode number of the executable.
    pub inode: u64,
    /// Device of the executable's superblock, as `s_dev`.
    pub dev: u32,
    /// Mode bits of the executable's inode.
    pub mode: u32,
    /// Properties.
    pub flags: ExecFlags,
    /// Arguments counted by the kernel (`bprm->argc`).
    pub argc: u32,
    /// The file that was mapped (`bprm->file`): for a script, its interpreter.
    pub exe: PathRef,
    /// The working directory (`fs->pwd`).
    pub cwd: PathRef,
    /// The cgroup v2 node, walked over kernfs: leaf-first names.
    pub cgroup: PathRef,
    /// Bytes of `bprm->filename`: the path given to `execve`, as the kernel copied it. Without NUL.
    pub filename_len: u16,
    /// Bytes of `bprm->interp`, 0 unless [`ExecFlags::SCRIPT`]. Without NUL.
    pub interpreter_len: u16,
    /// Bytes of argv: NUL-terminated arguments.
    pub argv_len: u16,
    /// Always zero.
    pub reserved: u16,
}

/// [`crate::Kind::FORK`]. The header describes the caller; `parent` may differ (`CLONE_PARENT`). No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForkBody {
    /// The child's `start_boottime`.
    pub child_start_time_ns: u64,
    /// `start_boottime` of the child's `real_parent`.
    pub child_parent_start_time_ns: u64,
    /// The child's cgroup v2 id.
    pub child_cgroup_id: u64,
    /// The child's tgid.
    pub child_pid: u32,
    /// tgid of the child's `real_parent`.
    pub child_ppid: u32,
}

/// [`crate::Kind::EXIT`]. No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExitBody {
    /// The status `wait` reports: exit code in bits 8..16, terminating signal in bits 0..7, bit 7 core dumped.
    pub wait_status: u32,
    /// Always zero.
    pub reserved: u32,
}

/// `AF_INET` or `AF_INET6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Family(pub u16);

impl Family {
    /// IPv4: the first four bytes of an address count.
    pub const INET: Self = Self(2);
    /// IPv6.
    pub const INET6: Self = Self(10);
}

/// An address in network byte order; IPv4 in the first four bytes. IPv4 through an IPv6 socket is of
/// [`Family::INET6`], mapped (`::ffff:a.b.c.d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Address(pub [u8; 16]);

/// `result` of a [`crate::Kind::CONNECT`] record: not known yet.
pub const CONNECT_PENDING: i32 = i32::MAX;

/// [`crate::Kind::CONNECT`], [`crate::Kind::CONNECT_RESULT`], [`crate::Kind::LISTEN`]. No tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketBody {
    /// Opaque identity of the socket while it lives: joins a connect with its result.
    pub socket: u64,
    /// Local address; may be unspecified at connect.
    pub source: Address,
    /// Remote address; zero for listen.
    pub destination: Address,
    /// Local port in host byte order; 0 when the kernel has not chosen one yet.
    pub source_port: u16,
    /// Remote port in host byte order; 0 for listen.
    pub destination_port: u16,
    /// Address family.
    pub family: Family,
    /// IP protocol number (6 TCP).
    pub protocol: u16,
    /// 0 for success, a positive errno (`ECONNABORTED` for a connect that was given up without one), or
    /// [`CONNECT_PENDING`].
    pub result: i32,
    /// Always zero.
    pub reserved: u32,
}

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

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// [`crate::Kind::FILE_OPEN`]. Tail: path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileBody {
    /// Inode number.
    pub inode: u64,
    /// Device of the superblock, as `s_dev`.
    pub dev: u32,
    /// Type and permission bits of the inode (`i_mode`).
    pub mode: u32,
    /// `O_*` flags of the call.
    pub open_flags: u32,
    /// Properties.
    pub flags: FileFlags,
    /// The opened file, walked from the returned descriptor.
    pub path: PathRef,
}

/// [`crate::Kind::FILE_UNLINK`]. Tail: base, name. `name`, with or without a leading `/`, starts at `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnlinkBody {
    /// The directory the name starts at, walked by the kernel: for a relative name the working directory or the
    /// `dirfd`, for an absolute one the task's root (`fs->root`; no components outside a chroot).
    pub base: PathRef,
    /// The name.
    pub name: PathRef,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// Properties.
    pub flags: FileFlags,
}

/// [`crate::Kind::FILE_RENAME`]. Tail: old base, old name, new base, new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RenameBody {
    /// As [`UnlinkBody::base`], of the old name.
    pub old_base: PathRef,
    /// The old name.
    pub old_name: PathRef,
    /// As [`UnlinkBody::base`], of the new name.
    pub new_base: PathRef,
    /// The new name.
    pub new_name: PathRef,
    /// 0 for success or a positive errno.
    pub result: i32,
    /// `RENAME_*` flags of `renameat2`.
    pub rename_flags: u32,
}

const _: () = assert!(size_of::<ExecBody>() == 56, "exec body has no hidden padding");
const _: () = assert!(size_of::<ForkBody>() == 32, "fork body has no hidden padding");
const _: () = assert!(size_of::<ExitBody>() == 8, "exit body has no hidden padding");
const _: () = assert!(size_of::<SocketBody>() == 56, "socket body has no hidden padding");
const _: () = assert!(size_of::<FileBody>() == 32, "file body has no hidden padding");
const _: () = assert!(size_of::<UnlinkBody>() == 24, "unlink body has no hidden padding");
const _: () = assert!(size_of::<RenameBody>() == 40, "rename body has no hidden padding");
