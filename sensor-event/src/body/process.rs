//! Bodies of process records. Not those of credentials. It may call zerocopy only.

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
    /// The executable lies in the upper layer of an overlay: it was written after the image was made.
    pub const UPPER_LAYER: Self = Self(1 << 5);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Inode numbers of a task's namespaces, as `/proc/PID/ns` shows them; 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Namespaces {
    /// Mount.
    pub mnt: u32,
    /// Process ids, of the task's children.
    pub pid: u32,
    /// Network.
    pub net: u32,
    /// Users, of the task's credentials.
    pub user: u32,
    /// Host name.
    pub uts: u32,
    /// System V and POSIX interprocess communication.
    pub ipc: u32,
    /// Control groups.
    pub cgroup: u32,
    /// Clocks, of the task itself.
    pub time: u32,
}

/// [`crate::Kind::EXEC`] and [`crate::Kind::PROCESS`]. Tail: exe, cwd, cgroup, filename, interpreter, argv.
///
/// Of a [`crate::Kind::PROCESS`], which the start-up scan sees instead of the hook of the exec, `filename`, `interpreter`
/// and `argv` are empty, `argc` is 0, and the header describes that process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExecBody {
    /// Inode number of the executable.
    pub inode: u64,
    /// Effective capabilities of the new program, one bit each (`include/uapi/linux/capability.h`).
    pub cap_effective: u64,
    /// Permitted capabilities of the new program.
    pub cap_permitted: u64,
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
    /// The namespaces the program runs in.
    pub namespaces: Namespaces,
    /// Name of the controlling terminal (`tty_struct.name`), NUL padded; empty without one.
    pub tty: [u8; 16],
    /// Bytes of `bprm->filename`: the path given to `execve`, as the kernel copied it. Without NUL.
    pub filename_len: u16,
    /// Bytes of `bprm->interp`, 0 unless [`ExecFlags::SCRIPT`]. Without NUL.
    pub interpreter_len: u16,
    /// Bytes of argv: NUL-terminated arguments.
    pub argv_len: u16,
    /// Low half of `task->self_exec_id`, which every exec raises; 0 when unknown.
    pub exec_id: u16,
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
    /// `CLONE_NEW*` bits of the namespaces in which the child differs from the caller.
    pub new_namespaces: u32,
    /// Always zero.
    pub reserved: u32,
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

/// [`crate::Kind::CGROUP`]. The header describes who made it, who need not be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CgroupBody {
    /// Its cgroup v2 id, as [`crate::Header::cgroup_id`].
    pub id: u64,
    /// The node, walked over kernfs: leaf-first names.
    pub path: PathRef,
}

const _: () = assert!(size_of::<ExecBody>() == 120, "exec body has no hidden padding");
const _: () = assert!(size_of::<ForkBody>() == 40, "fork body has no hidden padding");
const _: () = assert!(size_of::<ExitBody>() == 8, "exit body has no hidden padding");
const _: () = assert!(size_of::<CgroupBody>() == 16, "cgroup body has no hidden padding");
