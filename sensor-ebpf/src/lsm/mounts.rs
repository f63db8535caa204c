//! Mounts made, moved and removed. Not what is mounted. It may call the other modules of this crate.

use super::pending::{self, lsm_emit_name};
use super::{argument, errno, pointer};
use crate::draft::BODY;
use crate::emit::{emit_from, is_agent, lose};
use crate::globals as at;
use crate::path::{self, Place};
use crate::read::Address;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use core::mem::offset_of;
use sensor_event::{FileFlags, Kind, LossReason, NameBody, PathFlags, Tier};

/// `PATH_MAX`, and more than any file system type's name.
const SOURCE_BYTES_MAX: u32 = 4096;
const TYPE_BYTES_MAX: u32 = 256;

/// `include/uapi/linux/mount.h`.
const MS_MOVE: u64 = 8192;

const U32: u64 = 0xffff_ffff;

/// `(const char *dev_name, struct path *path, const char *type_page, unsigned long flags, void *data_page)`: `mount()`,
/// with the kernel's copies of its texts.
#[fexit(function = "path_mount")]
pub fn lsm_mount(ctx: FExitContext) -> i32 {
    if is_agent() {
        return 0;
    }
    let path = pointer(&ctx, &at::PATH_MOUNT_PATH);
    let (source, kind) = (argument(&ctx, &at::PATH_MOUNT_SOURCE), argument(&ctx, &at::PATH_MOUNT_TYPE));
    let flags = argument(&ctx, &at::PATH_MOUNT_FLAGS) & U32;
    lsm_emit_mount(path.0, flags, source, kind, errno(argument(&ctx, &at::PATH_MOUNT_RESULT)) as u32);
    0
}

/// Reports a mount. `source` and `kind` are addresses of kernel strings, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_mount(path: u64, flags: u64, source: u64, kind: u64, result: u32) -> u32 {
    emit_from(Tier::LSM, Kind::MOUNT, size_of::<NameBody>(), |draft| {
        let place = place_of(Address(path))?;
        draft.put(BODY + offset_of!(NameBody, inode), 0u64);
        draft.put(BODY + offset_of!(NameBody, dev), 0u32);
        draft.put(BODY + offset_of!(NameBody, value), flags);
        draft.put(BODY + offset_of!(NameBody, result), result);
        draft.put(BODY + offset_of!(NameBody, flags), 0u32);
        path::append(draft, BODY + offset_of!(NameBody, base), &place);
        path::write_reference(draft, BODY + offset_of!(NameBody, name), draft.len(), PathFlags::default());
        let len = draft.append_text(Address(source), SOURCE_BYTES_MAX);
        draft.put(BODY + offset_of!(NameBody, text_len), len);
        let len = draft.append_text(Address(kind), TYPE_BYTES_MAX);
        draft.put(BODY + offset_of!(NameBody, second_text_len), len);
        Ok(())
    });
    0
}

#[inline(always)]
fn place_of(path: Address) -> Result<Place, LossReason> {
    Ok(Place { mount: path.follow(&at::PATH_MNT)?, dentry: path.follow(&at::PATH_DENTRY)? })
}

/// Remembers where a mount is that is about to be removed: afterwards nothing leads from it to there.
#[fentry(function = "path_umount")]
pub fn lsm_umount_begin(ctx: FEntryContext) -> i32 {
    if is_agent() {
        return 0;
    }
    let (path, flags) = (pointer(&ctx, &at::PATH_UMOUNT_PATH), argument(&ctx, &at::PATH_UMOUNT_FLAGS) & U32);
    let place = match place_of(path).and_then(mountpoint) {
        Ok(place) => place,
        Err(reason) => return lose(Kind::MOUNT, reason),
    };
    if let Some(pending) = pending::begin(Kind::MOUNT) {
        pending.mount = place.mount.0;
        pending.directory = place.dentry.0;
        pending.value = NameBody::UNMOUNT | flags;
    }
    0
}

/// Where a mount is, as a place in the one above it; what is no mount is where it is.
#[inline(always)]
fn mountpoint(place: Place) -> Result<Place, LossReason> {
    let mount = place.mount.container(&at::MOUNT_MNT);
    let parent = mount.follow(&at::MOUNT_PARENT)?;
    if place.dentry != mount.follow(&at::MOUNT_MNT_ROOT)? || parent == mount {
        return Ok(place);
    }
    Ok(Place { mount: parent.member(&at::MOUNT_MNT), dentry: mount.follow(&at::MOUNT_MOUNTPOINT)? })
}

/// Emits a removed mount.
#[fexit(function = "path_umount")]
pub fn lsm_umount(ctx: FExitContext) -> i32 {
    finish(errno(argument(&ctx, &at::PATH_UMOUNT_RESULT)))
}

#[inline(always)]
fn finish(result: i32) -> i32 {
    if pending::is_of(Kind::MOUNT, FileFlags::default()) {
        lsm_emit_name(0, result as u32);
    }
    0
}

/// Remembers where a mount is about to be moved or attached, and of what type its file system is.
#[fexit(function = "security_move_mount")]
pub fn lsm_move_mount_begin(ctx: FExitContext) -> i32 {
    if is_agent() {
        return 0;
    }
    let place = match place_of(pointer(&ctx, &at::MOVE_MOUNT_TO)) {
        Ok(place) => place,
        Err(reason) => return lose(Kind::MOUNT, reason),
    };
    if let Some(pending) = pending::begin(Kind::MOUNT) {
        pending.mount = place.mount.0;
        pending.directory = place.dentry.0;
        pending.value = MS_MOVE;
        if let Ok(name) = fs_type(pointer(&ctx, &at::MOVE_MOUNT_FROM)) {
            pending.take_second_text(name);
        }
    }
    0
}

#[inline(always)]
fn fs_type(path: Address) -> Result<Address, LossReason> {
    path.follow(&at::PATH_MNT)?.follow(&at::MOUNT_SB)?.follow(&at::SB_TYPE)?.follow(&at::FS_TYPE_NAME)
}

macro_rules! move_mount {
    ($name:ident, $function:literal, $result:ident) => {
        /// Emits a moved mount: the function of the system call itself, for what it calls is merged into it.
        #[fexit(function = $function)]
        pub fn $name(ctx: FExitContext) -> i32 {
            finish(errno(argument(&ctx, &at::$result)))
        }
    };
}

move_mount!(lsm_move_mount_x64, "__x64_sys_move_mount", MOVE_MOUNT_X64_RESULT);
move_mount!(lsm_move_mount_ia32, "__ia32_sys_move_mount", MOVE_MOUNT_IA32_RESULT);
move_mount!(lsm_move_mount_arm64, "__arm64_sys_move_mount", MOVE_MOUNT_ARM64_RESULT);
