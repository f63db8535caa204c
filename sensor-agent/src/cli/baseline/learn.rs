//! `baseline learn`: a baseline from recordings, one after the other. Not the learning. It may call the sibling modules and
//! the baseline crate.

use super::super::live::Wish;
use super::super::replay::Replay;
use super::super::sigma::SigmaArguments;
use super::{FloorArguments, check_text, write};
use crate::enrich::process_table::Scope;
use sensor_baseline::{Behaviour, Learned, Learner, LearnerLimits, Seen, Verdict};
use std::collections::BTreeMap;
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
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
}

pub(super) fn run(arguments: &LearnArguments) -> anyhow::Result<ExitCode> {
    let floor = arguments.floor.load()?;
    let mut learner = Learner::new(LearnerLimits::default()).with_floor(Arc::clone(&floor));
    let (mut held, mut refused) = (0_u64, 0_u64);
    for recording in &arguments.recordings {
        let wish = Wish { rules: arguments.sigma.rules()?, ..Wish::new(Arc::clone(&floor), Scope::Host) };
        Replay::open(recording, wish)?.run(|output| {
            for (observation, verdict) in output.observations.drain(..) {
                let name = &observation.behaviour.workload.0;
                if !arguments.workload.is_empty() && !arguments.workload.contains(name) {
                    continue;
                }
                if matches!(verdict, Verdict::Floor(_)) {
                    held += 1;
                } else if let Learned::Refused(_) = learner.observe(&observation) {
                    refused += 1;
                }
            }
            Ok(())
        })?;
    }
    let baseline = learner.to_baseline(&arguments.fleet);
    check_text(&baseline)?;
    write(Some(&arguments.output), &baseline)?;
    for (workload, size) in sizes(&learner) {
        say!("learned {workload}: {} behaviours, {} bytes of memory", size.behaviours, size.bytes);
    }
    say!("learned {} behaviours into {}", learner.len(), arguments.output.display());
    say!("not learned: {held} observations that floor rules hold, {refused} others");
    Ok(ExitCode::SUCCESS)
}

/// What one workload's learned state takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Size {
    behaviours: u64,
    /// Of the behaviours and their texts, without what maps and allocations add.
    bytes: usize,
}

fn sizes(learner: &Learner) -> BTreeMap<&str, Size> {
    let mut sizes: BTreeMap<&str, Size> = BTreeMap::new();
    for (behaviour, _) in learner.behaviours() {
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
    use super::{Size, sizes};
    use sensor_baseline::{
        Action, Behaviour, Learner, LearnerLimits, Object, Observation, Seen, Subject, Traits, UnixNs,
        Workload,
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
        assert!(sizes(&learner).into_iter().eq(expected));
    }
}
