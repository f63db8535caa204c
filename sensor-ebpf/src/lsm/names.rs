//! Removed, made, linked and renamed names. Not what is done to a file by any name. It may call the other modules of
//! this crate.

use super::pending::{self, Pending, lsm_emit_name, lsm_emit_rename};
use super::{argument, errno, pointer, pointer_errno};
use crate::emit::is_agent;
use crate::globals as at;
use crate::read::{Address, has};
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use sensor_event::{FileFlags, Kind};

/// Remembers a name below a directory: `path` is a `struct path`.
#[inline(always)]
fn begin<'a>(kind: Kind, path: Address, dentry: Address) -> Option<&'a mut Pending> {
    if is_agent() {
        return None;
    }
    let pending = pending::begin(kind)?;
    pending.mount = path.follow(&at::PATH_MNT).unwrap_or(Address(0)).0;
    pending.directory = path.follow(&at::PATH_DENTRY).unwrap_or(Address(0)).0;
    pending.dentry = dentry.0;
    pending.take_name(dentry);
    pending.take_inode(dentry);
    Some(pending)
}

/// What the check refused is over; else the file system comes to it.
#[inline(always)]
fn emit_refused(text: u64, result: i32) -> i32 {
    if result != 0 {
        lsm_emit_name(text, result as u32);
    }
    0
}

/// The file system is done with `dentry`.
#[inline(always)]
fn finish(dentry: Address, text: u64, result: i32) -> i32 {
    if pending::of(dentry).is_some() {
        lsm_emit_name(text, result as u32);
    }
    0
}

/// As [`finish`]; `made` has what there was not before.
#[inline(always)]
fn finish_made(dentry: Address, made: Address, text: u64, result: i32) -> i32 {
    if let Some(pending) = pending::of(dentry) {
        if result == 0 {
            pending.take_inode(made);
        }
        lsm_emit_name(text, result as u32);
    }
    0
}

/// Remembers a removal.
#[fexit(function = "security_path_unlink")]
pub fn lsm_unlink_begin(ctx: FExitContext) -> i32 {
    let (path, dentry) = (pointer(&ctx, &at::PATH_UNLINK_PATH), pointer(&ctx, &at::PATH_UNLINK_DENTRY));
    match begin(Kind::FILE_UNLINK, path, dentry) {
        Some(_) => emit_refused(0, errno(argument(&ctx, &at::PATH_UNLINK_RESULT))),
        None => 0,
    }
}

/// Emits a removal.
#[fexit(function = "vfs_unlink")]
pub fn lsm_unlink(ctx: FExitContext) -> i32 {
    finish(pointer(&ctx, &at::VFS_UNLINK_DENTRY), 0, errno(argument(&ctx, &at::VFS_UNLINK_RESULT)))
}

/// Remembers the removal of a directory.
#[fexit(function = "security_path_rmdir")]
pub fn lsm_rmdir_begin(ctx: FExitContext) -> i32 {
    let (path, dentry) = (pointer(&ctx, &at::PATH_RMDIR_PATH), pointer(&ctx, &at::PATH_RMDIR_DENTRY));
    match begin(Kind::FILE_UNLINK, path, dentry) {
        Some(pending) => {
            pending.flags = FileFlags::DIRECTORY.0;
            emit_refused(0, errno(argument(&ctx, &at::PATH_RMDIR_RESULT)))
        }
        None => 0,
    }
}

/// Emits the removal of a directory: the whole call is done, and if it came to the check, what it returns is what the
/// file system returned. Not at `vfs_rmdir()`, of which some builds (Debian's 5.10) call only a part.
#[fexit(function = "do_rmdir")]
pub fn lsm_rmdir(ctx: FExitContext) -> i32 {
    finish_rmdir(errno(argument(&ctx, &at::DO_RMDIR_RESULT)))
}

/// As [`lsm_rmdir`], under the name that it has since 7.0.
#[fexit(function = "filename_rmdir")]
pub fn lsm_rmdir_by_filename(ctx: FExitContext) -> i32 {
    finish_rmdir(errno(argument(&ctx, &at::FILENAME_RMDIR_RESULT)))
}

#[inline(always)]
fn finish_rmdir(result: i32) -> i32 {
    if pending::is_of(Kind::FILE_UNLINK, FileFlags::DIRECTORY) {
        lsm_emit_name(0, result as u32);
    }
    0
}

/// Remembers a new directory.
#[fexit(function = "security_path_mkdir")]
pub fn lsm_mkdir_begin(ctx: FExitContext) -> i32 {
    let (path, dentry) = (pointer(&ctx, &at::PATH_MKDIR_PATH), pointer(&ctx, &at::PATH_MKDIR_DENTRY));
    match begin(Kind::FILE_MKDIR, path, dentry) {
        Some(pending) => {
            pending.value = argument(&ctx, &at::PATH_MKDIR_MODE) & MODE;
            emit_refused(0, errno(argument(&ctx, &at::PATH_MKDIR_RESULT)))
        }
        None => 0,
    }
}

/// Emits a new directory. Since 6.15 the dentry is returned, which can be another one, or an error in its place.
#[fexit(function = "vfs_mkdir")]
pub fn lsm_mkdir(ctx: FExitContext) -> i32 {
    let (dentry, returned) = (pointer(&ctx, &at::VFS_MKDIR_DENTRY), argument(&ctx, &at::VFS_MKDIR_RESULT));
    if !has(&at::VFS_MKDIR_RETURNS_POINTER) {
        return finish_made(dentry, dentry, 0, errno(returned));
    }
    match pointer_errno(returned) {
        None => finish_made(dentry, Address(returned), 0, 0),
        Some(errno) => finish_made(dentry, dentry, 0, errno),
    }
}

/// Remembers a new symbolic link.
#[fexit(function = "security_path_symlink")]
pub fn lsm_symlink_begin(ctx: FExitContext) -> i32 {
    let (path, dentry) = (pointer(&ctx, &at::PATH_SYMLINK_PATH), pointer(&ctx, &at::PATH_SYMLINK_DENTRY));
    let text = argument(&ctx, &at::PATH_SYMLINK_TEXT);
    match begin(Kind::FILE_SYMLINK, path, dentry) {
        Some(_) => emit_refused(text, errno(argument(&ctx, &at::PATH_SYMLINK_RESULT))),
        None => 0,
    }
}

/// Emits a new symbolic link.
#[fexit(function = "vfs_symlink")]
pub fn lsm_symlink(ctx: FExitContext) -> i32 {
    let (dentry, text) = (pointer(&ctx, &at::VFS_SYMLINK_DENTRY), argument(&ctx, &at::VFS_SYMLINK_TEXT));
    finish_made(dentry, dentry, text, errno(argument(&ctx, &at::VFS_SYMLINK_RESULT)))
}

/// Remembers a new name of a file.
#[fexit(function = "security_path_link")]
pub fn lsm_link_begin(ctx: FExitContext) -> i32 {
    if is_agent() {
        return 0;
    }
    let (old, path) = (pointer(&ctx, &at::PATH_LINK_OLD), pointer(&ctx, &at::PATH_LINK_PATH));
    let Some(pending) = pending::begin(Kind::FILE_LINK) else { return 0 };
    // Both are in one mount, or the kernel refuses before it asks.
    pending.mount = path.follow(&at::PATH_MNT).unwrap_or(Address(0)).0;
    pending.new_directory = path.follow(&at::PATH_DENTRY).unwrap_or(Address(0)).0;
    pending.dentry = old.0;
    pending.take_inode(old);
    pending.take_new_name(pointer(&ctx, &at::PATH_LINK_NEW));
    let result = errno(argument(&ctx, &at::PATH_LINK_RESULT));
    if result != 0 {
        lsm_emit_rename(result as u32);
    }
    0
}

/// Emits a new name of a file.
#[fexit(function = "vfs_link")]
pub fn lsm_link(ctx: FExitContext) -> i32 {
    finish_rename(pointer(&ctx, &at::VFS_LINK_OLD), errno(argument(&ctx, &at::VFS_LINK_RESULT)))
}

/// Remembers a rename.
#[fexit(function = "security_path_rename")]
pub fn lsm_rename_begin(ctx: FExitContext) -> i32 {
    let old = pointer(&ctx, &at::PATH_RENAME_OLD);
    let Some(pending) = begin(Kind::FILE_RENAME, pointer(&ctx, &at::PATH_RENAME_OLD_PATH), old) else {
        return 0;
    };
    let path = pointer(&ctx, &at::PATH_RENAME_NEW_PATH);
    pending.new_directory = path.follow(&at::PATH_DENTRY).unwrap_or(Address(0)).0;
    pending.take_new_name(pointer(&ctx, &at::PATH_RENAME_NEW));
    pending.value = argument(&ctx, &at::PATH_RENAME_FLAGS) & u64::from(u32::MAX);
    let result = errno(argument(&ctx, &at::PATH_RENAME_RESULT));
    if result != 0 {
        lsm_emit_rename(result as u32);
    }
    0
}

/// Emits a rename. The dentries are members of one argument since 5.12 (in Debian's 5.10 too).
#[fexit(function = "vfs_rename")]
pub fn lsm_rename(ctx: FExitContext) -> i32 {
    let old = if has(&at::VFS_RENAME_DATA) {
        pointer(&ctx, &at::VFS_RENAME_DATA).follow(&at::RENAME_DATA_OLD).unwrap_or(Address(0))
    } else {
        pointer(&ctx, &at::VFS_RENAME_OLD)
    };
    finish_rename(old, errno(argument(&ctx, &at::VFS_RENAME_RESULT)))
}

#[inline(always)]
fn finish_rename(old: Address, result: i32) -> i32 {
    if pending::of(old).is_some() {
        lsm_emit_rename(result as u32);
    }
    0
}

/// `S_IALLUGO`: the bits of a mode that a caller chooses.
const MODE: u64 = 0o7777;
