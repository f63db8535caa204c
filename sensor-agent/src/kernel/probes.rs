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

const EXEC: Hook = tracepoint("sched_process_exec", "process_exec");
const FORK: Hook = tracepoint("sched_process_fork", "process_fork");
const EXIT: Hook = tracepoint("sched_process_exit", "process_exit");

/// Every event, in the order in which the hooks are attached: exits before forks before execs, so that no
/// process can be seen to start whose end is then missed.
pub(super) const PROBES: &[Probe] = &[
    Probe { kind: Kind::EXIT, family: Family::Process, is_required: true, hooks: &[EXIT] },
    Probe { kind: Kind::FORK, family: Family::Process, is_required: true, hooks: &[FORK] },
    Probe { kind: Kind::EXEC, family: Family::Process, is_required: true, hooks: &[EXEC] },
];
