//! Opens, removals and renames by real programs, on the running kernel. Skips where loading is not
//! permitted. It may call the agent's kernel module.

use crate::names::{is_by_call, resolved};
use crate::raw::{self, Lease, RacingOpenHow};
use crate::support::{Capture, Folder, absolute, actor, bytes};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, open, openat, openat2, renameat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, chroot, unlinkat};
use sensor_agent::kernel::{KernelOptions, KindSet};
use sensor_event::{FileFlags, Kind, PathFlags, PathSection, RecordBody};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path};
use std::process::Command;

const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;

/// What a test looks at in an open.
#[derive(Debug, PartialEq, Eq)]
struct Open {
    path: Vec<u8>,
    path_flags: PathFlags,
    open_flags: u32,
    flags: FileFlags,
}

fn opens(capture: &Capture, pid: u32, below: &Path) -> Vec<Open> {
    let below = bytes(below);
    capture.all(|header, body| match body {
        RecordBody::FileOpen(file) if header.pid == pid => Some(Open {
            path: absolute(file.path),
            path_flags: file.path.reference.flags,
            open_flags: file.body.open_flags & (O_CREAT | O_TRUNC | O_APPEND | 3),
            flags: file.body.flags,
        })
        .filter(|open| open.path.starts_with(&below)),
        _ => None,
    })
}

/// Where a name lies. One from the caller: its base and the name, joined but not folded. The kernel's: the path.
fn joined(base: PathSection<'_>, name: PathSection<'_>) -> Vec<u8> {
    match name.caller() {
        Some(given) => [&absolute(base)[..], b"|", given].concat(),
        None => resolved(base, name),
    }
}

/// What [`joined`] gives for a name that starts at `base`.
fn placed(capture: &Capture, kind: Kind, base: &Path, name: impl AsRef<Path>) -> Vec<u8> {
    let name = name.as_ref();
    if is_by_call(capture, kind) {
        return [&bytes(base)[..], b"|", &bytes(name)].concat();
    }
    let mut path = base.to_owned();
    for component in name.components() {
        match component {
            Component::Normal(component) => path.push(component),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    bytes(path)
}

/// Base and name, result and flags.
fn unlinks(capture: &Capture, pid: u32) -> Vec<(Vec<u8>, i32, FileFlags)> {
    capture.all(|header, body| match body {
        RecordBody::Unlink(unlink) if header.pid == pid => {
            Some((joined(unlink.base, unlink.name), unlink.body.result, unlink.body.flags))
        }
        _ => None,
    })
}

fn renames(capture: &Capture, pid: u32) -> Vec<(Vec<u8>, Vec<u8>, i32)> {
    capture.all(|header, body| match body {
        RecordBody::Rename(rename) if header.pid == pid => Some((
            joined(rename.old_base, rename.old_name),
            joined(rename.new_base, rename.new_name),
            rename.body.result,
        )),
        _ => None,
    })
}

#[test]
fn open_shows_the_resolved_path_and_what_it_may_change() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::create_dir(folder.join("below")).expect("a folder can be made");
    symlink("target", folder.join("link")).expect("a link can be made");
    let script =
        "echo 1 > new; echo 2 > below/../new; echo 3 >> ./new; echo 4 > link; read x < new; : > /dev/null";
    let pid = capture.run(Command::new("/bin/sh").args(["-c", script]).current_dir(&folder.path));
    let open = |name: &str, open_flags, flags| Open {
        path: bytes(folder.join(name)),
        path_flags: PathFlags::default(),
        open_flags,
        flags,
    };
    let expected = [
        open("new", 1 | O_CREAT | O_TRUNC, FileFlags::CREATED),
        open("new", 1 | O_CREAT | O_TRUNC, FileFlags::default()),
        open("new", 1 | O_CREAT | O_APPEND, FileFlags::default()),
        open("target", 1 | O_CREAT | O_TRUNC, FileFlags::CREATED),
        Open { path: b"/dev/null".to_vec(), ..open("", 1 | O_CREAT | O_TRUNC, FileFlags::default()) },
    ];
    assert_eq!(opens(&capture, pid, Path::new("/")), expected);
    capture.cell(Kind::FILE_OPEN, "resolved path, flags, created or not; devices that are written");
}

#[test]
fn every_call_that_opens_is_seen() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("files/opens", &folder.path));
    let names: Vec<(Vec<u8>, u32, FileFlags)> = opens(&capture, pid, &folder.path)
        .into_iter()
        .map(|open| (open.path, open.open_flags, open.flags))
        .collect();
    let flags = if is_by_call(&capture, Kind::FILE_OPEN) { FileFlags::FLAGS_FROM_CALLER.0 } else { 0 };
    let from_caller = FileFlags(FileFlags::CREATED.0 | flags);
    assert_eq!(
        names,
        [
            (bytes(folder.join("by-openat")), 2 | O_CREAT, FileFlags::CREATED),
            (bytes(folder.join("by-openat2")), 1 | O_CREAT, from_caller),
            (bytes(folder.join("by-openat")), O_TRUNC, FileFlags::default()),
            (bytes(folder.join("a \n\u{1}\\ name")), 1 | O_CREAT, FileFlags::CREATED),
        ]
    );
}

#[test]
fn flags_that_the_caller_takes_back_hide_no_open() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::write(folder.join("leased"), "").expect("a file can be written");
    let pid = capture.run(&mut actor("files/take-back", &folder.path));
    let opens = opens(&capture, pid, &folder.path);
    // Where the kernel's own copy is at hand, it has the flags that were used.
    let (open_flags, flags) = match is_by_call(&capture, Kind::FILE_OPEN) {
        true => (0, FileFlags::FLAGS_FROM_CALLER),
        false => (1, FileFlags::default()),
    };
    let path = bytes(folder.join("leased"));
    let expected = Open { path, path_flags: PathFlags::default(), open_flags, flags };
    assert_eq!(opens, [expected]);
}

#[test]
fn names_are_bytes() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let name = OsStr::from_bytes(b"not utf-8 \xff\xfe\n");
    let pid = capture.run(Command::new("/bin/touch").arg(name).current_dir(&folder.path));
    assert_eq!(opens(&capture, pid, &folder.path)[0].path, bytes(folder.join(name)));
    let pid = capture.run(Command::new("/bin/rm").arg(name).current_dir(&folder.path));
    let expected = placed(&capture, Kind::FILE_UNLINK, &folder.path, name);
    assert_eq!(unlinks(&capture, pid), [(expected, 0, FileFlags::default())]);
}

#[test]
fn unlink_shows_name_base_and_result() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("files/unlinks", &folder.path));
    let at = |base: &Path, name: &Path| placed(&capture, Kind::FILE_UNLINK, base, name);
    let below = folder.join("below");
    let (file, directory) = (FileFlags::default(), FileFlags::DIRECTORY);
    let mut expected = vec![
        (at(Path::new("/"), &below.join("one")), 0, file),
        (at(&folder.path, Path::new("./below/../below/two")), 0, file),
        (at(&below, Path::new("three")), 0, file),
        (at(&below, Path::new("three")), Errno::ENOENT as i32, file),
        (at(&below, Path::new("folder")), 0, directory),
        (at(&folder.path, Path::new("below")), 0, directory),
    ];
    if !is_by_call(&capture, Kind::FILE_UNLINK) {
        expected.retain(|(_, result, _)| *result == 0);
    }
    assert_eq!(unlinks(&capture, pid), expected);
    capture.cell(Kind::FILE_UNLINK, "base and name, file or directory, result");
}

#[test]
fn rename_shows_both_names_and_bases() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("files/renames", &folder.path));
    let at = |base: &Path, name: &Path| placed(&capture, Kind::FILE_RENAME, base, name);
    let below = folder.join("below");
    let mut expected = vec![
        (at(Path::new("/"), &folder.join("one")), at(Path::new("/"), &folder.join("two")), 0),
        (at(&folder.path, Path::new("two")), at(&below, Path::new("three")), 0),
    ];
    if is_by_call(&capture, Kind::FILE_RENAME) {
        let (none, four) = (at(&folder.path, Path::new("none")), at(&folder.path, Path::new("four")));
        expected.push((none, four, Errno::ENOENT as i32));
    }
    assert_eq!(renames(&capture, pid), expected);
    capture.cell(Kind::FILE_RENAME, "both bases and names, result");
}

#[test]
fn chroot_and_mount_namespace_show_where_files_lie() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::create_dir(folder.join("root")).expect("a folder can be made");
    fs::create_dir(folder.join("root/inside")).expect("a folder can be made");
    fs::create_dir(folder.join("there")).expect("a folder can be made");
    let pid = capture.run(&mut actor("files/chroot", &folder.path));
    let paths: Vec<Vec<u8>> = opens(&capture, pid, &folder.path).into_iter().map(|open| open.path).collect();
    assert_eq!(
        paths,
        [bytes(folder.join("root/inside/file")), bytes(folder.join("there/file"))].map(|path| path)
    );
    let expected = placed(&capture, Kind::FILE_UNLINK, &folder.join("root"), "/inside/file");
    assert_eq!(unlinks(&capture, pid), [(expected, 0, FileFlags::default())]);
}

#[test]
fn own_activity_is_left_out() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::write(folder.join("mine"), "x").expect("a file can be written");
    let pid = capture.run(Command::new("/bin/touch").arg("theirs").current_dir(&folder.path));
    assert_eq!(opens(&capture, std::process::id(), Path::new("/")), []);
    assert_eq!(opens(&capture, pid, &folder.path).len(), 1);
}

#[test]
fn reads_and_failed_opens_are_shown_on_request() {
    let kinds = KindSet::DEFAULT.with_reads();
    let Some(mut capture) = Capture::start_with(KernelOptions { kinds, ..KernelOptions::default() }) else {
        return;
    };
    let folder = Folder::new();
    fs::write(folder.join("file"), "text").expect("a file can be written");
    let pid = capture.run(&mut actor("files/reads", &folder.path));
    let found = capture.all(|header, body| match body {
        RecordBody::FileOpen(file) if header.pid == pid => {
            let path = match file.body.result {
                0 => absolute(file.path),
                _ => resolved(file.path, file.name),
            };
            Some((path, file.body.result, file.body.open_flags & 3))
        }
        _ => None,
    });
    let below = bytes(&folder.path);
    let found: Vec<_> =
        found.into_iter().filter(|(path, _, _)| path.starts_with(&below) && *path != below).collect();
    let expected = [
        (bytes(folder.join("file")), 0, 0),
        (bytes(folder.join("none")), Errno::ENOENT as i32, 0),
        (bytes(folder.join("below/none")), Errno::ENOENT as i32, 1),
        (bytes(folder.join("file")), Errno::EEXIST as i32, 1),
    ];
    assert_eq!(found, expected);
    capture.cell(Kind::FILE_OPEN, "on request: reads, and failed opens by directory, name and errno");
}

#[test]
fn opens_without_a_name_are_seen() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::write(folder.join("file"), "text").expect("a file can be written");
    let pid = capture.run(&mut actor("files/nameless", &folder.path));
    let opens = opens(&capture, pid, &folder.path);
    let unnamed = opens.first().expect("an open");
    assert!(unnamed.path.starts_with(&bytes(&folder.path)), "{opens:?}");
    assert!(unnamed.path_flags.contains(PathFlags::DELETED), "{opens:?}");
    if !folder.join("refusal").exists() {
        let by_handle = opens.last().expect("another open");
        assert!(by_handle.path.ends_with(b"/file"), "{opens:?}");
        assert_eq!((opens.len(), by_handle.open_flags), (2, 1));
    }
}

#[test]
fn executable_mappings_are_shown_on_request() {
    let kinds = KindSet::DEFAULT.with(Kind::EXEC_MAP);
    let Some(mut capture) = Capture::start_with(KernelOptions { kinds, ..KernelOptions::default() }) else {
        return;
    };
    let folder = Folder::new();
    fs::write(folder.join("library"), "text").expect("a file can be written");
    let inode = fs::metadata(folder.join("library")).expect("the file is there").ino();
    let pid = capture.run(&mut actor("files/map", &folder.path));
    let path = bytes(folder.join("library"));
    let found = capture.all(|header, body| match body {
        RecordBody::ExecMap(file) if header.pid == pid && absolute(file.path) == path => {
            Some((file.body.inode, file.body.open_flags, file.body.result))
        }
        _ => None,
    });
    let (read, execute) = (1, 4);
    assert_eq!(found, [(inode, read | execute, 0)]);
    capture.cell(Kind::EXEC_MAP, "path, inode, protection");
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    std::env::set_current_dir(folder).expect("the folder can be entered");
    match action {
        "opens" => act_opens(folder),
        "take-back" => act_take_back(),
        "unlinks" => act_unlinks(folder),
        "renames" => act_renames(folder),
        "chroot" => act_chroot(folder),
        "reads" => {
            fs::create_dir("below").expect("a folder can be made");
            drop(fs::File::open("file").expect("the file opens"));
            fs::File::open("none").expect_err("there is no file");
            let write = |name| open(name, OFlag::O_WRONLY, Mode::empty());
            write("./below/none").expect_err("there is no file");
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            open("file", flags, Mode::empty()).expect_err("there is a file");
        }
        "nameless" => {
            let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
            drop(open(folder, flags, Mode::from_bits_truncate(0o600)).expect("a file can be made"));
            let mount = open(folder, OFlag::O_RDONLY, Mode::empty()).expect("the folder opens");
            if let Err(error) = raw::open_by_handle(&mount, c"file", OFlag::O_WRONLY.bits()) {
                eprintln!("no open by handle: {error}");
                fs::create_dir("refusal").expect("a folder can be made");
            }
        }
        "map" => {
            let library = fs::File::open("library").expect("the file opens");
            raw::map_executable(&library).expect("a file can be mapped");
        }
        _ => panic!("unknown action {action}"),
    }
}

fn act_opens(folder: &Path) {
    let mode = Mode::from_bits_truncate(0o600);
    let dir = open(folder, OFlag::O_RDONLY, Mode::empty()).expect("the folder opens");
    openat(&dir, "by-openat", OFlag::O_CREAT | OFlag::O_RDWR, mode).expect("openat works");
    let how = OpenHow::new().flags(OFlag::O_CREAT | OFlag::O_WRONLY).mode(mode);
    openat2(&dir, "by-openat2", how).expect("openat2 works");
    openat2(&dir, "by-openat2", OpenHow::new().flags(OFlag::O_RDONLY)).expect("openat2 works");
    open("by-openat", OFlag::O_RDONLY | OFlag::O_TRUNC, mode).expect("open works");
    open("by-openat", OFlag::O_RDONLY | OFlag::O_CREAT, mode).expect("open works");
    open("a \n\u{1}\\ name", OFlag::O_CREAT | OFlag::O_WRONLY, mode).expect("open works");
    open("missing/name", OFlag::O_CREAT | OFlag::O_WRONLY, mode).expect_err("there is no such folder");
}

/// Opens a file for writing with flags that another thread takes back while the kernel waits for a lease.
fn act_take_back() {
    raw::ignore_sigio().expect("the signal can be ignored");
    let leased = OwnedFd::from(fs::File::open("leased").expect("the file opens"));
    raw::set_lease(&leased, Lease::Read).expect("a file that is open nowhere else can be leased");
    let how = RacingOpenHow::new(OFlag::O_WRONLY.bits());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !raw::is_lease_breaking(&leased).expect("a lease has a state") {
                std::thread::yield_now();
            }
            how.set_flags(0);
            raw::set_lease(&leased, Lease::None).expect("a lease can be given up");
        });
        raw::openat2(c"leased", &how).expect("the open waits for the lease, and then works");
    });
}

fn act_unlinks(folder: &Path) {
    let below = folder.join("below");
    fs::create_dir(&below).expect("a folder can be made");
    fs::create_dir(below.join("folder")).expect("a folder can be made");
    for name in ["one", "two", "three"] {
        fs::write(below.join(name), "").expect("a file can be written");
    }
    let dir = open(&below, OFlag::O_RDONLY, Mode::empty()).expect("the folder opens");
    fs::remove_file(below.join("one")).expect("the file can be removed");
    fs::remove_file("./below/../below/two").expect("the file can be removed");
    unlinkat(&dir, "three", UnlinkatFlags::NoRemoveDir).expect("the file can be removed");
    unlinkat(&dir, "three", UnlinkatFlags::NoRemoveDir).expect_err("the file is gone");
    unlinkat(&dir, "folder", UnlinkatFlags::RemoveDir).expect("the folder can be removed");
    fs::remove_dir("below").expect("the folder can be removed");
}

fn act_renames(folder: &Path) {
    fs::create_dir(folder.join("below")).expect("a folder can be made");
    fs::write(folder.join("one"), "").expect("a file can be written");
    fs::rename(folder.join("one"), folder.join("two")).expect("the file can be renamed");
    let dir = open(&folder.join("below"), OFlag::O_RDONLY, Mode::empty()).expect("the folder opens");
    renameat(nix::fcntl::AT_FDCWD, "two", &dir, "three").expect("the file can be renamed");
    fs::rename("none", "four").expect_err("there is no such file");
}

fn act_chroot(folder: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts can be made private");
    mount(Some("root"), "there", none, MsFlags::MS_BIND, none).expect("a bind mount works");
    let there = open("there", OFlag::O_RDONLY, Mode::empty()).expect("the mount opens");
    chroot("root").expect("chroot works");
    std::env::set_current_dir("/").expect("the root can be entered");
    fs::write("/inside/file", "").expect("a file can be written");
    openat(&there, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::empty()).expect("openat works");
    fs::remove_file("/inside/file").expect("the file can be removed");
    let _ = (folder, AtFlags::empty());
}
