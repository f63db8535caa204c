//! `cargo xtask evaluate`: how much of a corpus of attacks the product finds, and how often it is wrong on ordinary days.
//! Measured with the built agent on the live kernel, in throwaway rooms. Not a test: it tells numbers and asserts only that
//! they were measured. It may run apt and mmdebstrap, make namespaces and control groups, and write `docs/evaluation.md`.

mod attack;
mod attribution;
mod benign;
mod containers;
mod corpus;
mod day;
mod events;
mod interval;
mod report;
mod room;
mod root;
mod sensor;

use anyhow::{Context, Result, ensure};
use attack::{Run, Setting};
use benign::Benign;
use containers::Containers;
use corpus::{Attack, Shell};
use room::Site;
use sensor::{Judged, Sensor};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Of a corpus, `--quick` runs every so many-th attack.
const QUICK_STEP: usize = 12;
/// Rooms of attacks are numbered from here; the host that days pass on has a lower number.
const FIRST_ROOM: u32 = 100;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The corpus of attacks, tab-separated [default: shared/attacks/atomics-dev.tsv beside the repository].
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Only these parts of a day: web, nginx, postgresql, cron, login, build, ci, packages, python, containers [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    workloads: Vec<String>,
    /// What the days' names, counts, order, sizes and contents come from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Sigma rules beside the baseline [default: shared/sigma/rules beside the repository, where it is].
    #[arg(long, value_name = "DIR")]
    sigma: Option<PathBuf>,
    /// Actions of a workload are armed when at most so many new behaviours are to be expected in a day.
    #[arg(long, value_name = "N", default_value_t = 0.1)]
    new_max: f64,
    /// Days to learn from.
    #[arg(long, value_name = "N", default_value_t = 14)]
    learn: u64,
    /// Unseen days to judge.
    #[arg(long, value_name = "N", default_value_t = 5)]
    judge: u64,
    /// One day each, and a twelfth of the attacks.
    #[arg(long)]
    quick: bool,
    /// The report to write [default: docs/evaluation.md].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep recordings and baselines in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Everything that was measured.
struct Measured {
    attacks: Vec<Attack>,
    /// Why there are no attacks.
    skipped: Option<String>,
    /// Why there are no containers though they were asked for.
    no_containers: Option<String>,
    benign: Benign,
    attacked: Option<Attacked>,
    /// Whether Sigma rules ran beside the baseline.
    has_rules: bool,
    seconds: f64,
}

/// The attacks, and what was found of them.
struct Attacked {
    runs: Vec<Run>,
    judged: Judged,
    /// With the silences of the review, where there are any.
    reviewed: Option<Judged>,
    /// Records that were lost while they ran.
    lost: u64,
    /// By floor rules alone: what is reported while learning.
    by_floor: Judged,
    /// By a baseline that was learned with all these attacks in it.
    by_poisoned: Judged,
}

/// Measures and writes the report.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the evaluation loads kernel programs and makes rooms: run it as root"
    );
    let mut works = day::works(&arguments.workloads)?;
    if let Some(reason) = Sensor::why_not()? {
        println!("skipped: {reason}");
        return Ok(());
    }
    let begun = Instant::now();
    let (corpus, skipped) = corpus(arguments)?;
    if let Some(reason) = &skipped {
        println!("skipped: the attacks: {reason}");
    }
    let sensor = Sensor::build(sigma(arguments)?)?;
    let site = Site::prepare(root::prepare(&corpus)?)?;
    let step = if arguments.quick { QUICK_STEP } else { 1 };
    let controls = Shell::ALL.map(Attack::control).into_iter();
    let attacks: Vec<Attack> = controls.chain(corpus.into_iter().step_by(step)).collect();
    let folder = arguments.keep.clone().unwrap_or_else(|| site.scratch().join("measured"));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let (learn, judge) = if arguments.quick { (1, 1) } else { (arguments.learn, arguments.judge) };
    ensure!(learn > 0 && judge > 0, "--learn {learn} --judge {judge}: there must be a day of each");
    let schedule = benign::Schedule { learn, judge, seed: arguments.seed, new_max: arguments.new_max };
    let containers = works.iter().any(|work| work.name == day::CONTAINERS).then(|| {
        let containers = Containers::start(site.slice_of(benign::HOST_ROOM));
        containers.map_err(|error| format!("skipped: {error:#}"))
    });
    if let Some(Err(reason)) = &containers {
        println!("{reason}");
        works.retain(|work| work.name != day::CONTAINERS);
    }
    let (containers, no_containers) = match containers.transpose() {
        Ok(containers) => (containers, None),
        Err(reason) => (None, Some(reason)),
    };
    let host = benign::Machine { site: &site, works: &works, containers: containers.as_ref() };
    let benign = benign::measure(&host, &sensor, &schedule, &folder)?;
    let attacked = if skipped.is_some() {
        None
    } else {
        Some(attack_all(&site, &sensor, &attacks, &benign, arguments.new_max, &folder)?)
    };
    let (has_rules, seconds) = (sensor.has_rules(), begun.elapsed().as_secs_f64());
    let measured = Measured { attacks, skipped, no_containers, benign, attacked, has_rules, seconds };
    let text = report::document(&measured, &report::Conditions::ask(&sensor, &schedule)?);
    let output =
        arguments.output.clone().unwrap_or_else(|| crate::workspace_root().join("docs/evaluation.md"));
    fs::write(&output, &text).with_context(|| format!("writing {}", output.display()))?;
    println!("{}", report::summary(&measured));
    println!("evaluate: wrote {}", output.display());
    Ok(())
}

/// The corpus, or why there is none.
fn corpus(arguments: &Arguments) -> Result<(Vec<Attack>, Option<String>)> {
    let beside = crate::workspace_root().join("../shared/attacks/atomics-dev.tsv");
    let path = arguments.corpus.clone().unwrap_or(beside);
    if arguments.corpus.is_none() && !path.exists() {
        return Ok((Vec::new(), Some(format!("{} is not there; --corpus names another", path.display()))));
    }
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok((corpus::parse(&text).with_context(|| path.display().to_string())?, None))
}

/// The folder of Sigma rules, if there is one.
fn sigma(arguments: &Arguments) -> Result<Option<PathBuf>> {
    let beside = crate::workspace_root().join("../shared/sigma/rules");
    match &arguments.sigma {
        Some(folder) => {
            ensure!(folder.is_dir(), "--sigma {}: not a folder", folder.display());
            Ok(Some(folder.clone()))
        }
        None => Ok(beside.is_dir().then_some(beside)),
    }
}

/// Runs every attack in every setting whose workload was learned, and judges it.
fn attack_all(
    site: &Site,
    sensor: &Sensor,
    attacks: &[Attack],
    benign: &Benign,
    new_max: f64,
    folder: &Path,
) -> Result<Attacked> {
    let learned = |setting: &Setting| benign.learned.iter().any(|one| one.workload == setting.workload());
    let settings: Vec<Setting> = Setting::ALL.into_iter().filter(learned).collect();
    let wanted: Vec<(usize, Setting)> =
        settings.iter().flat_map(|setting| (0..attacks.len()).map(|attack| (attack, *setting))).collect();
    println!("evaluate: {} attacks in {} contexts", attacks.len(), settings.len());
    let recorder = sensor.record(&folder.join("attacks.rec"), None)?;
    let runs = attack::run_all(site, attacks, &wanted, FIRST_ROOM);
    let sensor::Recorded { path: recording, lost } = recorder.stop()?;
    println!("evaluate: judging the attacks");
    let judged = sensor.judge_incidents(&recording, &benign.baseline, Some(&folder.join("events.jsonl")))?;
    let reviewed = match &benign.proposal {
        Some(proposal) => {
            let silent = sensor.with_silences(&proposal.path);
            Some(silent.judge_incidents(&recording, &benign.baseline, None)?)
        }
        None => None,
    };
    let sensor = sensor.without_rules();
    let nothing = folder.join("nothing.yaml");
    fs::write(&nothing, "fleet: evaluate\nworkloads: {}\n")
        .with_context(|| format!("writing {}", nothing.display()))?;
    let by_floor = sensor.judge_incidents(&recording, &nothing, None)?;
    let poisoned = folder.join("poisoned.yaml");
    let days = benign.learn_days.iter().map(PathBuf::as_path);
    let all: Vec<&Path> = days.chain([recording.as_path()]).collect();
    sensor.learn(&all, &benign.workloads, Some(new_max), &poisoned)?;
    let by_poisoned = sensor.judge_incidents(&recording, &poisoned, None)?;
    Ok(Attacked { runs, judged, reviewed, lost, by_floor, by_poisoned })
}
