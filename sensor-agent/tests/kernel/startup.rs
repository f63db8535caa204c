//! Processes that were there before the agent: the kernel's own scan, and what the agent knows of everybody when it has
//! begun. Skips where loading is not permitted. It may call the agent's kernel module and its pipeline.

use crate::support::{Capture, Folder, absolute, actor, bytes, no_cell};
use sensor_agent::enrich::process_table::TICK_NS;
use sensor_agent::enrich::seed;
use sensor_agent::kernel::HookState;
use sensor_agent::pipeline::{Output, Pipeline, PipelineConfig};
use sensor_event::{Header, Kind, Namespaces, PathFlags, RecordBody};
use sensor_tests::copy_program;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the actor says when it runs.
const READY: u8 = b'+';

/// A process that runs until it is dropped.
struct Waiting(Child);

impl Waiting {
    /// Starts a copy of this program as an actor, in its folder, and waits until it runs.
    fn start(program: &Path, folder: &Folder) -> Self {
        let mut command = Command::new(program);
        let template = actor("startup/wait", &folder.path);
        command.args(template.get_args());
        command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(&folder.path).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the actor starts");
        let mut said = [0];
        child.stderr.as_mut().expect("piped").read_exact(&mut said).expect("the actor says when it runs");
        assert_eq!(said[0], READY);
        Self(child)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It ends when nobody can write to it any more.
        drop(self.0.stdin.take());
        self.0.wait().expect("the actor ends");
    }
}

/// Whether the kernel shows its tasks here; says why if not.
fn has_iterator(capture: &Capture) -> bool {
    let hook = capture.kernel.hooks().iter().find(|hook| hook.kind == Kind::PROCESS);
    match hook.map(|hook| &hook.state) {
        Some(HookState::Attached) => true,
        Some(HookState::Failed(reason)) => {
            no_cell(Kind::PROCESS, &format!("{reason}; /proc alone serves"));
            false
        }
        None => panic!("no hook for processes in the table"),
    }
}

fn stat_field(pid: u32, index: usize) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let (_, fields) = stat.rsplit_once(") ").expect("the name stands in parentheses");
    // The first field behind the name is the third.
    fields.split(' ').nth(index - 3).and_then(|field| field.parse().ok()).expect("a number")
}

fn capabilities(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("a number")
}

/// Inode number of a namespace, 0 where the kernel has none of the kind.
fn namespace(pid: u32, name: &str) -> u32 {
    let Ok(link) = fs::read_link(format!("/proc/{pid}/ns/{name}")) else { return 0 };
    let text = link.to_str().expect("plain text");
    text.split(['[', ']']).nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn whoever_acts_is_introduced_also_while_hooks_are_attached() {
    let folder = Folder::new();
    let storm = Storm::start(&folder);
    let Some(mut capture) = Capture::start_new().filter(has_iterator) else { return };
    let parent = storm.0.id();
    capture.wait("a write of the storm", |record| {
        let is_write = matches!(record.body, RecordBody::FileOpen(_)) && record.header.ppid == parent;
        is_write.then_some(())
    });
    check_introduced(&capture, parent);
}

/// A process that starts one that writes a file after the other, until it is dropped.
struct Storm(Child);

impl Storm {
    fn start(folder: &Folder) -> Self {
        let file = folder.join("file");
        let forever = format!("while :; do /bin/sh -c ': >{}'; done", file.display());
        Self(Command::new("/bin/sh").arg("-c").arg(forever).spawn().expect("a shell runs"))
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.0.kill().expect("it still runs");
        self.0.wait().expect("it ends");
    }
}

/// No child of `parent` does anything but fork and end before a record has told what it is.
fn check_introduced(capture: &Capture, parent: u32) {
    let mut known = HashSet::new();
    let told = capture.all(|header, body| {
        let identity = (header.pid, header.start_time_ns);
        Some(match body {
            RecordBody::Fork(fork) => (Some((fork.child_pid, fork.child_start_time_ns)), None),
            RecordBody::Exec(_) | RecordBody::Process(_) => (Some(identity), None),
            RecordBody::Exit(_) => (None, None),
            _ if header.ppid == parent => (None, Some((identity, header.kind.name()))),
            _ => (None, None),
        })
    });
    for (introduced, acted) in told {
        known.extend(introduced);
        if let Some((identity, kind)) = acted {
            assert!(known.contains(&identity), "{kind} by {identity:?}, of whom nothing was told");
        }
    }
}

#[test]
fn a_process_from_before_the_agent_is_shown_by_the_kernel() {
    let folder = Folder::new();
    let (plain, removed) = (folder.join("plain"), folder.join("removed"));
    for copy in [&plain, &removed] {
        copy_program(std::env::current_exe().expect("the test program has a path"), copy);
    }
    let [one, other] = [&plain, &removed].map(|program| Waiting::start(program, &folder));
    fs::remove_file(&removed).expect("it is there");
    let Some(mut capture) = Capture::start_new() else { return };
    if !has_iterator(&capture) {
        return;
    }
    for (child, program) in [(&one, &plain), (&other, &removed)] {
        let pid = child.0.id();
        let is_removed = program == &removed;
        capture.wait("record of a process", |record| {
            let RecordBody::Process(process) = record.body else { return None };
            (record.header.pid == pid).then(|| {
                assert_eq!(record.header.start_time_ns / TICK_NS, stat_field(pid, 22), "start time");
                assert_eq!(record.header.ppid, std::process::id(), "parent");
                assert_eq!(absolute(process.exe), bytes(program));
                assert_eq!(process.exe.reference.flags.contains(PathFlags::DELETED), is_removed);
                assert_eq!(absolute(process.cwd), bytes(&folder.path));
                assert_eq!(process.body.cap_effective, capabilities(pid, "CapEff"));
                assert_eq!(process.body.cap_permitted, capabilities(pid, "CapPrm"));
                assert_eq!(process.body.namespaces, namespaces(pid));
                assert_eq!((process.body.argc, process.argv.len(), process.filename.len()), (0, 0, 0));
            })
        });
    }
    // Threads and kernel threads are no records, and no process is shown twice.
    let shown = capture.all(|header, body| matches!(body, RecordBody::Process(_)).then_some(*header));
    assert!(shown.iter().all(|header: &Header| header.pid == header.tid));
    let pids: std::collections::BTreeSet<u32> = shown.iter().map(|header| header.pid).collect();
    assert_eq!(pids.len(), shown.len());
    capture.cell(
        Kind::PROCESS,
        "exact start time, parent, program (also removed), directory, capabilities and namespaces of running processes",
    );
}

fn namespaces(pid: u32) -> Namespaces {
    Namespaces {
        mnt: namespace(pid, "mnt"),
        pid: namespace(pid, "pid_for_children"),
        net: namespace(pid, "net"),
        user: namespace(pid, "user"),
        uts: namespace(pid, "uts"),
        ipc: namespace(pid, "ipc"),
        cgroup: namespace(pid, "cgroup"),
        time: namespace(pid, "time"),
    }
}

#[test]
fn no_process_lacks_parent_start_time_or_program() {
    let folder = Folder::new();
    let program = folder.join("program");
    copy_program(std::env::current_exe().expect("the test program has a path"), &program);
    let child = Waiting::start(&program, &folder);
    // Alone: what other tests start before the hooks and end before the scan, nobody could know.
    let Some(mut capture) = Capture::start_alone() else { return };
    let mut pipeline = Pipeline::new(PipelineConfig::default());
    pipeline.seed(seed::scan().expect("/proc can be listed"));
    // Whoever lives when this one has ended has been told of.
    capture.run(&mut Command::new("/bin/true"));
    let exact: BTreeMap<u32, u64> = capture
        .all(|header, body| {
            matches!(body, RecordBody::Process(_)).then_some((header.pid, header.start_time_ns))
        })
        .into_iter()
        .collect();
    let mut output = Output::default();
    for record in &capture.records {
        pipeline.handle(record, &mut output);
    }
    let known: BTreeMap<u32, _> =
        pipeline.processes().map(|process| (process.identity.pid, process)).collect();
    assert!(known.contains_key(&child.0.id()));
    for (pid, process) in &known {
        let name = format!("process {pid} ({})", process.comm);
        assert!(process.identity.start_time_ns > 0 || *pid == 1, "{name} has no start time");
        if let Some(start_time_ns) = exact.get(pid) {
            assert_eq!(process.identity.start_time_ns, *start_time_ns, "{name} has no exact start time");
        }
        // Kernel threads have a name of their own for a program.
        if process.image.is_unknown() && !exact.contains_key(pid) && is_hidden(*pid) {
            println!("startup: {name} is neither shown by the iterator nor to be looked into");
            continue;
        }
        assert!(!process.image.is_unknown(), "{name} has no program");
        let has_parent = process.parent.is_some();
        let parent_is_outside = stat_parent(*pid).is_none_or(|parent| parent == 0);
        assert!(has_parent || parent_is_outside, "{name} has no parent");
    }
    // Of some of these /proc knew.
    assert!(pipeline.counters()["processes_unknown"] <= raced(&capture));
}

/// Processes that began before the hooks and ended before the scan, on a host that starts programs all the time: the first
/// that is told of them is that they execute, fork or end.
fn raced(capture: &Capture) -> u64 {
    let mut known = HashSet::new();
    let told = capture.all(|header, body| {
        let identity = (header.pid, header.start_time_ns);
        Some(match body {
            RecordBody::Fork(fork) => (Some((fork.child_pid, fork.child_start_time_ns)), Some(identity)),
            RecordBody::Process(_) => (Some(identity), None),
            RecordBody::Exec(_) | RecordBody::Exit(_) => (None, Some(identity)),
            _ => (None, None),
        })
    });
    let mut count = 0;
    for (introduced, acted) in told {
        count += u64::from(acted.is_some_and(|identity| known.insert(identity)));
        known.extend(introduced);
    }
    println!("startup: {count} processes raced the hooks");
    count
}

/// Whether even this process, which may load kernel programs, may not look into another: a sandbox around both.
fn is_hidden(pid: u32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    exe.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The parent's id, unless the process has ended.
fn stat_parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// What the actor of this module does: it says that it runs, and waits until its standard input ends.
pub(crate) fn act(action: &str) {
    assert_eq!(action, "wait");
    std::io::stderr().write_all(&[READY]).expect("somebody listens");
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).expect("standard input can be read");
}
