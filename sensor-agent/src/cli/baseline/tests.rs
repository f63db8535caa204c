//! The subcommands on recordings made of fixtures. Not their words on the command line. It may call everything public of
//! the parent module.

use super::super::live::Wish;
use super::super::replay::Replay;
use super::BaselineCommand;
use super::backtest::{self, Change};
use crate::enrich::process_table::Scope;
use crate::enrich::seed::Seed;
use crate::layer_files::read_baseline;
use crate::record_fixture::Who;
use crate::recording::{RecordingWriter, Start};
use clap::Parser;
use sensor_baseline::{Baseline, Disposition, Floor, Layers};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A command line without the `sensor-agent` before it.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: BaselineCommand,
}

const NGINX_ONLY: &str =
    "fleet: web\nworkloads:\n  unit:web.service:\n    /usr/sbin/nginx: {listen: [tcp 80]}\n";

/// nginx, which was there before, serves, and then is made to run a shell that writes where jobs are.
fn attack(folder: &Path) -> PathBuf {
    let (nginx, shell) = (Who::new(10, 1), Who::new(20, 10));
    recording(
        folder,
        "attack.rec",
        &[
            nginx.found("/usr/sbin/nginx"),
            nginx.listen(80),
            nginx.fork(shell),
            shell.exec("/usr/bin/dash", &["sh"]),
            shell.connect(1, 4444),
            shell.connect(2, 4444),
        ],
    )
}

fn recording(folder: &Path, name: &str, records: &[Vec<u8>]) -> PathBuf {
    let start = Start {
        hostname: "web-1".to_owned(),
        kernel_release: "6.18".to_owned(),
        boot_to_unix_offset_ns: 0,
        own: None,
        seed: Seed::default(),
    };
    let path = folder.join(name);
    let mut writer = RecordingWriter::new(fs::File::create(&path).unwrap(), &start).unwrap();
    records.iter().for_each(|record| writer.record(record).unwrap());
    writer.finish(BTreeMap::new()).unwrap();
    path
}

fn write(folder: &Path, name: &str, yaml: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, yaml).unwrap();
    path
}

/// Runs a command line; words are split at `|`.
fn run(line: &str) -> anyhow::Result<ExitCode> {
    let words = std::iter::once("baseline").chain(line.split('|'));
    super::run(&Line::try_parse_from(words).expect("the line is one of the command").command)
}

fn text(told: &[backtest::Told]) -> Vec<String> {
    told.iter().map(|told| told.line().trim().to_owned()).collect()
}

#[test]
fn a_backtest_tells_what_a_candidate_would_raise_and_silence() {
    let folder = tempfile::tempdir().unwrap();
    let attack = attack(folder.path());
    let read = |yaml: &str| Layers::from(read_baseline(&write(folder.path(), "b.yaml", yaml)).unwrap());
    let (nothing, narrow) = (read("fleet: web\nworkloads: {}\n"), read(NGINX_ONLY));
    let wide = read(&NGINX_ONLY.replace("listen", "exec: [/usr/bin/dash], listen"));
    let recordings = [attack];
    let shell = "[low] unit:web.service /usr/sbin/nginx exec /usr/bin/dash (novel, once)";
    let connect = "unit:web.service /usr/sbin/nginx connect tcp 127.0.0.1 4444 (shell-connect, 2 times)";

    let change = Change::between(&nothing, &narrow, Floor::built_in(), &recordings).unwrap();
    assert_eq!((text(&change.raised), text(&change.silenced)), (vec![shell.to_owned()], Vec::new()));
    assert_eq!(change.kept_count, 1, "a floor rule needs no baseline");
    let change = Change::between(&narrow, &wide, Floor::built_in(), &recordings).unwrap();
    assert_eq!((text(&change.raised), text(&change.silenced)), (Vec::new(), vec![shell.to_owned()]));
    // A shell lends its acts to who started it.
    let silent = read(&NGINX_ONLY.replace("listen", "connect: [tcp 127.0.0.1 4444], listen"));
    let change = Change::between(&narrow, &silent, Floor::built_in(), &recordings).unwrap();
    assert_eq!(text(&change.silenced).len(), 1);
    assert!(text(&change.silenced)[0].ends_with(connect), "{:?}", change.silenced);
}

#[test]
fn a_backtest_ends_with_2_when_more_would_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let attack = attack(folder.path());
    let narrow = write(folder.path(), "narrow.yaml", NGINX_ONLY);
    let wide =
        write(folder.path(), "wide.yaml", &NGINX_ONLY.replace("listen", "exec: [/usr/bin/dash], listen"));
    let [attack, narrow, wide] = [attack, narrow, wide].map(|path| path.display().to_string());
    assert_eq!(run(&format!("backtest|{narrow}|{attack}")).unwrap(), ExitCode::from(2));
    assert_eq!(
        run(&format!("backtest|{narrow}|{attack}|--current|{wide}|--json")).unwrap(),
        ExitCode::from(2)
    );
    assert_eq!(run(&format!("backtest|{wide}|{attack}|--current|{narrow}")).unwrap(), ExitCode::SUCCESS);
}

#[test]
fn an_edit_that_hides_an_attack_is_refused_with_its_finding_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let attack = attack(folder.path()).display().to_string();
    let path = write(folder.path(), "b.yaml", NGINX_ONLY);
    let file = path.display().to_string();
    let allow = "--allow|unit:web.service|/usr/sbin/nginx|exec|/usr/bin/dash";
    let refused = run(&format!("edit|{file}|{allow}|--attack|{attack}")).unwrap_err().to_string();
    assert!(refused.contains("would silence 1 findings"), "{refused}");
    assert!(refused.contains("unit:web.service /usr/sbin/nginx exec /usr/bin/dash"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), NGINX_ONLY, "nothing is written");
    let harmless = "--allow|unit:web.service|/usr/sbin/nginx|write|/var/log/nginx/*.log";
    assert_eq!(run(&format!("edit|{file}|{harmless}|--attack|{attack}")).unwrap(), ExitCode::SUCCESS);
    assert_eq!(run(&format!("edit|{file}|{allow}|--attack|{attack}|--force")).unwrap(), ExitCode::SUCCESS);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("/usr/bin/dash") && text.contains("/var/log/nginx/*.log"), "{text}");
}

#[test]
fn denying_an_attack_hides_nothing_and_arming_does_not_excuse() {
    let folder = tempfile::tempdir().unwrap();
    let attack = attack(folder.path()).display().to_string();
    let path = write(folder.path(), "b.yaml", NGINX_ONLY);
    let shell = "unit:web.service|/usr/sbin/nginx|exec|/usr/bin/dash";
    run(&format!("edit|{}|--deny|{shell}|--attack|{attack}", path.display())).unwrap();
    let nothing = write(folder.path(), "n.yaml", "fleet: web\nworkloads: {}\n");
    let line = format!("edit|{}|--arm|unit:web.service|--allow|{shell}|--attack|{attack}", nothing.display());
    let refused = run(&line).unwrap_err().to_string();
    assert!(refused.contains("exec /usr/bin/dash"), "{refused}");
}

#[test]
fn edits_change_what_an_entry_says_and_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "b.yaml", NGINX_ONLY);
    let edited = |words: &str| run(&format!("edit|{}|{words}", path.display()));
    let entry = "unit:web.service|/usr/sbin/nginx|listen|tcp 80";
    let dispositions =
        [("--deny", Disposition::Deny), ("--retire", Disposition::Retired), ("--allow", Disposition::Allow)];
    for (option, expected) in dispositions {
        edited(&format!("{option}|{entry}")).unwrap();
        let entries: Vec<_> =
            read_baseline(&path).unwrap().entries().map(|entry| entry.disposition).collect();
        assert_eq!(entries, [expected], "{option}");
    }
    let check = |words: &str, expected: &str| {
        let error = format!("{:#}", edited(words).unwrap_err());
        assert!(error.contains(expected), "{words}: {error}");
    };
    check(&format!("--allow|{entry}"), "says so already");
    check(
        "--remove|unit:web.service|/usr/sbin/nginx|listen|tcp 81",
        "not in the baseline: unit:web.service /usr/sbin/nginx listen tcp 81",
    );
    check("--allow|unit:db.service|/x|exec|/y", "--arm unit:db.service");
    check("--allow|unit:web.service|/x|run|/y", "action \"run\": not one of exec, connect");
    check("--allow|unit:web.service|/x|exec|y", "found \"y\"");
    check("--arm|web.service", "expected a workload");
    edited("--arm|unit:db.service|--allow|unit:db.service|/x|exec|/y").unwrap();
    edited(&format!("--remove|{entry}")).unwrap();
    assert_eq!(read_baseline(&path).unwrap().entry_count(), 1);
}

#[test]
fn merging_names_fleets_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let one = write(folder.path(), "one.yaml", NGINX_ONLY);
    let two =
        write(folder.path(), "two.yaml", &NGINX_ONLY.replace("web\n", "db\n").replace("tcp 80", "tcp 81"));
    let out = folder.path().join("both.yaml");
    let [one, two] = [one, two].map(|path| path.display().to_string());
    let error = run(&format!("merge|{one}|{two}")).unwrap_err().to_string();
    assert!(error.contains("two.yaml of \"db\": say whose the result is with --fleet"), "{error}");
    run(&format!("merge|{one}|{two}|--fleet|all|-o|{}", out.display())).unwrap();
    let both = read_baseline(&out).unwrap();
    assert_eq!((both.fleet.as_str(), both.entry_count()), ("all", 2));
    assert_eq!(run(&format!("diff|{one}|{}", out.display())).unwrap(), ExitCode::from(2));
    assert_eq!(run(&format!("diff|{one}|{one}")).unwrap(), ExitCode::SUCCESS);
    let ports = NGINX_ONLY.replace("tcp 80", "tcp 40001, tcp 40002, tcp 40003");
    let ports = write(folder.path(), "ports.yaml", &ports);
    let retired = NGINX_ONLY.replace("listen: [tcp 80]", "retired: {listen: [tcp ephemeral]}");
    let retired = write(folder.path(), "retired.yaml", &retired);
    run(&format!("merge|{}|{}|-o|{}", ports.display(), retired.display(), out.display())).unwrap();
    assert_eq!(read_baseline(&out).unwrap().entry_count(), 4);
}

#[test]
fn lint_and_explain_end_with_2_when_there_is_something() {
    let folder = tempfile::tempdir().unwrap();
    let clean = write(folder.path(), "clean.yaml", NGINX_ONLY).display().to_string();
    let odd = write(folder.path(), "odd.yaml", &NGINX_ONLY.replace("listen", "exec: [/usr/bin/*], listen"));
    assert_eq!(run(&format!("lint|{clean}")).unwrap(), ExitCode::SUCCESS);
    assert_eq!(run(&format!("lint|{clean}|{}", odd.display())).unwrap(), ExitCode::from(2));
    let explained = |rest: &str| run(&format!("explain|{clean}|unit:web.service|/usr/sbin/nginx|{rest}"));
    assert_eq!(explained("listen|tcp 0.0.0.0 80").unwrap(), ExitCode::SUCCESS);
    assert_eq!(explained("exec|/bin/sh").unwrap(), ExitCode::from(2));
    let wrong = format!("{:#}", explained("connect|tcp 80").unwrap_err());
    assert!(wrong.contains("object of connect: expected"), "{wrong}");
}

const SITE: &str = r#"
[[rule]]
id = "local-peer"
title = "connection to a peer that is not ours"
severity = "medium"
yields_to_allow = true
fires_on = [{ does = "connect tcp 127.0.0.1 4444" }]
quiet_on = [{ does = "connect tcp 127.0.0.1 443" }]
[[rule.when]]
actions = ["connect"]
ports = ["4444"]

[[silence]]
rule = "shell-connect"
workload = "unit:web.service"
object = "tcp 127.0.0.0/8 4444"
owner = "web team"
reason = "the shell of the health check"
expires = EXPIRES
"#;

#[test]
fn rules_and_silences_of_a_file_are_tried_on_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let attack = attack(folder.path());
    let narrow = read_baseline(&write(folder.path(), "b.yaml", NGINX_ONLY)).unwrap();
    // Recordings of fixtures are of 1970.
    let site = write(folder.path(), "site.toml", &SITE.replace("EXPIRES", "1970-01-02"));
    let floor = crate::floor_files::load(std::slice::from_ref(&site)).unwrap();
    let nothing = Layers::from(Baseline::empty("web"));
    let change = Change::between(&nothing, &narrow.into(), &floor, std::slice::from_ref(&attack)).unwrap();
    assert_eq!(change.kept_count, 1, "the file's rule, behind the silenced one");
    let mut rules = Vec::new();
    let wish = Wish { baseline: Some(nothing), ..Wish::new(floor, Scope::Host) };
    let mut attacks = Replay::open(&attack, wish).unwrap();
    attacks
        .run(|output| {
            rules.extend(output.findings.drain(..).map(|finding| finding.reason.rule_id().to_owned()));
            Ok(())
        })
        .unwrap();
    assert_eq!(rules, ["local-peer"]);
    let (site, attack) = (site.display(), attack.display());
    let baseline = folder.path().join("b.yaml").display().to_string();
    let line = format!("backtest|{baseline}|{attack}|--current|{baseline}|--floor|{site}");
    assert_eq!(run(&line).unwrap(), ExitCode::SUCCESS);
    let explained =
        run(&format!("explain|{baseline}|unit:db.service|/x|connect|tcp 10.0.0.1 4444|--floor|{site}"));
    assert_eq!(explained.unwrap(), ExitCode::from(2), "the file's rule fires where nothing is armed");
    let explained = run(&format!("explain|{baseline}|unit:db.service|/x|connect|tcp 10.0.0.1 4444"));
    assert_eq!(explained.unwrap(), ExitCode::SUCCESS);
}

#[test]
fn what_a_rule_fired_on_in_one_recording_is_withheld_though_another_has_it_without() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Who::new(10, 1);
    let own = [nginx.found("/usr/sbin/nginx"), nginx.listen(80), nginx.connect(1, 4444)];
    let (attack, own) = (attack(folder.path()), recording(folder.path(), "own.rec", &own));
    let out = folder.path().join("learned.yaml");
    for recordings in [[&attack, &own], [&own, &attack]] {
        let [first, second] = recordings.map(|path| path.display());
        run(&format!("learn|{first}|{second}|-o|{}", out.display())).unwrap();
        let text = fs::read_to_string(&out).unwrap();
        assert!(
            text.contains(
                "retired:\n        connect:\n          - tcp 127.0.0.1 4444 # withheld: shell-connect\n"
            ),
            "{text}"
        );
        let learned = Layers::from(read_baseline(&out).unwrap());
        let nothing = Layers::from(Baseline::empty("web"));
        let change =
            Change::between(&nothing, &learned, Floor::built_in(), std::slice::from_ref(&attack)).unwrap();
        assert_eq!((change.kept_count, change.silenced.len()), (1, 0), "the attack is found as before");
    }
    let alone = format!("learn|{}|-o|{}", folder.path().join("own.rec").display(), out.display());
    run(&alone).unwrap();
    assert!(!fs::read_to_string(&out).unwrap().contains("retired"));
}

#[test]
fn layers_are_judged_explained_and_linted_together() {
    let folder = tempfile::tempdir().unwrap();
    let attack = attack(folder.path());
    let path = |name: &str, rules: &str| {
        let text = format!("fleet: web\nworkloads:\n  unit:web.service:\n    /usr/sbin/nginx: {{{rules}}}\n");
        write(folder.path(), name, &text).display().to_string()
    };
    let (fleet, host) = (path("fleet.yaml", "listen: [tcp 80]"), path("host.yaml", "exec: [/usr/bin/dash]"));
    let vendor = path("vendor.yaml", "deny: {exec: [/usr/bin/*]}");
    let explain = |more: &str| {
        run(&format!("explain|fleet={fleet}|unit:web.service|/usr/sbin/nginx|exec|/usr/bin/dash{more}"))
            .unwrap()
    };
    assert_eq!(explain(""), ExitCode::from(2));
    assert_eq!(explain(&format!("|--above|host={host}")), ExitCode::SUCCESS);
    assert_eq!(explain(&format!("|--above|host={host}|--below|vendor={vendor}")), ExitCode::from(2));
    let attack = attack.display();
    let backtest = |more: &str| run(&format!("backtest|{fleet}|{attack}{more}")).unwrap();
    assert_eq!(backtest(""), ExitCode::from(2), "the shell is novel");
    assert_eq!(backtest(&format!("|--above|{host}")), ExitCode::SUCCESS);
    assert_eq!(run(&format!("lint|{vendor}|{host}")).unwrap(), ExitCode::SUCCESS);
    assert_eq!(run(&format!("lint|--layers|{vendor}|{host}")).unwrap(), ExitCode::from(2));
    let twice = run(&format!("lint|--layers|{host}|{host}")).unwrap_err().to_string();
    assert!(twice.ends_with("is given twice"), "{twice}");
}

#[test]
fn lint_floor_ends_with_2_for_what_does_nothing_and_refuses_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let lint = |text: &str| run(&format!("lint-floor|{}", write(folder.path(), "site.toml", text).display()));
    assert_eq!(lint(&SITE.replace("EXPIRES", "2500-01-01")).unwrap(), ExitCode::SUCCESS);
    assert_eq!(lint(&SITE.replace("EXPIRES", "2026-01-01")).unwrap(), ExitCode::from(2));
    let hidden = SITE.replace("EXPIRES", "2500-01-01").replace(
        "does = \"connect tcp 127.0.0.1 4444\"",
        "does = \"connect tcp 127.0.0.1 4444\", traits = [\"shell\"]",
    );
    assert_eq!(lint(&hidden).unwrap(), ExitCode::from(2), "its example is reported under shell-connect");
    let refused = lint(&SITE.replace("EXPIRES", "2500-01-01").replace("local-peer", "cron"));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.ends_with("site.toml: rule cron: the id is taken, in built-in floor.toml"), "{refused}");
    let missing = format!("{:#}", run("lint-floor|/nowhere/site.toml").unwrap_err());
    assert!(missing.starts_with("cannot read /nowhere/site.toml: No such file"), "{missing}");
}

#[test]
fn silences_of_what_rules_found_twice_are_proposed_and_silence_it() {
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again");
    fs::create_dir(&again).unwrap();
    let (one, two) = (attack(folder.path()), attack(&again));
    let output = folder.path().join("silences.toml");
    let line = |more: &str| {
        let (one, two, output) = (one.display(), two.display(), output.display());
        format!("silences|{one}|{two}|--owner|ops|--reason|the tests|-o|{output}{more}")
    };
    assert_eq!(run(&line("|--expires|2500-01-01")).unwrap(), ExitCode::SUCCESS);
    let text = fs::read_to_string(&output).unwrap();
    let expected = "high: 4 times in 2 of 2 recordings\n# for example: connect tcp 127.0.0.1 4444\n[[silence]]\n\
                    rule = \"shell-connect\"\nworkload = \"unit:web.service\"\nsubject = \"/usr/sbin/nginx\"\n\
                    object = \"tcp 127.0.0.1 4444\"\nowner = \"ops\"\nreason = \"the tests\"\nexpires = 2500-01-01\n";
    assert!(text.ends_with(expected), "{text}");
    assert_eq!(text.matches("[[silence]]").count(), 1);
    assert_eq!(run(&format!("lint-floor|{}", output.display())).unwrap(), ExitCode::SUCCESS);
    run(&line("|--expires|2500-01-01")).unwrap();
    assert_eq!(fs::read_to_string(&output).unwrap(), text, "the same of the same");
    let findings = |floor: std::sync::Arc<Floor>| {
        let baseline = read_baseline(&write(folder.path(), "b.yaml", NGINX_ONLY)).unwrap();
        let wish = Wish { baseline: Some(baseline.into()), ..Wish::new(floor, Scope::Host) };
        let mut found = Vec::new();
        let mut replay = Replay::open(&one, wish).unwrap();
        replay
            .run(|output| {
                found.extend(output.findings.drain(..).map(|finding| finding.reason.rule_id().to_owned()));
                Ok(())
            })
            .unwrap();
        found
    };
    assert_eq!(findings(Floor::built_in().clone()), ["novel", "shell-connect"]);
    assert_eq!(
        findings(crate::floor_files::load(std::slice::from_ref(&output)).unwrap()),
        ["novel"],
        "the shell itself"
    );
    for (more, expected) in [
        ("|--expires|soon", "--expires: the silences to propose:8:11: invalid type: string \"soon\""),
        ("|--expires|2500-01-01|--recordings-min|3", "--recordings-min 3: there are 2 recordings"),
        (
            "|--expires|2500-01-01|--workload|unit:other.service",
            "--workload unit:other.service: in no recording",
        ),
    ] {
        let refused = format!("{:#}", run(&line(more)).unwrap_err());
        assert!(refused.contains(expected), "{more}: {refused}");
    }
}
