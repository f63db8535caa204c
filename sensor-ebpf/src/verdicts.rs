//! What the agent has judged already, and has nothing more to do for: looked up before a record is made, and counted there.
//! No policy: the agent writes every verdict. It may call the other modules of this crate.
//!
//! A look-up that cannot be sure finds nothing. What makes an entry void is told in [`sensor_event::VerdictEntry`].

use crate::globals::{
    CRED_EUID, DENTRY_HASH_PPREV, DENTRY_PARENT, MOUNT_MNT, MOUNT_MNT_NS, MOUNT_MNT_ROOT, MOUNT_MOUNTPOINT,
    MOUNT_PARENT, TASK_CRED, TASK_EXEC_ID, TASK_GROUP_LEADER, TASK_START_BOOTTIME, VERDICT_SECRET_HIGH,
    VERDICT_SECRET_LOW, VERDICTS_ON,
};
use crate::header::start_time;
use crate::maps::add;
use crate::path::Place;
use crate::read::{Address, Typed, has, read};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns, bpf_probe_read_kernel};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use core::mem::offset_of;
use sensor_event::{
    CHANGES_LEN, ContextEntry, Hits, KNOWN_COMPONENTS_MAX, KNOWN_NAME_BYTES_MAX, KnownAction, ObjectHash,
    Peer, VERDICT_NS_MAX, VerdictEntry, change_cell,
};
use zerocopy::FromBytes;

/// `BPF_F_MMAPABLE` of `include/uapi/linux/bpf.h`: the agent reads the map without a call.
const MMAPABLE: u32 = 1024;

/// As whom processes act, by tgid. The agent sets the size and adds; a fork copies, exec and exit remove.
#[map]
static CONTEXTS: HashMap<u32, ContextEntry> = HashMap::with_max_entries(1, 0);

/// Verdicts by [`ObjectHash`]. The agent sets the size, adds and removes.
#[map]
static VERDICTS: HashMap<u64, VerdictEntry> = HashMap::with_max_entries(1, 0);

/// How often each verdict held. The agent sets the size.
#[map]
static HITS: Array<Hits> = Array::with_max_entries(1, MMAPABLE);

/// Number of what the agent judges by now.
#[map]
static POLICY: Array<u32> = Array::with_max_entries(1, 0);

/// How often the meaning of files has changed: see [`change_cell`].
#[map]
static CHANGES: Array<u64> = Array::with_max_entries(CHANGES_LEN as u32, 0);

/// The cell of [`CHANGES`] that counts new directories.
const NEW_DIRECTORIES: u32 = 0;

/// `DNAME_INLINE_LEN` in words: 40 bytes since 6.15, 32 before.
const SHORT_NAME_WORDS: usize = 5;

/// Bytes of a name that are read at once.
const CHUNK_BYTES: usize = 32;

/// An open file as a verdict on it is remembered.
#[derive(Clone, Copy)]
pub struct Known {
    /// Where it lies.
    pub place: Place,
    /// Device of the superblock.
    pub dev: u32,
    /// `i_mode`.
    pub mode: u16,
    /// Inode number.
    pub inode: u64,
}

/// Whether verdicts are remembered.
#[inline(always)]
pub fn are_on() -> bool {
    VERDICTS_ON.load() != 0
}

/// What [`sensor_event::FileBody::stamp`] is to be. Taken before the record's time.
#[inline(always)]
pub fn stamp(dev: u32, inode: u64) -> u32 {
    if !are_on() {
        return 0;
    }
    let cell = |index| CHANGES.get(index).copied().unwrap_or(0);
    (cell(NEW_DIRECTORIES) + cell(change_cell(dev, inode))) as u32
}

/// Makes void what was judged of a file: it is new, in the place of another maybe. Once before the time of its record and
/// once after it, so that no other record is judged on the wrong side of it.
#[inline(always)]
pub fn note_new_file(dev: u32, inode: u64) {
    if are_on() {
        note_change(change_cell(dev, inode));
    }
}

/// As [`note_new_file`], of a directory: what was judged of any file below it.
#[inline(always)]
pub fn note_new_directory() {
    if are_on() {
        note_change(NEW_DIRECTORIES);
    }
}

#[inline(always)]
fn note_change(cell: u32) {
    if let Some(cell) = CHANGES.get_ptr_mut(cell) {
        add(cell, 1);
    }
}

/// Whether the verdict on an open for writing is known: then it has been counted.
#[inline(always)]
pub fn is_known_write(file: &Known) -> bool {
    if !are_on() {
        return false;
    }
    let Some(context) = context() else { return false };
    let device = u64::from(file.dev) | u64::from(file.mode) << 32;
    let hash = hash_of_write(context, device, file.inode, file.place.dentry.0, file.place.mount.0);
    hash != 0 && is_known(hash, stamp(file.dev, file.inode))
}

/// Whether the verdict on a connect is known: then it has been counted.
#[inline(always)]
pub fn is_known_peer(peer: &Peer) -> bool {
    if !are_on() {
        return false;
    }
    let Some(context) = context() else { return false };
    let hash = ObjectHash::new(secret(), context, KnownAction::Connect).with_peer(peer);
    is_known(hash.finish(), 0)
}

#[inline(always)]
fn secret() -> [u64; 2] {
    [VERDICT_SECRET_LOW.load(), VERDICT_SECRET_HIGH.load()]
}

#[inline(always)]
fn tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The entry of the current process, if it is of what that is now.
#[inline(always)]
fn entry() -> Option<ContextEntry> {
    let entry = CONTEXTS.get_ptr(tgid())?;
    // SAFETY: the address of an aligned map value.
    let mut copy = unsafe { entry.read_volatile() };
    // SAFETY: as above.
    copy.start_time_ns = unsafe { (&raw const (*entry).start_time_ns).read_volatile() };
    let entry = copy;
    let (exec_id, start_time_ns) = match Typed::current_task() {
        Some(task) => {
            let leader = task.follow(&TASK_GROUP_LEADER)?;
            (task.field::<u32>(&TASK_EXEC_ID) as u16, leader.field(&TASK_START_BOOTTIME))
        }
        None => {
            let task = Address::current_task();
            (task.field::<u16>(&TASK_EXEC_ID).ok()?, start_time(task).ok()?)
        }
    };
    // SAFETY: the helper has no preconditions.
    let cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    if entry.exec_id != exec_id || entry.start_time_ns != start_time_ns || entry.cgroup_id != cgroup_id {
        return None;
    }
    Some(entry)
}

/// As whom the current process acts.
#[inline(always)]
fn context() -> Option<u32> {
    let entry = entry()?;
    if entry.is_of_user != 0 {
        let euid = Address::current_task().follow(&TASK_CRED).ok()?.field::<u32>(&CRED_EUID).ok()?;
        if euid != entry.euid {
            return None;
        }
    }
    Some(entry.context)
}

/// A new process acts as the one that made it, until it becomes another program.
#[inline(always)]
pub fn inherit(child: Address, pid: u32) {
    if !are_on() {
        return;
    }
    // One after the other: 5.10 refuses a program that may read what it has not written of its stack, even if unused.
    let Some(entry) = entry() else { return };
    if entry.is_of_user != 0 {
        // And of that process only.
        return;
    }
    let Ok(start_time_ns) = start_time(child) else { return };
    // Without room, the agent is asked.
    let _ = CONTEXTS.insert(pid, ContextEntry { start_time_ns, ..entry }, 0);
}

/// The current process becomes another program, or ends.
#[inline(always)]
pub fn forget_process() {
    if are_on() {
        // It may have none.
        let _ = CONTEXTS.remove(tgid());
    }
}

/// The low half of the current task's `self_exec_id`; 0 when unknown.
#[inline(always)]
pub fn exec_id(task: Address) -> u16 {
    if has(&TASK_EXEC_ID) { task.field(&TASK_EXEC_ID).unwrap_or(0) } else { 0 }
}

#[inline(always)]
fn is_known(hash: u64, stamp: u32) -> bool {
    let Some(place) = VERDICTS.get_ptr(hash) else { return false };
    // SAFETY: the address of an aligned map value.
    let verdict = unsafe { place.read_volatile() };
    // SAFETY: as above.
    let is_of_hash = unsafe { (&raw const (*place).hash).read_volatile() } == hash;
    let policy = POLICY.get(0).copied().unwrap_or(0);
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !is_of_hash
        || verdict.stamp != stamp
        || verdict.policy != policy
        || now.wrapping_sub(verdict.since_ns) > VERDICT_NS_MAX
    {
        return false;
    }
    let Some(hits) = HITS.get_ptr_mut(verdict.cell) else { return false };
    // SAFETY: the address of an aligned map value. Of two that hold at once either may be the last.
    unsafe {
        add(&raw mut (*hits).count, 1);
        (&raw mut (*hits).last_ns).write_volatile(now);
    }
    true
}

/// The hash of an open file, walked as [`crate::path`] does; 0 where no verdict is remembered: it has no name, or one that
/// is too long or too deep. `device` is the superblock's, and the mode shifted left by 32.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hash_of_write(context: u32, device: u64, inode: u64, dentry: u64, mount: u64) -> u64 {
    let start = ObjectHash::new(secret(), context, KnownAction::Write);
    let hash = start.with_file(device as u32, (device >> 32) as u32, inode);
    climb(hash, Address(dentry), Address(mount)).map_or(0, ObjectHash::finish)
}

/// What is read of a dentry at once, from `d_parent` on. The agent has checked that its members lie so.
#[repr(C)]
#[derive(Clone, Copy, FromBytes)]
struct Link {
    parent: u64,
    name_hash: u32,
    name_len: u32,
    name: u64,
    inode: u64,
    /// Of a name that is short enough, the name: `DNAME_INLINE_LEN` or less of it counts.
    short_name: [u64; SHORT_NAME_WORDS],
}

#[inline(always)]
fn climb(mut hash: ObjectHash, mut dentry: Address, mount: Address) -> Option<ObjectHash> {
    if dentry.field::<u64>(&DENTRY_HASH_PPREV).ok()? == 0 {
        // Removed, or a root, which is no file.
        return None;
    }
    let mut mount = mount.container(&MOUNT_MNT);
    let mut top = mount.follow(&MOUNT_MNT_ROOT).ok()?;
    for _ in 0..KNOWN_COMPONENTS_MAX {
        if dentry == top {
            let parent = mount.follow(&MOUNT_PARENT).ok()?;
            if parent == mount {
                // As `path::namespace_of()`.
                let namespace: i64 = mount.field(&MOUNT_MNT_NS).ok()?;
                return if matches!(namespace, -4095..=0) { None } else { Some(hash) };
            }
            dentry = mount.follow(&MOUNT_MOUNTPOINT).ok()?;
            mount = parent;
            top = mount.follow(&MOUNT_MNT_ROOT).ok()?;
            continue;
        }
        let link: Link = dentry.field(&DENTRY_PARENT).ok()?;
        let at = dentry.member(&DENTRY_PARENT).0;
        hash = if link.name == at + offset_of!(Link, short_name) as u64 {
            with_short_name(hash, link.name_len, link.short_name)?
        } else {
            with_name(hash, link.name_len, Address(link.name))?
        };
        if link.parent == dentry.0 {
            return None;
        }
        dentry = Address(link.parent);
    }
    None
}

/// Adds a dentry's name, as [`ObjectHash::with_component`] does. What is read behind a name's end is masked out.
#[inline(always)]
fn with_short_name(mut hash: ObjectHash, len: u32, words: [u64; SHORT_NAME_WORDS]) -> Option<ObjectHash> {
    let mut left = len;
    for word in words {
        if left < 8 {
            return Some(hash.with(word & !(u64::MAX << (left * 8))));
        }
        hash = hash.with(word);
        left -= 8;
    }
    None
}

/// As [`with_short_name`], of a name that lies somewhere else.
#[inline(always)]
fn with_name(mut hash: ObjectHash, len: u32, mut name: Address) -> Option<ObjectHash> {
    let mut left = len;
    for _ in 0..(KNOWN_NAME_BYTES_MAX + 1) / CHUNK_BYTES {
        for word in read::<[u64; CHUNK_BYTES / 8]>(name.0).ok()? {
            if left < 8 {
                return Some(hash.with(word & !(u64::MAX << (left * 8))));
            }
            hash = hash.with(word);
            left -= 8;
        }
        name = Address(name.0 + CHUNK_BYTES as u64);
    }
    None
}
