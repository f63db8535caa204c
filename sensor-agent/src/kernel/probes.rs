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
        }
    }

    /// Which family it is of.
    pub(super) const fn tier(self) -> Tier {
        match self {
            Self::Fentry(_) | Self::Fexit(_) => Tier::LSM,
            Self::BtfTracepoint(_) | Self::RawTracepoint(_) | Self::CgroupEgress => Tier::TRACEPOINT,
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

/// The one program at the exit of system calls.
const SYS_EXIT: Program = Program { name: "sys_exit", attach: Attach::RawTracepoint("sys_exit") };
const DATAGRAM: Program = Program { name: "datagram_out", attach: Attach::CgroupEgress };
const SOCKET_STATE: Program = tracepoint("inet_sock_set_state", "sock_set_state");

/// Every part, in the order in which the hooks of a tier are attached: exits before forks before execs, so that no
/// process can be seen to start whose end is then missed.
pub(super) const PROBES: &[Probe] = &[
    required(Kind::EXIT, &[&[tracepoint("sched_process_exit", "process_exit")]]),
    required(Kind::FORK, &[&[tracepoint("sched_process_fork", "process_fork")]]),
    required(Kind::EXEC, &[&[tracepoint("sched_process_exec", "process_exec")]]),
    required(Kind::CONNECT, &[&[SOCKET_STATE]]),
    required(Kind::CONNECT_RESULT, &[&[SOCKET_STATE]]),
    part(Part::CONNECT_UDP, &[&[SYS_EXIT]]),
    part(Part::CONNECT_UNIX, &[&[SYS_EXIT]]),
    required(Kind::LISTEN, &[&[SOCKET_STATE, SYS_EXIT]]),
    part(Part::LISTEN_UNIX, &[&[SYS_EXIT]]),
    required(Kind::ACCEPT, &[&[SYS_EXIT]]),
    part(Part::ACCEPT_UNIX, &[&[SYS_EXIT]]),
    optional(Kind::SEND, &[&[DATAGRAM]]),
    required(Kind::SOCKET, &[&[SYS_EXIT]]),
    required(Kind::FILE_OPEN, &[&[SYS_EXIT]]),
    required(Kind::FILE_UNLINK, &[&[SYS_EXIT]]),
    required(Kind::FILE_RENAME, &[&[SYS_EXIT]]),
    required(Kind::FILE_LINK, &[&[SYS_EXIT]]),
    required(Kind::FILE_SYMLINK, &[&[SYS_EXIT]]),
    required(Kind::FILE_MKDIR, &[&[SYS_EXIT]]),
    required(Kind::FILE_CHMOD, &[&[SYS_EXIT]]),
    required(Kind::FILE_CHOWN, &[&[SYS_EXIT]]),
    required(Kind::FILE_TRUNCATE, &[&[SYS_EXIT]]),
    required(Kind::FILE_SETXATTR, &[&[SYS_EXIT]]),
    required(Kind::MOUNT, &[&[SYS_EXIT]]),
    required(Kind::EXEC_MAP, &[&[SYS_EXIT]]),
    required(Kind::MEMFD, &[&[SYS_EXIT]]),
    required(Kind::CREDS, &[&[SYS_EXIT]]),
    required(Kind::PTRACE, &[&[SYS_EXIT]]),
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
