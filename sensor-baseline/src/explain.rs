//! Why a verdict is what it is, for a person. Changes nothing. May call: `baseline`, `judge`, `yaml`.

use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, Disposition, Entry};
use crate::judge::Verdict;
use crate::model::{Action, Behaviour, Observation};
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
                let techniques = rule.techniques.join(", ");
                let way_out =
                    if rule.yields_to_allow { "no entry allows it" } else { "no entry can allow it" };
                format!("{did}: {} ({techniques}); {way_out}", rule.title)
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
        match rules.set(Disposition::Allow, *action).map_or(0, crate::entries::EntrySet::len) {
            0 => format!("and the baseline allows it no {action} at all"),
            1 => format!("which is not the one {action} entry it is allowed"),
            count => format!("which is none of the {count} {action} entries it is allowed"),
        }
    }

    /// Entries of the same action, closest first: of this subject, else of others of the workload. For a denial, the
    /// entries that deny it.
    fn nearest(&self, behaviour: &Behaviour, verdict: &Verdict) -> Vec<String> {
        let disposition = if *verdict == Verdict::Denied { Disposition::Deny } else { Disposition::Allow };
        let Some(subjects) = self.workloads.get(&behaviour.workload) else { return Vec::new() };
        let object = behaviour.object.to_string();
        let mut scored = Vec::new();
        for (subject, rules) in subjects {
            let is_other = *subject != behaviour.subject;
            let Some(set) = rules.set(disposition, behaviour.action) else { continue };
            for pattern in set.iter() {
                let text = pattern.to_string();
                let score = closeness(behaviour.action, &text, &object);
                // Another subject's entry is worth naming only when it is about the same object.
                if is_other && text != object {
                    continue;
                }
                let prefix = if is_other { format!("{subject} ") } else { String::new() };
                scored.push((
                    is_other,
                    std::cmp::Reverse(score),
                    format!("{prefix}{} {text}", behaviour.action),
                ));
            }
        }
        scored.sort_unstable();
        scored.into_iter().take(NEAREST_MAX).map(|(_, _, text)| text).collect()
    }
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
    use crate::judge::Verdict;
    use crate::model::Traits;
    use crate::testing::{any_baseline, baseline, behaviour, observation, observations};

    #[test]
    fn a_novel_behaviour_comes_with_the_nearest_entries_and_the_edit() {
        let baseline = baseline("{exec: [/usr/bin/curl, /opt/a, /usr/sbin/b, /bin/sh], write: [/x]}");
        let observation = observation(behaviour("exec", "/usr/bin/wget"), Traits::default());
        let explanation = baseline.explain(&observation, &baseline.judge(&observation));
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
            let explanation = baseline.explain(&observation, &baseline.judge(&observation));
            assert!(explanation.summary.ends_with(end), "{}", explanation.summary);
            assert_eq!(!explanation.edit.is_empty(), has_edit, "{rules}");
        }
        let denied = baseline("deny: {exec: [/bin/*]}");
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(denied.explain(&shell, &Verdict::Denied).nearest, ["exec /bin/*"]);
    }

    proptest::proptest! {
        #[test]
        fn the_edit_of_a_finding_allows_it(baseline in any_baseline(), made in observations()) {
            for one in &made {
                let verdict = baseline.judge(one);
                let explanation = baseline.explain(one, &verdict);
                if explanation.edit.is_empty() {
                    continue;
                }
                let edit = Baseline::parse(&format!("fleet: web\n{}", explanation.edit)).unwrap();
                proptest::prop_assert_eq!(edit.judge(one), Verdict::Allowed);
                proptest::prop_assert_eq!(edit.entry_count(), 1);
                if let Ok(approved) = baseline.approve(&one.behaviour, None) {
                    proptest::prop_assert_eq!(approved.judge(one), Verdict::Allowed);
                }
            }
        }
    }
}
