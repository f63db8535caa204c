//! The scan and the records that raced it, and where processes come from. Not the scan of the running host. It may
//! call the table's public functions and the record fixture.

use super::*;
use crate::enrich::origin::{OriginKind, Shim};
use crate::event::Body;
use crate::record_fixture::Who;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn table() -> ProcessTable {
    ProcessTable::new(Policy { own: None, scope: Scope::Host })
}

fn apply(table: &mut ProcessTable, record: &[u8]) -> bool {
    let event = Event::from_record(&sensor_event::decode(record).unwrap());
    match &event.body {
        Body::Fork(fork) => {
            table.fork(&event, fork);
        }
        Body::Exec(exec) => {
            table.exec(&event, exec);
        }
        Body::Exit(_) => return table.exit(&event).is_some(),
        _ => {
            table.touch(&event.actor, event.time);
        }
    }
    true
}

fn identity(who: Who) -> Identity {
    Identity { pid: who.pid, start_time_ns: who.start_time_ns }
}

/// As /proc shows a process.
fn seen(who: Who, ppid: u32, exe: &str) -> SeedProcess {
    SeedProcess {
        pid: who.pid,
        ppid,
        start_time_ns: who.start_time_ns / TICK_NS * TICK_NS,
        exe: exe.to_owned(),
        argv: ["x"].iter().collect(),
        cgroup: "/system.slice/web.service".to_owned(),
        cgroup_id: 1,
        ..SeedProcess::default()
    }
}

#[derive(Clone, Debug)]
struct Model {
    who: Who,
    exe: String,
    ppid: u32,
    is_alive: bool,
}

/// One step of a history, as a record, with the model after it.
type Step = (Vec<u8>, BTreeMap<u32, Model>);

fn history(picks: &[(usize, u8)]) -> Vec<Step> {
    let model = |who: Who, exe: &str| Model { who, exe: exe.to_owned(), ppid: who.ppid, is_alive: true };
    let mut processes = BTreeMap::from([(1, model(Who::new(1, 0), "/sbin/init"))]);
    let mut steps = Vec::new();
    for (index, (pick, action)) in picks.iter().enumerate() {
        let alive: Vec<u32> =
            processes.values().filter(|process| process.is_alive).map(|process| process.who.pid).collect();
        let pid = alive[pick % alive.len()];
        let actor = processes[&pid].who.at(index as u64 + 1);
        let record = match action {
            0 | 1 => {
                let child = Who::new(100 + index as u32, pid);
                let exe = processes[&pid].exe.clone();
                processes.insert(child.pid, model(child, &exe));
                actor.fork(child)
            }
            2 => {
                let exe = format!("/bin/program-{index}");
                processes.get_mut(&pid).unwrap().exe.clone_from(&exe);
                actor.exec(&exe, &["x"])
            }
            _ if pid != 1 => {
                processes.get_mut(&pid).unwrap().is_alive = false;
                processes
                    .values_mut()
                    .filter(|process| process.ppid == pid)
                    .for_each(|process| process.ppid = 1);
                actor.exit(0)
            }
            _ => continue,
        };
        steps.push((record, processes.clone()));
    }
    steps
}

proptest! {
    /// Programs are attached, then /proc is scanned, then the records are read: at whatever moments the first two fall, the
    /// table ends as the host does.
    #[test]
    fn the_scan_and_the_records_that_raced_it_agree(
        picks in proptest::collection::vec((0usize..64, 0u8..4), 1..80),
        attached in 0usize..80,
        scanned_after in 0usize..80,
    ) {
        let steps = history(&picks);
        let attached = attached.min(steps.len());
        let scanned = (attached + scanned_after).min(steps.len());
        let start = BTreeMap::from([(1, Model { who: Who::new(1, 0), exe: "/sbin/init".to_owned(), ppid: 0, is_alive: true })]);
        let at_scan = if scanned == 0 { &start } else { &steps[scanned - 1].1 };
        let mut table = table();
        // One that has ended and is not yet waited for is shown without its program.
        let shown = at_scan.values().map(|process| SeedProcess {
            is_zombie: !process.is_alive,
            ..seen(process.who, process.ppid, if process.is_alive { &process.exe } else { "" })
        });
        table.seed(shown.collect(), BootNs(scanned as u64));
        for (record, _) in &steps[attached..] {
            apply(&mut table, record);
        }
        let end = steps.last().map_or(&start, |step| &step.1);
        for process in end.values() {
            let found = table.find(identity(process.who));
            prop_assert_eq!(found.map(|found| found.ended.is_none()), Some(process.is_alive));
            if process.is_alive {
                prop_assert_eq!(&found.unwrap().image.exe, &process.exe);
            }
        }
        prop_assert_eq!(table.counters().unknown, 0);
        table.expire(BootNs(u64::MAX));
        let alive = end.values().filter(|process| process.is_alive).count();
        prop_assert_eq!(table.len(), alive, "nothing stays that has ended");
    }
}

#[test]
fn a_zombie_of_the_scan_is_forgotten_and_its_exit_is_told_once() {
    let (mut table, who) = (table(), Who::new(50, 1));
    let zombie = SeedProcess { is_zombie: true, ..seen(who, 1, "") };
    table.seed(vec![zombie], BootNs(who.time_ns));
    assert!(apply(&mut table, &who.exit(0)), "its record is the first to tell");
    assert!(!apply(&mut table, &who.exit(0)));
    assert_eq!(table.counters().exits_repeated, 1);
    table.expire(BootNs(who.time_ns).after(GRACE_NS));
    assert_eq!(table.len(), 1);
    table.expire(BootNs(who.time_ns).after(GRACE_NS + 1));
    assert!(table.is_empty());
}

#[test]
fn the_fork_of_a_process_that_the_scan_found_tells_its_first_parent() {
    let (mut table, parent, child) = (table(), Who::new(20, 1), Who::new(21, 20));
    table.seed(vec![seen(child, 1, "/bin/daemon")], BootNs(0));
    apply(&mut table, &parent.fork(child));
    let found = table.find(identity(child)).unwrap();
    assert_eq!((found.image.exe.as_str(), found.parent), ("/bin/daemon", Some(identity(parent))));
}

/// The origin of a process that `chain` leads to: each program is executed by a child of the one before.
fn origin(chain: &[&str]) -> Option<(OriginKind, String)> {
    let mut table = table();
    let mut who = Who::new(1, 0);
    for (index, program) in chain.iter().enumerate() {
        let child = Who::new(2 + index as u32, who.pid);
        apply(&mut table, &who.fork(child));
        let argv: Vec<&str> = program.split(' ').collect();
        apply(&mut table, &child.exec(argv[0], &argv));
        who = child;
    }
    let origin = table.find(identity(who)).unwrap().facts().origin?;
    Some((origin.kind, origin.exe.clone()))
}

#[test]
fn the_nearest_ancestor_that_says_so_is_where_a_process_comes_from() {
    let check = |chain: &[&str], expected: Option<(OriginKind, &str)>| {
        let found = origin(chain);
        assert_eq!(found.as_ref().map(|(kind, exe)| (*kind, exe.as_str())), expected, "{chain:?}");
    };
    check(
        &["/usr/sbin/cron", "/usr/bin/dash", "/usr/bin/backup"],
        Some((OriginKind::Cron, "/usr/sbin/cron")),
    );
    check(&["/usr/sbin/cron"], None);
    check(&["/usr/sbin/sshd", "/usr/bin/bash", "/usr/bin/id"], Some((OriginKind::Login, "/usr/sbin/sshd")));
    check(&["/usr/sbin/sshd", "/usr/sbin/atd", "/usr/bin/id"], Some((OriginKind::Cron, "/usr/sbin/atd")));
    check(&["/usr/sbin/cron", "/usr/bin/su", "/usr/bin/id"], Some((OriginKind::Cron, "/usr/sbin/cron")));
    check(&["/usr/bin/su", "/usr/bin/id"], Some((OriginKind::Login, "/usr/bin/su")));
    check(&["/tmp/cron", "/usr/bin/id"], None);
    check(&["/home/x/usr/sbin/sshd", "/usr/bin/id"], None);
}

const SHIM: &str = "/usr/bin/containerd-shim-runc-v2 -namespace default -id web -address /run/x";

#[test]
fn the_outermost_shim_says_which_container_and_nothing_inside_can_change_it() {
    let check = |chain: &[&str], cgroup: &str, expected: &str| {
        let mut table = table();
        table.seed_cgroup(7, cgroup);
        let mut who = Who::new(1, 0);
        for (index, program) in chain.iter().enumerate() {
            let child = Who::new(2 + index as u32, who.pid).in_cgroup(who.cgroup_id);
            apply(&mut table, &who.fork(child));
            let argv: Vec<&str> = program.split(' ').collect();
            apply(&mut table, &child.exec(argv[0], &argv));
            who = child;
        }
        // A process moves, and the next record shows it.
        let moved = Who::new(90, who.pid).in_cgroup(7);
        apply(&mut table, &who.fork(moved));
        apply(&mut table, &moved.listen(1));
        assert_eq!(table.find(identity(moved)).unwrap().workload.0, expected, "{chain:?} {cgroup}");
    };
    check(&[SHIM], "/default/web", "container:default/web");
    check(&[SHIM], "/default/web/below", "container:default/web");
    check(&[SHIM], "/default/other", "cgroup:/default/other");
    check(
        &["/tmp/x/containerd-shim-runc-v2 -namespace default -id web"],
        "/default/web",
        "cgroup:/default/web",
    );
    check(&["/usr/bin/evil -namespace default -id web"], "/default/web", "cgroup:/default/web");
    check(&[], "/default/web", "cgroup:/default/web");
    let inner = "/usr/bin/containerd-shim-runc-v2 -namespace default -id db";
    check(&[SHIM, inner], "/default/db", "cgroup:/default/db");
    check(&[SHIM, inner], "/default/web", "container:default/web");
    let odd = "/usr/bin/containerd-shim-runc-v2 -namespace default -id ../web";
    check(&[odd], "/default/web", "cgroup:/default/web");
}

#[test]
fn a_container_begins_with_its_own_first_program() {
    let (mut table, init) = (table(), Who::new(1, 0));
    table.seed_cgroup(7, "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    let runtime = Who::new(30, 1);
    apply(&mut table, &init.fork(runtime));
    apply(&mut table, &runtime.exec("/usr/sbin/runc", &["runc", "init"]));
    let inside = runtime.in_cgroup(7);
    apply(&mut table, &inside.listen(1));
    let subject = |table: &ProcessTable| table.find(identity(inside)).unwrap().lineage.subject.to_string();
    assert_eq!(subject(&table), "/usr/sbin/runc");
    apply(&mut table, &inside.exec("/usr/bin/dash", &["sh", "-c", "ls"]));
    assert_eq!(subject(&table), "/usr/bin/dash");
    apply(&mut table, &inside.exec("/usr/bin/ls", &["ls"]));
    assert_eq!(subject(&table), "/usr/bin/dash");
}

#[test]
fn a_shim_of_another_user_says_nothing() {
    let mut table = table();
    let argv = SHIM.split(' ').collect();
    let shim = SeedProcess {
        uid: 1000,
        euid: 1000,
        argv,
        ..seen(Who::new(5, 1), 1, "/usr/bin/containerd-shim-runc-v2")
    };
    let child = SeedProcess { cgroup: "/default/web".to_owned(), ..seen(Who::new(20, 5), 5, "/bin/x") };
    let root_shim = SeedProcess { uid: 0, euid: 0, ..shim.clone() };
    table.seed(vec![shim, child.clone()], BootNs(0));
    assert_eq!(table.find(identity(Who::new(20, 5))).unwrap().workload.0, "cgroup:/default/web");
    let mut table = ProcessTable::new(Policy { own: None, scope: Scope::Host });
    table.seed(vec![child, root_shim], BootNs(0));
    let found = table.find(identity(Who::new(20, 5))).unwrap();
    assert_eq!(found.workload.0, "container:default/web");
    let shim = Shim { namespace: "default".to_owned(), id: "web".to_owned() };
    assert_eq!(found.facts().shim.as_deref(), Some(&shim));
}
