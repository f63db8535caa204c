//! Connects of sockets that send datagrams and of unix sockets, listens of unix sockets, accepts, new raw and packet
//! sockets: where the protocol is done. Not TCP's states, which a tracepoint shows as well. It may call the other modules
//! of this crate.
//!
//! Addresses are the kernel's: those of the socket, and of a connect that failed, its copy of what the caller gave.

use super::{argument, errno, pointer, pointer_errno};
use crate::draft::{BODY, Draft};
use crate::emit::{emit_from, is_agent};
use crate::globals as at;
use crate::path;
use crate::read::{Address, read};
use crate::sockets::{MAPPED, Shown, append_unix_name, fill, no_path};
use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use core::mem::offset_of;
use sensor_event::{Family, Kind, LossReason, PathFlags, SocketBody, SocketType, Tier};

/// `AF_UNSPEC`: a connect to it takes the peer away.
const UNSPEC: u16 = 0;

/// `SOCK_TYPE_MASK`: the rest of the argument are flags.
const SOCK_TYPE_MASK: u64 = 0xf;

/// `SOCK_PACKET`: the obsolete way to a packet socket.
const SOCK_PACKET: u16 = 10;

/// Where a `sockaddr_un`'s name begins, and how long it is at most.
const UNIX_NAME: u64 = 2;
const UNIX_NAME_BYTES_MAX: u32 = 108;

/// `(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags)`, of UDP, raw and ping sockets.
#[fexit(function = "inet_dgram_connect")]
pub fn lsm_connect_datagram(ctx: FExitContext) -> i32 {
    let (socket, given) =
        (pointer(&ctx, &at::INET_CONNECT_SOCKET), argument(&ctx, &at::INET_CONNECT_ADDRESS));
    let result = errno(argument(&ctx, &at::INET_CONNECT_RESULT));
    if !is_agent() && read::<u16>(given).unwrap_or(UNSPEC) != UNSPEC {
        lsm_emit_datagram(socket.0, given, result as u32);
    }
    0
}

/// Reports a connect to an `AF_INET` or `AF_INET6` peer: `struct sockaddr_in` and `sockaddr_in6` hold family, port, then
/// the address, in IPv6 behind the flow's label.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_datagram(socket: u64, given: u64, result: u32) -> u32 {
    emit_from(Tier::LSM, Kind::CONNECT, size_of::<SocketBody>(), |draft| {
        let sock = Address(socket).follow(&at::SOCKET_SK)?;
        fill(draft, sock, Shown { result: result as i32, has_remote: result == 0 })?;
        if result != 0 {
            let [family, port] = read::<[u16; 2]>(given)?;
            let mut destination = [0u32; 4];
            if Family(family) == Family::INET6 {
                destination = read(given.wrapping_add(8))?;
            } else if sock.field::<u16>(&at::SOCK_FAMILY)? == Family::INET.0 {
                destination[0] = read(given.wrapping_add(4))?;
            } else {
                // An IPv4 peer of an IPv6 socket is mapped.
                destination = [0, 0, MAPPED, read(given.wrapping_add(4))?];
            }
            draft.put(BODY + offset_of!(SocketBody, destination), destination);
            draft.put(BODY + offset_of!(SocketBody, destination_port), u16::from_be(port));
        }
        no_path(draft, PathFlags::default());
        Ok(())
    });
    0
}

/// `(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags)`.
#[fexit(function = "unix_stream_connect")]
pub fn lsm_connect_unix(ctx: FExitContext) -> i32 {
    let (socket, given) =
        (pointer(&ctx, &at::UNIX_CONNECT_SOCKET), argument(&ctx, &at::UNIX_CONNECT_ADDRESS));
    let given_len = argument(&ctx, &at::UNIX_CONNECT_ADDRESS_LEN);
    connect_unix(socket, given, given_len, errno(argument(&ctx, &at::UNIX_CONNECT_RESULT)))
}

/// As [`lsm_connect_unix`].
#[fexit(function = "unix_dgram_connect")]
pub fn lsm_connect_unix_datagram(ctx: FExitContext) -> i32 {
    let (socket, given) = (pointer(&ctx, &at::UNIX_PEER_SOCKET), argument(&ctx, &at::UNIX_PEER_ADDRESS));
    let given_len = argument(&ctx, &at::UNIX_PEER_ADDRESS_LEN);
    connect_unix(socket, given, given_len, errno(argument(&ctx, &at::UNIX_PEER_RESULT)))
}

#[inline(always)]
fn connect_unix(socket: Address, given: u64, given_len: u64, result: i32) -> i32 {
    if !is_agent() && read::<u16>(given).unwrap_or(UNSPEC) != UNSPEC {
        lsm_emit_unix(socket.0, given, given_len, result as u32);
    }
    0
}

/// Reports a connect to a unix socket: where the peer is bound, or if there is none, what the kernel looked for.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_unix(socket: u64, given: u64, given_len: u64, result: u32) -> u32 {
    emit_from(Tier::LSM, Kind::CONNECT, size_of::<SocketBody>(), |draft| {
        let sock = Address(socket).follow(&at::SOCKET_SK)?;
        fill(draft, sock, Shown { result: result as i32, has_remote: true })?;
        let peer = sock.follow(&at::UNIX_PEER)?;
        if result == 0 && !peer.is_null() {
            return append_unix_name(draft, peer);
        }
        append_given(draft, given, given_len);
        Ok(())
    });
    0
}

/// Appends the name in the kernel's copy of a `sockaddr_un`. A path in it was looked up, but what it led to is not known:
/// it is as the caller gave it.
#[inline(always)]
fn append_given(draft: Draft, given: u64, given_len: u64) {
    let start = draft.len();
    let name = given.wrapping_add(UNIX_NAME);
    let len = (given_len & 0xffff_ffff).wrapping_sub(UNIX_NAME + 1);
    let mut flags = PathFlags::CALLER;
    if read::<u8>(name) == Ok(0) && len < u64::from(UNIX_NAME_BYTES_MAX) {
        flags = PathFlags::ABSTRACT;
        if draft.append_kernel_bytes(Address(name + 1), len).is_err() {
            flags = flags.union(PathFlags::FAULT);
        }
    } else if draft.append_kernel_string(Address(name), UNIX_NAME_BYTES_MAX + 1).is_ok() {
        draft.shorten(1);
    } else {
        flags = flags.union(PathFlags::FAULT);
    }
    path::write_reference(draft, BODY + offset_of!(SocketBody, path), start, flags);
}

/// `(struct socket *sock, int backlog)`.
#[fexit(function = "unix_listen")]
pub fn lsm_listen_unix(ctx: FExitContext) -> i32 {
    let socket = pointer(&ctx, &at::UNIX_LISTEN_SOCKET);
    let result = errno(argument(&ctx, &at::UNIX_LISTEN_RESULT));
    if let Ok(sock) = socket.follow(&at::SOCKET_SK)
        && !is_agent()
    {
        lsm_emit_own(Kind::LISTEN.0.into(), sock.0, result as u32);
    }
    0
}

/// `(struct socket *sock, struct socket *newsock, ...)`: the new one has the listening one's name.
#[fexit(function = "unix_accept")]
pub fn lsm_accept_unix(ctx: FExitContext) -> i32 {
    let socket = pointer(&ctx, &at::UNIX_ACCEPT_NEW);
    if errno(argument(&ctx, &at::UNIX_ACCEPT_RESULT)) == 0
        && let Ok(sock) = socket.follow(&at::SOCKET_SK)
        && !is_agent()
    {
        lsm_emit_own(Kind::ACCEPT.0.into(), sock.0, 0);
    }
    0
}

/// Returns the new `struct sock`, of TCP.
#[fexit(function = "inet_csk_accept")]
pub fn lsm_accept(ctx: FExitContext) -> i32 {
    let sock = argument(&ctx, &at::INET_ACCEPT_RESULT);
    if sock != 0 && pointer_errno(sock).is_none() && !is_agent() {
        lsm_emit_own(Kind::ACCEPT.0.into(), sock, 0);
    }
    0
}

/// Reports an accepted or listening socket, with the name that it has itself if it is a unix socket.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_own(kind: u32, sock: u64, result: u32) -> u32 {
    let (kind, sock) = (Kind(kind as u16), Address(sock));
    emit_from(Tier::LSM, kind, size_of::<SocketBody>(), |draft| {
        fill(draft, sock, Shown { result: result as i32, has_remote: kind == Kind::ACCEPT })?;
        if sock.field::<u16>(&at::SOCK_FAMILY)? == Family::UNIX.0 {
            return append_unix_name(draft, sock);
        }
        no_path(draft, PathFlags::default());
        Ok(())
    });
    0
}

/// `(struct net *net, int family, int type, int protocol, struct socket **res, int kern)`.
#[fexit(function = "__sock_create")]
pub fn lsm_socket(ctx: FExitContext) -> i32 {
    let family = Family(argument(&ctx, &at::SOCK_CREATE_FAMILY) as u16);
    let socket_type = (argument(&ctx, &at::SOCK_CREATE_TYPE) & SOCK_TYPE_MASK) as u16;
    let is_raw = socket_type == SocketType::RAW.0 && matches!(family, Family::INET | Family::INET6);
    let is_obsolete = family == Family::INET && socket_type == SOCK_PACKET;
    let is_wanted = is_raw || is_obsolete || family == Family::PACKET;
    if !is_wanted || argument(&ctx, &at::SOCK_CREATE_KERN) as u32 != 0 || is_agent() {
        return 0;
    }
    let result = errno(argument(&ctx, &at::SOCK_CREATE_RESULT));
    let protocol = argument(&ctx, &at::SOCK_CREATE_PROTOCOL) & 0xffff;
    let numbers =
        u64::from(if is_obsolete { Family::PACKET.0 } else { family.0 }) | u64::from(socket_type) << 16;
    let mut sock = Address(0);
    if result == 0 {
        let made = read::<u64>(argument(&ctx, &at::SOCK_CREATE_MADE)).unwrap_or(0);
        sock = Address(made).follow(&at::SOCKET_SK).unwrap_or(Address(0));
    }
    lsm_emit_socket(sock.0, numbers | protocol << 32, result as u32);
    0
}

/// Reports a new socket: family, type and protocol in 16 bits each.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lsm_emit_socket(sock: u64, numbers: u64, result: u32) -> u32 {
    emit_from(Tier::LSM, Kind::SOCKET, size_of::<SocketBody>(), |draft| {
        fill_new(draft, sock, numbers, result)
    });
    0
}

#[inline(always)]
fn fill_new(draft: Draft, sock: u64, numbers: u64, result: u32) -> Result<(), LossReason> {
    let (family, mut protocol) = (Family(numbers as u16), (numbers >> 32) as u16);
    if family == Family::PACKET {
        // Alone among the families, it takes the number in network byte order.
        protocol = u16::from_be(protocol);
    }
    draft.put(BODY + offset_of!(SocketBody, socket), sock);
    draft.put(BODY + offset_of!(SocketBody, source), [0u64; 2]);
    draft.put(BODY + offset_of!(SocketBody, destination), [0u64; 2]);
    draft.put(BODY + offset_of!(SocketBody, source_port), 0u16);
    draft.put(BODY + offset_of!(SocketBody, destination_port), 0u16);
    draft.put(BODY + offset_of!(SocketBody, family), family);
    draft.put(BODY + offset_of!(SocketBody, protocol), protocol);
    draft.put(BODY + offset_of!(SocketBody, result), result);
    draft.put(BODY + offset_of!(SocketBody, socket_type), SocketType((numbers >> 16) as u16));
    draft.put(BODY + offset_of!(SocketBody, reserved), 0u16);
    no_path(draft, PathFlags::default());
    Ok(())
}
