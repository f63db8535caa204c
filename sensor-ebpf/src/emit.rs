//! The one way from a hook to a ring: claims scratch, writes the header, lets the hook fill the rest, submits,
//! and accounts for it. Not what a record says. It may call the other modules of this crate.

use crate::draft::Draft;
use crate::globals::{SELF_TGID, TASK_TGID};
use crate::header;
use crate::maps::{self, count};
use crate::read::Address;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::debug;
use sensor_event::{Counter, Kind, LossReason, Tier};

/// Emits one record about the current task from a tracepoint: `fill` writes the body and appends the tail.
///
/// Keeps the identity `seen == submitted + cached + lost`: whatever happens, exactly one of the three is counted, here, in
/// [`lose`] or in [`leave_out`].
/// Returns what a program returns.
#[inline(always)]
pub fn emit(kind: Kind, body_bytes: usize, fill: impl FnOnce(Draft) -> Result<(), LossReason>) -> i32 {
    emit_from(Tier::TRACEPOINT, kind, body_bytes, fill)
}

/// As [`emit`], for whom it matters whether the record went out.
#[inline(always)]
pub fn is_emitted(kind: Kind, body_bytes: usize, fill: impl FnOnce(Draft) -> Result<(), LossReason>) -> bool {
    count(kind, Counter::Seen);
    let result = build(Tier::TRACEPOINT, kind, Address::current_task(), body_bytes, fill);
    exit_code(kind, result);
    result.is_ok()
}

/// As [`emit`], from a hook of another tier.
#[inline(always)]
pub fn emit_from(
    tier: Tier,
    kind: Kind,
    body_bytes: usize,
    fill: impl FnOnce(Draft) -> Result<(), LossReason>,
) -> i32 {
    count(kind, Counter::Seen);
    exit_code(kind, build(tier, kind, Address::current_task(), body_bytes, fill))
}

/// As [`emit`], about another task.
#[inline(always)]
pub fn emit_about(
    task: Address,
    kind: Kind,
    body_bytes: usize,
    fill: impl FnOnce(Draft) -> Result<(), LossReason>,
) -> i32 {
    count(kind, Counter::Seen);
    exit_code(kind, build(Tier::TRACEPOINT, kind, task, body_bytes, fill))
}

/// Accounts for a record that could not be begun.
#[inline(always)]
pub fn lose(kind: Kind, reason: LossReason) -> i32 {
    count(kind, Counter::Seen);
    exit_code(kind, Err(reason))
}

/// Accounts for a repeat of what was reported, which is no record of its own.
#[inline(always)]
pub fn leave_out(kind: Kind) {
    count(kind, Counter::Seen);
    count(kind, Counter::Cached);
}

/// Whether the current task is the agent, whose own file and network activity is not reported: the one place
/// where that is decided.
#[inline(always)]
pub fn is_agent() -> bool {
    (bpf_get_current_pid_tgid() >> 32) as u32 == SELF_TGID.load()
}

/// As [`is_agent`], for programs that may not call its helper on every kernel.
#[inline(always)]
pub fn is_agent_task(task: Address) -> bool {
    task.field::<u32>(&TASK_TGID) == Ok(SELF_TGID.load())
}

#[inline(always)]
fn build(
    tier: Tier,
    kind: Kind,
    task: Address,
    body_bytes: usize,
    fill: impl FnOnce(Draft) -> Result<(), LossReason>,
) -> Result<(), LossReason> {
    let claim = maps::claim()?;
    let draft = Draft::new(&claim, body_bytes);
    let built = header::describe(draft, tier, kind, task).and_then(|()| fill(draft));
    let submitted = built.and_then(|()| {
        if draft.len() >= sensor_event::RECORD_BYTES_MAX as u64 {
            return Err(LossReason::Oversize);
        }
        maps::submit(kind, claim.memory, draft.bounded_len())
    });
    maps::release(&claim);
    submitted
}

/// Accounts for a record and turns the result into the program's exit code, which the kernel ignores.
///
/// Tells `bpf_log` what was lost. The agent turns that on; while it is off, the verifier drops the code.
#[inline(always)]
fn exit_code(kind: Kind, result: Result<(), LossReason>) -> i32 {
    match result {
        Ok(()) => count(kind, Counter::Submitted),
        Err(reason) => {
            count(kind, Counter::Lost(reason));
            log_loss(kind, reason);
        }
    }
    0
}

#[inline(never)]
fn log_loss(kind: Kind, reason: LossReason) -> i32 {
    // The macro wants a context for its type only.
    let context = RawTracePointContext::new(core::ptr::null_mut());
    debug!(&context, "lost a record of kind {}: reason {}", kind.0, reason as u32);
    0
}
