//! What a process may do and which namespaces it is in, and how events change it. Not who it belongs to. It may call
//! `event` and the table it extends.
//!
//! | event | capabilities | namespaces |
//! |---|---|---|
//! | seed | as /proc has them | the mount namespace |
//! | fork | the caller's; unknown in a new user namespace | the caller's; new ones unknown |
//! | exec, process | the record's | the record's |
//! | creds | those after | |
//! | namespace | | those after |

use super::{Process, ProcessTable};
use crate::enrich::origin::Ancestry;
use crate::enrich::seed::SeedProcess;
use crate::enrich::{Image, Lineage};
use crate::event::{Creds, Event, Exec, Fork, Namespace};
use sensor_event::Namespaces;
use std::sync::Arc;

/// What a process may do, and where it is, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Effective and permitted capabilities.
    pub caps: Option<(u64, u64)>,
    /// Namespaces; 0 for those that are not known.
    pub namespaces: Namespaces,
}

impl Privileges {
    /// As the scan found it.
    #[must_use]
    pub fn seeded(seed: &SeedProcess) -> Self {
        Self {
            caps: seed.cap_effective.zip(seed.cap_permitted),
            namespaces: Namespaces { mnt: seed.mnt_ns, ..Namespaces::default() },
        }
    }

    /// As an exec left it, or the start-up scan in the kernel found it.
    #[must_use]
    pub const fn of_exec(exec: &Exec) -> Self {
        Self { caps: Some((exec.cap_effective, exec.cap_permitted)), namespaces: exec.namespaces }
    }

    /// Those of a child.
    #[must_use]
    pub const fn forked(self, fork: &Fork) -> Self {
        let Self { caps, namespaces: own } = self;
        let new = fork.new_namespaces;
        Self {
            caps: if new & CLONE_NEWUSER == 0 { caps } else { None },
            namespaces: Namespaces {
                mnt: unless(new & CLONE_NEWNS, own.mnt),
                pid: unless(new & CLONE_NEWPID, own.pid),
                net: unless(new & CLONE_NEWNET, own.net),
                user: unless(new & CLONE_NEWUSER, own.user),
                uts: unless(new & CLONE_NEWUTS, own.uts),
                ipc: unless(new & CLONE_NEWIPC, own.ipc),
                cgroup: unless(new & CLONE_NEWCGROUP, own.cgroup),
                time: unless(new & CLONE_NEWTIME, own.time),
            },
        }
    }

    /// Permitted capabilities of `exec` that were not there before it, when it is known what was.
    #[must_use]
    pub fn gained_by(self, exec: &Exec) -> Option<u64> {
        self.caps.map(|(_, before)| exec.cap_permitted & !before)
    }
}

impl ProcessTable {
    /// Credentials changed. Returns the process as it is now.
    pub fn set_creds(&mut self, event: &Event, creds: &Creds) -> &Arc<Process> {
        let touched = self.touched(&event.actor, event.time);
        let process = Arc::make_mut(touched);
        (process.uid, process.euid) = (creds.new.uid, creds.new.euid);
        (process.context.gid, process.context.egid) = (creds.new.gid, creds.new.egid);
        process.privileges.caps = Some(creds.caps);
        touched
    }

    /// Namespaces were left or entered; nothing changed when that failed. Returns the process as it is now.
    pub fn set_namespaces(&mut self, event: &Event, namespace: &Namespace) -> &Arc<Process> {
        let touched = self.touched(&event.actor, event.time);
        if namespace.result == 0 {
            let process = Arc::make_mut(touched);
            process.privileges.namespaces = namespace.namespaces;
            process.context.mnt_ns = namespace.namespaces.mnt;
        }
        touched
    }

    /// The kernel's own scan found a process: the kernel's word on what /proc had told, exact to the nanosecond. The
    /// arguments, which it does not tell, stay those of /proc while the program is the same.
    pub fn found(&mut self, event: &Event, exec: &Exec) -> &Arc<Process> {
        self.cgroups.learn(event.actor.cgroup_id, &exec.cgroup, event.time);
        let identity = self.settle(event.actor.identity);
        if !self.processes.contains_key(&identity) {
            let process = self.told_by_header(&event.actor, event.time);
            self.insert(process);
        }
        let parent = self.find(event.actor.parent).map(|parent| (parent.workload.clone(), parent.clone()));
        let touched = self.touched(&event.actor, event.time);
        let process = Arc::make_mut(touched);
        process.parent = Some(event.actor.parent);
        process.privileges = Privileges::of_exec(exec);
        process.exec_id = exec.exec_id;
        let image = if exec.inode == 0 { Image::kernel() } else { Image::of_exec(exec) };
        let is_same = process.image.exe == image.exe
            || process.image.file.zip(image.file).is_some_and(|(shown, file)| shown.may_be(file));
        if is_same {
            return touched;
        }
        let inherited = parent
            .filter(|(workload, _)| *workload == process.workload && image.is_transparent())
            .map(|(_, parent)| (parent.lineage.after_exec(&image), Ancestry::after(&parent)));
        match inherited {
            Some((lineage, ancestry)) => (process.lineage, process.ancestry) = (lineage, ancestry),
            None => process.lineage = Lineage::begin(&image, &process.comm),
        }
        process.image = Arc::new(image);
        process.image_since = event.time;
        touched
    }
}

const fn unless(is_new: u32, number: u32) -> u32 {
    if is_new == 0 { number } else { 0 }
}

/// `include/uapi/linux/sched.h`.
const CLONE_NEWTIME: u32 = 0x80;
const CLONE_NEWNS: u32 = 0x2_0000;
const CLONE_NEWCGROUP: u32 = 0x200_0000;
const CLONE_NEWUTS: u32 = 0x400_0000;
const CLONE_NEWIPC: u32 = 0x800_0000;
const CLONE_NEWUSER: u32 = 0x1000_0000;
const CLONE_NEWPID: u32 = 0x2000_0000;
const CLONE_NEWNET: u32 = 0x4000_0000;
