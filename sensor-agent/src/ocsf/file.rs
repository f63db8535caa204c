//! File events as OCSF 1001 File System Activity, mappings as 1005 Module Activity. Not the objects all classes share.
//! It may call `event` types.

use super::model::{Activity, File};
use super::objects::Module;
use super::{Class, FILE_TYPE_FOLDER, FILE_TYPE_REGULAR, FILE_TYPE_UNKNOWN, errno_status, file_object};
use crate::event::{FileOpen, KernelPath, Name, Rename, names};
use sensor_event::FileFlags;

pub(super) fn open<'a>(file: &'a FileOpen, activity: &mut Activity<'a>) {
    let intent = file.intent();
    let (id, name) = match intent {
        "create" => (1, "Create"),
        "truncate" => (3, "Update"),
        _ => (14, "Open"),
    };
    activity.classify(Class::File, id, name);
    opened(file, activity);
    activity.unmapped.open_flags = Some(file.open_flags);
    let details = &mut activity.unmapped.details;
    details.intent = Some(intent);
    details.open_flags_from_caller = file.flags.contains(FileFlags::FLAGS_FROM_CALLER);
}

pub(super) fn memfd<'a>(file: &'a FileOpen, activity: &mut Activity<'a>) {
    activity.classify(Class::File, 1, "Create");
    opened(file, activity);
    activity.unmapped.details.memfd_flags = Some(file.open_flags);
}

/// A mapped file is a module of the process, as a library is.
pub(super) fn exec_map<'a>(file: &'a FileOpen, activity: &mut Activity<'a>) {
    activity.classify(Class::Module, 1, "Load");
    opened(file, activity);
    activity.file = None;
    activity.objects.module = Some(Module {
        file: file_object(&file.path, file_type(file.mode)),
        load_type_id: LOAD_TYPE_MAPPED,
        load_type: "Mapped",
    });
    activity.unmapped.details.protection = Some(file.open_flags);
}

fn opened<'a>(file: &'a FileOpen, activity: &mut Activity<'a>) {
    activity.status(errno_status(file.result));
    activity.file = Some(file_object(&file.path, file_type(file.mode)));
    flags(&file.path, file.flags, activity);
    identity(file.inode, file.dev, activity);
}

pub(super) fn unlink<'a>(unlink: &'a Name, activity: &mut Activity<'a>) {
    let type_id = if unlink.is_directory() { FILE_TYPE_FOLDER } else { FILE_TYPE_UNKNOWN };
    named(unlink, (4, "Delete"), type_id, activity);
}

pub(super) fn symlink<'a>(symlink: &'a Name, activity: &mut Activity<'a>) {
    named(symlink, (1, "Create"), FILE_TYPE_SYMBOLIC_LINK, activity);
    activity.unmapped.details.link_text = Some(&symlink.text);
}

pub(super) fn mkdir<'a>(mkdir: &'a Name, activity: &mut Activity<'a>) {
    named(mkdir, (1, "Create"), FILE_TYPE_FOLDER, activity);
    activity.unmapped.details.mode = Some(octal(mkdir.value));
}

pub(super) fn chmod<'a>(chmod: &'a Name, activity: &mut Activity<'a>) {
    named(chmod, SET_SECURITY, FILE_TYPE_UNKNOWN, activity);
    activity.unmapped.details.mode = Some(octal(chmod.value));
}

pub(super) fn chown<'a>(chown: &'a Name, activity: &mut Activity<'a>) {
    named(chown, SET_SECURITY, FILE_TYPE_UNKNOWN, activity);
    let details = &mut activity.unmapped.details;
    (details.owner_uid, details.owner_gid) = chown.owner();
}

pub(super) fn truncate<'a>(truncate: &'a Name, activity: &mut Activity<'a>) {
    named(truncate, (3, "Update"), FILE_TYPE_REGULAR, activity);
    activity.unmapped.details.length = Some(truncate.value);
}

pub(super) fn setxattr<'a>(setxattr: &'a Name, activity: &mut Activity<'a>) {
    named(setxattr, (6, "Set Attributes"), FILE_TYPE_UNKNOWN, activity);
    activity.unmapped.details.xattr = Some(&setxattr.text);
}

pub(super) fn mount<'a>(mount: &'a Name, activity: &mut Activity<'a>) {
    let what = if mount.is_unmount() { (13, "Unmount") } else { (12, "Mount") };
    named(mount, what, FILE_TYPE_UNKNOWN, activity);
    let details = &mut activity.unmapped.details;
    details.mount_source = Some(mount.text.as_str()).filter(|source| !source.is_empty());
    details.mount_type = Some(mount.second_text.as_str()).filter(|name| !name.is_empty());
    if !mount.is_unmount() {
        details.mount_flags = names::mount_flags(mount.value);
    }
}

pub(super) fn rename<'a>(rename: &'a Rename, activity: &mut Activity<'a>) {
    activity.classify(Class::File, 5, "Rename");
    activity.file = Some(file_object(&rename.from, FILE_TYPE_UNKNOWN));
    activity.file_result = Some(file_object(&rename.to, FILE_TYPE_UNKNOWN));
    two_names(rename, activity);
    activity.unmapped.rename_flags = Some(rename.rename_flags).filter(|flags| *flags != 0);
}

/// The new name is what was made.
pub(super) fn link<'a>(link: &'a Rename, activity: &mut Activity<'a>) {
    activity.classify(Class::File, 1, "Create");
    activity.file = Some(file_object(&link.to, FILE_TYPE_UNKNOWN));
    two_names(link, activity);
    let details = &mut activity.unmapped.details;
    (details.link_of, details.link_flags) = (Some(link.from.text.as_str()), Some(link.rename_flags));
}

fn two_names(rename: &Rename, activity: &mut Activity<'_>) {
    activity.status(errno_status(rename.result));
    let mut all: Vec<_> = rename.from.flag_names().chain(rename.to.flag_names()).collect();
    all.sort_unstable();
    all.dedup();
    activity.unmapped.path_flags = all;
    activity.unmapped.details.io_uring = rename.flags.contains(FileFlags::IO_URING);
    identity(rename.inode, rename.dev, activity);
}

fn named<'a>(name: &'a Name, what: (u32, &'static str), type_id: u8, activity: &mut Activity<'a>) {
    activity.classify(Class::File, what.0, what.1);
    activity.status(errno_status(name.result));
    activity.file = Some(file_object(&name.path, type_id));
    flags(&name.path, name.flags, activity);
    identity(name.inode, name.dev, activity);
}

fn flags<'a>(path: &'a KernelPath, flags: FileFlags, activity: &mut Activity<'a>) {
    activity.unmapped.path_flags = path.flag_names().collect();
    let details = &mut activity.unmapped.details;
    details.path_in_chroot = path.in_chroot.as_deref();
    details.io_uring = flags.contains(FileFlags::IO_URING);
}

/// Nothing when the hook did not know it, or there is no file.
fn identity(inode: u64, dev: u32, activity: &mut Activity<'_>) {
    if inode != 0 {
        (activity.unmapped.inode, activity.unmapped.dev) = (Some(inode), Some(dev));
    }
}

fn octal(mode: u64) -> String {
    format!("{:04o}", mode & 0o7777)
}

pub(super) fn file_named(path: &str, type_id: u8) -> File<'_> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = if name.is_empty() { path } else { name };
    let parent_folder = if folder.is_empty() { "/" } else { folder };
    File { name, path, parent_folder, type_id, hashes: Vec::new() }
}

const fn file_type(mode: u32) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => FILE_TYPE_REGULAR,
        0o040_000 => FILE_TYPE_FOLDER,
        0o020_000 => 3,
        0o060_000 => 4,
        0o140_000 => 5,
        0o010_000 => 6,
        0o120_000 => FILE_TYPE_SYMBOLIC_LINK,
        _ => FILE_TYPE_UNKNOWN,
    }
}

const SET_SECURITY: (u32, &str) = (7, "Set Security");
const FILE_TYPE_SYMBOLIC_LINK: u8 = 7;
/// `module.load_type_id`: a memory mapped file.
const LOAD_TYPE_MAPPED: u8 = 4;
