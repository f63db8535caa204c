//! Every process that is there, shown once by the kernel to whoever reads the iterator: the start-up scan. Not processes
//! that come later, and not arguments, which lie in memory that is not the reader's. It may call the other modules of
//! this crate.

use crate::draft::{BODY, Draft};
use crate::emit::{emit_about, lose};
use crate::globals::{MM_EXE_FILE, TASK_GROUP_LEADER, TASK_MM, TASK_PID, TASK_TGID};
use crate::process::fill_program;
use crate::read::Address;
use core::ffi::c_void;
use core::mem::offset_of;
use sensor_event::{ExecBody, ExecFlags, Kind, LossReason};

/// `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }` of kernel/bpf/task_iter.c, each
/// pointer in 8 bytes. The task is null when the last one has been shown.
const TASK_AT: usize = 8;

/// Called for each task of the reader's pid namespace. Threads, kernel threads, and processes whose leader has ended are
/// left out: /proc shows these.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn process_seen(ctx: *mut c_void) -> i32 {
    let place = ctx.cast::<u8>().wrapping_add(TASK_AT).cast::<u64>();
    // SAFETY: the context has two pointers, and the verifier checks that this is the second.
    let shown = Address(unsafe { place.read() });
    if shown.is_null() {
        return 0;
    }
    // Read from memory, it is a number, which a subprogram takes; the argument is a pointer, which it does not.
    let Ok(task) = shown.follow(&TASK_GROUP_LEADER) else { return lose(Kind::PROCESS, LossReason::Fault) };
    let is_leader = match (shown.field::<u32>(&TASK_PID), shown.field::<u32>(&TASK_TGID)) {
        (Ok(pid), Ok(tgid)) => pid == tgid,
        _ => return lose(Kind::PROCESS, LossReason::Fault),
    };
    let Ok(memory) = task.follow(&TASK_MM) else { return lose(Kind::PROCESS, LossReason::Fault) };
    if !is_leader || memory.is_null() {
        return 0;
    }
    emit_about(task, Kind::PROCESS, size_of::<ExecBody>(), |draft| fill(draft, task, memory))
}

#[inline(always)]
fn fill(draft: Draft, task: Address, memory: Address) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(ExecBody, argc), 0u32);
    draft.put(BODY + offset_of!(ExecBody, filename_len), 0u16);
    draft.put(BODY + offset_of!(ExecBody, interpreter_len), 0u16);
    draft.put(BODY + offset_of!(ExecBody, argv_len), 0u16);
    let flags = fill_program(draft, task, memory.follow(&MM_EXE_FILE)?)?;
    draft.put(BODY + offset_of!(ExecBody, flags), ExecFlags(flags));
    Ok(())
}
