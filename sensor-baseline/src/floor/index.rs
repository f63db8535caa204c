//! What can be told of an observation before any rule is asked: whether one may fire at all. Hardly any does, so that this is
//! what judging costs. Not the rules. May call: `condition`, and the crate aho-corasick.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};

use super::FloorRule;
use super::condition::{Act, Condition};
use crate::model::{Action, Behaviour, Observation};
use crate::object::Object;
use std::sync::Arc;

/// By act, in the order of [`Act::ALL`].
#[derive(Debug, Clone, Default)]
pub(super) struct Index(Vec<ByAct>);

#[derive(Debug, Clone, Default)]
struct ByAct {
    /// Texts of which every path has one that a rule fires on, but for those of `always`.
    texts: Option<AhoCorasick>,
    /// Rules with the place of a condition that may hold of any path: few, of traits mostly.
    always: Vec<(Arc<FloorRule>, usize)>,
}

impl Index {
    pub(super) fn new(rules: &[Arc<FloorRule>]) -> Self {
        Self(Act::ALL.into_iter().map(|act| ByAct::new(act, rules)).collect())
    }

    /// Whether a rule may fire. When not, none does.
    pub(super) fn may_fire(&self, observation: &Observation) -> bool {
        let Behaviour { action, object, .. } = &observation.behaviour;
        let may = |act: Act, path: &str| {
            self.0.get(act as usize).is_none_or(|by_act| by_act.may_fire(path, observation))
        };
        match (action, object) {
            (Action::Rename, Object::Rename { from, to }) => {
                may(Act::RenameFrom, from.as_str()) || may(Act::RenameTo, to.as_str())
            }
            (Action::Exec, Object::Path(path)) => may(Act::Exec, path.as_str()),
            (Action::Write, Object::Path(path)) => may(Act::Write, path.as_str()),
            (Action::Delete, Object::Path(path)) => may(Act::Delete, path.as_str()),
            (Action::Connect, _) => may(Act::Connect, ""),
            (Action::Listen, _) => may(Act::Listen, ""),
            // An object that is not of its action: no rule is of it.
            _ => false,
        }
    }
}

impl ByAct {
    fn new(act: Act, rules: &[Arc<FloorRule>]) -> Self {
        let (mut texts, mut always, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for rule in rules {
            for (place, condition) in rule.conditions.iter().enumerate() {
                if !condition.acts.contains(&act) {
                    continue;
                }
                all.push((Arc::clone(rule), place));
                match needed(condition) {
                    Some(more) => texts.extend(more),
                    None => always.push((Arc::clone(rule), place)),
                }
            }
        }
        // The fastest kind to search with: there are some hundred short texts, each a place that somebody wrote down.
        let automaton = AhoCorasickBuilder::new().kind(Some(AhoCorasickKind::DFA)).build(&texts);
        match automaton.ok().filter(|_| !texts.is_empty()) {
            Some(texts) => Self { texts: Some(texts), always },
            // None to look for, or too many.
            None => Self { texts: None, always: all },
        }
    }

    fn may_fire(&self, path: &str, observation: &Observation) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.is_match(path))
            || self.always.iter().any(|(rule, place)| rule.conditions[*place].holds(observation))
    }
}

/// Texts of which each path has one where the condition holds; `None` when it may hold of any path.
fn needed(condition: &Condition) -> Option<Vec<&str>> {
    if condition.is_hidden {
        return Some(vec!["/."]);
    }
    if condition.places.is_empty() {
        return None;
    }
    condition.places.iter().map(|place| place.needed_text()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::floor::Floor;
    use crate::model::{Action, Observation, Traits};
    use crate::testing::{behaviour, observation};

    /// A file whose places have nothing in common with others, or nothing to look for.
    const OWN: &str = r#"
attack_version = "19.1"
[[rule]]
id = "anywhere"
title = "a"
techniques = []
severity = "low"
yields_to_allow = false
fires_on = [{ does = "write /b/c" }]
quiet_on = [{ does = "delete /b/c" }]
[[rule.when]]
actions = ["write", "rename_to"]
places = ["/*/c", "/<num>"]
[[rule.when]]
actions = ["rename_from"]
places = ["/*"]
"#;

    fn is_index_right(floor: &Floor, observation: &Observation) -> bool {
        let fires = floor.rules().iter().any(|rule| rule.fires(observation));
        fires == floor.firing(observation).is_some() && (!fires || floor.index.may_fire(observation))
    }

    #[test]
    fn every_example_of_every_rule_may_fire() {
        let floor = Floor::built_in();
        let examples = floor.rules().iter().flat_map(|rule| &rule.examples);
        let mut count = 0;
        for example in examples {
            assert!(floor.index.may_fire(example), "{}", example.behaviour);
            count += 1;
        }
        assert!(count > 50, "{count}");
    }

    #[test]
    fn what_hardly_any_rule_is_about_is_not_asked_for() {
        for (action, object) in [
            ("write", "/var/lib/app/data/1.db"),
            ("delete", "/run/app/x.tmp"),
            ("rename", "/var/log/app/a.log -> /var/log/app/a.log.1"),
            ("exec", "/usr/bin/ls"),
            ("connect", "tcp 10.0.0.1 443"),
        ] {
            let observation = observation(behaviour(action, object), Traits::default());
            assert!(!Floor::built_in().index.may_fire(&observation), "{action} {object}");
        }
    }

    proptest! {
        #[test]
        fn what_the_index_leaves_out_no_rule_fires_on(
            names in proptest::collection::vec(
                "(etc|cron\\.d|\\.ssh|authorized_keys|tmp|home|u|root|\\.bashrc|usr|bin|lib|systemd|system|a\\.service|boot|proc|self|mem|b|c|7|x|\\.h)",
                1..6,
            ),
            other in proptest::collection::vec("(etc|ld\\.so\\.preload|passwd|shadow|b|c|x)", 1..4),
            action in proptest::sample::select(vec!["exec", "write", "delete", "rename"]),
            bits in proptest::array::uniform7(any::<bool>()),
        ) {
            let (path, other) = (format!("/{}", names.join("/")), format!("/{}", other.join("/")));
            let [acting_is_shell, acting_is_transparent, fileless, executable_is_fresh, ephemeral, object_from_caller, object_deleted] = bits;
            let traits = Traits { acting_is_shell, acting_is_transparent, fileless, executable_is_fresh, ephemeral, object_from_caller, object_deleted, ..Traits::default() };
            let object = if Action::parse(action) == Some(Action::Rename) { format!("{path} -> {other}") } else { path };
            let observation = observation(behaviour(action, &object), traits);
            prop_assert!(is_index_right(Floor::built_in(), &observation));
            let own = Floor::with_files(&[("own.toml".to_owned(), OWN.to_owned())]).unwrap();
            prop_assert!(is_index_right(&own, &observation));
        }
    }
}
