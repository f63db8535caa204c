//! How far a workload has been learned, action by action: whether a baseline of it can be armed without drowning whoever
//! reads the findings. Not the arming, which is an operator's act. No clock. May call: `merge`, `model`.
//!
//! | state | when |
//! |---|---|
//! | learning | something below is lacking |
//! | candidate | quiet, nothing new to be expected, a day covered, next to nothing lost |
//! | unstable | still not quiet after [`Criteria::settle_ns_max`], or more entries than anyone reviews |
//! | armed | the baseline in force lists the workload |
//! | drifting | armed, and [`Criteria::novel_max`] or more behaviours of the last day were novel |
//!
//! What is to be expected comes from Good and Turing, by days: the next day brings as many new behaviours as there are that
//! were seen on one day only, divided by the days observed (the estimator for incidences, Chao 1987). That is what an
//! operator would have to read. By observations it would never be small for a service that listens once at its start, and
//! always for one that writes each file a thousand times. What a service does only when it starts is seen on one day too, and
//! tells nothing of the next: the days of the second half of the time brought so many new behaviours, which is no less than the
//! next day will. The smaller of the two counts.

use std::collections::BTreeMap;
use std::fmt;

use crate::baseline::Baseline;
use crate::merge::Candidate;
use crate::model::{Action, Seen, UnixNs, Workload};

/// When something is settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Criteria {
    /// Nothing new for so long.
    pub quiet_ns: u64,
    /// So much of the calendar covered: from the first observation to the last.
    pub span_ns: u64,
    /// At most so many new behaviours expected in a day.
    pub new_per_day_max: f64,
    /// At most this part of the records lost.
    pub lost_share_max: f64,
    /// What has not settled after so long will not.
    pub settle_ns_max: u64,
    /// More entries than this will not be reviewed.
    pub entries_max: usize,
    /// So many novel behaviours in a day are drift.
    pub novel_max: u64,
}

impl Default for Criteria {
    /// An hour of quiet, a day covered, one new behaviour in ten days, one record in a thousand lost, two weeks, 2,000
    /// entries, ten novel behaviours.
    fn default() -> Self {
        Self {
            quiet_ns: HOUR_NS,
            span_ns: DAY_NS,
            new_per_day_max: 0.1,
            lost_share_max: 0.001,
            settle_ns_max: 14 * DAY_NS,
            entries_max: 2_000,
            novel_max: 10,
        }
    }
}

/// What keeps a dimension from being a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lack {
    /// Something new came so long ago, in nanoseconds.
    Quiet(u64),
    /// It has been observed for so long only, in nanoseconds.
    Calendar(u64),
    /// So many new behaviours are to be expected in a day.
    Coverage(f64),
    /// So many records that belong here were lost.
    Loss(u64),
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |ns: u64| ns as f64 / HOUR_NS as f64;
        match self {
            Self::Quiet(ns) => write!(formatter, "something new {:.1} hours ago", hours(*ns)),
            Self::Calendar(ns) => write!(formatter, "observed over {:.1} hours only", hours(*ns)),
            Self::Coverage(rate) => write!(formatter, "{rate:.1} new a day to be expected"),
            Self::Loss(count) => write!(formatter, "{count} records lost"),
        }
    }
}

/// Where a dimension is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It lacks something.
    Learning(Vec<Lack>),
    /// It can be armed.
    Candidate,
    /// It will not settle.
    Unstable,
    /// The baseline in force judges it.
    Armed,
    /// It is judged, and has become something else.
    Drifting,
}

impl State {
    /// The word for it: `learning`, `candidate`, `unstable`, `armed`, `drifting`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Learning(_) => "learning",
            Self::Candidate => "candidate",
            Self::Unstable => "unstable",
            Self::Armed => "armed",
            Self::Drifting => "drifting",
        }
    }
}

/// One workload's one action.
#[derive(Debug, Clone, PartialEq)]
pub struct Dimension {
    /// What owns the baseline.
    pub workload: Workload,
    /// What is done.
    pub action: Action,
    /// Where it is.
    pub state: State,
    /// Entries that a baseline of it has.
    pub entries: usize,
    /// Of them seen on one day only.
    pub entries_once: usize,
    /// Of them first seen in the second half of the time.
    pub entries_late: usize,
    /// Observations of all entries, and when.
    pub seen: Seen,
    /// When the newest entry was first seen.
    pub newest: UnixNs,
    /// New behaviours to be expected in a day.
    pub new_per_day: f64,
    /// Behaviours that stay out of the candidate, by the rule that fired on them.
    pub withheld: BTreeMap<String, u64>,
}

/// What else is known than what was learned.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Records lost meanwhile, by the action they would have told of.
    pub lost: BTreeMap<Action, u64>,
    /// Distinct novel behaviours of the last day.
    pub novel: BTreeMap<(Workload, Action), u64>,
}

impl Candidate {
    /// Where each dimension that hosts learned, or a baseline arms, is at `now`.
    #[must_use]
    pub fn dimensions(
        &self,
        now: UnixNs,
        criteria: &Criteria,
        circumstances: &Circumstances,
    ) -> Vec<Dimension> {
        let mut learned: BTreeMap<(&Workload, Action), Dimension> = BTreeMap::new();
        for (entry, support) in self.entries() {
            let dimension = learned
                .entry((&entry.workload, entry.action))
                .or_insert_with(|| Dimension::empty(&entry.workload, entry.action));
            dimension.add(support.seen);
        }
        for (entry, support) in self.entries() {
            if let Some(dimension) = learned.get_mut(&(&entry.workload, entry.action)) {
                dimension.add_late(support.seen);
            }
        }
        for dimension in learned.values_mut() {
            let lost = circumstances.lost.get(&dimension.action).copied().unwrap_or(0);
            dimension.judge(now, criteria, lost);
        }
        let armed = self.current().into_iter().flat_map(Baseline::workloads);
        for (workload, action) in armed.flat_map(|workload| Action::ALL.map(|action| (workload, action))) {
            if self.current().is_some_and(|current| current.is_learning(workload, action)) {
                continue;
            }
            let novel = circumstances.novel.get(&(workload.clone(), action)).copied().unwrap_or(0);
            let dimension =
                learned.entry((workload, action)).or_insert_with(|| Dimension::empty(workload, action));
            dimension.state = if novel >= criteria.novel_max { State::Drifting } else { State::Armed };
        }
        for (entry, rule) in self.withheld() {
            let dimension = learned
                .entry((&entry.workload, entry.action))
                .or_insert_with(|| Dimension::empty(&entry.workload, entry.action));
            *dimension.withheld.entry(rule.to_owned()).or_default() += 1;
        }
        learned.into_values().collect()
    }
}

impl Dimension {
    fn empty(workload: &Workload, action: Action) -> Self {
        Self {
            workload: workload.clone(),
            action,
            state: State::Learning(Vec::new()),
            entries: 0,
            entries_once: 0,
            entries_late: 0,
            seen: Seen { count: 0, first: UnixNs(u64::MAX), last: UnixNs(0) },
            newest: UnixNs(0),
            new_per_day: 0.0,
            withheld: BTreeMap::new(),
        }
    }

    fn add(&mut self, seen: Seen) {
        self.entries += 1;
        self.entries_once += usize::from(seen.last.0.saturating_sub(seen.first.0) < DAY_NS);
        self.seen = self.seen.join(seen);
        self.newest = self.newest.max(seen.first);
    }

    /// Counts an entry by when it came, when all entries are known.
    fn add_late(&mut self, seen: Seen) {
        let middle = self.seen.first.0 / 2 + self.seen.last.0 / 2;
        self.entries_late += usize::from(seen.first.0 > middle);
    }

    fn judge(&mut self, now: UnixNs, criteria: &Criteria, lost: u64) {
        let span = self.seen.last.0.saturating_sub(self.seen.first.0);
        // Less than the span that is asked for says nothing about a day.
        let days = span.max(criteria.span_ns) as f64 / DAY_NS as f64;
        self.new_per_day = expected(self.entries_once, self.entries_late, days);
        let quiet = now.0.saturating_sub(self.newest.0);
        let lost_share = lost as f64 / lost.saturating_add(self.seen.count).max(1) as f64;
        let lacks = [
            (quiet < criteria.quiet_ns).then_some(Lack::Quiet(quiet)),
            (span < criteria.span_ns).then_some(Lack::Calendar(span)),
            (self.new_per_day > criteria.new_per_day_max).then_some(Lack::Coverage(self.new_per_day)),
            (lost_share > criteria.lost_share_max).then_some(Lack::Loss(lost)),
        ];
        let lacks: Vec<Lack> = lacks.into_iter().flatten().collect();
        let is_restless = lacks.iter().any(|lack| matches!(lack, Lack::Quiet(_) | Lack::Coverage(_)));
        let is_old = now.0.saturating_sub(self.seen.first.0) >= criteria.settle_ns_max;
        self.state = match lacks.is_empty() {
            _ if self.entries > criteria.entries_max => State::Unstable,
            false if is_restless && is_old => State::Unstable,
            false => State::Learning(lacks),
            true => State::Candidate,
        };
    }
}

/// New behaviours to be expected in another sample, of samples in which so many were seen once, and so many first in their
/// second half.
#[must_use]
pub fn expected(once: usize, late: usize, samples: f64) -> f64 {
    let (once, late) = (once as f64 / samples, late as f64 * 2.0 / samples);
    once.min(late)
}

const HOUR_NS: u64 = 3_600_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;

#[cfg(test)]
mod tests {
    use super::{Circumstances, Criteria, DAY_NS, Dimension, HOUR_NS, Lack, State};
    use crate::baseline::Baseline;
    use crate::floor::Floor;
    use crate::judge::Verdict;
    use crate::merge::merge;
    use crate::model::{Action, HostId, Seen, Traits, UnixNs, Workload};
    use crate::remembered::Remembered;
    use crate::testing::{baseline, behaviour, observation};
    use std::collections::BTreeMap;

    fn seen(count: u64, first: u64, last: u64) -> Seen {
        Seen { count, first: UnixNs(first), last: UnixNs(last) }
    }

    /// The one dimension of writes with these sightings.
    fn writes(sightings: &[Seen], now: u64, lost: u64) -> Dimension {
        let made = sightings.iter().enumerate().map(|(at, seen)| {
            let name: String = at.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            (behaviour("write", &format!("/{name}")), Remembered::learned(*seen))
        });
        let candidate = merge("web", &[(HostId("a".to_owned()), made.collect())]);
        let circumstances =
            Circumstances { lost: BTreeMap::from([(Action::Write, lost)]), ..Circumstances::default() };
        let mut all = candidate.dimensions(UnixNs(now), &Criteria::default(), &circumstances);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn check(sightings: &[Seen], now: u64, lost: u64, expected: &State) {
        assert_eq!(writes(sightings, now, lost).state, *expected);
    }

    #[test]
    fn what_was_seen_often_for_a_day_and_is_quiet_is_a_candidate() {
        let settled = [seen(9, 0, DAY_NS), seen(2, 0, DAY_NS)];
        check(&settled, DAY_NS, 0, &State::Candidate);
        check(&settled, DAY_NS, 1, &State::Learning(vec![Lack::Loss(1)]));
        check(&[seen(2_000, 0, DAY_NS)], DAY_NS, 1, &State::Candidate);
        check(&[seen(9, 0, HOUR_NS)], HOUR_NS, 0, &State::Learning(vec![Lack::Calendar(HOUR_NS)]));
        let newcomer = [seen(9, 0, DAY_NS), seen(2, DAY_NS - 5, DAY_NS)];
        check(&newcomer, DAY_NS, 0, &State::Learning(vec![Lack::Quiet(5), Lack::Coverage(1.0)]));
    }

    #[test]
    fn counts_of_a_hostile_host_do_not_overflow() {
        check(&[seen(u64::MAX, 0, DAY_NS)], DAY_NS, u64::MAX, &State::Learning(vec![Lack::Loss(u64::MAX)]));
    }

    #[test]
    fn what_was_seen_on_one_day_tells_of_what_was_not_seen() {
        let late = DAY_NS - HOUR_NS;
        let once = [seen(99, 0, DAY_NS), seen(1, late, late)];
        check(&once, DAY_NS, 0, &State::Learning(vec![Lack::Coverage(1.0)]));
        // A service that listens once in ten days is settled after them.
        let ten_days = [seen(99, 0, 10 * DAY_NS), seen(1, 1, 1)];
        check(&ten_days, 10 * DAY_NS, 0, &State::Candidate);
        // And one that does something at its start only, at once.
        check(&[seen(99, 0, DAY_NS), seen(1, 1, 1), seen(1, 2, 2)], DAY_NS, 0, &State::Candidate);
        let twice = [seen(99, 0, 10 * DAY_NS), seen(1, 9 * DAY_NS, 9 * DAY_NS), seen(1, 1, 1)];
        let expected = writes(&twice, 10 * DAY_NS, 0).new_per_day;
        assert!(
            (expected - 0.2).abs() < 1e-9,
            "{expected}: two on one day only, one of them late, in ten days"
        );
    }

    #[test]
    fn what_does_not_settle_is_unstable() {
        let restless: Vec<Seen> = (0..30).map(|day| seen(1, day * DAY_NS, day * DAY_NS)).collect();
        check(&restless, 30 * DAY_NS, 0, &State::Unstable);
        assert!(matches!(writes(&restless[..10], 10 * DAY_NS, 0).state, State::Learning(_)));
        let crowd = vec![seen(9, 0, DAY_NS); 2_001];
        check(&crowd, 2 * DAY_NS, 0, &State::Unstable);
        // Losing records is no property of the workload.
        check(&[seen(9, 0, 20 * DAY_NS)], 20 * DAY_NS, 5, &State::Learning(vec![Lack::Loss(5)]));
    }

    #[test]
    fn what_will_not_settle_is_left_to_be_learned() {
        let restless = (0..30).map(|day| {
            let name: String = day.to_string().bytes().map(|digit| char::from(digit + 49)).collect();
            (
                behaviour("write", &format!("/{name}")),
                Remembered::learned(seen(1, day * DAY_NS, day * DAY_NS)),
            )
        });
        let settled = (behaviour("exec", "/bin/a"), Remembered::learned(seen(99, 0, 30 * DAY_NS)));
        let hosts = [(HostId("a".to_owned()), restless.chain([settled]).collect())];
        let candidate = merge("web", &hosts);
        let now = UnixNs(30 * DAY_NS);
        let dimensions = candidate.dimensions(now, &Criteria::default(), &Circumstances::default());
        let states: Vec<&State> = dimensions.iter().map(|dimension| &dimension.state).collect();
        assert_eq!(states, [&State::Candidate, &State::Unstable]);
        let proposed = candidate.without_unstable(&dimensions).baseline();
        let judge = |action: &str, object: &str| {
            proposed.judge(&observation(behaviour(action, object), Traits::default()), Floor::built_in())
        };
        assert_eq!(judge("exec", "/bin/b"), Verdict::Novel);
        assert_eq!(judge("write", "/anything"), Verdict::Learning);
        assert_eq!(Baseline::parse(&proposed.to_yaml()).unwrap(), proposed);

        // Once it is in force, that action goes on as it was, and what hosts learn of it comes into the candidate.
        let later = merge("web", &hosts).over(&proposed);
        let dimensions = later.dimensions(now, &Criteria::default(), &Circumstances::default());
        let of = |action: Action| {
            let found = dimensions.iter().find(|dimension| dimension.action == action);
            found.map(|dimension| dimension.state.name())
        };
        assert_eq!((of(Action::Exec), of(Action::Write)), (Some("armed"), Some("unstable")));
        assert_eq!(later.baseline().entry_count(), 31);
    }

    #[test]
    fn an_armed_workload_is_armed_in_every_dimension_and_drifts_in_one() {
        let candidate = merge("web", &[]).over(&baseline("write: [/x]"));
        let workload = Workload("unit:a.service".to_owned());
        let novel = BTreeMap::from([((workload.clone(), Action::Exec), 10), ((workload, Action::Write), 9)]);
        let circumstances = Circumstances { novel, ..Circumstances::default() };
        let states: Vec<(Action, State)> = candidate
            .dimensions(UnixNs(0), &Criteria::default(), &circumstances)
            .into_iter()
            .map(|dimension| (dimension.action, dimension.state))
            .collect();
        assert_eq!(states.len(), Action::ALL.len());
        for (action, state) in states {
            let expected = if action == Action::Exec { State::Drifting } else { State::Armed };
            assert_eq!(state, expected, "{action}");
        }
    }
}
