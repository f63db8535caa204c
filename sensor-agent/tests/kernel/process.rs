//! execs, forks and exits of real programs, on the running kernel. Skips where loading is not
//! permitted. It may call the agent's kernel module.

use crate::support::{Capture, Folder, absolute, actor, bytes};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fexecve};
use sensor_event::{ExecFlags, Kind, PathFlags, PathRef, RecordBody};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
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
    fs::copy("/bin/true", &path).expect("`true` can be copied");
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
    fs::write(&script, "#!/bin/sh -e\nexit 3\n").expect("a script can be written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the script is ours");
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
        _ => panic!("unknown action {action}"),
    }
}

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
