//! The fixed part that every record starts with: what kind it is, when it happened, and who did it. Not the
//! decoder, and not the bodies. It may call zerocopy only.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Layout version of [`Header`] and every body. A reader refuses any other.
pub const RECORD_VERSION: u8 = 1;

/// Upper bound of one record in bytes, header and tail included. The kernel side counts a longer one as
/// [`crate::LossReason::Oversize`]; the decoder refuses it.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// What a record describes. An integer newtype and not an enum: an unknown kind is a value, not undefined.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Kind(pub u16);

impl Kind {
    /// A program was executed and is about to run its first instruction ([`crate::ExecBody`]).
    pub const EXEC: Self = Self(1);
    /// A process (not a thread) was created ([`crate::ForkBody`]).
    pub const FORK: Self = Self(2);
    /// The last thread of a process ended ([`crate::ExitBody`]).
    pub const EXIT: Self = Self(3);
    /// A TCP connect was started ([`crate::SocketBody`], result [`crate::CONNECT_PENDING`]).
    pub const CONNECT: Self = Self(4);
    /// A TCP connect that was started earlier has ended ([`crate::SocketBody`], same `socket`). The header's
    /// process is whoever the kernel interrupted, not the caller.
    pub const CONNECT_RESULT: Self = Self(5);
    /// A TCP socket began to listen ([`crate::SocketBody`]).
    pub const LISTEN: Self = Self(6);
    /// A file was opened for writing, or created ([`crate::FileBody`]).
    pub const FILE_OPEN: Self = Self(7);
    /// A name was removed ([`crate::UnlinkBody`]).
    pub const FILE_UNLINK: Self = Self(8);
    /// A name was changed ([`crate::RenameBody`]).
    pub const FILE_RENAME: Self = Self(9);

    /// Number of kinds plus one: kinds are `1..KINDS_LEN`, index 0 counts unknown ones.
    pub const KINDS_LEN: usize = 10;

    /// Every known kind, in numeric order.
    pub const ALL: [Self; Self::KINDS_LEN - 1] = [
        Self::EXEC,
        Self::FORK,
        Self::EXIT,
        Self::CONNECT,
        Self::CONNECT_RESULT,
        Self::LISTEN,
        Self::FILE_OPEN,
        Self::FILE_UNLINK,
        Self::FILE_RENAME,
    ];

    /// The name used in counters, logs and on the command line; `"unknown"` for a kind this build does not know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EXEC => "exec",
            Self::FORK => "fork",
            Self::EXIT => "exit",
            Self::CONNECT => "connect",
            Self::CONNECT_RESULT => "connect_result",
            Self::LISTEN => "listen",
            Self::FILE_OPEN => "file_open",
            Self::FILE_UNLINK => "file_unlink",
            Self::FILE_RENAME => "file_rename",
            _ => "unknown",
        }
    }

    /// The ring that carries this kind.
    #[must_use]
    pub const fn ring(self) -> Ring {
        match self {
            Self::EXEC | Self::FORK | Self::EXIT => Ring::Lifecycle,
            _ => Ring::Activity,
        }
    }
}

/// The two rings: a flood of file or network records cannot push out process records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Process (and later privilege) records.
    Lifecycle,
    /// File and network records.
    Activity,
}

/// Which family of hook produced a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Tier(pub u8);

impl Tier {
    /// LSM or fentry/fexit on `security_*`.
    pub const LSM: Self = Self(1);
    /// Tracepoints: `tp_btf` and raw tracepoints.
    pub const TRACEPOINT: Self = Self(2);
    /// Made by the agent itself, from /proc.
    pub const PROCFS: Self = Self(3);
}

/// First bytes of every record.
///
/// The process fields describe the acting process (the one running when the hook fired), except where the
/// kind says otherwise. Process identity is (`pid`, `start_time_ns`), never `pid` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Bytes of the whole record, tail included.
    pub len: u32,
    /// What the record describes.
    pub kind: Kind,
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Where it was seen.
    pub tier: Tier,
    /// Time of the hook: nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// `task->group_leader->start_boottime`: nanoseconds of `CLOCK_BOOTTIME`.
    pub start_time_ns: u64,
    /// The parent's (`real_parent`'s group leader's) `start_boottime`; with `ppid` the parent's identity.
    pub parent_start_time_ns: u64,
    /// Id of the cgroup v2 node (`cgroup_get_id`), equal to the inode number of its directory.
    pub cgroup_id: u64,
    /// `task->tgid`, in the initial pid namespace.
    pub pid: u32,
    /// `task->pid`, in the initial pid namespace.
    pub tid: u32,
    /// `task->real_parent->tgid`, in the initial pid namespace.
    pub ppid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Audit login user id, `u32::MAX` when unset or not built into the kernel.
    pub loginuid: u32,
    /// Audit session id, `u32::MAX` when unset or not built into the kernel.
    pub session_id: u32,
    /// Inode number of the mount namespace, 0 when unknown.
    pub mnt_ns: u32,
    /// Inode number of the pid namespace of the task's children, 0 when unknown.
    pub pid_ns: u32,
    /// CPU the hook ran on.
    pub cpu: u32,
    /// `task->comm`, NUL padded. Bytes, not text.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Header>() == 104, "the kernel programs and the agent agree on the header");
