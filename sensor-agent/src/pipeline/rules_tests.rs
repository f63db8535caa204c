//! Sigma rules beside a baseline: what is found, how often, and what is learned. Not the rules themselves (`sigma`). It may
//! call the pipeline, and reads rules from a folder of its own.

use super::tests::{behaviours, feed, nginx, with};
use super::*;
use crate::finding::Reason;
use crate::record_fixture::Who;
use crate::sigma::load;
use proptest::prelude::*;
use sensor_baseline::{Baseline, Severity};
use sensor_event::FileFlags;

const O_CREAT_WRONLY: u32 = 0o101;

fn rule(id: &str, level: &str, category: &str, selection: &str) -> String {
    format!(
        "title: Rule {id}\nid: {id}\nlevel: {level}\ntags: [attack.t1059.004]\nlogsource: {{ category: {category} }}\n\
         detection:\n    a:\n        {selection}\n    condition: a\n"
    )
}

fn rules() -> Rules {
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        rule("curl", "high", "process_creation", "CommandLine|contains: curl"),
        rule("pipe", "medium", "process_creation", "CommandLine|endswith: '| sh'"),
        rule("parent", "low", "process_creation", "ParentImage|endswith: /dash\n        Image|endswith: /id"),
        rule("cron", "medium", "file_event", "TargetFilename|startswith: /srv/jobs/"),
        rule("port", "critical", "network_connection", "DestinationPort: 4444\n        Initiated: 'true'"),
    ];
    for (at, text) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{at}.yml")), text).unwrap();
    }
    load(&[folder.path().to_owned()], Severity::Low).unwrap().rules
}

fn pipeline(baseline: Option<&str>) -> Pipeline {
    let baseline = baseline.map(|text| Baseline::parse(text).unwrap().into());
    with(PipelineConfig { baseline, rules: rules().into(), ..PipelineConfig::default() })
}

/// Reason, severity and rules of each finding.
fn told(out: &Output) -> Vec<(&'static str, Severity, Vec<&str>)> {
    let ids = |finding: &'_ Finding| finding.rules.len();
    assert!(out.findings.iter().all(|finding| finding.reason != Reason::Sigma || ids(finding) > 0));
    out.findings
        .iter()
        .map(|finding| {
            (finding.reason.name(), finding.severity, finding.rules.iter().map(|rule| &*rule.id).collect())
        })
        .collect()
}

fn shell(pid: u32, line: &str) -> [Vec<u8>; 2] {
    let shell = Who::new(pid, 10);
    [nginx().fork(shell), shell.exec("/usr/bin/dash", &["sh", "-c", line])]
}

const ALLOWING: &str =
    "fleet: f\nworkloads:\n  unit:web.service:\n    /usr/sbin/nginx:\n      exec: [/usr/bin/dash]\n";
const EMPTY: &str = "fleet: f\nworkloads:\n  unit:web.service: {}\n";

#[test]
fn a_rule_finds_what_a_baseline_allows_and_no_edit_silences_it() {
    let out = feed(&mut pipeline(Some(ALLOWING)), &shell(20, "curl x | sh"));
    assert_eq!(told(&out), [("sigma", Severity::High, vec!["curl", "pipe"])]);
    let finding = &out.findings[0];
    assert_eq!(finding.rule_id(), "curl");
    assert_eq!(
        finding.explanation.summary,
        "/usr/sbin/nginx in unit:web.service executed /usr/bin/dash, which the baseline allows; Sigma: \
         Rule curl (T1059.004); Rule pipe (T1059.004)"
    );
    assert_eq!(finding.explanation.edit, "");
    assert_eq!(out.observations.len(), 1, "what is allowed is not held");
}

#[test]
fn a_finding_of_the_baseline_carries_the_rules_and_the_worse_level() {
    let out = feed(&mut pipeline(Some(EMPTY)), &shell(20, "curl x"));
    assert_eq!(told(&out), [("novel", Severity::High, vec!["curl"])]);
    assert!(!out.findings[0].explanation.edit.is_empty(), "the baseline's own reason can be edited away");
    assert!(out.matches.is_empty(), "it counts as the baseline's");
    let out = feed(&mut pipeline(Some(EMPTY)), &shell(20, "ls"));
    assert_eq!(told(&out), [("novel", Severity::Low, vec![])]);
}

#[test]
fn a_match_of_level_high_is_not_learned_and_a_lower_one_is() {
    let high = feed(&mut pipeline(None), &shell(20, "curl x"));
    assert_eq!((told(&high), behaviours(&high).len()), (vec![("sigma", Severity::High, vec!["curl"])], 0));
    assert!(high.matches[0].is_held);
    let withheld: Vec<_> =
        high.withheld.iter().map(|(one, rule)| (one.behaviour.to_string(), &**rule)).collect();
    assert_eq!(withheld, [("unit:web.service /usr/sbin/nginx exec /usr/bin/dash".to_owned(), "sigma:curl")]);
    let medium = feed(&mut pipeline(None), &shell(20, "x | sh"));
    assert_eq!(told(&medium), [("sigma", Severity::Medium, vec!["pipe"])]);
    assert_eq!(behaviours(&medium), ["unit:web.service /usr/sbin/nginx exec /usr/bin/dash"]);
    assert!(!medium.matches[0].is_held && medium.withheld.is_empty());
}

#[test]
fn a_silenced_rule_is_counted_and_what_it_holds_is_not_learned() {
    let silence = |more: &str| {
        format!(
            "[[silence]]\nrule = \"Rule\"\nworkload = \"unit:web.service\"\nowner = \"web\"\nreason = \"health\"\n\
             expires = 1970-01-02\n{more}"
        )
    };
    let narrow = "subject = \"/usr/sbin/nginx\"\nobject = \"/usr/bin/dash\"\n";
    let check = |baseline: Option<&str>,
                 level: &str,
                 more: &str,
                 line: &str,
                 found: usize,
                 learned: usize| {
        let folder = tempfile::tempdir().unwrap();
        let text = rule("x", level, "process_creation", "CommandLine|contains: curl");
        let text = text.replace("title: Rule x\nid: x", "title: Rule");
        std::fs::write(folder.path().join("a.yml"), text).unwrap();
        let rules = load(&[folder.path().to_owned()], Severity::Low).unwrap().rules;
        let floor = Floor::with_files(&[("site.toml".to_owned(), silence(more))]).unwrap();
        let baseline = baseline.map(|text| Baseline::parse(text).unwrap().into());
        let config =
            PipelineConfig { baseline, floor: floor.into(), rules: rules.into(), ..Default::default() };
        let mut pipeline = with(config);
        let out = feed(&mut pipeline, &shell(20, line));
        assert_eq!((out.findings.len(), behaviours(&out).len()), (found, learned), "{level} {more} {line}");
        pipeline.silenced().get("Rule").copied().unwrap_or(0)
    };
    assert_eq!(check(None, "medium", "", "curl x", 0, 1), 1);
    assert_eq!(check(None, "high", "", "curl x", 0, 0), 1, "still not learned");
    assert_eq!(check(None, "high", "", "ls", 0, 1), 0);
    assert_eq!(check(None, "high", "object = \"/usr/bin/bash\"\n", "curl x", 1, 0), 0);
    assert_eq!(check(Some(ALLOWING), "high", "", "curl x", 0, 1), 1);
    assert_eq!(check(Some(EMPTY), "high", "", "curl x", 1, 1), 1, "the baseline decides");
    assert_eq!(check(Some(EMPTY), "high", narrow, "curl x", 0, 1), 1, "as narrow as an entry");
    assert_eq!(check(Some(EMPTY), "medium", narrow, "curl x", 1, 1), 1, "it could have been learned");
}

#[test]
fn a_rule_finds_what_is_too_little_known_to_be_learned() {
    let mut pipeline = pipeline(None);
    // Nobody told of group 79.
    let out = feed(&mut pipeline, &[Who::new(31, 10).in_cgroup(79).connect(1, 4444)]);
    assert_eq!(told(&out), [("sigma", Severity::Critical, vec!["port"])]);
    assert_eq!((out.observations.len(), out.matches[0].is_held), (0, false));
    let counters = pipeline.counters();
    assert_eq!((counters["observations_of_unknown"], counters["sigma_observations_held"]), (1, 0));
}

#[test]
fn one_rule_finds_one_behaviour_once_and_another_rule_finds_it_again() {
    for baseline in [None, Some(ALLOWING)] {
        let mut pipeline = pipeline(baseline);
        let once = |pipeline: &mut Pipeline, pid, line| {
            let out = feed(pipeline, &shell(pid, line));
            out.findings.iter().filter(|finding| !finding.is_repeat).count()
        };
        assert_eq!(once(&mut pipeline, 20, "curl x"), 1);
        assert_eq!(once(&mut pipeline, 21, "curl y"), 0);
        assert_eq!(once(&mut pipeline, 22, "x | sh"), 1);
        assert_eq!(once(&mut pipeline, 23, "curl x | sh"), 0);
        assert_eq!(pipeline.counters()["findings_repeated"], 2);
        assert_eq!(pipeline.counters()["sigma_matches"], 5);
    }
}

#[test]
fn a_rule_is_not_lost_behind_a_repeated_finding_of_the_baseline() {
    let mut pipeline = pipeline(Some(EMPTY));
    assert_eq!(told(&feed(&mut pipeline, &shell(20, "ls"))), [("novel", Severity::Low, vec![])]);
    let again = feed(&mut pipeline, &shell(21, "curl x"));
    assert_eq!(told(&again), [("novel", Severity::High, vec!["curl"])]);
    assert!(feed(&mut pipeline, &shell(22, "curl x")).findings.is_empty());
}

#[test]
fn rules_see_the_parent_files_and_connections_of_records() {
    let mut pipeline = pipeline(None);
    feed(&mut pipeline, &shell(20, "id"));
    let (dash, id) = (Who::new(20, 10), Who::new(21, 20));
    let out = feed(
        &mut pipeline,
        &[
            dash.fork(id),
            id.exec("/usr/bin/id", &["id"]),
            nginx().open("/srv/jobs/x", O_CREAT_WRONLY, FileFlags::CREATED),
            nginx().open("/srv/other", O_CREAT_WRONLY, FileFlags::CREATED),
            nginx().rename("/srv/a", "/srv/jobs/b", 0),
            nginx().rename("/srv/jobs/c", "/srv/d", 0),
            nginx().connect(1, 4444),
            nginx().connect(2, 443),
        ],
    );
    let rules: Vec<&str> =
        out.findings.iter().flat_map(|finding| &finding.rules).map(|rule| &*rule.id).collect();
    assert_eq!(rules, ["parent", "cron", "cron", "port"]);
}

proptest! {
    /// Whatever is done in whichever order, a replay finds the same.
    #[test]
    fn the_same_records_meet_the_same_rules(lines in prop::collection::vec("(curl|ls)? ?(\\| sh)?", 1..8)) {
        let run = || {
            let mut pipeline = pipeline(Some(ALLOWING));
            let findings: Vec<Finding> = lines
                .iter()
                .zip(20..)
                .flat_map(|(line, pid)| feed(&mut pipeline, &shell(pid, line)).findings)
                .collect();
            findings
        };
        let found = run();
        let matched = lines.iter().any(|line| line.contains("curl") || line.ends_with("| sh"));
        prop_assert_eq!(!found.is_empty(), matched);
        prop_assert_eq!(found, run());
    }
}
