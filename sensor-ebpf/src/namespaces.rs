//! The namespaces and capabilities of a task. Not their changes. It may call [`crate::read`] and [`crate::draft`].

use crate::draft::{Draft, bounded_reference};
use crate::globals::{
    CGROUP_NS_INUM, CRED_CAP_EFFECTIVE, CRED_CAP_PERMITTED, CRED_USER_NS, IPC_NS_INUM, MNT_NS_INUM,
    NET_NS_INUM, NSPROXY_CGROUP_NS, NSPROXY_IPC_NS, NSPROXY_MNT_NS, NSPROXY_NET_NS, NSPROXY_PID_NS,
    NSPROXY_TIME_NS, NSPROXY_UTS_NS, PID_NS_INUM, TASK_CRED, TASK_NSPROXY, TIME_NS_INUM, USER_NS_INUM,
    UTS_NS_INUM,
};
use crate::header::pid_ns_level;
use crate::read::{Address, has};
use aya_ebpf::Global;
use core::mem::offset_of;
use sensor_event::{LossReason, Namespaces};

/// `include/uapi/linux/sched.h`.
const CLONE_NEWTIME: u32 = 0x80;
const CLONE_NEWNS: u32 = 0x2_0000;
const CLONE_NEWCGROUP: u32 = 0x0200_0000;
const CLONE_NEWUTS: u32 = 0x0400_0000;
const CLONE_NEWIPC: u32 = 0x0800_0000;
const CLONE_NEWUSER: u32 = 0x1000_0000;
const CLONE_NEWPID: u32 = 0x2000_0000;
const CLONE_NEWNET: u32 = 0x4000_0000;

/// All of them.
pub const CLONE_NEW: u32 = CLONE_NEWTIME
    | CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET;

/// Effective and permitted capabilities of a task.
///
/// # Errors
/// When they cannot be read.
#[inline(always)]
pub fn capabilities(task: Address) -> Result<(u64, u64), LossReason> {
    let cred = task.follow(&TASK_CRED)?;
    Ok((cred.field(&CRED_CAP_EFFECTIVE)?, cred.field(&CRED_CAP_PERMITTED)?))
}

/// Writes a task's [`Namespaces`] at an offset of the fixed part. What cannot be read is 0.
#[inline(always)]
pub fn put(draft: Draft, offset: usize, task: Address) {
    put_namespaces(draft.index(), offset as u32, task.0);
}

/// [`put`] as a subprogram; returns what one must, a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn put_namespaces(draft: u32, offset: u32, task: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let (offset, task) = (bounded_reference(offset), Address(task));
    // An exiting task has given its namespaces back.
    let nsproxy = task.follow(&TASK_NSPROXY).unwrap_or(Address(0));
    let number = |kind: &Global<u32>, inum: &Global<u32>| inode_number(nsproxy, kind, inum);
    draft.put(offset + offset_of!(Namespaces, mnt), number(&NSPROXY_MNT_NS, &MNT_NS_INUM));
    draft.put(offset + offset_of!(Namespaces, pid), number(&NSPROXY_PID_NS, &PID_NS_INUM));
    draft.put(offset + offset_of!(Namespaces, net), number(&NSPROXY_NET_NS, &NET_NS_INUM));
    draft.put(offset + offset_of!(Namespaces, uts), number(&NSPROXY_UTS_NS, &UTS_NS_INUM));
    draft.put(offset + offset_of!(Namespaces, ipc), number(&NSPROXY_IPC_NS, &IPC_NS_INUM));
    draft.put(offset + offset_of!(Namespaces, cgroup), number(&NSPROXY_CGROUP_NS, &CGROUP_NS_INUM));
    draft.put(offset + offset_of!(Namespaces, time), number(&NSPROXY_TIME_NS, &TIME_NS_INUM));
    let cred = task.follow(&TASK_CRED).unwrap_or(Address(0));
    draft.put(offset + offset_of!(Namespaces, user), inode_number(cred, &CRED_USER_NS, &USER_NS_INUM));
    0
}

#[inline(always)]
fn inode_number(holder: Address, kind: &Global<u32>, inum: &Global<u32>) -> u32 {
    if holder.is_null() || !has(kind) || !has(inum) {
        return 0;
    }
    holder.follow(kind).and_then(|namespace| namespace.field(inum)).unwrap_or_default()
}

/// `CLONE_NEW*` bits of the namespaces in which two tasks differ.
///
/// # Errors
/// When they cannot be read.
#[inline(always)]
pub fn difference(one: Address, other: Address) -> Result<u32, LossReason> {
    let mut bits = 0;
    let (first, second) = (one.follow(&TASK_NSPROXY)?, other.follow(&TASK_NSPROXY)?);
    if first != second && !first.is_null() && !second.is_null() {
        for (kind, bit) in [
            (&NSPROXY_MNT_NS, CLONE_NEWNS),
            (&NSPROXY_NET_NS, CLONE_NEWNET),
            (&NSPROXY_UTS_NS, CLONE_NEWUTS),
            (&NSPROXY_IPC_NS, CLONE_NEWIPC),
            (&NSPROXY_CGROUP_NS, CLONE_NEWCGROUP),
            (&NSPROXY_TIME_NS, CLONE_NEWTIME),
        ] {
            if has(kind) && first.follow(kind)? != second.follow(kind)? {
                bits |= bit;
            }
        }
    }
    if pid_ns_level(one)? != pid_ns_level(other)? {
        bits |= CLONE_NEWPID;
    }
    let user = |task: Address| task.follow(&TASK_CRED)?.follow(&CRED_USER_NS);
    if user(one)? != user(other)? {
        bits |= CLONE_NEWUSER;
    }
    Ok(bits)
}
