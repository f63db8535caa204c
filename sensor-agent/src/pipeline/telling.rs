//! How often the same is told: what was told, and the repetitions that wait to be told together. Not what is worth telling.
//! It may call `finding` and `incidents`' bounds.

use super::incidents::{INCIDENT_NS_MAX, Names, QUIET_NS_MAX};
use crate::enrich::recent::Recent;
use crate::event::{Arguments, BootNs};
use crate::finding::Finding;
use hashlink::LinkedHashMap;
use sensor_baseline::{Behaviour, Severity, UnixNs};
use std::hash::{BuildHasher as _, Hash, RandomState};

/// How often a finding that is the same is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telling {
    /// Each time.
    Always,
    /// Once in all.
    Once,
    /// Once in each incident.
    PerIncident,
    /// Once in each incident, and every now and then how often since.
    #[default]
    Counted,
}

/// What makes two findings the same. A worse one is another.
#[derive(Debug, Hash)]
pub(super) struct Claim<'a> {
    pub(super) behaviour: &'a Behaviour,
    /// What speaks against it: the name of a reason, and its rule.
    pub(super) against: (&'static str, &'a str),
    pub(super) severity: Severity,
    /// Of the baseline; 0 where none matters.
    pub(super) baseline_version: u64,
}

/// What was done, and what there is to tell of it.
pub(super) struct Act<'a> {
    /// All that speaks against it; the first decides what it repeats.
    pub(super) claims: &'a [Claim<'a>],
    pub(super) names: &'a Names,
    /// Of an exec.
    pub(super) arguments: Option<&'a Arguments>,
    pub(super) time: UnixNs,
}

/// What a claim is remembered by. Not its names: whoever makes many can make them long, too.
type Key = [u64; 2];

/// What was told.
#[derive(Debug)]
pub(super) struct Tellings {
    telling: Telling,
    hashers: [RandomState; 2],
    told: Recent<Key, Told>,
    /// By claim one of its repetitions, with how many there are and when the last was.
    waiting: LinkedHashMap<Key, Waiting>,
    /// No repetition is due before.
    next_due: BootNs,
    /// Repetitions for which there was no room, and which are not told yet: those of an incident that is over never are.
    untold_count: u64,
}

#[derive(Clone, Debug)]
struct Told {
    /// How long the next repetitions wait.
    wait_ns: u64,
    /// From when on the next repetition is told.
    due: BootNs,
    /// Repetitions since, where there was no room for one of them to wait.
    untold: u64,
    /// Of an exec: other arguments that were told at once.
    variants: u8,
}

impl Told {
    fn at(now: BootNs) -> Self {
        Self { wait_ns: WAIT_NS_MIN, due: now.after(WAIT_NS_MIN), untold: 0, variants: 0 }
    }

    const fn wait_longer(&mut self, now: BootNs) {
        let longer = 2 * self.wait_ns;
        self.wait_ns = if longer < QUIET_NS_MAX { longer } else { QUIET_NS_MAX };
        self.due = now.after(self.wait_ns);
    }
}

#[derive(Debug)]
struct Waiting {
    finding: Finding,
    due: BootNs,
}

impl Tellings {
    /// Nothing was told.
    pub(super) fn new(telling: Telling) -> Self {
        let age_ns_max = if telling == Telling::Once { u64::MAX } else { INCIDENT_NS_MAX };
        Self {
            telling,
            hashers: [RandomState::new(), RandomState::new()],
            told: Recent::new(TOLD_MAX, age_ns_max),
            waiting: LinkedHashMap::new(),
            next_due: BootNs(u64::MAX),
            untold_count: 0,
        }
    }

    /// Tells what has something new to say, and counts what has not. Whether it was new.
    pub(super) fn tell(
        &mut self,
        act: &Act<'_>,
        now: BootNs,
        make: impl FnOnce() -> Finding,
        tell: impl FnOnce(Finding),
    ) -> bool {
        let scope = if self.telling == Telling::Once { "" } else { act.names.incident.as_str() };
        let keys: Vec<Key> = act.claims.iter().map(|claim| self.hash(&(scope, claim))).collect();
        let mut is_new = self.telling == Telling::Always;
        for key in &keys {
            if self.told.find(key, now).is_none() {
                self.told.put(*key, Told::at(now), now);
                is_new = true;
            }
        }
        if is_new {
            if let (Some(key), Some(arguments)) = (keys.first(), act.arguments) {
                self.told.put(self.hash(&(key, arguments)), Told::at(now), now);
            }
            tell(make());
        } else if let (Telling::Counted, Some(key)) = (self.telling, keys.first()) {
            self.repeat(*key, act, now, || Finding { is_repeat: true, ..make() }, tell);
        }
        is_new
    }

    fn hash(&self, of: &impl Hash) -> Key {
        [self.hashers[0].hash_one(of), self.hashers[1].hash_one(of)]
    }

    fn repeat(
        &mut self,
        key: Key,
        act: &Act<'_>,
        now: BootNs,
        make: impl FnOnce() -> Finding,
        tell: impl FnOnce(Finding),
    ) {
        let Some(mut told) = self.told.find(&key, now).cloned() else { return };
        if let Some(arguments) = act.arguments.filter(|_| told.variants < VARIANTS_MAX) {
            let variant = self.hash(&(&key, arguments));
            if self.told.find(&variant, now).is_none() {
                told.variants += 1;
                self.told.put(variant, Told::at(now), now);
                self.told.put(key, told, now);
                return tell(make());
            }
        }
        if now >= told.due {
            let waited = self.waiting.remove(&key).map_or(0, |waiting| waiting.finding.count);
            self.untold_count -= told.untold;
            let mut finding = make();
            finding.count += waited + std::mem::take(&mut told.untold);
            told.wait_longer(now);
            self.told.put(key, told, now);
            tell(finding);
        } else if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.finding.count += 1;
            waiting.finding.time = act.time;
        } else if self.waiting.len() < WAITING_MAX {
            self.next_due = self.next_due.min(told.due);
            self.waiting.insert(key, Waiting { finding: make(), due: told.due });
        } else {
            told.untold += 1;
            self.untold_count += 1;
            self.told.put(key, told, now);
        }
    }

    /// Tells the repetitions that have waited long enough.
    pub(super) fn tell_due(&mut self, now: BootNs, mut tell: impl FnMut(Finding)) {
        if now < self.next_due {
            return;
        }
        let mut rest = LinkedHashMap::new();
        self.next_due = BootNs(u64::MAX);
        for (key, waiting) in self.waiting.drain() {
            if waiting.due > now {
                self.next_due = self.next_due.min(waiting.due);
                rest.insert(key, waiting);
                continue;
            }
            if let Some(mut told) = self.told.find(&key, now).cloned() {
                told.wait_longer(now);
                self.told.put(key, told, now);
            }
            tell(waiting.finding);
        }
        self.waiting = rest;
    }

    /// Tells every repetition that waits.
    pub(super) fn tell_rest(&mut self, tell: impl FnMut(Finding)) {
        self.next_due = BootNs::default();
        self.tell_due(BootNs(u64::MAX), tell);
    }

    /// Repetitions that were not told for want of room.
    pub(super) const fn untold_count(&self) -> u64 {
        self.untold_count
    }

    /// What was forgotten for want of room, and may be told as new.
    pub(super) const fn evicted_count(&self) -> u64 {
        self.told.evicted_count()
    }
}

/// Claims remembered at most, so as not to tell them again.
const TOLD_MAX: usize = 32_768;
/// Repetitions that wait at most, each with all there is to tell of it.
const WAITING_MAX: usize = 256;
/// How long the first repetitions wait to be told; those after them twice as long each time, and an incident's quiet time at
/// most.
const WAIT_NS_MIN: u64 = 60_000_000_000;
/// Command lines of one program that are told at once, besides the first: one may be harmless and the next not.
const VARIANTS_MAX: u8 = 8;
