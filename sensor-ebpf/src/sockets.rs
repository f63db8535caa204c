//! Sockets as objects: what a record says of one, and the calls that are seen at their exit: connects of datagram and
//! unix sockets, accepts, listens, raw and packet sockets. Not TCP's states. It may call the other modules of this
//! crate.
//!
//! What is reported is the kernel's socket behind the descriptor. Only a connect that failed left nothing there: its
//! destination is the caller's, and says so ([`PathFlags::CALLER`] on the path, which may be empty).

use crate::draft::{BODY, Draft};
use crate::emit::{emit, lose};
use crate::files::file_of;
use crate::globals::{
    FILE_INODE, FILE_PRIVATE_DATA, INODE_MODE, SOCK_FAMILY, SOCK_PORT_LOCAL, SOCK_PORT_REMOTE, SOCK_PROTOCOL,
    SOCK_STATE, SOCK_TYPE, SOCK_V4_LOCAL, SOCK_V4_REMOTE, SOCK_V6_LOCAL, SOCK_V6_REMOTE, SOCKET_FILE,
    SOCKET_SK, UNIX_ADDR, UNIX_ADDRESS_LEN, UNIX_ADDRESS_NAME, UNIX_PATH_DENTRY, UNIX_PATH_MNT, UNIX_PEER,
};
use crate::maps::{LISTENING, is_left_to_tracepoints};
use crate::path::{self, Place};
use crate::read::{Address, has, read_user};
use crate::syscalls::{Call, Number};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use core::mem::offset_of;
use sensor_event::{Family, Kind, LossReason, Part, PathFlags, Peer, SocketBody, SocketType, SyscallClass};

const IPPROTO_TCP: u16 = 6;

/// `IPPROTO_MPTCP`, which does not fit the protocol's byte of a packet.
const IPPROTO_MPTCP: u16 = 262;

/// `TCP_ESTABLISHED`, which every protocol's connected sockets have.
const ESTABLISHED: u8 = 1;

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// `SOCK_TYPE_MASK`: the rest of the argument are flags.
const SOCK_TYPE_MASK: u16 = 0xf;

/// `SOCK_PACKET`: the obsolete way to a packet socket.
const SOCK_PACKET: u16 = 10;

/// Where a `sockaddr_un`'s name begins, and how long it is at most.
const UNIX_NAME: u64 = 2;
const UNIX_NAME_BYTES_MAX: u32 = 108;

/// `socketcall()` numbers of `include/uapi/linux/net.h`.
const SYS_SOCKET: u32 = 1;
const SYS_CONNECT: u32 = 3;
const SYS_LISTEN: u32 = 4;
const SYS_ACCEPT: u32 = 5;
const SYS_ACCEPT4: u32 = 18;

/// `EFAULT`: the kernel could not read what the caller pointed to.
const EFAULT: i32 = 14;

/// `EINPROGRESS`: a connect goes on without its caller.
const EINPROGRESS: i32 = 115;

/// The second word of an IPv4 address mapped into IPv6.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// What of a socket a record shows.
#[derive(Clone, Copy)]
pub struct Shown {
    /// 0, a positive errno, or pending.
    pub result: i32,
    /// Whether the peer's address belongs to it.
    pub has_remote: bool,
}

/// Writes a socket's addresses and numbers. The path is not written.
///
/// # Errors
/// When the socket cannot be read.
#[inline(always)]
pub fn fill(draft: Draft, sock: Address, shown: Shown) -> Result<(), LossReason> {
    draft.put(BODY + offset_of!(SocketBody, result), shown.result);
    // A subprogram's parameter may not be a pointer, and the verifier takes a tracepoint's argument for one.
    draft.put(BODY + offset_of!(SocketBody, socket), sock.0);
    if fill_socket(draft.index(), u32::from(shown.has_remote)) == 0 { Ok(()) } else { Err(LossReason::Fault) }
}

/// [`fill`] as a subprogram, of the socket whose address the record holds. Returns 0, or 1 when the socket could not be
/// read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fill_socket(draft: u32, has_remote: u32) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    let sock = Address(draft.load_u64(BODY + offset_of!(SocketBody, socket)));
    u32::from(fill_addresses(draft, sock, has_remote != 0).is_err())
}

#[inline(always)]
fn fill_addresses(draft: Draft, sock: Address, has_remote: bool) -> Result<(), LossReason> {
    let family = Family(sock.field::<u16>(&SOCK_FAMILY)?);
    let (mut local, mut remote) = ([0u32; 4], [0u32; 4]);
    let (mut local_port, mut remote_port) = (0u16, 0u16);
    if family == Family::INET6 && has(&SOCK_V6_LOCAL) && has(&SOCK_V6_REMOTE) {
        local = sock.field(&SOCK_V6_LOCAL)?;
        remote = sock.field(&SOCK_V6_REMOTE)?;
    } else if family == Family::INET {
        local[0] = sock.field(&SOCK_V4_LOCAL)?;
        remote[0] = sock.field(&SOCK_V4_REMOTE)?;
    }
    if matches!(family, Family::INET | Family::INET6) {
        local_port = sock.field(&SOCK_PORT_LOCAL)?;
        remote_port = u16::from_be(sock.field(&SOCK_PORT_REMOTE)?);
    }
    if !has_remote {
        (remote, remote_port) = ([0; 4], 0);
    }
    draft.put(BODY + offset_of!(SocketBody, source), local);
    draft.put(BODY + offset_of!(SocketBody, destination), remote);
    draft.put(BODY + offset_of!(SocketBody, source_port), local_port);
    draft.put(BODY + offset_of!(SocketBody, destination_port), remote_port);
    draft.put(BODY + offset_of!(SocketBody, family), family);
    draft.put(BODY + offset_of!(SocketBody, protocol), sock.field::<u16>(&SOCK_PROTOCOL)?);
    draft.put(BODY + offset_of!(SocketBody, socket_type), SocketType(sock.field(&SOCK_TYPE)?));
    draft.put(BODY + offset_of!(SocketBody, reserved), 0u16);
    Ok(())
}

/// The remote end of an internet socket, as its record has it.
///
/// # Errors
/// When the socket cannot be read.
#[inline(always)]
pub fn peer(sock: Address) -> Result<Peer, LossReason> {
    let family = Family(sock.field::<u16>(&SOCK_FAMILY)?);
    let mut address = [0u32; 4];
    if family == Family::INET6 && has(&SOCK_V6_REMOTE) {
        address = sock.field(&SOCK_V6_REMOTE)?;
    } else {
        address[0] = sock.field(&SOCK_V4_REMOTE)?;
    }
    let port = u16::from_be(sock.field(&SOCK_PORT_REMOTE)?);
    Ok(Peer { family, protocol: sock.field(&SOCK_PROTOCOL)?, port, address: zerocopy::transmute!(address) })
}

/// Writes that there is no path.
#[inline(always)]
pub fn no_path(draft: Draft, flags: PathFlags) {
    path::write_reference(draft, BODY + offset_of!(SocketBody, path), draft.len(), flags);
}

/// Appends where a unix socket is bound: a file, an abstract name, or nothing.
///
/// # Errors
/// When the socket cannot be read.
#[inline(always)]
pub fn append_unix_name(draft: Draft, sock: Address) -> Result<(), LossReason> {
    if append_name_of(draft.index(), sock.0) == 0 { Ok(()) } else { Err(LossReason::Fault) }
}

/// [`append_unix_name`] as a subprogram. Returns 0, or 1 when the socket could not be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn append_name_of(draft: u32, sock: u64) -> u32 {
    let Some(draft) = Draft::at_index(draft) else { return 1 };
    u32::from(append_bound(draft, Address(sock)).is_err())
}

#[inline(always)]
fn append_bound(draft: Draft, sock: Address) -> Result<(), LossReason> {
    let reference = BODY + offset_of!(SocketBody, path);
    let dentry = sock.follow(&UNIX_PATH_DENTRY)?;
    if !dentry.is_null() {
        path::append(draft, reference, &Place { mount: sock.follow(&UNIX_PATH_MNT)?, dentry });
        return Ok(());
    }
    let address = sock.follow(&UNIX_ADDR)?;
    let start = draft.len();
    let mut flags = PathFlags::default();
    if !address.is_null() {
        // Family, a NUL, and the name: as long as the address says, NULs included.
        let len = u64::from(address.field::<u32>(&UNIX_ADDRESS_LEN)?).wrapping_sub(UNIX_NAME + 1);
        let name = address.member(&UNIX_ADDRESS_NAME).0 + UNIX_NAME + 1;
        if len < u64::from(UNIX_NAME_BYTES_MAX) {
            draft.append_kernel_bytes(Address(name), len)?;
            flags = PathFlags::ABSTRACT;
        }
    }
    path::write_reference(draft, reference, start, flags);
    Ok(())
}

/// A call of [`sensor_event::SyscallFamily::Socket`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exit_socket(class: u32, regs: u64, result: u64) -> u32 {
    let call = Call::new(class, regs, result);
    let (class, arguments) = if call.class == SyscallClass::SOCKETCALL {
        // The caller's word for which socket is meant: what is said of the socket is the kernel's.
        let number = call.argument(Number::First) as u32;
        let class = socketcall(number);
        if class == SyscallClass::LISTEN && emit_remembered_listen(call.errno()) {
            return 0;
        }
        let Ok(arguments) = read_user::<[u32; 3]>(call.argument(Number::Second)) else {
            // Gone since the kernel read them, unless it could not either.
            if call.errno() != EFAULT
                && let Some(kind) = kind_of(class)
                && is_left_to_tracepoints(Part::of(kind))
            {
                lose(kind, LossReason::Fault);
            }
            return 0;
        };
        (class, arguments.map(u64::from))
    } else {
        let at = |number| call.argument(number);
        (call.class, [at(Number::First), at(Number::Second), at(Number::Third)])
    };
    match class {
        SyscallClass::CONNECT => connect(arguments, call.errno()),
        SyscallClass::ACCEPT => accept(call.result),
        SyscallClass::LISTEN => listen(arguments, call.errno()),
        // As one of several that share a number; alone, its number is not looked at where a better hook serves.
        SyscallClass::SOCKET if is_left_to_tracepoints(Part::of(Kind::SOCKET)) => {
            socket(call.result, arguments, call.errno())
        }
        _ => 0,
    }
}

/// What a call is a record of.
#[inline(always)]
const fn kind_of(class: SyscallClass) -> Option<Kind> {
    match class {
        SyscallClass::CONNECT => Some(Kind::CONNECT),
        SyscallClass::ACCEPT => Some(Kind::ACCEPT),
        SyscallClass::LISTEN => Some(Kind::LISTEN),
        SyscallClass::SOCKET => Some(Kind::SOCKET),
        _ => None,
    }
}

#[inline(always)]
const fn socketcall(number: u32) -> SyscallClass {
    match number {
        SYS_SOCKET => SyscallClass::SOCKET,
        SYS_CONNECT => SyscallClass::CONNECT,
        SYS_LISTEN => SyscallClass::LISTEN,
        SYS_ACCEPT | SYS_ACCEPT4 => SyscallClass::ACCEPT,
        _ => SyscallClass(0),
    }
}

/// The `struct sock` behind a descriptor, if it is a socket's.
#[inline(always)]
fn sock_of(fd: u64) -> Result<Address, LossReason> {
    sock_of_file(file_of(fd as u32)?)
}

#[inline(always)]
fn sock_of_file(file: Address) -> Result<Address, LossReason> {
    let mode: u16 = file.follow(&FILE_INODE)?.field(&INODE_MODE)?;
    let socket = file.follow(&FILE_PRIVATE_DATA)?;
    if mode & S_IFMT != S_IFSOCK || socket.is_null() || socket.follow(&SOCKET_FILE)? != file {
        return Err(LossReason::Fault);
    }
    let sock = socket.follow(&SOCKET_SK)?;
    if sock.is_null() { Err(LossReason::Fault) } else { Ok(sock) }
}

#[inline(always)]
fn connect(arguments: [u64; 3], errno: i32) -> u32 {
    let [fd, address, address_len] = arguments;
    match sock_of(fd) {
        Ok(sock) => connect_sock(sock, address, address_len, errno),
        Err(reason) => {
            // No socket: the call failed, and there is nothing to tell of; or another thread has closed the descriptor
            // meanwhile.
            if errno == 0 || errno == EINPROGRESS {
                lose(Kind::CONNECT, reason);
            }
            0
        }
    }
}

#[inline(always)]
fn connect_sock(sock: Address, address: u64, address_len: u64, errno: i32) -> u32 {
    let family = Family(sock.field::<u16>(&SOCK_FAMILY).unwrap_or_default());
    let protocol = sock.field::<u16>(&SOCK_PROTOCOL).unwrap_or_default();
    match family {
        Family::UNIX if is_left_to_tracepoints(Part::CONNECT_UNIX) => {
            connect_unix(sock.0, address, address_len, errno as u32)
        }
        Family::INET | Family::INET6
            if !matches!(protocol, IPPROTO_TCP | IPPROTO_MPTCP)
                && is_left_to_tracepoints(Part::CONNECT_UDP) =>
        {
            connect_datagram(sock.0, address, errno as u32)
        }
        _ => 0,
    }
}

/// A connect of a socket that sends datagrams, raw packets or the like: the kernel only notes the peer.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connect_datagram(sock: u64, address: u64, errno: u32) -> u32 {
    let sock = Address(sock);
    if errno == 0 {
        // `AF_UNSPEC` takes the peer away.
        if sock.field::<u8>(&SOCK_STATE) != Ok(ESTABLISHED) {
            return 0;
        }
        emit(Kind::CONNECT, size_of::<SocketBody>(), |draft| {
            fill(draft, sock, Shown { result: 0, has_remote: true })?;
            no_path(draft, PathFlags::default());
            Ok(())
        });
        return 0;
    }
    // `struct sockaddr_in` and `sockaddr_in6`: family, port, then the address, in IPv6 behind the flow's label.
    let Ok(given) = read_user::<[u16; 2]>(address) else { return 0 };
    let is_ipv6 = sock.field::<u16>(&SOCK_FAMILY) == Ok(Family::INET6.0);
    let destination = match Family(given[0]) {
        Family::INET6 => read_user(address + 8).unwrap_or_default(),
        Family::INET if is_ipv6 => [0, 0, MAPPED, read_user(address + 4).unwrap_or_default()],
        Family::INET => [read_user(address + 4).unwrap_or_default(), 0, 0, 0],
        _ => return 0,
    };
    emit(Kind::CONNECT, size_of::<SocketBody>(), |draft| {
        fill(draft, sock, Shown { result: errno as i32, has_remote: false })?;
        draft.put(BODY + offset_of!(SocketBody, destination), destination);
        draft.put(BODY + offset_of!(SocketBody, destination_port), u16::from_be(given[1]));
        no_path(draft, PathFlags::CALLER);
        Ok(())
    });
    0
}

/// A connect of a unix socket: where its peer is bound.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connect_unix(sock: u64, address: u64, address_len: u64, errno: u32) -> u32 {
    let sock = Address(sock);
    if errno == 0 {
        let peer = sock.follow(&UNIX_PEER).unwrap_or(Address(0));
        // `AF_UNSPEC` takes the peer away; one that is gone again has nothing to tell.
        if peer.is_null() {
            return 0;
        }
        emit(Kind::CONNECT, size_of::<SocketBody>(), |draft| {
            fill(draft, sock, Shown { result: 0, has_remote: true })?;
            append_unix_name(draft, peer)
        });
        return 0;
    }
    emit(Kind::CONNECT, size_of::<SocketBody>(), |draft| {
        fill(draft, sock, Shown { result: errno as i32, has_remote: true })?;
        append_given_unix_name(draft, address, address_len);
        Ok(())
    });
    0
}

/// Appends the name of a `sockaddr_un` in the caller's memory.
#[inline(always)]
fn append_given_unix_name(draft: Draft, address: u64, address_len: u64) {
    let start = draft.len();
    let mut flags = PathFlags::CALLER;
    let name = address + UNIX_NAME;
    let len = (address_len & 0xffff_ffff).wrapping_sub(UNIX_NAME + 1);
    if read_user::<u8>(name) == Ok(0) && len < u64::from(UNIX_NAME_BYTES_MAX) {
        flags = flags.union(PathFlags::ABSTRACT);
        if draft.append_user_bytes(name + 1, len).is_err() {
            flags = flags.union(PathFlags::FAULT);
        }
    } else if draft.append_user_string(name, UNIX_NAME_BYTES_MAX + 1).is_ok() {
        draft.shorten(1);
    } else {
        flags = flags.union(PathFlags::FAULT);
    }
    path::write_reference(draft, BODY + offset_of!(SocketBody, path), start, flags);
}

#[inline(always)]
fn is_unix(sock: Address) -> bool {
    sock.field::<u16>(&SOCK_FAMILY) == Ok(Family::UNIX.0)
}

/// `accept()` and `accept4()`: the new socket is the result. One that failed made none.
#[inline(always)]
fn accept(result: i64) -> u32 {
    if result < 0 {
        return 0;
    }
    let Ok(sock) = sock_of(result as u64) else {
        lose(Kind::ACCEPT, LossReason::Fault);
        return 0;
    };
    let part = if is_unix(sock) { Part::ACCEPT_UNIX } else { Part::of(Kind::ACCEPT) };
    if is_left_to_tracepoints(part) {
        emit_own(Kind::ACCEPT.0.into(), sock.0, 0);
    }
    0
}

/// `listen()`. TCP's is remembered when the socket's state changes, and gets port and result here.
#[inline(always)]
fn listen(arguments: [u64; 3], errno: i32) -> u32 {
    let sock = sock_of(arguments[0]);
    if sock.is_ok_and(is_unix) {
        lose_remembered_listen();
    } else if emit_remembered_listen(errno) {
        return 0;
    }
    match sock {
        Ok(sock) => listen_unix(sock, errno),
        Err(reason) => {
            // As for a connect.
            if errno == 0 && is_left_to_tracepoints(Part::LISTEN_UNIX) {
                lose(Kind::LISTEN, reason);
            }
            0
        }
    }
}

#[inline(always)]
fn listen_unix(sock: Address, errno: i32) -> u32 {
    if is_unix(sock) && is_left_to_tracepoints(Part::LISTEN_UNIX) {
        emit_own(Kind::LISTEN.0.into(), sock.0, errno as u32);
    }
    0
}

/// Reports an accept that a ring did.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn accept_by_ring(fd: u32) -> u32 {
    accept(i64::from(fd))
}

/// Reports a connect or listen that a ring did.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connect_or_listen_by_ring(file: u64, is_connect: u32) -> u32 {
    let sock = sock_of_file(Address(file));
    if is_connect != 0 {
        return sock.map_or(0, |sock| connect_sock(sock, 0, 0, 0));
    }
    if emit_remembered_listen(0) { 0 } else { sock.map_or(0, |sock| listen_unix(sock, 0)) }
}

/// Reports a socket that a ring made, if it is of interest.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn socket_by_ring(fd: u32, protocol: u32) -> u32 {
    socket(i64::from(fd), [0, 0, u64::from(protocol)], 0)
}

/// Accounts for a socket that this thread made listen and whose call was never seen to return, if there is one: a ring
/// that posts no completion.
#[inline(always)]
pub fn lose_remembered_listen() {
    if LISTENING.remove(bpf_get_current_pid_tgid() as u32).is_ok() {
        lose(Kind::LISTEN, LossReason::Fault);
    }
}

/// Reports the TCP socket that this thread made listen, if there is one.
#[inline(always)]
fn emit_remembered_listen(errno: i32) -> bool {
    let thread = bpf_get_current_pid_tgid() as u32;
    // SAFETY: the value is copied at once; nobody else writes this thread's.
    let Some(sock) = (unsafe { LISTENING.get(thread).copied() }) else { return false };
    // It is there: only this thread takes it away.
    LISTENING.remove(thread).unwrap_or_default();
    emit_own(Kind::LISTEN.0.into(), sock, errno as u32);
    true
}

/// Reports an accepted or listening socket, with the name that it has itself if it is a unix socket.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_own(kind: u32, sock: u64, errno: u32) -> u32 {
    let (kind, sock) = (Kind(kind as u16), Address(sock));
    emit(kind, size_of::<SocketBody>(), |draft| {
        fill(draft, sock, Shown { result: errno as i32, has_remote: kind == Kind::ACCEPT })?;
        if sock.field::<u16>(&SOCK_FAMILY)? == Family::UNIX.0 {
            return append_unix_name(draft, sock);
        }
        no_path(draft, PathFlags::default());
        Ok(())
    });
    0
}

/// `socket()`: only raw and packet sockets are of interest.
#[inline(always)]
fn socket(result: i64, arguments: [u64; 3], errno: i32) -> u32 {
    let [mut family, mut socket_type, protocol] = arguments.map(|argument| argument as u16);
    socket_type &= SOCK_TYPE_MASK;
    let sock = if result >= 0 {
        let Ok(sock) = sock_of(result as u64) else {
            lose(Kind::SOCKET, LossReason::Fault);
            return 0;
        };
        family = sock.field(&SOCK_FAMILY).unwrap_or_default();
        socket_type = sock.field(&SOCK_TYPE).unwrap_or_default();
        sock
    } else {
        Address(0)
    };
    let is_raw = socket_type == SocketType::RAW.0 && matches!(Family(family), Family::INET | Family::INET6);
    if is_raw || Family(family) == Family::PACKET || (family == Family::INET.0 && socket_type == SOCK_PACKET)
    {
        let numbers = u64::from(family) | u64::from(socket_type) << 16 | u64::from(protocol) << 32;
        emit_socket(sock.0, numbers, errno as u32);
    }
    0
}

/// Reports a new socket: family, type and protocol in 16 bits each.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_socket(sock: u64, numbers: u64, errno: u32) -> u32 {
    let family = Family(numbers as u16);
    let mut protocol = (numbers >> 32) as u16;
    if family == Family::PACKET {
        // Alone among the families, it takes the number in network byte order.
        protocol = u16::from_be(protocol);
    }
    emit(Kind::SOCKET, size_of::<SocketBody>(), |draft| {
        draft.put(BODY + offset_of!(SocketBody, socket), sock);
        draft.put(BODY + offset_of!(SocketBody, source), [0u64; 2]);
        draft.put(BODY + offset_of!(SocketBody, destination), [0u64; 2]);
        draft.put(BODY + offset_of!(SocketBody, source_port), 0u16);
        draft.put(BODY + offset_of!(SocketBody, destination_port), 0u16);
        draft.put(BODY + offset_of!(SocketBody, family), family);
        draft.put(BODY + offset_of!(SocketBody, protocol), protocol);
        draft.put(BODY + offset_of!(SocketBody, result), errno as i32);
        draft.put(BODY + offset_of!(SocketBody, socket_type), SocketType((numbers >> 16) as u16));
        draft.put(BODY + offset_of!(SocketBody, reserved), 0u16);
        no_path(draft, PathFlags::default());
        Ok(())
    });
    0
}
