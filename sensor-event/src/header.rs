//! The fixed part that every record starts with: what kind it is, when it happened, and who did it. Not the
//! decoder, and not the bodies. It may call zerocopy only.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Layout version of [`Header`] and every body. A reader refuses any other.
pub const RECORD_VERSION: u8 = 2;

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
    /// A connect: of TCP when it was started (result [`crate::CONNECT_PENDING`]), of UDP and unix sockets when it is done
    /// ([`crate::SocketBody`]).
    pub const CONNECT: Self = Self(4);
    /// A TCP connect that was started earlier has ended ([`crate::SocketBody`], same `socket`). The header's
    /// process is whoever the kernel interrupted, not the caller.
    pub const CONNECT_RESULT: Self = Self(5);
    /// A TCP or unix socket began to listen ([`crate::SocketBody`]).
    pub const LISTEN: Self = Self(6);
    /// A file was opened ([`crate::FileBody`]). Opens that change nothing, and failed ones, on request only.
    pub const FILE_OPEN: Self = Self(7);
    /// A name was removed ([`crate::NameBody`]).
    pub const FILE_UNLINK: Self = Self(8);
    /// A name was changed ([`crate::RenameBody`]).
    pub const FILE_RENAME: Self = Self(9);
    /// A connection was accepted ([`crate::SocketBody`]).
    pub const ACCEPT: Self = Self(10);
    /// The first UDP datagram from a socket to a peer ([`crate::SocketBody`]).
    pub const SEND: Self = Self(11);
    /// A raw or packet socket was made ([`crate::SocketBody`]).
    pub const SOCKET: Self = Self(12);
    /// A file got another name ([`crate::RenameBody`]).
    pub const FILE_LINK: Self = Self(13);
    /// A symbolic link was made ([`crate::NameBody`]).
    pub const FILE_SYMLINK: Self = Self(14);
    /// A directory was made ([`crate::NameBody`]).
    pub const FILE_MKDIR: Self = Self(15);
    /// Permission bits were changed ([`crate::NameBody`]).
    pub const FILE_CHMOD: Self = Self(16);
    /// Owner or group was changed ([`crate::NameBody`]).
    pub const FILE_CHOWN: Self = Self(17);
    /// A file was cut or extended, other than by an open ([`crate::NameBody`]).
    pub const FILE_TRUNCATE: Self = Self(18);
    /// An extended attribute was set ([`crate::NameBody`]).
    pub const FILE_SETXATTR: Self = Self(19);
    /// Something was mounted, moved or unmounted ([`crate::NameBody`]).
    pub const MOUNT: Self = Self(20);
    /// A file was mapped executable, other than by an exec ([`crate::FileBody`]).
    pub const EXEC_MAP: Self = Self(21);
    /// Credentials changed other than by an exec ([`crate::CredsBody`]).
    pub const CREDS: Self = Self(22);
    /// A process was attached to ([`crate::TargetBody`]).
    pub const PTRACE: Self = Self(23);
    /// A kernel module was loaded ([`crate::ModuleBody`]).
    pub const MODULE_LOAD: Self = Self(24);
    /// A BPF program was loaded ([`crate::BpfBody`]).
    pub const BPF_LOAD: Self = Self(25);
    /// A process left or entered namespaces ([`crate::NamespaceBody`]).
    pub const NAMESPACE: Self = Self(26);
    /// A file without a name was made by `memfd_create` ([`crate::FileBody`]).
    pub const MEMFD: Self = Self(27);
    /// Another process's memory was written by `process_vm_writev` ([`crate::TargetBody`]).
    pub const VM_WRITE: Self = Self(28);
    /// A process that was there when the agent started ([`crate::ExecBody`]).
    pub const PROCESS: Self = Self(29);
    /// A control group was made in the cgroup v2 hierarchy ([`crate::CgroupBody`]).
    pub const CGROUP: Self = Self(30);

    /// Number of kinds plus one: kinds are `1..KINDS_LEN`, index 0 counts unknown ones.
    pub const KINDS_LEN: usize = 31;

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
        Self::ACCEPT,
        Self::SEND,
        Self::SOCKET,
        Self::FILE_LINK,
        Self::FILE_SYMLINK,
        Self::FILE_MKDIR,
        Self::FILE_CHMOD,
        Self::FILE_CHOWN,
        Self::FILE_TRUNCATE,
        Self::FILE_SETXATTR,
        Self::MOUNT,
        Self::EXEC_MAP,
        Self::CREDS,
        Self::PTRACE,
        Self::MODULE_LOAD,
        Self::BPF_LOAD,
        Self::NAMESPACE,
        Self::MEMFD,
        Self::VM_WRITE,
        Self::PROCESS,
        Self::CGROUP,
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
            Self::ACCEPT => "accept",
            Self::SEND => "send",
            Self::SOCKET => "socket",
            Self::FILE_LINK => "file_link",
            Self::FILE_SYMLINK => "file_symlink",
            Self::FILE_MKDIR => "file_mkdir",
            Self::FILE_CHMOD => "file_chmod",
            Self::FILE_CHOWN => "file_chown",
            Self::FILE_TRUNCATE => "file_truncate",
            Self::FILE_SETXATTR => "file_setxattr",
            Self::MOUNT => "mount",
            Self::EXEC_MAP => "exec_map",
            Self::CREDS => "creds",
            Self::PTRACE => "ptrace",
            Self::MODULE_LOAD => "module_load",
            Self::BPF_LOAD => "bpf_load",
            Self::NAMESPACE => "namespace",
            Self::MEMFD => "memfd",
            Self::VM_WRITE => "vm_write",
            Self::PROCESS => "process",
            Self::CGROUP => "cgroup",
            _ => "unknown",
        }
    }

    /// The ring that carries this kind.
    #[must_use]
    pub const fn ring(self) -> Ring {
        match self {
            Self::EXEC
            | Self::FORK
            | Self::EXIT
            | Self::CREDS
            | Self::PTRACE
            | Self::MODULE_LOAD
            | Self::BPF_LOAD
            | Self::NAMESPACE
            | Self::MEMFD
            | Self::VM_WRITE
            | Self::PROCESS
            | Self::CGROUP => Ring::Lifecycle,
            _ => Ring::Activity,
        }
    }
}

/// The two rings: a flood of file or network records cannot push out process records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Process and privilege records.
    Lifecycle,
    /// File and network records.
    Activity,
}

/// Which family of hook produced a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Tier(pub u8);

impl Tier {
    /// fentry and fexit programs on `security_*`, `vfs_*` and protocol functions: kernel objects.
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
