//! `baseline silences`: what rules found in recordings of ordinary days, as silences for a person to review. Not the
//! choice of them. It may call the sibling modules and the baseline crate.

use super::super::live::Wish;
use super::super::replay::Replay;
use super::super::sigma::SigmaArguments;
use super::wanted::Wanted;
use super::{FloorArguments, write};
use crate::enrich::process_table::Scope;
use crate::finding::{Finding, Reason};
use crate::floor_files;
use crate::pipeline::Telling;
use crate::sigma::Rules;
use anyhow::{Context as _, ensure};
use sensor_baseline::{Action, FiredRule, Floor, Review, Terms};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SilencesArguments {
    /// Files that `record` made, one of each day.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// Who answers for the silences.
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Why there are any.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The day that ends them, for example 2027-01-31.
    #[arg(long, value_name = "DATE")]
    expires: String,
    /// The file to write; one that is there is replaced [default: stdout].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Propose what was found in at least so many recordings.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    recordings_min: u32,
    /// Only this workload, for example `unit:nginx.service`; may be given several times [default: all].
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    #[command(flatten)]
    floor: FloorArguments,
    #[command(flatten)]
    sigma: SigmaArguments,
}

pub(super) fn run(arguments: &SilencesArguments) -> anyhow::Result<ExitCode> {
    let terms = Terms::new(&arguments.owner, &arguments.reason, &arguments.expires)
        .context("--owner, --reason, --expires")?;
    let known = arguments.floor.load()?;
    let rules = arguments.sigma.rules(&known)?;
    let (min, count) = (arguments.recordings_min as usize, arguments.recordings.len());
    ensure!(min <= count, "--recordings-min {min}: there are {count} recordings");
    let mut review = Review::default();
    let mut text = review.to_toml(min, count, &terms);
    let mut floor = Arc::clone(&known);
    loop {
        review.extend(found(arguments, &floor, &rules)?);
        let more = review.to_toml(min, count, &terms);
        if more == text {
            break;
        }
        text = more;
        // A rule that is silenced may have stood before another.
        floor = floor_files::load_with(&arguments.floor.files, ("the silences proposed", &text))?;
    }
    for line in review.left(min) {
        say!("not proposed: {line}");
    }
    say!("{} silences proposed", review.proposed(min));
    write(arguments.output.as_deref(), &text)?;
    Ok(ExitCode::SUCCESS)
}

/// What rules find in the recordings with this floor.
fn found(arguments: &SilencesArguments, floor: &Arc<Floor>, rules: &Arc<Rules>) -> anyhow::Result<Review> {
    let (mut review, mut wanted) = (Review::default(), Wanted::new(&arguments.workload));
    for (number, recording) in arguments.recordings.iter().enumerate() {
        let wish = Wish {
            rules: Arc::clone(rules),
            telling: Telling::Always,
            ..Wish::new(Arc::clone(floor), Scope::Host)
        };
        Replay::open(recording, wish)?.run(|output| {
            let held = output.withheld.drain(..).map(|(observation, _)| observation);
            let seen = output.observations.drain(..).map(|(observation, _)| observation);
            seen.chain(held).for_each(|observation| wanted.meet(&observation.behaviour.workload));
            for finding in output.findings.drain(..) {
                if wanted.has(&finding.behaviour.workload) {
                    let arguments = match finding.behaviour.action {
                        Action::Exec => finding.process.argv.joined(),
                        _ => String::new(),
                    };
                    for rule in fired(&finding) {
                        review.add(number, floor, &rule, (&finding.behaviour, &arguments));
                    }
                }
            }
            Ok(())
        })?;
    }
    wanted.check()?;
    Ok(review)
}

/// The rules behind a finding.
fn fired(finding: &Finding) -> impl Iterator<Item = FiredRule> {
    let of_floor = match &finding.reason {
        Reason::Floor(rule) => Some(FiredRule {
            id: rule.id.clone(),
            title: rule.title.clone(),
            severity: rule.severity,
            is_hard: !rule.yields_to_allow,
        }),
        _ => None,
    };
    let of_sigma = finding.rules.iter().map(|rule| FiredRule {
        id: rule.id.to_string(),
        title: rule.title.clone(),
        severity: rule.level,
        is_hard: false,
    });
    of_floor.into_iter().chain(of_sigma)
}
