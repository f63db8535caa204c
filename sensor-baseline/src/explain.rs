//! Why a verdict is what it is, for a person. Changes nothing. May call: `baseline`, `entries`, `judge`,
//! `pattern`, `yaml`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, Disposition, Entry, Rules};
use crate::entries::EntrySet;
use crate::judge::Verdict;
use crate::model::{Action, Behaviour, Observation, Subject, Workload};
use crate::pattern::Pattern;
use crate::yaml::snippet;

/// What a person needs to decide about a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Explanation {
    /// One sentence.
    pub summary: String,
    /// The entries closest to the behaviour, best first, at most [`NEAREST_MAX`]; those of another subject name it.
    pub nearest: Vec<String>,
    /// The smallest edit of `baseline.yaml` that would allow it, as YAML; empty when no edit can.
    pub edit: String,
}

/// Most entries that an explanation names.
pub const NEAREST_MAX: usize = 3;

impl Baseline {
    /// Explains the verdict that [`Self::judge`] gave on the observation.
    #[must_use]
    pub fn explain(&self, observation: &Observation, verdict: &Verdict) -> Explanation {
        View::of([("", self)]).explain(observation, verdict)
    }
}

/// Baselines with their names, the highest first. Names are told where there are several.
pub(crate) struct View<'a>(Vec<(&'a str, &'a Baseline)>);

impl<'a> View<'a> {
    pub(crate) fn of(layers: impl IntoIterator<Item = (&'a str, &'a Baseline)>) -> Self {
        Self(layers.into_iter().collect())
    }

    pub(crate) fn explain(&self, observation: &Observation, verdict: &Verdict) -> Explanation {
        let behaviour = &observation.behaviour;
        let can_edit = match verdict {
            Verdict::Novel | Verdict::Learning => true,
            Verdict::Floor(rule) => rule.yields_to_allow,
            Verdict::Allowed | Verdict::Denied => false,
        };
        Explanation {
            summary: self.summary(behaviour, verdict),
            nearest: self.nearest(behaviour, verdict),
            edit: if can_edit { self.edit(behaviour) } else { String::new() },
        }
    }

    fn summary(&self, behaviour: &Behaviour, verdict: &Verdict) -> String {
        let Behaviour { workload, subject, action, object } = behaviour;
        let did = format!("{subject} in {workload} {} {object}", past_tense(*action));
        match verdict {
            Verdict::Allowed => format!("{did}, which the baseline allows"),
            Verdict::Learning => format!("{did}, and {workload} is still learning"),
            Verdict::Denied => format!("{did}, which {} denies", self.holder(Disposition::Deny, behaviour)),
            Verdict::Floor(rule) => {
                let techniques: Vec<&str> = rule.technique_ids().collect();
                let techniques = match techniques.join(", ") {
                    none if none.is_empty() => none,
                    some => format!(" ({some})"),
                };
                let way_out =
                    if rule.yields_to_allow { "no entry allows it" } else { "no entry can allow it" };
                format!("{did}: {}{techniques}; {way_out}", rule.title)
            }
            Verdict::Novel => format!("{did}, {}", self.why_novel(behaviour)),
        }
    }

    /// The highest layer that has such an entry, as a sentence calls it.
    fn holder(&self, disposition: Disposition, behaviour: &Behaviour) -> String {
        match self.0.iter().find(|(_, baseline)| baseline.holds(disposition, behaviour)) {
            Some((name, _)) if self.0.len() > 1 => format!("layer {name} of the baseline"),
            _ => "the baseline".to_owned(),
        }
    }

    fn why_novel(&self, behaviour: &Behaviour) -> String {
        let Behaviour { workload, subject, action, .. } = behaviour;
        if self.0.iter().any(|(_, baseline)| baseline.holds(Disposition::Retired, behaviour)) {
            return format!("which {} retired", self.holder(Disposition::Retired, behaviour));
        }
        if !self.0.iter().any(|(_, baseline)| baseline.rules(workload, subject).is_some()) {
            return format!("and the baseline does not know {subject} in {workload}");
        }
        let sets = self.sets(workload, subject, Disposition::Allow, *action);
        let count = match sets.as_slice() {
            [] => 0,
            [alone] => alone.len(),
            several => several.iter().flat_map(|set| set.iter()).collect::<BTreeSet<_>>().len(),
        };
        match count {
            0 => format!("and the baseline allows it no {action} at all"),
            1 => format!("which is not the one {action} entry it is allowed"),
            count => format!("which is none of the {count} {action} entries it is allowed"),
        }
    }

    fn sets(
        &self,
        workload: &Workload,
        subject: &Subject,
        disposition: Disposition,
        action: Action,
    ) -> Vec<&'a EntrySet> {
        let rules = self.0.iter().filter_map(|(_, baseline)| baseline.rules(workload, subject));
        rules.filter_map(|rules| rules.set(disposition, action)).collect()
    }

    /// Entries of the same action, closest first: of this subject, else of others of the workload. For a denial, the
    /// entries that deny it.
    fn nearest(&self, behaviour: &Behaviour, verdict: &Verdict) -> Vec<String> {
        let Behaviour { workload, subject, action, object } = behaviour;
        let wanted = Pattern::of(*action, object);
        let text = object.to_string();
        let mut best = Vec::new();
        let is_denied = *verdict == Verdict::Denied;
        let disposition = if is_denied { Disposition::Deny } else { Disposition::Allow };
        for set in self.sets(workload, subject, disposition, *action) {
            let holding = set.holding(object).filter(|_| is_denied);
            let around = set.around(&wanted, if is_denied { 0 } else { SCORED_MAX });
            for pattern in holding.chain(around) {
                keep_closest(&mut best, *action, pattern, &text);
            }
        }
        let placed = |subject: &Subject, pattern: &Pattern| {
            self.placed(&Entry {
                workload: workload.clone(),
                subject: subject.clone(),
                disposition,
                action: *action,
                pattern: pattern.clone(),
            })
        };
        let mut named: Vec<String> = best
            .into_iter()
            .map(|(_, entry, pattern)| format!("{action} {entry}{}", placed(subject, pattern)))
            .collect();
        if is_denied {
            return named;
        }
        // Another subject's entry is worth naming only when it is about the same object.
        let subjects = self.0.iter().filter_map(|(_, baseline)| baseline.workloads.get(workload)).flatten();
        let is_allowed =
            |rules: &Rules| rules.set(Disposition::Allow, *action).is_some_and(|set| set.contains(&wanted));
        let others = subjects.filter(|(other, rules)| *other != subject && is_allowed(rules));
        let others: BTreeSet<&Subject> = others.map(|(other, _)| other).collect();
        let room = NEAREST_MAX - named.len();
        let other = |other: &Subject| format!("{other} {action} {wanted}{}", placed(other, &wanted));
        named.extend(others.into_iter().take(room).map(other));
        named
    }

    /// In which layers an entry stands, as it is put behind it.
    fn placed(&self, entry: &Entry) -> String {
        if self.0.len() == 1 {
            return String::new();
        }
        let has = |baseline: &Baseline| baseline.listed(entry) == Some(entry.disposition);
        let names: Vec<&str> =
            self.0.iter().filter(|(_, baseline)| has(baseline)).map(|(name, _)| *name).collect();
        format!(" ({})", names.join(", "))
    }

    /// What to add, and to which layer: the highest that lists the workload, or the highest of all.
    fn edit(&self, behaviour: &Behaviour) -> String {
        let edit = snippet(&Entry::allowing(behaviour));
        let listing = self.0.iter().find(|(_, baseline)| baseline.is_armed(&behaviour.workload));
        match listing.or(self.0.first()) {
            Some((name, _)) if self.0.len() > 1 => format!("# layer {name}\n{edit}"),
            _ => edit,
        }
    }
}

/// Most entries of a subject that are compared with a behaviour: a finding must not cost more in a larger baseline.
/// They are the neighbours of the behaviour in the order of the text, where those that begin alike stand.
const SCORED_MAX: usize = 1000;

/// An entry with its text, and how close it is.
type Scored<'a> = (Reverse<usize>, String, &'a Pattern);

/// Puts an entry among the closest ones, best first, if it is one of them.
fn keep_closest<'a>(best: &mut Vec<Scored<'a>>, action: Action, pattern: &'a Pattern, object: &str) {
    let text = pattern.to_string();
    best.push((Reverse(closeness(action, &text, object)), text, pattern));
    best.sort_unstable();
    // Several layers may have it.
    best.dedup();
    best.truncate(NEAREST_MAX);
}

fn past_tense(action: Action) -> &'static str {
    match action {
        Action::Exec => "executed",
        Action::Connect => "connected to",
        Action::Listen => "listened on",
        Action::Write => "wrote",
        Action::Delete => "deleted",
        Action::Rename => "renamed",
    }
}

/// How much of the object an entry has in common: shared leading parts, and more when the last part is shared too.
fn closeness(action: Action, entry: &str, object: &str) -> usize {
    let separators: &[char] = match action {
        Action::Connect | Action::Listen => &[' ', '.', ':'],
        _ => &['/', ' '],
    };
    let shared =
        entry.split(separators).zip(object.split(separators)).take_while(|(one, other)| one == other).count();
    let same_end = entry.rsplit(separators).next() == object.rsplit(separators).next();
    shared * 2 + usize::from(same_end) * 3
}

#[cfg(test)]
mod tests {
    use crate::baseline::Baseline;
    use crate::floor::Floor;
    use crate::judge::Verdict;
    use crate::model::Traits;
    use crate::testing::{any_baseline, baseline, behaviour, observation, observations};

    #[test]
    fn a_novel_behaviour_comes_with_the_nearest_entries_and_the_edit() {
        let baseline = baseline("{exec: [/usr/bin/curl, /opt/a, /usr/sbin/b, /bin/sh], write: [/x]}");
        let observation = observation(behaviour("exec", "/usr/bin/wget"), Traits::default());
        let explanation = baseline.explain(&observation, &baseline.judge(&observation, Floor::built_in()));
        assert_eq!(
            explanation.summary,
            "/usr/bin/a in unit:a.service executed /usr/bin/wget, which is none of the 4 exec entries it is allowed"
        );
        assert_eq!(explanation.nearest[0], "exec /usr/bin/curl");
        assert_eq!(explanation.nearest.len(), 3);
        assert_eq!(
            explanation.edit,
            "workloads:\n  unit:a.service:\n    /usr/bin/a:\n      exec:\n        - /usr/bin/wget\n"
        );
    }

    #[test]
    fn another_subject_that_may_do_the_same_is_named() {
        let text = "fleet: web\nworkloads:\n  unit:a.service:\n    /usr/bin/b: {exec: [/bin/sh, /bin/ls]}\n";
        let baseline = Baseline::parse(text).unwrap();
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        let explanation = baseline.explain(&shell, &Verdict::Novel);
        assert_eq!(explanation.nearest, ["/usr/bin/b exec /bin/sh"]);
        let unknown = "the baseline does not know /usr/bin/a in unit:a.service";
        assert!(explanation.summary.ends_with(unknown), "{}", explanation.summary);
    }

    #[test]
    fn every_reason_has_its_sentence() {
        for (rules, traits, end, has_edit) in [
            ("{}", Traits::default(), "allows it no exec at all", true),
            ("exec: [/bin/ls]", Traits::default(), "not the one exec entry it is allowed", true),
            ("retired: {exec: [/bin/sh]}", Traits::default(), "which the baseline retired", true),
            ("deny: {exec: [/bin/*]}", Traits::default(), "which the baseline denies", false),
            ("{}", Traits { fileless: true, ..Traits::default() }, "(T1620); no entry can allow it", false),
            (
                "{}",
                Traits { executable_is_fresh: true, ..Traits::default() },
                "(T1105); no entry allows it",
                true,
            ),
        ] {
            let baseline = baseline(rules);
            let observation = observation(behaviour("exec", "/bin/sh"), traits);
            let explanation =
                baseline.explain(&observation, &baseline.judge(&observation, Floor::built_in()));
            assert!(explanation.summary.ends_with(end), "{}", explanation.summary);
            assert_eq!(!explanation.edit.is_empty(), has_edit, "{rules}");
        }
        let denied = baseline("deny: {exec: [/bin/*]}");
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(denied.explain(&shell, &Verdict::Denied).nearest, ["exec /bin/*"]);
    }

    #[test]
    fn a_denial_names_the_entries_that_deny() {
        let baseline = baseline("deny: {exec: [/bin/sx, /bin/sha, /bin/shb, /*/s?h, /bin/**, '/b*/sh']}");
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(baseline.explain(&shell, &Verdict::Denied).nearest, ["exec /b*/sh", "exec /bin/**"]);
    }

    #[test]
    fn the_nearest_of_many_entries_are_found_beside_it() {
        let mut baseline = baseline("write: [/srv/m/x, /srv/m/y]");
        for number in 0..5000 {
            for folder in ["a", "z"] {
                let entry = behaviour("write", &format!("/srv/{folder}/{number}"));
                baseline.insert(crate::Entry::allowing(&entry));
            }
        }
        let novel = observation(behaviour("write", "/srv/m/xx"), Traits::default());
        assert_eq!(
            baseline.explain(&novel, &Verdict::Novel).nearest[..2],
            ["write /srv/m/x", "write /srv/m/y"]
        );
    }

    proptest::proptest! {
        #[test]
        fn the_edit_of_a_finding_allows_it(baseline in any_baseline(), made in observations()) {
            for one in &made {
                let verdict = baseline.judge(one, Floor::built_in());
                let explanation = baseline.explain(one, &verdict);
                if explanation.edit.is_empty() {
                    continue;
                }
                let edit = Baseline::parse(&format!("fleet: web\n{}", explanation.edit)).unwrap();
                proptest::prop_assert_eq!(edit.judge(one, Floor::built_in()), Verdict::Allowed);
                proptest::prop_assert_eq!(edit.entry_count(), 1);
                if let Ok(approved) = baseline.approve(&one.behaviour, None) {
                    proptest::prop_assert_eq!(approved.judge(one, Floor::built_in()), Verdict::Allowed);
                }
            }
        }
    }
}
