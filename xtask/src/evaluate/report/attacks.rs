//! What the report says of the attacks. Not what it says of ordinary days. It calls nothing.

use super::GRAVE;
use super::table::table;
use crate::evaluate::attack::{Ending, Setting};
use crate::evaluate::attribution::{Outcome, cause_of_silence, outcomes};
use crate::evaluate::events::Kind;
use crate::evaluate::interval::Proportion;
use crate::evaluate::sensor::Finding;
use crate::evaluate::{Attacked, Measured};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn of<'a>(
    measured: &'a Measured,
    attacked: &'a Attacked,
    findings: &'a [Finding],
) -> (Vec<Outcome<'a>>, Vec<&'a Finding>) {
    outcomes(&attacked.runs, &measured.attacks, findings, &attacked.judged.did)
}

pub(super) fn text(measured: &Measured, attacked: &Attacked) -> String {
    let (outcomes, noise) = of(measured, attacked, &attacked.judged.findings);
    let mut text = String::from(ATTACKS);
    text += if measured.has_rules { WITH_RULES } else { WITHOUT_RULES };
    text += &contexts(&outcomes, measured.has_rules);
    text += "\n### By what was done\n\n";
    text += "Of the runs that did something of the kind, those with a finding of that kind.\n\n";
    text += &kinds(&outcomes);
    text += "\n### Attacks that ran while learning\n\n";
    text += &learning(measured, attacked);
    text += "\n### Controls\n\n";
    text += &control_text(&noise);
    text += "\n### Missed\n\n";
    text += "Runs that did something to be seen, without a finding: what they did, and the baseline or its lack of a dimension allows.\n\n";
    let missed = outcomes.iter().filter(|one| one.is_observable() && !one.is_detected());
    text += &listed(missed);
    text += "\n### Nothing to be seen\n\n";
    text += &listed(outcomes.iter().filter(|one| !one.is_observable()));
    text += "\n### Without a program\n\n";
    text += "Their last command is not in the room (exit status 126 or 127), so they did only a part, or nothing.\n\n";
    text += &listed(outcomes.iter().filter(|one| one.lacks_program()));
    text.push('\n');
    text
}

/// A row for each context.
fn contexts(outcomes: &[Outcome<'_>], has_rules: bool) -> String {
    let rows = Setting::ALL.iter().filter_map(|setting| {
        let of: Vec<&Outcome<'_>> = outcomes.iter().filter(|one| one.run.setting == *setting).collect();
        if of.is_empty() {
            return None;
        }
        let observable: Vec<_> = of.iter().filter(|one| one.is_observable()).collect();
        let detected: Vec<_> = observable.iter().filter(|one| one.is_detected()).collect();
        let by_floor = detected.iter().filter(|one| one.is_found_so(|finding| finding.reason == "floor"));
        let share = |is_so: fn(&Finding) -> bool| {
            Proportion::of(observable.iter().map(|one| one.is_found_so(is_so))).to_string()
        };
        let rules = |text: String| if has_rules { text } else { "not measured".to_owned() };
        let behaviours = detected.iter().map(|one| one.findings.len());
        let findings = detected.iter().map(|one| one.findings_told());
        let incidents = detected.iter().map(|one| one.incidents());
        Some(vec![
            setting.name().to_owned(),
            of.len().to_string(),
            observable.len().to_string(),
            of.iter().filter(|one| one.run.ending == Ending::TimedOut).count().to_string(),
            share(Finding::is_of_baseline),
            rules(share(|finding| finding.meets_rules)),
            rules(share(|_| true)),
            by_floor.count().to_string(),
            Proportion::of(observable.iter().map(|one| one.is_found_at(&GRAVE))).to_string(),
            Proportion::of(detected.iter().map(|one| (1..=FEW_MAX).contains(&one.findings_told())))
                .to_string(),
            middle(findings.collect()),
            middle(behaviours.collect()),
            middle(incidents.collect()),
        ])
    });
    table(
        &[
            "context",
            "runs",
            "observable",
            "ended after 20 s",
            "baseline alone",
            "Sigma alone",
            "both",
            "by a floor rule",
            "found at medium or above, of the observable",
            "1 to 3 findings, of the found",
            "findings an attack (median, most)",
            "behaviours in them (median, most)",
            "incidents an attack (median, most)",
        ],
        &rows.collect::<Vec<_>>(),
    )
}

fn kinds(outcomes: &[Outcome<'_>]) -> String {
    let rows = Kind::JUDGED.iter().map(|kind| {
        let cells = Setting::ALL.iter().map(|setting| {
            let of = outcomes.iter().filter(|one| one.run.setting == *setting && one.did.contains_key(kind));
            Proportion::of(of.map(|one| one.is_found_by(*kind))).to_string()
        });
        [kind.name().to_owned()].into_iter().chain(cells).collect()
    });
    let header: Vec<&str> = ["kind"].into_iter().chain(Setting::ALL.map(Setting::name)).collect();
    table(&header, &rows.collect::<Vec<_>>())
}

/// What the floor reports while learning, and what a baseline that was learned meanwhile still finds.
fn learning(measured: &Measured, attacked: &Attacked) -> String {
    let (normal, _) = of(measured, attacked, &attacked.judged.findings);
    let (floor, _) = of(measured, attacked, &attacked.by_floor.findings);
    let (poisoned, _) = of(measured, attacked, &attacked.by_poisoned.findings);
    let found = |outcomes: &[Outcome<'_>]| -> BTreeSet<u32> {
        outcomes.iter().filter(|one| one.is_detected()).map(|one| one.run.room).collect()
    };
    let (normal, floor, poisoned) = (found(&normal), found(&floor), found(&poisoned));
    let reported = Proportion::of(normal.iter().map(|room| floor.contains(room)));
    let kept = Proportion::of(floor.iter().map(|room| poisoned.contains(room)));
    let learned = Proportion::of(normal.iter().map(|room| !poisoned.contains(room)));
    format!(
        "As if every attack had run on a day of learning: the recordings of the days and of the attacks were learned \
         together, then the attacks were judged by that.\n\n\
         - reported by a floor rule while learning, of the runs that are found otherwise: {reported}\n\
         - of those, not in the candidate, so found again afterwards: {kept}\n\
         - learned, so silent afterwards, of the runs that are found otherwise: {learned}\n"
    )
}

fn control_text(noise: &[&Finding]) -> String {
    if noise.is_empty() {
        return "A control, which runs nothing in the same way, raised no finding in any context.\n"
            .to_owned();
    }
    let mut text = String::from("Controls raised these; they are not counted for any attack:\n\n");
    let lines: BTreeSet<String> = noise.iter().map(|finding| format!("- `{}`\n", finding.line())).collect();
    text.extend(lines);
    text
}

/// Runs by attack: which contexts, and why.
fn listed<'a>(outcomes: impl Iterator<Item = &'a Outcome<'a>>) -> String {
    let mut rows: BTreeMap<(usize, String), Vec<&str>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for outcome in outcomes {
        names.insert(outcome.run.attack, format!("{} {}", outcome.attack.technique, outcome.attack.name));
        rows.entry((outcome.run.attack, cause_of_silence(outcome)))
            .or_default()
            .push(outcome.run.setting.name());
    }
    let rows = rows
        .into_iter()
        .map(|((attack, cause), settings)| vec![names[&attack].clone(), settings.join(", "), cause]);
    table(&["attack", "context", "what it did"], &rows.collect::<Vec<_>>())
}

/// Median and most of some numbers.
fn middle(mut numbers: Vec<usize>) -> String {
    numbers.sort_unstable();
    let median = numbers.get(numbers.len() / 2).copied().unwrap_or(0);
    format!("{median}, {}", numbers.last().copied().unwrap_or(0))
}

/// Findings of one attack that a person reads at once.
const FEW_MAX: usize = 3;

const ATTACKS: &str = "## Attacks

Each attack runs in a throwaway Debian root, as root, in three contexts: a child of a network service, through a hole of it; a cron
job; typed into an administrator's shell. Each context's workload has a baseline from the days below, which holds a shell child. An
attack is *found* when a finding names a process of its own room, since it began, that no control raised: a control runs nothing in
the same way. What an attack does in one way (programs, network, files) is one finding with several behaviours; each floor rule is one
by itself. A run is *observable* when its recording holds something that no control's does. There are intervals of 95 % (Wilson).
A service and cron do few things, so what an attack executes is new to them; an administrator's baseline holds the common tools. The
attacks of the corpus were known when the product was made: this is no held-out set.

";
const WITH_RULES: &str =
    "Sigma rules of level medium and above run beside the baseline. Every other table counts what both found.

";
const WITHOUT_RULES: &str = "No Sigma rules were at hand: those columns are not measured.

";

#[cfg(test)]
mod tests {
    use super::middle;

    #[test]
    fn the_median_is_of_the_sorted_numbers() {
        assert_eq!(middle(vec![9, 1, 2]), "2, 9");
        assert_eq!(middle(vec![]), "0, 0");
    }
}
