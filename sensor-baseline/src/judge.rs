//! The verdict on one observation. Not how bad it is (see `severity`) and not why (see `explain`). May call:
//! `baseline`, `floor`.
//!
//! Order: deny > floor > allow > novel. Three refinements: a floor rule that yields gives way to an allow entry, a
//! retired entry takes back what an allow entry gives, and a silence as narrow as an entry stands in for the one that a
//! rule keeps from being learned.

use std::sync::Arc;

use crate::baseline::Baseline;
use crate::floor::{Floor, FloorRule, Held};
use crate::model::Observation;

/// What the baseline thinks of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Normal, by an entry or by a silence that stands in for one.
    Allowed,
    /// The workload is not listed, or this action of it is left to be learned, so nothing is abnormal yet.
    Learning,
    /// The workload is listed, the behaviour is not.
    Novel,
    /// A floor rule fired.
    Floor(Arc<FloorRule>),
    /// Denied by name.
    Denied,
}

impl Verdict {
    /// Whether it is worth sending.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        matches!(self, Self::Novel | Self::Floor(_) | Self::Denied)
    }
}

impl Baseline {
    /// Judges one observation. Same baseline, floor and observation, same verdict.
    #[must_use]
    pub fn judge(&self, observation: &Observation, floor: &Floor) -> Verdict {
        self.judge_held(observation, floor.held(observation))
    }

    /// Judges one observation of which the floor says this.
    #[must_use]
    pub fn judge_held(&self, observation: &Observation, held: Held<'_>) -> Verdict {
        let (behaviour, rule) = (&observation.behaviour, held.rule);
        let (action, object) = (behaviour.action, &behaviour.object);
        let rules = self.rules(&behaviour.workload, &behaviour.subject);
        if rules.is_some_and(|rules| rules.deny(action, object)) {
            return Verdict::Denied;
        }
        if let Some(rule) = rule.filter(|rule| !rule.yields_to_allow) {
            return Verdict::Floor(Arc::clone(rule));
        }
        if rules.is_some_and(|rules| rules.allow(action, object)) {
            return Verdict::Allowed;
        }
        match rule {
            Some(rule) => Verdict::Floor(Arc::clone(rule)),
            None if !self.judges(&behaviour.workload, action) => Verdict::Learning,
            None if held.is_excused => Verdict::Allowed,
            None => Verdict::Novel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;
    use crate::baseline::Baseline;
    use crate::floor::Floor;
    use crate::model::Traits;
    use crate::testing::{baseline, behaviour, observation};

    fn check(rules: &str, action: &str, object: &str, traits: Traits, expected: &str) {
        let verdict =
            baseline(rules).judge(&observation(behaviour(action, object), traits), Floor::built_in());
        let name = match &verdict {
            Verdict::Floor(rule) => rule.id.as_str(),
            Verdict::Allowed => "allowed",
            Verdict::Learning => "learning",
            Verdict::Novel => "novel",
            Verdict::Denied => "denied",
        };
        assert_eq!(name, expected, "{rules}: {action} {object}");
    }

    #[test]
    fn a_listed_behaviour_is_allowed_and_another_is_novel() {
        let none = Traits::default();
        check("exec: [/bin/ls]", "exec", "/bin/ls", none, "allowed");
        check("exec: [/bin/ls]", "exec", "/bin/cat", none, "novel");
        check("exec: [/bin/ls]", "write", "/bin/ls", none, "novel");
        check("write: [/var/log/*.log]", "write", "/var/log/a.log", none, "allowed");
        check(
            "rename: [/var/log/* -> /var/log/*.<num>]",
            "rename",
            "/var/log/a -> /var/log/a.1",
            none,
            "allowed",
        );
        check("rename: [/a -> /b]", "rename", "/b -> /a", none, "novel");
        check("connect: [tcp 10.0.0.0/8 5432]", "connect", "tcp 10.1.2.3 5432", none, "allowed");
        check("listen: [tcp 80]", "listen", "tcp 0.0.0.0 8080", none, "novel");
    }

    #[test]
    fn a_workload_that_is_not_listed_is_learning() {
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(Baseline::empty("web").judge(&shell, Floor::built_in()), Verdict::Learning);
    }

    #[test]
    fn a_listed_workload_with_nothing_below_is_armed() {
        let text = "fleet: web\nworkloads:\n  unit:a.service: {}\n";
        let shell = observation(behaviour("exec", "/bin/sh"), Traits::default());
        assert_eq!(Baseline::parse(text).unwrap().judge(&shell, Floor::built_in()), Verdict::Novel);
    }

    #[test]
    fn deny_wins_over_floor_and_allow() {
        let fileless = Traits { fileless: true, ..Traits::default() };
        let both = "{exec: [/bin/sh], deny: {exec: [/bin/*]}}";
        check(both, "exec", "/bin/sh", Traits::default(), "denied");
        check("deny: {exec: [/bin/*]}", "exec", "/bin/sh", fileless, "denied");
    }

    #[test]
    fn floor_wins_over_allow_unless_the_rule_yields() {
        let fileless = Traits { fileless: true, ..Traits::default() };
        check("exec: [/bin/sh]", "exec", "/bin/sh", fileless, "fileless-exec");
        let shell = Traits { acting_is_shell: true, ..Traits::default() };
        check("connect: [tcp 10.0.0.1 80]", "connect", "tcp 10.0.0.1 80", shell, "allowed");
        check("connect: [tcp 10.0.0.1 80]", "connect", "tcp 10.0.0.1 81", shell, "shell-connect");
    }

    #[test]
    fn floor_fires_while_learning() {
        let shell = Traits { acting_is_shell: true, ..Traits::default() };
        let connect = observation(behaviour("connect", "tcp 10.0.0.1 80"), shell);
        assert!(
            matches!(Baseline::empty("web").judge(&connect, Floor::built_in()), Verdict::Floor(rule) if rule.id == "shell-connect")
        );
    }

    #[test]
    fn retired_takes_back_what_a_template_allows() {
        let rules = "{exec: [/bin/*], retired: {exec: [/bin/sh]}}";
        check(rules, "exec", "/bin/sh", Traits::default(), "novel");
        check(rules, "exec", "/bin/ls", Traits::default(), "allowed");
    }
}
