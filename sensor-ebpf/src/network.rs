//! TCP connect, its result, and listen, from the socket's state changes. Not other sockets: [`crate::sockets`]. It may
//! call the other modules of this crate.

use crate::draft::Draft;
use crate::emit::{emit, is_agent, leave_out, lose};
use crate::globals::{SOCK_ERR, SOCK_PROTOCOL, TASK_FLAGS};
use crate::maps::{CONNECTING, LISTENING, add, is_left_to_tracepoints};
use crate::read::Address;
use crate::sockets::{self, Shown};
use crate::verdicts;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::BtfTracePointContext;
use sensor_event::{CONNECT_PENDING, Kind, LossReason, Part, PathFlags, SocketBody};

/// `include/net/tcp_states.h`.
const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_CLOSE: i32 = 7;
const TCP_LISTEN: i32 = 10;

const IPPROTO_TCP: u16 = 6;
/// `include/linux/sched.h`, unchanged since 5.10.
const PF_IO_WORKER: u32 = 0x10;
const PF_KTHREAD: u32 = 0x20_0000;

const ECONNABORTED: i32 = 103;
const ENOENT: i32 = -2;

/// By CPU: not 0 while [`sock_set_state`] runs there.
#[map]
static STATE_RUNNING: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// By CPU: runs of [`sock_set_state`] that its twin stood in for. The agent takes them off what the kernel says it skipped.
#[map]
static STATE_NESTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// [`state_changed`], unless this CPU is at it already: an answer that arrives while a task's change of state is looked at
/// comes from a soft interrupt. The kernel then skips the program (since 6.1, `__bpf_trace_run()`), but not its twin.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let Some(running) = STATE_RUNNING.get_ptr_mut(0) else { return 0 };
    // SAFETY: the address of an aligned map value of this CPU. Volatile, because the twin reads it in between.
    unsafe {
        if running.read_volatile() != 0 {
            return 0;
        }
        running.write_volatile(1);
        let result = state_changed(&ctx);
        running.write_volatile(0);
        result
    }
}

/// The twin of [`sock_set_state`], for what happens while that runs.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn sock_set_state_nested(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: as in `sock_set_state`.
    if STATE_RUNNING.get_ptr(0).is_none_or(|running| unsafe { running.read_volatile() } == 0) {
        return 0;
    }
    if let Some(nested) = STATE_NESTED.get_ptr_mut(0) {
        add(nested, 1);
    }
    state_changed(&ctx)
}

/// `(void *, const struct sock *sk, const int oldstate, const int newstate)`.
///
/// A connect enters `SYN_SENT` in its caller's context, with address and port set (`tcp_v4_connect()` and
/// `tcp_v6_connect()`, 5.10 to 6.18); it leaves the state in whatever context the answer arrives.
#[inline(always)]
fn state_changed(ctx: &BtfTracePointContext) -> i32 {
    let sock = Address(ctx.arg::<u64>(0));
    let (old, new) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if old != TCP_SYN_SENT && !matches!(new, TCP_SYN_SENT | TCP_LISTEN | TCP_CLOSE) {
        return 0;
    }
    // A multipath socket changes state along with its TCP subflow, which is the one that is reported.
    if sock.field::<u16>(&SOCK_PROTOCOL) != Ok(IPPROTO_TCP) {
        return 0;
    }
    match (old, new) {
        (TCP_CLOSE, TCP_SYN_SENT) if is_left_to_tracepoints(Part::of(Kind::CONNECT)) => connect(sock),
        // Both sides may connect at once, a socket even to itself: then the peer has answered in `SYN_RECV`.
        (TCP_SYN_SENT, TCP_ESTABLISHED | TCP_SYN_RECV | TCP_CLOSE) => connect_result(sock, new),
        (_, TCP_CLOSE) => lose_connect_result(sock),
        (_, TCP_LISTEN) if is_left_to_tracepoints(Part::of(Kind::LISTEN)) && !is_agent() => listen(sock),
        _ => 0,
    }
}

/// The kernel chooses the port of a socket without one only after this, and may refuse (`inet_csk_listen_start()`, 5.10
/// to 6.18): the exit of the call tells. A thread of the kernel makes no calls.
#[inline(always)]
fn listen(sock: Address) -> i32 {
    let flags: u32 = Address::current_task().field(&TASK_FLAGS).unwrap_or_default();
    if flags & (PF_KTHREAD | PF_IO_WORKER) != 0 {
        return emit(Kind::LISTEN, size_of::<SocketBody>(), |draft| fill(draft, sock, 0, false));
    }
    sockets::lose_remembered_listen();
    if LISTENING.insert(bpf_get_current_pid_tgid() as u32, sock.0, 0).is_err() {
        return lose(Kind::LISTEN, LossReason::MapFull);
    }
    0
}

#[inline(always)]
fn connect(sock: Address) -> i32 {
    if is_agent() {
        return 0;
    }
    if verdicts::are_on() && sockets::peer(sock).is_ok_and(|peer| verdicts::is_known_peer(&peer)) {
        // Nobody waits for its result.
        leave_out(Kind::CONNECT);
        return 0;
    }
    emit(Kind::CONNECT, size_of::<SocketBody>(), |draft| fill(draft, sock, CONNECT_PENDING, true));
    if CONNECTING.insert(sock.0, 0, 0).is_err() {
        return lose(Kind::CONNECT_RESULT, LossReason::MapFull);
    }
    0
}

/// Accounts for the result of a connect that this program was not run for, if there is one: the socket ends, and its
/// connect has none.
#[inline(always)]
fn lose_connect_result(sock: Address) -> i32 {
    if CONNECTING.remove(sock.0).is_ok() { lose(Kind::CONNECT_RESULT, LossReason::Missed) } else { 0 }
}

#[inline(always)]
fn connect_result(sock: Address, new: i32) -> i32 {
    match CONNECTING.remove(sock.0) {
        Ok(()) => {}
        // The agent's own, or begun before the agent was.
        Err(ENOENT) => return 0,
        Err(_) => return lose(Kind::CONNECT_RESULT, LossReason::MapFull),
    }
    emit(Kind::CONNECT_RESULT, size_of::<SocketBody>(), |draft| {
        let result = if new == TCP_CLOSE { failure(sock)? } else { 0 };
        fill(draft, sock, result, true)
    })
}

/// `sk_err` is set before the state changes when the other side or a timer ended the connect, and is not when
/// the caller closed the socket first.
#[inline(always)]
fn failure(sock: Address) -> Result<i32, LossReason> {
    let error: i32 = sock.field(&SOCK_ERR)?;
    Ok(if error > 0 { error } else { ECONNABORTED })
}

#[inline(always)]
fn fill(draft: Draft, sock: Address, result: i32, has_remote: bool) -> Result<(), LossReason> {
    sockets::fill(draft, sock, Shown { result, has_remote })?;
    sockets::no_path(draft, PathFlags::default());
    Ok(())
}
