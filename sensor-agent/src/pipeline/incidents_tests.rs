//! What is one incident and one finding, and how often it is told, through the whole pipeline. Not the tables of it. It may
//! call the pipeline's public functions and the record fixture.

use super::tests::{armed, feed, nginx, with};
use super::*;
use crate::record_fixture::Who;
use sensor_baseline::{Action, Severity};
use sensor_event::FileFlags;

/// The incidents of findings, in the order in which they come.
fn incidents(records: &[Vec<u8>]) -> Vec<String> {
    let mut pipeline = with(PipelineConfig { baseline: Some(armed()), ..PipelineConfig::default() });
    feed(&mut pipeline, records).findings.into_iter().map(|finding| finding.incident).collect()
}

#[test]
fn findings_of_one_subtree_are_one_incident() {
    let (worker, shell, tool) = (Who::new(20, 10), Who::new(30, 20), Who::new(31, 30));
    let other = Who::new(21, 10);
    let found = incidents(&[
        nginx().fork(worker),
        nginx().fork(other),
        worker.fork(shell),
        shell.exec("/usr/bin/dash", &["sh"]),
        shell.fork(tool),
        tool.exec("/usr/bin/id", &["id"]),
        shell.open("/srv/x", 0o101, FileFlags::CREATED),
        worker.fork(Who::new(32, 20)),
        Who::new(32, 20).exec("/usr/bin/perl", &["perl"]),
        other.fork(Who::new(33, 21)),
        Who::new(33, 21).exec("/usr/bin/awk", &["awk"]),
        nginx().listen(99),
    ]);
    assert_eq!(found.len(), 6);
    assert!(found[0].starts_with("10-") && found.iter().all(|incident| *incident == found[0]), "{found:?}");
}

#[test]
fn a_tree_whose_middle_has_ended_is_still_one_incident() {
    const SECOND: u64 = 1_000_000_000;
    let (shell, payload, tool) = (Who::new(30, 10), Who::new(40, 30), Who::new(50, 40));
    let found = incidents(&[
        nginx().at(SECOND).fork(shell),
        shell.at(SECOND).exec("/usr/bin/dash", &["sh"]),
        shell.at(2 * SECOND).fork(payload.at(2 * SECOND)),
        shell.at(3 * SECOND).exit(0),
        payload.at(90 * SECOND).exec("/tmp/payload", &["x"]),
        payload.at(91 * SECOND).fork(tool),
        tool.at(92 * SECOND).exec("/usr/bin/id", &["id"]),
    ]);
    assert!(found.len() >= 3 && found.iter().all(|incident| *incident == found[0]), "{found:?}");
}

#[test]
fn an_incident_ends_when_nothing_follows_for_a_while() {
    const MINUTE: u64 = 60_000_000_000;
    let shell = Who::new(20, 10);
    let found = incidents(&[
        nginx().at(MINUTE).fork(shell),
        shell.at(MINUTE).listen(1),
        shell.at(5 * MINUTE).listen(2),
        shell.at(9 * MINUTE).listen(3),
        shell.at(15 * MINUTE).listen(4),
    ]);
    assert_eq!(found.len(), 4);
    assert!(
        found[0] == found[1] && found[1] == found[2],
        "each within five minutes of the one before: {found:?}"
    );
    assert_ne!(found[2], found[3]);
}

/// The number of its finding, what was done, how often, and whether it was told before.
fn evidence(out: &Output) -> Vec<(&str, String, u64, bool)> {
    let told = |finding: &'_ Finding| {
        (format!("{} {}", finding.behaviour.action, finding.behaviour.object), finding.count)
    };
    let findings = out.findings.iter();
    findings
        .map(|finding| {
            let (did, count) = told(finding);
            (finding.name.strip_prefix(&finding.incident).unwrap(), did, count, finding.is_repeat)
        })
        .collect()
}

fn counted(telling: Telling) -> Pipeline {
    with(PipelineConfig { baseline: Some(armed()), telling, ..PipelineConfig::default() })
}

#[test]
fn what_is_done_in_one_way_is_one_finding_and_a_floor_rule_is_one_by_itself() {
    let shell = Who::new(20, 10);
    let out = feed(
        &mut counted(Telling::Counted),
        &[
            nginx().fork(shell),
            shell.exec("/usr/bin/dash", &["sh"]),
            nginx().open("/srv/x", 0o101, FileFlags::CREATED),
            nginx().fork(Who::new(21, 10)),
            Who::new(21, 10).exec("/usr/bin/id", &["id"]),
            nginx().unlink("/srv", "x", 0),
            nginx().open("/etc/ld.so.preload", 0o101, FileFlags::CREATED),
            nginx().listen(99),
        ],
    );
    let told: Vec<_> =
        evidence(&out).into_iter().map(|(number, did, ..)| format!("{number} {did}")).collect();
    assert_eq!(
        told,
        [
            "/1 exec /usr/bin/dash",
            "/2 write /srv/x",
            "/1 exec /usr/bin/id",
            "/2 delete /srv/x",
            "/3 write /etc/ld.so.preload",
            "/4 listen tcp 127.0.0.1 99",
        ]
    );
}

const SECOND: u64 = 1_000_000_000;

/// nginx listens on these ports, each time once a second from this one on.
fn listening(seconds: std::ops::RangeInclusive<u64>, ports: std::ops::Range<u16>) -> Vec<Vec<u8>> {
    let start = nginx().time_ns;
    let at = |second: u64| nginx().at(start + second * SECOND);
    seconds.flat_map(|second| ports.clone().map(move |port| at(second).listen(port))).collect()
}

fn sum(out: &Output) -> u64 {
    out.findings.iter().map(|finding| finding.count).sum()
}

#[test]
fn repetitions_are_told_together_less_and_less_often_and_none_is_lost() {
    let mut pipeline = counted(Telling::Counted);
    let mut out = feed(&mut pipeline, &listening(0..=600, 80..81));
    let told: Vec<_> =
        evidence(&out).into_iter().map(|(number, _, count, repeat)| (number, count, repeat)).collect();
    assert_eq!(told, [("/1", 1, false), ("/1", 59, true), ("/1", 120, true), ("/1", 240, true)]);
    let last = out.findings.last().unwrap().time.0 - out.findings[0].time.0;
    assert_eq!(last, 419 * SECOND, "when it was done last");
    pipeline.tell_repeats(&mut out);
    assert_eq!(sum(&out), 601);
    assert_eq!((pipeline.counters()["findings"], pipeline.counters()["findings_repeated"]), (1, 600));
}

#[test]
fn how_often_it_is_told_is_as_it_was_asked_for() {
    let records: Vec<_> =
        [0, 30, 600, 630].map(|second| nginx().at((60 + second) * SECOND).listen(80)).into();
    for (telling, expected) in
        [(Telling::Always, 4), (Telling::Once, 1), (Telling::PerIncident, 2), (Telling::Counted, 3)]
    {
        let mut pipeline = counted(telling);
        assert_eq!(feed(&mut pipeline, &records).findings.len(), expected, "{telling:?}");
    }
}

#[test]
fn many_repetitions_are_counted_in_bounded_room_and_told_when_they_go_on() {
    let mut pipeline = counted(Telling::Counted);
    let mut out = feed(&mut pipeline, &listening(0..=50, 1000..1400));
    assert_eq!(out.findings.len(), 400, "each once");
    assert_eq!(pipeline.counters()["findings_repeated_untold"], 144 * 50, "256 wait");
    out.findings.extend(feed(&mut pipeline, &listening(61..=61, 1000..1400)).findings);
    assert_eq!((out.findings.len(), pipeline.counters()["findings_repeated_untold"]), (800, 0));
    pipeline.tell_repeats(&mut out);
    assert_eq!(sum(&out), 400 * 52);
}

#[test]
fn two_trees_of_a_workload_are_told_apart_and_each_once() {
    let other = Who::new(50, 1);
    let mut records = vec![Who::new(1, 0).fork(other)];
    let start = nginx().time_ns;
    for second in 0..50 {
        records.extend([nginx(), other].map(|who| who.at(start + second * SECOND).listen(80)));
    }
    for telling in [Telling::PerIncident, Telling::Counted] {
        let out = feed(&mut counted(telling), &records);
        let incidents: Vec<_> =
            out.findings.iter().map(|finding| finding.incident.split('-').next().unwrap()).collect();
        assert_eq!(incidents, ["10", "50"], "{telling:?}");
    }
}

#[test]
fn a_worse_one_is_no_repetition() {
    let shell = Who::new(20, 10);
    let write = |who: Who| who.open("/srv/x", 0o101, FileFlags::CREATED);
    let mut pipeline = counted(Telling::Counted);
    let exec = shell.exec("/usr/bin/dash", &["sh"]);
    let out = feed(
        &mut pipeline,
        &[write(nginx()), write(nginx()), nginx().fork(shell), exec, write(shell), write(shell)],
    );
    let told: Vec<_> = out
        .findings
        .iter()
        .filter(|finding| finding.behaviour.action == Action::Write)
        .map(|finding| (finding.severity, finding.process.pid, finding.is_repeat))
        .collect();
    assert_eq!(told, [(Severity::Low, 10, false), (Severity::Medium, 20, false)]);
}

#[test]
fn some_command_lines_of_a_program_are_told_at_once() {
    let line = |number: u32| {
        let shell = Who::new(100 + number, 10);
        [nginx().fork(shell), shell.exec("/usr/bin/dash", &["sh", "-c", &format!("step {number}")])]
    };
    let mut pipeline = counted(Telling::Counted);
    let mut out = feed(&mut pipeline, &(0..20).flat_map(line).collect::<Vec<_>>());
    assert_eq!(out.findings.len(), 9, "the first, and eight others");
    assert!(out.findings.iter().skip(1).all(|finding| finding.is_repeat && finding.count == 1));
    pipeline.tell_repeats(&mut out);
    assert_eq!(sum(&out), 20);
}

#[test]
fn repetitions_are_told_before_another_baseline_judges() {
    let mut pipeline = counted(Telling::Counted);
    feed(&mut pipeline, &listening(0..=5, 80..81));
    let mut out = Output::default();
    pipeline.set_baseline(Some(armed()), &mut out);
    assert_eq!(evidence(&out), [("/1", "listen tcp 127.0.0.1 80".to_owned(), 5, true)]);
}
