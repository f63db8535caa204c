//! The probe table: which hooks an event can have, best first. Data only: loading is [`super::load`]'s. It may
//! call nothing.

use sensor_event::{Kind, Part, Tier};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// Where a kernel function begins.
    Fentry(&'static str),
    /// Where a kernel function returns.
    Fexit(&'static str),
    /// `tp_btf`: a tracepoint with typed arguments.
    BtfTracepoint(&'static str),
    /// A raw tracepoint.
    RawTracepoint(&'static str),
    /// The root of the cgroup v2 hierarchy, where packets leave.
    CgroupEgress,
    /// An iterator over all tasks, which is read once, when what tells of processes is attached.
    TaskIterator,
}

impl Attach {
    /// The name shown to an operator.
    pub(super) fn name(self) -> String {
        match self {
            Self::Fentry(function) => format!("fentry/{function}"),
            Self::Fexit(function) => format!("fexit/{function}"),
            Self::BtfTracepoint(name) => format!("tp_btf/{name}"),
            Self::RawTracepoint(name) => format!("raw_tp/{name}"),
            Self::CgroupEgress => "cgroup_skb/egress".to_owned(),
            Self::TaskIterator => "iter/task".to_owned(),
        }
    }

    /// Which family it is of.
    pub(super) const fn tier(self) -> Tier {
        match self {
            Self::Fentry(_) | Self::Fexit(_) => Tier::LSM,
            Self::BtfTracepoint(_) | Self::RawTracepoint(_) | Self::CgroupEgress | Self::TaskIterator => {
                Tier::TRACEPOINT
            }
        }
    }
}

/// A program of the object and where it goes. Several parts can share one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Its name in the object.
    pub(super) name: &'static str,
    /// Where it goes.
    pub(super) attach: Attach,
}

/// One way to see a part: programs that work together. All of one tier, in the order in which they are attached: the one
/// that emits comes last.
pub(super) type Hook = &'static [Program];

/// One part and its hooks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// What is seen.
    pub(super) part: Part,
    /// Whether the agent refuses to start without it.
    pub(super) is_required: bool,
    /// Best first: the first that attaches is used.
    pub(super) hooks: &'static [Hook],
}

const fn tracepoint(event: &'static str, name: &'static str) -> Program {
    Program { name, attach: Attach::BtfTracepoint(event) }
}

const fn fentry(function: &'static str, name: &'static str) -> Program {
    Program { name, attach: Attach::Fentry(function) }
}

const fn fexit(function: &'static str, name: &'static str) -> Program {
    Program { name, attach: Attach::Fexit(function) }
}

/// The one program at the exit of system calls.
const SYS_EXIT: Program = Program { name: "sys_exit", attach: Attach::RawTracepoint("sys_exit") };
const TASKS: Program = Program { name: "process_seen", attach: Attach::TaskIterator };
const DATAGRAM: Program = Program { name: "datagram_out", attach: Attach::CgroupEgress };
/// Refused before 5.19: completions do not carry their request there.
const RING: Program = tracepoint("io_uring_complete", "uring_complete");
/// Takes the changes of state of TCP sockets.
pub(super) const SOCKET_STATE: Program = tracepoint("inet_sock_set_state", "sock_set_state");
/// Its twin, for changes of state that interrupt it.
pub(super) const SOCKET_STATE_NESTED: Program = tracepoint("inet_sock_set_state", "sock_set_state_nested");

// Hooks of the better tier. Where a function changed its name, that one comes first: what was attached before a failure
// cannot be used again.
const OPEN_ROOT: Program = fexit("do_file_open_root", "lsm_open_root");
const OPEN: Hook = &[fexit("do_filp_open", "lsm_open"), OPEN_ROOT];
const OPEN_BY_FILE: Hook = &[fexit("do_file_open", "lsm_open_file"), OPEN_ROOT];
const UNLINK_BEGIN: Program = fexit("security_path_unlink", "lsm_unlink_begin");
const UNLINK_END: Program = fexit("vfs_unlink", "lsm_unlink");
const RMDIR_BEGIN: Program = fexit("security_path_rmdir", "lsm_rmdir_begin");
const UNLINK: Hook = &[fexit("do_rmdir", "lsm_rmdir"), RMDIR_BEGIN, UNLINK_BEGIN, UNLINK_END];
const UNLINK_BY_FILENAME: Hook =
    &[fexit("filename_rmdir", "lsm_rmdir_by_filename"), RMDIR_BEGIN, UNLINK_BEGIN, UNLINK_END];
const RENAME: Hook = &[fexit("security_path_rename", "lsm_rename_begin"), fexit("vfs_rename", "lsm_rename")];
const LINK: Hook = &[fexit("security_path_link", "lsm_link_begin"), fexit("vfs_link", "lsm_link")];
const SYMLINK: Hook =
    &[fexit("security_path_symlink", "lsm_symlink_begin"), fexit("vfs_symlink", "lsm_symlink")];
const MKDIR: Hook = &[fexit("security_path_mkdir", "lsm_mkdir_begin"), fexit("vfs_mkdir", "lsm_mkdir")];
const CHMOD: Hook = &[fexit("chmod_common", "lsm_chmod")];
const CHOWN: Hook = &[fexit("chown_common", "lsm_chown")];
const TRUNCATE: Hook = &[fexit("vfs_truncate", "lsm_truncate"), fexit("do_truncate", "lsm_ftruncate")];
const SETXATTR: Hook = &[
    fentry("mnt_want_write", "lsm_want_write"),
    fentry("mnt_want_write_file", "lsm_want_write_file"),
    fexit("vfs_setxattr", "lsm_setxattr"),
];
/// Since 6.2 access control lists do not go the way of other attributes.
const SETXATTR_AND_ACL: Hook = &[
    fexit("vfs_set_acl", "lsm_set_acl"),
    fentry("mnt_want_write", "lsm_want_write"),
    fentry("mnt_want_write_file", "lsm_want_write_file"),
    fexit("vfs_setxattr", "lsm_setxattr"),
];
const MOUNT: Hook = &[
    fexit("path_mount", "lsm_mount"),
    fentry("path_umount", "lsm_umount_begin"),
    fexit("path_umount", "lsm_umount"),
];
const MOVE_MOUNT_BEGIN: Program = fexit("security_move_mount", "lsm_move_mount_begin");
const MOVE_MOUNT_X64: Program = fexit("__x64_sys_move_mount", "lsm_move_mount_x64");
const MOVE_MOUNT_BOTH: Hook =
    &[fexit("__ia32_sys_move_mount", "lsm_move_mount_ia32"), MOVE_MOUNT_X64, MOVE_MOUNT_BEGIN];
const MOVE_MOUNT: Hook = &[MOVE_MOUNT_X64, MOVE_MOUNT_BEGIN];
const MOVE_MOUNT_ARM64: Hook = &[fexit("__arm64_sys_move_mount", "lsm_move_mount_arm64"), MOVE_MOUNT_BEGIN];
const EXEC_MAP: Hook = &[fexit("vm_mmap_pgoff", "lsm_mmap"), fexit("security_file_mprotect", "lsm_mprotect")];
const CONNECT_UDP: Hook = &[fexit("inet_dgram_connect", "lsm_connect_datagram")];
const CONNECT_UNIX: Hook = &[
    fexit("unix_stream_connect", "lsm_connect_unix"),
    fexit("unix_dgram_connect", "lsm_connect_unix_datagram"),
];
const LISTEN_UNIX: Hook = &[fexit("unix_listen", "lsm_listen_unix")];
const ACCEPT: Hook = &[fexit("inet_csk_accept", "lsm_accept")];
const ACCEPT_UNIX: Hook = &[fexit("unix_accept", "lsm_accept_unix")];
const SOCKET: Hook = &[fexit("__sock_create", "lsm_socket")];
const CREDS: Hook = &[fentry("commit_creds", "lsm_creds")];
const PTRACE: Hook = &[fexit("ptrace_attach", "lsm_ptrace"), fexit("security_ptrace_traceme", "lsm_traceme")];

/// Every part, in the order in which the hooks of a tier are attached: exits before forks before execs, so that no
/// process can be seen to start whose end is then missed.
pub(super) const PROBES: &[Probe] = &[
    required(Kind::EXIT, &[&[tracepoint("sched_process_exit", "process_exit")]]),
    required(Kind::FORK, &[&[tracepoint("sched_process_fork", "process_fork")]]),
    required(Kind::EXEC, &[&[tracepoint("sched_process_exec", "process_exec")]]),
    optional(Kind::CGROUP, &[&[tracepoint("cgroup_mkdir", "cgroup_mkdir")]]),
    // After these: a process that starts during the scan is seen by them as well.
    optional(Kind::PROCESS, &[&[TASKS]]),
    required(Kind::CONNECT, &[&[SOCKET_STATE_NESTED, SOCKET_STATE]]),
    required(Kind::CONNECT_RESULT, &[&[SOCKET_STATE_NESTED, SOCKET_STATE]]),
    part(Part::CONNECT_UDP, &[CONNECT_UDP, &[SYS_EXIT]]),
    part(Part::CONNECT_UNIX, &[CONNECT_UNIX, &[SYS_EXIT]]),
    required(
        Kind::LISTEN,
        &[
            &[RING, SOCKET_STATE_NESTED, SOCKET_STATE, SYS_EXIT],
            &[SOCKET_STATE_NESTED, SOCKET_STATE, SYS_EXIT],
        ],
    ),
    part(Part::LISTEN_UNIX, &[LISTEN_UNIX, &[SYS_EXIT]]),
    required(Kind::ACCEPT, &[ACCEPT, &[SYS_EXIT]]),
    part(Part::ACCEPT_UNIX, &[ACCEPT_UNIX, &[SYS_EXIT]]),
    optional(Kind::SEND, &[&[DATAGRAM]]),
    required(Kind::SOCKET, &[SOCKET, &[SYS_EXIT]]),
    required(Kind::FILE_OPEN, &[OPEN, OPEN_BY_FILE, &[SYS_EXIT]]),
    Probe { part: Part::FILE_OPEN_RING, is_required: false, hooks: &[OPEN, OPEN_BY_FILE, &[RING]] },
    required(Kind::FILE_UNLINK, &[UNLINK, UNLINK_BY_FILENAME, &[SYS_EXIT]]),
    required(Kind::FILE_RENAME, &[RENAME, &[SYS_EXIT]]),
    required(Kind::FILE_LINK, &[LINK, &[SYS_EXIT]]),
    required(Kind::FILE_SYMLINK, &[SYMLINK, &[SYS_EXIT]]),
    required(Kind::FILE_MKDIR, &[MKDIR, &[SYS_EXIT]]),
    required(Kind::FILE_CHMOD, &[CHMOD, &[SYS_EXIT]]),
    required(Kind::FILE_CHOWN, &[CHOWN, &[SYS_EXIT]]),
    required(Kind::FILE_TRUNCATE, &[TRUNCATE, &[SYS_EXIT]]),
    required(Kind::FILE_SETXATTR, &[SETXATTR_AND_ACL, SETXATTR, &[SYS_EXIT]]),
    required(Kind::MOUNT, &[MOUNT, &[SYS_EXIT]]),
    part(Part::MOUNT_MOVED, &[MOVE_MOUNT_BOTH, MOVE_MOUNT, MOVE_MOUNT_ARM64, &[SYS_EXIT]]),
    required(Kind::EXEC_MAP, &[EXEC_MAP, &[SYS_EXIT]]),
    required(Kind::MEMFD, &[&[SYS_EXIT]]),
    required(Kind::CREDS, &[CREDS, &[SYS_EXIT]]),
    required(Kind::PTRACE, &[PTRACE, &[SYS_EXIT]]),
    required(Kind::VM_WRITE, &[&[SYS_EXIT]]),
    required(Kind::BPF_LOAD, &[&[SYS_EXIT]]),
    required(Kind::NAMESPACE, &[&[SYS_EXIT]]),
    optional(Kind::MODULE_LOAD, &[&[tracepoint("module_load", "module_load")]]),
];

const fn required(kind: Kind, hooks: &'static [Hook]) -> Probe {
    part(Part::of(kind), hooks)
}

const fn part(part: Part, hooks: &'static [Hook]) -> Probe {
    Probe { part, is_required: true, hooks }
}

/// What a kernel can do without: control groups, modules.
const fn optional(kind: Kind, hooks: &'static [Hook]) -> Probe {
    Probe { part: Part::of(kind), is_required: false, hooks }
}
