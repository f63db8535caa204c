//! The probe table: which hooks an event can have, best first. Data only: loading is [`super::load`]'s. It may
//! call nothing.

use sensor_event::{Kind, Tier};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// `tp_btf`: a tracepoint with typed arguments.
    BtfTracepoint(&'static str),
    /// A raw tracepoint.
    RawTracepoint(&'static str),
    /// A hook of the table that this build has no program for yet.
    Planned(&'static str),
}

impl Attach {
    /// The name shown to an operator.
    pub(super) fn name(self) -> String {
        match self {
            Self::BtfTracepoint(name) => format!("tp_btf/{name}"),
            Self::RawTracepoint(name) => format!("raw_tp/{name}"),
            Self::Planned(name) => name.to_owned(),
        }
    }
}

/// One way to see an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// Which family.
    pub(super) tier: Tier,
    /// How.
    pub(super) attach: Attach,
    /// The program in the object. Several events can share one.
    pub(super) program: &'static str,
}

/// Families of events that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Process,
    Network,
    File,
}

/// One event and its hooks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// The kind of its records.
    pub(super) kind: Kind,
    /// Which family it belongs to.
    pub(super) family: Family,
    /// Whether the agent refuses to start without it.
    pub(super) is_required: bool,
    /// Best first: the first that attaches is used.
    pub(super) hooks: &'static [Hook],
}

const fn tracepoint(name: &'static str, program: &'static str) -> Hook {
    Hook { tier: Tier::TRACEPOINT, attach: Attach::BtfTracepoint(name), program }
}

const fn raw_tracepoint(name: &'static str, program: &'static str) -> Hook {
    Hook { tier: Tier::TRACEPOINT, attach: Attach::RawTracepoint(name), program }
}

/// A better hook that a later version is to have: the table names it, so that `check` can.
const fn planned(name: &'static str) -> Hook {
    Hook { tier: Tier::LSM, attach: Attach::Planned(name), program: "" }
}

const EXEC: &[Hook] =
    &[planned("lsm/bprm_committed_creds"), tracepoint("sched_process_exec", "process_exec")];
const FORK: &[Hook] = &[tracepoint("sched_process_fork", "process_fork")];
const EXIT: &[Hook] = &[tracepoint("sched_process_exit", "process_exit")];
const CONNECT: &[Hook] = &[planned("lsm/socket_connect"), STATE];
const CONNECT_RESULT: &[Hook] = &[STATE];
const LISTEN: &[Hook] = &[planned("lsm/socket_listen"), STATE];
const OPEN: &[Hook] = &[planned("lsm/file_open"), SYS_EXIT];
const UNLINK: &[Hook] = &[planned("lsm/path_unlink"), SYS_EXIT];
const RENAME: &[Hook] = &[planned("lsm/path_rename"), SYS_EXIT];

const STATE: Hook = tracepoint("inet_sock_set_state", "sock_set_state");
const SYS_EXIT: Hook = raw_tracepoint("sys_exit", "sys_exit");

/// Every event, in the order in which the hooks are attached: exits before forks before execs, so that no
/// process can be seen to start whose end is then missed.
pub(super) const PROBES: &[Probe] = &[
    process(Kind::EXIT, EXIT),
    process(Kind::FORK, FORK),
    process(Kind::EXEC, EXEC),
    network(Kind::CONNECT, CONNECT),
    network(Kind::CONNECT_RESULT, CONNECT_RESULT),
    network(Kind::LISTEN, LISTEN),
    file(Kind::FILE_OPEN, OPEN),
    file(Kind::FILE_UNLINK, UNLINK),
    file(Kind::FILE_RENAME, RENAME),
];

const fn process(kind: Kind, hooks: &'static [Hook]) -> Probe {
    Probe { kind, family: Family::Process, is_required: true, hooks }
}

const fn network(kind: Kind, hooks: &'static [Hook]) -> Probe {
    Probe { kind, family: Family::Network, is_required: true, hooks }
}

const fn file(kind: Kind, hooks: &'static [Hook]) -> Probe {
    Probe { kind, family: Family::File, is_required: true, hooks }
}
