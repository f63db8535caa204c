//! Privilege facts. Not their judgement. It may call the event crate.

use super::Identity;
use sensor_event::{Ids, Namespaces};

/// Changed credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creds {
    /// Ids before, when the hook knew them.
    pub old: Option<Ids>,
    /// Ids after.
    pub new: Ids,
    /// Effective and permitted capabilities before, when the hook knew them.
    pub old_caps: Option<(u64, u64)>,
    /// Effective and permitted capabilities after.
    pub caps: (u64, u64),
}

impl Creds {
    /// Permitted capabilities that were not there before, when the hook knew those.
    #[must_use]
    pub fn gained(&self) -> Option<u64> {
        self.old_caps.map(|(_, before)| self.caps.1 & !before)
    }

    /// Permitted capabilities that are there no more, when the hook knew those before.
    #[must_use]
    pub fn dropped(&self) -> Option<u64> {
        self.old_caps.map(|(_, before)| before & !self.caps.1)
    }
}

/// A process that another one reaches into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The target, when the hook knew it.
    pub target: Option<Identity>,
    /// The number the caller gave, in its own pid namespace; 0 when unknown.
    pub given_pid: u32,
    /// `PTRACE_*` request; of a memory write the number of remote areas.
    pub request: u32,
    /// 0 or a positive errno.
    pub result: i32,
}

/// A loaded kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleLoad {
    /// Its name, escaped.
    pub name: String,
    /// Why the kernel counts itself tainted by it, one bit each.
    pub taints: u64,
}

/// A loaded BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfLoad {
    /// Its name, escaped.
    pub name: String,
    /// Hash of its instructions, in hexadecimal.
    pub tag: String,
    /// Its id, 0 when the load failed.
    pub program_id: u32,
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// Instructions.
    pub instructions: u32,
    /// 0 or a positive errno.
    pub result: i32,
}

/// Left or entered namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Where the process is now.
    pub namespaces: Namespaces,
    /// `CLONE_NEW*` bits the call named.
    pub flags: u32,
    /// `setns`, not `unshare`.
    pub is_setns: bool,
    /// 0 or a positive errno.
    pub result: i32,
}
