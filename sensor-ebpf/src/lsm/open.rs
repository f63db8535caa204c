//! Opens, where the kernel has the file in hand and gives it to whoever asked: system calls, io_uring, exec, itself. Not
//! maps. It may call the other modules of this crate.
//!
//! Nothing but the kernel's own objects counts: its copy of the name, its flags, the file.

use super::{argument, pointer, pointer_errno};
use crate::draft::{BODY, Draft, bounded_reference};
use crate::emit::{emit_from, is_agent, lose};
use crate::files::{file_of, place_of};
use crate::globals as at;
use crate::path;
use crate::read::{Address, read};
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use core::mem::offset_of;
use sensor_event::{FileBody, FileFlags, Kind, LossReason, PathFlags, PathRef, Tier};

/// `include/uapi/asm-generic/fcntl.h`; the same on x86 and arm64.
const O_TRUNC: u32 = 0o1000;
const O_PATH: u32 = 0o10_000_000;

/// `include/linux/fs.h`: the file was opened for writing, and the open created it.
const FMODE_WRITE: u32 = 2;
const FMODE_CREATED: u32 = 0x10_0000;

/// `include/uapi/linux/stat.h`.
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFSOCK: u16 = 0o140_000;

/// `PATH_MAX`.
const NAME_BYTES_MAX: u32 = 4096;

/// `AT_FDCWD`.
const AT_FDCWD: i32 = -100;

/// `(int dfd, struct filename *pathname, const struct open_flags *op)`, returns the file.
#[fexit(function = "do_filp_open")]
pub fn lsm_open(ctx: FExitContext) -> i32 {
    let (dirfd, name) = (argument(&ctx, &at::DO_FILP_OPEN_DFD), pointer(&ctx, &at::DO_FILP_OPEN_NAME));
    let (how, file) = (pointer(&ctx, &at::DO_FILP_OPEN_OP), argument(&ctx, &at::DO_FILP_OPEN_RESULT));
    open(dirfd as i32, name, how, file)
}

/// As [`lsm_open`], under the name that it has since 7.0.
#[fexit(function = "do_file_open")]
pub fn lsm_open_file(ctx: FExitContext) -> i32 {
    let (dirfd, name) = (argument(&ctx, &at::DO_FILE_OPEN_DFD), pointer(&ctx, &at::DO_FILE_OPEN_NAME));
    let (how, file) = (pointer(&ctx, &at::DO_FILE_OPEN_OP), argument(&ctx, &at::DO_FILE_OPEN_RESULT));
    open(dirfd as i32, name, how, file)
}

/// An open that starts at a directory the kernel has in hand, as `open_by_handle_at()` does.
#[fexit(function = "do_file_open_root")]
pub fn lsm_open_root(ctx: FExitContext) -> i32 {
    let (how, file) = (pointer(&ctx, &at::OPEN_ROOT_OP), argument(&ctx, &at::OPEN_ROOT_RESULT));
    // Where a failed one started is not known as a name below a descriptor.
    if is_agent() || pointer_errno(file).is_some() {
        return 0;
    }
    lsm_opened(file, how.field(&at::OPEN_HOW_FLAGS).unwrap_or(0));
    0
}

#[inline(always)]
fn open(dirfd: i32, name: Address, how: Address, file: u64) -> i32 {
    if is_agent() {
        return 0;
    }
    let open_flags = how.field::<u32>(&at::OPEN_HOW_FLAGS).unwrap_or(0);
    match pointer_errno(file) {
        None => lsm_opened(file, open_flags),
        Some(errno) if at::OPEN_READS.load() != 0 => {
            let name = name.follow(&at::FILENAME_NAME).unwrap_or(Address(0));
            lsm_open_failed(dirfd as u32, name.0, open_flags, errno as u32)
        }
        Some(_) => 0,
    };
    0
}

/// Reports a file that was opened, unless that changed nothing and such opens are not wanted, or it is no file (a
/// device, pipe or socket).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_opened(file: u64, open_flags: u32) -> u32 {
    match inspect(Address(file), open_flags) {
        Ok(None) => {}
        Ok(Some(opened)) => {
            emit_from(Tier::LSM, Kind::FILE_OPEN, size_of::<FileBody>(), |draft| fill(draft, &opened));
        }
        Err(reason) => {
            lose(Kind::FILE_OPEN, reason);
        }
    }
    0
}

struct Opened {
    file: Address,
    inode: Address,
    mode: u16,
    open_flags: u32,
    flags: u32,
}

#[inline(always)]
fn inspect(file: Address, open_flags: u32) -> Result<Option<Opened>, LossReason> {
    let inode = file.follow(&at::FILE_INODE)?;
    let mode: u16 = inode.field(&at::INODE_MODE)?;
    if matches!(mode & S_IFMT, S_IFCHR | S_IFIFO | S_IFSOCK) || open_flags & O_PATH != 0 {
        return Ok(None);
    }
    let file_mode: u32 = file.field(&at::FILE_MODE)?;
    let is_created = file_mode & FMODE_CREATED != 0;
    let is_change = is_created || file_mode & FMODE_WRITE != 0 || open_flags & O_TRUNC != 0;
    if !is_change && at::OPEN_READS.load() == 0 {
        return Ok(None);
    }
    let flags = if is_created { FileFlags::CREATED.0 } else { 0 };
    Ok(Some(Opened { file, inode, mode, open_flags, flags }))
}

#[inline(always)]
fn fill(draft: Draft, opened: &Opened) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(FileBody, inode), opened.inode.field::<u64>(&at::INODE_INO)?);
    let dev: u32 = opened.inode.follow(&at::INODE_SB)?.field(&at::SB_DEV)?;
    draft.put(BODY + offset_of!(FileBody, dev), dev);
    draft.put(BODY + offset_of!(FileBody, mode), u32::from(opened.mode));
    draft.put(BODY + offset_of!(FileBody, open_flags), opened.open_flags);
    draft.put(BODY + offset_of!(FileBody, flags), opened.flags);
    draft.put(BODY + offset_of!(FileBody, result), 0i32);
    draft.put(BODY + offset_of!(FileBody, reserved), 0u32);
    path::append(draft, BODY + offset_of!(FileBody, path), &place_of(opened.file)?);
    path::write_reference(draft, BODY + offset_of!(FileBody, name), draft.len(), PathFlags::default());
    Ok(())
}

/// Reports an open that failed, by the kernel's copy of the name, which it did not resolve: as the caller gave it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_open_failed(dirfd: u32, name: u64, open_flags: u32, errno: u32) -> u32 {
    emit_from(Tier::LSM, Kind::FILE_OPEN, size_of::<FileBody>(), |draft| {
        draft.put(BODY + offset_of!(FileBody, inode), 0u64);
        draft.put(BODY + offset_of!(FileBody, dev), 0u32);
        draft.put(BODY + offset_of!(FileBody, mode), 0u32);
        draft.put(BODY + offset_of!(FileBody, open_flags), open_flags);
        draft.put(BODY + offset_of!(FileBody, flags), FileFlags::default());
        draft.put(BODY + offset_of!(FileBody, result), errno);
        draft.put(BODY + offset_of!(FileBody, reserved), 0u32);
        let references = BODY + offset_of!(FileBody, path);
        lsm_append_given_name(draft.index(), references as u32, dirfd, name);
        Ok(())
    });
    0
}

/// Appends the directory that a name starts at, and the name, a kernel string, with their references: two, one behind
/// the other.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_append_given_name(draft: u32, references: u32, dirfd: u32, name: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let reference = bounded_reference(references);
    match base(dirfd as i32, name) {
        Ok(place) => path::append(draft, reference, &place),
        Err(_) => path::write_reference(draft, reference, draft.len(), PathFlags::FAULT),
    }
    let start = draft.len();
    let mut flags = PathFlags::CALLER;
    match draft.append_kernel_string(Address(name), NAME_BYTES_MAX) {
        // Without its NUL.
        Ok(_) => draft.shorten(1),
        Err(_) => flags = flags.union(PathFlags::FAULT),
    }
    path::write_reference(draft, reference + size_of::<PathRef>(), start, flags);
    0
}

#[inline(always)]
fn base(dirfd: i32, name: u64) -> Result<path::Place, LossReason> {
    let task = Address::current_task();
    if read::<u8>(name)? == b'/' {
        return path::root(task);
    }
    if dirfd != AT_FDCWD {
        return place_of(file_of(dirfd as u32)?);
    }
    let fs = task.follow(&at::TASK_FS)?;
    Ok(path::Place { mount: fs.follow(&at::FS_PWD_MNT)?, dentry: fs.follow(&at::FS_PWD_DENTRY)? })
}

const _: () = assert!(
    offset_of!(FileBody, name) == offset_of!(FileBody, path) + size_of::<PathRef>(),
    "a name's reference follows its base's"
);
