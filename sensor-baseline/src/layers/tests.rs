//! What layers say together. Not what one says (see `judge`).

use proptest::prelude::*;

use super::{Layer, Layers};
use crate::baseline::{Baseline, Disposition, Entry};
use crate::floor::Floor;
use crate::judge::Verdict;
use crate::model::{Action, Observation, Traits};
use crate::pattern::Pattern;
use crate::testing::{baseline, behaviour, observation, observations};

fn layers(texts: &[(&str, &str)]) -> Layers {
    Layers::new(texts.iter().map(|(name, rules)| Layer::new(name, baseline(rules))).collect())
}

fn check(texts: &[&str], object: &str, expected: &Verdict) {
    let named: Vec<_> = ["vendor", "fleet", "host"].into_iter().zip(texts.iter().copied()).collect();
    let judged =
        layers(&named).judge(&observation(behaviour("exec", object), Traits::default()), Floor::built_in());
    assert_eq!(judged, *expected, "{texts:?}: {object}");
}

#[test]
fn higher_layers_take_back_and_give_back() {
    let (allow, retired) = ("exec: [/bin/*]", "retired: {exec: [/bin/sh]}");
    check(&[allow, retired], "/bin/sh", &Verdict::Novel);
    check(&[allow, retired], "/bin/ls", &Verdict::Allowed);
    check(&[retired, allow], "/bin/sh", &Verdict::Allowed);
    check(&[allow, retired, "exec: [/bin/sh]"], "/bin/sh", &Verdict::Allowed);
    check(&["exec: [/bin/sh]", "retired: {exec: [/bin/*]}", "exec: [/bin/ls]"], "/bin/sh", &Verdict::Novel);
    check(&["{exec: [/bin/*], retired: {exec: [/bin/sh]}}", "exec: [/bin/ls]"], "/bin/sh", &Verdict::Novel);
    check(&[retired, "exec: [/bin/ls]", allow], "/bin/sh", &Verdict::Allowed);
    check(&["exec: [/opt/a]", retired, "exec: [/bin/ls]"], "/opt/a", &Verdict::Allowed);
}

#[test]
fn a_denial_of_any_layer_holds() {
    for texts in
        [["deny: {exec: [/bin/*]}", "exec: [/bin/sh]"], ["exec: [/bin/sh]", "deny: {exec: [/bin/*]}"]]
    {
        check(&texts, "/bin/sh", &Verdict::Denied);
    }
}

#[test]
fn what_the_highest_leaves_to_be_learned_is_learned() {
    let of = |learning: &str| {
        let text = format!("fleet: web\nworkloads:\n  unit:a.service: {{}}\n{learning}");
        Baseline::parse(&text).unwrap()
    };
    let learn = |actions: &str| of(&format!("learning: {{'unit:a.service': [{actions}]}}\n"));
    let judge = |layers: Vec<Baseline>, action: &str| {
        let layers = layers.into_iter().map(|baseline| Layer::new("x", baseline)).collect();
        Layers::new(layers).judge(&observation(behaviour(action, "/x"), Traits::default()), Floor::built_in())
    };
    assert_eq!(judge(vec![of(""), learn("write")], "write"), Verdict::Learning);
    assert_eq!(judge(vec![learn("write"), of("")], "write"), Verdict::Learning);
    assert_eq!(judge(vec![learn("write"), learn("exec")], "write"), Verdict::Novel);
    assert_eq!(judge(vec![learn("write"), learn("exec")], "exec"), Verdict::Learning);
    assert_eq!(judge(vec![Baseline::empty("web"), of("")], "exec"), Verdict::Novel);
}

#[test]
fn explanations_name_the_layers() {
    let layers = layers(&[
        ("vendor", "{exec: [/usr/bin/curl, /bin/ls], deny: {write: [/etc/*]}}"),
        ("fleet", "{exec: [/usr/bin/curl], retired: {exec: [/bin/ls]}}"),
        ("host", "connect: [tcp 10.0.0.1 80]"),
    ]);
    let explain = |action: &str, object: &str| {
        let one = observation(behaviour(action, object), Traits::default());
        layers.explain(&one, &layers.judge(&one, Floor::built_in()))
    };
    let novel = explain("exec", "/usr/bin/wget");
    assert!(
        novel.summary.ends_with("which is none of the 2 exec entries it is allowed"),
        "{}",
        novel.summary
    );
    assert_eq!(novel.nearest, ["exec /usr/bin/curl (fleet, vendor)", "exec /bin/ls (vendor)"]);
    assert!(novel.edit.starts_with("# layer host\nworkloads:\n"), "{}", novel.edit);
    let retired = explain("exec", "/bin/ls");
    assert!(retired.summary.ends_with("which layer fleet of the baseline retired"), "{}", retired.summary);
    let denied = explain("write", "/etc/x");
    assert!(denied.summary.ends_with("which layer vendor of the baseline denies"), "{}", denied.summary);
    assert_eq!(denied.nearest, ["write /etc/* (vendor)"]);
}

#[test]
fn the_version_is_that_of_the_highest_layer_that_has_one() {
    let numbered = |version| Baseline { version, ..Baseline::empty("web") };
    let of = |versions: [Option<u64>; 3]| {
        Layers::new(versions.into_iter().map(|version| Layer::new("x", numbered(version))).collect())
            .version()
    };
    assert_eq!((of([Some(1), Some(7), None]), of([None; 3])), (Some(7), None));
}

/// Baselines about few things, so that their entries meet.
fn crowded() -> impl Strategy<Value = Baseline> {
    let disposition = prop::sample::select(vec![Disposition::Allow, Disposition::Deny, Disposition::Retired]);
    let path = prop::sample::select(vec!["/a", "/b", "/*", "/c/**", "/c/d"]);
    let entry = (0..2_u8, disposition, prop::bool::ANY, path);
    (prop::collection::vec(entry, 0..8), prop::option::of(prop::bool::ANY)).prop_map(|(entries, learning)| {
        let mut baseline = Baseline::empty("web");
        for (subject, disposition, is_exec, path) in entries {
            let action = if is_exec { Action::Exec } else { Action::Write };
            let mut entry = Entry::allowing(&behaviour(action.name(), "/x"));
            entry.subject.0 = format!("/usr/bin/{subject}");
            let entry = Entry { disposition, pattern: Pattern::parse(action, path).unwrap(), ..entry };
            if baseline.listed(&entry).is_none() {
                baseline.insert(entry);
            }
        }
        if let Some(is_exec) = learning {
            let action = if is_exec { Action::Exec } else { Action::Write };
            baseline.leave_learning(behaviour("exec", "/x").workload, action);
        }
        baseline
    })
}

fn all_observations() -> Vec<Observation> {
    let mut all = Vec::new();
    for subject in 0..3 {
        for action in ["exec", "write"] {
            for object in ["/a", "/b", "/z", "/c/d", "/c/e"] {
                let mut made = behaviour(action, object);
                made.subject.0 = format!("/usr/bin/{subject}");
                all.push(observation(made, Traits::default()));
            }
        }
    }
    all
}

/// The rules of this module's table, one layer after the other.
fn slowly(layers: &[Baseline], one: &Observation) -> Verdict {
    let behaviour = &one.behaviour;
    if layers.iter().any(|layer| layer.holds(Disposition::Deny, behaviour)) {
        return Verdict::Denied;
    }
    for layer in layers.iter().rev() {
        if layer.holds(Disposition::Retired, behaviour) {
            break;
        }
        if layer.holds(Disposition::Allow, behaviour) {
            return Verdict::Allowed;
        }
    }
    let learning = layers.iter().rev().find(|layer| layer.learning().next().is_some());
    let is_learning = learning.is_some_and(|layer| layer.is_learning(&behaviour.workload, behaviour.action));
    let is_armed = layers.iter().any(|layer| layer.is_armed(&behaviour.workload));
    if is_armed && !is_learning { Verdict::Novel } else { Verdict::Learning }
}

fn of(layers: &[Baseline]) -> Layers {
    Layers::new(layers.iter().map(|baseline| Layer::new("x", baseline.clone())).collect())
}

proptest! {
    #[test]
    fn the_merged_index_says_what_the_layers_say(layers in prop::collection::vec(crowded(), 0..6)) {
        let merged = of(&layers);
        for one in all_observations() {
            prop_assert_eq!(merged.judge(&one, Floor::built_in()), slowly(&layers, &one), "{:?}", one);
        }
    }

    #[test]
    fn layering_is_associative(one in crowded(), two in crowded(), three in crowded()) {
        let all = of(&[one.clone(), two.clone(), three.clone()]);
        let [one, two, three] = [one, two, three].map(|baseline| of(&[baseline]));
        let left = three.clone().over(two.clone().over(one.clone()));
        prop_assert_eq!(&left, &three.over(two).over(one));
        prop_assert_eq!(left, all);
    }

    #[test]
    fn one_layer_is_that_baseline_alone(baseline in crowded(), made in observations()) {
        let alone = of(std::slice::from_ref(&baseline));
        for one in made.into_iter().chain(all_observations()) {
            let verdict = baseline.judge(&one, Floor::built_in());
            prop_assert_eq!(alone.judge(&one, Floor::built_in()), verdict.clone());
            prop_assert_eq!(alone.explain(&one, &verdict), baseline.explain(&one, &verdict));
        }
    }

    #[test]
    fn a_denial_is_never_lost(layers in prop::collection::vec(crowded(), 2..6)) {
        let merged = of(&layers);
        for one in all_observations() {
            let is_denied = layers.iter().any(|layer| layer.holds(Disposition::Deny, &one.behaviour));
            let verdict = merged.judge(&one, Floor::built_in());
            prop_assert_eq!(verdict == Verdict::Denied, is_denied);
            let explanation = merged.explain(&one, &verdict);
            let is_placed = |entry: &String| entry.contains(" (x");
            prop_assert!(!is_denied || explanation.nearest.iter().all(is_placed));
        }
    }

    /// The layer that the edit names is one where it has an effect.
    #[test]
    fn the_edit_allows_it_in_its_layer(layers in prop::collection::vec(crowded(), 2..5)) {
        let name = |at: usize| format!("l{at}");
        let named = |layers: &[Baseline]| {
            let layers = layers.iter().enumerate().map(|(at, one)| Layer::new(&name(at), one.clone()));
            Layers::new(layers.collect())
        };
        for one in all_observations() {
            let verdict = named(&layers).judge(&one, Floor::built_in());
            let edit = named(&layers).explain(&one, &verdict).edit;
            let at = (0..layers.len()).find(|at| edit.starts_with(&format!("# layer {}\n", name(*at))));
            prop_assert_eq!(at.is_some(), !edit.is_empty());
            let Some(at) = at.filter(|_| verdict == Verdict::Novel) else { continue };
            // What a wider entry of that very layer retired is no matter of one more entry.
            let Ok(approved) = layers[at].approve(&one.behaviour, None) else { continue };
            let mut edited = layers.clone();
            edited[at] = approved;
            prop_assert_eq!(named(&edited).judge(&one, Floor::built_in()), Verdict::Allowed);
        }
    }
}
