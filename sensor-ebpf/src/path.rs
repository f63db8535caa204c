//! Walks from a dentry to the root of its mount namespace, and from a cgroup to its root. Not path policy. It
//! may call [`crate::read`] and [`crate::draft`].
//!
//! As `prepend_path()` in `fs/d_path.c` (6.18), without its locks: a concurrent rename or unmount can mix two
//! states of a path, as it can for any reader outside the kernel. Every step is bounded and checked.

use crate::draft::{Draft, bounded_reference as bounded};
use crate::globals::{
    DENTRY_HASH_PPREV, DENTRY_INODE, DENTRY_NAME, DENTRY_PARENT, FS_ROOT_DENTRY, FS_ROOT_MNT, INODE_NLINK,
    KERNFS_NAME, KERNFS_PARENT, MOUNT_MNT, MOUNT_MNT_NS, MOUNT_MNT_ROOT, MOUNT_MOUNTPOINT, MOUNT_PARENT,
    TASK_FS,
};
use crate::read::Address;
use core::mem::offset_of;
use sensor_event::{LossReason, PATH_COMPONENTS_MAX, PathFlags, PathRef};

/// `NAME_MAX` and its NUL.
const NAME_BYTES_MAX: u32 = 256;

/// Bytes of one path section at most: `PATH_MAX`.
const SECTION_BYTES_MAX: u64 = 4096;

/// A dentry as seen through a mount: `struct path`.
#[derive(Clone, Copy)]
pub struct Place {
    /// `struct vfsmount`.
    pub mount: Address,
    /// `struct dentry`.
    pub dentry: Address,
}

/// Appends the names from `place` up to the root of its mount namespace, leaf first, and writes the [`PathRef`]
/// at `reference`, an offset in the record.
///
/// Never fails: what could not be read is left out and flagged.
#[inline(always)]
pub fn append(draft: Draft, reference: usize, place: &Place) {
    append_of(Address::current_task(), draft, reference, place);
}

/// As [`append`], as seen by another task: its root is what the components below the root are counted from.
#[inline(always)]
pub fn append_of(task: Address, draft: Draft, reference: usize, place: &Place) {
    append_path(draft.index(), reference as u32, place.dentry.0, place.mount.0, task.0);
}

/// [`append`] as a subprogram; returns what one must, a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn append_path(draft: u32, reference: u32, dentry: u64, mount: u64, task: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let (reference, place) = (bounded(reference), &Place { mount: Address(mount), dentry: Address(dentry) });
    let start = draft.len();
    start_reference(draft, reference);
    let mut flags = deleted(place.dentry).0;
    flags |= climb(draft, reference, place, Address(task)).0;
    finish_reference(draft, reference, start, PathFlags(flags));
    0
}

/// What the loop counts lives in the record and not in registers: the verifier would take each value for another
/// state, and see exponentially many.
#[inline(always)]
fn climb(draft: Draft, reference: usize, place: &Place, task: Address) -> PathFlags {
    let Ok(root) = root(task) else { return PathFlags::FAULT };
    let root_mount = root.mount.container(&MOUNT_MNT);
    let end = draft.len() + SECTION_BYTES_MAX - u64::from(NAME_BYTES_MAX);
    let mut dentry = place.dentry;
    let mut mount = place.mount.container(&MOUNT_MNT);
    let Ok(mut top) = mount.follow(&MOUNT_MNT_ROOT) else { return PathFlags::FAULT };
    for _ in 0..PATH_COMPONENTS_MAX {
        if dentry == root.dentry && mount == root_mount {
            draft.copy_u16(reference + COUNT, reference + offset_of!(PathRef, root_components));
        }
        if dentry == top {
            let Ok(parent) = mount.follow(&MOUNT_PARENT) else { return PathFlags::FAULT };
            if parent == mount {
                return namespace_of(mount);
            }
            let Ok(mountpoint) = mount.follow(&MOUNT_MOUNTPOINT) else { return PathFlags::FAULT };
            let Ok(parent_top) = parent.follow(&MOUNT_MNT_ROOT) else { return PathFlags::FAULT };
            (dentry, mount, top) = (mountpoint, parent, parent_top);
            continue;
        }
        if draft.len() > end {
            return PathFlags::TRUNCATED;
        }
        let Ok(name) = dentry.follow(&DENTRY_NAME) else { return PathFlags::FAULT };
        if draft.append_kernel_string(name, NAME_BYTES_MAX).is_err() {
            return PathFlags::FAULT;
        }
        draft.increment_u16(reference + COUNT);
        let Ok(parent) = dentry.follow(&DENTRY_PARENT) else { return PathFlags::FAULT };
        if parent == dentry {
            // A root that is not its mount's: a pseudo file, whose mount has no namespace, or a directory that
            // was moved out of its bind mount, whose place below the mount namespace's root nobody can tell.
            let flags = namespace_of(mount);
            return if flags == PathFlags::default() { PathFlags::NO_MOUNT } else { flags };
        }
        dentry = parent;
    }
    PathFlags::TRUNCATED
}

/// Whether the walk ended in a mount namespace: `real_mount(mnt)->mnt_ns` is null for a detached mount and an
/// error pointer for a kernel-internal one (`is_mounted()` in `fs/mount.h`, 6.18).
#[inline(always)]
fn namespace_of(mount: Address) -> PathFlags {
    match mount.field::<i64>(&MOUNT_MNT_NS) {
        Ok(-4095..=0) => PathFlags::NO_NAMESPACE,
        Ok(_) => PathFlags::default(),
        Err(_) => PathFlags::FAULT,
    }
}

/// The name is gone: no link is left, or this one was removed.
#[inline(always)]
fn deleted(dentry: Address) -> PathFlags {
    match is_deleted(dentry) {
        Ok(true) => PathFlags::DELETED,
        Ok(false) => PathFlags::default(),
        Err(_) => PathFlags::FAULT,
    }
}

#[inline(always)]
fn is_deleted(dentry: Address) -> Result<bool, LossReason> {
    let inode = dentry.follow(&DENTRY_INODE)?;
    if inode.is_null() || inode.field::<u32>(&INODE_NLINK)? == 0 {
        return Ok(true);
    }
    // The root of a file system is never hashed.
    Ok(dentry.field::<u64>(&DENTRY_HASH_PPREV)? == 0 && dentry.follow(&DENTRY_PARENT)? != dentry)
}

/// The task's root directory.
#[inline(always)]
pub fn root(task: Address) -> Result<Place, LossReason> {
    let fs = task.follow(&TASK_FS)?;
    Ok(Place { mount: fs.follow(&FS_ROOT_MNT)?, dentry: fs.follow(&FS_ROOT_DENTRY)? })
}

/// Appends the names from a kernfs node (a cgroup) up to its root, as [`append`].
#[inline(always)]
pub fn append_kernfs(draft: Draft, reference: usize, node: Address) {
    append_node(draft.index(), reference as u32, node.0);
}

/// [`append_kernfs`] as a subprogram.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn append_node(draft: u32, reference: u32, node: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let (reference, node) = (bounded(reference), Address(node));
    let start = draft.len();
    start_reference(draft, reference);
    let flags = climb_kernfs(draft, node);
    finish_reference(draft, reference, start, flags);
    0
}

#[inline(always)]
fn climb_kernfs(draft: Draft, node: Address) -> PathFlags {
    let end = draft.len() + SECTION_BYTES_MAX - u64::from(NAME_BYTES_MAX);
    let mut node = node;
    for _ in 0..PATH_COMPONENTS_MAX {
        let Ok(parent) = node.follow(&KERNFS_PARENT) else { return PathFlags::FAULT };
        if parent.is_null() {
            return PathFlags::default();
        }
        if draft.len() > end {
            return PathFlags::TRUNCATED;
        }
        let Ok(name) = node.follow(&KERNFS_NAME) else { return PathFlags::FAULT };
        if draft.append_kernel_string(name, NAME_BYTES_MAX).is_err() {
            return PathFlags::FAULT;
        }
        node = parent;
    }
    PathFlags::TRUNCATED
}

/// Where the components are counted while they are walked: a field that is zero in the end.
const COUNT: usize = offset_of!(PathRef, reserved);

#[inline(always)]
fn start_reference(draft: Draft, reference: usize) {
    draft.put(reference + offset_of!(PathRef, root_components), PathRef::ROOT_NOT_MET);
    draft.put(reference + COUNT, 0u16);
}

/// Writes the reference of a section that began at `start` and was not walked.
#[inline(always)]
pub fn write_reference(draft: Draft, reference: usize, start: u64, flags: PathFlags) {
    start_reference(draft, reference);
    finish_reference(draft, reference, start, flags);
}

#[inline(always)]
fn finish_reference(draft: Draft, reference: usize, start: u64, flags: PathFlags) {
    draft.put(reference + offset_of!(PathRef, len), (draft.len() - start) as u16);
    draft.put(reference + offset_of!(PathRef, flags), flags);
    draft.put(reference + COUNT, 0u16);
}
