//! `baseline learn`: a baseline from recordings, one after the other. Not the learning. It may call the sibling modules and
//! the baseline crate.

use super::super::learn::print_withheld;
use super::super::live::Wish;
use super::super::replay::Replay;
use super::super::sigma::SigmaArguments;
use super::wanted::Wanted;
use super::{FloorArguments, check_text, write};
use crate::enrich::process_table::Scope;
use sensor_baseline::{
    Action, Baseline, Behaviour, Candidate, HostId, Learned, Learner, LearnerLimits, Remembered, Seen,
    Verdict, Workload, expected, merge,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LearnArguments {
    /// Files that `record` made.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// The file to write; one that is there is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Name of the fleet that the baseline is for.
    #[arg(long, value_name = "NAME", default_value = "local")]
    fleet: String,
    /// Only this workload, for example `unit:nginx.service`; may be given several times [default: all].
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Leave actions of a workload to be learned when more than so many new behaviours are to be expected in another
    /// recording: by what was in one of these only, or what the second half of them brought. All of them when there is one
    /// recording [default: arm everything].
    #[arg(long, value_name = "N", value_parser = new_max)]
    new_max: Option<f64>,
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
}

pub(super) fn run(arguments: &LearnArguments) -> anyhow::Result<ExitCode> {
    let floor = arguments.floor.load()?;
    let rules = arguments.sigma.rules(&floor)?;
    let mut samples = Vec::new();
    let (mut held, mut refused) = (0_u64, 0_u64);
    let mut wanted = Wanted::new(&arguments.workload);
    for recording in &arguments.recordings {
        let mut learner = Learner::new(LearnerLimits::default()).with_floor(Arc::clone(&floor));
        let wish = Wish { rules: Arc::clone(&rules), ..Wish::new(Arc::clone(&floor), Scope::Host) };
        Replay::open(recording, wish)?.run(|output| {
            for (observation, verdict) in output.observations.drain(..) {
                if !wanted.has(&observation.behaviour.workload) {
                    continue;
                }
                match (learner.observe(&observation), verdict) {
                    (_, Verdict::Floor(_)) => held += 1,
                    (Learned::Refused(_), _) => refused += 1,
                    (Learned::New | Learned::Known, _) => {}
                }
            }
            for (observation, rule) in output.withheld.drain(..) {
                if wanted.has(&observation.behaviour.workload) {
                    learner.withhold(&observation, &rule);
                }
            }
            Ok(())
        })?;
        let remembered = learner.remembered().map(|(behaviour, known)| (behaviour.clone(), known));
        samples.push((HostId(format!("{:06}", samples.len())), remembered.collect()));
    }
    wanted.check()?;
    let merged = merge(&arguments.fleet, &samples);
    let (baseline, left) = settled(&merged, &samples, arguments.new_max);
    check_text(&baseline)?;
    write(Some(&arguments.output), &merged.text_of(&baseline))?;
    let remembered = samples.iter().flat_map(|(_, behaviours)| behaviours);
    let learned = remembered.filter(|(_, remembered)| remembered.withheld_by.is_none());
    let all = sizes(learned.map(|(behaviour, _)| behaviour));
    for (workload, size) in &all {
        say!("learned {workload}: {} behaviours, {} bytes of memory", size.behaviours, size.bytes);
    }
    for (workload, action) in left {
        say!("left to be learned: {workload} {action}");
    }
    let count: u64 = all.values().map(|size| size.behaviours).sum();
    say!("learned {count} behaviours into {}", arguments.output.display());
    say!("not learned: {held} observations that floor rules hold, {refused} others");
    print_withheld(&merged, &arguments.output);
    Ok(ExitCode::SUCCESS)
}

fn new_max(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or("expected a number of at least 0")
}

/// What was learned of one recording.
type Sample = (HostId, Vec<(Behaviour, Remembered)>);

/// The baseline of all samples. Actions of which more than `new_max` new behaviours are to be expected in the next one are
/// left to be learned.
fn settled(
    merged: &Candidate,
    samples: &[Sample],
    new_max: Option<f64>,
) -> (Baseline, Vec<(Workload, Action)>) {
    let mut baseline = merged.baseline();
    // What the first half of the samples has already; one alone is all first half.
    let early = merge("", &samples[..samples.len().div_ceil(2)]).baseline();
    let mut counts: BTreeMap<(Workload, Action), (usize, usize)> = BTreeMap::new();
    for (entry, support) in merged.entries() {
        let (once, late) = counts.entry((entry.workload.clone(), entry.action)).or_default();
        *once += usize::from(support.hosts == 1);
        *late += usize::from(early.listed(entry).is_none());
    }
    let is_restless = |(once, late): (usize, usize)| {
        new_max.is_some_and(|max| samples.len() < 2 || expected(once, late, samples.len() as f64) > max)
    };
    let left: Vec<_> = counts
        .into_iter()
        .filter(|(_, counts)| is_restless(*counts))
        .map(|(dimension, _)| dimension)
        .collect();
    for (workload, action) in &left {
        baseline.leave_learning(workload.clone(), *action);
    }
    (baseline, left)
}

/// What one workload's learned state takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Size {
    behaviours: u64,
    /// Of the behaviours and their texts, without what maps and allocations add.
    bytes: usize,
}

fn sizes<'a>(behaviours: impl Iterator<Item = &'a Behaviour>) -> BTreeMap<&'a str, Size> {
    let mut sizes: BTreeMap<&str, Size> = BTreeMap::new();
    for behaviour in behaviours.collect::<BTreeSet<_>>() {
        let size = sizes.entry(&behaviour.workload.0).or_default();
        size.behaviours += 1;
        let texts =
            behaviour.workload.0.len() + behaviour.subject.0.len() + behaviour.object.to_string().len();
        size.bytes += size_of::<Behaviour>() + size_of::<Seen>() + texts;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::{Sample, Size, new_max, settled, sizes};
    use sensor_baseline::{
        Action, Behaviour, HostId, Learner, LearnerLimits, Object, Observation, Remembered, Seen, Subject,
        Traits, UnixNs, Workload, merge,
    };

    #[test]
    fn each_workload_is_counted_with_its_texts() {
        let mut learner = Learner::new(LearnerLimits::default());
        for (workload, object) in [("unit:a", "/x"), ("unit:a", "/yy"), ("unit:a", "/x"), ("host", "/x")] {
            learner.observe(&Observation {
                behaviour: Behaviour {
                    workload: Workload(workload.to_owned()),
                    subject: Subject("/s".to_owned()),
                    action: Action::Exec,
                    object: Object::path(object),
                },
                traits: Traits::default(),
                time: UnixNs(1),
            });
        }
        let fixed = size_of::<Behaviour>() + size_of::<Seen>();
        let expected = [
            ("host", Size { behaviours: 1, bytes: fixed + "host/s/x".len() }),
            ("unit:a", Size { behaviours: 2, bytes: 2 * fixed + "unit:a/s/xunit:a/s/yy".len() }),
        ];
        assert!(sizes(learner.behaviours().map(|(behaviour, _)| behaviour)).into_iter().eq(expected));
    }

    #[test]
    fn a_bound_is_a_number_of_at_least_zero() {
        assert_eq!((new_max("0"), new_max("0.4")), (Ok(0.0), Ok(0.4)));
        for wrong in ["nan", "-1", "-0.1", "inf", "x", ""] {
            assert!(new_max(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_goes_on_changing_is_left_to_be_learned() {
        let sample = |name: &str, object: &str| {
            let of = |action, object: &str| Behaviour {
                workload: Workload("unit:a".to_owned()),
                subject: Subject("/s".to_owned()),
                action,
                object: Object::path(object),
            };
            let seen = Remembered::learned(Seen::once(UnixNs(1)));
            let rows = vec![(of(Action::Exec, "/x"), seen.clone()), (of(Action::Write, object), seen)];
            (HostId(name.to_owned()), rows)
        };
        let samples = [sample("1", "/a"), sample("2", "/a"), sample("3", "/b")];
        let settled = |samples: &[Sample], max: Option<f64>| settled(&merge("local", samples), samples, max);
        let left = |max: Option<f64>| settled(&samples, max).1;
        assert_eq!(left(None), []);
        assert_eq!(left(Some(0.4)), [], "one of three");
        assert_eq!(settled(&samples[..2], Some(0.3)).1, [], "nothing new in the second half");
        assert_eq!(settled(&samples[..1], Some(9.0)).1.len(), 2, "one tells of no other");
        assert_eq!(left(Some(0.3)), [(Workload("unit:a".to_owned()), Action::Write)]);
        let (baseline, _) = settled(&samples, Some(0.3));
        assert!(baseline.is_learning(&Workload("unit:a".to_owned()), Action::Write));
        assert!(!baseline.is_learning(&Workload("unit:a".to_owned()), Action::Exec));
    }
}
