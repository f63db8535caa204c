//! TCP connect, its result, and listen, from the socket's state changes. Not UDP, not accept. It may call the
//! other modules of this crate.

use crate::draft::{BODY, Draft};
use crate::emit::{emit, is_agent, lose};
use crate::globals::{
    SOCK_ERR, SOCK_FAMILY, SOCK_PORT_LOCAL, SOCK_PORT_REMOTE, SOCK_PROTOCOL, SOCK_V4_LOCAL, SOCK_V4_REMOTE,
    SOCK_V6_LOCAL, SOCK_V6_REMOTE,
};
use crate::maps::CONNECTING;
use crate::read::{Address, has};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::offset_of;
use sensor_event::{CONNECT_PENDING, Family, Kind, LossReason, SocketBody, SocketType};

/// `include/net/tcp_states.h`.
const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_SYN_RECV: i32 = 3;
const TCP_CLOSE: i32 = 7;
const TCP_LISTEN: i32 = 10;

const IPPROTO_TCP: u16 = 6;
const ECONNABORTED: i32 = 103;
const ENOENT: i32 = -2;

/// `(void *, const struct sock *sk, const int oldstate, const int newstate)`.
///
/// A connect enters `SYN_SENT` in its caller's context, with address and port set (`tcp_v4_connect()` and
/// `tcp_v6_connect()`, 5.10 to 6.18); it leaves the state in whatever context the answer arrives.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sock = Address(ctx.arg::<u64>(0));
    let (old, new) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    if old != TCP_SYN_SENT && new != TCP_SYN_SENT && new != TCP_LISTEN {
        return 0;
    }
    // A multipath socket changes state along with its TCP subflow, which is the one that is reported.
    if sock.field::<u16>(&SOCK_PROTOCOL) != Ok(IPPROTO_TCP) {
        return 0;
    }
    match (old, new) {
        (TCP_CLOSE, TCP_SYN_SENT) => connect(sock),
        // Both sides may connect at once, a socket even to itself: then the peer has answered in `SYN_RECV`.
        (TCP_SYN_SENT, TCP_ESTABLISHED | TCP_SYN_RECV | TCP_CLOSE) => connect_result(sock, new),
        (_, TCP_LISTEN) if !is_agent() => {
            emit(Kind::LISTEN, size_of::<SocketBody>(), |draft| fill(draft, sock, 0, false))
        }
        _ => 0,
    }
}

#[inline(always)]
fn connect(sock: Address) -> i32 {
    if is_agent() {
        return 0;
    }
    emit(Kind::CONNECT, size_of::<SocketBody>(), |draft| fill(draft, sock, CONNECT_PENDING, true));
    if CONNECTING.insert(sock.0, 0, 0).is_err() {
        return lose(Kind::CONNECT_RESULT, LossReason::MapFull);
    }
    0
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
    let family = Family(sock.field::<u16>(&SOCK_FAMILY)?);
    let (mut local, mut remote) = ([0u32; 4], [0u32; 4]);
    if family == Family::INET6 && has(&SOCK_V6_LOCAL) && has(&SOCK_V6_REMOTE) {
        local = sock.field(&SOCK_V6_LOCAL)?;
        remote = sock.field(&SOCK_V6_REMOTE)?;
    } else {
        local[0] = sock.field(&SOCK_V4_LOCAL)?;
        remote[0] = sock.field(&SOCK_V4_REMOTE)?;
    }
    let mut remote_port = u16::from_be(sock.field(&SOCK_PORT_REMOTE)?);
    if !has_remote {
        (remote, remote_port) = ([0; 4], 0);
    }
    draft.put(BODY + offset_of!(SocketBody, socket), sock.0);
    draft.put(BODY + offset_of!(SocketBody, source), local);
    draft.put(BODY + offset_of!(SocketBody, destination), remote);
    draft.put(BODY + offset_of!(SocketBody, source_port), sock.field::<u16>(&SOCK_PORT_LOCAL)?);
    draft.put(BODY + offset_of!(SocketBody, destination_port), remote_port);
    draft.put(BODY + offset_of!(SocketBody, family), family);
    draft.put(BODY + offset_of!(SocketBody, protocol), IPPROTO_TCP);
    draft.put(BODY + offset_of!(SocketBody, result), result);
    draft.put(BODY + offset_of!(SocketBody, socket_type), SocketType::STREAM);
    draft.put(BODY + offset_of!(SocketBody, reserved), 0u16);
    draft.put(BODY + offset_of!(SocketBody, path), 0u64);
    Ok(())
}
