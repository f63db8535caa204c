//! How bad a verdict is. Not whether it is a finding (see `judge`). May call: `floor`, `judge`, `model`.
//!
//! | verdict | severity |
//! |---|---|
//! | allowed, learning | informational |
//! | novel | low: novelty alone is no attack |
//! | novel, and a shell acts, the object is sensitive, or a silenced floor rule fires | medium |
//! | floor | the rule's |
//! | denied | high, or the severity of a floor rule that also fires, when higher |
//!
//! Sensitive objects are listed in `rules/sensitive.toml`. The collector shows what is novel and rare in its fleet as medium.

use serde::{Deserialize, Serialize};

use crate::floor::Floor;
use crate::judge::Verdict;
use crate::model::Observation;

/// How bad; the numbers are those of OCSF `severity_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Not a finding.
    Informational = 1,
    /// New, and nothing else speaks against it.
    Low = 2,
    /// New, in a place that matters.
    Medium = 3,
    /// A technique of intruders.
    High = 4,
    /// A technique of intruders that has hardly another use.
    Critical = 5,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl Floor {
    /// How bad this verdict on this observation is.
    #[must_use]
    pub fn severity(&self, observation: &Observation, verdict: &Verdict) -> Severity {
        match verdict {
            Verdict::Allowed | Verdict::Learning => Severity::Informational,
            Verdict::Novel if self.is_worse_than_novel(observation) => Severity::Medium,
            Verdict::Novel => Severity::Low,
            Verdict::Floor(rule) => rule.severity,
            Verdict::Denied => {
                let rule = self.firing(observation);
                rule.map_or(Severity::High, |rule| rule.severity.max(Severity::High))
            }
        }
    }

    /// Whether more than novelty speaks against it. A rule that fires on what is novel is a silenced one.
    fn is_worse_than_novel(&self, observation: &Observation) -> bool {
        observation.traits.acting_is_shell
            || self.sensitive(observation).is_some()
            || self.firing(observation).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Severity;
    use crate::floor::Floor;
    use crate::judge::Verdict;
    use crate::model::Traits;
    use crate::testing::{behaviour, observation};

    fn check(action: &str, object: &str, traits: Traits, expected: Severity) {
        let observation = observation(behaviour(action, object), traits);
        assert_eq!(Floor::built_in().severity(&observation, &Verdict::Novel), expected, "{action} {object}");
    }

    #[test]
    fn novelty_alone_is_low_and_a_sensitive_object_makes_it_medium() {
        let none = Traits::default();
        check("exec", "/usr/bin/id", none, Severity::Low);
        check("exec", "/tmp/x", none, Severity::Medium);
        check("exec", "/tmpfiles/x", none, Severity::Low);
        check("exec", "/opt/.x/y", none, Severity::Medium);
        check("exec", "/opt/x", Traits { executable_is_fresh: true, ..none }, Severity::Medium);
        check("exec", "/usr/bin/id", Traits { acting_is_shell: true, ..none }, Severity::Medium);
        check("write", "/srv/x", none, Severity::Low);
        check("write", "/etc/hosts", none, Severity::Medium);
        check("delete", "/var/log/auth.log", none, Severity::Medium);
        check("rename", "/srv/a -> /usr/bin/ls", none, Severity::Medium);
        check("connect", "tcp 8.8.8.8 443", none, Severity::Low);
        check("listen", "tcp 127.0.0.1 80", none, Severity::Low);
        check("listen", "tcp 0.0.0.0 80", none, Severity::Medium);
    }

    #[test]
    fn a_denied_floor_technique_keeps_the_higher_severity() {
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(Floor::built_in().severity(&shell, &Verdict::Denied), Severity::High);
        let fileless = Traits { fileless: true, ..Traits::default() };
        let memory = observation(behaviour("exec", "/memfd:x"), fileless);
        assert_eq!(Floor::built_in().severity(&memory, &Verdict::Denied), Severity::Critical);
        assert_eq!(Floor::built_in().severity(&memory, &Verdict::Allowed), Severity::Informational);
    }
}
