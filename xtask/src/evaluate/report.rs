//! The report: tables of what was measured, as Markdown. Not the measuring. It may ask the machine what it is.

mod attacks;
mod days;
mod review;
mod table;

use super::Measured;
use super::attack::Setting;
use super::attribution::Outcome;
use super::benign::Schedule;
use super::interval::Proportion;
use super::sensor::{Finding, Sensor};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use table::table;

/// Severities that an operator would look at first.
const GRAVE: [&str; 3] = ["medium", "high", "critical"];

/// Where and how it was measured.
pub(super) struct Conditions {
    command: String,
    machine: String,
    kernel: String,
    tiers: String,
    date: String,
    profile: &'static str,
    seed: u64,
    learn: u64,
    judge: u64,
    new_max: f64,
}

impl Conditions {
    /// Asks the machine.
    pub(super) fn ask(sensor: &Sensor, schedule: &Schedule) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
        let cpus = read("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let count = std::thread::available_parallelism().context("counting CPUs")?;
        let memory = read("/proc/meminfo")?;
        let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        let gib = memory.context("no MemTotal in /proc/meminfo")? as f64 / f64::from(1 << 20);
        let model = model.trim_start_matches(['\t', ' ', ':']);
        let words: Vec<String> = std::env::args().skip(1).map(|word| crate::shell_quoted(&word)).collect();
        let check = sensor.check()?;
        let mut tiers: BTreeMap<String, usize> = BTreeMap::new();
        for hook in check["hooks"].as_array().context("check --json without hooks")? {
            let tier = if hook["state"] == "attached" { hook["tier"].as_str() } else { None };
            *tiers.entry(tier.unwrap_or("none").to_owned()).or_default() += 1;
        }
        let tiers = tiers.iter().map(|(tier, count)| format!("{tier} ({count} events)"));
        Ok(Self {
            command: format!("cargo xtask {}", words.join(" ")),
            machine: format!("{count} CPUs ({model}), {gib:.0} GiB of memory"),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            tiers: tiers.collect::<Vec<_>>().join(", "),
            date: crate::setup::stdout(std::process::Command::new("date").args(["-u", "+%F"]))?,
            profile: if cfg!(debug_assertions) { "with debug assertions" } else { "release" },
            seed: schedule.seed,
            learn: schedule.learn,
            judge: schedule.judge,
            new_max: schedule.new_max,
        })
    }

    fn text(&self) -> String {
        let Self { command, machine, kernel, tiers, date, profile, seed, learn, judge, new_max } = self;
        table(
            &["", ""],
            &[
                vec!["command".to_owned(), format!("`{command}`")],
                vec!["date".to_owned(), date.clone()],
                vec!["machine".to_owned(), machine.clone()],
                vec!["kernel".to_owned(), kernel.clone()],
                vec!["events by tier".to_owned(), tiers.clone()],
                vec!["build".to_owned(), (*profile).to_owned()],
                vec!["days".to_owned(), format!("{learn} learned, {judge} judged, seed {seed}")],
                vec![
                    "armed".to_owned(),
                    format!("what at most {new_max} new behaviours a day are to be expected of"),
                ],
                vec!["rooms".to_owned(), format!("Debian {}", super::root::SUITE)],
            ],
        )
    }
}

/// The whole document.
pub(super) fn document(measured: &Measured, conditions: &Conditions) -> String {
    let mut text = String::from(HEAD);
    text += &conditions.text();
    writeln!(text, "\nMeasured in {:.0} s. {}\n", measured.seconds, losses(measured))
        .expect("writing to memory does not fail");
    match (&measured.attacked, &measured.skipped) {
        (Some(attacked), _) => text += &attacks::text(measured, attacked),
        (None, reason) => {
            let reason = reason.as_deref().unwrap_or("no reason");
            writeln!(text, "## Attacks\n\nskipped: {reason}\n").expect("writing to memory does not fail");
        }
    }
    text += &days::text(measured);
    text += &review::text(measured);
    text += &cost_text(measured);
    text
}

/// Records that nobody saw: what they would have shown is not in the figures.
fn losses(measured: &Measured) -> String {
    let attacked = measured.attacked.as_ref().map_or(0, |attacked| attacked.lost);
    match (measured.benign.lost, attacked) {
        (0, 0) => "No record was lost.".to_owned(),
        (days, attacks) => format!("Records lost: {days} on the days, {attacks} during the attacks."),
    }
}

/// The figures in a few lines.
pub(super) fn summary(measured: &Measured) -> String {
    let mut lines = Vec::new();
    if let Some(attacked) = &measured.attacked {
        let (outcomes, noise) = attacks::of(measured, attacked, &attacked.judged.findings);
        for setting in Setting::ALL {
            let observable = outcomes.iter().filter(|one| one.run.setting == setting && one.is_observable());
            let found = Proportion::of(observable.map(Outcome::is_detected));
            lines.push(format!("evaluate: {}: found {found} of the observable runs", setting.name()));
        }
        lines.push(format!("evaluate: {} findings of controls", noise.len()));
    }
    if let Some((_, days)) = measured.benign.curve.last() {
        lines.push(format!("evaluate: {:.1} false findings a host-day", mean(days)));
    }
    lines.extend(review::summary(measured));
    lines.join("\n")
}

fn cost_text(measured: &Measured) -> String {
    let benign = &measured.benign;
    let rows = benign.learned.iter().map(|one| {
        vec![
            format!("`{}`", one.workload),
            one.behaviours.to_string(),
            format!("{:.1}", one.bytes as f64 / 1024.0),
            if one.left.is_empty() { "all".to_owned() } else { format!("all but {}", one.left.join(", ")) },
        ]
    });
    let mut text = String::from("## What it costs\n\n");
    text += &table(
        &["workload", "behaviours learned", "KiB of memory, without what maps add", "armed"],
        &rows.collect::<Vec<_>>(),
    );
    text +=
        "\nA replay, from reading the recording to the finding with its explanation, of the whole host:\n\n";
    let spent = [("judged days", benign.noisy), ("learned days", benign.quiet)].map(|(days, spent)| {
        let each_us = spent.milliseconds * 1e3 / (spent.observations.max(1) as f64);
        let (observations, findings) = (spent.observations.to_string(), spent.findings.to_string());
        vec![
            days.to_owned(),
            observations,
            findings,
            format!("{:.0}", spent.milliseconds),
            format!("{each_us:.1}"),
        ]
    });
    text += &table(&["", "observations", "findings", "ms", "µs an observation"], &spent);
    text
}

fn mean(days: &[Vec<Finding>]) -> f64 {
    let total: usize = days.iter().map(Vec::len).sum();
    total as f64 / days.len().max(1) as f64
}

const HEAD: &str = "# Evaluation

How much of a corpus of attacks is found, and how often ordinary days raise findings. Written by `cargo xtask evaluate`; every
number below is of one run.

";
