//! Why a verdict is what it is, for a person. Changes nothing. May call: `baseline`, `entries`, `judge`,
//! `pattern`, `yaml`.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, Disposition, Entry};
use crate::entries::EntrySet;
use crate::judge::Verdict;
use crate::model::{Action, Behaviour, Observation};
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
        let behaviour = &observation.behaviour;
        let can_edit = match verdict {
            Verdict::Novel | Verdict::Learning => true,
            Verdict::Floor(rule) => rule.yields_to_allow,
            Verdict::Allowed | Verdict::Denied => false,
        };
        Explanation {
            summary: self.summary(behaviour, verdict),
            nearest: self.nearest(behaviour, verdict),
            edit: if can_edit { snippet(&Entry::allowing(behaviour)) } else { String::new() },
        }
    }

    fn summary(&self, behaviour: &Behaviour, verdict: &Verdict) -> String {
        let Behaviour { workload, subject, action, object } = behaviour;
        let did = format!("{subject} in {workload} {} {object}", past_tense(*action));
        match verdict {
            Verdict::Allowed => format!("{did}, which the baseline allows"),
            Verdict::Learning => format!("{did}, and {workload} is still learning"),
            Verdict::Denied => format!("{did}, which the baseline denies"),
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

    fn why_novel(&self, behaviour: &Behaviour) -> String {
        let Behaviour { workload, subject, action, .. } = behaviour;
        if self.holds(Disposition::Retired, behaviour) {
            return "which the baseline retired".to_owned();
        }
        let Some(rules) = self.rules(workload, subject) else {
            return format!("and the baseline does not know {subject} in {workload}");
        };
        match rules.set(Disposition::Allow, *action).map_or(0, EntrySet::len) {
            0 => format!("and the baseline allows it no {action} at all"),
            1 => format!("which is not the one {action} entry it is allowed"),
            count => format!("which is none of the {count} {action} entries it is allowed"),
        }
    }

    /// Entries of the same action, closest first: of this subject, else of others of the workload. For a denial, the
    /// entries that deny it.
    fn nearest(&self, behaviour: &Behaviour, verdict: &Verdict) -> Vec<String> {
        let Behaviour { workload, subject, action, object } = behaviour;
        let wanted = Pattern::of(*action, object);
        let text = object.to_string();
        let mut best = Vec::new();
        let rules = self.rules(workload, subject);
        if *verdict == Verdict::Denied {
            let set = rules.and_then(|rules| rules.set(Disposition::Deny, *action));
            for pattern in set.into_iter().flat_map(|set| set.holding(object)) {
                keep_closest(&mut best, *action, pattern, &text);
            }
        } else if let Some(set) = rules.and_then(|rules| rules.set(Disposition::Allow, *action)) {
            for pattern in set.around(&wanted, SCORED_MAX) {
                keep_closest(&mut best, *action, pattern, &text);
            }
        }
        let mut named: Vec<String> = best.into_iter().map(|(_, entry)| format!("{action} {entry}")).collect();
        // Another subject's entry is worth naming only when it is about the same object.
        let others = self.workloads.get(workload).into_iter().flatten().filter(|(other, rules)| {
            let is_allowed = |set: &EntrySet| set.contains(&wanted);
            *verdict != Verdict::Denied
                && *other != subject
                && rules.set(Disposition::Allow, *action).is_some_and(is_allowed)
        });
        let room = NEAREST_MAX - named.len();
        named.extend(others.take(room).map(|(other, _)| format!("{other} {action} {wanted}")));
        named
    }
}

/// Most entries of a subject that are compared with a behaviour: a finding must not cost more in a larger baseline.
/// They are the neighbours of the behaviour in the order of the text, where those that begin alike stand.
const SCORED_MAX: usize = 1000;

/// Puts an entry among the closest ones, best first, if it is one of them.
fn keep_closest(best: &mut Vec<(Reverse<usize>, String)>, action: Action, pattern: &Pattern, object: &str) {
    let text = pattern.to_string();
    best.push((Reverse(closeness(action, &text, object)), text));
    best.sort_unstable();
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
