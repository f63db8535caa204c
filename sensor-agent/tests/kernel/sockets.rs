//! Datagrams, unix sockets, accepts, raw and packet sockets, by real calls on the running kernel. Not TCP's connects and
//! listens: `network`. It may call the agent's kernel module.

use crate::raw;
use crate::support::{Capture, Folder, absolute, actor, bytes, no_cell};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockProtocol, SockType, listen, socket};
use sensor_agent::kernel::HookState;
use sensor_event::{Address, Family, Kind, PathFlags, RecordBody, Socket, SocketType};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const UDP: u16 = 17;
const TCP: u16 = 6;

/// What a test looks at in a socket record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    family: Family,
    socket_type: SocketType,
    protocol: u16,
    destination: Address,
    destination_port: u16,
    result: i32,
    path: Vec<u8>,
    path_flags: PathFlags,
}

fn address(of: IpAddr) -> Address {
    let mut bytes = [0; 16];
    match of {
        IpAddr::V4(of) => bytes[..4].copy_from_slice(&of.octets()),
        IpAddr::V6(of) => bytes = of.octets(),
    }
    Address(bytes)
}

/// Of a socket of the internet families, without a path.
fn internet(to: SocketAddr, socket_type: SocketType, protocol: u16) -> Seen {
    Seen {
        family: if to.is_ipv4() { Family::INET } else { Family::INET6 },
        socket_type,
        protocol,
        destination: address(to.ip()),
        destination_port: to.port(),
        result: 0,
        path: Vec::new(),
        path_flags: PathFlags::default(),
    }
}

fn unix(path: &[u8], path_flags: PathFlags) -> Seen {
    Seen {
        family: Family::UNIX,
        socket_type: SocketType::STREAM,
        protocol: 0,
        destination: Address([0; 16]),
        destination_port: 0,
        result: 0,
        path: path.to_vec(),
        path_flags,
    }
}

fn socket_of<'a>(body: &RecordBody<'a>) -> Option<Socket<'a>> {
    match body {
        RecordBody::Connect(socket)
        | RecordBody::Listen(socket)
        | RecordBody::Accept(socket)
        | RecordBody::Send(socket)
        | RecordBody::Socket(socket) => Some(*socket),
        _ => None,
    }
}

fn seen(capture: &Capture, pid: u32, kind: Kind) -> Vec<Seen> {
    capture.all(|header, body| {
        let socket = socket_of(body).filter(|_| header.kind == kind && header.pid == pid)?;
        let flags = socket.path.reference.flags;
        let is_walked = !flags.contains(PathFlags::ABSTRACT) && !flags.contains(PathFlags::CALLER);
        let path = if is_walked && !socket.path.bytes.is_empty() {
            absolute(socket.path)
        } else {
            socket.path.bytes.to_vec()
        };
        Some(Seen {
            family: socket.body.family,
            socket_type: socket.body.socket_type,
            protocol: socket.body.protocol,
            destination: socket.body.destination,
            destination_port: socket.body.destination_port,
            result: socket.body.result,
            path,
            path_flags: flags,
        })
    })
}

fn is_attached(capture: &Capture, kind: Kind) -> bool {
    capture.kernel.hooks().iter().any(|hook| hook.kind == kind && hook.state == HookState::Attached)
}

/// Sockets of loopback that receive datagrams, one a family that is there.
fn receivers() -> Vec<(UdpSocket, SocketAddr)> {
    [V4, V6]
        .into_iter()
        .filter_map(|on| UdpSocket::bind((on, 0)).ok())
        .map(|socket| {
            let address = socket.local_addr().expect("a bound socket has an address");
            (socket, address)
        })
        .collect()
}

fn run(capture: &mut Capture, action: &str, to: &[SocketAddr]) -> u32 {
    let folder = Folder::new();
    let lines: String = to.iter().map(|to| format!("{to}\n")).collect();
    fs::write(folder.join("addresses"), lines).expect("writable");
    capture.run(&mut actor(action, &folder.path))
}

#[test]
fn udp_connect_shows_the_peer() {
    let Some(mut capture) = Capture::start() else { return };
    let receivers = receivers();
    let addresses: Vec<SocketAddr> = receivers.iter().map(|(_, address)| *address).collect();
    let pid = run(&mut capture, "sockets/udp-connect", &addresses);
    let expected: Vec<Seen> = addresses.iter().map(|to| internet(*to, SocketType::DGRAM, UDP)).collect();
    assert_eq!(seen(&capture, pid, Kind::CONNECT), expected, "a peer that is taken away is none");
    capture.cell(Kind::CONNECT, "UDP: family, peer's address and port");
}

#[test]
fn failed_udp_connect_is_the_callers_word() {
    let Some(mut capture) = Capture::start() else { return };
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), 9);
    let pid = run(&mut capture, "sockets/udp-refused", &[to]);
    let mut found = seen(&capture, pid, Kind::CONNECT);
    assert_eq!(found.len(), 1);
    // A hook that has the kernel's copy of the address does not need the caller's.
    found[0].path_flags = PathFlags::default();
    let refused = Seen { result: Errno::EACCES as i32, ..internet(to, SocketType::DGRAM, UDP) };
    assert_eq!(found, [refused]);
}

#[test]
fn first_datagram_to_each_peer_is_shown() {
    let Some(mut capture) = Capture::start() else { return };
    if !is_attached(&capture, Kind::SEND) {
        no_cell(Kind::SEND, "no cgroup v2 hierarchy is mounted");
        return;
    }
    let receivers = receivers();
    let addresses: Vec<SocketAddr> = receivers.iter().map(|(_, address)| *address).collect();
    for action in ["sockets/send-addressed", "sockets/send-connected"] {
        let before = capture.counters().cached(Kind::SEND);
        let pid = run(&mut capture, action, &addresses);
        // Three datagrams each, by two sockets, one after the other.
        let expected: Vec<Seen> =
            addresses.iter().flat_map(|to| vec![internet(*to, SocketType::DGRAM, UDP); 2]).collect();
        assert_eq!(seen(&capture, pid, Kind::SEND), expected, "{action}");
        // Others of the host may send as well.
        let repeats = capture.counters().cached(Kind::SEND) - before;
        assert!(repeats >= 2 * expected.len() as u64, "{action}: {repeats} repeats");
    }
    capture.cell(Kind::SEND, "wire addresses and port, addressed and connected, once per socket and peer");
}

#[test]
fn accept_shows_both_sides() {
    let Some(mut capture) = Capture::start() else { return };
    let pid = run(&mut capture, "sockets/accept", &[]);
    let sides = capture.all(|header, body| match body {
        RecordBody::Accept(socket) if header.pid == pid => Some(socket.body),
        _ => None,
    });
    let connects = capture.all(|header, body| match body {
        RecordBody::ConnectResult(socket) if socket.body.result == 0 => Some((header.time_ns, socket.body)),
        _ => None,
    });
    for (accepted, on) in sides.iter().zip([V4, V6]) {
        assert_eq!((accepted.source, accepted.destination), (address(on), address(on)));
        assert_eq!((accepted.protocol, accepted.result), (TCP, 0));
        let is_same = |connect: &sensor_event::SocketBody| {
            (connect.source_port, connect.destination_port)
                == (accepted.destination_port, accepted.source_port)
        };
        assert!(connects.iter().any(|(_, connect)| is_same(connect)), "{accepted:?} among {connects:?}");
    }
    assert!(!sides.is_empty());
    capture.cell(Kind::ACCEPT, "family, both addresses and ports");
}

#[test]
fn unix_sockets_show_where_they_are_bound() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("sockets/unix", &folder.path));
    let path = bytes(folder.join("below/stream"));
    let datagram = Seen {
        socket_type: SocketType::DGRAM,
        ..unix(&bytes(folder.join("datagram")), PathFlags::default())
    };
    let mut found = seen(&capture, pid, Kind::CONNECT);
    let failed = found.pop().expect("a failed connect is seen");
    assert_eq!(
        found,
        [unix(&path, PathFlags::default()), unix(b"sensor \0test", PathFlags::ABSTRACT), datagram]
    );
    assert_eq!(failed.result, Errno::ENOENT as i32);
    assert!(failed.path.ends_with(b"none") && failed.path_flags.contains(PathFlags::CALLER), "{failed:?}");
    let own = [unix(&path, PathFlags::default()), unix(b"sensor \0test", PathFlags::ABSTRACT)];
    assert_eq!(seen(&capture, pid, Kind::LISTEN), own);
    assert_eq!(seen(&capture, pid, Kind::ACCEPT), own);
    capture.cell(Kind::CONNECT, "unix: the peer's file or abstract name; a failed one as the caller's word");
    capture.cell(Kind::LISTEN, "unix: file or abstract name");
    capture.cell(Kind::ACCEPT, "unix: the listener's file or abstract name");
}

#[test]
fn raw_and_packet_sockets_are_shown() {
    let Some(mut capture) = Capture::start() else { return };
    let pid = run(&mut capture, "sockets/raw", &[]);
    let made = |family, socket_type, protocol, result| Seen {
        family,
        socket_type,
        protocol,
        destination: Address([0; 16]),
        destination_port: 0,
        result,
        path: Vec::new(),
        path_flags: PathFlags::default(),
    };
    let mut found = seen(&capture, pid, Kind::SOCKET);
    let refused = found.pop().expect("a refused socket is seen");
    let packet = made(Family::PACKET, SocketType::RAW, 3, 0);
    let mut expected = vec![made(Family::INET, SocketType::RAW, 1, 0)];
    if found.len() > 1 {
        expected.push(packet);
    } else {
        println!("skipped: this kernel has no packet sockets");
    }
    assert_eq!(found, expected);
    assert_eq!(refused, made(Family::INET, SocketType::RAW, 1, Errno::EPERM as i32));
    capture.cell(Kind::SOCKET, "family, type, protocol of raw and packet sockets; refusal");
}

#[test]
fn listen_shows_the_port_that_the_kernel_chose() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("sockets/listen-unbound", &folder.path));
    let chosen: u16 = fs::read_to_string(folder.join("port")).expect("written").parse().expect("a number");
    let ports = capture.all(|header, body| match body {
        RecordBody::Listen(socket) if header.pid == pid => Some(socket.body.source_port),
        _ => None,
    });
    assert_eq!(ports, [chosen]);
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    let addresses = fs::read_to_string(folder.join("addresses")).unwrap_or_default();
    let addresses: Vec<SocketAddr> =
        addresses.lines().map(|line| line.parse().expect("an address")).collect();
    match action {
        "udp-connect" => {
            for to in addresses {
                let socket = udp(to.ip());
                socket.connect(to).expect("a peer can be set");
                raw::disconnect(&socket).expect("a peer can be taken away");
            }
        }
        "udp-refused" => drop(udp(V4).connect(addresses[0]).expect_err("broadcast needs permission")),
        "send-addressed" => {
            for to in addresses {
                for socket in [udp(to.ip()), udp(to.ip())] {
                    for _ in 0..3 {
                        socket.send_to(b"text", to).expect("loopback takes it");
                    }
                }
            }
        }
        "send-connected" => {
            for to in addresses {
                for socket in [udp(to.ip()), udp(to.ip())] {
                    socket.connect(to).expect("a peer can be set");
                    let file = fs::File::from(OwnedFd::from(socket));
                    for _ in 0..3 {
                        nix::unistd::write(&file, b"text").expect("loopback takes it");
                    }
                }
            }
        }
        "accept" => {
            for listener in [V4, V6].into_iter().filter_map(|on| TcpListener::bind((on, 0)).ok()) {
                let to = listener.local_addr().expect("a bound socket has an address");
                let connecting = TcpStream::connect(to).expect("loopback connects");
                listener.accept().expect("a connection is there");
                drop(connecting);
            }
        }
        "unix" => act_unix(folder),
        "raw" => act_raw(),
        "listen-unbound" => {
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)
                .expect("a socket can be made");
            listen(&socket, Backlog::new(1).expect("a small number")).expect("the kernel chooses a port");
            let listener = TcpListener::from(socket);
            let port = listener.local_addr().expect("a listener has an address").port();
            fs::write(folder.join("port"), port.to_string()).expect("writable");
        }
        _ => panic!("unknown action {action}"),
    }
}

fn udp(on: IpAddr) -> UdpSocket {
    UdpSocket::bind((on, 0)).expect("loopback is there")
}

fn act_unix(folder: &Path) {
    std::env::set_current_dir(folder).expect("the folder can be entered");
    fs::create_dir("below").expect("a folder can be made");
    let by_path = UnixListener::bind("below/stream").expect("the name is free");
    let name = std::os::unix::net::SocketAddr::from_abstract_name(b"sensor \0test").expect("a short name");
    let by_name = UnixListener::bind_addr(&name).expect("the name is free");
    let datagram = UnixDatagram::bind("datagram").expect("the name is free");
    let streams = [
        UnixStream::connect("./below/../below/stream").expect("there is a listener"),
        UnixStream::connect_addr(&name).expect("there is a listener"),
    ];
    by_path.accept().expect("a connection is there");
    by_name.accept().expect("a connection is there");
    let sender = UnixDatagram::unbound().expect("a socket can be made");
    sender.connect("datagram").expect("there is a receiver");
    UnixStream::connect("none").expect_err("there is no listener");
    drop((streams, datagram));
}

fn act_raw() {
    let make = |family, protocol| socket(family, SockType::Raw, SockFlag::empty(), protocol);
    make(AddressFamily::Inet, Some(SockProtocol::Icmp)).expect("root may");
    // Kernels without packet sockets answer that they do not know the family.
    let packet = make(AddressFamily::Packet, Some(SockProtocol::EthAll));
    assert!(matches!(packet, Ok(_) | Err(Errno::EAFNOSUPPORT)), "{packet:?}");
    // Of no interest: a raw socket of another family, and sockets that are not raw.
    make(AddressFamily::Netlink, None).expect("anybody may");
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).expect("anybody may");
    raw::setresuid(1, 1, 1).expect("root may");
    make(AddressFamily::Inet, Some(SockProtocol::Icmp)).expect_err("others may not");
}
