//! The ordinary days: recorded, learned from, judged. Not what happens on them. It may use the agent and a room.

use super::containers::Containers;
use super::day::{Host, Work};
use super::room::{Room, Site, room_of};
use super::sensor::{Finding, Judged, Learned, Proposal, Sensor};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The room of the host that days pass on.
pub(super) const HOST_ROOM: u32 = 1;

/// Days that rules have to fire on, before what they found is proposed to be silenced.
const REVIEWED_MIN: usize = 2;

/// What days pass on.
pub(super) struct Machine<'a> {
    pub(super) site: &'a Site,
    pub(super) works: &'a [Work],
    /// Where containers are among the works.
    pub(super) containers: Option<&'a Containers>,
}

/// How many days, and what they come from.
pub(super) struct Schedule {
    pub(super) learn: u64,
    pub(super) judge: u64,
    pub(super) seed: u64,
    /// New behaviours to be expected in a day, above which an action is not armed.
    pub(super) new_max: f64,
}

/// What the days showed.
pub(super) struct Benign {
    /// Names of the parts of a day, with what they are.
    pub(super) works: Vec<Work>,
    pub(super) workloads: Vec<String>,
    pub(super) learn_days: Vec<PathBuf>,
    /// Learned from all of them.
    pub(super) baseline: PathBuf,
    pub(super) learned: Vec<Learned>,
    /// By the number of days learned from: the false findings of each judged day.
    pub(super) curve: Vec<(usize, Vec<Vec<Finding>>)>,
    /// The same with what is proposed to silence of those days, where there are two at least.
    pub(super) reviewed: Vec<(usize, Vec<Vec<Finding>>)>,
    /// What is proposed to silence of all learned days.
    pub(super) proposal: Option<Proposal>,
    /// Findings of the planned change, without the silences.
    pub(super) change: Vec<Finding>,
    /// With them.
    pub(super) change_reviewed: Vec<Finding>,
    /// Records that were lost while the days were recorded.
    pub(super) lost: u64,
    /// What judging the judged days by the whole baseline took, and judging the learned days by it, of which only what floor
    /// rules hold is a finding.
    pub(super) noisy: Spent,
    pub(super) quiet: Spent,
}

/// Observations, findings of the whole host among them, and the time that judging took.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) observations: u64,
    pub(super) findings: usize,
    pub(super) milliseconds: f64,
}

impl Spent {
    fn add(&mut self, judged: &Judged) {
        self.observations += judged.observations;
        self.findings += judged.findings.len();
        self.milliseconds += judged.milliseconds;
    }
}

/// Lets days pass and judges the later ones by what was learned of the earlier ones.
pub(super) fn measure(
    machine: &Machine<'_>,
    sensor: &Sensor,
    schedule: &Schedule,
    folder: &Path,
) -> Result<Benign> {
    let workloads: Vec<String> =
        machine.works.iter().flat_map(|work| work.workloads).map(|name| (*name).to_owned()).collect();
    let Recordings { learn: learn_days, judge: judge_days, change, lost } =
        record(machine, sensor, schedule, folder)?;
    let days: Vec<&Path> = learn_days.iter().map(PathBuf::as_path).collect();
    let (mut curve, mut reviewed) = (Vec::new(), Vec::new());
    let (mut learned, mut baseline, mut proposal) = (Vec::new(), PathBuf::new(), None);
    let mut noisy = Spent::default();
    for count in steps(days.len()) {
        baseline = folder.join(format!("baseline-{count}.yaml"));
        learned = sensor.learn(&days[..count], &workloads, Some(schedule.new_max), &baseline)?;
        let of_days;
        (of_days, noisy) = judge_all(sensor, &judge_days, &baseline, &workloads)?;
        println!("evaluate: {count} days learned: {} on {} days", told(&of_days), judge_days.len());
        curve.push((count, of_days));
        if count >= REVIEWED_MIN {
            let path = folder.join(format!("silences-{count}.toml"));
            let proposed = sensor.propose(&days[..count], &workloads, path)?;
            let silent = sensor.with_silences(&proposed.path);
            let (of_days, _) = judge_all(&silent, &judge_days, &baseline, &workloads)?;
            println!("evaluate: with {} silences: {}", proposed.silences, told(&of_days));
            reviewed.push((count, of_days));
            proposal = Some(proposed);
        }
    }
    let mut quiet = Spent::default();
    for day in &learn_days {
        quiet.add(&sensor.judge(day, &baseline)?);
    }
    let silent = proposal.as_ref().map_or_else(|| sensor.clone(), |one| sensor.with_silences(&one.path));
    let of_change = |sensor: &Sensor| -> Result<Vec<Finding>> {
        Ok(distinct(sensor.judge(&change, &baseline)?.findings, &workloads))
    };
    let (change, change_reviewed) = (of_change(sensor)?, of_change(&silent)?);
    Ok(Benign {
        works: machine.works.to_vec(),
        workloads,
        learn_days,
        baseline,
        learned,
        curve,
        reviewed,
        proposal,
        change,
        change_reviewed,
        lost,
        noisy,
        quiet,
    })
}

/// Judges each day: its false findings, and what that took.
fn judge_all(
    sensor: &Sensor,
    days: &[PathBuf],
    baseline: &Path,
    workloads: &[String],
) -> Result<(Vec<Vec<Finding>>, Spent)> {
    let (mut of_days, mut spent) = (Vec::new(), Spent::default());
    for day in days {
        let judged = sensor.judge(day, baseline)?;
        spent.add(&judged);
        of_days.push(distinct(judged.findings, workloads));
    }
    Ok((of_days, spent))
}

fn told(of_days: &[Vec<Finding>]) -> String {
    format!("{} false findings", of_days.iter().map(Vec::len).sum::<usize>())
}

/// Numbers of days to learn from: each twice the one before, and all.
fn steps(all: usize) -> Vec<usize> {
    let mut steps: Vec<usize> =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < all).collect();
    steps.push(all);
    steps
}

struct Recordings {
    learn: Vec<PathBuf>,
    judge: Vec<PathBuf>,
    change: PathBuf,
    lost: u64,
}

/// A recording of each day to learn from, of each to judge, and of the planned change.
fn record(machine: &Machine<'_>, sensor: &Sensor, schedule: &Schedule, folder: &Path) -> Result<Recordings> {
    let containerd = machine.containers.map(Containers::state);
    let (mut recordings, mut lost) = (Vec::new(), 0);
    let mut host = None;
    for number in 0..schedule.learn + schedule.judge {
        println!("evaluate: day {} of {}", number + 1, schedule.learn + schedule.judge);
        let recorder = sensor.record(&folder.join(format!("day-{number}.rec")), containerd.as_deref())?;
        let host = match &host {
            Some(host) => host,
            None => host.insert(Host::boot(Room::open(machine.site, HOST_ROOM)?, machine)?),
        };
        host.pass(number, schedule.seed).with_context(|| format!("day {}", number + 1))?;
        let recorded = recorder.stop()?;
        lost += recorded.lost;
        recordings.push(recorded.path);
    }
    let host = host.context("no day has passed")?;
    let recorder = sensor.record(&folder.join("change.rec"), containerd.as_deref())?;
    host.change(schedule.seed).context("the planned change")?;
    let change = recorder.stop()?;
    let learn = usize::try_from(schedule.learn).context("too many days")?;
    let judge = recordings.split_off(learn);
    Ok(Recordings { learn: recordings, judge, change: change.path, lost: lost + change.lost })
}

/// The findings of these workloads in rooms, each behaviour once.
fn distinct(findings: Vec<Finding>, workloads: &[String]) -> Vec<Finding> {
    let own = findings
        .into_iter()
        .filter(|finding| room_of(&finding.cgroup).is_some() && workloads.contains(&finding.workload));
    let first: BTreeMap<_, Finding> = own.map(|finding| (finding.key(), finding)).collect();
    first.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::{distinct, steps};
    use crate::evaluate::sensor::Finding;

    #[test]
    fn days_are_doubled_up_to_all() {
        assert_eq!(steps(14), [1, 2, 4, 8, 14]);
        assert_eq!(steps(1), [1]);
    }

    #[test]
    fn a_behaviour_counts_once_and_the_host_not_at_all() {
        let finding = |room: &str, object: &str| Finding {
            workload: "unit:a.service".to_owned(),
            object: object.to_owned(),
            cgroup: format!("/system.slice/{room}/a.service"),
            ..Finding::default()
        };
        let findings =
            vec![finding("room-1.slice", "x"), finding("room-1.slice", "x"), finding("b.slice", "y")];
        assert_eq!(distinct(findings.clone(), &["unit:a.service".to_owned()]).len(), 1);
        assert!(distinct(findings, &["unit:b.service".to_owned()]).is_empty());
    }
}
