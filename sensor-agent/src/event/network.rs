//! Network facts. Not their joining. It may call the event crate.

use super::KernelPath;
use sensor_event::{Family, SocketType};
use std::net::IpAddr;

/// How a connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectResult {
    /// Not known yet.
    Pending,
    /// Connected.
    Established,
    /// Failed with this errno.
    Failed(i32),
}

/// A socket operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Opaque identity of the socket while it lives.
    pub socket: u64,
    /// Local address; an IPv4 address mapped into IPv6 is shown as IPv4.
    pub source: IpAddr,
    /// Local port, 0 when not chosen yet.
    pub source_port: u16,
    /// Remote address; unspecified for listen.
    pub destination: IpAddr,
    /// Remote port; 0 for listen.
    pub destination_port: u16,
    /// Address family.
    pub family: Family,
    /// Type.
    pub socket_type: SocketType,
    /// Protocol number of the family.
    pub protocol: u16,
    /// How it ended.
    pub result: ConnectResult,
    /// Of a unix socket: the file that the peer (listen: the socket itself) is bound to, an abstract name as `@name`, or
    /// nothing. Empty for other families.
    pub path: KernelPath,
}
