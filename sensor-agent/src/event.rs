//! Kernel facts as owned values: a decoded record with its bytes turned into text, once, at the edge. Not
//! enrichment: nothing here knows another record. It may call the event and baseline (text) crates.

mod convert;
pub mod path;

pub use path::KernelPath;
use sensor_event::{ExecFlags, FileFlags};
use std::net::IpAddr;

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNs(pub u64);

impl BootNs {
    /// This long after `self`, at most the end of time.
    #[must_use]
    pub const fn after(self, duration_ns: u64) -> Self {
        Self(self.0.saturating_add(duration_ns))
    }
}

/// What tells one process from every other of this boot: a pid is used again, the pair is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// tgid in the initial pid namespace.
    pub pid: u32,
    /// `start_boottime` in nanoseconds.
    pub start_time_ns: u64,
}

/// Where an event was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// LSM hook, or fentry/fexit on one.
    Lsm,
    /// Tracepoint.
    Tracepoint,
    /// Made from /proc.
    Procfs,
    /// A tier of a newer kernel object.
    Unknown,
}

impl Tier {
    /// The name used in findings and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::Tracepoint => "tracepoint",
            Self::Procfs => "procfs",
            Self::Unknown => "unknown",
        }
    }
}

/// The process that was running when the hook fired, as the record's header has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Which process.
    pub identity: Identity,
    /// Its parent at that moment.
    pub parent: Identity,
    /// Which thread of it.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Audit login user, when set.
    pub loginuid: Option<u32>,
    /// Audit session, when set.
    pub session_id: Option<u32>,
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Inode of the mount namespace, 0 when unknown.
    pub mnt_ns: u32,
    /// Inode of the pid namespace, 0 when unknown.
    pub pid_ns: u32,
    /// `task->comm`, escaped.
    pub comm: String,
}

/// One kernel fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When the hook fired.
    pub time: BootNs,
    /// What kind of hook saw it.
    pub tier: Tier,
    /// Who did it. For [`Body::ConnectResult`]: whoever the kernel interrupted.
    pub actor: Actor,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A program was executed.
    Exec(Exec),
    /// A process was created.
    Fork(Fork),
    /// A process ended.
    Exit(Exit),
    /// A TCP connect was started.
    Connect(Socket),
    /// A TCP connect that was started earlier has ended.
    ConnectResult(Socket),
    /// A TCP socket began to listen.
    Listen(Socket),
    /// A file was opened for writing, or created.
    FileOpen(FileOpen),
    /// A name was removed.
    Unlink(Unlink),
    /// A name was changed.
    Rename(Rename),
    /// A kind this build does not know.
    Unknown(u16),
}

/// An execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The file that was mapped: for a script, its interpreter.
    pub exe: KernelPath,
    /// Working directory.
    pub cwd: KernelPath,
    /// cgroup v2 path.
    pub cgroup: KernelPath,
    /// As given to `execve`, escaped.
    pub filename: String,
    /// The task's root directory, escaped: `/` unless it is in a chroot.
    pub root: String,
    /// `filename` made absolute in the mount namespace: names the script when [`Exec::is_script`].
    pub filename_absolute: String,
    /// As given on the script's first line, escaped; empty for a binary.
    pub interpreter: String,
    /// Arguments, escaped.
    pub argv: Vec<String>,
    /// Arguments the kernel counted.
    pub argc: u32,
    /// Inode number of the executable.
    pub inode: u64,
    /// Device of the executable.
    pub dev: u32,
    /// Mode bits of the executable.
    pub mode: u32,
    /// Properties.
    pub flags: ExecFlags,
}

impl Exec {
    /// Whether the kernel started an interpreter for a script.
    #[must_use]
    pub const fn is_script(&self) -> bool {
        self.flags.contains(ExecFlags::SCRIPT)
    }

    /// Whether the program has no name in any file system: a memfd, or a file that was deleted.
    #[must_use]
    pub fn is_fileless(&self) -> bool {
        // A script run by descriptor (`execveat`, or through /proc) reaches its interpreter as one: what ran has no
        // name either.
        let script_by_descriptor = self.is_script() && path::is_descriptor(&self.filename_absolute);
        self.flags.contains(ExecFlags::MEMFD) || self.exe.is_deleted() || script_by_descriptor
    }
}

/// A new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The new process.
    pub child: Identity,
    /// Its parent; not the actor with `CLONE_PARENT`.
    pub parent: Identity,
    /// Its cgroup v2 id.
    pub cgroup_id: u64,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// As `wait` reports it.
    pub wait_status: u32,
}

impl Exit {
    /// Exit code; of a killed process 128 plus the signal, as shells have it.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self.signal() {
            0 => (self.wait_status >> 8) & 0xff,
            signal => 128 + signal,
        }
    }

    /// Signal that ended the process, 0 when it ended itself.
    #[must_use]
    pub const fn signal(self) -> u32 {
        self.wait_status & 0x7f
    }
}

/// How a connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectResult {
    /// Not known yet.
    Pending,
    /// Connected.
    Established,
    /// Failed with this errno.
    Failed(i32),
}

/// A socket operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Opaque identity of the socket while it lives.
    pub socket: u64,
    /// Local address; an IPv4 address mapped into IPv6 is shown as IPv4.
    pub source: IpAddr,
    /// Local port, 0 when not chosen yet.
    pub source_port: u16,
    /// Remote address; unspecified for listen.
    pub destination: IpAddr,
    /// Remote port; 0 for listen.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// How it ended.
    pub result: ConnectResult,
}

/// A file opened for writing, or created.
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
    /// `O_*` flags.
    pub open_flags: u32,
    /// Properties.
    pub flags: FileFlags,
}

impl FileOpen {
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

    const fn is_unnamed(&self) -> bool {
        self.open_flags & O_TMPFILE_BIT != 0
    }
}

/// A removed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlink {
    /// The name, made absolute.
    pub path: KernelPath,
    /// 0 or a positive errno.
    pub result: i32,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// A changed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The name before, made absolute.
    pub from: KernelPath,
    /// The name after, made absolute.
    pub to: KernelPath,
    /// 0 or a positive errno.
    pub result: i32,
    /// `RENAME_*` flags.
    pub rename_flags: u32,
}

const O_EXCL: u32 = 0o200;
/// `__O_TMPFILE`, of the generic ABI that x86-64, arm64 and riscv64 share.
const O_TMPFILE_BIT: u32 = 0o20_000_000;
