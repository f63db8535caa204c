//! Every process the agent knows, by identity: what it runs, where it belongs, who made it. Not the scan that fills
//! it at start, and not judgement. It may call `event` and its siblings; no I/O.
//!
//! | event | what it does |
//! |---|---|
//! | seed | adds a process with a start time as exact as /proc has it (10 ms); an event refines it |
//! | fork | the child inherits program, arguments, place, subject and scope of the *caller* |
//! | exec | replaces program and arguments, moves subject and workload along |
//! | creds, namespace | change what it may do and where it is |
//! | process | the kernel's own scan: what the seed told, exactly |
//! | exit | closes the process; it stays for a grace period, because late events name it |
//! | any other | a process that is not known is added from the event's header, and counted |

mod ended;
mod place;
pub mod privilege;
pub mod reconcile;

use crate::enrich::origin::Ancestry;
use crate::enrich::seed::SeedProcess;
use crate::enrich::subject::FileId;
use crate::enrich::{CgroupTable, Image, Lineage, Placement};
use crate::event::{Actor, BootNs, Event, Exec, Fork, Identity};
use crate::finding::{ANCESTORS_MAX, ProcessFacts};
use crate::who::Who;
pub use ended::ENDED_ARGUMENT_BYTES_MAX;
use ended::EndedArguments;
use place::top;
pub use privilege::Privileges;
pub use reconcile::Repairs;
use sensor_baseline::Workload;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Processes held at most, ended ones in their grace period included.
pub const PROCESSES_MAX: usize = 65_536;
/// How long an ended process is remembered.
pub const GRACE_NS: u64 = 30_000_000_000;

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which.
    pub identity: Identity,
    /// Who made it, as far as known. Stays what it was when the parent ends.
    pub parent: Option<Identity>,
    /// What it runs.
    pub image: Arc<Image>,
    /// Since when at the latest.
    pub image_since: BootNs,
    /// Low half of the kernel's count of its execs; 0 when unknown.
    pub exec_id: u16,
    /// Short name, escaped.
    pub comm: String,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Groups, login and mount namespace, as the newest header had them.
    pub context: Context,
    /// What it may do, and its namespaces.
    pub privileges: Privileges,
    /// Where it comes from.
    pub ancestry: Ancestry,
    /// Control group.
    pub placement: Placement,
    /// Whom it belongs to.
    pub workload: Workload,
    /// The first process of its workload that it comes from, itself if that is so: not `init`, which starts everything.
    pub top: Identity,
    /// Whom it acts as.
    pub lineage: Lineage,
    /// It is in the tree of the command that is watched.
    pub is_in_scope: bool,
    /// It still runs the agent's program: the agent itself, or its child before exec.
    pub is_own: bool,
    /// When it ended; when the scan found it ended, when that began.
    pub ended: Option<BootNs>,
    /// The scan found it ended. Its exit may have been recorded all the same, and is still to be told.
    pub is_zombie: bool,
}

/// What a header says of a process besides its identity and its users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Audit login user, when set.
    pub login_uid: Option<u32>,
    /// Audit session, when set.
    pub audit_session: Option<u32>,
    /// Inode of the mount namespace, 0 when unknown.
    pub mnt_ns: u32,
}

impl Context {
    const fn of(actor: &Actor) -> Self {
        Self {
            gid: actor.gid,
            egid: actor.egid,
            login_uid: actor.loginuid,
            audit_session: actor.session_id,
            mnt_ns: actor.mnt_ns,
        }
    }
}

impl Process {
    /// What a finding says of it.
    #[must_use]
    pub fn facts(&self) -> ProcessFacts {
        ProcessFacts {
            pid: self.identity.pid,
            start_time_ns: self.identity.start_time_ns,
            exe: self.image.exe.clone(),
            argv: self.image.argv.clone(),
            cwd: self.image.cwd.clone(),
            uid: self.uid,
            euid: self.euid,
            gid: self.context.gid,
            egid: self.context.egid,
            login_uid: self.context.login_uid,
            audit_session: self.context.audit_session,
            mnt_ns: self.context.mnt_ns,
            comm: self.comm.clone(),
            cgroup: self.placement.path.as_deref().unwrap_or_default().to_owned(),
            file: self.image.file,
            image_since: self.image_since,
            origin: self.ancestry.origin.clone(),
            shim: self.ancestry.shim.clone(),
            who: Who::default(),
        }
    }

    /// Whether its program or its workload is not known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.image.is_unknown() || (self.placement.path.is_none() && !self.is_in_scope)
    }
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every process.
    Host,
    /// The processes that the agent starts, and theirs, as one workload.
    Command(Workload),
}

/// The agent itself and what it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The agent's own process, as exact as /proc has it.
    pub own: Option<Identity>,
    /// What is watched.
    pub scope: Scope,
}

/// What went by the table, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounters {
    /// Processes made from an event's header: neither scan nor fork had told of them.
    pub unknown: u64,
    /// Processes that went to make room.
    pub evicted: u64,
    /// Ended processes whose arguments went to make room.
    pub arguments_forgotten: u64,
    /// Exits of a process that had ended already: two last threads may both report.
    pub exits_repeated: u64,
}

/// The processes.
#[derive(Debug)]
pub struct ProcessTable {
    policy: Policy,
    /// Shared with whoever handles the newest record, who lets go before the next one changes it.
    processes: HashMap<Identity, Arc<Process>>,
    /// Seeded processes by pid: the identity under which each is stored now.
    seeded: HashMap<u32, Identity>,
    ended: VecDeque<(BootNs, Identity)>,
    ended_arguments: EndedArguments,
    cgroups: CgroupTable,
    has_scope_started: bool,
    counters: TableCounters,
    repairs: Repairs,
}

impl ProcessTable {
    /// Empty.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            processes: HashMap::new(),
            seeded: HashMap::new(),
            ended: VecDeque::new(),
            ended_arguments: EndedArguments::default(),
            cgroups: CgroupTable::default(),
            has_scope_started: false,
            counters: TableCounters::default(),
            repairs: Repairs::default(),
        }
    }

    /// Adds what the scan of /proc that began at `taken` found. Parents may come after their children.
    pub fn seed(&mut self, mut seeds: Vec<SeedProcess>, taken: BootNs) {
        // Subjects pass from parent to child: older processes first.
        seeds.sort_by_key(|seed| (seed.start_time_ns, seed.pid));
        let starts: HashMap<u32, u64> = seeds.iter().map(|seed| (seed.pid, seed.start_time_ns)).collect();
        for seed in seeds {
            let parent = starts
                .get(&seed.ppid)
                .map(|start_time_ns| Identity { pid: seed.ppid, start_time_ns: *start_time_ns });
            self.seed_one(seed, parent, taken);
        }
    }

    /// Remembers where a control group is.
    pub fn seed_cgroup(&mut self, cgroup_id: u64, path: &str) {
        self.cgroups.learn_text(cgroup_id, path, BootNs::default());
    }

    /// The process an event's header names: added when unknown, its ids, name and place brought up to date.
    pub fn touch(&mut self, actor: &Actor, now: BootNs) -> &Arc<Process> {
        self.touched(actor, now)
    }

    fn touched(&mut self, actor: &Actor, now: BootNs) -> &mut Arc<Process> {
        let identity = self.settle(actor.identity);
        if !self.processes.contains_key(&identity) {
            let process = self.told_by_header(actor, now);
            // The fork of the agent's own child is the agent's doing: no record tells of it.
            self.counters.unknown += u64::from(!process.is_own);
            self.insert(process);
        }
        let moved =
            self.moved_to(identity, actor.cgroup_id, now).map(|place| (place, self.policy.scope.clone()));
        let touched = self.processes.get_mut(&identity).expect("it was inserted above when it was missing");
        let ids = (actor.uid, actor.euid, Context::of(actor));
        let is_as_known = (touched.uid, touched.euid, touched.context) == ids && touched.comm == actor.comm;
        if is_as_known && moved.is_none() {
            return touched;
        }
        let process = Arc::make_mut(touched);
        (process.uid, process.euid, process.context) = ids;
        process.comm.clone_from(&actor.comm);
        if let Some((placement, scope)) = moved {
            process.relocate(placement, &scope);
        }
        touched
    }

    /// A process made another. Returns the child.
    pub fn fork(&mut self, event: &Event, fork: &Fork) -> &Arc<Process> {
        let caller = Arc::clone(self.touch(&event.actor, event.time));
        self.settle(fork.child);
        if let Some(seeded) = self.processes.get_mut(&fork.child).filter(|child| !child.image.is_unknown()) {
            // The scan, which is newer than this record, has found it: what it says of the child is what has become
            // of it. Its parent it may have found adopted.
            Arc::make_mut(seeded).parent = Some(fork.parent);
            return self.processes.get(&fork.child).expect("it was found above");
        }
        let ancestry = Ancestry::after(&caller);
        let privileges = caller.privileges.forked(fork);
        let (identity, parent) = (fork.child, Some(fork.parent));
        let top = top(identity, Some(&caller), &caller.workload);
        let caller = Arc::unwrap_or_clone(caller);
        let mut child = Process { identity, parent, top, ended: None, ancestry, privileges, ..caller };
        if child.placement.cgroup_id != fork.cgroup_id {
            let placement = self.cgroups.place(fork.cgroup_id, event.time);
            child.relocate(placement, &self.policy.scope);
        }
        self.insert(child);
        self.processes.get(&fork.child).expect("it was inserted above")
    }

    /// A process replaced its program. Returns it as it was before, in the place it is now.
    pub fn exec(&mut self, event: &Event, exec: &Exec) -> Process {
        self.cgroups.learn(event.actor.cgroup_id, &exec.cgroup, event.time);
        let policy = self.policy.clone();
        let process = Arc::make_mut(self.touched(&event.actor, event.time));
        // The header's comm is the new program's already; the id change of a set-id program as well.
        let mut before = process.clone();
        let image = Image::of_exec(exec);
        let starts_scope = !process.is_in_scope && policy.starts_scope(process);
        process.lineage = if before.is_own {
            Lineage::begin(&image, &process.comm)
        } else {
            process.lineage.after_exec(&image)
        };
        if starts_scope && let Scope::Command(workload) = &policy.scope {
            process.is_in_scope = true;
            process.workload = workload.clone();
        }
        process.ancestry = Ancestry::after(&before);
        process.privileges = Privileges::of_exec(exec);
        process.image = Arc::new(image);
        process.image_since = event.time;
        process.exec_id = exec.exec_id;
        process.is_own = false;
        self.has_scope_started |= starts_scope;
        if before.image.is_unknown()
            && let Some(parent) = self.parent(&before)
        {
            // Its fork was lost. An exec before this one would have told, so it ran what its parent runs.
            before.image = Arc::clone(&parent.image);
        }
        before
    }

    /// A process ended. `None` when it had ended before.
    pub fn exit(&mut self, event: &Event) -> Option<&Arc<Process>> {
        let process = Arc::make_mut(self.touched(&event.actor, event.time));
        let identity = process.identity;
        if std::mem::take(&mut process.is_zombie) {
            process.ended = Some(event.time);
            return self.processes.get(&identity);
        }
        if process.ended.is_some() {
            self.counters.exits_repeated += 1;
            return None;
        }
        process.ended = Some(event.time);
        self.note_ended(identity, event.time);
        self.processes.get(&identity)
    }

    /// Forgets processes whose grace period is over.
    pub fn expire(&mut self, now: BootNs) {
        while self.ended.front().is_some_and(|(ended, _)| now > ended.after(GRACE_NS)) {
            self.forget_oldest_ended();
        }
    }

    /// A process by identity, exact or as /proc had it.
    #[must_use]
    pub fn find(&self, identity: Identity) -> Option<&Process> {
        let found = self.processes.get(&identity).or_else(|| {
            let seeded = self.seeded.get(&identity.pid).filter(|seeded| is_same_tick(**seeded, identity))?;
            self.processes.get(seeded)
        });
        found.map(Arc::as_ref)
    }

    /// Its parent, that one's parent, and so on; bounded.
    pub fn ancestors<'a>(&'a self, process: &'a Process) -> impl Iterator<Item = &'a Process> + 'a {
        std::iter::successors(self.parent(process), |process| self.parent(process)).take(ANCESTORS_MAX)
    }

    /// Its parent, when known.
    #[must_use]
    pub fn parent(&self, process: &Process) -> Option<&Process> {
        self.find(process.parent?)
    }

    /// Processes in the scope of the watched command that have not ended.
    #[must_use]
    pub fn running_in_scope(&self) -> usize {
        self.processes.values().filter(|process| process.is_in_scope && process.ended.is_none()).count()
    }

    /// Whether the watched command was seen to start.
    #[must_use]
    pub const fn has_scope_started(&self) -> bool {
        self.has_scope_started
    }

    /// What went by.
    #[must_use]
    pub const fn counters(&self) -> TableCounters {
        self.counters
    }

    /// Paths of control groups that went to make room.
    #[must_use]
    pub const fn cgroups_evicted_count(&self) -> u64 {
        self.cgroups.evicted_count()
    }

    /// Processes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    fn seed_one(&mut self, seed: SeedProcess, parent: Option<Identity>, taken: BootNs) {
        let identity = Identity { pid: seed.pid, start_time_ns: seed.start_time_ns };
        if self.find(identity).is_some() {
            return;
        }
        self.cgroups.learn_text(seed.cgroup_id, &seed.cgroup, BootNs::default());
        let placement = Placement { cgroup_id: seed.cgroup_id, path: Some(Arc::from(seed.cgroup.as_str())) };
        let ancestry = parent.and_then(|parent| self.find(parent)).map(Ancestry::after).unwrap_or_default();
        let workload = placement.workload(seed.uid, ancestry.shim.as_deref());
        let privileges = Privileges::seeded(&seed);
        let image = if seed.is_kernel_thread {
            Image::kernel()
        } else {
            let file = (seed.inode != 0).then_some(FileId { dev: seed.dev, inode: seed.inode });
            Image { file, ..Image::new(seed.exe, seed.argv, seed.cwd, &seed.root, None) }
        };
        let context = Context {
            gid: seed.gid,
            egid: seed.egid,
            login_uid: seed.login_uid,
            audit_session: seed.audit_session,
            mnt_ns: seed.mnt_ns,
        };
        let inherited = parent
            .and_then(|parent| self.find(parent))
            .filter(|parent| parent.workload == workload && image.is_transparent())
            .map(|parent| parent.lineage.after_exec(&image));
        let lineage = inherited.unwrap_or_else(|| Lineage::begin(&image, &seed.comm));
        let is_own = self.policy.is_agent(identity);
        let top = top(identity, parent.and_then(|parent| self.find(parent)), &workload);
        self.insert(Process {
            identity,
            parent,
            top,
            image: Arc::new(image),
            image_since: taken,
            exec_id: 0,
            comm: seed.comm,
            uid: seed.uid,
            euid: seed.euid,
            context,
            privileges,
            ancestry,
            placement,
            workload,
            lineage,
            is_in_scope: false,
            is_own,
            ended: seed.is_zombie.then_some(taken),
            is_zombie: seed.is_zombie,
        });
        self.seeded.insert(seed.pid, identity);
        if seed.is_zombie {
            self.note_ended(identity, taken);
        }
    }

    /// A process that only an event tells of: its fork was lost. Scope and subject come from its parent, so that a
    /// lost record does not let it slip out of the watched tree.
    fn told_by_header(&self, actor: &Actor, now: BootNs) -> Process {
        let placement = self.cgroups.place(actor.cgroup_id, now);
        let image = Image::default();
        let is_own = self.policy.is_agent(actor.identity) || self.policy.is_agent(actor.parent);
        let parent = self.find(actor.parent);
        let is_in_scope = parent.is_some_and(|parent| parent.is_in_scope);
        let ancestry = parent.map(Ancestry::after).unwrap_or_default();
        let workload = match (&self.policy.scope, parent) {
            (Scope::Command(workload), _) if is_in_scope => workload.clone(),
            (_, Some(parent)) if placement.path.is_none() => parent.workload.clone(),
            _ => placement.workload(actor.uid, ancestry.shim.as_deref()),
        };
        let inherited = parent.filter(|parent| parent.workload == workload && !is_own);
        Process {
            identity: actor.identity,
            parent: Some(actor.parent),
            top: top(actor.identity, parent, &workload),
            lineage: inherited
                .map_or_else(|| Lineage::begin(&image, &actor.comm), |parent| parent.lineage.clone()),
            image: Arc::new(image),
            image_since: BootNs::default(),
            exec_id: 0,
            comm: actor.comm.clone(),
            uid: actor.uid,
            euid: actor.euid,
            context: Context::of(actor),
            privileges: Privileges::default(),
            ancestry,
            workload,
            placement,
            is_in_scope,
            is_own,
            ended: None,
            is_zombie: false,
        }
    }

    /// Stores a seeded process under its exact identity once an event tells it.
    fn settle(&mut self, identity: Identity) -> Identity {
        if self.processes.contains_key(&identity) {
            return identity;
        }
        let Some(seeded) =
            self.seeded.get_mut(&identity.pid).filter(|seeded| is_same_tick(**seeded, identity))
        else {
            return identity;
        };
        if let Some(mut process) = self.processes.remove(seeded) {
            Arc::make_mut(&mut process).identity = identity;
            self.processes.insert(identity, process);
            *seeded = identity;
        }
        identity
    }

    fn insert(&mut self, process: Process) {
        if self.processes.len() >= PROCESSES_MAX {
            self.make_room();
        }
        self.processes.insert(process.identity, Arc::new(process));
    }

    /// Ended processes go first, then those that started first: a long-lived one comes back from a header.
    fn make_room(&mut self) {
        while self.processes.len() >= PROCESSES_MAX && self.forget_oldest_ended() {
            self.counters.evicted += 1;
        }
        if self.processes.len() < PROCESSES_MAX {
            return;
        }
        let mut identities: Vec<Identity> = self.processes.keys().copied().collect();
        identities.sort_unstable_by_key(|identity| (identity.start_time_ns, identity.pid));
        for identity in identities.into_iter().take(PROCESSES_MAX / EVICTED_SHARE) {
            self.forget(identity);
            self.counters.evicted += 1;
        }
    }

    fn forget_oldest_ended(&mut self) -> bool {
        let Some((_, identity)) = self.ended.pop_front() else { return false };
        self.ended_arguments.remove(identity);
        self.forget(identity);
        true
    }

    fn forget(&mut self, identity: Identity) {
        // The scan's identity of a process may have been replaced by the exact one since.
        let seeded = self.seeded.get(&identity.pid).copied().filter(|seeded| is_same_tick(*seeded, identity));
        self.processes.remove(&identity);
        if let Some(seeded) = seeded {
            self.processes.remove(&seeded);
            self.seeded.remove(&identity.pid);
        }
    }
}

impl Policy {
    /// Whether the process, about to execute, is the watched command: a child of the agent.
    fn starts_scope(&self, process: &Process) -> bool {
        let is_child = process.is_own && process.parent.is_some_and(|parent| self.is_agent(parent));
        matches!(self.scope, Scope::Command(_)) && is_child
    }

    fn is_agent(&self, identity: Identity) -> bool {
        self.own.is_some_and(|own| is_same_tick(own, identity))
    }
}

/// Whether /proc would show the same start time for both.
fn is_same_tick(left: Identity, right: Identity) -> bool {
    left.pid == right.pid && left.start_time_ns / TICK_NS == right.start_time_ns / TICK_NS
}

/// `USER_HZ` is 100 in the kernel's interface, whatever its internal tick.
pub const TICK_NS: u64 = 10_000_000;
/// One part in so many goes at once when nothing has ended, so that a full table is not sorted for each fork.
const EVICTED_SHARE: usize = 16;

#[cfg(test)]
mod seed_tests;
#[cfg(test)]
mod tests;
