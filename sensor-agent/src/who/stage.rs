//! Where what the pipeline gives waits until it is known who did it. Bounded and in order: an item passes when its
//! lookups are answered, when its time is up, or when there is no more room behind it, each counted. Not the lookups.
//! It never blocks and reads no clock: a driver pushes, and takes what is ready, when it comes by.

use super::container::{Container, Missing};
use super::hash::{Hash, HashKey, HostName, NoHash, Wanted};
use super::names::Names;
use super::place::{ContainerRef, Place};
use super::worker::{Answer, FileRequest, Lookups, Request, UnitRef};
use crate::enrich::recent::Recent;
use crate::event::{BootNs, Identity};
use crate::finding::ProcessFacts;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Something that processes did.
pub trait Doing {
    /// Shows each process that it names, and whether the hash of its program is wanted.
    fn each_process(&mut self, visit: &mut dyn FnMut(&mut ProcessFacts, bool));
}

/// The queue.
#[derive(Debug)]
pub struct Stage<T> {
    waiting: VecDeque<Waiting<T>>,
    ready: VecDeque<T>,
    desk: Desk,
    waiting_max: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    since: BootNs,
}

impl<T: Doing> Stage<T> {
    /// With the threads that answer; without them only what a path says is told, and nothing waits.
    #[must_use]
    pub fn new(lookups: Option<Lookups>, own_mnt_ns: u32) -> Self {
        Self {
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            desk: Desk::new(lookups, own_mnt_ns),
            waiting_max: WAITING_MAX,
        }
    }

    /// Takes an item, and asks what has to be asked.
    pub fn push(&mut self, mut item: T, now: BootNs) {
        self.desk.collect(now);
        let desk = &mut self.desk;
        let mut is_complete = true;
        item.each_process(&mut |facts, wants_hash| is_complete &= desk.serve(facts, wants_hash, now, now));
        if is_complete && self.waiting.is_empty() {
            self.ready.push_back(item);
            return;
        }
        if self.waiting.len() >= self.waiting_max
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.desk.counters.passed_full += 1;
            self.ready.push_back(self.desk.give_up(oldest.item));
        }
        self.waiting.push_back(Waiting { item, since: now });
    }

    /// The next item that need not wait any longer.
    pub fn pop(&mut self, now: BootNs) -> Option<T> {
        if let Some(item) = self.ready.pop_front() {
            return Some(item);
        }
        self.desk.collect(now);
        let front = self.waiting.front_mut()?;
        let desk = &mut self.desk;
        let (mut is_complete, since) = (true, front.since);
        front
            .item
            .each_process(&mut |facts, wants_hash| is_complete &= desk.serve(facts, wants_hash, since, now));
        let is_late = now > since.after(WAIT_NS);
        if !is_complete && !is_late {
            return None;
        }
        let Waiting { item, .. } = self.waiting.pop_front()?;
        if is_complete {
            return Some(item);
        }
        self.desk.counters.passed_late += 1;
        Some(self.desk.give_up(item))
    }

    /// The image of a container: `None` as long as that was asked and not answered, also by a runtime that is slow;
    /// `Some(None)` when it has none.
    pub fn image(&mut self, container: &ContainerRef, now: BootNs) -> Option<Option<String>> {
        self.desk.collect(now);
        match self.desk.container(container, now) {
            Sought::Found(found) if found.image.is_none() && found.missing == Some(Missing::Unreadable) => {
                None
            }
            Sought::Missing(Missing::Unreadable) => None,
            Sought::Found(found) => Some(found.image.clone()),
            Sought::Missing(Missing::NotFound) | Sought::Unasked => Some(None),
            Sought::Asked => None,
        }
    }

    /// Waits for an answer: for a driver that ends, and has nothing else to do.
    pub fn wait(&mut self, timeout: Duration) {
        self.desk.early = self.desk.lookups.as_ref().and_then(|lookups| lookups.answer_within(timeout));
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty()
    }

    /// Everything that went by, by name.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let counters = &self.desk.counters;
        BTreeMap::from([
            ("who_waiting", self.waiting.len() as u64),
            ("who_passed_incomplete{reason=late}", counters.passed_late),
            ("who_passed_incomplete{reason=full}", counters.passed_full),
            ("who_refused{reason=queue_full}", counters.refused),
            ("who_hashes_missing", counters.hashes_missing),
        ])
    }
}

#[derive(Debug, Default)]
struct Counters {
    passed_late: u64,
    passed_full: u64,
    refused: u64,
    hashes_missing: u64,
}

/// What is known, what was asked, and what is still to be asked.
#[derive(Debug)]
struct Desk {
    lookups: Option<Lookups>,
    /// The agent's own mount namespace: in it a path is the host's.
    own_mnt_ns: u32,
    names: Arc<Names>,
    /// The names are no older than this.
    names_as_of: Option<BootNs>,
    containers: Recent<ContainerRef, Arc<Container>>,
    /// Those of which more may be known soon: as far as they are known, and why not better.
    containers_partial: Recent<ContainerRef, (Result<Arc<Container>, Missing>, BootNs)>,
    timers: Recent<UnitRef, Option<Arc<str>>>,
    hashes: Recent<HashKey, Hash>,
    host_names: Recent<HostName, bool>,
    asked: HashSet<Question>,
    /// An answer that was waited for.
    early: Option<Answer>,
    counters: Counters,
}

/// What came of a question after a container.
enum Sought {
    /// It, whole or in part.
    Found(Arc<Container>),
    /// No runtime knows it, for now.
    Missing(Missing),
    /// The answer is on its way.
    Asked,
    /// There is nobody to ask, or no room for the question.
    Unasked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Names,
    Container(ContainerRef),
    Timer(UnitRef),
    Hash(HashKey),
    HostName(HostName),
}

impl Desk {
    fn new(lookups: Option<Lookups>, own_mnt_ns: u32) -> Self {
        Self {
            lookups,
            own_mnt_ns,
            names: Arc::default(),
            names_as_of: None,
            containers: Recent::new(KNOWN_MAX, CONTAINER_AGE_NS),
            containers_partial: Recent::new(KNOWN_MAX, MISSING_AGE_NS),
            timers: Recent::new(KNOWN_MAX, TIMER_AGE_NS),
            hashes: Recent::new(KNOWN_MAX, HASH_AGE_NS),
            host_names: Recent::new(KNOWN_MAX, HOST_NAME_AGE_NS),
            asked: HashSet::new(),
            early: None,
            counters: Counters::default(),
        }
    }

    /// Takes the answers that have come.
    fn collect(&mut self, now: BootNs) {
        while let Some(answer) = self.early.take().or_else(|| self.lookups.as_ref().and_then(Lookups::answer))
        {
            match answer {
                Answer::Names { asked, names } => {
                    self.asked.remove(&Question::Names);
                    (self.names, self.names_as_of) = (names, Some(asked));
                }
                Answer::Container(container, found) => {
                    match found {
                        Ok(found) if found.is_whole() => self.containers.put(container.clone(), found, now),
                        partial => self.containers_partial.put(container.clone(), (partial, now), now),
                    }
                    self.asked.remove(&Question::Container(container));
                }
                Answer::Timer(unit, timer) => {
                    self.timers.put(unit.clone(), timer, now);
                    self.asked.remove(&Question::Timer(unit));
                }
                Answer::Hash(key, hash) => {
                    self.hashes.put(key.clone(), hash, now);
                    self.asked.remove(&Question::Hash(key));
                }
                Answer::Name(name, is_so) => {
                    self.host_names.put(name.clone(), is_so, now);
                    self.asked.remove(&Question::HostName(name));
                }
            }
        }
    }

    /// Fills in what is known of a process, and asks for the rest. Whether all is known. The item waits since `since`.
    fn serve(&mut self, facts: &mut ProcessFacts, wants_hash: bool, since: BootNs, now: BootNs) -> bool {
        if facts.who.place == Place::default() {
            facts.who.place = Place::of(&facts.cgroup, facts.shim.as_deref());
        }
        if self.lookups.is_none() {
            return true;
        }
        facts.who.has_host_mounts = facts.mnt_ns != 0 && facts.mnt_ns == self.own_mnt_ns;
        let has_names = self.serve_names(facts, since, now);
        let has_container = self.serve_container(facts, now);
        let has_host_name = self.serve_host_name(facts, now);
        let has_timer = self.serve_timer(facts, now);
        let has_hash = !wants_hash || self.serve_hash(facts, now);
        has_names && has_container && has_host_name && has_timer && has_hash
    }

    fn serve_names(&mut self, facts: &mut ProcessFacts, since: BootNs, now: BootNs) -> bool {
        let (names, who) = (&self.names, &mut facts.who);
        who.user = names.user(facts.uid).cloned();
        who.euser = names.user(facts.euid).cloned();
        who.group = names.group(facts.gid).cloned();
        who.egroup = names.group(facts.egid).cloned();
        who.login_user = facts.login_uid.or(who.place.login_uid).and_then(|uid| names.user(uid)).cloned();
        let is_older =
            |age_ns: u64, than: BootNs| self.names_as_of.is_none_or(|as_of| as_of.after(age_ns) < than);
        let is_named =
            who.user.is_some() && who.euser.is_some() && who.group.is_some() && who.egroup.is_some();
        // A number without a name may have got one just now; one with a name keeps it for a while.
        let is_missing = self.names_as_of.is_none() || (!is_named && is_older(NAMES_UNKNOWN_AGE_NS, since));
        if is_missing || is_older(NAMES_AGE_NS, now) {
            let is_asked = self.ask(Question::Names, |lookups| lookups.ask(Request::Names { asked: now }));
            return !is_missing || !is_asked;
        }
        true
    }

    fn serve_container(&mut self, facts: &mut ProcessFacts, now: BootNs) -> bool {
        let Some(wanted) = facts.who.place.container.as_ref() else { return true };
        if facts.who.container.is_some() {
            return true;
        }
        let sought = self.container(wanted, now);
        let who = &mut facts.who;
        match sought {
            Sought::Found(found) => {
                who.container_missing = found.missing.map(Missing::name);
                who.container = Some(found);
            }
            Sought::Missing(missing) => who.container_missing = Some(missing.name()),
            Sought::Asked => return false,
            Sought::Unasked => {}
        }
        true
    }

    /// What is known of a container; asks when that is nothing, or when more may be known by now.
    fn container(&mut self, wanted: &ContainerRef, now: BootNs) -> Sought {
        if let Some(found) = self.containers.find(wanted, now) {
            return Sought::Found(Arc::clone(found));
        }
        let may_have_started = |found: &Container, since: BootNs| {
            found.missing.is_none() && now > since.after(FIRST_PROCESS_AGE_NS)
        };
        match self.containers_partial.find(wanted, now) {
            Some((Ok(found), since)) if !may_have_started(found, *since) => {
                return Sought::Found(Arc::clone(found));
            }
            Some((Err(missing), _)) => return Sought::Missing(*missing),
            _ => {}
        }
        let question = Question::Container(wanted.clone());
        let is_asked = self.ask(question, |lookups| lookups.ask(Request::Container(wanted.clone())));
        if is_asked { Sought::Asked } else { Sought::Unasked }
    }

    /// The name that the program has on the host, if it has: something else may be mounted where the process sees it.
    fn serve_host_name(&mut self, facts: &mut ProcessFacts, now: BootNs) -> bool {
        let (Some(file), Some(path)) = (facts.file, facts.exe_likely_on_host()) else { return true };
        let name = HostName { path, file };
        if let Some(is_so) = self.host_names.find(&name, now) {
            facts.who.exe_on_host = is_so.then_some(name.path);
            return true;
        }
        let request = FileRequest::Name(name.clone());
        !self.ask(Question::HostName(name), |lookups| lookups.ask_file(request))
    }

    fn serve_timer(&mut self, facts: &mut ProcessFacts, now: BootNs) -> bool {
        let place = &facts.who.place;
        let (Some(name), is_user) = (place.unit.as_ref().or(place.user_unit.as_ref()), place.unit.is_none())
        else {
            return true;
        };
        if facts.origin.is_some() || !name.ends_with(".service") {
            return true;
        }
        let unit = UnitRef { name: name.clone(), is_user };
        if let Some(timer) = self.timers.find(&unit, now) {
            facts.who.timer.clone_from(timer);
            return true;
        }
        !self.ask(Question::Timer(unit.clone()), |lookups| lookups.ask(Request::Timer(unit)))
    }

    fn serve_hash(&mut self, facts: &mut ProcessFacts, now: BootNs) -> bool {
        let Some(file) = facts.file else { return true };
        if matches!(facts.who.hash, Some(Ok(_))) {
            return true;
        }
        let identity = Identity { pid: facts.pid, start_time_ns: facts.start_time_ns };
        // Its own name for it may be the host's even in mounts of its own: whether it is that file is found out.
        let elsewhere = facts.exe_likely_on_host();
        let bare = HashKey { identity, file, is_named: false };
        let named = HashKey { is_named: elsewhere.is_some(), ..bare.clone() };
        let names: Vec<String> = std::iter::once(facts.exe.clone()).chain(elsewhere).collect();
        let asked_before = self.hashes.find(&bare, now).filter(|hash| hash.is_ok());
        if let Some(hash) = asked_before.or_else(|| self.hashes.find(&named, now)) {
            let is_news = facts.who.hash.as_ref() != Some(hash);
            self.counters.hashes_missing += u64::from(hash.is_err() && is_news);
            facts.who.hash = Some(hash.clone());
            return true;
        }
        // The name that a container's program has on the host comes later: who is gone by then may be found by it.
        let wanted = Wanted { key: named.clone(), names, ran: facts.image_since };
        let is_asked = self.ask(Question::Hash(named), |lookups| lookups.ask_file(FileRequest::Hash(wanted)));
        if !is_asked {
            facts.who.hash = Some(Err(NoHash::Refused));
        }
        !is_asked
    }

    /// Asks unless it was asked before. Whether an answer is to be waited for.
    fn ask(&mut self, question: Question, ask: impl FnOnce(&Lookups) -> bool) -> bool {
        let Some(lookups) = &self.lookups else { return false };
        if self.asked.contains(&question) {
            return true;
        }
        let has_room = ask(lookups);
        if has_room {
            self.asked.insert(question);
        } else {
            self.counters.refused += 1;
        }
        has_room
    }

    /// Says of what is not known that it did not come in time.
    fn give_up<T: Doing>(&mut self, mut item: T) -> T {
        let is_looked_up = self.lookups.is_some();
        let missing = &mut self.counters.hashes_missing;
        item.each_process(&mut |facts, wants_hash| {
            let who = &mut facts.who;
            if who.place.container.is_some() && who.container.is_none() && who.container_missing.is_none() {
                who.container_missing = Some(NoHash::Late.name());
            }
            if wants_hash && is_looked_up && facts.file.is_some() && who.hash.is_none() {
                who.hash = Some(Err(NoHash::Late));
                *missing += 1;
            }
        });
        item
    }
}

/// Longest time an item waits for its lookups.
pub const WAIT_NS: u64 = 500_000_000;
/// Items that wait at most: the oldest passes as it is when another comes.
pub const WAITING_MAX: usize = 4_096;
/// Containers, units, and hashes known at most, each.
const KNOWN_MAX: usize = 8_192;
/// Containers may be given another name.
const CONTAINER_AGE_NS: u64 = 300_000_000_000;
/// What was not found may be made, and what was found in part may be found whole.
const MISSING_AGE_NS: u64 = 2_000_000_000;
/// A container whose first process is not known may be about to start.
const FIRST_PROCESS_AGE_NS: u64 = 250_000_000;
const TIMER_AGE_NS: u64 = 60_000_000_000;
/// A process keeps its program; what has no hash is not asked for again so soon.
const HASH_AGE_NS: u64 = 60_000_000_000;
/// A program may be replaced by another file.
const HOST_NAME_AGE_NS: u64 = 2_000_000_000;
/// How old names may be.
const NAMES_AGE_NS: u64 = 5_000_000_000;
/// How old names may be for a number that has none.
const NAMES_UNKNOWN_AGE_NS: u64 = 1_000_000_000;

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
