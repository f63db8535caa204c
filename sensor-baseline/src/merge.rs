//! What the hosts of a fleet learned, put together with host counts. Not arming it: a candidate is for a person to
//! review. May call: `baseline`, `classes`, `model`, `remembered`, `rotation`, `yaml`.
//!
//! A merge depends on nothing but which host saw what: order and grouping of the input do not matter, and a host
//! that is named twice counts once.
//!
//! What a rule fired on, on whichever host, is *withheld*: it is no evidence for anything, and stands in the candidate as
//! retired. So no template made of its neighbours allows it, it does not come back when baselines are put together, and
//! whoever reviews the candidate sees it where it would have stood.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::baseline::{Baseline, Disposition, Entry};
use crate::classes::Classes;
use crate::lifecycle::{Dimension, State};
use crate::model::{Action, Behaviour, HostId, Seen, Workload};
use crate::remembered::Remembered;
use crate::rotation;
use crate::yaml::{Notes, write};

/// How well an entry of a candidate is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Hosts that saw it.
    pub hosts: usize,
    /// Observations of all hosts together, and when.
    pub seen: Seen,
}

/// Which hosts saw a behaviour, and how often each.
type Sightings = BTreeMap<HostId, Seen>;

/// Why an entry is withheld, and on how many hosts.
#[derive(Debug, Clone, PartialEq)]
struct Withholding {
    behaviour: Behaviour,
    /// Of several rules the first by name.
    rule: Arc<str>,
    hosts: BTreeSet<HostId>,
}

/// A baseline that is proposed, with the host count of each entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    fleet: String,
    version: Option<u64>,
    host_count: usize,
    refused_count: usize,
    support: BTreeMap<Entry, Support>,
    /// By the entry that takes it back.
    withheld: BTreeMap<Entry, Withholding>,
    current: Option<Baseline>,
    unstable: BTreeSet<(Workload, Action)>,
}

/// Merges what hosts learned. A host that reports the same behaviour twice counts once, with its higher count, since
/// counts are totals. A behaviour that a baseline has no text for, which no honest agent sends, is refused and counted.
#[must_use]
pub fn merge(fleet: &str, hosts: &[(HostId, Vec<(Behaviour, Remembered)>)]) -> Candidate {
    let withheld = withheld(hosts);
    let mut held = Baseline::empty(fleet);
    for entry in withheld.keys() {
        held.insert(entry.clone());
    }
    let mut names = BTreeSet::new();
    let mut refused = BTreeSet::new();
    let mut sightings: BTreeMap<Entry, Sightings> = BTreeMap::new();
    for (host, behaviours) in hosts {
        names.insert(host);
        for (behaviour, Remembered { seen, .. }) in behaviours {
            if !behaviour.is_nameable() {
                refused.insert(behaviour);
                continue;
            }
            if held.holds(Disposition::Retired, behaviour) {
                continue;
            }
            let hosts = sightings.entry(Entry::allowing(behaviour)).or_default();
            hosts
                .entry(host.clone())
                .and_modify(|known| *known = later_total(*known, *seen))
                .or_insert(*seen);
        }
    }
    let support = settled(sightings).into_iter().filter_map(|(entry, hosts)| {
        let seen = hosts.values().copied().reduce(Seen::join)?;
        Some((entry, Support { hosts: hosts.len(), seen }))
    });
    Candidate {
        fleet: fleet.to_owned(),
        version: None,
        host_count: names.len(),
        refused_count: refused.len(),
        support: support.collect(),
        withheld,
        current: None,
        unstable: BTreeSet::new(),
    }
}

/// What a rule fired on, on any host.
fn withheld(hosts: &[(HostId, Vec<(Behaviour, Remembered)>)]) -> BTreeMap<Entry, Withholding> {
    let mut withheld: BTreeMap<Entry, Withholding> = BTreeMap::new();
    let rows = hosts.iter().flat_map(|(host, behaviours)| behaviours.iter().map(move |row| (host, row)));
    for (host, (behaviour, remembered)) in rows {
        let Some(rule) = remembered.withheld_by.as_ref().filter(|_| behaviour.is_nameable()) else {
            continue;
        };
        let entry = Entry { disposition: Disposition::Retired, ..Entry::allowing(behaviour) };
        let holding = withheld.entry(entry).or_insert_with(|| Withholding {
            behaviour: behaviour.clone(),
            rule: Arc::clone(rule),
            hosts: BTreeSet::new(),
        });
        // Two behaviours may have the same text; which one comes first makes no difference.
        holding.behaviour = holding.behaviour.clone().min(behaviour.clone());
        holding.rule = Arc::clone(rule).min(Arc::clone(&holding.rule));
        holding.hosts.insert(host.clone());
    }
    withheld
}

/// The sightings with varying ports and names put together; what one host saw of a class is added up. Whoever saw a step
/// of a rotation supports its end too.
fn settled(sightings: BTreeMap<Entry, Sightings>) -> BTreeMap<Entry, Sightings> {
    let classes = Classes::of(sightings.keys());
    let mut settled: BTreeMap<Entry, Sightings> = BTreeMap::new();
    for (entry, hosts) in sightings {
        let known = settled.entry(classes.settle(entry)).or_default();
        for (host, seen) in hosts {
            known.entry(host).and_modify(|known| *known = known.join(seen)).or_insert(seen);
        }
    }
    let implied = settled.iter().filter_map(|(step, hosts)| Some((rotation::deletion(step)?, hosts.clone())));
    for (end, hosts) in implied.collect::<Vec<_>>() {
        settled.entry(end).or_insert(hosts);
    }
    settled
}

/// Two totals of one host: the union of their times, the higher of their counts.
fn later_total(one: Seen, other: Seen) -> Seen {
    Seen { count: one.count.max(other.count), ..one.join(other) }
}

impl Candidate {
    /// The candidate as an edit of the baseline in force. What that baseline arms is taken from it alone, so that a
    /// line an operator deleted does not come back; workloads that it does not list come from the hosts.
    #[must_use]
    pub fn over(mut self, current: &Baseline) -> Self {
        self.version = current.version;
        self.current = Some(current.clone());
        self
    }

    /// The candidate without entries for what will not settle: that is left to be learned.
    #[must_use]
    pub fn without_unstable(mut self, dimensions: &[Dimension]) -> Self {
        let unstable = dimensions.iter().filter(|dimension| dimension.state == State::Unstable);
        self.unstable = unstable.map(|dimension| (dimension.workload.clone(), dimension.action)).collect();
        self
    }

    /// The baseline in force.
    pub(crate) fn current(&self) -> Option<&Baseline> {
        self.current.as_ref()
    }

    /// The baseline proposed.
    #[must_use]
    pub fn baseline(&self) -> Baseline {
        let mut baseline = self.current.clone().unwrap_or_default();
        baseline.fleet.clone_from(&self.fleet);
        baseline.version = self.version;
        for (workload, action) in &self.unstable {
            baseline.leave_learning(workload.clone(), *action);
        }
        let is_open = |entry: &&Entry| {
            let is_judged = |current: &Baseline| current.judges(&entry.workload, entry.action);
            !self.current.as_ref().is_some_and(is_judged)
        };
        let is_stable = |entry: &&Entry| !self.unstable.contains(&(entry.workload.clone(), entry.action));
        let open: Vec<&Entry> = self.support.keys().filter(is_open).filter(is_stable).collect();
        for entry in &open {
            baseline.arm(entry.workload.clone());
        }
        for (entry, Withholding { behaviour, .. }) in &self.withheld {
            // What a person allows stays so; and what rules fired on is no reason to judge a workload.
            let is_wanted = is_open(&entry)
                && baseline.is_armed(&entry.workload)
                && !baseline.holds(Disposition::Allow, behaviour);
            if is_wanted && baseline.listed(entry).is_none() {
                baseline.insert(entry.clone());
            }
        }
        for entry in open {
            // What is withheld, and what a person denied or retired, stays so.
            if baseline.listed(entry).is_none() {
                baseline.insert(entry.clone());
            }
        }
        baseline
    }

    /// What rules keep out of the candidate, with the rule of each, in the order of the text form. The entries are those
    /// that take it back.
    pub fn withheld(&self) -> impl Iterator<Item = (&Entry, &str)> {
        self.withheld.iter().map(|(entry, holding)| (entry, holding.rule.as_ref()))
    }

    /// The text of a baseline that was made of this candidate, with `# withheld: RULE` behind each entry of that kind.
    #[must_use]
    pub fn text_of(&self, baseline: &Baseline) -> String {
        write(baseline, &Withholdings(&self.withheld))
    }

    /// Every entry that hosts support, with its support, in the order of the text form.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry, Support)> {
        self.support.iter().map(|(entry, support)| (entry, *support))
    }

    /// Hosts that were merged.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.host_count
    }

    /// Behaviours that were refused because a baseline has no text for them.
    #[must_use]
    pub fn refused_count(&self) -> usize {
        self.refused_count
    }

    /// The baseline proposed, as text with `# 2 of 3 hosts` behind each entry.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        write(&self.baseline(), self)
    }
}

impl Notes for Candidate {
    fn header(&self) -> Vec<String> {
        let hosts =
            if self.host_count == 1 { "1 host".to_owned() } else { format!("{} hosts", self.host_count) };
        let mut lines = vec![format!("Candidate for fleet {}: what {hosts} learned.", self.fleet)];
        match self.current.as_ref().and_then(|current| current.version) {
            Some(version) => lines.push(format!("Workloads of version {version} stand as they are there.")),
            None => lines.push("Pushing it arms every workload below.".to_owned()),
        }
        for (workload, action) in &self.unstable {
            lines.push(format!("Will not settle, and stays to be learned: {workload} {action}."));
        }
        let withheld = self.withheld.len();
        if withheld > 0 {
            lines.push(format!(
                "Rules fired on {withheld} behaviours: they are withheld, as retired, until somebody allows them."
            ));
        }
        if self.refused_count > 0 {
            lines.push(format!("Left out: {} behaviours that have no text.", self.refused_count));
        }
        lines
    }

    fn entry(&self, entry: &Entry) -> Option<String> {
        let support = self.support.get(entry).map(|support| (String::new(), support.hosts));
        let withheld = || {
            let holding = self.withheld.get(entry)?;
            Some((format!("withheld: {}, ", holding.rule), holding.hosts.len()))
        };
        let (reason, hosts) = support.or_else(withheld)?;
        Some(format!("{reason}{hosts} of {} hosts", self.host_count))
    }
}

/// Only the rules that withhold.
struct Withholdings<'a>(&'a BTreeMap<Entry, Withholding>);

impl Notes for Withholdings<'_> {
    fn header(&self) -> Vec<String> {
        Vec::new()
    }

    fn entry(&self, entry: &Entry) -> Option<String> {
        self.0.get(entry).map(|holding| format!("withheld: {}", holding.rule))
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, merge};
    use crate::baseline::{Baseline, Disposition};
    use crate::model::{Behaviour, HostId, Seen, UnixNs};
    use crate::remembered::Remembered;
    use crate::testing::{baseline, behaviour, observations};

    type Host = (HostId, Vec<(Behaviour, Remembered)>);

    fn once(time: u64) -> Remembered {
        Remembered::learned(Seen::once(UnixNs(time)))
    }

    fn host(name: &str, objects: &[&str]) -> Host {
        let behaviours = objects.iter().map(|object| (behaviour("write", object), once(1))).collect();
        (HostId(name.to_owned()), behaviours)
    }

    #[test]
    fn entries_carry_host_counts() {
        let candidate = merge("web", &[host("a", &["/x", "/y"]), host("b", &["/x"]), host("c", &[])]);
        let text = candidate.to_yaml();
        assert!(text.contains("- /x # 2 of 3 hosts\n"), "{text}");
        assert!(text.contains("- /y # 1 of 3 hosts\n"), "{text}");
        assert_eq!(Baseline::parse(&text).unwrap(), candidate.baseline());
        assert_eq!(candidate.entries().map(|(_, support)| support.hosts).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn what_a_rule_fired_on_anywhere_is_withheld_everywhere() {
        let mut one = host("a", &["/x", "/y"]);
        one.1[1].1.withheld_by = Some("fresh-exec".into());
        let candidate = merge("web", &[one, host("b", &["/x", "/y"]), host("c", &["/y"])]);
        let text = candidate.to_yaml();
        assert!(text.starts_with("# Candidate for fleet web: what 3 hosts learned.\n"), "{text}");
        assert!(text.contains("\n# Rules fired on 1 behaviours: they are withheld"), "{text}");
        assert!(
            text.contains("retired:\n        write:\n          - /y # withheld: fresh-exec, 1 of 3 hosts\n"),
            "{text}"
        );
        assert!(text.contains("write:\n        - /x # 2 of 3 hosts\n"), "{text}");
        assert_eq!(Baseline::parse(&text).unwrap(), candidate.baseline());
        let withheld: Vec<_> =
            candidate.withheld().map(|(entry, rule)| (entry.pattern.to_string(), rule)).collect();
        assert_eq!(withheld, [("/y".to_owned(), "fresh-exec")]);
    }

    #[test]
    fn a_person_allows_what_is_withheld() {
        let mut one = host("a", &["/x", "/y"]);
        one.1[1].1.withheld_by = Some("fresh-exec".into());
        for allowed in ["/y", "/*"] {
            let mut current = baseline(&format!("write: ['{allowed}']"));
            current.leave_learning(one.1[0].0.workload.clone(), crate::Action::Write);
            let proposed = merge("web", std::slice::from_ref(&one)).over(&current).baseline();
            assert!(!proposed.holds(Disposition::Retired, &behaviour("write", "/y")), "{allowed}");
            assert!(proposed.holds(Disposition::Allow, &behaviour("write", "/y")), "{allowed}");
        }
    }

    #[test]
    fn ports_that_vary_over_hosts_become_their_class() {
        let listener = |name: &str, ports: &[u16]| {
            let one = |port| (behaviour("listen", &format!("tcp 0.0.0.0 {port}")), once(1));
            (HostId(name.to_owned()), ports.iter().copied().map(one).collect())
        };
        let text = merge("web", &[listener("a", &[40001, 40002]), listener("b", &[40003])]).to_yaml();
        assert!(text.contains("listen:\n        - tcp ephemeral # 2 of 2 hosts\n"), "{text}");
    }

    #[test]
    fn a_behaviour_without_a_text_does_not_spoil_the_candidate() {
        let mut hostile = host("a", &["/x"]);
        let odd = behaviour("write", "/y");
        hostile.1.push((Behaviour { workload: crate::Workload("evil".to_owned()), ..odd }, once(1)));
        let candidate = merge("web", &[hostile]);
        assert_eq!((candidate.refused_count(), candidate.baseline().entry_count()), (1, 1));
        assert!(candidate.to_yaml().starts_with("# Candidate for fleet web: what 1 host learned.\n"));
        assert!(candidate.to_yaml().contains("# Left out: 1 behaviours"));
        assert_eq!(Baseline::parse(&candidate.to_yaml()).unwrap(), candidate.baseline());
    }

    #[test]
    fn an_armed_workload_stays_as_its_baseline_says() {
        let current = Baseline {
            version: Some(4),
            ..baseline("{write: [/x], retired: {write: [/y]}, deny: {write: [/z]}}")
        };
        let mut other = host("a", &["/x", "/y", "/z", "/deleted-line"]);
        other.1.push((
            Behaviour { workload: crate::Workload("host".to_owned()), ..behaviour("exec", "/bin/ls") },
            once(1),
        ));
        let proposed = merge("web", &[other]).over(&current).baseline();
        assert_eq!(proposed.version, Some(4));
        assert!(!proposed.holds(Disposition::Allow, &behaviour("write", "/deleted-line")));
        assert!(!proposed.holds(Disposition::Allow, &behaviour("write", "/y")));
        assert!(proposed.holds(Disposition::Retired, &behaviour("write", "/y")));
        assert_eq!(proposed.entry_count(), 4);
        assert_eq!(proposed.workloads().count(), 2);
    }

    fn hosts() -> impl proptest::strategy::Strategy<Value = Vec<Host>> {
        use proptest::strategy::Strategy as _;
        proptest::collection::vec(("[a-c]", observations(), 1..9_u64, proptest::option::of("[x-z]")), 0..5)
            .prop_map(|hosts| {
                let seen = |count| Seen { count, first: UnixNs(count), last: UnixNs(count) };
                hosts
                    .into_iter()
                    .map(|(name, made, count, rule)| {
                        // A rule fires on what a host does at even times.
                        let remembered = |time: u64| Remembered {
                            seen: seen(count),
                            withheld_by: rule.as_deref().filter(|_| time.is_multiple_of(2)).map(Into::into),
                        };
                        let rows = made.into_iter().map(|one| (one.behaviour, remembered(one.time.0)));
                        (HostId(name), rows.collect())
                    })
                    .collect()
            })
    }

    fn merged(hosts: &[Host]) -> Candidate {
        merge("web", hosts)
    }

    proptest::proptest! {
        #[test]
        fn a_merge_does_not_depend_on_order_or_repetition(one in hosts(), other in hosts()) {
            let forward: Vec<Host> = one.iter().chain(&other).cloned().collect();
            let backward: Vec<Host> = other.iter().chain(&one).rev().cloned().collect();
            let twice: Vec<Host> = forward.iter().chain(&forward).cloned().collect();
            proptest::prop_assert_eq!(merged(&forward), merged(&backward));
            proptest::prop_assert_eq!(merged(&forward), merged(&twice));
            let text = merged(&forward).to_yaml();
            proptest::prop_assert_eq!(Baseline::parse(&text).unwrap(), merged(&forward).baseline());
            let proposed = merged(&forward).baseline();
            for (behaviour, known) in forward.iter().flat_map(|(_, rows)| rows) {
                let is_allowed = proposed.holds(Disposition::Allow, behaviour)
                    && !proposed.holds(Disposition::Retired, behaviour);
                proptest::prop_assert!(known.withheld_by.is_none() || !is_allowed);
            }
        }
    }
}
