//! Which findings belong together: those of one process subtree that follow each other closely are one incident. Not
//! whether something is a finding. It may call the process table.

use crate::enrich::recent::Recent;
use crate::enrich::{Process, ProcessTable};
use crate::event::{BootNs, Identity};
use sensor_baseline::UnixNs;

/// Incidents that may still get findings, by the root of their subtree.
#[derive(Debug)]
pub(super) struct Incidents {
    open: Recent<Identity, String>,
}

impl Default for Incidents {
    fn default() -> Self {
        Self { open: Recent::new(INCIDENTS_MAX, QUIET_NS_MAX) }
    }
}

impl Incidents {
    /// The incident that a finding of this process belongs to: `PID-STARTNANOSECONDS-MILLISECONDS` of the subtree's root and
    /// of its first finding. It lasts as long as findings follow each other within [`QUIET_NS_MAX`].
    pub(super) fn of(
        &mut self,
        processes: &ProcessTable,
        process: &Process,
        time: UnixNs,
        now: BootNs,
    ) -> String {
        let root = root(processes, process);
        let name = match self.open.find(&root, now) {
            Some(name) => name.clone(),
            None => format!("{}-{}-{}", root.pid, root.start_time_ns, time.0 / NS_PER_MS),
        };
        self.open.put(root, name.clone(), now);
        name
    }
}

/// The process below the first one of the workload: a server's worker, a job of cron, a login's shell. What these do is
/// one story; what the server or cron starts next to it is another.
fn root(processes: &ProcessTable, process: &Process) -> Identity {
    let (mut top, mut below) = (process.identity, process.identity);
    let mut ancestor = processes.parent(process);
    for _ in 0..DEPTH_MAX {
        let Some(found) =
            ancestor.filter(|found| found.workload == process.workload && found.identity.pid != INIT)
        else {
            break;
        };
        (below, top) = (top, found.identity);
        ancestor = processes.parent(found);
    }
    below
}

/// `init` starts everything: being its child ties nothing together.
const INIT: u32 = 1;
/// Deeper, the story begins where the walk ends.
const DEPTH_MAX: usize = 64;
/// Incidents that can be open at once; one more, and the oldest gets no more findings.
const INCIDENTS_MAX: usize = 4096;
/// An incident without a finding for so long has ended.
const QUIET_NS_MAX: u64 = 300_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
