//! Which findings belong together: those of one process tree that follow each other closely are one incident, and what is
//! done there in one way is one finding. Not whether something is a finding. It may call the process table's types.

use crate::enrich::Process;
use crate::enrich::recent::Recent;
use crate::event::{BootNs, Identity};
use crate::finding::Reason;
use sensor_baseline::{Action, UnixNs};

/// Incidents that may still get findings, by the first process of their workload.
#[derive(Debug)]
pub(super) struct Incidents {
    open: Recent<Identity, Open>,
}

#[derive(Clone, Debug)]
struct Open {
    name: String,
    since: BootNs,
    /// The sort of each of its findings; a finding's number is its place, from 1 on.
    sorts: Vec<Sort>,
}

/// What the behaviours of one finding have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sort {
    /// Novelty, or Sigma's rules: they say more of what is novel, and most acts of an attack meet another one.
    Unusual(Field),
    Denied(Field),
    /// The floor rule of this id.
    Floor(String),
}

/// What is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Program,
    Network,
    File,
}

/// What a behaviour that is worth telling belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) incident: String,
    /// The incident's, and a number.
    pub(super) finding: String,
}

impl Default for Incidents {
    fn default() -> Self {
        Self { open: Recent::new(INCIDENTS_MAX, QUIET_NS_MAX) }
    }
}

impl Incidents {
    /// The incident and the finding that a behaviour of this process belongs to. The incident is
    /// `PID-STARTNANOSECONDS-MILLISECONDS` of the tree's top ([`Process::top`]) and of its first finding. It lasts as long
    /// as findings follow each other within [`QUIET_NS_MAX`], and not beyond [`INCIDENT_NS_MAX`].
    pub(super) fn names(
        &mut self,
        process: &Process,
        (action, reason): (Action, &Reason),
        time: UnixNs,
        now: BootNs,
    ) -> Names {
        let top = process.top;
        let known = self.open.find(&top, now);
        let is_open = known.is_some_and(|open| now <= open.since.after(INCIDENT_NS_MAX));
        let mut open = self.open.remove(&top).filter(|_| is_open).unwrap_or_else(|| Open {
            name: format!("{}-{}-{}", top.pid, top.start_time_ns, time.0 / NS_PER_MS),
            since: now,
            sorts: Vec::new(),
        });
        let sort = Sort::of(action, reason);
        let at = open.sorts.iter().position(|known| *known == sort).unwrap_or_else(|| {
            open.sorts.push(sort);
            open.sorts.len() - 1
        });
        let names = Names { incident: open.name.clone(), finding: format!("{}/{}", open.name, at + 1) };
        self.open.put(top, open, now);
        names
    }

    /// Incidents that got no more findings because too many were open.
    pub(super) const fn evicted_count(&self) -> u64 {
        self.open.evicted_count()
    }
}

impl Sort {
    fn of(action: Action, reason: &Reason) -> Self {
        let field = match action {
            Action::Exec => Field::Program,
            Action::Connect | Action::Listen => Field::Network,
            Action::Write | Action::Delete | Action::Rename => Field::File,
        };
        match reason {
            Reason::Novel | Reason::Sigma => Self::Unusual(field),
            Reason::Denied => Self::Denied(field),
            Reason::Floor(rule) => Self::Floor(rule.id.clone()),
        }
    }
}

/// Incidents that can be open at once; one more, and the oldest gets no more findings.
const INCIDENTS_MAX: usize = 4096;
/// An incident without a finding for so long has ended.
pub(super) const QUIET_NS_MAX: u64 = 300_000_000_000;
/// An incident that goes on for longer is told as another one.
pub(super) const INCIDENT_NS_MAX: u64 = 3_600_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
