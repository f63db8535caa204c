//! The body of network records. It may call zerocopy only.

use crate::path::PathRef;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An address family (`AF_*` of `include/linux/socket.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Family(pub u16);

impl Family {
    /// A path, or an abstract name: the addresses are zero and [`SocketBody::path`] counts.
    pub const UNIX: Self = Self(1);
    /// IPv4: the first four bytes of an address count.
    pub const INET: Self = Self(2);
    /// IPv6.
    pub const INET6: Self = Self(10);
    /// Link layer: no address.
    pub const PACKET: Self = Self(17);
}

/// A type of socket (`include/linux/net.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SocketType(pub u16);

impl SocketType {
    /// A stream: TCP, or a unix stream.
    pub const STREAM: Self = Self(1);
    /// Datagrams.
    pub const DGRAM: Self = Self(2);
    /// The protocol's own packets.
    pub const RAW: Self = Self(3);
    /// Packets in sequence.
    pub const SEQPACKET: Self = Self(5);
}

/// An address in network byte order; IPv4 in the first four bytes. IPv4 through an IPv6 socket is of
/// [`Family::INET6`], mapped (`::ffff:a.b.c.d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Address(pub [u8; 16]);

/// `result` of a [`crate::Kind::CONNECT`] record: not known yet.
pub const CONNECT_PENDING: i32 = i32::MAX;

/// [`crate::Kind::CONNECT`], [`crate::Kind::CONNECT_RESULT`], [`crate::Kind::LISTEN`], [`crate::Kind::ACCEPT`],
/// [`crate::Kind::SEND`] and [`crate::Kind::SOCKET`]. Tail: path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketBody {
    /// Opaque identity of the socket while it lives: joins a connect with its result.
    pub socket: u64,
    /// Local address; may be unspecified at connect.
    pub source: Address,
    /// Remote address; zero for listen.
    pub destination: Address,
    /// Local port in host byte order; 0 when the kernel has not chosen one yet.
    pub source_port: u16,
    /// Remote port in host byte order; 0 for listen.
    pub destination_port: u16,
    /// Address family.
    pub family: Family,
    /// Protocol number of the family (6 TCP, 17 UDP; an `ETH_P_*` for [`Family::PACKET`], in host byte order).
    pub protocol: u16,
    /// 0 for success, a positive errno (`ECONNABORTED` for a connect that was given up without one), or
    /// [`CONNECT_PENDING`].
    pub result: i32,
    /// Type.
    pub socket_type: SocketType,
    /// Always zero.
    pub reserved: u16,
    /// Of a unix socket: the file that the peer (listen: the socket itself) is bound to. An abstract name carries
    /// [`crate::PathFlags::ABSTRACT`]; empty for other families and for sockets without a name.
    pub path: PathRef,
}

const _: () = assert!(size_of::<SocketBody>() == 64, "socket body has no hidden padding");
