//! Findings of a gate as files that CI systems read: JUnit XML and SARIF 2.1.0. Not what is printed (see `finding_text`).
//! It may call `finding_text`, `finding` and the baseline crate's types.

use super::finding_text;
use super::learn::write_whole;
use crate::finding::{Finding, Reason};
use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use sensor_baseline::Severity;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct ReportArguments {
    /// Also write the findings as JUnit XML: each is a failed test.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also write the findings as SARIF 2.1.0.
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
}

/// What a gate has to tell.
pub(super) struct Told<'a> {
    /// Each finding once, with how often its behaviour was seen.
    pub(super) findings: Vec<(&'a Finding, u64)>,
    /// Findings beyond those.
    pub(super) dropped_count: u64,
    /// What kept the gate from seeing everything.
    pub(super) trouble: Option<&'static str>,
    /// Workloads that the baseline does not list, in one text.
    pub(super) unlisted: Option<String>,
    /// What was judged by.
    pub(super) baseline: &'a Path,
}

impl Told<'_> {
    /// Why the findings may not be all.
    fn troubles(&self) -> Vec<String> {
        let dropped = (self.dropped_count > 0)
            .then(|| format!("{} more findings are not in this report", self.dropped_count));
        let unlisted = self.unlisted.as_ref().map(|names| format!("the baseline does not list {names}"));
        self.trouble.map(str::to_owned).into_iter().chain(dropped).chain(unlisted).collect()
    }
}

impl ReportArguments {
    /// Writes the files that were asked for.
    pub(super) fn write(&self, told: &Told<'_>) -> anyhow::Result<()> {
        let unwritable = |path: &Path| format!("cannot write {}", path.display());
        if let Some(path) = &self.junit {
            let text = junit(told).to_string().context("cannot make a JUnit report")?;
            write_whole(path, &text).with_context(|| unwritable(path))?;
        }
        if let Some(path) = &self.sarif {
            let text =
                serde_json::to_string_pretty(&sarif(told)).expect("strings, numbers and lists are JSON");
            write_whole(path, &(text + "\n")).with_context(|| unwritable(path))?;
        }
        Ok(())
    }
}

/// A suite whose tests are the findings, and one that says whether everything was seen.
fn junit(told: &Told<'_>) -> Report {
    let mut suite = TestSuite::new("behaviour");
    for (finding, count) in &told.findings {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_type(finding.rule_id())
            .set_message(format!("[{}] {}", finding.severity.name(), finding.explanation.summary))
            .set_description(finding_text::block(finding, *count));
        let name = format!("{} ({})", finding.behaviour, finding.rule_id());
        let mut case = TestCase::new(name, status);
        case.set_classname(&*finding.behaviour.workload.0);
        suite.add_test_case(case);
    }
    let troubles = told.troubles();
    let status = if troubles.is_empty() {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(troubles.join("; "));
        status
    };
    suite.add_test_case(TestCase::new("everything was seen and judged", status));
    let mut report = Report::new("sensor-agent");
    report.add_test_suite(suite);
    report
}

fn sarif(told: &Told<'_>) -> Value {
    let rules: BTreeMap<&str, Value> =
        told.findings.iter().map(|(finding, _)| (finding.rule_id(), sarif_rule(finding))).collect();
    let results: Vec<Value> =
        told.findings.iter().map(|(finding, count)| sarif_result(finding, *count, told)).collect();
    let note = |text: String| json!({ "level": "error", "message": { "text": text } });
    let notes: Vec<Value> = told.troubles().into_iter().map(note).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "sensor-agent",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.into_values().collect::<Vec<_>>(),
            } },
            "invocations": [{
                "executionSuccessful": notes.is_empty(),
                "toolExecutionNotifications": notes,
            }],
            "results": results,
        }],
    })
}

fn sarif_rule(finding: &Finding) -> Value {
    let (text, tags): (&str, Vec<String>) = match &finding.reason {
        Reason::Novel => ("behaviour that the baseline does not allow", Vec::new()),
        Reason::Denied => ("behaviour that the baseline denies by name", Vec::new()),
        Reason::Sigma => match finding.rules.first() {
            Some(rule) => (&rule.title, rule.techniques.iter().map(|id| format!("attack/{id}")).collect()),
            None => ("a Sigma rule", Vec::new()),
        },
        Reason::Floor(rule) => {
            let tag = |id| format!("attack-{}/{id}", rule.attack_version);
            (&rule.title, rule.technique_ids().map(tag).collect())
        }
    };
    json!({
        "id": finding.rule_id(),
        "shortDescription": { "text": text },
        "properties": { "tags": tags },
    })
}

/// The place is the baseline: that is what a person would edit.
fn sarif_result(finding: &Finding, count: u64, told: &Told<'_>) -> Value {
    let behaviour = finding.behaviour.to_string();
    json!({
        "ruleId": finding.rule_id(),
        "level": sarif_level(finding.severity),
        "message": { "text": finding.explanation.summary },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(told.baseline) },
                "region": { "startLine": 1 },
            },
            "logicalLocations": [{ "fullyQualifiedName": behaviour }],
        }],
        // GitHub tells alerts apart by this name of it, and by the line, which is the same for all, where it is missing.
        "partialFingerprints": { "primaryLocationLineHash": fingerprint(finding.rule_id(), &behaviour) },
        "occurrenceCount": count,
        "properties": {
            "severity": finding.severity.name(),
            "nearest": finding.explanation.nearest,
            "edit": finding.explanation.edit,
            "sigma": finding.rules.iter().map(|rule| &*rule.id).collect::<Vec<_>>(),
        },
    })
}

const fn sarif_level(severity: Severity) -> &'static str {
    match severity {
        Severity::Informational | Severity::Low => "note",
        Severity::Medium => "warning",
        Severity::High | Severity::Critical => "error",
    }
}

/// Tells findings apart from one run to the next.
fn fingerprint(rule: &str, behaviour: &str) -> String {
    Sha256::digest(format!("{rule} {behaviour}"))
        .iter()
        .take(FINGERPRINT_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A path as a relative URI reference, or with the scheme of files.
fn uri(path: &Path) -> String {
    let mut uri = if path.is_absolute() { "file://".to_owned() } else { String::new() };
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) => uri.push(char::from(*byte)),
            byte => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

const FINGERPRINT_BYTES: usize = 16;

#[cfg(test)]
mod tests;
