//! What a later scan of /proc repairs, after records of processes were lost. Not the scan. It may call the table it
//! extends; no I/O.
//!
//! | lost | what the scan shows | what is done |
//! |---|---|---|
//! | fork | a process that is not known | it is added, as at the start |
//! | exec | another program than the table has | program, arguments and directory become the scan's |
//! | exit | a process is gone, or a zombie | it ends when the scan began |
//!
//! It is for the time after every record from before the scan: the caller waits for that. A record from after the scan's
//! begin is newer than what the scan says, and wins. Arguments alone are not compared: programs rewrite theirs.

use super::{Process, ProcessTable, Scope, TICK_NS};
use crate::enrich::Image;
use crate::enrich::seed::{Rescan, SeedProcess};
use crate::enrich::subject::FileId;
use crate::event::{BootNs, Identity};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What scans have repaired since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Scans that were compared with the table.
    pub scans: u64,
    /// Processes whose fork was lost.
    pub forks: u64,
    /// Processes whose exec was lost.
    pub execs: u64,
    /// Processes whose exit was lost.
    pub exits: u64,
}

impl ProcessTable {
    /// Compares the table with a scan and repairs what differs. Every record from before the scan must have been
    /// handled.
    pub fn reconcile(&mut self, rescan: Rescan) {
        let taken = BootNs(rescan.seed.taken_ns);
        self.repairs.scans += 1;
        for cgroup in &rescan.seed.cgroups {
            self.seed_cgroup(cgroup.id, &cgroup.path);
        }
        let known = Known::of(self);
        let mut seeds = rescan.seed.processes;
        seeds.sort_by_key(|seed| (seed.start_time_ns, seed.pid));
        let starts: HashMap<u32, u64> = seeds.iter().map(|seed| (seed.pid, seed.start_time_ns)).collect();
        self.end_missing(&known, &starts, &rescan.present, taken);
        for seed in seeds {
            match known.find(seed.pid, seed.start_time_ns) {
                Some(identity) => self.repair(identity, seed, taken),
                None => self.add(seed, &known, &starts, taken),
            }
        }
    }

    /// Ends what the scan does not show, unless it began later or could not be read.
    fn end_missing(
        &mut self,
        known: &Known,
        starts: &HashMap<u32, u64>,
        present: &HashSet<u32>,
        taken: BootNs,
    ) {
        for identity in known.alive() {
            let is_shown = starts.get(&identity.pid).is_some_and(|start| is_same_start(identity, *start));
            // A pid that was listed and could not be read may be this process.
            let is_unread = present.contains(&identity.pid) && !starts.contains_key(&identity.pid);
            if !is_shown && !is_unread && identity.start_time_ns < taken.0 {
                self.end(identity, taken);
            }
        }
    }

    fn end(&mut self, identity: Identity, taken: BootNs) {
        let Some(process) = self.processes.get_mut(&identity).filter(|process| process.ended.is_none())
        else {
            return;
        };
        let process = Arc::make_mut(process);
        process.ended = Some(taken);
        // Its exit may be on the way all the same.
        process.is_zombie = true;
        self.note_ended(identity, taken);
        self.repairs.exits += 1;
    }

    fn repair(&mut self, identity: Identity, seed: SeedProcess, taken: BootNs) {
        if seed.is_zombie {
            return self.end(identity, taken);
        }
        let Some(process) = self.processes.get_mut(&identity).filter(|process| process.ended.is_none())
        else {
            return;
        };
        if seed.is_kernel_thread || process.image_since > taken || !has_other_program(process, &seed) {
            return;
        }
        let process = Arc::make_mut(process);
        let was_unknown = process.image.is_unknown();
        let file = Some(FileId { dev: seed.dev, inode: seed.inode });
        let image = Image { file, ..Image::new(seed.exe, seed.argv, seed.cwd, &seed.root, None) };
        process.lineage = process.lineage.after_exec(&image);
        process.image = Arc::new(image);
        process.image_since = taken;
        process.comm = seed.comm;
        process.is_own = false;
        // Of a process that only a header had told of, it was the fork that was lost.
        let lost = if was_unknown { &mut self.repairs.forks } else { &mut self.repairs.execs };
        *lost += 1;
    }

    fn add(&mut self, seed: SeedProcess, known: &Known, starts: &HashMap<u32, u64>, taken: BootNs) {
        let parent = starts.get(&seed.ppid).map(|start| {
            let as_shown = Identity { pid: seed.ppid, start_time_ns: *start };
            known.find(seed.ppid, *start).unwrap_or(as_shown)
        });
        let identity = Identity { pid: seed.pid, start_time_ns: seed.start_time_ns };
        let is_in_scope =
            parent.and_then(|parent| self.find(parent)).is_some_and(|parent| parent.is_in_scope);
        let is_alive = !seed.is_zombie;
        self.seed_one(seed, parent, taken);
        if let (true, Scope::Command(workload)) = (is_in_scope, &self.policy.scope)
            && let Some(process) = self.processes.get_mut(&identity)
        {
            let process = Arc::make_mut(process);
            process.is_in_scope = true;
            process.workload = workload.clone();
        }
        self.repairs.forks += u64::from(is_alive);
    }

    /// What scans have repaired.
    #[must_use]
    pub const fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// Every process that has not ended.
    pub fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().map(Arc::as_ref).filter(|process| process.ended.is_none())
    }
}

/// Whether the scan shows another file than the table has. Paths are not compared: a chroot or a deleted name makes
/// /proc's differ from the kernel's for the same file.
fn has_other_program(process: &Process, seed: &SeedProcess) -> bool {
    if process.image.is_unknown() {
        return seed.inode != 0;
    }
    let Some(file) = process.image.file else { return false };
    seed.inode != 0 && !file.may_be(FileId { dev: seed.dev, inode: seed.inode })
}

/// The identities of a table by pid: a scan has their start times rounded.
struct Known(HashMap<u32, Vec<(Identity, bool)>>);

impl Known {
    fn of(table: &ProcessTable) -> Self {
        let mut by_pid: HashMap<u32, Vec<(Identity, bool)>> = HashMap::new();
        for process in table.processes.values() {
            let is_alive = process.ended.is_none();
            by_pid.entry(process.identity.pid).or_default().push((process.identity, is_alive));
        }
        Self(by_pid)
    }

    fn find(&self, pid: u32, start_time_ns: u64) -> Option<Identity> {
        let candidates = self.0.get(&pid)?.iter();
        candidates.map(|(identity, _)| *identity).find(|identity| is_same_start(*identity, start_time_ns))
    }

    fn alive(&self) -> impl Iterator<Item = Identity> {
        self.0.values().flatten().filter(|(_, is_alive)| *is_alive).map(|(identity, _)| *identity)
    }
}

/// Whether /proc would show a process's start as this.
const fn is_same_start(identity: Identity, shown_ns: u64) -> bool {
    identity.start_time_ns / TICK_NS == shown_ns / TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::process_table::Policy;
    use crate::enrich::seed::Seed;

    const SCAN_NS: u64 = 1_000 * TICK_NS;

    fn seed(pid: u32, ppid: u32, inode: u64) -> SeedProcess {
        SeedProcess {
            pid,
            ppid,
            start_time_ns: u64::from(pid) * TICK_NS,
            exe: format!("/usr/bin/{inode}"),
            argv: [inode.to_string()].iter().collect(),
            cwd: "/".to_owned(),
            comm: inode.to_string(),
            cgroup: "/system.slice/a.service".to_owned(),
            cgroup_id: 7,
            inode,
            dev: 1,
            ..SeedProcess::default()
        }
    }

    fn rescan(processes: Vec<SeedProcess>, taken_ns: u64) -> Rescan {
        let present = processes.iter().map(|process| process.pid).collect();
        Rescan { seed: Seed { processes, cgroups: Vec::new(), taken_ns }, present }
    }

    fn table(seeds: Vec<SeedProcess>) -> ProcessTable {
        let mut table = ProcessTable::new(Policy { own: None, scope: Scope::Host });
        table.seed(seeds, BootNs(SCAN_NS / 2));
        table
    }

    fn programs(table: &ProcessTable) -> Vec<(u32, String)> {
        let mut programs: Vec<_> =
            table.alive().map(|process| (process.identity.pid, process.image.exe.clone())).collect();
        programs.sort();
        programs
    }

    fn expect(table: &ProcessTable, pids: &[(u32, u64)], forks: u64, execs: u64, exits: u64) {
        let expected: Vec<_> = pids.iter().map(|(pid, inode)| (*pid, format!("/usr/bin/{inode}"))).collect();
        assert_eq!(programs(table), expected);
        assert_eq!(table.repairs(), Repairs { scans: 1, forks, execs, exits });
    }

    #[test]
    fn a_scan_that_shows_the_same_changes_nothing() {
        let mut table = table(vec![seed(1, 0, 10), seed(2, 1, 11)]);
        table.reconcile(rescan(vec![seed(1, 0, 10), seed(2, 1, 11)], SCAN_NS));
        expect(&table, &[(1, 10), (2, 11)], 0, 0, 0);
    }

    #[test]
    fn a_lost_fork_exec_and_exit_are_repaired() {
        let mut table = table(vec![seed(1, 0, 10), seed(2, 1, 11), seed(3, 1, 12)]);
        table.reconcile(rescan(vec![seed(1, 0, 10), seed(3, 1, 13), seed(4, 3, 14)], SCAN_NS));
        expect(&table, &[(1, 10), (3, 13), (4, 14)], 1, 1, 1);
        let added = table.alive().find(|process| process.identity.pid == 4).expect("it was added");
        assert_eq!(table.parent(added).map(|parent| parent.identity.pid), Some(3));
    }

    #[test]
    fn another_device_of_the_same_inode_is_another_program_where_devices_compare() {
        let check = |known: u32, shown: u32, execs: u64| {
            let on = |dev| SeedProcess { dev, ..seed(1, 0, 10) };
            let mut table = table(vec![on(known)]);
            table.reconcile(rescan(vec![on(shown)], SCAN_NS));
            expect(&table, &[(1, 10)], 0, execs, 0);
        };
        let (disk, other_disk) = (8 << 20 | 1, 8 << 20 | 2);
        check(disk, other_disk, 1);
        // The file system's own device, and what `stat` shows of a subvolume or a layer.
        check(45, 46, 0);
        check(45, disk, 0);
    }

    #[test]
    fn a_process_that_began_after_the_scan_stays() {
        let mut table = table(vec![seed(1, 0, 10), seed(2_000, 1, 11)]);
        table.reconcile(rescan(vec![seed(1, 0, 10)], SCAN_NS));
        expect(&table, &[(1, 10), (2_000, 11)], 0, 0, 0);
    }

    #[test]
    fn a_process_that_could_not_be_read_stays() {
        let mut table = table(vec![seed(1, 0, 10), seed(2, 1, 11)]);
        let mut unread = rescan(vec![seed(1, 0, 10)], SCAN_NS);
        unread.present.insert(2);
        table.reconcile(unread);
        expect(&table, &[(1, 10), (2, 11)], 0, 0, 0);
    }

    #[test]
    fn an_exec_after_the_scan_wins() {
        let mut table = table(vec![seed(1, 0, 10)]);
        for process in table.processes.values_mut() {
            Arc::make_mut(process).image_since = BootNs(SCAN_NS + 1);
        }
        table.reconcile(rescan(vec![seed(1, 0, 99)], SCAN_NS));
        expect(&table, &[(1, 10)], 0, 0, 0);
    }

    #[test]
    fn a_pid_used_again_is_another_process() {
        let mut table = table(vec![seed(1, 0, 10), seed(2, 1, 11)]);
        let again = SeedProcess { start_time_ns: 500 * TICK_NS, ..seed(2, 1, 12) };
        table.reconcile(rescan(vec![seed(1, 0, 10), again], SCAN_NS));
        expect(&table, &[(1, 10), (2, 12)], 1, 0, 1);
    }
}
