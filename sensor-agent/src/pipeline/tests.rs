//! The pipeline as a whole, fed with records as the kernel makes them. Not the stages' own tests. It may call the
//! pipeline's public functions and the record fixture.

use super::*;
use crate::enrich::seed::{SeedCgroup, SeedProcess};
use crate::event::ConnectResult;
use crate::record_fixture::Who;
use crate::recording::{Part, RecordingReader, RecordingWriter, Start};
use proptest::prelude::*;
use sensor_baseline::Baseline;
use sensor_event::{ExecFlags, FileFlags, PathFlags};

const AGENT: Who =
    Who { pid: 900, start_time_ns: 900_000_123, ppid: 1, parent_start_time_ns: 0, cgroup_id: 1, time_ns: 0 };
const O_CREAT_EXCL_WRONLY: u32 = 0o301;

pub(super) fn host() -> Pipeline {
    with(PipelineConfig { emit_events: true, ..PipelineConfig::default() })
}

pub(super) fn with(config: PipelineConfig) -> Pipeline {
    let own = Identity { pid: AGENT.pid, start_time_ns: 900_000_000 };
    let mut pipeline = Pipeline::new(PipelineConfig { own: Some(own), ..config });
    pipeline.seed(Seed {
        processes: vec![
            seed_process(1, 0, "/usr/lib/systemd/systemd", 0),
            seed_process(10, 1, "/usr/sbin/nginx", 10_000_000),
            seed_process(900, 1, "/usr/bin/sensor-agent", 900_000_000),
        ],
        cgroups: vec![SeedCgroup { id: 1, path: "/system.slice/web.service".to_owned() }],
        taken_ns: 0,
    });
    pipeline
}

fn seed_process(pid: u32, ppid: u32, exe: &str, start_time_ns: u64) -> SeedProcess {
    SeedProcess {
        pid,
        ppid,
        start_time_ns,
        exe: exe.to_owned(),
        argv: [exe].iter().collect(),
        comm: "seed".to_owned(),
        cgroup: "/system.slice/web.service".to_owned(),
        cgroup_id: 1,
        ..SeedProcess::default()
    }
}

fn command() -> Pipeline {
    let scope = Scope::Command(Workload("command:make".to_owned()));
    with(PipelineConfig { scope, emit_events: true, ..PipelineConfig::default() })
}

/// A child of the agent, which is known by its exact identity in records.
fn agent_child(pid: u32) -> Who {
    Who { parent_start_time_ns: AGENT.start_time_ns, ..Who::new(pid, AGENT.pid) }
}

pub(super) fn feed(pipeline: &mut Pipeline, records: &[Vec<u8>]) -> Output {
    let mut out = Output::default();
    for record in records {
        pipeline.handle(record, &mut out);
    }
    out
}

/// Observed behaviours as text.
pub(super) fn behaviours(out: &Output) -> Vec<String> {
    out.observations.iter().map(|(observation, _)| observation.behaviour.to_string()).collect()
}

pub(super) fn nginx() -> Who {
    Who::new(10, 1)
}

#[test]
fn an_exec_is_the_doing_of_the_program_before_it() {
    let (nginx, shell, tool) = (nginx(), Who::new(20, 10), Who::new(21, 20));
    let out = feed(
        &mut host(),
        &[
            nginx.fork(shell),
            shell.exec("/usr/bin/dash", &["sh", "-c", "id; curl x"]),
            shell.fork(tool),
            tool.exec("/usr/bin/curl", &["curl", "x"]),
            tool.connect(1, 80),
        ],
    );
    let web = "unit:web.service";
    assert_eq!(
        behaviours(&out),
        [
            format!("{web} /usr/sbin/nginx exec /usr/bin/dash"),
            format!("{web} /usr/sbin/nginx exec /usr/bin/curl"),
            format!("{web} /usr/bin/curl connect tcp 127.0.0.1 80"),
        ]
    );
    let shells: Vec<bool> = out.observations.iter().map(|(seen, _)| seen.traits.acting_is_shell).collect();
    assert_eq!(shells, [false, true, false]);
}

#[test]
fn what_a_shell_starts_is_no_shell() {
    let (script, python) = (Who::new(20, 10), Who::new(21, 20));
    let out = feed(
        &mut host(),
        &[
            nginx().fork(script),
            script.exec("/usr/bin/bash", &["bash", "-c", "python3 -c 'connect()'"]),
            script.connect(1, 80),
            script.fork(python),
            python.exec("/usr/bin/python3.13", &["python3", "-c", "connect()"]),
            python.connect(2, 80),
            python.listen(81),
            python.open("/srv/root/etc/cron.d/x", 1, FileFlags::CREATED),
        ],
    );
    let subjects: Vec<_> = out.observations.iter().map(|(seen, _)| &*seen.behaviour.subject.0).collect();
    assert!(subjects.iter().all(|subject| *subject == "/usr/sbin/nginx"), "{subjects:?}");
    let rules: Vec<_> = out.findings.iter().map(|finding| finding.explanation.summary.as_str()).collect();
    assert_eq!(rules.len(), 1, "only the shell's own connection: {rules:?}");
}

#[test]
fn findings_name_the_new_program_and_its_ancestors() {
    let mut pipeline = host();
    pipeline.set_baseline(Some(armed()), &mut Output::default());
    let (shell, tool) = (Who::new(20, 10), Who::new(21, 20));
    let mut out = feed(
        &mut pipeline,
        &[
            nginx().fork(shell),
            shell.exec("/usr/bin/dash", &["sh"]),
            shell.fork(tool),
            tool.exec("/usr/bin/id", &["id", "-u"]),
        ],
    );
    let finding = out.findings.pop().unwrap();
    assert_eq!((finding.process.exe.as_str(), finding.process.argv.len()), ("/usr/bin/id", 2));
    let ancestors: Vec<_> = finding.ancestors.iter().map(|facts| facts.exe.as_str()).collect();
    assert_eq!(ancestors, ["/usr/bin/dash", "/usr/sbin/nginx", "/usr/lib/systemd/systemd"]);
    assert!(!finding.explanation.summary.is_empty());
}

#[test]
fn the_agent_itself_is_not_observed() {
    let child = agent_child(950);
    let out = feed(
        &mut host(),
        &[
            AGENT.open("/var/lib/sensor/spool.db", 1, FileFlags::CREATED),
            AGENT.connect(5, 7443),
            AGENT.fork(child),
            child.open("/tmp/x", 1, FileFlags::CREATED),
            child.exec("/usr/bin/make", &["make"]),
        ],
    );
    assert_eq!(behaviours(&out), Vec::<String>::new());
    let other = Who { start_time_ns: 5, ..AGENT };
    assert_eq!(
        feed(&mut host(), &[other.listen(1)]).observations.len(),
        0,
        "unknown and unlisted: not learnt"
    );
}

#[test]
fn a_command_is_its_tree_and_nothing_else() {
    let (make, shell) = (agent_child(950), Who::new(960, 950));
    let mut pipeline = command();
    let out = feed(
        &mut pipeline,
        &[
            nginx().listen(80),
            make.exec("/usr/bin/make", &["make"]),
            make.fork(shell),
            shell.exec("/usr/bin/dash", &["sh", "-c", "cc"]),
            shell.open("/srv/out.o", 1, FileFlags::CREATED),
            // The fork of this one was lost.
            Who::new(970, 960).exec("/usr/bin/cc", &["cc"]),
        ],
    );
    assert_eq!(
        behaviours(&out),
        [
            "command:make /usr/bin/make exec /usr/bin/dash",
            "command:make /usr/bin/make write /srv/out.o",
            "command:make /usr/bin/make exec /usr/bin/cc",
        ]
    );
    assert_eq!(pipeline.running_in_scope(), 3);
    assert!(pipeline.has_scope_started());
    assert!(!command().has_scope_started());
    feed(&mut pipeline, &[shell.exit(0), make.exit(0)]);
    assert_eq!(pipeline.running_in_scope(), 1);
}

#[test]
fn an_exit_counts_once() {
    let (child, mut pipeline) = (Who::new(20, 10), host());
    let out = feed(&mut pipeline, &[nginx().fork(child), child.exit(0x300), child.exit(0x300)]);
    let exits = out.events.iter().filter(|event| matches!(event.event.body, Body::Exit(_))).count();
    assert_eq!((exits, pipeline.counters()["exits_repeated"]), (1, 1));
}

#[test]
fn a_seeded_process_is_refined_by_its_first_event() {
    let mut pipeline = host();
    let exact = Who { start_time_ns: 10_000_777, ..nginx() };
    let out = feed(&mut pipeline, &[exact.listen(80), exact.fork(Who::new(20, 10)), exact.exit(0)]);
    assert_eq!(behaviours(&out), ["unit:web.service /usr/sbin/nginx listen tcp 127.0.0.1 80"]);
    assert_eq!(out.events[0].process.as_ref().unwrap().start_time_ns, 10_000_777);
    // The next tick is another process.
    let other = Who { start_time_ns: 20_000_000, ..nginx() };
    let out = feed(&mut pipeline, &[other.listen(81)]);
    assert_eq!(out.events[0].process.as_ref().unwrap().exe, "");
    assert_eq!(pipeline.counters()["processes_unknown"], 1);
}

#[test]
fn connects_show_with_their_result_and_are_judged_at_once() {
    let mut pipeline = host();
    let start = nginx().time_ns;
    let out = feed(&mut pipeline, &[nginx().connect(7, 80)]);
    assert_eq!((out.observations.len(), out.events.len()), (1, 0));
    let swapper = Who { pid: 0, start_time_ns: 0, ..nginx() };
    let out = feed(&mut pipeline, &[swapper.at(start + 5).connect_result(7, 80, 111)]);
    let [event] = &out.events[..] else { panic!("one event, found {:?}", out.events) };
    assert_eq!(event.process.as_ref().unwrap().pid, 10);
    assert!(
        matches!(&event.event.body, Body::Connect(socket) if socket.result == ConnectResult::Failed(111))
    );
    assert_eq!((out.observations.len(), pipeline.counters()["processes_unknown"]), (0, 0));

    let late = start + 10 + crate::connect_join::HOLD_NS_MAX;
    let out = feed(
        &mut pipeline,
        &[nginx().at(start + 9).connect(8, 80), swapper.at(late).connect_result(8, 80, 0)],
    );
    let shown: Vec<_> = out.events.iter().map(|event| event.process.is_some()).collect();
    assert_eq!(shown, [true, false], "pending, then its result alone");
}

#[test]
fn what_failed_or_says_nothing_is_no_behaviour() {
    let nginx = nginx();
    let out = feed(
        &mut host(),
        &[nginx.unlink("/srv", "x", 2), nginx.rename("/a", "/b", 13), nginx.unlink("/srv", "../y", 0)],
    );
    assert_eq!(behaviours(&out), ["unit:web.service /usr/sbin/nginx delete /y"]);
    assert!(out.observations[0].0.traits.object_from_caller);
    assert_eq!(out.events.len(), 3);
}

#[test]
fn own_entries_in_proc_are_those_of_self() {
    let nginx = nginx();
    let out = feed(
        &mut host(),
        &[
            nginx.open("/proc/10/oom_score_adj", 1, FileFlags::default()),
            nginx.open("/proc/10/task/10/comm", 1, FileFlags::default()),
        ],
    );
    assert_eq!(
        behaviours(&out),
        [
            "unit:web.service /usr/sbin/nginx write /proc/self/oom_score_adj",
            "unit:web.service /usr/sbin/nginx write /proc/self/comm",
        ]
    );
}

#[test]
fn exclusive_names_stay_ephemeral_until_renamed() {
    let nginx = nginx();
    let out = feed(
        &mut host(),
        &[
            nginx.open("/srv/x.lock", O_CREAT_EXCL_WRONLY, FileFlags::CREATED),
            nginx.open("/srv/x.lock", 1, FileFlags::default()),
            nginx.rename("/srv/x.lock", "/srv/x", 0),
            nginx.open("/srv/x", 1, FileFlags::default()),
            nginx.open("/srv/x.lock", 1, FileFlags::CREATED),
            nginx.open("/srv/y.lock", O_CREAT_EXCL_WRONLY, FileFlags::CREATED),
            nginx.unlink("/srv", "y.lock", 0),
        ],
    );
    let ephemeral: Vec<bool> = out.observations.iter().map(|(seen, _)| seen.traits.ephemeral).collect();
    assert_eq!(ephemeral, [true, true, true, false, false, true, true]);
}

#[test]
fn a_program_that_the_workload_made_is_fresh() {
    let other = Who::new(41, 10);
    let (nginx, child) = (nginx(), Who::new(20, 10));
    let fresh = |records: &[Vec<u8>]| {
        let out = feed(&mut host(), records);
        out.observations.last().unwrap().0.traits.executable_is_fresh
    };
    let create = |path: &str| nginx.open(path, 0o101, FileFlags::CREATED);
    assert!(fresh(&[create("/tmp/x"), nginx.fork(child), child.exec("/tmp/x", &["x"])]));
    assert!(fresh(&[create("/tmp/x.sh"), child.exec_script("/bin/dash", "/tmp/x.sh", &["x"])]));
    assert!(!fresh(&[create("/tmp/y"), nginx.fork(child), child.exec("/tmp/x", &["x"])]));
    let later = child.at(child.time_ns + 600_000_000_001);
    assert!(!fresh(&[create("/tmp/x"), nginx.fork(child), later.exec("/tmp/x", &["x"])]));
    // A linker's product is there to be run, whoever runs it; what calls itself a linker is none.
    let written = |first: Vec<u8>, linker: &str, flags| {
        let file = child.open("/tmp/x", 0o101, flags);
        fresh(&[first, nginx.fork(child), child.exec(linker, &["ld"]), file, other.exec("/tmp/x", &["x"])])
    };
    let linked = |linker: &str| written(create("/tmp/y"), linker, FileFlags::CREATED);
    assert!(!linked("/usr/bin/x86_64-linux-gnu-ld.bfd"));
    assert!(linked("/tmp/ld"));
    assert!(linked("/usr/bin/build"));
    // They write the program that they were given, under its name or another.
    assert!(linked("/usr/bin/strip"));
    assert!(linked("/usr/bin/x86_64-linux-gnu-objcopy"));
    // What was fresh is so still when a linker, or dpkg's log, is written into it.
    assert!(written(create("/tmp/x"), "/usr/bin/dpkg", FileFlags::default()));
    assert!(!written(create("/tmp/x"), "/usr/bin/ld", FileFlags::CREATED), "another file");
}

#[test]
fn programs_without_a_name_are_fileless() {
    let fileless = |flags, path_flags, script: &str| {
        let record = nginx().exec_with("/memfd:x", &["x"], flags, path_flags, script);
        feed(&mut host(), &[record]).observations.last().unwrap().0.traits.fileless
    };
    assert!(fileless(ExecFlags::MEMFD, PathFlags::NO_NAMESPACE, ""));
    assert!(fileless(ExecFlags::default(), PathFlags::DELETED, ""));
    assert!(fileless(ExecFlags::SCRIPT, PathFlags::default(), "/dev/fd/3"));
    assert!(fileless(ExecFlags::SCRIPT, PathFlags::default(), "/proc/self/fd/3"));
    assert!(fileless(ExecFlags::SCRIPT, PathFlags::default(), "/proc/../proc/thread-self/fd/3"));
    assert!(!fileless(ExecFlags::SCRIPT, PathFlags::default(), "/dev/fd/3/run.sh"));
    assert!(!fileless(ExecFlags::default(), PathFlags::default(), ""));
}

#[test]
fn a_chroot_does_not_choose_how_its_scripts_are_called() {
    let child = Who::new(20, 10);
    let records = [
        nginx().fork(child),
        child.exec_script_in_jail("/bin/dash", "/app/run.sh", &["sh"]),
        child.listen(5),
    ];
    assert_eq!(
        behaviours(&feed(&mut host(), &records)),
        [
            "unit:web.service /usr/sbin/nginx exec /jail/app/run.sh",
            "unit:web.service /jail/app/run.sh listen tcp 127.0.0.1 5",
        ]
    );
}

/// A baseline that allows the web server nothing.
pub(super) fn armed() -> Layers {
    Baseline::parse("fleet: f\nworkloads:\n  unit:web.service: {}\n").unwrap().into()
}

#[test]
fn a_group_that_lies_too_deep_to_be_told_is_no_way_out_of_a_baseline() {
    // 77 is a group that nobody told of.
    let hidden = Who::new(30, 10).in_cgroup(77);
    let mut pipeline = with(PipelineConfig { baseline: Some(armed()), ..PipelineConfig::default() });
    let out =
        feed(&mut pipeline, &[nginx().fork(Who::new(30, 10)), hidden.listen(5), hidden.connect(1, 4444)]);
    assert!(
        out.findings.iter().any(|finding| finding.behaviour.workload.0 == "unit:web.service"),
        "{:?}",
        out.findings
    );
}

#[test]
fn a_fileless_exec_is_a_finding_without_a_baseline() {
    let record = nginx().exec_with("/memfd:x", &["x"], ExecFlags::MEMFD, PathFlags::NO_NAMESPACE, "");
    let out = feed(&mut host(), &[record]);
    assert_eq!(out.findings[0].reason.name(), "floor");
}

#[test]
fn a_silenced_rule_is_counted_until_its_day_and_reported_after() {
    const DAY_NS: u64 = 86_400_000_000_000;
    let text = "[[silence]]\nrule = \"fileless-exec\"\nworkload = \"unit:web.service\"\nowner = \"web\"\n\
                reason = \"a loader\"\nexpires = 1970-01-02\n";
    let floor = Floor::with_files(&[("site.toml".to_owned(), text.to_owned())]).unwrap();
    let mut pipeline = with(PipelineConfig { floor: floor.into(), ..PipelineConfig::default() });
    let exec = |who: Who| who.exec_with("/memfd:x", &["x"], ExecFlags::MEMFD, PathFlags::NO_NAMESPACE, "");
    let out = feed(&mut pipeline, &[exec(nginx())]);
    assert!(out.findings.is_empty(), "{:?}", out.findings);
    assert_eq!(out.observations.len(), 1);
    assert_eq!(pipeline.silenced().get("fileless-exec"), Some(&1));
    let out = feed(&mut pipeline, &[exec(nginx().at(DAY_NS))]);
    assert_eq!(out.findings.len(), 1);
    assert_eq!(pipeline.silenced().get("fileless-exec"), Some(&1));
}

#[test]
fn the_cgroup_of_an_exec_places_processes_that_follow() {
    let moved = Who::new(30, 10).in_cgroup(77);
    let out = feed(&mut host(), &[moved.exec("/usr/bin/app", &["app"]), moved.listen(5)]);
    assert_eq!(behaviours(&out).last().unwrap(), "unit:web.service /usr/bin/app listen tcp 127.0.0.1 5");
}

#[test]
fn a_process_is_placed_in_a_cgroup_that_was_just_made() {
    let container = format!("/kubepods/pod1/{}", "0123456789abcdef".repeat(4));
    let init = Who::new(30, 10).in_cgroup(78);
    // It moves there after its fork and before its exec, as the first process of a container does.
    let records = [
        nginx().cgroup(78, &container),
        nginx().fork(Who::new(30, 10)),
        init.listen(5),
        Who::new(31, 10).in_cgroup(79).listen(5),
    ];
    let mut pipeline = host();
    let out = feed(&mut pipeline, &records);
    assert_eq!(behaviours(&out), ["container:0123456789ab /usr/sbin/nginx listen tcp 127.0.0.1 5"]);
    assert_eq!(pipeline.counters()["observations_of_unknown"], 1, "nobody told of group 79");
}

#[test]
fn bytes_that_are_no_record_are_counted() {
    let mut pipeline = host();
    let mut unknown = nginx().exit(0);
    unknown[4..6].copy_from_slice(&99u16.to_ne_bytes());
    feed(&mut pipeline, &[b"short".to_vec(), Vec::new(), unknown]);
    let counters = pipeline.counters();
    assert_eq!((counters["records_undecodable"], counters["records_unknown_kind"]), (2, 1));
}

#[test]
fn a_clock_that_is_set_shows_in_the_next_event() {
    let mut pipeline = host();
    let record = nginx().at(5_000).listen(80);
    let before = feed(&mut pipeline, std::slice::from_ref(&record)).events[0].time;
    pipeline.set_boot_to_unix_offset_ns(1_000_000);
    let after = feed(&mut pipeline, &[record]).events[0].time;
    assert_eq!(after.0 - before.0, 1_000_000);
}

#[test]
fn a_recording_gives_the_findings_that_were_given_live() {
    let baseline = || Some(armed());
    let shell = Who::new(20, 10);
    let records =
        [nginx().fork(shell), shell.exec("/usr/bin/dash", &["sh"]), shell.connect(1, 4444), shell.exit(0)];
    let start = Start {
        hostname: "web-1".to_owned(),
        kernel_release: "6.18".to_owned(),
        boot_to_unix_offset_ns: 77,
        own: None,
        seed: Seed {
            processes: vec![seed_process(10, 1, "/usr/sbin/nginx", 10_000_000)],
            cgroups: Vec::new(),
            taken_ns: 0,
        },
    };
    let pipeline = |start: &Start| {
        let boot_to_unix_offset_ns = start.boot_to_unix_offset_ns;
        let config =
            PipelineConfig { baseline: baseline(), boot_to_unix_offset_ns, ..PipelineConfig::default() };
        let mut pipeline = Pipeline::new(config);
        pipeline.seed(start.seed.clone());
        pipeline
    };
    let live = feed(&mut pipeline(&start), &records).findings;

    let mut file = Vec::new();
    let mut writer = RecordingWriter::new(&mut file, &start).unwrap();
    records.iter().for_each(|record| writer.record(record).unwrap());
    writer.finish(BTreeMap::new()).unwrap();
    let mut reader = RecordingReader::new(&file[..]).unwrap();
    let mut replayed = pipeline(reader.start());
    let mut out = Output::default();
    while let Part::Record(record) = reader.read_part().unwrap() {
        replayed.handle(&record, &mut out);
    }
    assert_eq!(out.findings, live);
    assert_eq!(live.len(), 2);
}

fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let who = (2u32..8, 1u32..8, 0u64..4).prop_map(|(pid, ppid, start)| Who {
        start_time_ns: u64::from(pid) * 1_000_000 + start,
        ..Who::new(pid, ppid)
    });
    (who, 0u8..9, 2u32..8).prop_map(|(who, kind, other)| match kind {
        0 => who.fork(Who {
            ppid: who.pid,
            parent_start_time_ns: who.start_time_ns,
            ..Who::new(other, who.pid)
        }),
        1 => who.exec(["/bin/dash", "/bin/ls", "/bin/app"][other as usize % 3], &["a"]),
        2 => who.exit(0),
        3 => who.connect(u64::from(other), 80),
        4 => who.connect_result(u64::from(other), 80, 0),
        5 => who.listen(other as u16),
        6 => who.open("/srv/x", 0o301, FileFlags::CREATED),
        7 => who.unlink("/srv", "x", 0),
        _ => who.rename("/srv/x", "/srv/y", 0),
    })
}

proptest! {
    #[test]
    fn any_order_of_records_is_taken_and_every_subject_is_named(records in proptest::collection::vec(any_record(), 0..60)) {
        let mut pipeline = host();
        let out = feed(&mut pipeline, &records);
        for (observation, _) in &out.observations {
            prop_assert!(!observation.behaviour.subject.0.is_empty());
        }
        prop_assert_eq!(pipeline.counters()["records"], records.len() as u64);
        prop_assert_eq!(pipeline.counters()["records_undecodable"], 0);
    }

    #[test]
    fn the_same_records_give_the_same_findings(records in proptest::collection::vec(any_record(), 0..60), ticks in any::<u64>()) {
        let judge = |is_ticked: bool| {
            let mut pipeline = host();
            pipeline.set_baseline(Some(armed()), &mut Output::default());
            let mut out = Output::default();
            for (index, record) in records.iter().enumerate() {
                if is_ticked && ticks >> (index % 64) & 1 == 1 {
                    pipeline.tick(BootNs(nginx().time_ns), &mut out);
                }
                pipeline.handle(record, &mut out);
            }
            out.findings
        };
        prop_assert_eq!(judge(true), judge(false));
    }
}
