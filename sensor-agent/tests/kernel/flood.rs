//! Many processes as fast as the machine can, nothing missing; and rings that are too small, every
//! loss counted. Skips where loading is not permitted. It may call the agent's kernel module.

use crate::support::{Capture, Folder, actor};
use sensor_agent::kernel::KernelOptions;
use sensor_event::{Kind, RecordBody};
use std::collections::BTreeMap;
use std::process::Command;

/// Processes of the storm, unless [`PROCESSES_VARIABLE`] says otherwise.
const PROCESSES: u32 = 10_000;

/// Overrides [`PROCESSES`], for machines that are emulated.
const PROCESSES_VARIABLE: &str = "SENSOR_TEST_PROCESSES";

fn processes() -> u32 {
    match std::env::var(PROCESSES_VARIABLE) {
        Ok(text) => text.parse().expect("SENSOR_TEST_PROCESSES is a number"),
        Err(_) => PROCESSES,
    }
}

/// Exit code of the process with this number.
fn code(number: u32) -> u32 {
    number % 2
}

#[test]
fn every_short_process_is_seen_whole() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let mut child = actor("flood/spawn", &folder.path).spawn().expect("the actor starts");
    let parent = child.id();
    capture.wait_for_exit(parent);
    child.wait().expect("the actor ends");

    let mut numbers = BTreeMap::new();
    for (pid, argv, ppid) in capture.all(|header, body| match body {
        RecordBody::Exec(exec) if header.ppid == parent => {
            Some((header.pid, exec.argv.to_vec(), header.ppid))
        }
        _ => None,
    }) {
        let text = String::from_utf8(argv).expect("the arguments are text");
        let number: u32 = text.split('\0').nth(1).and_then(|number| number.parse().ok()).expect("a number");
        assert_eq!(ppid, parent);
        assert!(numbers.insert(pid, number).is_none(), "process {pid} executed twice");
    }
    assert_eq!(numbers.len(), processes() as usize, "execs");
    let exits = capture.all(|header, body| match body {
        RecordBody::Exit(exit) => numbers.get(&header.pid).map(|number| (*number, exit.wait_status)),
        _ => None,
    });
    assert_eq!(exits.len(), processes() as usize, "exits");
    for (number, status) in exits {
        assert_eq!(status, code(number) << 8, "process number {number}");
    }
    // Other tests run beside this one, and what they do to sockets may be lost.
    let is_lifecycle = |kind: Kind| [Kind::FORK, Kind::EXEC, Kind::EXIT].contains(&kind);
    let losses: Vec<_> = capture.counters().losses().filter(|loss| is_lifecycle(loss.0)).collect();
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn every_record_is_submitted_or_counted_as_lost() {
    let options =
        KernelOptions { lifecycle_ring_bytes: 4096, activity_ring_bytes: 4096, ..KernelOptions::default() };
    let Some(mut capture) = Capture::start_with(options) else { return };
    let folder = Folder::new();
    // Not drained meanwhile: the rings overflow.
    for _ in 0..100 {
        Command::new("/bin/true").arg("x".repeat(500)).status().expect("`true` runs");
        Command::new("/bin/touch").arg(folder.join("file")).status().expect("`touch` runs");
    }
    capture.kernel.detach();
    while !capture.drain() {}
    let counters = capture.counters();
    for kind in Kind::ALL {
        let received = capture.all(|header, _| (header.kind == kind).then_some(())).len() as u64;
        let lost: u64 = counters.losses().filter(|loss| loss.0 == kind).map(|loss| loss.2).sum();
        let accounted = counters.submitted(kind) + counters.cached(kind) + lost;
        assert_eq!(counters.seen(kind), accounted, "{}", kind.name());
        assert_eq!(received, counters.submitted(kind), "{}", kind.name());
    }
    assert!(counters.seen(Kind::EXEC) >= 200 && counters.lost_total() > 200, "the rings did overflow");
}

#[test]
fn causes_come_before_their_effects() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let script = "i=0; while [ $i -lt 300 ]; do (echo $i > file); /bin/true > file; i=$((i+1)); done";
    let pid = capture.run(Command::new("/bin/sh").args(["-c", script]).current_dir(&folder.path));
    let mut alive = BTreeMap::from([(pid, false)]);
    let mut opens = 0;
    for (header, kind, child) in capture.all(|header, body| match body {
        RecordBody::Fork(fork) => Some((*header, Kind::FORK, fork.child_pid)),
        RecordBody::Exec(_) => Some((*header, Kind::EXEC, 0)),
        RecordBody::Exit(_) => Some((*header, Kind::EXIT, 0)),
        RecordBody::FileOpen(_) => Some((*header, Kind::FILE_OPEN, 0)),
        _ => None,
    }) {
        let Some(is_over) = alive.get_mut(&header.pid) else { continue };
        assert!(!*is_over, "{} of process {} after its exit", kind.name(), header.pid);
        opens += u32::from(kind == Kind::FILE_OPEN);
        *is_over = kind == Kind::EXIT;
        if kind == Kind::FORK {
            assert!(alive.insert(child, false).is_none(), "process {child} was born twice");
        }
    }
    assert_eq!((alive.len(), opens), (601, 600), "every process and every open");
    assert!(alive.values().all(|is_over| *is_over));
}

/// What the actor of this module does.
pub(crate) fn act(action: &str) {
    assert_eq!(action, "spawn");
    for number in 0..processes() {
        let program = ["/bin/true", "/bin/false"][code(number) as usize];
        let status = Command::new(program).arg(number.to_string()).status().expect("the program runs");
        assert_eq!(status.code(), Some(code(number).cast_signed()));
    }
}
