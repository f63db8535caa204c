//! Reports of a pipeline's own findings, read back. Not a schema check. It may call the parent module and the pipeline.

use super::{ReportArguments, Told, junit, sarif};
use crate::finding::{Finding, Reason};
use crate::pipeline::{Output, Pipeline, PipelineConfig};
use crate::record_fixture::Who;
use crate::sigma::Rule;
use quick_junit::Report;
use sensor_baseline::{Baseline, Severity};
use sensor_event::{ExecFlags, PathFlags};
use std::path::Path;
use std::sync::Arc;

/// A shell that nginx never ran, with an argument that XML cannot hold, and a program without a file.
fn findings() -> Vec<Finding> {
    let baseline = Baseline::parse("fleet: f\nworkloads:\n  unit:web.service: {}\n").unwrap();
    let mut pipeline =
        Pipeline::new(PipelineConfig { baseline: Some(baseline.into()), ..PipelineConfig::default() });
    let (nginx, shell, other) = (Who::new(10, 1), Who::new(20, 10), Who::new(21, 10));
    let mut output = Output::default();
    for record in [
        nginx.found("/usr/sbin/nginx"),
        nginx.fork(shell),
        shell.exec("/usr/bin/dash", &["sh", "-c", "a<b & \u{1} ]]>"]),
        nginx.fork(other),
        other.exec_with("/memfd:x", &["x"], ExecFlags::MEMFD, PathFlags::NO_NAMESPACE, ""),
    ] {
        pipeline.handle(&record, &mut output);
    }
    assert_eq!(output.findings.len(), 2);
    output.findings
}

fn told(findings: &[Finding]) -> Told<'_> {
    Told {
        findings: findings.iter().map(|finding| (finding, 3)).collect(),
        dropped_count: 0,
        trouble: None,
        unlisted: None,
        baseline: Path::new("ci/baseline.yaml"),
    }
}

#[test]
fn junit_has_a_failed_test_for_each_finding() {
    let findings = findings();
    let read = |told: &Told<'_>| Report::deserialize_from_str(&junit(told).to_string().unwrap()).unwrap();
    let report = read(&told(&findings));
    assert_eq!((report.tests, report.failures, report.errors), (3, 2, 0));
    let case = &report.test_suites[0].test_cases[0];
    assert_eq!(case.name.as_str(), "unit:web.service /usr/sbin/nginx exec /usr/bin/dash (novel)");
    assert_eq!(case.classname.as_ref().unwrap().as_str(), "unit:web.service");
    let quiet = read(&told(&[]));
    assert_eq!((quiet.tests, quiet.failures, quiet.errors), (1, 0, 0));
    let blind = read(&Told { trouble: Some("records were lost"), ..told(&[]) });
    assert_eq!((blind.tests, blind.failures, blind.errors), (1, 0, 1));
    let unlisted = read(&Told { unlisted: Some("unit:db.service".to_owned()), ..told(&[]) });
    assert_eq!(unlisted.errors, 1);
}

#[test]
fn sarif_names_rule_level_place_and_edit() {
    let findings = findings();
    let log = sarif(&told(&findings));
    let run = &log["runs"][0];
    assert_eq!((log["version"].as_str(), run["results"].as_array().unwrap().len()), (Some("2.1.0"), 2));
    let levels: Vec<_> =
        (0..2).map(|n| (&run["results"][n]["ruleId"], &run["results"][n]["level"])).collect();
    assert_eq!(
        format!("{levels:?}"),
        r#"[(String("novel"), String("note")), (String("fileless-exec"), String("error"))]"#
    );
    let place = &run["results"][0]["locations"][0];
    let odd = sarif(&Told { baseline: Path::new("my base%line.yaml"), ..told(&findings) });
    let odd = &odd["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(odd, "my%20base%25line.yaml");
    assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "ci/baseline.yaml");
    assert!(run["results"][0]["properties"]["edit"].as_str().unwrap().contains("/usr/bin/dash"));
    assert_eq!(run["results"][0]["occurrenceCount"], 3);
    assert_eq!(run["tool"]["driver"]["rules"][0]["properties"]["tags"][0], "attack-19.1/T1620");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let cut = sarif(&Told { dropped_count: 7, ..told(&findings) });
    let note = &cut["runs"][0]["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
    assert!(note.as_str().unwrap().starts_with("7 more findings"), "{note}");
}

#[test]
fn a_finding_of_a_sigma_rule_is_called_by_the_rules_id() {
    let mut findings = findings();
    findings.truncate(1);
    findings[0].reason = Reason::Sigma;
    findings[0].rules = vec![Arc::new(Rule {
        id: "r-1".into(),
        title: "A rule".to_owned(),
        level: Severity::High,
        techniques: vec!["T1105".to_owned()],
    })];
    let log = sarif(&told(&findings));
    let run = &log["runs"][0];
    assert_eq!(run["results"][0]["ruleId"], "r-1");
    assert_eq!(run["results"][0]["properties"]["sigma"][0], "r-1");
    let rule = &run["tool"]["driver"]["rules"][0];
    assert_eq!((&rule["id"], &rule["shortDescription"]["text"]), (&"r-1".into(), &"A rule".into()));
    assert_eq!(rule["properties"]["tags"][0], "attack/T1105");
    let report = Report::deserialize_from_str(&junit(&told(&findings)).to_string().unwrap()).unwrap();
    let name = report.test_suites[0].test_cases[0].name.as_str();
    assert_eq!(name, "unit:web.service /usr/sbin/nginx exec /usr/bin/dash (r-1)");
}

#[test]
fn a_report_that_cannot_be_written_is_named() {
    let arguments = ReportArguments { junit: Some("/nowhere/report.xml".into()), sarif: None };
    let error = format!("{:#}", arguments.write(&told(&[])).unwrap_err());
    assert!(error.starts_with("cannot write /nowhere/report.xml: No such file"), "{error}");
}
