//! The entries by which two baselines differ. Not a text diff. May call: `baseline`.

use std::collections::BTreeSet;
use std::fmt;

use crate::baseline::{Baseline, Entry};
use crate::model::{Action, Workload};

/// What a change of baselines adds and removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Workloads that become armed.
    pub armed: Vec<Workload>,
    /// Workloads that go back to learning.
    pub disarmed: Vec<Workload>,
    /// What the new baseline leaves to be learned, and the old one judged or did not list.
    pub learned: Vec<(Workload, Action)>,
    /// What the new baseline judges, or does not list, and the old one left to be learned.
    pub settled: Vec<(Workload, Action)>,
    /// Entries only in the new baseline.
    pub added: Vec<Entry>,
    /// Entries only in the old baseline.
    pub removed: Vec<Entry>,
}

impl Diff {
    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_same_workloads = self.armed.is_empty() && self.disarmed.is_empty();
        let has_same_learning = self.learned.is_empty() && self.settled.is_empty();
        has_same_workloads && has_same_learning && self.added.is_empty() && self.removed.is_empty()
    }
}

/// Compares two baselines; fleet and version are not compared.
#[must_use]
pub fn diff(old: &Baseline, new: &Baseline) -> Diff {
    let entries = |baseline: &Baseline| baseline.entries().collect::<BTreeSet<_>>();
    let (old_entries, new_entries) = (entries(old), entries(new));
    let only = |one: &Baseline, other: &Baseline| {
        one.workloads().filter(|workload| !other.is_armed(workload)).cloned().collect()
    };
    let learning = |one: &Baseline, other: &Baseline| {
        let only_one = |(workload, action): &(&Workload, Action)| !other.is_learning(workload, *action);
        one.learning().filter(only_one).map(|(workload, action)| (workload.clone(), action)).collect()
    };
    Diff {
        learned: learning(new, old),
        settled: learning(old, new),
        armed: only(new, old),
        disarmed: only(old, new),
        added: new_entries.difference(&old_entries).cloned().collect(),
        removed: old_entries.difference(&new_entries).cloned().collect(),
    }
}

impl fmt::Display for Diff {
    /// One line each: `+ workload X`, `- workload X`, `- learning X ACTION`, `+ learning X ACTION`, `- ENTRY`,
    /// `+ ENTRY`; entries in the order of the text form.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for workload in &self.disarmed {
            writeln!(formatter, "- workload {workload}")?;
        }
        for workload in &self.armed {
            writeln!(formatter, "+ workload {workload}")?;
        }
        for (workload, action) in &self.settled {
            writeln!(formatter, "- learning {workload} {action}")?;
        }
        for (workload, action) in &self.learned {
            writeln!(formatter, "+ learning {workload} {action}")?;
        }
        let removed = self.removed.iter().map(|entry| (entry, '-'));
        let mut lines: Vec<(&Entry, char)> =
            removed.chain(self.added.iter().map(|entry| (entry, '+'))).collect();
        lines.sort_unstable();
        for (entry, sign) in lines {
            writeln!(formatter, "{sign} {entry}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::diff;
    use crate::baseline::Baseline;
    use crate::testing::baseline;

    #[test]
    fn a_diff_names_what_comes_and_goes() {
        let old = baseline("{exec: [/bin/sh], write: [/a]}");
        let new = baseline("{exec: [/bin/sh], write: [/b], deny: {exec: [/x]}}");
        assert_eq!(
            diff(&old, &new).to_string(),
            "- unit:a.service /usr/bin/a allow write /a\n+ unit:a.service /usr/bin/a allow write /b\n+ unit:a.service /usr/bin/a deny exec /x\n"
        );
        assert!(diff(&old, &old).is_empty());
        let armed = diff(&Baseline::empty("web"), &old).to_string();
        assert!(armed.starts_with("+ workload unit:a.service\n"), "{armed}");
    }
}
