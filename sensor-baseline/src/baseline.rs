//! A baseline as a value: what a fleet's workloads may do, entry by entry. Not its text form (see `yaml`) and not
//! the verdicts (see `judge`). May call: `entries`, `model`, `pattern`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::entries::EntrySet;
use crate::floor::FloorRule;
use crate::model::{Action, Behaviour, Subject, Workload};
use crate::object::Object;
use crate::pattern::Pattern;

/// What an entry says about its behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// Normal.
    Allow,
    /// Never normal: a finding whatever else is listed.
    Deny,
    /// Was seen once: not allowed, and not learned again. What was normal and is not any more, or what a rule fired on.
    Retired,
}

impl Disposition {
    /// The word for it: `allow`, `deny`, `retired`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One line of a baseline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// What owns it.
    pub workload: Workload,
    /// Who acts.
    pub subject: Subject,
    /// What the entry says.
    pub disposition: Disposition,
    /// What the subject does.
    pub action: Action,
    /// To what; `Display` gives the entry's text.
    pub pattern: Pattern,
}

impl Entry {
    /// The smallest entry that allows a behaviour.
    #[must_use]
    pub fn allowing(behaviour: &Behaviour) -> Self {
        Self {
            workload: behaviour.workload.clone(),
            subject: behaviour.subject.clone(),
            disposition: Disposition::Allow,
            action: behaviour.action,
            pattern: Pattern::of(behaviour.action, &behaviour.object),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, subject, disposition, action, pattern } = self;
        write!(formatter, "{workload} {subject} {disposition} {action} {pattern}")
    }
}

/// The entries of one subject.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    sets: BTreeMap<(Disposition, Action), EntrySet>,
    /// What decides where these say nothing: of layers below, what could not be put together with these. None in a
    /// baseline that is one layer.
    below: Option<Box<Self>>,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.sets == other.sets && self.below == other.below
    }
}

impl Rules {
    pub(crate) fn set(&self, disposition: Disposition, action: Action) -> Option<&EntrySet> {
        self.sets.get(&(disposition, action))
    }

    fn holds(&self, disposition: Disposition, action: Action, object: &Object) -> bool {
        self.set(disposition, action).is_some_and(|set| set.holds(object))
    }

    /// Whether an entry denies it, of whichever layer.
    pub(crate) fn deny(&self, action: Action, object: &Object) -> bool {
        self.holds(Disposition::Deny, action, object)
    }

    /// Whether an entry allows it that no entry of the same layer or of one above takes back.
    pub(crate) fn allow(&self, action: Action, object: &Object) -> bool {
        let mut step = Some(self);
        while let Some(rules) = step {
            if rules.holds(Disposition::Retired, action, object) {
                return false;
            }
            if rules.holds(Disposition::Allow, action, object) {
                return true;
            }
            step = rules.below.as_deref();
        }
        false
    }

    /// Puts those of a lower layer below these. A step of their own is needed only where what they retire would take back
    /// what these allow.
    fn put_below(&mut self, lower: &Self) {
        for ((disposition, action), set) in &lower.sets {
            if *disposition == Disposition::Deny {
                self.extend(*disposition, *action, set);
            }
        }
        let mut last = self;
        while last.below.is_some() {
            last = last.below.as_deref_mut().expect("looked at just now");
        }
        let is_apart = |action: Action| {
            lower.set(Disposition::Retired, action).is_some()
                && last.set(Disposition::Allow, action).is_some()
        };
        if Action::ALL.into_iter().any(is_apart) {
            last = last.below.insert(Box::default());
        }
        for ((disposition, action), set) in &lower.sets {
            if *disposition != Disposition::Deny {
                last.extend(*disposition, *action, set);
            }
        }
    }

    fn extend(&mut self, disposition: Disposition, action: Action, set: &EntrySet) {
        for pattern in set.iter() {
            self.insert(disposition, action, pattern.clone());
        }
    }

    pub(crate) fn insert(&mut self, disposition: Disposition, action: Action, pattern: Pattern) -> bool {
        self.sets.entry((disposition, action)).or_default().insert(pattern)
    }

    fn remove(&mut self, disposition: Disposition, action: Action, pattern: &Pattern) -> bool {
        let Some(set) = self.sets.get_mut(&(disposition, action)) else { return false };
        let removed = set.remove(pattern);
        if set.is_empty() {
            self.sets.remove(&(disposition, action));
        }
        removed
    }

    /// Which disposition already lists exactly this pattern.
    pub(crate) fn listed(&self, action: Action, pattern: &Pattern) -> Option<Disposition> {
        [Disposition::Allow, Disposition::Deny, Disposition::Retired]
            .into_iter()
            .find(|disposition| self.set(*disposition, action).is_some_and(|set| set.contains(pattern)))
    }

    fn len(&self) -> usize {
        self.sets.values().map(EntrySet::len).sum()
    }
}

/// A versioned set of behaviours of a fleet's workloads, each allowed, denied or retired.
///
/// A workload that is listed, even with nothing below it, is *armed*: what it does beyond its entries is novel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Baseline {
    /// Whose it is.
    pub fleet: String,
    /// The collector's number for it, where it has one.
    pub version: Option<u64>,
    pub(crate) workloads: BTreeMap<Workload, BTreeMap<Subject, Rules>>,
    /// What armed workloads do that is still learned, not judged. No set is empty, and each workload is armed.
    pub(crate) learning: BTreeMap<Workload, BTreeSet<Action>>,
}

impl Baseline {
    /// A baseline that lists nothing: every workload is learning.
    #[must_use]
    pub fn empty(fleet: &str) -> Self {
        Self { fleet: fleet.to_owned(), ..Self::default() }
    }

    /// A baseline that allows exactly these behaviours, and arms their workloads.
    #[must_use]
    pub fn of_behaviours<'a>(fleet: &str, behaviours: impl IntoIterator<Item = &'a Behaviour>) -> Self {
        let mut baseline = Self::empty(fleet);
        for behaviour in behaviours {
            baseline.insert(Entry::allowing(behaviour));
        }
        baseline
    }

    /// Whether the workload is listed, so that what it does is judged and no longer learned, but for
    /// [`Self::is_learning`].
    #[must_use]
    pub fn is_armed(&self, workload: &Workload) -> bool {
        self.workloads.contains_key(workload)
    }

    /// Whether this action of an armed workload is learned still, and what is not listed is not novel.
    #[must_use]
    pub fn is_learning(&self, workload: &Workload, action: Action) -> bool {
        self.learning.get(workload).is_some_and(|actions| actions.contains(&action))
    }

    /// Whether what it does not list of this action of the workload is novel.
    #[must_use]
    pub fn judges(&self, workload: &Workload, action: Action) -> bool {
        self.is_armed(workload) && !self.is_learning(workload, action)
    }

    /// What armed workloads do that is learned still.
    pub fn learning(&self) -> impl Iterator<Item = (&Workload, Action)> {
        self.learning
            .iter()
            .flat_map(|(workload, actions)| actions.iter().map(move |action| (workload, *action)))
    }

    /// Arms a workload, but leaves one of its actions to be learned.
    pub fn leave_learning(&mut self, workload: Workload, action: Action) {
        self.arm(workload.clone());
        self.learning.entry(workload).or_default().insert(action);
    }

    /// The workloads that are armed, in the order of the text form.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.keys()
    }

    /// Every entry, in the order of the text form.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.workloads.iter().flat_map(|(workload, subjects)| {
            subjects.iter().flat_map(move |(subject, rules)| {
                rules.sets.iter().flat_map(move |((disposition, action), set)| {
                    set.iter().map(move |pattern| Entry {
                        workload: workload.clone(),
                        subject: subject.clone(),
                        disposition: *disposition,
                        action: *action,
                        pattern: pattern.clone(),
                    })
                })
            })
        })
    }

    /// The number of entries.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.workloads.values().flat_map(BTreeMap::values).map(Rules::len).sum()
    }

    /// Lists a workload, so that it is armed.
    pub fn arm(&mut self, workload: Workload) {
        self.workloads.entry(workload).or_default();
    }

    /// Adds an entry and arms its workload; false when it is there already.
    pub fn insert(&mut self, entry: Entry) -> bool {
        let rules = self.workloads.entry(entry.workload).or_default().entry(entry.subject).or_default();
        rules.insert(entry.disposition, entry.action, entry.pattern)
    }

    /// Takes an entry out; false when it was not there. The workload stays armed.
    pub fn remove(&mut self, entry: &Entry) -> bool {
        let rules =
            self.workloads.get_mut(&entry.workload).and_then(|subjects| subjects.get_mut(&entry.subject));
        rules.is_some_and(|rules| rules.remove(entry.disposition, entry.action, &entry.pattern))
    }

    /// Puts a lower layer below: what it says counts where this one says nothing. The result is for judging only.
    pub(crate) fn put_below(&mut self, lower: &Self) {
        for (workload, subjects) in &lower.workloads {
            let own = self.workloads.entry(workload.clone()).or_default();
            for (subject, rules) in subjects {
                own.entry(subject.clone()).or_default().put_below(rules);
            }
        }
        for (workload, actions) in &lower.learning {
            self.learning.entry(workload.clone()).or_insert_with(|| actions.clone());
        }
    }

    pub(crate) fn rules(&self, workload: &Workload, subject: &Subject) -> Option<&Rules> {
        self.workloads.get(workload)?.get(subject)
    }

    /// What it says of exactly what this entry is about, whatever the entry says.
    #[must_use]
    pub fn listed(&self, entry: &Entry) -> Option<Disposition> {
        self.rules(&entry.workload, &entry.subject)?.listed(entry.action, &entry.pattern)
    }

    /// Whether an entry of that disposition holds the behaviour.
    #[must_use]
    pub fn holds(&self, disposition: Disposition, behaviour: &Behaviour) -> bool {
        self.rules(&behaviour.workload, &behaviour.subject)
            .and_then(|rules| rules.set(disposition, behaviour.action))
            .is_some_and(|set| set.holds(&behaviour.object))
    }

    /// The baseline with the smallest entry that allows the behaviour; the same baseline when it is allowed already.
    /// An entry that retired exactly this behaviour goes; an entry that denies it stays and still wins. Arms the
    /// workload. Operators want [`Self::approve`], which refuses what would have no effect.
    #[must_use]
    pub fn allow(&self, behaviour: &Behaviour) -> Self {
        let mut baseline = self.clone();
        let entry = Entry::allowing(behaviour);
        baseline.remove(&Entry { disposition: Disposition::Retired, ..entry.clone() });
        if !baseline.holds(Disposition::Allow, behaviour) {
            baseline.insert(entry);
        }
        baseline
    }

    /// What an operator's approval of a finding makes of the baseline: [`Self::allow`], where that silences it.
    ///
    /// # Errors
    /// When no entry can silence the finding, or the entry would do more than that.
    pub fn approve(&self, behaviour: &Behaviour, rule: Option<&FloorRule>) -> Result<Self, ApprovalError> {
        if let Some(rule) = rule.filter(|rule| !rule.yields_to_allow) {
            return Err(ApprovalError::FloorHolds { rule: rule.id.clone() });
        }
        if !self.is_armed(&behaviour.workload) {
            return Err(ApprovalError::NotArmed { workload: behaviour.workload.clone() });
        }
        if self.holds(Disposition::Deny, behaviour) {
            return Err(ApprovalError::Denied { behaviour: Box::new(behaviour.clone()) });
        }
        let baseline = self.allow(behaviour);
        if baseline.holds(Disposition::Retired, behaviour) {
            return Err(ApprovalError::Retired { behaviour: Box::new(behaviour.clone()) });
        }
        if baseline == *self {
            return Err(ApprovalError::AlreadyAllowed { behaviour: Box::new(behaviour.clone()) });
        }
        Ok(baseline)
    }
}

/// Why a finding cannot be approved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApprovalError {
    /// The floor rule does not yield to an entry.
    #[error("floor rule {rule} holds whatever a baseline allows")]
    FloorHolds {
        /// Id of the rule.
        rule: String,
    },
    /// One entry would arm a workload whose other behaviours are not listed.
    #[error(
        "workload {workload} is not in the baseline: one entry would make all else it does novel; push a candidate that lists it first"
    )]
    NotArmed {
        /// The workload.
        workload: Workload,
    },
    /// A person denied it by name.
    #[error("the baseline denies {behaviour}: remove the deny entry with a push instead")]
    Denied {
        /// What was to be approved.
        behaviour: Box<Behaviour>,
    },
    /// A wider entry retired it.
    #[error("the baseline retired {behaviour}: remove the retired entry with a push instead")]
    Retired {
        /// What was to be approved.
        behaviour: Box<Behaviour>,
    },
    /// Nothing to do.
    #[error("the baseline already allows {behaviour}")]
    AlreadyAllowed {
        /// What was to be approved.
        behaviour: Box<Behaviour>,
    },
}

#[cfg(test)]
mod tests {
    use super::{ApprovalError, Baseline, Disposition};
    use crate::floor::Floor;
    use crate::testing::{baseline, behaviour};

    #[test]
    fn allow_adds_the_smallest_entry_and_nothing_else() {
        let old = baseline("connect: [tcp 10.0.0.1 80]");
        let novel = behaviour("connect", "tcp 10.0.0.2 5432");
        let new = old.allow(&novel);
        assert!(new.holds(Disposition::Allow, &novel));
        let added: Vec<String> = new
            .entries()
            .filter(|entry| !old.entries().any(|old| old == *entry))
            .map(|e| e.to_string())
            .collect();
        assert_eq!(added, ["unit:a.service /usr/bin/a allow connect tcp 10.0.0.2 5432"]);
        assert_eq!(new.allow(&novel), new);
    }

    #[test]
    fn allow_brings_a_retired_behaviour_back() {
        let old = baseline("retired: {exec: [/bin/sh]}");
        let shell = behaviour("exec", "/bin/sh");
        let new = old.approve(&shell, None).unwrap();
        assert!(new.holds(Disposition::Allow, &shell));
        assert!(!new.holds(Disposition::Retired, &shell));
    }

    #[test]
    fn approval_is_refused_where_it_would_not_silence() {
        let shell = behaviour("exec", "/bin/sh");
        let refused = |yaml: &str| baseline(yaml).approve(&shell, None).unwrap_err();
        assert!(matches!(refused("deny: {exec: [/bin/*]}"), ApprovalError::Denied { .. }));
        assert!(matches!(refused("retired: {exec: [/bin/*]}"), ApprovalError::Retired { .. }));
        assert!(matches!(refused("exec: [/bin/*]"), ApprovalError::AlreadyAllowed { .. }));
        let unlisted = Baseline::empty("web").approve(&shell, None).unwrap_err();
        assert!(matches!(unlisted, ApprovalError::NotArmed { .. }));
        let rule = Floor::built_in().rule("fileless-exec").map(AsRef::as_ref);
        let floor = baseline("exec: []").approve(&shell, rule).unwrap_err();
        assert_eq!(floor, ApprovalError::FloorHolds { rule: "fileless-exec".to_owned() });
    }
}
