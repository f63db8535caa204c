//! Which findings belong together: those of one process tree that follow each other closely are one incident. Not whether
//! something is a finding. It may call the process table's types.

use crate::enrich::Process;
use crate::enrich::recent::Recent;
use crate::event::{BootNs, Identity};
use sensor_baseline::UnixNs;

/// Incidents that may still get findings, by the first process of their workload.
#[derive(Debug)]
pub(super) struct Incidents {
    open: Recent<Identity, Open>,
}

#[derive(Clone, Debug)]
struct Open {
    name: String,
    since: BootNs,
}

impl Default for Incidents {
    fn default() -> Self {
        Self { open: Recent::new(INCIDENTS_MAX, QUIET_NS_MAX) }
    }
}

impl Incidents {
    /// The incident that a finding of this process belongs to: `PID-STARTNANOSECONDS-MILLISECONDS` of the tree's top
    /// ([`Process::top`]) and of its first finding. It lasts as long as findings follow each other within [`QUIET_NS_MAX`],
    /// and not beyond [`INCIDENT_NS_MAX`].
    pub(super) fn of(&mut self, process: &Process, time: UnixNs, now: BootNs) -> String {
        let top = process.top;
        let current = self.open.find(&top, now).filter(|open| now <= open.since.after(INCIDENT_NS_MAX));
        let open = current.cloned().unwrap_or_else(|| Open {
            name: format!("{}-{}-{}", top.pid, top.start_time_ns, time.0 / NS_PER_MS),
            since: now,
        });
        let name = open.name.clone();
        self.open.put(top, open, now);
        name
    }

    /// Incidents that got no more findings because too many were open.
    pub(super) const fn evicted_count(&self) -> u64 {
        self.open.evicted_count()
    }
}

/// Incidents that can be open at once; one more, and the oldest gets no more findings.
const INCIDENTS_MAX: usize = 4096;
/// An incident without a finding for so long has ended.
const QUIET_NS_MAX: u64 = 300_000_000_000;
/// An incident that goes on for longer is told as another one.
const INCIDENT_NS_MAX: u64 = 3_600_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
