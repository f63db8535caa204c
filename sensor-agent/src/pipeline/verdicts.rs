//! What the kernel is to remember of verdicts, and what it counted by them. Not the kernel's maps: a driver applies what is
//! asked for here, and reads the counts. It may call `enrich`, `event` and the baseline crate's types.
//!
//! A verdict is remembered when it is known to be the same for the same process and object until something happens that the
//! kernel side sees ([`sensor_event::VerdictEntry`]), and when the agent has nothing to do for it but to count: no
//! finding, no rule, nothing fresh or ephemeral about the file. And only for what was seen twice: most objects are touched
//! once.
//!
//! Room is shared out between contexts: when there is none, whoever has most loses what was used longest ago. So a program
//! that touches many objects takes the verdicts of no other below its share.

use super::Repeated;
use crate::enrich::Process;
use crate::enrich::recent::Recent;
use crate::event::{BootNs, Identity};
use hashlink::LinkedHashMap;
use sensor_baseline::{Observation, Verdict, Workload};
use sensor_event::{
    ContextEntry, FileFlags, Hits, KNOWN_COMPONENTS_MAX, KnownAction, ObjectHash, PathFlags, Peer, Record,
    RecordBody, VerdictEntry,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// How much is remembered, and the key of the hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictOptions {
    /// Verdicts at most.
    pub entries_max: u32,
    /// Random.
    pub secret: [u64; 2],
}

impl VerdictOptions {
    /// Cells that count hits: more than verdicts, because one is not used again for a while.
    #[must_use]
    pub const fn cells(self) -> u32 {
        self.entries_max.saturating_mul(2)
    }
}

/// A change to what the kernel remembers. They are to be applied in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// As whom a process acts.
    Process {
        /// Which one.
        pid: u32,
        /// As whom.
        entry: ContextEntry,
    },
    /// A process is none any more, or acts as somebody else.
    ForgetProcess {
        /// Which one.
        pid: u32,
    },
    /// A verdict.
    Verdict {
        /// What it is on.
        hash: u64,
        /// The verdict.
        entry: VerdictEntry,
    },
    /// A verdict goes.
    ForgetVerdict {
        /// What it was on.
        hash: u64,
    },
}

/// What the agent would do when the same is done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody can tell.
    Open,
    /// Nothing: it is no observation.
    Nothing,
    /// Count it: as the observation that was made last.
    Plain,
}

/// As whom a process acts: everything about it that a remembered verdict depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Context {
    /// As the process table has it: what the process writes is fresh in this one.
    workload: Workload,
    /// As the baseline calls it.
    name: Workload,
    subject: Arc<str>,
    is_shell: bool,
    is_transparent: bool,
    /// One process and effective user only.
    of: Option<(Identity, u32)>,
}

impl Context {
    fn is_of(&self, process: &Process, name: Option<&Workload>, of: Option<(Identity, u32)>) -> bool {
        self.workload == process.workload
            && name.is_none_or(|name| self.name == *name)
            && self.subject == process.lineage.subject
            && self.is_shell == process.image.is_shell()
            && self.is_transparent == process.image.is_transparent()
            && self.of == of
    }
}

/// What the kernel was told of a process.
#[derive(Debug)]
struct Told {
    entry: ContextEntry,
    context: Arc<Context>,
}

/// One remembered verdict.
#[derive(Debug)]
struct Known {
    context: u32,
    cell: u32,
    /// Hits that have been taken.
    taken: u64,
    /// `None` when a hit is no observation.
    fact: Option<Fact>,
}

/// What a hit stands for.
#[derive(Debug)]
struct Fact {
    observation: Observation,
    verdict: Verdict,
    file: Option<WrittenFile>,
}

/// A file that a hit wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenFile {
    /// As the process table has it.
    pub(super) workload: Workload,
    /// Device and inode.
    pub(super) file: (u32, u64),
}

/// A hit count that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// What was done, and how often.
    pub(super) repeated: Repeated,
    /// The file that it wrote.
    pub(super) file: Option<WrittenFile>,
    /// The last time.
    pub(super) last: BootNs,
}

/// What the kernel remembers.
#[derive(Debug)]
pub(super) struct Verdicts {
    options: VerdictOptions,
    /// Rules are asked of what is remembered: they may say something else of another process or user.
    is_of_user: bool,
    policy: u32,
    contexts: HashMap<Arc<Context>, u32>,
    /// By context its hashes, in the order of their last use.
    hashes: HashMap<u32, LinkedHashMap<u64, ()>>,
    /// Contexts by how many those are.
    sizes: BTreeSet<(usize, u32)>,
    next_context: u32,
    known: HashMap<u64, Known>,
    /// Hashes that were seen once.
    sighted: Recent<u64, ()>,
    /// What the kernel was told of processes.
    processes: HashMap<Identity, Told>,
    /// Cells that no verdict counts in, with what they count up to now.
    cells_free: Vec<(u32, u64)>,
    /// A program that found a verdict may count it after it went.
    leaving: VecDeque<(BootNs, Known)>,
    changes: Vec<Remember>,
    hits_count: u64,
    evicted_count: u64,
}

impl Verdicts {
    pub(super) fn new(options: VerdictOptions, is_of_user: bool) -> Self {
        Self {
            options,
            is_of_user,
            policy: 0,
            contexts: HashMap::new(),
            hashes: HashMap::new(),
            sizes: BTreeSet::new(),
            next_context: 1,
            known: HashMap::new(),
            sighted: Recent::new(options.entries_max as usize, SIGHTED_NS_MAX),
            processes: HashMap::new(),
            cells_free: (0..options.cells()).rev().map(|cell| (cell, 0)).collect(),
            leaving: VecDeque::new(),
            changes: Vec::new(),
            hits_count: 0,
            evicted_count: 0,
        }
    }

    /// What is judged by from now on.
    pub(super) const fn set_policy(&mut self, policy: u32) {
        self.policy = policy;
    }

    /// Changes that the kernel is to be told of.
    pub(super) fn changes(&mut self) -> impl Iterator<Item = Remember> {
        self.changes.drain(..)
    }

    pub(super) const fn hits_count(&self) -> u64 {
        self.hits_count
    }

    pub(super) const fn evicted_count(&self) -> u64 {
        self.evicted_count
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A record was handled: `process` is who did it, `made` the observation that was made of it.
    pub(super) fn see(
        &mut self,
        record: &Record<'_>,
        standing: Standing,
        process: &Process,
        made: Option<&(Observation, Verdict)>,
    ) {
        let now = BootNs(record.header.time_ns);
        self.expire(now);
        let identity = identity(record);
        if self.processes.get(&identity).is_some_and(|told| told.entry.cgroup_id != record.header.cgroup_id) {
            self.forget_process(identity);
        }
        match standing {
            Standing::Open => return,
            Standing::Plain if !made.is_some_and(is_plain) => return,
            Standing::Plain | Standing::Nothing => {}
        }
        if process.exec_id == 0 || process.is_unknown() || process.is_own || !is_object(record) {
            return;
        }
        let name = made.map(|(observation, _)| &observation.behaviour.workload);
        let Some(context) = self.context(process, name, record) else { return };
        let Some((hash, stamp)) = self.object(record, context) else { return };
        let entry = VerdictEntry { hash, since_ns: now.0, policy: self.policy, stamp, cell: 0, reserved: 0 };
        if let Some(known) = self.known.get_mut(&hash) {
            // Void or too old: what it says is said anew.
            known.fact = made.map(|made| fact(record, process, made));
            let entry = VerdictEntry { cell: known.cell, ..entry };
            self.use_now(context, hash);
            self.changes.push(Remember::Verdict { hash, entry });
        } else if self.sighted.remove(&hash).is_some() {
            let fact = made.map(|made| fact(record, process, made));
            self.remember((hash, context), fact, entry);
        } else {
            self.sighted.put(hash, (), now);
        }
    }

    /// A process ended, or became another program: the kernel has forgotten it.
    pub(super) fn process_changed(&mut self, identity: Identity, now: BootNs) {
        let Some(told) = self.forget_process(identity) else { return };
        if told.context.of.is_some() {
            // Nobody acts in it any more.
            self.contexts.remove(&told.context);
            while self.evict(told.entry.context, now) {}
        }
    }

    /// Takes what was counted since the last time. `read` reads a cell.
    pub(super) fn take_hits(&mut self, read: &dyn Fn(u32) -> Hits, mut take: impl FnMut(Taken)) {
        let mut used = Vec::new();
        let mut sum = 0;
        for (hash, known) in &mut self.known {
            if let Some(hits) = known.take(read, &mut sum, &mut take) {
                used.push((hits.last_ns, known.context, *hash));
            }
        }
        for (_, known) in &mut self.leaving {
            known.take(read, &mut sum, &mut take);
        }
        self.hits_count += sum;
        used.sort_unstable();
        for (_, context, hash) in used {
            self.use_now(context, hash);
        }
    }

    /// The number of the context that a process acts in; the kernel is told. Of what is no observation nobody says what the
    /// workload is called.
    fn context(&mut self, process: &Process, name: Option<&Workload>, record: &Record<'_>) -> Option<u32> {
        let identity = identity(record);
        let of = self.is_of_user.then_some((identity, record.header.euid));
        if let Some(told) = self.processes.get(&identity)
            && told.entry.exec_id == process.exec_id
            && told.context.is_of(process, name, of)
        {
            return Some(told.entry.context);
        }
        let name = name.unwrap_or(&process.workload);
        let context = Context {
            workload: process.workload.clone(),
            name: name.clone(),
            subject: Arc::clone(&process.lineage.subject),
            is_shell: process.image.is_shell(),
            is_transparent: process.image.is_transparent(),
            of,
        };
        let (context, number) = self.number_of(context)?;
        let entry = ContextEntry {
            start_time_ns: identity.start_time_ns,
            cgroup_id: record.header.cgroup_id,
            context: number,
            exec_id: process.exec_id,
            is_of_user: u16::from(of.is_some()),
            euid: of.map_or(0, |(_, euid)| euid),
            reserved: 0,
        };
        if self.processes.len() >= PROCESSES_MAX {
            let told: Vec<Identity> = self.processes.keys().copied().collect();
            told.into_iter().for_each(|identity| drop(self.forget_process(identity)));
        }
        self.processes.insert(identity, Told { entry, context });
        self.changes.push(Remember::Process { pid: identity.pid, entry });
        Some(number)
    }

    fn number_of(&mut self, context: Context) -> Option<(Arc<Context>, u32)> {
        if let Some((known, number)) = self.contexts.get_key_value(&context) {
            return Some((Arc::clone(known), *number));
        }
        if self.contexts.len() >= CONTEXTS_MAX {
            let hashes = &self.hashes;
            self.contexts.retain(|_, number| hashes.contains_key(number));
        }
        if self.contexts.len() >= CONTEXTS_MAX {
            return None;
        }
        let number = self.next_context;
        self.next_context = number.checked_add(1)?;
        let context = Arc::new(context);
        self.contexts.insert(Arc::clone(&context), number);
        Some((context, number))
    }

    fn forget_process(&mut self, identity: Identity) -> Option<Told> {
        let told = self.processes.remove(&identity)?;
        self.changes.push(Remember::ForgetProcess { pid: identity.pid });
        Some(told)
    }

    /// The hash of a record's object, with its stamp; `None` for what is not remembered.
    fn object(&self, record: &Record<'_>, context: u32) -> Option<(u64, u32)> {
        let start = |action| ObjectHash::new(self.options.secret, context, action);
        match &record.body {
            RecordBody::FileOpen(file) => {
                let body = &file.body;
                let start = start(KnownAction::Write).with_file(body.dev, body.mode, body.inode);
                let hash = file.path.leaf_first().try_fold(start, ObjectHash::with_component)?;
                Some((hash.finish(), body.stamp))
            }
            RecordBody::Connect(socket) => {
                let body = &socket.body;
                let address = zerocopy::transmute!(body.destination.0);
                let peer = Peer {
                    family: body.family,
                    protocol: body.protocol,
                    port: body.destination_port,
                    address,
                };
                Some((start(KnownAction::Connect).with_peer(&peer).finish(), 0))
            }
            _ => None,
        }
    }

    fn remember(&mut self, (hash, context): (u64, u32), fact: Option<Fact>, entry: VerdictEntry) {
        // Without a cell, it waits until one may be used again.
        let Some((cell, taken)) = self.cells_free.pop() else { return };
        if self.known.len() >= self.options.entries_max as usize
            && let Some((_, largest)) = self.sizes.last().copied()
        {
            self.evict(largest, BootNs(entry.since_ns));
            self.evicted_count += 1;
        }
        self.resize(context, |hashes| {
            hashes.insert(hash, ());
        });
        self.known.insert(hash, Known { context, cell, taken, fact });
        self.changes.push(Remember::Verdict { hash, entry: VerdictEntry { cell, ..entry } });
    }

    /// Forgets what a context used longest ago; `false` when it has nothing.
    fn evict(&mut self, context: u32, now: BootNs) -> bool {
        let mut oldest = None;
        self.resize(context, |hashes| oldest = hashes.pop_front());
        let Some((hash, ())) = oldest else { return false };
        if let Some(known) = self.known.remove(&hash) {
            self.leaving.push_back((now, known));
        }
        self.changes.push(Remember::ForgetVerdict { hash });
        true
    }

    fn resize(&mut self, context: u32, change: impl FnOnce(&mut LinkedHashMap<u64, ()>)) {
        let hashes = self.hashes.entry(context).or_default();
        let before = hashes.len();
        change(hashes);
        let after = hashes.len();
        self.sizes.remove(&(before, context));
        if after > 0 {
            self.sizes.insert((after, context));
        } else {
            self.hashes.remove(&context);
        }
    }

    fn use_now(&mut self, context: u32, hash: u64) {
        if let Some(hashes) = self.hashes.get_mut(&context) {
            hashes.to_back(&hash);
        }
    }

    /// Cells that nobody counts in any more can be used again.
    fn expire(&mut self, now: BootNs) {
        while self.leaving.front().is_some_and(|(since, _)| now > since.after(LEAVING_NS)) {
            let Some((_, known)) = self.leaving.pop_front() else { return };
            self.cells_free.push((known.cell, known.taken));
        }
    }
}

fn identity(record: &Record<'_>) -> Identity {
    Identity { pid: record.header.pid, start_time_ns: record.header.start_time_ns }
}

/// Whether a record is of a kind that is remembered.
fn is_object(record: &Record<'_>) -> bool {
    match &record.body {
        RecordBody::FileOpen(file) => {
            file.body.result == 0
                && !file.body.flags.contains(FileFlags::CREATED)
                && file.path.reference.flags == PathFlags::default()
                // What is below a process's own folder is told by the process.
                && file.path.leaf_first().next_back() != Some(b"proc")
                && file.path.leaf_first().count() < KNOWN_COMPONENTS_MAX
        }
        RecordBody::Connect(socket) => socket.body.protocol == IPPROTO_TCP,
        _ => false,
    }
}

/// Whether the same observation of the same object would be judged alike, and nothing else be done for it.
fn is_plain((observation, verdict): &(Observation, Verdict)) -> bool {
    let traits = &observation.traits;
    let is_of_time = traits.ephemeral || traits.folders_made != 0 || traits.object_deleted;
    !is_of_time && !traits.object_from_caller && matches!(verdict, Verdict::Allowed | Verdict::Learning)
}

fn fact(record: &Record<'_>, process: &Process, (observation, verdict): &(Observation, Verdict)) -> Fact {
    let file = match &record.body {
        RecordBody::FileOpen(file) => {
            Some(WrittenFile { workload: process.workload.clone(), file: (file.body.dev, file.body.inode) })
        }
        _ => None,
    };
    Fact { observation: observation.clone(), verdict: verdict.clone(), file }
}

impl Known {
    fn take(
        &mut self,
        read: &dyn Fn(u32) -> Hits,
        sum: &mut u64,
        take: &mut impl FnMut(Taken),
    ) -> Option<Hits> {
        let hits = read(self.cell);
        let count = hits.count.wrapping_sub(self.taken);
        if count == 0 {
            return None;
        }
        self.taken = hits.count;
        *sum += count;
        if let Some(fact) = &self.fact {
            let (observation, verdict) = (fact.observation.clone(), fact.verdict.clone());
            let repeated = Repeated { observation, verdict, count };
            take(Taken { repeated, file: fact.file.clone(), last: BootNs(hits.last_ns) });
        }
        Some(hits)
    }
}

const IPPROTO_TCP: u16 = 6;
/// Contexts at most.
const CONTEXTS_MAX: usize = 16_384;
/// Processes at most that the kernel is told of.
pub const PROCESSES_MAX: usize = 16_384;
/// How long what was seen once is kept in mind: ten minutes.
const SIGHTED_NS_MAX: u64 = 600_000_000_000;
/// How long after a verdict went a program may still count it: far longer than one runs.
const LEAVING_NS: u64 = 10_000_000_000;

#[cfg(test)]
#[path = "verdicts_tests.rs"]
mod tests;
