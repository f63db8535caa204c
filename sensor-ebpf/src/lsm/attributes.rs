//! What is done to a file by whatever name: its mode, owner, length, attributes. Not names. It may call the other modules
//! of this crate.

use super::{argument, errno, pointer};
use crate::draft::BODY;
use crate::emit::{emit_from, is_agent};
use crate::globals as at;
use crate::path::{self, Place};
use crate::read::{Address, read};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{fentry, fexit, map};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::{FEntryContext, FExitContext};
use core::mem::offset_of;
use sensor_event::{Kind, LossReason, NameBody, PathFlags, Tier};

/// `S_IALLUGO`: the bits of a mode that a caller chooses.
const MODE: u64 = 0o7777;

/// `include/linux/fs.h`, 5.10 to 7.3: the length changes because of an `O_TRUNC`, which is an open.
const ATTR_OPEN: u64 = 1 << 15;

/// `XATTR_NAME_MAX` and more, with its NUL.
const TEXT_BYTES_MAX: u32 = 256;

/// Threads of which the mount they write to is known. One more, and the oldest is forgotten: then the path of a changed
/// attribute goes to the root of its file system only, and says so.
const WRITING_MAX: u32 = 4096;

/// By thread: the `struct vfsmount` that it last asked to write to.
#[map]
static WRITING: LruHashMap<u64, u64> = LruHashMap::with_max_entries(WRITING_MAX, 0);

/// `(const struct path *path, umode_t mode)`: every way to a mode but the file system's own.
#[fexit(function = "chmod_common")]
pub fn lsm_chmod(ctx: FExitContext) -> i32 {
    let result = errno(argument(&ctx, &at::CHMOD_RESULT));
    report(Kind::FILE_CHMOD, pointer(&ctx, &at::CHMOD_PATH), argument(&ctx, &at::CHMOD_MODE) & MODE, result)
}

/// `(const struct path *path, uid_t user, gid_t group)`, in the numbers of the caller's user namespace. What was changed
/// shows in the inode, in the numbers of the host.
#[fexit(function = "chown_common")]
pub fn lsm_chown(ctx: FExitContext) -> i32 {
    let (path, result) = (pointer(&ctx, &at::CHOWN_PATH), errno(argument(&ctx, &at::CHOWN_RESULT)));
    let (mut user, mut group) =
        (argument(&ctx, &at::CHOWN_USER) as u32, argument(&ctx, &at::CHOWN_GROUP) as u32);
    if result == 0
        && let Ok(inode) = path.follow(&at::PATH_DENTRY).and_then(|dentry| dentry.follow(&at::DENTRY_INODE))
    {
        if user != u32::MAX {
            user = inode.field(&at::INODE_UID).unwrap_or(user);
        }
        if group != u32::MAX {
            group = inode.field(&at::INODE_GID).unwrap_or(group);
        }
    }
    report(Kind::FILE_CHOWN, path, u64::from(user) | u64::from(group) << 32, result)
}

/// `(const struct path *path, loff_t length)`: `truncate()`.
#[fexit(function = "vfs_truncate")]
pub fn lsm_truncate(ctx: FExitContext) -> i32 {
    let (path, length) = (pointer(&ctx, &at::VFS_TRUNCATE_PATH), argument(&ctx, &at::VFS_TRUNCATE_LENGTH));
    report(Kind::FILE_TRUNCATE, path, length, errno(argument(&ctx, &at::VFS_TRUNCATE_RESULT)))
}

/// With a file: `ftruncate()`.
#[fexit(function = "do_truncate")]
pub fn lsm_ftruncate(ctx: FExitContext) -> i32 {
    let (file, attributes) =
        (pointer(&ctx, &at::DO_TRUNCATE_FILE), argument(&ctx, &at::DO_TRUNCATE_ATTRIBUTES));
    if file.is_null() || attributes & ATTR_OPEN != 0 {
        return 0;
    }
    let path = file.member(&at::FILE_PATH);
    let length = argument(&ctx, &at::DO_TRUNCATE_LENGTH);
    report(Kind::FILE_TRUNCATE, path, length, errno(argument(&ctx, &at::DO_TRUNCATE_RESULT)))
}

#[inline(always)]
fn report(kind: Kind, path: Address, value: u64, result: i32) -> i32 {
    if is_agent() {
        return 0;
    }
    let mount = path.follow(&at::PATH_MNT).unwrap_or(Address(0));
    let dentry = path.follow(&at::PATH_DENTRY).unwrap_or(Address(0));
    lsm_emit_file(kind_and_result(kind, result), mount.0, dentry.0, value, 0);
    0
}

/// Remembers the mount for [`lsm_setxattr`], which is given none.
#[fentry(function = "mnt_want_write")]
pub fn lsm_want_write(ctx: FEntryContext) -> i32 {
    remember(pointer(&ctx, &at::WANT_WRITE_MOUNT))
}

/// As [`lsm_want_write`].
#[fentry(function = "mnt_want_write_file")]
pub fn lsm_want_write_file(ctx: FEntryContext) -> i32 {
    remember(pointer(&ctx, &at::WANT_WRITE_FILE).follow(&at::FILE_PATH_MNT).unwrap_or(Address(0)))
}

#[inline(always)]
fn remember(mount: Address) -> i32 {
    // A mount that is the kernel's own, as those of an overlay's layers, has an error in the place of its namespace.
    let namespace = mount.container(&at::MOUNT_MNT).field::<i64>(&at::MOUNT_MNT_NS).unwrap_or(0);
    if !(-4095..=0).contains(&namespace) {
        // An LRU map evicts rather than refuses.
        WRITING.insert(bpf_get_current_pid_tgid(), mount.0, 0).unwrap_or_default();
    }
    0
}

/// Emits a changed attribute. An overlay calls this again for the layer below, which is of another file system than
/// the mount that was asked for.
#[fexit(function = "vfs_setxattr")]
pub fn lsm_setxattr(ctx: FExitContext) -> i32 {
    let flags = argument(&ctx, &at::VFS_SETXATTR_FLAGS) & u64::from(u32::MAX);
    let (dentry, name) = (pointer(&ctx, &at::VFS_SETXATTR_DENTRY), argument(&ctx, &at::VFS_SETXATTR_NAME));
    report_attribute(dentry, name, flags, errno(argument(&ctx, &at::VFS_SETXATTR_RESULT)))
}

/// `(struct mnt_idmap *, struct dentry *, const char *acl_name, struct posix_acl *)`: an attribute that is an access control
/// list, whose call takes no flags from 6.2 on.
#[fexit(function = "vfs_set_acl")]
pub fn lsm_set_acl(ctx: FExitContext) -> i32 {
    let (dentry, name) = (pointer(&ctx, &at::VFS_SET_ACL_DENTRY), argument(&ctx, &at::VFS_SET_ACL_NAME));
    report_attribute(dentry, name, 0, errno(argument(&ctx, &at::VFS_SET_ACL_RESULT)))
}

/// Reports an attribute whose name is at the address `name`.
#[inline(always)]
fn report_attribute(dentry: Address, name: u64, flags: u64, result: i32) -> i32 {
    if is_agent() {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once; nobody else writes this thread's.
    let mut mount = unsafe { WRITING.get(thread).copied() }.unwrap_or(0);
    if mount != 0 {
        let asked = Address(mount).follow(&at::MOUNT_SB).unwrap_or(Address(0));
        if asked != superblock(dentry).unwrap_or(Address(0)) {
            if is_overlay(asked) {
                return 0;
            }
            // It is of an earlier call: of this one's file the mount is the kernel's own, or gone.
            mount = 0;
        }
    }
    lsm_emit_file(kind_and_result(Kind::FILE_SETXATTR, result), mount, dentry.0, flags, name);
    0
}

/// Whether a file system is an overlay.
#[inline(always)]
fn is_overlay(superblock: Address) -> bool {
    let name = superblock.follow(&at::SB_TYPE).and_then(|kind| kind.follow(&at::FS_TYPE_NAME));
    name.and_then(|name| read(name.0)) == Ok(*b"overlay\0")
}

#[inline(always)]
fn superblock(dentry: Address) -> Result<Address, LossReason> {
    dentry.follow(&at::DENTRY_INODE)?.follow(&at::INODE_SB)
}

/// How a subprogram is told two numbers in one.
#[inline(always)]
const fn kind_and_result(kind: Kind, result: i32) -> u64 {
    kind.0 as u64 | (result as u64) << 32
}

/// Emits an operation on a file that is not known by a name below a directory. `text` is the address of a kernel string,
/// or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_file(kind_and_result: u64, mount: u64, dentry: u64, value: u64, text: u64) -> u32 {
    let place = Place { mount: Address(mount), dentry: Address(dentry) };
    emit_from(Tier::LSM, Kind(kind_and_result as u16), size_of::<NameBody>(), |draft| {
        let inode = place.dentry.follow(&at::DENTRY_INODE)?;
        draft.put(BODY + offset_of!(NameBody, inode), inode.field::<u64>(&at::INODE_INO)?);
        draft.put(BODY + offset_of!(NameBody, dev), inode.follow(&at::INODE_SB)?.field::<u32>(&at::SB_DEV)?);
        draft.put(BODY + offset_of!(NameBody, value), value);
        draft.put(BODY + offset_of!(NameBody, result), (kind_and_result >> 32) as u32);
        draft.put(BODY + offset_of!(NameBody, flags), 0u32);
        draft.put(BODY + offset_of!(NameBody, second_text_len), 0u16);
        path::append(draft, BODY + offset_of!(NameBody, base), &place);
        path::write_reference(draft, BODY + offset_of!(NameBody, name), draft.len(), PathFlags::default());
        let text_len = draft.append_text(Address(text), TEXT_BYTES_MAX);
        draft.put(BODY + offset_of!(NameBody, text_len), text_len);
        Ok(())
    });
    0
}
