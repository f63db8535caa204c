//! Credentials, wherever they change, and attaching to other processes. Not what an exec grants, which its record shows. It
//! may call the other modules of this crate.

use super::{argument, errno, pointer};
use crate::draft::{BODY, Draft};
use crate::emit::{emit_from, is_agent, lose};
use crate::globals as at;
use crate::header::start_time;
use crate::read::Address;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use core::mem::offset_of;
use sensor_event::{CredsBody, Ids, Kind, LossReason, TargetBody, Tier};

/// `include/uapi/linux/ptrace.h`.
const PTRACE_TRACEME: u32 = 0;

/// `(struct cred *new)`: every way to other credentials leads here, also one from inside the kernel that no system call
/// asked for. At its beginning the task still has the old ones.
#[fentry(function = "commit_creds")]
pub fn lsm_creds(ctx: FEntryContext) -> i32 {
    let new = pointer(&ctx, &at::COMMIT_CREDS_NEW);
    if is_agent() || super::is_in_exec() {
        return 0;
    }
    lsm_emit_creds(new.0);
    0
}

/// What a record says of credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Credentials {
    ids: [u32; 4],
    effective: u64,
    permitted: u64,
}

#[inline(always)]
fn credentials(cred: Address) -> Result<Credentials, LossReason> {
    Ok(Credentials {
        ids: [
            cred.field(&at::CRED_UID)?,
            cred.field(&at::CRED_EUID)?,
            cred.field(&at::CRED_GID)?,
            cred.field(&at::CRED_EGID)?,
        ],
        effective: cred.field(&at::CRED_CAP_EFFECTIVE)?,
        permitted: cred.field(&at::CRED_CAP_PERMITTED)?,
    })
}

/// Reports credentials that differ from those of the current task.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_creds(new: u64) -> u32 {
    let old = Address::current_task().follow(&at::TASK_CRED).unwrap_or(Address(0));
    let (Ok(old), Ok(new)) = (credentials(old), credentials(Address(new))) else {
        lose(Kind::CREDS, LossReason::Fault);
        return 0;
    };
    if old != new {
        emit_from(Tier::LSM, Kind::CREDS, size_of::<CredsBody>(), |draft| fill(draft, &old, &new));
    }
    0
}

#[inline(always)]
fn fill(draft: Draft, old: &Credentials, new: &Credentials) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(CredsBody, old_cap_effective), old.effective);
    draft.put(BODY + offset_of!(CredsBody, old_cap_permitted), old.permitted);
    draft.put(BODY + offset_of!(CredsBody, cap_effective), new.effective);
    draft.put(BODY + offset_of!(CredsBody, cap_permitted), new.permitted);
    draft.put(BODY + offset_of!(CredsBody, old), old.ids);
    draft.put(BODY + offset_of!(CredsBody, new), new.ids);
    Ok(())
}

const _: () = assert!(
    offset_of!(Ids, uid) == 0
        && offset_of!(Ids, euid) == 4
        && offset_of!(Ids, gid) == 8
        && size_of::<Ids>() == 16,
    "`Credentials::ids` has the order of `Ids`"
);

/// `(struct task_struct *task, long request, unsigned long addr, unsigned long flags)`.
#[fexit(function = "ptrace_attach")]
pub fn lsm_ptrace(ctx: FExitContext) -> i32 {
    let (task, request) =
        (pointer(&ctx, &at::PTRACE_ATTACH_TASK), argument(&ctx, &at::PTRACE_ATTACH_REQUEST));
    emit_target(task, request as u32, errno(argument(&ctx, &at::PTRACE_ATTACH_RESULT)))
}

/// `(struct task_struct *parent)`: the current task lets its parent trace it. The result is the security modules';
/// behind it, only a parent that ends can stop the call.
#[fexit(function = "security_ptrace_traceme")]
pub fn lsm_traceme(ctx: FExitContext) -> i32 {
    let result = errno(argument(&ctx, &at::TRACEME_RESULT));
    emit_target(Address::current_task(), PTRACE_TRACEME, result)
}

#[inline(always)]
fn emit_target(task: Address, request: u32, result: i32) -> i32 {
    if is_agent() {
        return 0;
    }
    emit_from(Tier::LSM, Kind::PTRACE, size_of::<TargetBody>(), |draft| {
        draft.put(BODY + offset_of!(TargetBody, target_start_time_ns), start_time(task)?);
        draft.put(BODY + offset_of!(TargetBody, target_pid), task.field::<u32>(&at::TASK_TGID)?);
        draft.put(BODY + offset_of!(TargetBody, given_pid), 0u32);
        draft.put(BODY + offset_of!(TargetBody, request), request);
        draft.put(BODY + offset_of!(TargetBody, result), result);
        Ok(())
    })
}
