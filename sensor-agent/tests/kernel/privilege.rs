//! Credentials, attached processes, written memory, BPF programs, namespaces, nameless files and modules, by real calls
//! on the running kernel. Not what an exec grants. It may call the agent's kernel module.

use crate::names::is_by_call;
use crate::raw;
use crate::support::{Capture, Folder, actor, no_cell};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sensor_event::{CredsBody, Ids, Kind, NamespaceBody, RecordBody, TargetBody};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `include/uapi/linux/capability.h`.
const CAP_CHOWN: u64 = 1;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// `include/uapi/linux/ptrace.h`.
const PTRACE_TRACEME: u32 = 0;
const PTRACE_SEIZE: u32 = 0x4206;

/// `BPF_PROG_TYPE_SOCKET_FILTER`, and a program of it: `r0 = 0; exit`.
const SOCKET_FILTER: u32 = 1;
const PROGRAM: [u64; 2] = [0xb7, 0x95];

const ROOT: Ids = Ids { uid: 0, euid: 0, gid: 0, egid: 0 };
const UNKNOWN: Ids = Ids { uid: u32::MAX, euid: u32::MAX, gid: u32::MAX, egid: u32::MAX };

/// A module that a test machine may have, and its name in the kernel.
const MODULE: (&str, &str) = ("/modules/dummy.ko", "dummy");

#[test]
fn changed_credentials_are_shown() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("privilege/creds", &folder.path));
    let creds: Vec<CredsBody> = capture.all(|header, body| match body {
        RecordBody::Creds(creds) if header.pid == pid => Some(*creds),
        _ => None,
    });
    let kept = CAP_CHOWN | CAP_SYS_ADMIN;
    let after: Vec<(Ids, u64)> = creds.iter().map(|creds| (creds.new, creds.cap_effective)).collect();
    let group = Ids { gid: 7, egid: 8, ..ROOT };
    let all = Ids { uid: 5, euid: 6, ..group };
    assert_eq!(creds[0].new, ROOT);
    assert_eq!((creds[0].cap_effective, creds[0].cap_permitted), (CAP_CHOWN, kept | SETIDS));
    assert_eq!(after[1..], [(ROOT, kept | SETIDS), (group, kept | SETIDS), (all, 0)]);
    assert_eq!(creds[3].cap_permitted, 0, "nothing is left without root");
    for creds in &creds {
        assert!(creds.old == UNKNOWN || creds.old.uid == 0, "{creds:?}");
    }
    capture.cell(Kind::CREDS, "ids and capabilities after setresuid, setresgid and capset");
}

/// `CAP_SETGID` and `CAP_SETUID`.
const SETIDS: u64 = 1 << 6 | 1 << 7;

fn targets(capture: &Capture, pid: u32, kind: Kind) -> Vec<TargetBody> {
    capture.all(|header, body| match body {
        RecordBody::Ptrace(target) | RecordBody::VmWrite(target)
            if header.pid == pid && header.kind == kind =>
        {
            Some(*target)
        }
        _ => None,
    })
}

/// The processes that a process made, by pid and start time.
fn children(capture: &Capture, pid: u32) -> Vec<(u32, u64)> {
    capture.all(|header, body| match body {
        RecordBody::Fork(fork) if header.pid == pid => Some((fork.child_pid, fork.child_start_time_ns)),
        _ => None,
    })
}

#[test]
fn ptrace_shows_the_target_and_the_result() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("privilege/ptrace", &folder.path));
    let children = children(&capture, pid);
    let (child, start) = children[0];
    let seized = targets(&capture, pid, Kind::PTRACE);
    // Where the call itself is seen, so is the number that it gave, and one that names nobody.
    let is_by_call = is_by_call(&capture, Kind::PTRACE);
    let attached = TargetBody {
        target_start_time_ns: start,
        target_pid: child,
        given_pid: if is_by_call { child } else { 0 },
        request: PTRACE_SEIZE,
        result: 0,
    };
    assert_eq!(seized[0], attached);
    let missing: Vec<(u32, i32)> =
        seized[1..].iter().map(|target| (target.given_pid, target.result)).collect();
    let expected = (i32::MAX.cast_unsigned(), Errno::ESRCH as i32);
    assert_eq!(missing, if is_by_call { vec![expected] } else { vec![] });
    let (second, second_start) = children[1];
    let traced = targets(&capture, second, Kind::PTRACE);
    assert_eq!(traced.len(), 1);
    assert_eq!((traced[0].request, traced[0].result), (PTRACE_TRACEME, 0));
    assert_eq!((traced[0].target_pid, traced[0].target_start_time_ns), (second, second_start));
    capture.cell(Kind::PTRACE, "request, target by pid and start time, number given, result");
}

#[test]
fn written_memory_of_others_is_shown() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("privilege/vm-write", &folder.path));
    let found: Vec<(u32, u32, i32)> = targets(&capture, pid, Kind::VM_WRITE)
        .iter()
        .map(|target| (target.given_pid, target.request, target.result))
        .collect();
    let child = children(&capture, pid)[0].0;
    assert_eq!(found, [(child, 1, 0), (i32::MAX.cast_unsigned(), 1, Errno::ESRCH as i32)]);
    capture.cell(Kind::VM_WRITE, "number given, areas, result");
}

#[test]
fn loaded_bpf_programs_are_shown() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("privilege/bpf", &folder.path));
    let loads = capture.all(|header, body| match body {
        RecordBody::BpfLoad(load) if header.pid == pid => Some(*load),
        _ => None,
    });
    assert_eq!(loads.len(), 2, "{loads:?}");
    assert_eq!(&loads[0].name, b"sensor_test\0\0\0\0\0");
    assert_eq!((loads[0].program_type, loads[0].instructions, loads[0].result), (SOCKET_FILTER, 2, 0));
    let facts = fs::read_to_string(folder.join("fdinfo")).expect("written");
    let fact = |name: &str| {
        let line = facts.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says so");
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!(loads[0].program_id.to_string(), fact("prog_id"));
    assert_eq!(format!("{:016x}", u64::from_be_bytes(loads[0].tag)), fact("prog_tag"));
    assert_eq!((loads[1].result, loads[1].program_id), (Errno::EINVAL as i32, 0));
    capture.cell(Kind::BPF_LOAD, "name, type, id, tag, instructions; the errno of a refused one");
}

#[test]
fn changed_namespaces_are_shown() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("privilege/namespaces", &folder.path));
    let changes: Vec<NamespaceBody> = capture.all(|header, body| match body {
        RecordBody::Namespace(namespace) if header.pid == pid => Some(*namespace),
        _ => None,
    });
    let inodes = fs::read_to_string(folder.join("inodes")).expect("written");
    let inodes: Vec<u32> = inodes.lines().map(|line| line.parse().expect("a number")).collect();
    let flags = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNET;
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(
        (changes[0].flags, changes[0].is_setns, changes[0].result),
        (flags.bits().cast_unsigned(), 0, 0)
    );
    let now = changes[0].namespaces;
    assert_eq!([now.mnt, now.pid, now.net, now.user, now.uts, now.ipc, now.cgroup], inodes[..7]);
    let newuts = CloneFlags::CLONE_NEWUTS.bits().cast_unsigned();
    assert_eq!((changes[1].flags, changes[1].is_setns, changes[1].result), (newuts, 1, 0));
    assert_eq!(changes[1].namespaces.uts, inodes[7], "back in the first one");
    assert_eq!((changes[2].is_setns, changes[2].result), (1, Errno::EINVAL as i32));
    capture.cell(Kind::NAMESPACE, "unshare and setns: what was asked, where the process is now, result");
}

#[test]
fn memfd_is_shown_with_its_name() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("privilege/memfd", &folder.path));
    let found = capture.all(|header, body| match body {
        RecordBody::Memfd(file) if header.pid == pid => {
            let name: Vec<u8> = file.path.leaf_first().next().unwrap_or_default().to_vec();
            Some((name, file.body.open_flags, file.body.result))
        }
        _ => None,
    });
    assert_eq!(found[0], (b"memfd:a name".to_vec(), MFdFlags::MFD_CLOEXEC.bits(), 0));
    assert!(found[1..].iter().all(|(_, _, result)| *result == Errno::EINVAL as i32), "{found:?}");
    capture.cell(Kind::MEMFD, "name, flags");
}

#[test]
fn loaded_modules_are_shown() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let (path, name) = MODULE;
    if !Path::new(path).exists() {
        no_cell(Kind::MODULE_LOAD, "no module is at hand to be loaded on this machine");
        return;
    }
    let pid = capture.run(&mut actor("privilege/module", &folder.path));
    let found = capture.all(|header, body| match body {
        RecordBody::ModuleLoad(module) if header.pid == pid => Some(module.name),
        _ => None,
    });
    let mut expected = [0; 56];
    expected[..name.len()].copy_from_slice(name.as_bytes());
    assert_eq!(found, [expected]);
    capture.cell(Kind::MODULE_LOAD, "name");
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    match action {
        "creds" => {
            let kept = CAP_CHOWN | CAP_SYS_ADMIN | SETIDS;
            raw::capset(CAP_CHOWN, kept).expect("capabilities can be given up");
            raw::capset(kept, kept).expect("permitted ones can be taken up");
            raw::setresgid(7, 8, 7).expect("root may");
            raw::setresuid(5, 6, 5).expect("root may");
            raw::setresuid(0, 0, 0).expect_err("others may not");
        }
        "ptrace" => act_ptrace(),
        "vm-write" => {
            let mut text = *b"the same text";
            let child = in_child(|| {
                loop {
                    nix::unistd::pause();
                }
            });
            raw::process_vm_writev(child.as_raw(), &mut text).expect("a child may be written to");
            raw::process_vm_writev(i32::MAX, &mut text).expect_err("there is no such process");
            end(child);
        }
        "bpf" => {
            let program = raw::bpf_load(SOCKET_FILTER, b"sensor_test", &PROGRAM).expect("root may");
            let fd = std::os::fd::AsRawFd::as_raw_fd(&program);
            let facts = fs::read(format!("/proc/self/fdinfo/{fd}")).expect("the kernel says what it is");
            fs::write(folder.join("fdinfo"), facts).expect("writable");
            raw::bpf_load(u32::MAX, b"sensor_test", &PROGRAM).expect_err("there is no such type");
        }
        "namespaces" => act_namespaces(folder),
        "memfd" => {
            drop(memfd_create(c"a name", MFdFlags::MFD_CLOEXEC).expect("a memfd can be made"));
            memfd_create(c"a name", MFdFlags::from_bits_retain(1 << 30)).expect_err("there is no such flag");
        }
        "module" => raw::finit_module(&File::open(MODULE.0).expect("it is there")).expect("root may"),
        _ => panic!("unknown action {action}"),
    }
}

/// A child that does something, and never returns from it.
fn in_child(action: impl FnOnce()) -> Pid {
    match raw::fork().expect("a process can be made") {
        Some(child) => child,
        None => {
            action();
            std::process::exit(0);
        }
    }
}

fn end(child: Pid) {
    nix::sys::signal::kill(child, nix::sys::signal::SIGKILL).expect("it is ours");
    waitpid(child, None).expect("it ends");
}

fn act_ptrace() {
    let sleeping = in_child(|| {
        loop {
            nix::unistd::pause();
        }
    });
    raw::ptrace(PTRACE_SEIZE, sleeping.as_raw()).expect("a child may be attached to");
    raw::ptrace(PTRACE_SEIZE, i32::MAX).expect_err("there is no such process");
    end(sleeping);
    let traced = in_child(|| raw::ptrace(PTRACE_TRACEME, 0).expect("nobody has yet"));
    waitpid(traced, None).expect("it ends");
}

fn act_namespaces(folder: &Path) {
    let path = |name: &str| format!("/proc/thread-self/ns/{name}");
    let inode = |name: &str| fs::metadata(path(name)).expect("the kernel shows it").ino();
    let first = File::open(path("uts")).expect("the kernel shows it");
    let first_inode = inode("uts");
    unshare(CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNET).expect("root may");
    let names = ["mnt", "pid_for_children", "net", "user", "uts", "ipc", "cgroup"];
    let mut inodes: Vec<String> = names.iter().map(|name| inode(name).to_string()).collect();
    inodes.push(first_inode.to_string());
    fs::write(folder.join("inodes"), inodes.join("\n")).expect("writable");
    setns(&first, CloneFlags::CLONE_NEWUTS).expect("root may");
    setns(&first, CloneFlags::CLONE_NEWNET).expect_err("it is of another kind");
}
