//! Remembers what was seen, within bounds. Not what is done with it (see `merge`), and it keeps no file. May call:
//! `baseline`, `floor`, `merge`, `remembered`, `template`.
//!
//! A behaviour on which a rule fired is remembered as *withheld*, whether it was learned before or is seen without the rule
//! later: it never counts as normal again. Withheld behaviours have bounds of their own and are never evicted, or a flood of
//! names could bring one back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::baseline::Baseline;
use crate::floor::{Floor, FloorRule};
use crate::merge::{Candidate, merge};
use crate::model::{Action, Behaviour, HostId, Observation, Seen, UnixNs, Workload};
use crate::remembered::Remembered;
use crate::template::template;

/// Bounds of a learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnerLimits {
    /// Behaviours in all.
    pub behaviours_max: usize,
    /// Behaviours of one workload and action, so that what never settles does not push out what does.
    pub dimension_behaviours_max: usize,
    /// Withheld behaviours in all, besides those.
    pub withheld_max: usize,
    /// Withheld behaviours of one workload.
    pub workload_withheld_max: usize,
}

impl Default for LearnerLimits {
    fn default() -> Self {
        Self {
            behaviours_max: 100_000,
            // A quarter more than what a lifecycle calls unstable: more would never be armed.
            dimension_behaviours_max: 2_500,
            withheld_max: 10_000,
            workload_withheld_max: 1_000,
        }
    }
}

/// What became of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    /// A behaviour not known before.
    New,
    /// One more of a known behaviour.
    Known,
    /// Not learned.
    Refused(Refusal),
}

/// Why an observation is not learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It triggered a floor rule, and nobody can tell from here whether that is normal.
    Floor(Arc<FloorRule>),
    /// The rule of this name fired on the same behaviour at another time.
    Withheld(Arc<str>),
    /// Every remembered behaviour of a full learner was seen more than once.
    Full,
    /// A baseline has no text for it: a relative or unfinished path, a port of zero, an unknown subject.
    NoText,
}

/// Numbers that only rise, for an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LearnerCounters {
    /// Observations taken, new or known.
    pub learned: u64,
    /// Observations refused because of a floor rule.
    pub refused_floor: u64,
    /// Observations refused because a rule fired on the same behaviour at another time.
    pub refused_withheld: u64,
    /// Observations of rules that fired, of behaviours that could not be remembered as withheld: the bound is reached.
    pub unwithheld_full: u64,
    /// Observations refused because nothing could be evicted.
    pub refused_full: u64,
    /// Observations that have no text in a baseline.
    pub refused_no_text: u64,
    /// Behaviours forgotten to make room.
    pub evicted: u64,
}

/// What a host's workloads were seen to do.
#[derive(Debug, Clone, Default)]
pub struct Learner {
    limits: LearnerLimits,
    floor: Arc<Floor>,
    workloads: BTreeMap<Workload, Known>,
    /// Workloads and actions by the number of behaviours that may be evicted, without those that have none.
    evictable: BTreeSet<(usize, Workload, Action)>,
    behaviour_count: usize,
    withheld_count: usize,
    changed: BTreeSet<Arc<Behaviour>>,
    counters: LearnerCounters,
}

/// The behaviours of one workload.
#[derive(Debug, Clone, Default)]
struct Known {
    behaviours: BTreeMap<Arc<Behaviour>, Seen>,
    dimensions: BTreeMap<Action, Dimension>,
    /// None of them is in `behaviours`.
    withheld: BTreeMap<Arc<Behaviour>, (Seen, Arc<str>)>,
}

/// The behaviours of one workload and action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Dimension {
    behaviour_count: usize,
    /// Those seen once, by when: what may be evicted, in the order in which it is.
    once: BTreeSet<(UnixNs, Arc<Behaviour>)>,
}

impl Learner {
    /// A learner that knows nothing.
    #[must_use]
    pub fn new(limits: LearnerLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// With another floor than the built-in one.
    #[must_use]
    pub fn with_floor(self, floor: Arc<Floor>) -> Self {
        Self { floor, ..self }
    }

    /// Takes one observation. Whether its workload is to be learned is the caller's question.
    pub fn observe(&mut self, observation: &Observation) -> Learned {
        self.observe_times(observation, 1)
    }

    /// Takes an observation that was made `count` times, at `observation.time` last: what [`Self::observe`] would have made
    /// of each.
    pub fn observe_times(&mut self, observation: &Observation, count: u64) -> Learned {
        // Silenced or not: a silence ends, what is learned stays.
        if let Some(rule) = self.floor.firing(observation) {
            let rule = Arc::clone(rule);
            self.counters.refused_floor += count;
            self.withhold(observation, &rule.id);
            return Learned::Refused(Refusal::Floor(rule));
        }
        if !observation.behaviour.is_nameable() {
            self.counters.refused_no_text += count;
            return Learned::Refused(Refusal::NoText);
        }
        let seen = Seen { count, ..Seen::once(observation.time) };
        let learned = self.add(Arc::new(template(observation)), seen);
        let (further, counters) = (count.saturating_sub(1), &mut self.counters);
        match learned {
            Learned::New | Learned::Known => counters.learned += further,
            Learned::Refused(Refusal::Withheld(_)) => counters.refused_withheld += further,
            Learned::Refused(_) => counters.refused_full += further,
        }
        learned
    }

    /// Takes an observation on which a rule fired, floor rule or not: its behaviour is not learned any more, and what was
    /// learned of it is withheld.
    pub fn withhold(&mut self, observation: &Observation, rule: &str) {
        if observation.behaviour.is_nameable() {
            self.put_withheld(Arc::new(template(observation)), Seen::once(observation.time), rule);
        }
    }

    fn put_withheld(&mut self, behaviour: Arc<Behaviour>, seen: Seen, rule: &str) {
        let own = self.workloads.get(&behaviour.workload).map_or(0, |known| known.withheld.len());
        let is_full =
            self.withheld_count >= self.limits.withheld_max || own >= self.limits.workload_withheld_max;
        if is_full && self.withheld_by(&behaviour).is_none() {
            self.counters.unwithheld_full += 1;
            return;
        }
        let learned = self.unlearn(&behaviour);
        let known = self.workloads.entry(behaviour.workload.clone()).or_default();
        let before = known.withheld.remove_entry(&behaviour);
        self.withheld_count += usize::from(before.is_none());
        // The one that is held already: a behaviour is in memory once.
        let (behaviour, seen, by) = match before {
            // Of several rules the first by name, so that order makes no difference.
            Some((held, (before, by))) => {
                (held, before.join(seen), if *by <= *rule { by } else { rule.into() })
            }
            None => (behaviour, seen, rule.into()),
        };
        let seen = learned.map_or(seen, |learned| learned.join(seen));
        known.withheld.insert(Arc::clone(&behaviour), (seen, by));
        self.changed.insert(behaviour);
    }

    /// Takes a behaviour out of what is learned.
    fn unlearn(&mut self, behaviour: &Arc<Behaviour>) -> Option<Seen> {
        let known = self.workloads.get_mut(&behaviour.workload)?;
        let seen = known.behaviours.remove(behaviour)?;
        let dimension = known.dimensions.entry(behaviour.action).or_default();
        let once_before = dimension.once.len();
        dimension.once.remove(&(seen.last, Arc::clone(behaviour)));
        dimension.behaviour_count -= 1;
        let once = dimension.once.len();
        self.recount(&behaviour.workload, behaviour.action, (once_before, once));
        self.behaviour_count -= 1;
        Some(seen)
    }

    fn withheld_by(&self, behaviour: &Behaviour) -> Option<&Arc<str>> {
        self.workloads.get(&behaviour.workload)?.withheld.get(behaviour).map(|(_, rule)| rule)
    }

    fn add(&mut self, behaviour: Arc<Behaviour>, seen: Seen) -> Learned {
        if let Some(rule) = self.withheld_by(&behaviour).cloned() {
            self.counters.refused_withheld += 1;
            self.put_withheld(behaviour, seen, &rule);
            return Learned::Refused(Refusal::Withheld(rule));
        }
        let known = self.workloads.get(&behaviour.workload);
        if let Some((known, before)) = known.and_then(|known| known.behaviours.get_key_value(&behaviour)) {
            // The one that is held already: a behaviour is in memory once.
            let (behaviour, before) = (Arc::clone(known), *before);
            self.put(&behaviour, before.join(seen), Some(before));
            self.changed.insert(behaviour);
            self.counters.learned += 1;
            return Learned::Known;
        }
        if !self.make_room(&behaviour.workload, behaviour.action) {
            self.counters.refused_full += 1;
            return Learned::Refused(Refusal::Full);
        }
        self.behaviour_count += 1;
        self.put(&behaviour, seen, None);
        self.changed.insert(behaviour);
        self.counters.learned += 1;
        Learned::New
    }

    /// Sets how often and when a behaviour was seen, and keeps the order of eviction.
    fn put(&mut self, behaviour: &Arc<Behaviour>, seen: Seen, before: Option<Seen>) {
        let workload = &behaviour.workload;
        let known = self.workloads.entry(workload.clone()).or_default();
        let dimension = known.dimensions.entry(behaviour.action).or_default();
        let once_before = dimension.once.len();
        match before {
            Some(before) => drop(dimension.once.remove(&(before.last, Arc::clone(behaviour)))),
            None => dimension.behaviour_count += 1,
        }
        if seen.count == 1 {
            dimension.once.insert((seen.last, Arc::clone(behaviour)));
        }
        known.behaviours.insert(Arc::clone(behaviour), seen);
        let once = dimension.once.len();
        self.recount(workload, behaviour.action, (once_before, once));
    }

    /// Keeps the order of what may be evicted, after a change of how many that are.
    fn recount(&mut self, workload: &Workload, action: Action, (before, after): (usize, usize)) {
        if before == after {
            return;
        }
        self.evictable.remove(&(before, workload.clone(), action));
        if after > 0 {
            self.evictable.insert((after, workload.clone(), action));
        }
    }

    /// Everything learned, in the order of the text form.
    pub fn behaviours(&self) -> impl Iterator<Item = (&Behaviour, &Seen)> {
        let known = self.workloads.values().flat_map(|known| &known.behaviours);
        known.map(|(behaviour, seen)| (behaviour.as_ref(), seen))
    }

    /// Everything that is withheld, in the order of the text form, with the rule that withholds it.
    pub fn withheld(&self) -> impl Iterator<Item = (&Behaviour, &Seen, &str)> {
        let withheld = self.workloads.values().flat_map(|known| &known.withheld);
        withheld.map(|(behaviour, (seen, rule))| (behaviour.as_ref(), seen, rule.as_ref()))
    }

    /// Everything learned, then everything withheld: what [`Self::restore`] and [`merge`] take.
    pub fn remembered(&self) -> impl Iterator<Item = (&Behaviour, Remembered)> {
        let learned = self.behaviours().map(|(behaviour, seen)| (behaviour, Remembered::learned(*seen)));
        let withheld = self
            .withheld()
            .map(|(behaviour, seen, rule)| (behaviour, Remembered::withheld(*seen, rule.into())));
        learned.chain(withheld)
    }

    /// Takes back what [`Self::remembered`] of an earlier run gave; what is beyond the bounds is refused and counted.
    /// Restored behaviours do not count as changed.
    pub fn restore(&mut self, behaviours: impl IntoIterator<Item = (Arc<Behaviour>, Remembered)>) {
        for (behaviour, remembered) in behaviours {
            let was_changed = self.changed.contains(&behaviour);
            match &remembered.withheld_by {
                Some(rule) => self.put_withheld(Arc::clone(&behaviour), remembered.seen, rule),
                None => drop(self.add(Arc::clone(&behaviour), remembered.seen)),
            }
            if !was_changed {
                self.changed.remove(&behaviour);
            }
        }
    }

    /// What is new, was seen again, or is withheld since the last call. An evicted behaviour is not in it. Shared, so that who
    /// keeps it takes no second copy.
    pub fn take_changed(&mut self) -> Vec<(Arc<Behaviour>, Remembered)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .filter_map(|behaviour| {
                let known = self.workloads.get(&behaviour.workload)?;
                let learned = known.behaviours.get(&behaviour).map(|seen| Remembered::learned(*seen));
                let withheld = || {
                    let (seen, rule) = known.withheld.get(&behaviour)?;
                    Some(Remembered::withheld(*seen, Arc::clone(rule)))
                };
                let remembered = learned.or_else(withheld)?;
                Some((behaviour, remembered))
            })
            .collect()
    }

    /// Forgets a workload, for example because it is armed now.
    pub fn forget(&mut self, workload: &Workload) {
        if let Some(known) = self.workloads.remove(workload) {
            self.behaviour_count -= known.behaviours.len();
            self.withheld_count -= known.withheld.len();
            for (action, dimension) in &known.dimensions {
                self.recount(workload, *action, (dimension.once.len(), 0));
            }
            self.changed.retain(|behaviour| behaviour.workload != *workload);
        }
    }

    /// Whether a behaviour is remembered, learned or withheld.
    #[must_use]
    pub fn knows(&self, behaviour: &Behaviour) -> bool {
        self.workloads.get(&behaviour.workload).is_some_and(|known| {
            known.behaviours.contains_key(behaviour) || known.withheld.contains_key(behaviour)
        })
    }

    /// Number of behaviours learned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.behaviour_count
    }

    /// Whether nothing is learned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.behaviour_count == 0
    }

    /// What was taken, refused and forgotten.
    #[must_use]
    pub fn counters(&self) -> LearnerCounters {
        self.counters
    }

    /// What is remembered, as the candidate of one host.
    #[must_use]
    pub fn candidate(&self, fleet: &str) -> Candidate {
        let remembered = self.remembered().map(|(behaviour, known)| (behaviour.clone(), known)).collect();
        merge(fleet, &[(HostId("this host".to_owned()), remembered)])
    }

    /// A baseline that allows what is learned; ports and names that vary become classes. What is withheld is retired in it.
    #[must_use]
    pub fn to_baseline(&self, fleet: &str) -> Baseline {
        self.candidate(fleet).baseline()
    }

    /// Evicts from what is full, or, when all together are too many, from where most were seen once. Only behaviours seen
    /// once go, those of longest ago first, and several at a time: whoever has copies has to look at all of them then.
    fn make_room(&mut self, workload: &Workload, action: Action) -> bool {
        let dimension = self.workloads.get(workload).and_then(|known| known.dimensions.get(&action));
        let own = dimension.map_or(0, |dimension| dimension.behaviour_count);
        let (workload, action) = if own >= self.limits.dimension_behaviours_max {
            (workload.clone(), action)
        } else if self.behaviour_count >= self.limits.behaviours_max {
            match self.evictable.last() {
                Some((_, workload, action)) => (workload.clone(), *action),
                None => return false,
            }
        } else {
            return true;
        };
        let Some(known) = self.workloads.get_mut(&workload) else { return false };
        let Some(dimension) = known.dimensions.get_mut(&action) else { return false };
        let once_before = dimension.once.len();
        for _ in 0..(self.limits.dimension_behaviours_max / EVICTED_SHARE).max(1) {
            let Some((_, behaviour)) = dimension.once.pop_first() else { break };
            known.behaviours.remove(&behaviour);
            self.changed.remove(&behaviour);
        }
        let once = dimension.once.len();
        let evicted = once_before - once;
        dimension.behaviour_count -= evicted;
        if known.behaviours.is_empty() && known.withheld.is_empty() {
            self.workloads.remove(&workload);
        }
        self.recount(&workload, action, (once_before, once));
        self.behaviour_count -= evicted;
        self.counters.evicted += evicted as u64;
        evicted > 0
    }
}

/// What part of a full dimension is evicted at a time.
const EVICTED_SHARE: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::{Dimension, EVICTED_SHARE, Learned, Learner, LearnerLimits, Refusal};
    use crate::floor::Floor;
    use crate::judge::Verdict;
    use crate::model::{Action, Behaviour, Observation, Seen, Traits, UnixNs};
    use crate::remembered::Remembered;
    use crate::testing::{behaviour, observation, observations};

    fn seen_at(action: &str, object: &str, time: u64) -> Observation {
        Observation { time: UnixNs(time), ..observation(behaviour(action, object), Traits::default()) }
    }

    fn limits(behaviours_max: usize, dimension_behaviours_max: usize) -> LearnerLimits {
        LearnerLimits { behaviours_max, dimension_behaviours_max, ..LearnerLimits::default() }
    }

    /// An exec on which `fresh-exec` fires, or does not.
    fn ran(program: &str, time: u64, executable_is_fresh: bool) -> Observation {
        let traits = Traits { executable_is_fresh, ..Traits::default() };
        Observation { traits, ..seen_at("exec", program, time) }
    }

    fn checkpoint(learner: &Learner) -> Vec<(Arc<Behaviour>, Remembered)> {
        learner.remembered().map(|(behaviour, known)| (Arc::new(behaviour.clone()), known)).collect()
    }

    /// What is withheld, and the rules that do it.
    fn withheld(learner: &Learner) -> Vec<(String, u64, String)> {
        let told = |(behaviour, seen, rule): (&Behaviour, &Seen, &str)| {
            (behaviour.object.to_string(), seen.count, rule.to_owned())
        };
        learner.withheld().map(told).collect()
    }

    #[test]
    fn a_second_sighting_is_known_and_counted() {
        let mut learner = Learner::new(LearnerLimits::default());
        assert_eq!(learner.observe(&seen_at("exec", "/bin/ls", 5)), Learned::New);
        assert_eq!(learner.observe(&seen_at("exec", "/bin/ls", 3)), Learned::Known);
        let (_, seen) = learner.behaviours().next().unwrap();
        assert_eq!((seen.count, seen.first, seen.last), (2, UnixNs(3), UnixNs(5)));
    }

    #[test]
    fn what_triggers_the_floor_is_never_learned() {
        let mut learner = Learner::new(LearnerLimits::default());
        let learned = learner.observe(&seen_at("write", "/etc/cron.d/x", 1));
        assert!(matches!(learned, Learned::Refused(Refusal::Floor(rule)) if rule.id == "cron"));
        assert!(learner.is_empty());
        assert_eq!(learner.counters().refused_floor, 1);
    }

    #[test]
    fn what_a_rule_fired_on_once_is_withheld_for_good() {
        for order in [[true, false, false], [false, true, false], [false, false, true]] {
            let mut learner = Learner::new(LearnerLimits::default());
            for (fires, time) in order.into_iter().zip(1..) {
                learner.observe(&ran("/srv/product", time, fires));
            }
            learner.observe(&ran("/bin/ls", 9, false));
            assert_eq!(withheld(&learner), [("/srv/product".to_owned(), 3, "fresh-exec".to_owned())]);
            let baseline = learner.to_baseline("web");
            let judged = |one: &Observation| baseline.judge(one, Floor::built_in());
            assert_eq!(judged(&ran("/bin/ls", 9, false)), Verdict::Allowed);
            assert_eq!(judged(&ran("/srv/product", 9, false)), Verdict::Novel);
            assert!(
                matches!(judged(&ran("/srv/product", 9, true)), Verdict::Floor(rule) if rule.id == "fresh-exec")
            );
            let mut restored = Learner::new(LearnerLimits::default());
            restored.restore(checkpoint(&learner));
            assert!(restored.take_changed().is_empty());
            let again = restored.observe(&ran("/srv/product", 10, false));
            assert!(matches!(again, Learned::Refused(Refusal::Withheld(rule)) if &*rule == "fresh-exec"));
            assert_eq!((restored.len(), restored.counters().refused_withheld), (1, 1));
            let changed = restored.take_changed();
            assert_eq!((changed.len(), changed[0].1.seen.count), (1, 4));
            assert_eq!(changed[0].1.withheld_by.as_deref(), Some("fresh-exec"));
        }
    }

    #[test]
    fn a_template_of_neighbours_does_not_bring_a_withheld_name_back() {
        let mut learner = Learner::new(LearnerLimits::default());
        let name = |at: u32| format!("/srv/state/a{at}b{at}c{at}");
        for at in 1..8 {
            learner.observe(&seen_at("write", &name(at), 1));
        }
        learner.withhold(&seen_at("write", &name(4), 2), "sigma:x");
        let baseline = learner.to_baseline("web");
        let verdict = |at| baseline.judge(&seen_at("write", &name(at), 3), Floor::built_in());
        assert_eq!(
            (verdict(3), verdict(9), verdict(4)),
            (Verdict::Allowed, Verdict::Allowed, Verdict::Novel)
        );
        assert_eq!(crate::settle(&baseline), baseline);
        let told = learner.candidate("web").text_of(&baseline);
        assert!(
            told.contains("retired:\n        write:\n          - /srv/state/a4b4c4 # withheld: sigma:x\n"),
            "{told}"
        );
    }

    #[test]
    fn a_flood_of_withheld_names_is_counted_and_pushes_none_out() {
        let limits = LearnerLimits { withheld_max: 5, workload_withheld_max: 3, ..limits(10, 10) };
        let mut learner = Learner::new(limits);
        for at in 0..100_u64 {
            let name = format!("/srv/x{}", char::from(b'a' + u8::try_from(at % 26).unwrap()));
            let mut one = ran(&name, at, true);
            one.behaviour.workload.0 = format!("unit:{}.service", at % 4);
            learner.observe(&one);
            check_books(&learner);
        }
        assert_eq!(learner.withheld().count(), 5);
        assert_eq!(learner.counters().refused_floor, 100);
        assert!(learner.counters().unwithheld_full > 50);
        assert!(learner.withheld().any(|(behaviour, ..)| behaviour.object.to_string() == "/srv/xa"));
    }

    #[test]
    fn rules_alone_are_no_reason_to_judge_a_workload() {
        let mut learner = Learner::new(LearnerLimits::default());
        learner.observe(&ran("/srv/product", 1, true));
        assert_eq!(learner.to_baseline("web").workloads().count(), 0);
    }

    #[test]
    fn an_object_without_a_text_is_refused() {
        let mut learner = Learner::new(LearnerLimits::default());
        let mut odd = seen_at("write", "/x", 1);
        odd.behaviour.object = crate::Object::path("pipe:[1]");
        assert_eq!(learner.observe(&odd), Learned::Refused(Refusal::NoText));
        let mut nobody = seen_at("write", "/x", 1);
        nobody.behaviour.subject.0.clear();
        assert_eq!(learner.observe(&nobody), Learned::Refused(Refusal::NoText));
    }

    #[test]
    fn a_full_learner_forgets_the_oldest_seen_once_and_keeps_the_rest() {
        let mut learner = Learner::new(limits(100, 3));
        for (object, time) in [("/a", 1), ("/a", 2), ("/b", 4), ("/c", 3), ("/d", 5)] {
            learner.observe(&seen_at("write", object, time));
        }
        let known: Vec<String> = learner.behaviours().map(|(known, _)| known.object.to_string()).collect();
        assert_eq!(known, ["/a", "/b", "/d"]);
        assert_eq!(learner.counters().evicted, 1);
        for object in ["/b", "/d"] {
            learner.observe(&seen_at("write", object, 6));
        }
        assert_eq!(learner.observe(&seen_at("write", "/e", 7)), Learned::Refused(Refusal::Full));
        assert_eq!((learner.counters().refused_full, learner.len()), (1, 3));
    }

    #[test]
    fn a_flood_of_one_action_pushes_out_no_other() {
        let mut learner = Learner::new(limits(200, 32));
        learner.observe(&seen_at("exec", "/bin/ls", 1));
        for number in 0..500_u64 {
            let letters: String = number.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            learner.observe(&seen_at("write", &format!("/{letters}"), 2 + number));
        }
        assert!(learner.knows(&behaviour("exec", "/bin/ls")));
        assert_eq!(learner.counters().evicted as usize + learner.len(), 501);
        assert_eq!(learner.counters().evicted % 2, 0, "a sixteenth at a time");
        assert!((31..=33).contains(&learner.len()), "{}", learner.len());
    }

    #[test]
    fn the_total_bound_holds_across_workloads() {
        let mut learner = Learner::new(limits(10, 10));
        for number in 0..200_u64 {
            let letters: String = number.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            let mut made = seen_at("write", &format!("/{letters}"), number);
            made.behaviour.workload.0 = format!("unit:{}.service", number % 7);
            learner.observe(&made);
            assert!(learner.len() <= 10);
            assert_eq!(learner.behaviours().count(), learner.len());
        }
        assert_eq!(learner.counters().evicted + 10, 200);
    }

    #[test]
    fn a_flood_of_names_and_workloads_takes_little_time_and_room() {
        const NAMES: u64 = 40_000;
        let mut learner = Learner::new(limits(20_000, 10_000));
        let named = |workload: &str, number: u64| {
            let mut made = seen_at("write", &format!("/srv/x{number}x"), number);
            made.behaviour.workload.0 = format!("unit:{workload}.service");
            made
        };
        for number in 0..10_000 {
            learner.observe(&named("settled", number));
            learner.observe(&named("settled", number));
        }
        let started = std::time::Instant::now();
        for number in 0..NAMES {
            let full = learner.observe(&named("settled", 10_000 + number));
            assert_eq!(full, Learned::Refused(Refusal::Full));
            learner.observe(&named("flood", number));
            learner.observe(&named(&format!("w{number}"), number));
        }
        // Walking all that is known for each name takes minutes.
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
        let room_max = 10_000 / EVICTED_SHARE;
        assert!((20_000 - room_max..=20_000).contains(&learner.len()), "{}", learner.len());
        assert!(learner.workloads.len() <= 10_001 && learner.evictable.len() < learner.workloads.len());
    }

    #[test]
    fn changes_are_given_once_and_a_restore_is_no_change() {
        let mut learner = Learner::new(LearnerLimits::default());
        learner.observe(&seen_at("exec", "/bin/ls", 1));
        let changed = learner.take_changed();
        assert_eq!(changed.len(), 1);
        assert!(learner.take_changed().is_empty());
        let mut restored = Learner::new(LearnerLimits::default());
        restored.restore(changed);
        assert!(restored.take_changed().is_empty());
        assert_eq!(restored.observe(&seen_at("exec", "/bin/ls", 2)), Learned::Known);
        assert_eq!(restored.take_changed()[0].1.seen.count, 2);
    }

    fn check_books(learner: &Learner) {
        let mut evictable = BTreeSet::new();
        for (name, known) in &learner.workloads {
            let mut dimensions: BTreeMap<Action, Dimension> = BTreeMap::new();
            for (made, seen) in &known.behaviours {
                let dimension = dimensions.entry(made.action).or_default();
                dimension.behaviour_count += 1;
                if seen.count == 1 {
                    dimension.once.insert((seen.last, Arc::clone(made)));
                }
            }
            for (action, dimension) in &dimensions {
                assert!(dimension.behaviour_count <= learner.limits.dimension_behaviours_max);
                if !dimension.once.is_empty() {
                    evictable.insert((dimension.once.len(), name.clone(), *action));
                }
            }
            let kept = known.dimensions.iter().filter(|(_, dimension)| dimension.behaviour_count > 0);
            assert!(kept.eq(&dimensions));
        }
        assert_eq!(learner.evictable, evictable);
        assert_eq!(learner.behaviours().count(), learner.len());
        assert_eq!(learner.withheld().count(), learner.withheld_count);
        for known in learner.workloads.values() {
            assert!(known.withheld.len() <= learner.limits.workload_withheld_max);
            assert!(known.withheld.keys().all(|made| !known.behaviours.contains_key(made)));
        }
        assert!(learner.changed.iter().all(|made| learner.knows(made)));
    }

    proptest::proptest! {
        #[test]
        fn what_is_known_and_what_may_go_stay_in_step(
            made in proptest::collection::vec((0..4_u8, 0..6_u8, 0..9_u64), 0..60),
            (all, own) in (1..9_usize, 1..6_usize),
        ) {
            let mut learner = Learner::new(LearnerLimits { withheld_max: 6, workload_withheld_max: 4, ..limits(all, own) });
            for (workload, name, time) in made {
                let action = if name % 2 == 0 { "write" } else { "delete" };
                let mut one = seen_at(action, &format!("/{}", char::from(b'a' + name)), time);
                one.behaviour.workload.0 = format!("unit:{workload}.service");
                match (name, time) {
                    (5, _) => learner.forget(&one.behaviour.workload),
                    (_, 8) => learner.withhold(&one, "r"),
                    _ => drop(learner.observe(&one)),
                }
                check_books(&learner);
                proptest::prop_assert!(learner.len() <= all);
            }
        }

        #[test]
        fn what_was_withheld_is_never_allowed_and_order_does_not_matter(
            made in proptest::collection::vec((0..7_u8, 0..9_u64, proptest::bool::weighted(0.2)), 0..30),
        ) {
            let made: Vec<Observation> = made
                .into_iter()
                .map(|(name, time, fires)| {
                    let traits = Traits { acting_is_shell: fires, ..Traits::default() };
                    Observation { traits, ..seen_at("listen", &format!("tcp 0.0.0.0 4000{name}"), time) }
                })
                .collect();
            let (mut forward, mut backward) =
                (Learner::new(LearnerLimits::default()), Learner::new(LearnerLimits::default()));
            made.iter().for_each(|one| drop(forward.observe(one)));
            made.iter().rev().for_each(|one| drop(backward.observe(one)));
            proptest::prop_assert_eq!(checkpoint(&forward), checkpoint(&backward));
            let baseline = forward.to_baseline("web");
            for one in made.iter().filter(|one| one.traits.acting_is_shell) {
                proptest::prop_assert!(matches!(baseline.judge(one, Floor::built_in()), Verdict::Floor(_)));
            }
        }

        #[test]
        fn what_was_learned_is_allowed_and_order_does_not_matter(made in observations()) {
            let mut forward = Learner::new(LearnerLimits::default());
            let mut backward = Learner::new(LearnerLimits::default());
            let taken: Vec<bool> =
                made.iter().map(|one| !matches!(forward.observe(one), Learned::Refused(_))).collect();
            for one in made.iter().rev() {
                backward.observe(one);
            }
            proptest::prop_assert!(forward.behaviours().eq(backward.behaviours()));
            let baseline = forward.to_baseline("web");
            let mut restored = Learner::new(LearnerLimits::default());
            restored.restore(checkpoint(&forward));
            proptest::prop_assert_eq!(&restored.to_baseline("web"), &baseline);
            proptest::prop_assert!(restored.behaviours().eq(forward.behaviours()));
            for (one, taken) in made.iter().zip(taken) {
                if taken {
                    proptest::prop_assert_eq!(baseline.judge(one, crate::Floor::built_in()), Verdict::Allowed);
                }
            }
        }
    }
}
