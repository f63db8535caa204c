//! Links, directories, modes, owners, lengths, attributes and mounts, made by real calls on the running kernel. Not
//! opens, removals and plain renames: `files`. It may call the agent's kernel module.
//!
//! The better tier gives the kernel's own names and does not see what fails before it gets to a file; the tracepoint
//! tier gives the caller's, and sees every call. Paths are compared after both are made absolute.

use crate::raw;
use crate::support::{Capture, Folder, absolute, actor, bytes};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, openat, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat, truncate};
use sensor_event::{FileFlags, Kind, Name, NameBody, PathFlags, PathSection, RecordBody, Rename};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown, lchown, symlink};
use std::path::Path;

const U32: u64 = 0xffff_ffff;

/// What a test looks at in an operation on one name.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    path: Vec<u8>,
    result: i32,
    value: u64,
    text: Vec<u8>,
    second_text: Vec<u8>,
}

/// An absolute path of base and name: the kernel's own, or the caller's without its `.` and `..`.
pub(crate) fn resolved(base: PathSection<'_>, name: PathSection<'_>) -> Vec<u8> {
    let mut components: Vec<&[u8]> = base.leaf_first().collect();
    components.reverse();
    match name.caller() {
        Some(given) => {
            for component in given.split(|byte| *byte == b'/') {
                match component {
                    b"" | b"." => {}
                    b".." => drop(components.pop()),
                    _ => components.push(component),
                }
            }
        }
        None => components.extend(name.leaf_first()),
    }
    components.iter().flat_map(|component| [b"/", *component].concat()).collect()
}

/// The operation on one name that a record is about.
fn name_of<'a>(body: &RecordBody<'a>) -> Option<Name<'a>> {
    match body {
        RecordBody::Unlink(name)
        | RecordBody::Symlink(name)
        | RecordBody::Mkdir(name)
        | RecordBody::Chmod(name)
        | RecordBody::Chown(name)
        | RecordBody::Truncate(name)
        | RecordBody::Setxattr(name)
        | RecordBody::Mount(name) => Some(*name),
        _ => None,
    }
}

fn named(capture: &Capture, pid: u32, kind: Kind) -> Vec<Named> {
    capture.all(|header, body| {
        let name = name_of(body).filter(|_| header.kind == kind && header.pid == pid)?;
        Some(Named {
            path: resolved(name.base, name.name),
            result: name.body.result,
            value: name.body.value,
            text: name.text.to_vec(),
            second_text: name.second_text.to_vec(),
        })
    })
}

/// Whether a kind's records come from the system calls themselves here: failed look-ups are among them then.
pub(crate) fn is_by_call(capture: &Capture, kind: Kind) -> bool {
    let hook = capture.kernel.hooks().iter().find(|hook| hook.kind == kind);
    hook.expect("every kind has a hook").tier == "tracepoint"
}

/// Runs an action, and checks the records of one kind that it made: path, errno, value and text of each. Those that
/// fail before the kernel has found a file are marked, and not expected from a hook that sees files.
fn check(action: &str, kind: Kind, expected: &[(&str, i32, u64, &str, bool)], what: &str) {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor(action, &folder.path));
    let is_by_call = is_by_call(&capture, kind);
    let expected: Vec<Named> = expected
        .iter()
        .filter(|(_, _, _, _, is_without_file)| is_by_call || !is_without_file)
        .map(|(name, result, value, text, _)| Named {
            path: bytes(folder.join(name)),
            result: *result,
            value: *value,
            text: text.as_bytes().to_vec(),
            second_text: Vec::new(),
        })
        .collect();
    assert_eq!(named(&capture, pid, kind), expected);
    capture.cell(kind, what);
}

#[test]
fn mkdir_shows_mode_and_result() {
    let expected = [
        ("one", 0, 0o700, "", false),
        ("one/two", 0, 0o750, "", false),
        ("one", Errno::EEXIST as i32, 0o711, "", true),
        ("none/three", Errno::ENOENT as i32, 0o711, "", true),
    ];
    check("names/mkdir", Kind::FILE_MKDIR, &expected, "path, mode, result");
}

#[test]
fn removing_a_folder_shows_why_it_failed() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("names/rmdir", &folder.path));
    let removed: Vec<(Vec<u8>, i32)> =
        named(&capture, pid, Kind::FILE_UNLINK).into_iter().map(|name| (name.path, name.result)).collect();
    let full = bytes(folder.join("full"));
    assert_eq!(removed, [(full, Errno::ENOTEMPTY as i32)]);
    let flags = capture.all(|header, body| match body {
        RecordBody::Unlink(name) if header.pid == pid => Some(name.body.flags),
        _ => None,
    });
    assert_eq!(flags, [FileFlags::DIRECTORY]);
}

#[test]
fn symlink_shows_what_it_says() {
    let expected = [
        ("link", 0, 0, "says/../this", false),
        ("below/other", 0, 0, "/etc/shadow", false),
        ("link", Errno::EEXIST as i32, 0, "again", true),
    ];
    check("names/symlink", Kind::FILE_SYMLINK, &expected, "path, what the link says, result");
}

#[test]
fn chmod_shows_mode_and_file() {
    let expected = [
        ("file", 0, 0o4711, "", false),
        ("file", 0, 0o640, "", false),
        ("below/file", 0, 0o600, "", false),
        ("none", Errno::ENOENT as i32, 0o644, "", true),
    ];
    check("names/chmod", Kind::FILE_CHMOD, &expected, "path, mode with set-id bits, result");
}

#[test]
fn chown_shows_user_group_and_file() {
    let expected = [
        ("file", 0, 1 | 2 << 32, "", false),
        ("link", 0, 3 | U32 << 32, "", false),
        ("file", 0, U32 | 4 << 32, "", false),
        ("below/file", 0, 5 | 6 << 32, "", false),
        ("none", Errno::ENOENT as i32, 1 | 1 << 32, "", true),
    ];
    check("names/chown", Kind::FILE_CHOWN, &expected, "path, user and group, result");
}

#[test]
fn truncate_shows_length_and_file() {
    let expected = [
        ("file", 0, 10, "", false),
        ("file", 0, 5_000_000_000, "", false),
        ("none", Errno::ENOENT as i32, 1, "", true),
    ];
    check("names/truncate", Kind::FILE_TRUNCATE, &expected, "path, length, result");
}

#[test]
fn setxattr_shows_attribute_and_file() {
    let expected = [
        ("file", 0, 0, "trusted.one", false),
        ("file", 0, 1, "trusted.two", false),
        ("none", Errno::ENOENT as i32, 0, "trusted.one", true),
    ];
    check("names/setxattr", Kind::FILE_SETXATTR, &expected, "path, name of the attribute, flags, result");
}

#[test]
fn access_control_lists_are_attributes() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("names/acl", &folder.path));
    let found = capture.all(|header, body| {
        let name = name_of(body).filter(|_| header.pid == pid && header.kind == Kind::FILE_SETXATTR)?;
        Some((resolved(name.base, name.name), name.body.result, name.text.to_vec()))
    });
    // Not every file system has them.
    let errno = fs::read_to_string(folder.join("errno")).expect("the actor says what it got");
    let errno: i32 = errno.parse().expect("a number");
    assert_eq!(found, [(bytes(folder.join("file")), errno, b"system.posix_acl_access".to_vec())]);
}

#[test]
fn descriptors_are_the_kernels_own_file() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    fs::write(folder.join("file"), "").expect("a file can be written");
    let inode = fs::metadata(folder.join("file")).expect("the file is there").ino();
    let pid = capture.run(&mut actor("names/by-descriptor", &folder.path));
    let found = capture.all(|header, body| {
        let name = name_of(body).filter(|_| header.pid == pid)?;
        Some((header.kind, resolved(name.base, name.name), name.body.inode, name.name.reference.flags))
    });
    let file = bytes(folder.join("file"));
    let kinds = [Kind::FILE_CHMOD, Kind::FILE_CHOWN, Kind::FILE_TRUNCATE, Kind::FILE_SETXATTR];
    assert_eq!(found, kinds.map(|kind| (kind, file.clone(), inode, PathFlags::default())));
}

/// Old and new path, errno and flags of each rename or link.
fn pairs(capture: &Capture, pid: u32, kind: Kind) -> Vec<(Vec<u8>, Vec<u8>, i32, u32)> {
    let both = |rename: &Rename<'_>| {
        let old = resolved(rename.old_base, rename.old_name);
        (old, resolved(rename.new_base, rename.new_name), rename.body.result, rename.body.rename_flags)
    };
    capture.all(|header, body| match body {
        RecordBody::Rename(rename) | RecordBody::Link(rename) if header.pid == pid && header.kind == kind => {
            Some(both(rename))
        }
        _ => None,
    })
}

#[test]
fn link_shows_both_names() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("names/link", &folder.path));
    let found: Vec<_> = pairs(&capture, pid, Kind::FILE_LINK)
        .into_iter()
        .map(|(old, new, result, _)| (old, new, result))
        .collect();
    let at = |name: &str| bytes(folder.join(name));
    let mut expected = vec![(at("file"), at("hard"), 0), (at("below/file"), at("below/hard"), 0)];
    if is_by_call(&capture, Kind::FILE_LINK) {
        expected.push((at("file"), at("hard"), Errno::EEXIST as i32));
    }
    assert_eq!(found[..expected.len()], expected);
    // Last, a file that had no name: its place and number are all there is to call it by.
    let (old, new, result) = found.last().expect("there are links");
    assert_eq!((new, *result), (&at("named"), 0));
    assert!(old.starts_with(&bytes(&folder.path)), "{}", String::from_utf8_lossy(old));
    let inode = fs::metadata(folder.join("named")).expect("the file is there").ino();
    let inodes = capture.all(|header, body| match body {
        RecordBody::Link(link) if header.pid == pid => Some(link.body.inode),
        _ => None,
    });
    assert_eq!(inodes.last(), Some(&inode));
    capture.cell(Kind::FILE_LINK, "both paths, result, the inode of a file without a name");
}

#[test]
fn rename_with_flags_shows_them() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("names/exchange", &folder.path));
    let at = |name: &str| bytes(folder.join(name));
    let mut expected = vec![(at("one"), at("two"), 0, RenameFlags::RENAME_EXCHANGE.bits())];
    if is_by_call(&capture, Kind::FILE_RENAME) {
        let flags = RenameFlags::RENAME_NOREPLACE.bits();
        expected.push((at("one"), at("two"), Errno::EEXIST as i32, flags));
    }
    assert_eq!(pairs(&capture, pid, Kind::FILE_RENAME), expected);
    capture.cell(Kind::FILE_RENAME, "flags: exchange");
}

#[test]
fn mounts_show_source_target_type_and_flags() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("names/mount", &folder.path));
    let path = bytes(folder.join("mnt"));
    let mounts: Vec<Named> =
        named(&capture, pid, Kind::MOUNT).into_iter().filter(|mount| mount.path == path).collect();
    let mount = |result: i32, value: u64, text: &str, second_text: &str| Named {
        path: path.clone(),
        result,
        value,
        text: text.as_bytes().to_vec(),
        second_text: second_text.as_bytes().to_vec(),
    };
    let nosuid = MsFlags::MS_NOSUID.bits();
    let detach = u64::try_from(MntFlags::MNT_DETACH.bits()).expect("flags are not negative");
    assert_eq!(mounts.len(), 5, "{mounts:?}");
    assert_eq!(mounts[0], mount(0, nosuid, "a source", "tmpfs"));
    assert_eq!(mounts[1], mount(0, NameBody::UNMOUNT | detach, "", ""));
    assert_eq!((mounts[2].result, mounts[2].value), (0, MsFlags::MS_BIND.bits()));
    assert_eq!(mounts[3], mount(0, NameBody::UNMOUNT, "", ""));
    assert_eq!((mounts[4].result, mounts[4].second_text.as_slice()), (0, b"tmpfs".as_slice()));
    capture
        .cell(Kind::MOUNT, "source, target, type, flags, result; unmounts; move_mount of the new interface");
}

#[test]
fn a_folder_outside_its_bind_mount_is_flagged() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("names/outside", &folder.path));
    let found = capture.all(|header, body| match body {
        RecordBody::FileOpen(file) if header.pid == pid => {
            Some((absolute(file.path), file.path.reference.flags))
        }
        _ => None,
    });
    let (path, flags) = found.last().expect("the file was opened");
    assert!(path.ends_with(b"/away/inner/file"), "{}", String::from_utf8_lossy(path));
    assert_eq!(*flags, PathFlags::NO_MOUNT);
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    std::env::set_current_dir(folder).expect("the folder can be entered");
    match action {
        "mkdir" => act_mkdir(),
        "rmdir" => {
            raw::mkdir(c"full", 0o755).expect("a folder can be made");
            fs::write("full/file", "").expect("a file can be written");
            fs::remove_dir("full").expect_err("the folder is not empty");
        }
        "symlink" => {
            let below = below();
            symlink("says/../this", "link").expect("a link can be made");
            symlinkat("/etc/shadow", &below, "other").expect("a link can be made");
            symlink("again", "./below/../link").expect_err("there is one");
        }
        "chmod" => act_chmod(),
        "chown" => act_chown(),
        "truncate" => {
            fs::write("file", "text").expect("a file can be written");
            truncate("file", 10).expect("the file can be made longer");
            file("file").set_len(5_000_000_000).expect("the file can be made longer");
            truncate("none", 1).expect_err("there is no file");
        }
        "setxattr" => {
            fs::write("file", "text").expect("a file can be written");
            raw::setxattr(c"file", c"trusted.one", b"1", 0).expect("the attribute can be set");
            raw::fsetxattr(&file("file"), c"trusted.two", b"2", 1).expect("the attribute can be made");
            raw::setxattr(c"none", c"trusted.one", b"1", 0).expect_err("there is no file");
        }
        "acl" => {
            fs::write("file", "text").expect("a file can be written");
            // `struct posix_acl_xattr_entry` of `include/uapi/linux/posix_acl_xattr.h`: tag, permissions, and an id.
            let entries =
                [(1u16, 6u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)];
            let mut list = 2u32.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                list.extend(tag.to_le_bytes());
                list.extend(permissions.to_le_bytes());
                list.extend(id.to_le_bytes());
            }
            let set = raw::setxattr(c"file", c"system.posix_acl_access", &list, 0);
            let errno = set.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
            fs::write("errno", errno.to_string()).expect("writable");
        }
        "by-descriptor" => {
            let file = file("file");
            file.set_permissions(fs::Permissions::from_mode(0o600)).expect("the file is ours");
            fchown(&file, Some(0), Some(0)).expect("the file is ours");
            file.set_len(1).expect("the file can be made longer");
            raw::fsetxattr(&file, c"trusted.one", b"1", 0).expect("the attribute can be set");
        }
        "link" => act_link(folder),
        "exchange" => {
            fs::write("one", "1").expect("a file can be written");
            fs::write("two", "2").expect("a file can be written");
            let rename = |flags| renameat2(AT_FDCWD, "one", AT_FDCWD, "two", flags);
            rename(RenameFlags::RENAME_EXCHANGE).expect("files can be exchanged");
            rename(RenameFlags::RENAME_NOREPLACE).expect_err("there is a file");
        }
        "mount" => act_mount(),
        "outside" => act_outside(),
        _ => panic!("unknown action {action}"),
    }
}

fn file(name: &str) -> File {
    File::options().write(true).open(name).expect("the file opens")
}

/// A folder `below`, open.
fn below() -> std::os::fd::OwnedFd {
    fs::create_dir("below").expect("a folder can be made");
    open("below", OFlag::O_RDONLY, Mode::empty()).expect("the folder opens")
}

fn act_mkdir() {
    raw::mkdir(c"one", 0o700).expect("a folder can be made");
    let one = open("one", OFlag::O_RDONLY, Mode::empty()).expect("the folder opens");
    mkdirat(&one, "two", Mode::from_bits_truncate(0o750)).expect("a folder can be made");
    raw::mkdir(c"one", 0o711).expect_err("there is one");
    raw::mkdir(c"none/three", 0o711).expect_err("there is no folder for it");
}

fn act_chmod() {
    fs::write("file", "").expect("a file can be written");
    let below = below();
    fs::write("below/file", "").expect("a file can be written");
    let mode = fs::Permissions::from_mode;
    fs::set_permissions("file", mode(0o4711)).expect("the file is ours");
    file("file").set_permissions(mode(0o640)).expect("the file is ours");
    fchmodat(&below, "file", Mode::from_bits_truncate(0o600), FchmodatFlags::FollowSymlink)
        .expect("the file is ours");
    fs::set_permissions("none", mode(0o644)).expect_err("there is no file");
}

fn act_chown() {
    fs::write("file", "").expect("a file can be written");
    symlink("file", "link").expect("a link can be made");
    let below = below();
    fs::write("below/file", "").expect("a file can be written");
    chown("file", Some(1), Some(2)).expect("root may");
    lchown("link", Some(3), None).expect("root may");
    fchown(file("file"), None, Some(4)).expect("root may");
    let (user, group) = (Some(Uid::from_raw(5)), Some(Gid::from_raw(6)));
    fchownat(&below, "file", user, group, AtFlags::empty()).expect("root may");
    chown("none", Some(1), Some(1)).expect_err("there is no file");
}

fn act_link(folder: &Path) {
    fs::write("file", "").expect("a file can be written");
    let below = below();
    fs::write("below/file", "").expect("a file can be written");
    fs::hard_link("file", "hard").expect("a link can be made");
    linkat(&below, "file", &below, "hard", AtFlags::empty()).expect("a link can be made");
    fs::hard_link("file", "hard").expect_err("there is one");
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY;
    let nameless =
        openat(AT_FDCWD, folder, flags, Mode::from_bits_truncate(0o600)).expect("a file can be made");
    linkat(&nameless, "", AT_FDCWD, "named", AtFlags::AT_EMPTY_PATH).expect("a link can be made");
}

fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts can be made private");
}

fn act_mount() {
    own_mounts();
    fs::create_dir("mnt").expect("a folder can be made");
    fs::create_dir("other").expect("a folder can be made");
    let none = None::<&str>;
    mount(Some("a source"), "mnt", Some("tmpfs"), MsFlags::MS_NOSUID, none).expect("a tmpfs can be mounted");
    umount2("mnt", MntFlags::MNT_DETACH).expect("it can be unmounted");
    mount(Some("other"), "mnt", none, MsFlags::MS_BIND, none).expect("a bind mount works");
    umount2("mnt", MntFlags::empty()).expect("it can be unmounted");
    let made = raw::make_mount(c"tmpfs").expect("a mount can be made");
    raw::move_mount(&made, c"mnt").expect("it can be put in its place");
}

/// A folder below a bind mount is moved out of what the mount shows; who stands in it sees no way up to the mount.
fn act_outside() {
    own_mounts();
    for name in ["shown", "shown/inner", "away", "mnt"] {
        fs::create_dir(name).expect("a folder can be made");
    }
    mount(Some("shown"), "mnt", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount works");
    let inner = open("mnt/inner", OFlag::O_RDONLY, Mode::empty()).expect("the folder opens");
    fs::rename("shown/inner", "away/inner").expect("the folder can be moved");
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
    openat(&inner, "file", flags, Mode::from_bits_truncate(0o600)).expect("the file can be made");
}
