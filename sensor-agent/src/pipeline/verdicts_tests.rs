//! What is remembered of records, and what is not: by the pipeline's public functions, with a kernel's maps as the test has
//! them. Not the kernel side.

use super::super::tests::{feed, nginx, with};
use super::super::{Pipeline, PipelineConfig};
use super::*;
use crate::pipeline::Output;
use crate::record_fixture::Who;
use sensor_baseline::{Baseline, Floor, Layer, Layers};
use sensor_event::FileFlags;
use std::cell::RefCell;

const O_WRONLY: u32 = 1;
const O_CREAT_EXCL_WRONLY: u32 = 0o301;
const SECOND_NS: u64 = 1_000_000_000;
/// When the fixture's records are.
const START_NS: u64 = 1_000_000_000_000;

fn remembering(entries_max: u32) -> Pipeline {
    with(PipelineConfig {
        verdicts: Some(VerdictOptions { entries_max, secret: [1, 2] }),
        ..PipelineConfig::default()
    })
}

/// A child of the server that runs a program.
fn worker(pipeline: &mut Pipeline, pid: u32, exe: &str) -> Who {
    let who = Who::new(pid, 10);
    feed(pipeline, &[nginx().fork(who), who.exec(exe, &["x"])]);
    let _of_the_exec = pipeline.remembered().count();
    who
}

/// Writes a file twice, and returns what is to be remembered then.
fn write_twice(pipeline: &mut Pipeline, who: Who, path: &str) -> Vec<Remember> {
    let open = who.open(path, O_WRONLY, FileFlags::default());
    feed(pipeline, &[open.clone(), open]);
    pipeline.remembered().collect()
}

fn verdicts(changes: &[Remember]) -> Vec<(u64, VerdictEntry)> {
    let verdicts = changes.iter().filter_map(|change| match change {
        Remember::Verdict { hash, entry } => Some((*hash, *entry)),
        _ => None,
    });
    verdicts.collect()
}

/// Takes hits: so many of each cell, the last at this time.
fn hit(pipeline: &mut Pipeline, cells: &[(u32, u64)], last_ns: u64) -> Output {
    let mut out = Output::default();
    let read = |cell| {
        let count = cells.iter().find(|(of, _)| *of == cell).map_or(0, |(_, count)| *count);
        Hits { count, last_ns }
    };
    pipeline.take_hits(&read, &mut out);
    out
}

#[test]
fn what_is_seen_twice_is_remembered_for_the_process_that_did_it() {
    let mut pipeline = remembering(16);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let open = who.open("/var/log/app.log", O_WRONLY, FileFlags::default());
    feed(&mut pipeline, std::slice::from_ref(&open));
    let first: Vec<Remember> = pipeline.remembered().collect();
    let [Remember::Process { pid: 20, entry }] = first[..] else { panic!("{first:?}") };
    assert_eq!((entry.start_time_ns, entry.cgroup_id, entry.exec_id), (who.start_time_ns, 1, 1));
    feed(&mut pipeline, std::slice::from_ref(&open));
    let second = verdicts(&pipeline.remembered().collect::<Vec<_>>());
    assert_eq!(second.len(), 1);
    // Made again because it was void: the same place.
    feed(
        &mut pipeline,
        &[who.at(START_NS + SECOND_NS).open("/var/log/app.log", O_WRONLY, FileFlags::default())],
    );
    let third = verdicts(&pipeline.remembered().collect::<Vec<_>>());
    assert_eq!((third[0].0, third[0].1.cell), (second[0].0, second[0].1.cell));
    assert_eq!(third[0].1.since_ns, START_NS + SECOND_NS);
}

#[test]
fn hits_are_observations_that_were_made_again() {
    let mut pipeline = remembering(16);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let cell = verdicts(&write_twice(&mut pipeline, who, "/var/log/app.log"))[0].1.cell;
    let observations = pipeline.counters()["observations"];
    let out = hit(&mut pipeline, &[(cell, 41)], START_NS);
    let [repeated] = &out.repeated[..] else { panic!("{:?}", out.repeated) };
    assert_eq!(
        repeated.observation.behaviour.to_string(),
        "unit:web.service /usr/bin/worker write /var/log/app.log"
    );
    assert_eq!((repeated.count, &repeated.verdict), (41, &Verdict::Learning));
    let out = hit(&mut pipeline, &[(cell, 42)], START_NS);
    assert_eq!(out.repeated[0].count, 1, "only what is new");
    assert!(hit(&mut pipeline, &[(cell, 42)], START_NS).repeated.is_empty());
    assert_eq!(pipeline.counters()["observations"], observations + 42);
}

#[test]
fn a_device_that_says_nothing_is_remembered_without_an_observation() {
    let mut pipeline = remembering(16);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let mut open = who.open("/dev/null", O_WRONLY, FileFlags::default());
    let mode = size_of::<sensor_event::Header>() + std::mem::offset_of!(sensor_event::FileBody, mode);
    open[mode..mode + 4].copy_from_slice(&0o020_666u32.to_ne_bytes());
    feed(&mut pipeline, &[open.clone(), open]);
    let cell = verdicts(&pipeline.remembered().collect::<Vec<_>>())[0].1.cell;
    assert!(hit(&mut pipeline, &[(cell, 5)], START_NS).repeated.is_empty());
    assert_eq!(pipeline.counters()["verdict_hits"], 5);
}

#[test]
fn what_may_mean_something_else_next_time_is_not_remembered() {
    let mut pipeline = remembering(16);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let linker = worker(&mut pipeline, 21, "/usr/bin/ld");
    let made = who.open("/tmp/x.AbCdEf", O_CREAT_EXCL_WRONLY, FileFlags::CREATED);
    feed(&mut pipeline, &[made]);
    for (who, path, why) in [
        (who, "/tmp/x.AbCdEf", "a name that was made up a moment ago"),
        (who, "/proc/20/oom_score_adj", "told by the process"),
        (who, "/etc/ld.so.preload", "a floor rule fires"),
        (linker, "/srv/out", "a linker's output is no fresh file"),
        (nginx(), "/var/log/app.log", "which exec of it this is, nobody knows"),
    ] {
        assert_eq!(verdicts(&write_twice(&mut pipeline, who, path)), [], "{why}");
    }
}

#[test]
fn findings_are_not_remembered_and_what_is_allowed_is() {
    let mut pipeline = remembering(16);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let text =
        "fleet: x\nworkloads:\n  unit:web.service:\n    /usr/bin/worker:\n      write: [/var/log/app.log]\n";
    let baseline = Baseline::parse(text).unwrap();
    let layers = Layers::new(vec![Layer::new("fleet", baseline)]);
    let policy = pipeline.next_policy();
    pipeline.set_baseline(Some(layers), &mut Output::default());
    let known = verdicts(&write_twice(&mut pipeline, who, "/var/log/app.log"));
    assert_eq!(known[0].1.policy, policy);
    assert_eq!(verdicts(&write_twice(&mut pipeline, who, "/var/log/other.log")), []);
}

#[test]
fn silenced_rules_are_counted_each_time() {
    let silence = "[[silence]]\nrule = \"ld-preload\"\nworkload = \"unit:web.service\"\nowner = \"ops\"\n\
                   reason = \"test\"\nexpires = 2499-01-01\n";
    let floor = Floor::with_files(&[("site.toml".to_owned(), silence.to_owned())]).unwrap();
    let mut pipeline = with(PipelineConfig {
        verdicts: Some(VerdictOptions { entries_max: 16, secret: [1, 2] }),
        floor: Arc::new(floor),
        ..PipelineConfig::default()
    });
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    assert_eq!(verdicts(&write_twice(&mut pipeline, who, "/etc/ld.so.preload")), []);
}

#[test]
fn another_program_or_place_acts_as_somebody_else() {
    let mut pipeline = remembering(16);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let first = write_twice(&mut pipeline, who, "/var/log/app.log");
    feed(&mut pipeline, &[who.exec("/usr/bin/other", &["x"])]);
    assert_eq!(pipeline.remembered().collect::<Vec<_>>(), [Remember::ForgetProcess { pid: 20 }]);
    let second = write_twice(&mut pipeline, who, "/var/log/app.log");
    assert_ne!(verdicts(&first)[0].0, verdicts(&second)[0].0);
    feed(&mut pipeline, &[who.in_cgroup(2).connect(1, 80)]);
    assert!(pipeline.remembered().any(|change| change == Remember::ForgetProcess { pid: 20 }));
}

#[test]
fn a_file_that_hits_wrote_is_fresh_when_it_is_run() {
    let mut pipeline = remembering(16);
    let (worker, server) = (worker(&mut pipeline, 20, "/usr/bin/worker"), nginx());
    let cell = verdicts(&write_twice(&mut pipeline, worker, "/srv/job"))[0].1.cell;
    // The last of the hits is 590 s later, as if the kernel had made a record each minute and hit in between.
    let last = START_NS + 590 * SECOND_NS;
    hit(&mut pipeline, &[(cell, 3)], last);
    let is_fresh = |pipeline: &mut Pipeline, pid: u32, after_s: u64| {
        let who = Who::new(pid, 10).at(last + after_s * SECOND_NS);
        let out = feed(pipeline, &[server.at(who.time_ns).fork(who), who.exec("/srv/job", &["job"])]);
        out.observations.last().expect("an exec is one").0.traits.executable_is_fresh
    };
    assert!(is_fresh(&mut pipeline, 30, 599));
    assert!(!is_fresh(&mut pipeline, 31, 601));
}

#[test]
fn who_has_most_loses_what_it_used_longest_ago() {
    let mut pipeline = remembering(8);
    let quiet = worker(&mut pipeline, 20, "/usr/bin/quiet");
    let busy = worker(&mut pipeline, 21, "/usr/bin/busy");
    let kept: Vec<u64> = (0..3)
        .map(|number| verdicts(&write_twice(&mut pipeline, quiet, &format!("/srv/quiet-{number}")))[0].0)
        .collect();
    let forgotten = RefCell::new(Vec::new());
    for number in 0..100 {
        // Each a moment later, so that cells can be used again.
        let busy = busy.at(START_NS + number * 5 * SECOND_NS);
        let changes = write_twice(&mut pipeline, busy, &format!("/srv/busy-{number}"));
        forgotten.borrow_mut().extend(changes.iter().filter_map(|change| match change {
            Remember::ForgetVerdict { hash } => Some(*hash),
            _ => None,
        }));
    }
    assert!(forgotten.borrow().len() > 80);
    assert!(kept.iter().all(|hash| !forgotten.borrow().contains(hash)));
    let counters = pipeline.counters();
    assert_eq!(
        (counters["verdicts_remembered"], counters["verdicts_evicted"]),
        (8, forgotten.borrow().len() as u64)
    );
}

#[test]
fn a_cell_is_not_used_again_while_a_program_may_still_count_in_it() {
    let mut pipeline = remembering(1);
    let who = worker(&mut pipeline, 20, "/usr/bin/worker");
    let cell_of = |pipeline: &mut Pipeline, path: &str, after_s: u64| {
        let changes = write_twice(pipeline, who.at(START_NS + after_s * SECOND_NS), path);
        verdicts(&changes).first().map(|(_, entry)| entry.cell)
    };
    let first = cell_of(&mut pipeline, "/srv/1", 0);
    let second = cell_of(&mut pipeline, "/srv/2", 1);
    assert_ne!(first, second);
    assert_eq!(cell_of(&mut pipeline, "/srv/3", 2), None, "both cells are in use");
    // What was counted after the verdict had gone is counted.
    let late = hit(&mut pipeline, &[(first.expect("one"), 7)], START_NS);
    assert_eq!(
        late.repeated[0].observation.behaviour.to_string(),
        "unit:web.service /usr/bin/worker write /srv/1"
    );
    assert_eq!(cell_of(&mut pipeline, "/srv/4", 20), first);
    assert!(
        hit(&mut pipeline, &[(first.expect("one"), 7)], START_NS).repeated.is_empty(),
        "that was another's"
    );
}
