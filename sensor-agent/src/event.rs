//! Kernel facts as owned values: a decoded record with its bytes turned into text, once, at the edge. Not
//! enrichment: nothing here knows another record. It may call the event and baseline (text) crates.

mod arguments;
mod convert;
mod file;
pub mod names;
mod network;
pub mod path;
mod privilege;

pub use arguments::Arguments;
pub use file::{FileOpen, Name, Rename};
pub use network::{ConnectResult, Socket};
pub use path::KernelPath;
pub use privilege::{BpfLoad, Creds, ModuleLoad, Namespace, Target};
use sensor_event::{ExecFlags, Kind, Namespaces};

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
    /// A connect: of TCP when it was started, of UDP and unix sockets when it is done.
    Connect(Socket),
    /// A TCP connect that was started earlier has ended.
    ConnectResult(Socket),
    /// A socket began to listen.
    Listen(Socket),
    /// A connection was accepted.
    Accept(Socket),
    /// The first UDP datagram from a socket to a peer.
    Send(Socket),
    /// A raw or packet socket was made.
    Socket(Socket),
    /// A file was opened.
    FileOpen(FileOpen),
    /// A file was mapped executable.
    ExecMap(FileOpen),
    /// A file without a name was made.
    Memfd(FileOpen),
    /// A name was removed.
    Unlink(Name),
    /// A symbolic link was made.
    Symlink(Name),
    /// A directory was made.
    Mkdir(Name),
    /// Permission bits were changed.
    Chmod(Name),
    /// Owner or group was changed.
    Chown(Name),
    /// A file was cut or extended.
    Truncate(Name),
    /// An extended attribute was set.
    Setxattr(Name),
    /// Something was mounted, moved or unmounted.
    Mount(Name),
    /// A name was changed.
    Rename(Rename),
    /// A file got another name.
    Link(Rename),
    /// Credentials changed other than by an exec.
    Creds(Creds),
    /// A process was attached to.
    Ptrace(Target),
    /// Another process's memory was written.
    VmWrite(Target),
    /// A kernel module was loaded.
    ModuleLoad(ModuleLoad),
    /// A BPF program was loaded.
    BpfLoad(BpfLoad),
    /// A process left or entered namespaces.
    Namespace(Namespace),
    /// A process that was there when the agent started.
    Process(Exec),
    /// A control group was made.
    Cgroup(Cgroup),
    /// A kind this build does not know.
    Unknown(u16),
}

impl Body {
    /// The kind of the record that told of it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Exec(_) => Kind::EXEC,
            Self::Fork(_) => Kind::FORK,
            Self::Exit(_) => Kind::EXIT,
            Self::Connect(_) => Kind::CONNECT,
            Self::ConnectResult(_) => Kind::CONNECT_RESULT,
            Self::Listen(_) => Kind::LISTEN,
            Self::Accept(_) => Kind::ACCEPT,
            Self::Send(_) => Kind::SEND,
            Self::Socket(_) => Kind::SOCKET,
            Self::FileOpen(_) => Kind::FILE_OPEN,
            Self::ExecMap(_) => Kind::EXEC_MAP,
            Self::Memfd(_) => Kind::MEMFD,
            Self::Unlink(_) => Kind::FILE_UNLINK,
            Self::Symlink(_) => Kind::FILE_SYMLINK,
            Self::Mkdir(_) => Kind::FILE_MKDIR,
            Self::Chmod(_) => Kind::FILE_CHMOD,
            Self::Chown(_) => Kind::FILE_CHOWN,
            Self::Truncate(_) => Kind::FILE_TRUNCATE,
            Self::Setxattr(_) => Kind::FILE_SETXATTR,
            Self::Mount(_) => Kind::MOUNT,
            Self::Rename(_) => Kind::FILE_RENAME,
            Self::Link(_) => Kind::FILE_LINK,
            Self::Creds(_) => Kind::CREDS,
            Self::Ptrace(_) => Kind::PTRACE,
            Self::VmWrite(_) => Kind::VM_WRITE,
            Self::ModuleLoad(_) => Kind::MODULE_LOAD,
            Self::BpfLoad(_) => Kind::BPF_LOAD,
            Self::Namespace(_) => Kind::NAMESPACE,
            Self::Process(_) => Kind::PROCESS,
            Self::Cgroup(_) => Kind::CGROUP,
            Self::Unknown(number) => Kind(*number),
        }
    }
}

/// A control group that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// cgroup v2 id.
    pub id: u64,
    /// cgroup v2 path.
    pub path: KernelPath,
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
    pub argv: Arguments,
    /// Arguments the kernel counted.
    pub argc: u32,
    /// Inode number of the executable.
    pub inode: u64,
    /// Device of the executable.
    pub dev: u32,
    /// Mode bits of the executable.
    pub mode: u32,
    /// Effective capabilities of the new program.
    pub cap_effective: u64,
    /// Permitted capabilities of the new program.
    pub cap_permitted: u64,
    /// Where it runs.
    pub namespaces: Namespaces,
    /// Controlling terminal, escaped; empty without one.
    pub tty: String,
    /// Properties.
    pub flags: ExecFlags,
    /// Low half of the kernel's count of execs; 0 when unknown.
    pub exec_id: u16,
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
    /// `CLONE_NEW*` bits of the namespaces that are not the caller's.
    pub new_namespaces: u32,
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
