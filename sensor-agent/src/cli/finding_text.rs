//! A finding as a block for people and as a JSON object. Not its wire form. It may call `finding` and the baseline
//! crate's types. The JSON has the fields of the collector's, and `count`.

use super::finding_who::{self, WhoObject};
use super::watch_text::{joined, time_text};
use crate::event::Arguments;
use crate::finding::{Finding, ProcessFacts, Reason};
use crate::sigma::Rule;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// The JSON object, newline included.
pub(super) fn json_line(finding: &Finding, count: u64, hostname: &str) -> String {
    let object = FindingObject {
        time_unix_ns: finding.time.0,
        severity: finding.severity.name(),
        reason: finding.reason.name(),
        workload: &finding.behaviour.workload.0,
        subject: &finding.behaviour.subject.0,
        action: finding.behaviour.action.name(),
        object: finding.behaviour.object.to_string(),
        process: ProcessObject::from(&finding.process),
        ancestors: finding.ancestors.iter().map(ProcessObject::from).collect(),
        floor_rule: match &finding.reason {
            Reason::Floor(rule) => Some(RuleObject {
                id: &rule.id,
                title: &rule.title,
                techniques: rule.technique_ids().collect(),
                attack_version: &rule.attack_version,
            }),
            Reason::Novel | Reason::Denied | Reason::Sigma => None,
        },
        rules: finding.rules.iter().map(|rule| SigmaRuleObject::from(&**rule)).collect(),
        explanation: ExplanationObject {
            summary: &finding.explanation.summary,
            nearest: &finding.explanation.nearest,
            edit: &finding.explanation.edit,
        },
        tier: finding.tier,
        object_from_caller: finding.object_from_caller,
        baseline_version: finding.baseline_version,
        hostname,
        incident: &finding.incident,
        finding: &finding.name,
        count,
    };
    serde_json::to_string(&object).expect("strings, numbers and lists are JSON") + "\n"
}

/// The block, newline included.
pub(super) fn block(finding: &Finding, count: u64) -> String {
    let mut text = String::new();
    let behaviour = &finding.behaviour;
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let mut line = |name: &str, value: &str| {
        writeln!(text, "  {name:<9} {value}").expect("writing to memory does not fail");
    };
    line("time", &format!("{}, {times}", time_text(finding.time.0)));
    line("process", &process_text(&finding.process));
    for (index, ancestor) in finding.ancestors.iter().enumerate() {
        line(if index == 0 { "parent" } else { "" }, &process_text(ancestor));
    }
    for (name, value) in finding_who::lines(&finding.process) {
        line(name, &value);
    }
    line("finding", &finding.name);
    line("workload", &behaviour.workload.0);
    line("subject", &behaviour.subject.0);
    let caller = if finding.object_from_caller { " (the caller's word)" } else { "" };
    line("object", &format!("{} {}{caller}", behaviour.action, behaviour.object));
    match &finding.reason {
        Reason::Floor(rule) => {
            line("reason", &format!("floor rule {}: {}", rule.id, rule.title));
            let techniques: Vec<_> = rule.technique_ids().collect();
            if !techniques.is_empty() {
                line("ATT&CK", &format!("{} (version {})", techniques.join(", "), rule.attack_version));
            }
        }
        Reason::Novel | Reason::Denied | Reason::Sigma => line("reason", finding.reason.name()),
    }
    for (index, rule) in finding.rules.iter().enumerate() {
        line(if index == 0 { "rule" } else { "" }, &rule_text(rule));
    }
    line("why", &finding.explanation.summary);
    for (index, nearest) in finding.explanation.nearest.iter().enumerate() {
        line(if index == 0 { "nearest" } else { "" }, nearest);
    }
    if !finding.explanation.edit.is_empty() {
        for (index, edit) in finding.explanation.edit.lines().enumerate() {
            line(if index == 0 { "edit" } else { "" }, edit);
        }
    }
    format!("[{}] {behaviour}\n{text}", finding.severity.name())
}

/// What a floor rule kept out of `baseline`, and the lines that would put it there, if any can. Newline included.
pub(super) fn held(finding: &Finding, baseline: &Path) -> String {
    let behaviour = &finding.behaviour;
    let rule = match &finding.reason {
        Reason::Floor(rule) => format!("floor rule {}: {}", rule.id, rule.title),
        Reason::Novel | Reason::Denied | Reason::Sigma => finding.reason.name().to_owned(),
    };
    let edit = &finding.explanation.edit;
    let way_out = if edit.is_empty() {
        "    no entry can allow it".to_owned()
    } else {
        let lines: Vec<_> = edit.lines().map(|line| format!("      {line}")).collect();
        format!("    to allow it, add to {}:\n{}", baseline.display(), lines.join("\n"))
    };
    format!("  {behaviour}\n    {rule}\n{way_out}\n")
}

/// What Sigma rules match, and which. Newline included.
pub(super) fn matched(finding: &Finding) -> String {
    let rules: String = finding.rules.iter().map(|rule| format!("    {}\n", rule_text(rule))).collect();
    format!("  {}\n{rules}", finding.behaviour)
}

fn rule_text(rule: &Rule) -> String {
    let techniques =
        if rule.techniques.is_empty() { String::new() } else { format!(", {}", rule.techniques.join(", ")) };
    format!("{} (Sigma {}, {}{techniques})", rule.title, rule.id, rule.level.name())
}

fn process_text(process: &ProcessFacts) -> String {
    let name = if process.exe.is_empty() { format!("({})", process.comm) } else { process.exe.clone() };
    let arguments =
        if process.argv.is_empty() { String::new() } else { format!(" [{}]", joined(&process.argv)) };
    format!("{} {name} uid={}{arguments}", process.pid, process.uid)
}

#[derive(Serialize)]
struct FindingObject<'a> {
    time_unix_ns: u64,
    severity: &'static str,
    reason: &'static str,
    workload: &'a str,
    subject: &'a str,
    action: &'static str,
    object: String,
    process: ProcessObject<'a>,
    ancestors: Vec<ProcessObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_rule: Option<RuleObject<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<SigmaRuleObject<'a>>,
    explanation: ExplanationObject<'a>,
    tier: &'static str,
    object_from_caller: bool,
    baseline_version: u64,
    hostname: &'a str,
    incident: &'a str,
    finding: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    pid: u32,
    start_time_ns: u64,
    exe: &'a str,
    argv: &'a Arguments,
    cwd: &'a str,
    uid: u32,
    euid: u32,
    comm: &'a str,
    cgroup: &'a str,
    who: WhoObject<'a>,
}

impl<'a> From<&'a ProcessFacts> for ProcessObject<'a> {
    fn from(facts: &'a ProcessFacts) -> Self {
        Self {
            pid: facts.pid,
            start_time_ns: facts.start_time_ns,
            exe: &facts.exe,
            argv: &facts.argv,
            cwd: &facts.cwd,
            uid: facts.uid,
            euid: facts.euid,
            comm: &facts.comm,
            cgroup: &facts.cgroup,
            who: WhoObject::from(facts),
        }
    }
}

#[derive(Serialize)]
struct RuleObject<'a> {
    id: &'a str,
    title: &'a str,
    techniques: Vec<&'a str>,
    attack_version: &'a str,
}

#[derive(Serialize)]
struct SigmaRuleObject<'a> {
    id: &'a str,
    title: &'a str,
    level: &'static str,
    techniques: &'a [String],
}

impl<'a> From<&'a Rule> for SigmaRuleObject<'a> {
    fn from(rule: &'a Rule) -> Self {
        let (id, title, level) = (&*rule.id, rule.title.as_str(), rule.level.name());
        Self { id, title, level, techniques: &rule.techniques }
    }
}

#[derive(Serialize)]
struct ExplanationObject<'a> {
    summary: &'a str,
    nearest: &'a [String],
    edit: &'a str,
}
