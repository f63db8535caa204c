//! The table against a model that keeps everything. Not the pipeline. It may call the table's public functions and
//! the record fixture.

use super::*;
use crate::event::Body;
use crate::record_fixture::Who;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn table(scope: Scope) -> ProcessTable {
    ProcessTable::new(Policy { own: Some(Identity { pid: 900, start_time_ns: 900_000_000 }), scope })
}

fn apply(table: &mut ProcessTable, record: &[u8]) {
    let event = Event::from_record(&sensor_event::decode(record).unwrap());
    match &event.body {
        Body::Fork(fork) => {
            table.fork(&event, fork);
        }
        Body::Exec(exec) => {
            table.exec(&event, exec);
        }
        Body::Exit(_) => {
            table.exit(&event);
        }
        _ => {
            table.touch(&event.actor, event.time);
        }
    }
}

fn identity(who: Who) -> Identity {
    Identity { pid: who.pid, start_time_ns: who.start_time_ns }
}

/// What a process must look like: program, parent, and whether it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    exe: String,
    parent: u32,
    has_ended: bool,
}

fn model_of(process: &Process) -> Model {
    let parent = process.parent.map_or(0, |parent| parent.pid);
    Model { exe: process.image.exe.clone(), parent, has_ended: process.ended.is_some() }
}

proptest! {
    /// Steps of a consistent history: who acts is alive, a child's pid is new.
    #[test]
    fn the_table_is_what_a_model_says(steps in proptest::collection::vec((0usize..64, 0u8..4), 0..120)) {
        let mut table = table(Scope::Host);
        let root = Who::new(1, 0);
        apply(&mut table, &root.exec("/sbin/init", &["init"]));
        let mut alive = vec![root];
        let mut model = BTreeMap::from([(1, Model { exe: "/sbin/init".to_owned(), parent: 0, has_ended: false })]);
        let mut next_pid = 2;
        for (pick, step) in steps {
            let who = alive[pick % alive.len()];
            match step {
                0 | 1 => {
                    let child = Who::new(next_pid, who.pid);
                    next_pid += 1;
                    apply(&mut table, &who.fork(child));
                    let exe = model[&who.pid].exe.clone();
                    model.insert(child.pid, Model { exe, parent: who.pid, has_ended: false });
                    alive.push(child);
                }
                2 => {
                    let exe = format!("/bin/program-{pick}");
                    apply(&mut table, &who.exec(&exe, &["x"]));
                    model.get_mut(&who.pid).unwrap().exe = exe;
                }
                _ if alive.len() > 1 => {
                    apply(&mut table, &who.exit(0));
                    model.get_mut(&who.pid).unwrap().has_ended = true;
                    alive.retain(|other| other.pid != who.pid);
                }
                _ => {}
            }
        }
        for (pid, expected) in &model {
            let found = table.find(identity(Who::new(*pid, 0))).map(model_of);
            prop_assert_eq!(found.as_ref(), Some(expected));
        }
        prop_assert_eq!(table.counters(), TableCounters { unknown: 1, ..TableCounters::default() });
    }
}

#[test]
fn ended_processes_are_remembered_for_a_grace_period() {
    let mut table = table(Scope::Host);
    let who = Who::new(5, 1);
    apply(&mut table, &who.exec("/bin/x", &["x"]));
    apply(&mut table, &who.exit(0));
    table.expire(BootNs(who.time_ns).after(GRACE_NS));
    assert!(table.find(identity(who)).is_some());
    table.expire(BootNs(who.time_ns).after(GRACE_NS + 1));
    assert!(table.is_empty());
}

#[test]
fn a_full_table_forgets_ended_processes_first_and_counts() {
    let mut table = table(Scope::Host);
    let parent = Who::new(1, 0);
    let count = u32::try_from(PROCESSES_MAX).unwrap();
    for pid in 2..=count {
        apply(&mut table, &parent.fork(Who::new(pid, 1)));
    }
    assert_eq!(table.len(), PROCESSES_MAX);
    apply(&mut table, &Who::new(77, 1).exit(0));
    apply(&mut table, &parent.fork(Who::new(count + 1, 1)));
    assert!(table.find(identity(Who::new(77, 1))).is_none());
    assert_eq!((table.len(), table.counters().evicted), (PROCESSES_MAX, 1));
    apply(&mut table, &parent.fork(Who::new(count + 2, 1)));
    assert!(table.find(identity(Who::new(count + 2, 1))).is_some());
    assert!(table.len() <= PROCESSES_MAX);
    assert_eq!(table.counters().evicted as usize, 1 + PROCESSES_MAX / EVICTED_SHARE);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut table = table(Scope::Host);
    let first = Who::new(5, 1);
    let second = Who { start_time_ns: first.start_time_ns + 1, ..first };
    apply(&mut table, &first.exec("/bin/first", &["x"]));
    apply(&mut table, &second.exec("/bin/second", &["x"]));
    assert_eq!(table.find(identity(first)).unwrap().image.exe, "/bin/first");
    assert_eq!(table.find(identity(second)).unwrap().image.exe, "/bin/second");
}

#[test]
fn seeded_children_find_a_parent_that_was_refined() {
    let mut table = table(Scope::Host);
    let seed = |pid: u32, ppid: u32, exe: &str, start_time_ns: u64| SeedProcess {
        pid,
        ppid,
        exe: exe.to_owned(),
        start_time_ns,
        ..SeedProcess::default()
    };
    table.seed(vec![seed(6, 5, "/bin/sh", 60_000_000), seed(5, 1, "/bin/app", 50_000_000)], BootNs(0));
    let exact = Who { start_time_ns: 50_000_999, ..Who::new(5, 1) };
    apply(&mut table, &exact.listen(1));
    let child = table.find(Identity { pid: 6, start_time_ns: 60_123_456 }).unwrap();
    assert_eq!(&*child.lineage.subject, "/bin/app", "parents come first, whatever their order");
    assert_eq!(table.parent(child).unwrap().identity, identity(exact));
    assert_eq!(table.len(), 2);
}

#[test]
fn the_oldest_ended_processes_lose_their_arguments_when_they_are_too_many() {
    let mut table = table(Scope::Host);
    let argument = "x".repeat(8_000);
    let forgotten_count = 10;
    let count = u32::try_from(ENDED_ARGUMENT_BYTES_MAX / (argument.len() + 1)).unwrap() + forgotten_count;
    for pid in 2..count + 2 {
        let who = Who::new(pid, 1);
        apply(&mut table, &who.exec("/bin/x", &[&argument]));
        apply(&mut table, &who.exit(0));
    }
    let arguments = |pid| table.find(identity(Who::new(pid, 1))).unwrap().image.argv.clone();
    assert_eq!(arguments(2).iter().collect::<Vec<_>>(), ["\\forgotten"]);
    assert_eq!(arguments(1 + forgotten_count).bytes(), "\\forgotten".len() + 1);
    assert_eq!(arguments(2 + forgotten_count).bytes(), 8_001, "the next one keeps them");
    assert_eq!(table.counters().arguments_forgotten, u64::from(forgotten_count));
    assert_eq!(table.len(), count as usize, "the processes themselves are there");
}
