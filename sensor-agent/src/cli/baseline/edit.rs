//! `baseline edit`: changes of entries, refused where they would hide a known attack. Not a text editor. It may call the
//! sibling modules and the baseline crate.

use super::backtest::Change;
use super::{FloorArguments, check_text, parse_action, write};
use crate::layer_files::read_baseline;
use anyhow::{Context as _, bail, ensure};
use sensor_baseline::{Baseline, Disposition, Entry, Pattern, Subject, Workload, diff};
use std::path::PathBuf;
use std::process::ExitCode;

/// The words of an entry.
const WORDS: [&str; 4] = ["WORKLOAD", "SUBJECT", "ACTION", "OBJECT"];

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct EditArguments {
    /// The baseline; it is replaced in one step.
    file: PathBuf,
    /// Allow this, for example `--allow unit:nginx.service /usr/sbin/nginx connect "tcp 10.0.0.0/8 5432"`.
    #[arg(long, num_args = 4, value_names = WORDS, action = clap::ArgAction::Append)]
    allow: Vec<String>,
    /// Deny this: a finding whatever else is listed.
    #[arg(long, num_args = 4, value_names = WORDS, action = clap::ArgAction::Append)]
    deny: Vec<String>,
    /// Retire this: it was normal once, is not any more, and is not learned again.
    #[arg(long, num_args = 4, value_names = WORDS, action = clap::ArgAction::Append)]
    retire: Vec<String>,
    /// Take this entry out, whatever it says.
    #[arg(long, num_args = 4, value_names = WORDS, action = clap::ArgAction::Append)]
    remove: Vec<String>,
    /// List this workload, so that what it does is judged.
    #[arg(long, value_name = "WORKLOAD")]
    arm: Vec<String>,
    /// A recording of an attack: an edit that silences a finding in it is refused.
    #[arg(long = "attack", value_name = "RECORDING")]
    attacks: Vec<PathBuf>,
    #[command(flatten)]
    floor: FloorArguments,
    /// Make the edit even though it silences findings in an attack; they are named.
    #[arg(long)]
    force: bool,
    /// The file to write instead.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &EditArguments) -> anyhow::Result<ExitCode> {
    let old = read_baseline(&arguments.file)?;
    let new = edited(&old, arguments)?;
    let difference = diff(&old, &new);
    ensure!(!difference.is_empty(), "nothing to change: {} says so already", arguments.file.display());
    if !arguments.attacks.is_empty() {
        // What is only armed now is what the entries would silence.
        let change = Change::between(
            &armed(&old, &arguments.arm).into(),
            &new.clone().into(),
            &arguments.floor.load()?,
            &arguments.attacks,
        )?;
        if change.is_empty() {
            say!("sensor-agent: nothing is found in the attacks: they guard nothing");
        }
        let silenced: Vec<_> = change.hidden().collect();
        let lines: String = silenced.iter().map(|told| told.line()).collect();
        let count = silenced.len();
        if count > 0 && !arguments.force {
            bail!(
                "not changed: this would silence {count} findings of the attacks (--force does it):\n{lines}"
            );
        }
        if count > 0 {
            say!("sensor-agent: silences {count} findings of the attacks:\n{}", lines.trim_end());
        }
    }
    write(Some(arguments.output.as_ref().unwrap_or(&arguments.file)), &new.to_yaml())?;
    super::print(&difference.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The baseline with these workloads listed.
fn armed(old: &Baseline, workloads: &[String]) -> Baseline {
    let mut armed = old.clone();
    workloads.iter().for_each(|workload| armed.arm(Workload(workload.clone())));
    armed
}

fn edited(old: &Baseline, arguments: &EditArguments) -> anyhow::Result<Baseline> {
    let mut new = armed(old, &arguments.arm);
    for entry in entries(&arguments.remove, Disposition::Allow)? {
        let listed = new.listed(&entry).with_context(|| format!("not in the baseline: {}", about(&entry)))?;
        new.remove(&Entry { disposition: listed, ..entry });
    }
    let additions = [
        (&arguments.allow, Disposition::Allow),
        (&arguments.deny, Disposition::Deny),
        (&arguments.retire, Disposition::Retired),
    ];
    for (words, disposition) in additions {
        for entry in entries(words, disposition)? {
            add(&mut new, entry)?;
        }
    }
    check_text(&new)?;
    Ok(new)
}

fn add(baseline: &mut Baseline, entry: Entry) -> anyhow::Result<()> {
    if !baseline.is_armed(&entry.workload) {
        bail!(
            "workload {} is not in the baseline: one entry would make all else it does novel (--arm {} lists it)",
            entry.workload,
            entry.workload
        );
    }
    if let Some(before) = baseline.listed(&entry) {
        baseline.remove(&Entry { disposition: before, ..entry.clone() });
    }
    baseline.insert(entry);
    Ok(())
}

fn entries(words: &[String], disposition: Disposition) -> anyhow::Result<Vec<Entry>> {
    let parse = |words: &[String]| -> anyhow::Result<Entry> {
        let [workload, subject, action, object] = words else { bail!("an entry has {} words", WORDS.len()) };
        let action = parse_action(action).map_err(|error| anyhow::anyhow!("action {action:?}: {error}"))?;
        let pattern = Pattern::parse(action, object).with_context(|| format!("object of {action}"))?;
        let (workload, subject) = (Workload(workload.clone()), Subject(subject.clone()));
        Ok(Entry { workload, subject, disposition, action, pattern })
    };
    words.chunks(WORDS.len()).map(parse).collect()
}

fn about(entry: &Entry) -> String {
    let Entry { workload, subject, action, pattern, .. } = entry;
    format!("{workload} {subject} {action} {pattern}")
}
