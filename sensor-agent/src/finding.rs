//! A finding: a verdict worth sending, with enough to understand it without asking the host again. Not its wire
//! or JSON form. It may call the baseline crate, and the types of `enrich` and `who`.

use crate::enrich::origin::{Origin, Shim};
use crate::enrich::subject::FileId;
use crate::event::{Arguments, BootNs};
use crate::sigma::Rule;
use crate::who::Who;
use sensor_baseline::{Behaviour, Explanation, FloorRule, Severity, UnixNs, Verdict};
use std::sync::Arc;

/// Why a behaviour is a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not in the armed baseline.
    Novel,
    /// A rule that no baseline silences.
    Floor(Arc<FloorRule>),
    /// The baseline denies it by name.
    Denied,
    /// A Sigma rule alone: the baseline has nothing against it, or is still learning.
    Sigma,
}

impl Reason {
    /// The name used in output and storage.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Novel => "novel",
            Self::Floor(_) => "floor",
            Self::Denied => "denied",
            Self::Sigma => "sigma",
        }
    }

    /// The floor rule's id, or the name where there is none.
    #[must_use]
    pub fn rule_id(&self) -> &str {
        match self {
            Self::Floor(rule) => &rule.id,
            Self::Novel | Self::Denied | Self::Sigma => self.name(),
        }
    }

    /// Why a verdict is worth sending; `None` when it is not.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Allowed | Verdict::Learning => None,
            Verdict::Novel => Some(Self::Novel),
            Verdict::Floor(rule) => Some(Self::Floor(Arc::clone(rule))),
            Verdict::Denied => Some(Self::Denied),
        }
    }
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// `CLOCK_BOOTTIME` nanoseconds: with `pid` the identity.
    pub start_time_ns: u64,
    /// Executable; empty when unknown.
    pub exe: String,
    /// Arguments.
    pub argv: Arguments,
    /// Working directory at its last exec.
    pub cwd: String,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Who logged in, by the kernel's audit subsystem, when set.
    pub login_uid: Option<u32>,
    /// Audit session, when set.
    pub audit_session: Option<u32>,
    /// Inode of its mount namespace, 0 when unknown.
    pub mnt_ns: u32,
    /// `task->comm`.
    pub comm: String,
    /// cgroup v2 path.
    pub cgroup: String,
    /// Which file `exe` was, when known.
    pub file: Option<FileId>,
    /// Since when at the latest it runs that.
    pub image_since: BootNs,
    /// The nearest ancestor that says where it comes from.
    pub origin: Option<Arc<Origin>>,
    /// The containerd shim above it.
    pub shim: Option<Arc<Shim>>,
    /// What was looked up: not the kernel's word, and not there before a [`crate::who::Stage`] has passed it on.
    pub who: Who,
}

/// A behaviour worth telling: evidence of a finding, sent as soon as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Wall clock of the system call; of the last one where it stands for several.
    pub time: UnixNs,
    /// How bad.
    pub severity: Severity,
    /// Why.
    pub reason: Reason,
    /// What was done, in a baseline's terms.
    pub behaviour: Behaviour,
    /// Who did it.
    pub process: ProcessFacts,
    /// Parent first, at most [`ANCESTORS_MAX`].
    pub ancestors: Vec<ProcessFacts>,
    /// For a person.
    pub explanation: Explanation,
    /// Hook tier the facts come from.
    pub tier: &'static str,
    /// Whether the object's text is the caller's word.
    pub object_from_caller: bool,
    /// Version of the baseline it was judged against, 0 for none.
    pub baseline_version: u64,
    /// Findings of one process tree that follow each other closely have the same, which no others of this boot have.
    pub incident: String,
    /// The finding in a person's sense, of which this is evidence: the incident's name and a number.
    pub name: String,
    /// How often it was done, beyond what was told before.
    pub count: u64,
    /// The behaviour was told before as evidence of the same finding.
    pub is_repeat: bool,
    /// The Sigma rules that it meets, worst first, at most [`RULES_MAX`].
    pub rules: Vec<Arc<Rule>>,
}

impl Finding {
    /// The id of the rule behind it, or the name of the reason where there is none.
    #[must_use]
    pub fn rule_id(&self) -> &str {
        match (&self.reason, self.rules.first()) {
            (Reason::Sigma, Some(rule)) => &rule.id,
            _ => self.reason.rule_id(),
        }
    }
}

/// Ancestors a finding names at most.
pub const ANCESTORS_MAX: usize = 8;
/// Sigma rules a finding names at most.
pub const RULES_MAX: usize = 16;
