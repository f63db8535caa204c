//! Execs, forks and exits of real programs, on the running kernel. Skips where loading is not
//! permitted. It may call the agent's kernel module.

use crate::raw;
use crate::support::{Capture, Folder, absolute, actor, bytes, no_cell};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chroot, fexecve};
use sensor_event::{ExecFlags, Kind, PathFlags, PathRef, RecordBody};
use sensor_tests::{copy_program, write_script};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What a test looks at in an exec.
#[derive(Debug, PartialEq, Eq)]
struct Exec {
    exe: Vec<u8>,
    flags: PathFlags,
    cwd: Vec<u8>,
    filename: Vec<u8>,
    interpreter: Vec<u8>,
    argv: Vec<u8>,
    exec_flags: ExecFlags,
    root_components: u16,
    ppid: u32,
}

/// The last exec of a process.
fn exec_of(capture: &Capture, pid: u32) -> Exec {
    let mut execs = capture.all(|header, body| match body {
        RecordBody::Exec(exec) if header.pid == pid => Some(Exec {
            exe: absolute(exec.exe),
            flags: exec.exe.reference.flags,
            cwd: absolute(exec.cwd),
            filename: exec.filename.to_vec(),
            interpreter: exec.interpreter.to_vec(),
            argv: exec.argv.to_vec(),
            exec_flags: exec.body.flags,
            root_components: exec.exe.reference.root_components,
            ppid: header.ppid,
        }),
        _ => None,
    });
    execs.pop().unwrap_or_else(|| panic!("no exec of process {pid}"))
}

/// A program of a folder: a copy of `true`.
fn program(folder: &Folder, name: impl AsRef<Path>) -> std::path::PathBuf {
    let path = folder.join(name);
    copy_program("/bin/true", &path);
    path
}

#[test]
fn exec_shows_program_arguments_directory_and_parent() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let program = program(&folder, "a program");
    let pid = capture.run(Command::new(&program).args(["one", "", "three\nlines"]).current_dir(&folder.path));
    let exec = exec_of(&capture, pid);
    assert_eq!(exec.exe, bytes(&program));
    assert_eq!(exec.filename, bytes(&program));
    assert_eq!(exec.cwd, bytes(&folder.path));
    assert_eq!(exec.argv, [&bytes(&program)[..], b"\0one\0\0three\nlines\0"].concat());
    assert_eq!(exec.ppid, std::process::id());
    assert_eq!(exec.interpreter, b"");
    assert_eq!(exec.exec_flags, ExecFlags::default());
    assert_eq!(exec.flags, PathFlags::default());
    assert_eq!(usize::from(exec.root_components), program.components().count() - 1);
    capture.cell(Kind::EXEC, "program, name as given, arguments, directory, parent");
}

#[test]
fn exec_path_is_the_resolved_one() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let program = program(&folder, "program");
    fs::create_dir(folder.join("below")).expect("a folder can be made");
    symlink("program", folder.join("link")).expect("a link can be made");
    for given in ["./program", "./link", "below/../program", "./below/.././/link"] {
        let pid = capture.run(Command::new(given).current_dir(&folder.path));
        let exec = exec_of(&capture, pid);
        assert_eq!((exec.exe, exec.filename), (bytes(&program), given.as_bytes().to_vec()), "{given}");
    }
}

#[test]
fn names_are_bytes() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    for name in
        [&b"with space"[..], b"new\nline", b"not utf-8 \xff\xfe", b"back\\slash \"quote\"", b"\x01\x7f"]
    {
        let program = program(&folder, OsStr::from_bytes(name));
        let pid = capture.run(Command::new(&program).arg(OsStr::from_bytes(b"arg \xff\n")));
        let exec = exec_of(&capture, pid);
        assert_eq!(exec.exe, bytes(&program));
        assert_eq!(exec.argv, [&bytes(&program)[..], b"\0arg \xff\n\0"].concat());
    }
}

#[test]
fn script_shows_its_name_and_its_interpreter() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let script = folder.join("script");
    write_script(&script, "#!/bin/sh -e\nexit 3\n");
    let pid = capture.run(&mut Command::new(&script));
    let exec = exec_of(&capture, pid);
    assert_eq!(exec.filename, bytes(&script));
    assert_eq!(exec.interpreter, b"/bin/sh");
    assert_eq!(exec.exec_flags, ExecFlags::SCRIPT);
    assert_eq!(exec.exe, bytes(fs::canonicalize("/bin/sh").expect("there is a shell")));
    assert_eq!(exec.argv, [b"/bin/sh\0-e\0", &bytes(&script)[..], b"\0"].concat());
}

#[test]
fn long_arguments_are_cut_and_flagged() {
    let Some(mut capture) = Capture::start() else { return };
    let pid = capture.run(Command::new("/bin/true").arg("x".repeat(20_000)));
    let exec = exec_of(&capture, pid);
    assert_eq!(exec.exec_flags, ExecFlags::ARGV_TRUNCATED);
    assert!(exec.argv.starts_with(b"/bin/true\0xxx") && exec.argv.len() == 8191, "{} bytes", exec.argv.len());
}

#[test]
fn exit_shows_code_and_signal() {
    let Some(mut capture) = Capture::start() else { return };
    let status = |capture: &Capture, pid| {
        capture.all(|header, body| match body {
            RecordBody::Exit(exit) if header.pid == pid => Some(exit.wait_status),
            _ => None,
        })
    };
    let pid = capture.run(Command::new("/bin/sh").args(["-c", "exit 7"]));
    assert_eq!(status(&capture, pid), [7 << 8]);
    let pid = capture.run(Command::new("/bin/sh").args(["-c", "kill -9 $$"]));
    assert_eq!(status(&capture, pid), [9]);
    capture.cell(Kind::EXIT, "exit code, signal");
}

#[test]
fn fork_links_child_to_parent_by_start_time() {
    let Some(mut capture) = Capture::start() else { return };
    let pid = capture.run(Command::new("/bin/sh").args(["-c", "(exit 3); exit 4"]));
    let start = capture.all(|header, body| {
        matches!(body, RecordBody::Exec(_))
            .then_some(header)
            .filter(|header| header.pid == pid)
            .map(|header| header.start_time_ns)
    })[0];
    let forks = capture.all(|header, body| match body {
        RecordBody::Fork(fork) if header.pid == pid => Some(*fork),
        _ => None,
    });
    assert_eq!(forks.len(), 1, "one subshell");
    assert_eq!((forks[0].child_ppid, forks[0].child_parent_start_time_ns), (pid, start));
    let child = capture.all(|header, body| match body {
        RecordBody::Exit(exit) if header.pid == forks[0].child_pid => Some((*header, exit.wait_status)),
        _ => None,
    });
    assert_eq!(child.len(), 1);
    assert_eq!(child[0].1, 3 << 8);
    assert_eq!(child[0].0.start_time_ns, forks[0].child_start_time_ns);
    assert_eq!(child[0].0.parent_start_time_ns, start);
    capture.cell(Kind::FORK, "child and parent by pid and start time");
}

#[test]
fn threads_are_not_processes() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("process/threads", &folder.path));
    let records = capture.all(|header, body| {
        (header.pid == pid).then_some(match body {
            RecordBody::Exec(_) => Kind::EXEC,
            RecordBody::Fork(_) => Kind::FORK,
            RecordBody::Exit(_) => Kind::EXIT,
            _ => return None,
        })
    });
    assert_eq!(records, [Kind::EXEC, Kind::EXIT]);
}

#[test]
fn program_without_a_name_is_flagged() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let copy = program(&folder, "gone");
    let pid = capture.run(&mut actor("process/deleted", &folder.path));
    let exec = exec_of(&capture, pid);
    assert_eq!((exec.exe, exec.flags), (bytes(&copy), PathFlags::DELETED));
    assert_eq!(exec.exec_flags, ExecFlags::default());

    let pid = capture.run(&mut actor("process/memfd", &folder.path));
    let exec = exec_of(&capture, pid);
    assert_eq!(exec.exe, b"/memfd:hidden");
    assert_eq!(exec.exec_flags, ExecFlags::MEMFD);
    assert_eq!(exec.flags, PathFlags::DELETED.union(PathFlags::NO_NAMESPACE));
    assert_eq!(exec.root_components, PathRef::ROOT_NOT_MET);
}

#[test]
fn chroot_does_not_hide_where_a_program_lies() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    program(&folder, "program");
    fs::create_dir(folder.join("root")).expect("a folder can be made");
    let pid = capture.run(&mut actor("process/chroot", &folder.path));
    let exec = exec_of(&capture, pid);
    // The root is a bind mount of `/`, so the whole path appears below it again.
    let inside = bytes(folder.join("program"));
    assert_eq!(exec.filename, inside);
    assert_eq!(exec.exe, [bytes(folder.join("root")), inside].concat());
    assert_eq!(usize::from(exec.root_components), folder.join("program").components().count() - 1);
    assert_eq!(exec.cwd, bytes(folder.join("root")));
}

#[test]
fn a_control_group_that_is_made_is_shown_with_its_path() {
    let Some(mut capture) = Capture::start() else { return };
    let mounts = fs::read_to_string("/proc/self/mounts").expect("there is a list of mounts");
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let place = words.nth(1)?;
        (words.next()? == "cgroup2").then_some(place)
    });
    let Some(mount) = mount else {
        no_cell(Kind::CGROUP, "no cgroup v2 hierarchy is mounted");
        return;
    };
    let name = format!("sensor-test-{}", std::process::id());
    let outer = Path::new(mount).join(&name);
    fs::create_dir_all(outer.join("inner")).expect("a control group can be made");
    let ids = ["", "inner"].map(|name| fs::metadata(outer.join(name)).expect("it is there").ino());
    let own = std::process::id();
    for (id, path) in ids.into_iter().zip([format!("/{name}"), format!("/{name}/inner")]) {
        let found = capture.wait("the control group", |record| match record.body {
            RecordBody::Cgroup(cgroup) if cgroup.body.id == id => {
                Some((record.header.pid, absolute(cgroup.path)))
            }
            _ => None,
        });
        assert_eq!((found.0, String::from_utf8_lossy(&found.1).ends_with(&path)), (own, true), "{found:?}");
    }
    fs::remove_dir(outer.join("inner")).and_then(|()| fs::remove_dir(&outer)).expect("it can be removed");
    capture.cell(Kind::CGROUP, "id and path");
}

#[test]
fn mount_namespace_shows_its_own_paths() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::create_dir(folder.join("here")).expect("a folder can be made");
    fs::create_dir(folder.join("there")).expect("a folder can be made");
    program(&folder, "here/program");
    let pid = capture.run(&mut actor("process/mount", &folder.path));
    assert_eq!(exec_of(&capture, pid).exe, bytes(folder.join("there/program")));
    let namespaces = capture.all(|header, body| {
        (header.pid == pid && matches!(body, RecordBody::Exec(_))).then_some(header.mnt_ns)
    });
    assert_ne!(namespaces.first(), namespaces.last(), "the namespace changed between the two execs");
}

#[test]
fn exec_shows_capabilities_and_namespaces() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("process/facts", &folder.path));
    let (body, header) = capture
        .all(|header, body| match body {
            RecordBody::Exec(exec) if header.pid == pid => Some((exec.body, *header)),
            _ => None,
        })
        .pop()
        .expect("an exec");
    let status = fs::read_to_string(folder.join("status")).expect("written");
    let fact = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says so");
        u64::from_str_radix(line.trim(), 16).expect("hexadecimal")
    };
    assert_eq!((body.cap_effective, body.cap_permitted), (fact("CapEff:"), fact("CapPrm:")));
    let inodes = fs::read_to_string(folder.join("namespaces")).expect("written");
    let inodes: Vec<u32> = inodes.lines().map(|line| line.parse().expect("a number")).collect();
    let now = body.namespaces;
    let seen = [now.mnt, now.pid, now.net, now.user, now.uts, now.ipc, now.cgroup];
    assert_eq!(seen, inodes[..7]);
    assert_eq!((header.mnt_ns, header.pid_ns), (now.mnt, now.pid));
    // A kernel without clocks of its own has no such namespace.
    assert_eq!(Some(now.time).filter(|time| *time != 0), inodes.get(7).copied());
    assert_eq!(body.tty, [0; 16], "no terminal of its own");
    capture.cell(Kind::EXEC, "capabilities, namespaces of every kind");
}

#[test]
fn exec_shows_the_terminal() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("process/terminal", &folder.path));
    if folder.join("refusal").exists() {
        println!("skipped: no pseudo terminal can be made here");
        return;
    }
    let ttys = capture.all(|header, body| match body {
        RecordBody::Exec(exec) if header.pid == pid => Some(exec.body.tty),
        _ => None,
    });
    let number = fs::read_to_string(folder.join("number")).expect("written");
    let mut expected = [0; 16];
    let name = format!("pts{number}");
    expected[..name.len()].copy_from_slice(name.as_bytes());
    assert_eq!(ttys, [[0; 16], expected], "none, and then one");
    capture.cell(Kind::EXEC, "terminal");
}

#[test]
fn a_program_written_into_a_container_is_flagged() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let run = |capture: &mut Capture, which: &str| {
        let pid = capture.run(&mut actor(&format!("process/overlay-{which}"), &folder.path));
        (!folder.join("refusal").exists()).then(|| exec_of(capture, pid))
    };
    let Some(lower) = run(&mut capture, "lower") else {
        println!("skipped: no overlay can be mounted here");
        return;
    };
    let upper = run(&mut capture, "upper").expect("an overlay can be mounted");
    assert_eq!((lower.exe, lower.exec_flags), (bytes(folder.join("merged/lower")), ExecFlags::default()));
    assert_eq!((upper.exe, upper.exec_flags), (bytes(folder.join("merged/upper")), ExecFlags::UPPER_LAYER));
    capture.cell(Kind::EXEC, "whether the program lies in an overlay's upper layer");
}

#[test]
fn exec_by_a_thread_is_its_process_s() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let program = program(&folder, "program");
    let pid = capture.run(&mut actor("process/exec-by-thread", &folder.path));
    assert_eq!(exec_of(&capture, pid).exe, bytes(&program));
    let identities = capture.all(|header, body| match body {
        RecordBody::Exec(_) | RecordBody::Exit(_) if header.pid == pid => {
            Some((header.pid, header.tid, header.start_time_ns))
        }
        _ => None,
    });
    // Of the runner's exec, of the thread's, and of the end.
    assert_eq!(identities.len(), 3, "{identities:?}");
    assert!(identities.iter().all(|identity| *identity == identities[0]), "{identities:?}");
}

#[test]
fn a_chain_of_scripts_shows_its_ends() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let (inner, outer) = (folder.join("inner"), folder.join("outer"));
    write_script(&inner, "#!/bin/sh\nexit 0\n");
    write_script(&outer, [b"#!", &bytes(&inner)[..], b"\n"].concat());
    let pid = capture.run(&mut Command::new(&outer));
    let exec = exec_of(&capture, pid);
    assert_eq!((exec.filename, exec.interpreter), (bytes(&outer), b"/bin/sh".to_vec()));
    assert_eq!(exec.exe, bytes(fs::canonicalize("/bin/sh").expect("there is a shell")));
    assert_eq!(exec.argv, [b"/bin/sh\0", &bytes(&inner)[..], b"\0", &bytes(&outer), b"\0"].concat());
}

#[test]
fn fork_shows_new_namespaces() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("process/clone", &folder.path));
    let flags = capture.all(|header, body| match body {
        RecordBody::Fork(fork) if header.pid == pid => Some(fork.new_namespaces),
        _ => None,
    });
    let expected = NEW_NAMESPACES.map(|flags| flags.bits().cast_unsigned());
    assert_eq!(flags, expected);
    capture.cell(Kind::FORK, "kinds of namespaces in which the child differs");
}

/// What the children of `process/clone` are made with.
const NEW_NAMESPACES: [CloneFlags; 3] = [
    CloneFlags::empty(),
    CloneFlags::CLONE_NEWUTS.union(CloneFlags::CLONE_NEWNET),
    CloneFlags::CLONE_NEWPID.union(CloneFlags::CLONE_NEWUSER).union(CloneFlags::CLONE_NEWNS),
];

#[test]
fn one_pid_given_twice_is_two_processes() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("process/same-pid", &folder.path));
    let Ok(reused) = fs::read_to_string(folder.join("reused")) else {
        println!("skipped: the kernel gave no pid twice");
        return;
    };
    let reused: u32 = reused.parse().expect("a number");
    let started = capture.all(|header, body| match body {
        RecordBody::Fork(fork) if header.pid == pid && fork.child_pid == reused => {
            Some(fork.child_start_time_ns)
        }
        _ => None,
    });
    let ended = capture.all(|header, body| match body {
        RecordBody::Exit(exit) if header.pid == reused => Some((header.start_time_ns, exit.wait_status)),
        _ => None,
    });
    assert_eq!(started.len(), 2);
    assert!(started[0] < started[1]);
    assert_eq!(ended, [(started[0], 1 << 8), (started[1], 2 << 8)]);
}

#[test]
fn a_process_killed_in_all_its_threads_ends_once() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("process/killed", &folder.path));
    let ends = capture.all(|header, body| match body {
        RecordBody::Exit(exit) if header.pid == pid => Some(exit.wait_status),
        _ => None,
    });
    assert_eq!(ends, [9]);
    capture.cell(Kind::EXIT, "once, when a signal ends a process with threads");
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    match action {
        "threads" => {
            for _ in 0..20 {
                std::thread::spawn(|| {}).join().expect("the thread ends");
            }
        }
        "deleted" => {
            let path = folder.join("gone");
            let file = open(&path, OFlag::O_RDONLY, Mode::empty()).expect("the copy opens");
            fs::remove_file(&path).expect("the copy can be removed");
            execute(&file);
        }
        "memfd" => {
            let file = memfd_create(c"hidden", MFdFlags::empty()).expect("a memfd can be made");
            let mut file = fs::File::from(file);
            file.write_all(&fs::read("/bin/true").expect("`true` can be read"))
                .expect("the memfd can be written");
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            panic!("exec failed: {}", Command::new(path).exec());
        }
        "chroot" => {
            own_mounts();
            bind("/", &folder.join("root"));
            chroot(&folder.join("root")).expect("chroot works");
            std::env::set_current_dir("/").expect("the root can be entered");
            panic!("exec failed: {}", Command::new(folder.join("program")).exec());
        }
        "mount" => {
            own_mounts();
            bind(folder.join("here"), &folder.join("there"));
            panic!("exec failed: {}", Command::new(folder.join("there/program")).exec());
        }
        "facts" => act_facts(folder),
        "terminal" => {
            let Ok(number) = raw::take_terminal() else {
                return fs::write(folder.join("refusal"), "").expect("writable");
            };
            fs::write(folder.join("number"), number.to_string()).expect("writable");
            panic!("exec failed: {}", Command::new("/bin/true").exec());
        }
        "overlay-lower" | "overlay-upper" => act_overlay(&action["overlay-".len()..], folder),
        "exec-by-thread" => {
            let program = folder.join("program");
            let exec = std::thread::spawn(move || Command::new(program).exec());
            panic!("exec failed: {:?}", exec.join());
        }
        "clone" => {
            for flags in NEW_NAMESPACES {
                match raw::clone(flags).expect("root may") {
                    Some(child) => drop(waitpid(child, None).expect("it ends")),
                    None => std::process::exit(0),
                }
            }
        }
        "same-pid" => act_same_pid(folder),
        "killed" => {
            for _ in 0..3 {
                std::thread::spawn(|| {
                    loop {
                        std::thread::park();
                    }
                });
            }
            kill(Pid::this(), Signal::SIGKILL).expect("it is us");
        }
        _ => panic!("unknown action {action}"),
    }
}

fn act_facts(folder: &Path) {
    fs::copy("/proc/thread-self/status", folder.join("status")).expect("the kernel says what we are");
    let names = ["mnt", "pid_for_children", "net", "user", "uts", "ipc", "cgroup", "time"];
    let inode =
        |name: &&str| Some(fs::metadata(format!("/proc/thread-self/ns/{name}")).ok()?.ino().to_string());
    let inodes: Vec<String> = names.iter().filter_map(inode).collect();
    fs::write(folder.join("namespaces"), inodes.join("\n")).expect("writable");
}

/// Runs a program of one layer of an overlay.
fn act_overlay(layer: &str, folder: &Path) {
    own_mounts();
    // Its own file system: an overlay lies on no other overlay.
    mount(Some("layers"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("a tmpfs can be mounted");
    for name in ["below", "above", "work", "merged"] {
        fs::create_dir(folder.join(name)).expect("a folder can be made");
    }
    fs::copy("/bin/true", folder.join("below/lower")).expect("`true` can be copied");
    let at = |name: &str| folder.join(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("below"), at("above"), at("work"));
    let merged = folder.join("merged");
    if mount(Some("layers"), &merged, Some("overlay"), MsFlags::empty(), Some(&*options)).is_err() {
        nix::mount::umount2(folder, nix::mount::MntFlags::MNT_DETACH).expect("it can be unmounted");
        return fs::write(folder.join("refusal"), "").expect("writable");
    }
    fs::copy("/bin/true", merged.join("upper")).expect("the overlay can be written");
    panic!("exec failed: {}", Command::new(merged.join(layer)).exec());
}

/// Ends two processes of one pid with 1 and 2, if nobody else takes it meanwhile.
fn act_same_pid(folder: &Path) {
    let child = |code: i32| {
        let child = raw::fork().expect("a process can be made");
        let Some(child) = child else { std::process::exit(code) };
        waitpid(child, None).expect("it ends");
        child.as_raw()
    };
    for _ in 0..SAME_PID_TRIES {
        let first = child(1);
        if fs::write("/proc/sys/kernel/ns_last_pid", (first - 1).to_string()).is_err() {
            return;
        }
        if child(2) == first {
            return fs::write(folder.join("reused"), first.to_string()).expect("writable");
        }
    }
}

/// A busy machine may take the pid before us.
const SAME_PID_TRIES: usize = 100;

fn execute(file: &std::os::fd::OwnedFd) {
    let argv = [CString::new("nameless").expect("no NUL")];
    let error = fexecve(file, &argv, &[] as &[CString]);
    panic!("exec failed: {error:?}");
}

fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("mounts can be made private");
}

fn bind(from: impl AsRef<Path>, to: &Path) {
    mount(Some(from.as_ref()), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount works");
}
