//! A workload that makes one new finding after the other: it writes files that no baseline lists, each once. Not an
//! attack. It may start a shell in a control group of its own.

use anyhow::Result;
use sensor_tests::{Kept, Workload};
use std::path::Path;

/// The running workload.
pub(crate) struct Noise {
    // Dropped before the group that it runs in.
    _shell: Kept,
    group: Workload,
}

impl Noise {
    /// Starts a unit named after `name`, which writes files named f1, f2, ... in a folder of its own below `scratch`.
    pub(crate) fn start(name: &str, scratch: &Path) -> Result<Self> {
        let group = Workload::new(name)?;
        let folder = scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        let script = "i=0; while :; do i=$((i+1)); echo > \"$1/f$i\"; sleep 0.02; done";
        let shell = Kept::start("noise", &mut group.shell(script, &[&folder]), &scratch.join("noise.log"))?;
        Ok(Self { _shell: shell, group })
    }

    /// The workload's name.
    pub(crate) fn workload(&self) -> String {
        self.group.name()
    }

    /// A baseline that arms the workload and allows next to nothing.
    pub(crate) fn baseline(&self, fleet: &str) -> String {
        armed(fleet, &self.group.name())
    }
}

/// A baseline of `fleet` that arms `workload` and allows next to nothing.
pub(crate) fn armed(fleet: &str, workload: &str) -> String {
    format!(
        "fleet: {fleet}\nworkloads:\n  {workload}:\n    /nowhere/program:\n      exec: [/nowhere/child]\n"
    )
}
