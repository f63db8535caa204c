//! What the report says of ordinary days. Not what it says of attacks. It calls nothing.

use super::table::table;
use super::{GRAVE, mean};
use crate::evaluate::Measured;
use crate::evaluate::day::CONTAINERS;
use crate::evaluate::sensor::Finding;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Remaining false findings that are listed at most.
const LISTED_MAX: usize = 80;

pub(super) fn text(measured: &Measured) -> String {
    let benign = &measured.benign;
    let mut text = String::from(BENIGN);
    let works = benign.works.iter().map(|work| vec![work.name.to_owned(), work.what.to_owned()]);
    let skipped = measured.no_containers.iter().map(|reason| vec![CONTAINERS.to_owned(), reason.clone()]);
    let works = works.chain(skipped);
    text += &table(&["part", "what"], &works.collect::<Vec<_>>());
    text += "\n### By the number of days learned\n\n";
    let curve = benign.curve.iter().map(|(learned, days)| {
        let count = |keep: fn(&Finding) -> bool| {
            let total: usize = days.iter().flatten().filter(|finding| keep(finding)).count();
            format!("{:.1}", total as f64 / days.len() as f64)
        };
        vec![
            learned.to_string(),
            format!("{:.1}", mean(days)),
            count(|finding| finding.reason == "novel"),
            count(|finding| finding.reason == "floor"),
            count(|finding| finding.reason == "sigma"),
            count(|finding| GRAVE.contains(&finding.severity.as_str())),
            days.iter().map(|day| day.len().to_string()).collect::<Vec<_>>().join(", "),
        ]
    });
    let header = [
        "days learned",
        "false findings a host-day",
        "novel",
        "floor rules",
        "Sigma alone",
        "medium or above",
        "day by day",
    ];
    text += &table(&header, &curve.collect::<Vec<_>>());
    if let Some((_, days)) = benign.curve.last() {
        text += "\n### By workload, all days learned\n\n";
        text += &by_workload(&benign.workloads, days);
        text += "\n### What remains\n\n";
        text += "Alike ones together: same workload, subject, action and rule.\n\n";
        text += &remaining(&days.iter().flatten().collect::<Vec<_>>());
    }
    text += "\n### A planned change\n\n";
    text += "After the last day: a package that the host has not had, and a new release of the web service. Not counted above.\n\n";
    text += &remaining(&benign.change.iter().collect::<Vec<_>>());
    text.push('\n');
    text
}

fn by_workload(workloads: &[String], days: &[Vec<Finding>]) -> String {
    let rows = workloads.iter().map(|workload| {
        let of = |reason: &str| {
            let count = days.iter().flatten().filter(|one| one.workload == *workload && one.reason == reason);
            format!("{:.1}", count.count() as f64 / days.len() as f64)
        };
        vec![format!("`{workload}`"), of("novel"), of("floor"), of("sigma")]
    });
    table(&["workload", "novel a day", "floor rules a day", "Sigma alone a day"], &rows.collect::<Vec<_>>())
}

/// Findings that are alike together, most first.
pub(super) fn remaining(findings: &[&Finding]) -> String {
    let mut groups: BTreeMap<[&str; 4], Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        let key = [&finding.workload, &finding.subject, &finding.action, &finding.rule].map(String::as_str);
        groups.entry(key).or_default().push(finding);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, alike)| std::cmp::Reverse(alike.len()));
    let rows = groups.iter().take(LISTED_MAX).map(|([workload, subject, action, rule], alike)| {
        let first = alike[0];
        let cause = match *rule {
            "novel" if first.nearest.is_empty() => "nothing like it was learned".to_owned(),
            "novel" => format!("learned was `{}`", first.nearest),
            rule if first.reason == "sigma" => format!("Sigma rule `{rule}`"),
            rule => format!("floor rule `{rule}`"),
        };
        let example = format!("{action} `{}`", first.object);
        vec![alike.len().to_string(), format!("`{workload}`"), format!("`{subject}`"), example, cause]
    });
    let header = ["findings", "workload", "subject", "for example", "cause, of the example"];
    let mut text = table(&header, &rows.collect::<Vec<_>>());
    let left_out: usize = groups.iter().skip(LISTED_MAX).map(|(_, alike)| alike.len()).sum();
    if left_out > 0 {
        writeln!(text, "\n{left_out} more findings in smaller groups.")
            .expect("writing to memory does not fail");
    }
    text
}

const BENIGN: &str = "## Ordinary days

One host, day after day, each with a seed of its own: the same schedule, other names, counts, order, sizes and contents. A *false
finding* is a behaviour that raises one on a day, however often. Every workload is armed with what was learned, but for actions that
have not settled, which the last table names: a candidate leaves them to be learned. Nobody approves anything here; what a review changes stands
below. Time is compressed: a day's hours follow each other at once.

";

#[cfg(test)]
mod tests {
    use super::remaining;
    use crate::evaluate::sensor::Finding;

    #[test]
    fn alike_findings_stand_together() {
        let finding = |action: &str, object: &str, rule: &str| Finding {
            workload: "w".to_owned(),
            subject: "s".to_owned(),
            action: action.to_owned(),
            rule: rule.to_owned(),
            object: object.to_owned(),
            ..Finding::default()
        };
        let findings = [
            finding("write", "/a/x", "novel"),
            finding("delete", "/b/z", "cron"),
            finding("write", "/a/y", "novel"),
        ];
        let text = remaining(&findings.iter().collect::<Vec<_>>());
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| 2 | `w` | `s` | write `/a/x` | nothing like it was learned |",
                "| 1 | `w` | `s` | delete `/b/z` | floor rule `cron` |",
            ]
        );
    }
}
