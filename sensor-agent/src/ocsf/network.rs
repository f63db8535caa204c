//! Network events as OCSF 4001 Network Activity. Not the objects all classes share. It may call `event` types.

use super::model::{Activity, Status};
use super::objects::{ConnectionInfo, Endpoint};
use super::{Class, errno_status};
use crate::event::{ConnectResult, Socket};
use sensor_event::{Family, SocketType};
use std::net::IpAddr;

/// Who began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Inbound,
    Outbound,
    Unknown,
}

pub(super) fn connect<'a>(socket: &'a Socket, activity: &mut Activity<'a>) {
    let (id, name) = match socket.result {
        ConnectResult::Pending | ConnectResult::Established => (1, "Open"),
        ConnectResult::Failed(ECONNREFUSED) => (5, "Refuse"),
        ConnectResult::Failed(_) => (4, "Fail"),
    };
    activity.classify(Class::Network, id, name);
    activity.status(status(socket.result));
    peers(socket, Direction::Outbound, activity);
}

/// The peer began it, so it is the source.
pub(super) fn accept<'a>(socket: &'a Socket, activity: &mut Activity<'a>) {
    activity.classify(Class::Network, 1, "Open");
    activity.status(status(socket.result));
    peers(socket, Direction::Inbound, activity);
}

pub(super) fn send<'a>(socket: &'a Socket, activity: &mut Activity<'a>) {
    activity.classify(Class::Network, 6, "Traffic");
    activity.status(status(socket.result));
    peers(socket, Direction::Outbound, activity);
}

pub(super) fn listen<'a>(socket: &'a Socket, activity: &mut Activity<'a>) {
    activity.classify(Class::Network, 7, "Listen");
    activity.status(status(socket.result));
    activity.src_endpoint = match socket.family {
        Family::UNIX => of_path(socket),
        _ => Some(of_address(socket.source, socket.source_port)),
    };
    describe(socket, Direction::Inbound, activity);
}

/// A socket without a peer: there is no activity for it.
pub(super) fn socket<'a>(socket: &'a Socket, hostname: &'a str, activity: &mut Activity<'a>) {
    activity.classify(Class::Network, OTHER, "Socket");
    activity.status(status(socket.result));
    activity.src_endpoint = Some(Endpoint { hostname: Some(hostname), ..Endpoint::default() });
    describe(socket, Direction::Unknown, activity);
    activity.unmapped.details.socket_protocol = Some(socket.protocol);
}

fn status(result: ConnectResult) -> Option<Status> {
    match result {
        ConnectResult::Pending => None,
        ConnectResult::Established => Some(Status::success()),
        ConnectResult::Failed(errno) => errno_status(errno),
    }
}

fn peers<'a>(socket: &'a Socket, direction: Direction, activity: &mut Activity<'a>) {
    let is_inbound = direction == Direction::Inbound;
    if socket.family == Family::UNIX {
        // One end has a name at most: of a connect the peer's, of an accept the socket's own. It is the server's.
        activity.dst_endpoint = of_path(socket);
    } else {
        let near = of_address(socket.source, socket.source_port);
        let far = of_address(socket.destination, socket.destination_port);
        let (source, destination) = if is_inbound { (far, near) } else { (near, far) };
        (activity.src_endpoint, activity.dst_endpoint) = (Some(source), Some(destination));
    }
    describe(socket, direction, activity);
}

fn of_path(socket: &Socket) -> Option<Endpoint<'_>> {
    let name = if socket.path.text.is_empty() { UNNAMED } else { &socket.path.text };
    Some(Endpoint { name: Some(name), ..Endpoint::default() })
}

fn of_address(address: IpAddr, port: u16) -> Endpoint<'static> {
    Endpoint { ip: Some(address.to_string()), port: Some(port), ..Endpoint::default() }
}

fn describe<'a>(socket: &'a Socket, direction: Direction, activity: &mut Activity<'a>) {
    let is_internet = matches!(socket.family, Family::INET | Family::INET6);
    // Of a listener, the far end is unspecified, and of its family.
    let address = if socket.destination.is_unspecified() { socket.source } else { socket.destination };
    let (direction_id, direction) = match direction {
        Direction::Inbound => (1, "Inbound"),
        Direction::Outbound => (2, "Outbound"),
        Direction::Unknown => (0, "Unknown"),
    };
    activity.connection_info = Some(ConnectionInfo {
        protocol_num: if is_internet { i32::from(socket.protocol) } else { -1 },
        protocol_name: protocol_name(socket),
        protocol_ver_id: match address {
            _ if !is_internet => 0,
            IpAddr::V4(_) => 4,
            IpAddr::V6(_) => 6,
        },
        direction_id,
        direction,
    });
    activity.unmapped.path_flags = socket.path.flag_names().collect();
    let details = &mut activity.unmapped.details;
    details.socket_family = family_name(socket.family).filter(|_| !is_internet);
    details.socket_type = type_name(socket.socket_type).filter(|name| *name != "stream" || !is_internet);
}

const fn protocol_name(socket: &Socket) -> Option<&'static str> {
    match (socket.family, socket.protocol) {
        (Family::INET | Family::INET6, protocol) => match protocol {
            1 => Some("icmp"),
            6 => Some("tcp"),
            17 => Some("udp"),
            58 => Some("ipv6-icmp"),
            _ => None,
        },
        (family, _) => family_name(family),
    }
}

/// The name of an address family.
pub(crate) const fn family_name(family: Family) -> Option<&'static str> {
    match family {
        Family::UNIX => Some("unix"),
        Family::INET => Some("inet"),
        Family::INET6 => Some("inet6"),
        Family::PACKET => Some("packet"),
        _ => None,
    }
}

/// The name of a socket's type.
pub(crate) const fn type_name(socket_type: SocketType) -> Option<&'static str> {
    match socket_type {
        SocketType::STREAM => Some("stream"),
        SocketType::DGRAM => Some("dgram"),
        SocketType::RAW => Some("raw"),
        SocketType::SEQPACKET => Some("seqpacket"),
        _ => None,
    }
}

/// A unix socket that is bound to no name.
const UNNAMED: &str = "(unnamed)";
const ECONNREFUSED: i32 = 111;
/// An activity that the class has no number for.
const OTHER: u32 = 99;
