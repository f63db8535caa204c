//! `baseline`: what a person does with baselines before they are in force. Not what a baseline means: that is the
//! baseline crate's. It may call the sibling modules and the baseline crate.

mod backtest;
mod edit;
mod learn;
mod silences;
mod wanted;

use super::learn::write_whole;
use super::{AroundArguments, EXIT_FINDINGS, FloorArguments, unix_now};
use crate::floor_files;
use crate::layer_files::{LayerFile, read_baseline, read_layers};
use anyhow::Context as _;
use clap::Subcommand;
use sensor_baseline::{
    Action, Baseline, Behaviour, Floor, FloorRule as Rule, Object, Observation, Subject, Traits, UnixNs,
    Workload, diff, lint, lint_layers, settle, union,
};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum BaselineCommand {
    /// Name entries without effect and entries that allow too much: exit 0 for none, 2 for some.
    Lint(LintArguments),
    /// Check files of floor rules: exit 0 when all is well, 2 when a silence has ended or a rule is never reported.
    LintFloor(LintFloorArguments),
    /// Say by which entries two baselines differ: exit 0 for none, 2 for some.
    Diff(DiffArguments),
    /// Put baselines together, for example what two hosts learned.
    Merge(MergeArguments),
    /// Say what a baseline thinks of one behaviour, and why: exit 2 when it is a finding.
    Explain(ExplainArguments),
    /// Say what a baseline would find in recordings that another would not: exit 2 when it would find more.
    Backtest(backtest::BacktestArguments),
    /// Learn a baseline from recordings, as `learn` would have.
    Learn(learn::LearnArguments),
    /// Propose silences of what rules found in several recordings, for a person to review.
    Silences(silences::SilencesArguments),
    /// Change entries, unless that would hide a known attack.
    Edit(edit::EditArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct LintArguments {
    /// Baselines to look at, one by one.
    #[arg(required = true, value_name = "[LAYER=]FILE")]
    files: Vec<LayerFile>,
    /// Also name entries that another of the files leaves without effect: they are layers, the lowest first.
    #[arg(long)]
    layers: bool,
    #[command(flatten)]
    floor: FloorArguments,
}

#[derive(Debug, clap::Args)]
pub(super) struct LintFloorArguments {
    /// Files to check, together, as `--floor` takes them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DiffArguments {
    /// The one before.
    old: PathBuf,
    /// The one after.
    new: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct MergeArguments {
    /// Baselines to put together.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Name of the fleet that the result is for [default: that of the files, when it is the same].
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
    /// The file to write; one that is there is replaced [default: stdout].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    /// The baseline.
    #[arg(value_name = "[LAYER=]FILE")]
    file: LayerFile,
    /// For example `unit:nginx.service`.
    workload: String,
    /// For example `/usr/sbin/nginx`.
    subject: String,
    /// exec, connect, listen, write, delete or rename.
    #[arg(value_parser = parse_action)]
    action: Action,
    /// What was done: `/usr/bin/id`, `tcp 10.0.0.5 5432` (of a listener its address and port), `/old -> /new`.
    object: String,
    #[command(flatten)]
    around: AroundArguments,
    #[command(flatten)]
    floor: FloorArguments,
}

pub(super) fn run(command: &BaselineCommand) -> anyhow::Result<ExitCode> {
    match command {
        BaselineCommand::Lint(arguments) => run_lint(arguments),
        BaselineCommand::LintFloor(arguments) => run_lint_floor(arguments),
        BaselineCommand::Diff(arguments) => run_diff(arguments),
        BaselineCommand::Merge(arguments) => run_merge(arguments),
        BaselineCommand::Explain(arguments) => run_explain(arguments),
        BaselineCommand::Backtest(arguments) => backtest::run(arguments),
        BaselineCommand::Learn(arguments) => learn::run(arguments),
        BaselineCommand::Silences(arguments) => silences::run(arguments),
        BaselineCommand::Edit(arguments) => edit::run(arguments),
    }
}

fn run_lint(arguments: &LintArguments) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    let floor = arguments.floor.load()?;
    for file in &arguments.files {
        for lint in lint(&read_baseline(&file.path)?, &floor) {
            text += &format!("{}: {lint}\n", file.path.display());
        }
    }
    if arguments.layers {
        let lints = lint_layers(&read_layers(&arguments.files)?);
        text.extend(lints.iter().map(|lint| format!("{lint}\n")));
    }
    print(&text)?;
    Ok(found(!text.is_empty()))
}

fn run_lint_floor(arguments: &LintFloorArguments) -> anyhow::Result<ExitCode> {
    let floor = floor_files::load(&arguments.files)?;
    let mut text: String = floor_files::expired(&floor, unix_now()).map(|line| line + "\n").collect();
    for rule in floor.rules() {
        for example in &rule.examples {
            let first = floor.firing(example).filter(|first| first.id != rule.id);
            if let Some(Rule { id, .. }) = first.map(AsRef::as_ref) {
                let behaviour = &example.behaviour;
                let (action, object) = (behaviour.action, &behaviour.object);
                text += &format!(
                    "{}: rule {}: \"{action} {object}\" is reported under {id}, which comes first\n",
                    rule.file, rule.id
                );
            }
        }
    }
    print(&text)?;
    let (rules, silences) = (floor.rules().len() - Floor::built_in().rules().len(), floor.silences().len());
    say!("{rules} rules and {silences} silences besides {} built-in rules", Floor::built_in().rules().len());
    Ok(found(!text.is_empty()))
}

fn run_diff(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let (old, new) = (read_baseline(&arguments.old)?, read_baseline(&arguments.new)?);
    if old.fleet != new.fleet {
        say!("of different fleets: {} and {}", old.fleet, new.fleet);
    }
    let diff = diff(&old, &new);
    print(&diff.to_string())?;
    Ok(found(!diff.is_empty()))
}

fn run_merge(arguments: &MergeArguments) -> anyhow::Result<ExitCode> {
    let baselines: Vec<Baseline> =
        arguments.files.iter().map(|file| read_baseline(file)).collect::<anyhow::Result<_>>()?;
    let fleet = match &arguments.fleet {
        Some(fleet) => fleet.clone(),
        None => same_fleet(&baselines, &arguments.files)?,
    };
    let merged = settle(&union(&fleet, &baselines));
    check_text(&merged)?;
    write(arguments.output.as_deref(), &merged.to_yaml())?;
    Ok(ExitCode::SUCCESS)
}

fn same_fleet(baselines: &[Baseline], files: &[PathBuf]) -> anyhow::Result<String> {
    let first = &baselines.first().context("no baseline is given")?.fleet;
    if let Some(other) = baselines.iter().position(|baseline| baseline.fleet != *first) {
        let (one, two) = (files[0].display(), files[other].display());
        anyhow::bail!(
            "{one} is of fleet {first:?}, {two} of {:?}: say whose the result is with --fleet",
            baselines[other].fleet
        );
    }
    Ok(first.clone())
}

fn run_explain(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let baseline = arguments.around.read(&arguments.file)?;
    let object = Object::parse(arguments.action, &arguments.object)
        .with_context(|| format!("object of {}", arguments.action))?;
    let behaviour = Behaviour {
        workload: Workload(arguments.workload.clone()),
        subject: Subject(arguments.subject.clone()),
        action: arguments.action,
        object,
    };
    let observation = Observation { behaviour, traits: Traits::default(), time: UnixNs::default() };
    if !baseline.is_armed(&observation.behaviour.workload) {
        say!("{}: does not list the workload {}", arguments.file.path.display(), arguments.workload);
    }
    let verdict = baseline.judge(&observation, &*arguments.floor.load()?);
    let explanation = baseline.explain(&observation, &verdict);
    let mut text = format!("{}\n", explanation.summary);
    for nearest in &explanation.nearest {
        text += &format!("nearest: {nearest}\n");
    }
    if verdict.is_finding() && !explanation.edit.is_empty() {
        text += &format!("to allow it:\n{}\n", explanation.edit.trim_end());
    }
    print(&text)?;
    Ok(found(verdict.is_finding()))
}

fn parse_action(name: &str) -> Result<Action, String> {
    let names = Action::ALL.map(Action::name).join(", ");
    Action::parse(name).ok_or_else(|| format!("not one of {names}"))
}

/// What is not read back as the same is not written.
fn check_text(baseline: &Baseline) -> anyhow::Result<()> {
    let read = Baseline::parse(&baseline.to_yaml())
        .map_err(|error| anyhow::anyhow!("the result is no baseline: {}", error.message()))?;
    anyhow::ensure!(read == *baseline, "the result is read back as another baseline");
    Ok(())
}

/// Writes a baseline's text to a file in one step, or to stdout.
fn write(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => write_whole(path, text).with_context(|| format!("cannot write {}", path.display())),
        None => print(text),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has seen enough; the exit code still tells.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

fn found(something: bool) -> ExitCode {
    if something { ExitCode::from(EXIT_FINDINGS) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests;
