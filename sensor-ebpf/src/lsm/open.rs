//! Opens, where the kernel has the file in hand and gives it to whoever asked: system calls, io_uring, exec, itself. Not
//! maps. It may call the other modules of this crate.
//!
//! Nothing but the kernel's own objects counts: its copy of the name, its flags, the file.

use super::{argument, pointer, pointer_errno};
use crate::draft::{BODY, Draft, bounded_reference};
use crate::emit::{emit_from, is_agent, lose};
use crate::files::{file_of, fill_failed, inspect, place_of, report};
use crate::globals as at;
use crate::path;
use crate::read::{Address, read};
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use core::mem::offset_of;
use sensor_event::{FileBody, Kind, LossReason, PathFlags, PathRef, Tier};

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

/// Reports a file that was opened, unless nobody wants it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_opened(file: u64, open_flags: u32) -> u32 {
    match inspect(Address(file), open_flags, 0) {
        Ok(None) => {}
        Ok(Some(opened)) => report(Tier::LSM, &opened),
        Err(reason) => {
            lose(Kind::FILE_OPEN, reason);
        }
    }
    0
}

/// Reports an open that failed, by the kernel's copy of the name, which it did not resolve: as the caller gave it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_open_failed(dirfd: u32, name: u64, open_flags: u32, errno: u32) -> u32 {
    emit_from(Tier::LSM, Kind::FILE_OPEN, size_of::<FileBody>(), |draft| {
        fill_failed(draft, open_flags, 0, errno as i32);
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
