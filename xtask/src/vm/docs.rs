//! The table of docs/kernel-support.md, made from what the runs asserted. Not the words around it, which are written
//! by hand. It may rewrite that one part of that one file.

use super::kernels::Name;
use super::outcome::{Cell, Fact, Limit};
use super::{Run, Tier};
use crate::workspace_root;
use anyhow::{Context, Result};
use sensor_event::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The file, below the workspace's top folder.
const FILE: &str = "docs/kernel-support.md";

const BEGIN: &str = "<!-- From here on generated: cargo xtask vm --kernel all --write-docs -->\n";
const END: &str = "<!-- Up to here generated. -->\n";

/// Writes the file, with its generated part made from these runs, to `to`; or in its own place.
///
/// # Errors
/// When the file cannot be read or written, or has no such part.
pub(super) fn write(runs: &[Run], to: Option<&Path>) -> Result<()> {
    let path = workspace_root().join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {FILE}"))?;
    let facts: Vec<Facts<'_>> = runs
        .iter()
        .map(|run| Facts {
            kernel: run.kernel,
            release: &run.release,
            tier: run.tier,
            cells: &run.outcome.cells,
        })
        .collect();
    let limits: BTreeSet<&Limit> = runs.iter().flat_map(|run| &run.outcome.limits).collect();
    let part = tables(&facts) + &limits_table(&limits);
    let text = replaced(&text, &part).with_context(|| format!("{FILE} has no generated part"))?;
    let to = to.unwrap_or(&path);
    fs::write(to, text).with_context(|| format!("writing {}", to.display()))?;
    println!("vm: wrote the table to {}", to.display());
    Ok(())
}

fn replaced(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{part}\n{END}{after}"))
}

/// What one run asserted.
struct Facts<'a> {
    kernel: Name,
    release: &'a str,
    tier: Tier,
    cells: &'a [Cell],
}

/// What several kernels have in common about an event: one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Asserted { hook: String, tier: String, what: String },
    Impossible { reason: String },
    Missing,
}

fn tables(facts: &[Facts<'_>]) -> String {
    let mut text = String::new();
    let releases: BTreeMap<Name, &str> = facts.iter().map(|run| (run.kernel, run.release)).collect();
    for (kernel, release) in &releases {
        append(&mut text, format_args!("- {}: `{release}`\n", kernel.text()));
    }
    for tier in Tier::ALL {
        let title = match tier {
            Tier::Lsm => "Best hooks that the kernel offers",
            Tier::Tracepoint => "Tracepoints only (`SENSOR_TEST_TIER=tracepoint`)",
        };
        append(&mut text, format_args!("\n### {title}\n\n| event |"));
        for kernel in releases.keys() {
            append(&mut text, format_args!(" {} |", kernel.text()));
        }
        text.push_str(" hook | tier | content asserted, or what cannot be seen and why |\n|---|");
        text.push_str(&"---|".repeat(releases.len() + 3));
        text.push('\n');
        for kind in Kind::ALL {
            let of_tier = facts.iter().filter(|run| run.tier == tier);
            for (row, kernels) in rows(kind.name(), of_tier) {
                append_row(&mut text, kind.name(), &row, releases.keys().map(|name| kernels.contains(name)));
            }
        }
    }
    text
}

/// The rows of one event, each with the kernels that it is true of.
fn rows<'a>(kind: &str, runs: impl Iterator<Item = &'a Facts<'a>>) -> BTreeMap<Row, BTreeSet<Name>> {
    let mut rows: BTreeMap<Row, BTreeSet<Name>> = BTreeMap::new();
    for run in runs {
        // Several tests assert different content of one event: one row a hook.
        let mut asserted: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        let mut impossible = BTreeSet::new();
        for cell in run.cells.iter().filter(|cell| cell.kind == kind) {
            match &cell.fact {
                Fact::Asserted { tier, hook, what } => {
                    asserted.entry((hook, tier)).or_default().insert(what);
                }
                Fact::Impossible(reason) => {
                    impossible.insert(reason.clone());
                }
            }
        }
        let is_missing = asserted.is_empty() && impossible.is_empty();
        let asserted = asserted.into_iter().map(|((hook, tier), what)| Row::Asserted {
            hook: hook.to_owned(),
            tier: tier.to_owned(),
            what: what.into_iter().collect::<Vec<_>>().join("; "),
        });
        let impossible = impossible.into_iter().map(|reason| Row::Impossible { reason });
        for row in asserted.chain(impossible).chain(is_missing.then_some(Row::Missing)) {
            rows.entry(row).or_default().insert(run.kernel);
        }
    }
    rows
}

fn append_row(text: &mut String, kind: &str, row: &Row, is_true: impl Iterator<Item = bool>) {
    let (mark, hook, tier, what) = match row {
        Row::Asserted { hook, tier, what } => ("yes", format!("`{hook}`"), tier.as_str(), what.clone()),
        Row::Impossible { reason } => ("no", String::new(), "", format!("cannot: {reason}")),
        Row::Missing => ("**?**", String::new(), "", "not asserted by any test".to_owned()),
    };
    append(text, format_args!("| {kind} |"));
    for is_true in is_true {
        append(text, format_args!(" {} |", if is_true { mark } else { "" }));
    }
    append(text, format_args!(" {hook} | {tier} | {} |\n", what.replace('|', "\\|")));
}

/// What the hooks do not show, events that share it in one row.
fn limits_table(limits: &BTreeSet<&Limit>) -> String {
    let mut events: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for limit in limits {
        events.entry((&limit.tier, &limit.kernels, &limit.what)).or_default().push(&limit.event);
    }
    let mut text = String::from(
        "\n### What a hook cannot see\n\n| tier | kernels | events | what |\n|---|---|---|---|\n",
    );
    for ((tier, kernels, what), events) in events {
        let what = what.replace('|', "\\|");
        append(&mut text, format_args!("| {tier} | {kernels} | {} | {what} |\n", events.join(", ")));
    }
    text
}

fn append(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes whatever is written to it");
}

#[cfg(test)]
mod tests {
    use super::super::Tier;
    use super::super::kernels::Name;
    use super::super::outcome::{Cell, Fact, Limit};
    use super::{BEGIN, END, Facts, limits_table, replaced, tables};
    use std::collections::BTreeSet;

    fn asserted(kind: &str, hook: &str, what: &str) -> Cell {
        let (tier, hook, what) = ("lsm".to_owned(), hook.to_owned(), what.to_owned());
        Cell { kind: kind.to_owned(), fact: Fact::Asserted { tier, hook, what } }
    }

    #[test]
    fn kernels_that_agree_share_a_row_and_missing_ones_are_named() {
        let same =
            [asserted("exec", "x", "path"), asserted("exec", "x", "argv"), asserted("exec", "x", "path")];
        let impossible = [Cell { kind: "exec".to_owned(), fact: Fact::Impossible("too old".to_owned()) }];
        let run = |kernel, cells| Facts { kernel, release: "r", tier: Tier::Lsm, cells };
        let text = tables(&[
            run(Name::V5_10, &impossible[..]),
            run(Name::V6_1, &same[..]),
            run(Name::V6_12, &same[..]),
            run(Name::Newest, &[][..]),
        ]);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| exec |")).collect();
        let expected = [
            "| exec |  | yes | yes |  | `x` | lsm | argv; path |",
            "| exec | no |  |  |  |  |  | cannot: too old |",
            "| exec |  |  |  | **?** |  |  | not asserted by any test |",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn events_that_share_a_limit_share_a_row() {
        let limit = |tier: &str, event: &str| Limit {
            tier: tier.to_owned(),
            kernels: "all".to_owned(),
            what: "a|b".to_owned(),
            event: event.to_owned(),
        };
        let limits = [limit("lsm", "exec"), limit("tracepoint", "fork"), limit("lsm", "exit")];
        let text = limits_table(&limits.iter().collect::<BTreeSet<_>>());
        let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1).collect();
        assert_eq!(rows, ["| lsm | all | exec, exit | a\\|b |", "| tracepoint | all | fork | a\\|b |"]);
    }

    #[test]
    fn only_the_generated_part_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let expected = format!("before\n{BEGIN}\nnew\n\n{END}after\n");
        assert_eq!(replaced(&text, "new\n"), Some(expected));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
