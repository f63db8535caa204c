//! The first datagram from a socket to a peer, as it leaves: its wire addresses, in the sender's context, whether the
//! socket is connected or not and whatever call sent it. Not what is in it. It may call the other modules of this
//! crate.
//!
//! At the root of the cgroup v2 hierarchy the program sees every packet that a socket of the host sends, and leaves
//! after two reads unless the socket is UDP's. It never refuses one.

use crate::draft::{BODY, Draft};
use crate::emit::{is_agent_task, is_emitted, leave_out, lose};
use crate::globals::{
    SKB_HEAD, SKB_NETWORK_HEADER, SKB_PROTOCOL, SKB_SK, SKB_TRANSPORT_HEADER, SOCK_FAMILY, SOCK_PROTOCOL,
};
use crate::maps::{SENT, SentTo};
use crate::read::{Address, read};
use crate::sockets::{self, MAPPED};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use core::mem::offset_of;
use sensor_event::{Family, Kind, LossReason, PathFlags, SocketBody, SocketType};

/// What the program returns: the packet goes on.
const PASS: i32 = 1;

const IPPROTO_UDP: u16 = 17;

/// `ETH_P_IP` and `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Places in the headers: RFC 791, RFC 8200 and RFC 768.
const IPV4_SOURCE: u64 = 12;
const IPV4_DESTINATION: u64 = 16;
const IPV6_SOURCE: u64 = 8;
const IPV6_DESTINATION: u64 = 24;

/// A datagram's addresses, in network byte order.
#[derive(Clone, Copy)]
struct Datagram {
    sock: Address,
    family: Family,
    is_ipv4: bool,
    source: [u32; 4],
    destination: [u32; 4],
    ports: [u16; 2],
}

/// `(struct sk_buff *)`: to programs of this type the kernel shows another structure, but that is what the pointer is.
#[cgroup_skb]
pub fn datagram_out(ctx: SkBuffContext) -> i32 {
    let packet = Address(ctx.as_ptr() as u64);
    let Ok(sock) = packet.follow(&SKB_SK) else { return PASS };
    if sock.field::<u16>(&SOCK_PROTOCOL) != Ok(IPPROTO_UDP) || is_agent_task(Address::current_task()) {
        return PASS;
    }
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    match parse(packet, sock) {
        Ok(datagram) => send(&datagram, cookie),
        Err(reason) => {
            lose(Kind::SEND, reason);
        }
    }
    PASS
}

/// Reports a datagram unless the socket has sent to this peer before.
#[inline(always)]
fn send(datagram: &Datagram, cookie: u64) {
    let peer = SentTo {
        cookie,
        address: datagram.destination,
        port_and_version: u64::from(datagram.ports[1]) | u64::from(datagram.is_ipv4) << 16,
    };
    // SAFETY: only whether there is a value matters.
    if unsafe { SENT.get(peer) }.is_some() {
        return leave_out(Kind::SEND);
    }
    // A peer whose record was lost is reported at its next datagram.
    if is_emitted(Kind::SEND, size_of::<SocketBody>(), |draft| fill(draft, datagram)) {
        // Not remembered, it is reported once more: that is all that a full map costs.
        SENT.insert(peer, 1, 0).unwrap_or_default();
    }
}

#[inline(always)]
fn parse(packet: Address, sock: Address) -> Result<Datagram, LossReason> {
    let head = packet.follow(&SKB_HEAD)?;
    let network = head.0 + u64::from(packet.field::<u16>(&SKB_NETWORK_HEADER)?);
    let transport = head.0 + u64::from(packet.field::<u16>(&SKB_TRANSPORT_HEADER)?);
    let (mut source, mut destination) = ([0; 4], [0; 4]);
    let is_ipv4 = match u16::from_be(packet.field(&SKB_PROTOCOL)?) {
        ETH_P_IP => {
            (source[0], destination[0]) = (read(network + IPV4_SOURCE)?, read(network + IPV4_DESTINATION)?);
            true
        }
        ETH_P_IPV6 => {
            (source, destination) = (read(network + IPV6_SOURCE)?, read(network + IPV6_DESTINATION)?);
            false
        }
        _ => return Err(LossReason::Fault),
    };
    let family = Family(sock.field::<u16>(&SOCK_FAMILY)?);
    Ok(Datagram { sock, family, is_ipv4, source, destination, ports: read(transport)? })
}

#[inline(always)]
fn fill(draft: Draft, datagram: &Datagram) -> Result<(), LossReason> {
    let (mut source, mut destination) = (datagram.source, datagram.destination);
    if datagram.is_ipv4 && datagram.family == Family::INET6 {
        (source, destination) = ([0, 0, MAPPED, source[0]], [0, 0, MAPPED, destination[0]]);
    }
    let [source_port, destination_port] = datagram.ports;
    draft.put(BODY + offset_of!(SocketBody, socket), datagram.sock.0);
    draft.put(BODY + offset_of!(SocketBody, source), source);
    draft.put(BODY + offset_of!(SocketBody, destination), destination);
    draft.put(BODY + offset_of!(SocketBody, source_port), u16::from_be(source_port));
    draft.put(BODY + offset_of!(SocketBody, destination_port), u16::from_be(destination_port));
    draft.put(BODY + offset_of!(SocketBody, family), datagram.family);
    draft.put(BODY + offset_of!(SocketBody, protocol), IPPROTO_UDP);
    draft.put(BODY + offset_of!(SocketBody, result), 0i32);
    draft.put(BODY + offset_of!(SocketBody, socket_type), SocketType::DGRAM);
    draft.put(BODY + offset_of!(SocketBody, reserved), 0u16);
    sockets::no_path(draft, PathFlags::default());
    Ok(())
}
