//! Where processes are: which control group, whose workload, and from which first process of it they come. Not what a
//! control group's path means: that is `workload`'s. It may call the process table.

use super::{Process, ProcessTable, Scope};
use crate::enrich::{Lineage, Placement};
use crate::event::{BootNs, Cgroup, Identity};
use sensor_baseline::Workload;

impl ProcessTable {
    /// Remembers where a control group was made.
    pub fn learn_cgroup(&mut self, cgroup: &Cgroup, now: BootNs) {
        self.cgroups.learn(cgroup.id, &cgroup.path, now);
    }

    pub(super) fn moved_to(&self, identity: Identity, cgroup_id: u64, now: BootNs) -> Option<Placement> {
        let process = self.processes.get(&identity)?;
        let is_settled = process.placement.cgroup_id == cgroup_id && process.placement.path.is_some();
        if is_settled {
            return None;
        }
        let placement = self.cgroups.place(cgroup_id, now);
        (placement != process.placement).then_some(placement)
    }
}

impl Process {
    /// Moves it to another control group. A new workload begins with the program it runs. Of a group whose path is not known
    /// it is not known that it is another workload's: who makes one that lies too deep to be told stays what it was.
    pub(super) fn relocate(&mut self, placement: Placement, scope: &Scope) {
        if placement.path.is_none() {
            self.placement = placement;
            return;
        }
        let workload = match scope {
            Scope::Command(workload) if self.is_in_scope => workload.clone(),
            _ => placement.workload(self.uid, self.ancestry.shim.as_deref()),
        };
        self.placement = placement;
        if workload != self.workload {
            // What moves into a container is its runtime, which the container's first program then replaces.
            let is_entry = workload.0.starts_with("container:");
            self.workload = workload;
            self.top = self.identity;
            self.lineage = Lineage::begin(&self.image, &self.comm);
            self.lineage.is_known &= !is_entry;
        }
    }
}

/// The first process of the workload above a process, or that itself.
pub(super) fn top(identity: Identity, parent: Option<&Process>, workload: &Workload) -> Identity {
    let inherited = parent.filter(|parent| parent.workload == *workload && parent.identity.pid != INIT);
    inherited.map_or(identity, |parent| parent.top)
}

/// The process that starts everything, and adopts whoever lost its parent.
const INIT: u32 = 1;
