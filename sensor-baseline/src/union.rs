//! Baselines put together by hand, entry by entry. Not what hosts learned with counts (see `merge`). May call:
//! `baseline`, `classes`.

use std::collections::BTreeMap;

use crate::baseline::{Baseline, Disposition, Entry};
use crate::classes::Classes;
use crate::model::{Action, Subject, Workload};
use crate::pattern::Pattern;

/// A baseline of every entry and every armed workload of some baselines.
///
/// What one of them denies stays denied, and what one retired stays retired, whatever another says of exactly the same
/// entry; what one judges is judged, though another still learns it. Their order, their grouping, and one that is there twice make no difference. Versions go: the result is none
/// of them.
#[must_use]
pub fn union<'a>(fleet: &str, baselines: impl IntoIterator<Item = &'a Baseline>) -> Baseline {
    let mut union = Baseline::empty(fleet);
    let mut entries: BTreeMap<Listed, Disposition> = BTreeMap::new();
    let (mut listed, mut learning) = (BTreeMap::new(), BTreeMap::new());
    for baseline in baselines {
        for workload in baseline.workloads() {
            union.arm(workload.clone());
            *listed.entry(workload).or_insert(0) += 1;
        }
        for (workload, action) in baseline.learning() {
            *learning.entry((workload, action)).or_insert(0) += 1;
        }
        for Entry { workload, subject, disposition, action, pattern } in baseline.entries() {
            let strictest = entries.entry((workload, subject, action, pattern)).or_insert(disposition);
            if strictness(disposition) > strictness(*strictest) {
                *strictest = disposition;
            }
        }
    }
    for ((workload, subject, action, pattern), disposition) in entries {
        union.insert(Entry { workload, subject, disposition, action, pattern });
    }
    for ((workload, action), count) in learning {
        if listed.get(workload) == Some(&count) {
            union.leave_learning(workload.clone(), action);
        }
    }
    union
}

/// The baseline with the ports and names that vary in what it allows as classes, as learning would have put them.
#[must_use]
pub fn settle(baseline: &Baseline) -> Baseline {
    let is_allowed = |entry: &Entry| entry.disposition == Disposition::Allow;
    let allowed: Vec<Entry> = baseline.entries().filter(is_allowed).collect();
    let classes = Classes::of(&allowed);
    let mut settled = Baseline { workloads: BTreeMap::new(), ..baseline.clone() };
    for workload in baseline.workloads() {
        settled.arm(workload.clone());
    }
    for entry in baseline.entries() {
        let class = if is_allowed(&entry) { classes.settle(entry.clone()) } else { entry.clone() };
        // Where a person denied or retired the class, entries stay as they are: an entry stands in a baseline once.
        let is_taken = class != entry
            && matches!(baseline.listed(&class), Some(Disposition::Deny | Disposition::Retired));
        settled.insert(if is_taken { entry } else { class });
    }
    settled
}

/// What an entry is about, without what it says.
type Listed = (Workload, Subject, Action, Pattern);

const fn strictness(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Allow => 0,
        Disposition::Retired => 1,
        Disposition::Deny => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::{settle, union};
    use crate::baseline::Baseline;
    use crate::testing::{any_baseline, baseline};
    use proptest::prelude::{prop_assert_eq, proptest};

    #[test]
    fn what_one_denies_or_retired_stays_so() {
        let check = |one: &str, other: &str, expected: &str| {
            assert_eq!(union("web", [&baseline(one), &baseline(other)]), baseline(expected));
        };
        check("exec: [/bin/a]", "exec: [/bin/b]", "exec: [/bin/a, /bin/b]");
        check("exec: [/bin/a]", "retired: {exec: [/bin/a]}", "retired: {exec: [/bin/a]}");
        check("retired: {exec: [/bin/a]}", "deny: {exec: [/bin/a]}", "deny: {exec: [/bin/a]}");
        check("exec: [/bin/*]", "deny: {exec: [/bin/a]}", "{exec: [/bin/*], deny: {exec: [/bin/a]}}");
    }

    #[test]
    fn ports_that_hosts_chose_become_their_class() {
        let hosts =
            ["listen: [tcp 40001]", "listen: [tcp 40002]", "listen: [tcp 40003, tcp 80]"].map(baseline);
        let settled = settle(&union("web", &hosts));
        assert_eq!(settled, baseline("listen: [tcp 80, tcp ephemeral]"));
        let retired =
            baseline("{listen: [tcp 40001, tcp 40002, tcp 40003], retired: {listen: [tcp ephemeral]}}");
        assert_eq!(settle(&retired), retired);
        assert_eq!(Baseline::parse(&settle(&retired).to_yaml()).unwrap(), retired);
        let denied = baseline("deny: {listen: [tcp 40001, tcp 40002, tcp 40003]}");
        assert_eq!(settle(&denied), denied);
    }

    proptest! {
        #[test]
        fn union_is_commutative_associative_and_idempotent(
            a in any_baseline(), b in any_baseline(), c in any_baseline(),
        ) {
            let of = |baselines: &[&Baseline]| union("web", baselines.iter().copied());
            prop_assert_eq!(of(&[&a, &b]), of(&[&b, &a]));
            prop_assert_eq!(of(&[&of(&[&a, &b]), &c]), of(&[&a, &of(&[&b, &c])]));
            prop_assert_eq!(of(&[&of(&[&a]), &a]), of(&[&a]));
            let settled = settle(&of(&[&a, &b]));
            prop_assert_eq!(settle(&settled), settled.clone());
            prop_assert_eq!(Baseline::parse(&settled.to_yaml()).unwrap(), settled);
        }
    }
}
