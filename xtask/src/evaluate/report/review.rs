//! What the report says of the review: silences of what rules found on the learned days, and what they change. Not what
//! it is without them. It may read the file of silences.

use super::days::remaining;
use super::mean;
use super::table::table;
use crate::evaluate::attack::Setting;
use crate::evaluate::attribution::Outcome;
use crate::evaluate::interval::Proportion;
use crate::evaluate::sensor::{Finding, Proposal};
use crate::evaluate::{Attacked, Measured};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) fn text(measured: &Measured) -> String {
    let benign = &measured.benign;
    let Some(proposal) = &benign.proposal else {
        return "## A review of what rules found\n\nskipped: it takes two days of learning.\n\n".to_owned();
    };
    let mut text = String::from(REVIEW);
    text += "### By the number of days learned, with the review\n\n";
    let rows = benign.reviewed.iter().map(|(learned, days)| {
        let plain =
            benign.curve.iter().find(|(count, _)| count == learned).map_or(0.0, |(_, days)| mean(days));
        let of = |reason: &str| {
            let count = days.iter().flatten().filter(|one| one.reason == reason).count();
            format!("{:.1}", count as f64 / days.len() as f64)
        };
        vec![
            learned.to_string(),
            format!("{plain:.1}"),
            format!("{:.1}", mean(days)),
            of("novel"),
            of("floor"),
            of("sigma"),
            days.iter().map(|day| day.len().to_string()).collect::<Vec<_>>().join(", "),
        ]
    });
    let header = [
        "days learned",
        "false findings a host-day without",
        "with the review",
        "novel",
        "floor rules",
        "Sigma alone",
        "day by day",
    ];
    text += &table(&header, &rows.collect::<Vec<_>>());
    text += "\n### What remains with the review\n\n";
    let last = benign.reviewed.last().map(|(_, days)| days.iter().flatten().collect::<Vec<_>>());
    match last.unwrap_or_default().as_slice() {
        [] => text += "Nothing.\n",
        findings => text += &remaining(findings),
    }
    let (without, with) = (benign.change.len(), benign.change_reviewed.len());
    writeln!(text, "\nThe planned change raises {with} findings, {without} without the review.")
        .expect("writing to memory does not fail");
    text += "\n### What it costs of detection\n\n";
    match &measured.attacked {
        Some(attacked) => text += &cost(measured, attacked),
        None => text += "No attacks were run.\n",
    }
    text + &silences(proposal)
}

/// The figures in a few lines.
pub(super) fn summary(measured: &Measured) -> Vec<String> {
    let mut lines = Vec::new();
    let proposal = measured.benign.proposal.as_ref();
    if let (Some((_, days)), Some(proposal)) = (measured.benign.reviewed.last(), proposal) {
        let (count, mean) = (proposal.silences, mean(days));
        lines.push(format!("evaluate: with {count} silences reviewed: {mean:.1} false findings a host-day"));
    }
    lines
}

/// Detection with and without the silences.
fn cost(measured: &Measured, attacked: &Attacked) -> String {
    let Some(reviewed) = &attacked.reviewed else { return "No attacks were judged with it.\n".to_owned() };
    let (without, _) = super::attacks::of(measured, attacked, &attacked.judged.findings);
    let (with, _) = super::attacks::of(measured, attacked, &reviewed.findings);
    let rows = Setting::ALL.iter().filter_map(|setting| {
        let share = |outcomes: &[Outcome<'_>], is_so: fn(&Finding) -> bool| {
            let of = outcomes.iter().filter(|one| one.run.setting == *setting && one.is_observable());
            Proportion::of(of.map(|one| one.is_found_so(is_so))).to_string()
        };
        let is_run = without.iter().any(|one| one.run.setting == *setting);
        is_run.then(|| {
            vec![
                setting.name().to_owned(),
                share(&without, Finding::is_of_baseline),
                share(&with, Finding::is_of_baseline),
                share(&without, |finding| finding.meets_rules),
                share(&with, |finding| finding.meets_rules),
                share(&without, |_| true),
                share(&with, |_| true),
            ]
        })
    });
    let header = [
        "context",
        "baseline alone, without",
        "baseline alone, with the review",
        "Sigma alone, without",
        "Sigma alone, with the review",
        "both, without",
        "both, with the review",
    ];
    let mut text = table(&header, &rows.collect::<Vec<_>>());
    let mut lost: BTreeMap<usize, (String, Vec<&str>)> = BTreeMap::new();
    for (before, after) in without.iter().zip(&with) {
        if before.is_detected() && !after.is_detected() {
            let name = format!("{} {}", before.attack.technique, before.attack.name);
            let entry = lost.entry(before.run.attack).or_insert((name, Vec::new()));
            entry.1.push(before.run.setting.name());
        }
    }
    if lost.is_empty() {
        return text + "\nNo attack is found only without the review.\n";
    }
    text += "\nFound only without the review:\n\n";
    for (name, settings) in lost.values() {
        writeln!(text, "- {name} ({})", settings.join(", ")).expect("writing to memory does not fail");
    }
    text
}

/// The file, without what all silences have alike, and what is not proposed.
fn silences(proposal: &Proposal) -> String {
    let mut text = format!("\n### The {} silences\n\n", proposal.silences);
    match std::fs::read_to_string(&proposal.path) {
        Ok(file) => text += &format!("```toml\n{}```\n", shortened(&file)),
        Err(error) => text += &format!("The file cannot be read: {error}\n"),
    }
    text += "\nNot proposed:\n\n";
    if proposal.left.is_empty() {
        text += "nothing.\n";
    }
    text.extend(proposal.left.iter().map(|line| format!("- {line}\n")));
    text.push('\n');
    text
}

/// The silences of a file alone, each with its comment.
fn shortened(file: &str) -> String {
    let silences = file.split("\n\n").filter(|block| block.contains("[[silence]]"));
    let is_own =
        |line: &&str| !["owner = ", "reason = ", "expires = "].iter().any(|key| line.starts_with(key));
    let blocks: Vec<String> = silences
        .map(|block| block.lines().filter(is_own).map(|line| format!("{line}\n")).collect())
        .collect();
    blocks.join("\n")
}

const REVIEW: &str = "## A review of what rules found

Floor rules and Sigma rules fire on ordinary days, and no learning silences them: somebody has to say that it is harmless. Here
`sensor-agent baseline silences` proposes silences of what rules found on at least two of the learned days (of the days alone, not of an
attack), and **all of them are taken to be approved**, by an operator who knows that these days were harmless. Nobody looked at
them one by one. They are in force for the judged days and for the attacks alike; the baseline is the same, and so is what it leaves
to be learned, where nothing is novel. A silence names rule, workload, subject and object, not arguments: it hides an attack that does the
same there.

";

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_silence_keeps_its_comment_and_its_scope() {
        let file = "# Head.\n\n# A rule, high: 2 times\n# for example: x\n[[silence]]\nrule = \"a\"\nowner = \"o\"\nreason = \"r\"\n\
                    expires = 2100-01-01\n\n# B\n[[silence]]\nrule = \"b\"\n\n# Not proposed:\n# c\n";
        let expected = "# A rule, high: 2 times\n# for example: x\n[[silence]]\nrule = \"a\"\n\n# B\n[[silence]]\nrule = \"b\"\n";
        assert_eq!(shortened(file), expected);
    }
}
