//! The header: who did it, and when. Not the bodies. It may call [`crate::read`] and [`crate::draft`].

use crate::draft::Draft;
use crate::globals::{
    CGROUP_KN, CRED_EGID, CRED_EUID, CRED_GID, CRED_UID, CSS_SET_DFL_CGROUP, KERNFS_ID, MNT_NS_INUM,
    NSPROXY_MNT_NS, NSPROXY_PID_NS, PID_LEVEL, PID_NS_INUM, TASK_CGROUPS, TASK_COMM, TASK_CRED,
    TASK_GROUP_LEADER, TASK_LOGINUID, TASK_NSPROXY, TASK_PID, TASK_REAL_PARENT, TASK_SESSIONID,
    TASK_START_BOOTTIME, TASK_TGID, TASK_THREAD_PID,
};
use crate::read::{Address, has};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use core::mem::offset_of;
use sensor_event::{Header, Kind, LossReason, RECORD_VERSION, Tier};

/// Value of an id that is not set or not built into the kernel.
const UNSET: u32 = u32::MAX;

/// Writes everything but the length, which the draft keeps.
#[inline(always)]
pub fn describe(draft: Draft, tier: Tier, kind: Kind, task: Address) -> Result<(), LossReason> {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    draft.put(offset_of!(Header, time_ns), now);
    draft.put(offset_of!(Header, kind), kind);
    draft.put(offset_of!(Header, version), RECORD_VERSION);
    draft.put(offset_of!(Header, tier), tier);
    // SAFETY: the helper has no preconditions.
    draft.put(offset_of!(Header, cpu), unsafe { bpf_get_smp_processor_id() });
    if describe_task(draft.index(), task.0) == 0 { Ok(()) } else { Err(LossReason::Fault) }
}

/// Writes what concerns the task. Returns 0, or 1 when something could not be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describe_task(draft: u32, task: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    u32::from(fill_task(draft, Address(task)).is_err())
}

#[inline(always)]
fn fill_task(draft: Draft, task: Address) -> Result<(), LossReason> {
    draft.put(offset_of!(Header, pid), task.field::<u32>(&TASK_TGID)?);
    draft.put(offset_of!(Header, tid), task.field::<u32>(&TASK_PID)?);
    draft.put(offset_of!(Header, start_time_ns), start_time(task)?);
    let parent = task.follow(&TASK_REAL_PARENT)?;
    draft.put(offset_of!(Header, ppid), parent.field::<u32>(&TASK_TGID)?);
    draft.put(offset_of!(Header, parent_start_time_ns), start_time(parent)?);

    let cred = task.follow(&TASK_CRED)?;
    draft.put(offset_of!(Header, uid), cred.field::<u32>(&CRED_UID)?);
    draft.put(offset_of!(Header, gid), cred.field::<u32>(&CRED_GID)?);
    draft.put(offset_of!(Header, euid), cred.field::<u32>(&CRED_EUID)?);
    draft.put(offset_of!(Header, egid), cred.field::<u32>(&CRED_EGID)?);
    let loginuid = if has(&TASK_LOGINUID) { task.field(&TASK_LOGINUID)? } else { UNSET };
    draft.put(offset_of!(Header, loginuid), loginuid);
    let session_id = if has(&TASK_SESSIONID) { task.field(&TASK_SESSIONID)? } else { UNSET };
    draft.put(offset_of!(Header, session_id), session_id);

    draft.put(offset_of!(Header, cgroup_id), cgroup_id(task)?);
    // An exiting task has given its namespaces back: unknown, not a fault.
    let nsproxy = task.follow(&TASK_NSPROXY)?;
    let (mut mnt_ns, mut pid_ns) = (0u32, 0u32);
    if !nsproxy.is_null() {
        mnt_ns = nsproxy.follow(&NSPROXY_MNT_NS)?.field(&MNT_NS_INUM)?;
        pid_ns = nsproxy.follow(&NSPROXY_PID_NS)?.field(&PID_NS_INUM)?;
    }
    draft.put(offset_of!(Header, mnt_ns), mnt_ns);
    draft.put(offset_of!(Header, pid_ns), pid_ns);
    let comm = task.field::<[u64; 2]>(&TASK_COMM)?;
    draft.put(offset_of!(Header, comm), comm);
    Ok(())
}

/// `start_boottime` of the task's process.
#[inline(always)]
pub fn start_time(task: Address) -> Result<u64, LossReason> {
    task.follow(&TASK_GROUP_LEADER)?.field(&TASK_START_BOOTTIME)
}

/// `task_active_pid_ns()`'s depth: a task in another pid namespace than its parent is in a deeper one.
#[inline(always)]
pub fn pid_ns_level(task: Address) -> Result<u32, LossReason> {
    task.follow(&TASK_THREAD_PID)?.field(&PID_LEVEL)
}

/// The node of the task's cgroup in the v2 hierarchy.
#[inline(always)]
pub fn cgroup_node(task: Address) -> Result<Address, LossReason> {
    task.follow(&TASK_CGROUPS)?.follow(&CSS_SET_DFL_CGROUP)?.follow(&CGROUP_KN)
}

/// `cgroup_id()` of the task's cgroup in the v2 hierarchy.
#[inline(always)]
pub fn cgroup_id(task: Address) -> Result<u64, LossReason> {
    cgroup_node(task)?.field(&KERNFS_ID)
}
