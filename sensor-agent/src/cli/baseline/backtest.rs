//! `baseline backtest`: what a candidate would change, tried on recordings. Not the replay. It may call the sibling
//! modules and the baseline crate.

use super::super::live::Wish;
use super::super::replay::Replay;
use super::{AroundArguments, FloorArguments, found, print};
use crate::enrich::process_table::Scope;
use crate::finding::Reason;
use crate::layer_files::{LayerFile, read_layers};
use crate::pipeline::Output;
use sensor_baseline::{Behaviour, Floor, Layers, Severity};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BacktestArguments {
    /// The baseline to try.
    #[arg(value_name = "[LAYER=]CANDIDATE")]
    candidate: LayerFile,
    /// Files that `record` made.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// The baseline to compare it with [default: one that lists nothing, so that only floor rules find something].
    #[arg(long, value_name = "FILE")]
    current: Option<PathBuf>,
    #[command(flatten)]
    around: AroundArguments,
    #[command(flatten)]
    floor: FloorArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &BacktestArguments) -> anyhow::Result<ExitCode> {
    let candidate = arguments.around.read(&arguments.candidate)?;
    let current = match &arguments.current {
        Some(path) => {
            let current = LayerFile { path: path.clone(), ..arguments.candidate.clone() };
            arguments.around.read(&current)?
        }
        None => read_layers(arguments.around.below.iter().chain(&arguments.around.above))?,
    };
    let floor = arguments.floor.load()?;
    let change = Change::between(&current, &candidate, &floor, &arguments.recordings)?;
    let text = if arguments.json {
        serde_json::to_string(&change).expect("strings, numbers and lists are JSON") + "\n"
    } else {
        change.to_text()
    };
    print(&text)?;
    Ok(found(!change.raised.is_empty()))
}

/// By which findings two baselines differ on the same recordings, each finding once, in the order of the text form.
#[derive(Debug, Default, Serialize)]
pub(super) struct Change {
    /// Found with the new one only.
    pub(super) raised: Vec<Told>,
    /// Found with the old one only.
    pub(super) silenced: Vec<Told>,
    /// Found with both.
    pub(super) kept_count: usize,
    /// Records were lost when something was recorded: more may have been found.
    pub(super) has_losses: bool,
}

/// One finding of a recording.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Told {
    behaviour: Behaviour,
    severity: Severity,
    reason: String,
    summary: String,
    count: u64,
}

impl Change {
    pub(super) fn between(
        old: &Layers,
        new: &Layers,
        floor: &Arc<Floor>,
        recordings: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let (mut before, _) = findings(old, floor, recordings)?;
        let mut change = Self::default();
        let (found, has_losses) = findings(new, floor, recordings)?;
        change.has_losses = has_losses;
        for (key, told) in found {
            match before.remove(&key) {
                Some(_) => change.kept_count += 1,
                None => change.raised.push(told),
            }
        }
        change.silenced = before.into_values().collect();
        Ok(change)
    }

    /// What the new one does not find at all, or finds less severe. Who denies what was novel hides nothing.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &Told> {
        let is_still_told = |told: &Told| {
            let mut same = self.raised.iter().filter(|raised| raised.behaviour == told.behaviour);
            same.any(|raised| raised.severity >= told.severity)
        };
        self.silenced.iter().filter(move |told| !is_still_told(told))
    }

    /// Whether nothing is found with either.
    pub(super) fn is_empty(&self) -> bool {
        self.raised.is_empty() && self.silenced.is_empty() && self.kept_count == 0
    }

    fn to_text(&self) -> String {
        let mut text = format!("would raise {} findings\n", self.raised.len());
        text.extend(self.raised.iter().map(Told::line));
        text += &format!("would silence {} findings\n", self.silenced.len());
        text.extend(self.silenced.iter().map(Told::line));
        text + &format!("unchanged: {} findings\n", self.kept_count)
    }
}

impl Told {
    /// For a person, newline included.
    pub(super) fn line(&self) -> String {
        let times = if self.count == 1 { "once".to_owned() } else { format!("{} times", self.count) };
        format!("  [{}] {} ({}, {times})\n", self.severity.name(), self.behaviour, self.reason)
    }
}

/// What was found, and why: a floor rule by its id.
type Key = (Behaviour, String);

/// What is found in recordings, and whether records were lost when they were made.
fn findings(
    baseline: &Layers,
    floor: &Arc<Floor>,
    recordings: &[PathBuf],
) -> anyhow::Result<(BTreeMap<Key, Told>, bool)> {
    let (mut findings, mut has_losses) = (BTreeMap::new(), false);
    for recording in recordings {
        let wish = Wish { baseline: Some(baseline.clone()), ..Wish::new(Arc::clone(floor), Scope::Host) };
        let replayed = Replay::open(recording, wish)?.run(|output| {
            add(&mut findings, output);
            Ok(())
        })?;
        has_losses |= replayed.has_losses;
    }
    Ok((findings, has_losses))
}

/// Counts what was observed, and keeps the first finding of each.
fn add(findings: &mut BTreeMap<Key, Told>, output: &mut Output) {
    for finding in output.findings.drain(..) {
        let behaviour = finding.behaviour;
        let reason = finding.reason.rule_id().to_owned();
        findings.entry((behaviour.clone(), reason.clone())).or_insert_with(|| Told {
            behaviour,
            severity: finding.severity,
            reason,
            summary: finding.explanation.summary,
            count: 0,
        });
    }
    for (observation, verdict) in output.observations.drain(..) {
        let Some(reason) = Reason::of(&verdict) else { continue };
        if let Some(told) = findings.get_mut(&(observation.behaviour, reason.rule_id().to_owned())) {
            told.count += 1;
        }
    }
}
