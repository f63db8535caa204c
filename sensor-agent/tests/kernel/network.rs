//! TCP connects, their results, and listens, on loopback. Skips where loading is not permitted. It may
//! call the agent's kernel module.

use crate::support::{Capture, Folder, actor};
use sensor_event::{Address, CONNECT_PENDING, Family, Kind, RecordBody, SocketBody};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn address(of: IpAddr) -> Address {
    let mut bytes = [0; 16];
    match of {
        IpAddr::V4(of) => bytes[..4].copy_from_slice(&of.octets()),
        IpAddr::V6(of) => bytes = of.octets(),
    }
    Address(bytes)
}

fn family(of: IpAddr) -> Family {
    if of.is_ipv4() { Family::INET } else { Family::INET6 }
}

/// Connect and result records of connects to a port, the result found by its socket. The kernel gives a freed
/// socket's address to the next one, so a result belongs to the port as well.
fn connects(capture: &Capture, pid: u32, port: u16) -> Vec<(SocketBody, SocketBody)> {
    let begun = capture.all(|header, body| match body {
        RecordBody::Connect(socket) if header.pid == pid && socket.body.destination_port == port => {
            Some(socket.body)
        }
        _ => None,
    });
    begun
        .into_iter()
        .map(|socket| {
            let results = capture.all(|_, body| match body {
                RecordBody::ConnectResult(result)
                    if result.body.socket == socket.socket && result.body.destination_port == port =>
                {
                    Some(result.body)
                }
                _ => None,
            });
            assert_eq!(results.len(), 1, "one result for {socket:?}");
            (socket, results[0])
        })
        .collect()
}

fn listens(capture: &Capture, pid: u32) -> Vec<SocketBody> {
    capture.all(|header, body| match body {
        RecordBody::Listen(socket) if header.pid == pid => Some(socket.body),
        _ => None,
    })
}

/// A port of loopback on which nobody listens, or none where the family is missing.
fn free_port(on: IpAddr) -> Option<u16> {
    let listener = TcpListener::bind((on, 0)).ok()?;
    Some(listener.local_addr().expect("a bound socket has an address").port())
}

#[test]
fn connect_is_seen_with_its_result() {
    let Some(mut capture) = Capture::start() else { return };
    for on in [V4, V6] {
        let Ok(listener) = TcpListener::bind((on, 0)) else { continue };
        let open = listener.local_addr().expect("a bound socket has an address");
        let closed = free_port(on).expect("a port is free");
        let folder = Folder::new();
        fs::write(folder.join("ports"), format!("{open}\n{}\n", SocketAddr::new(on, closed)))
            .expect("writable");
        let pid = capture.run(&mut actor("network/connect", &folder.path));
        for (port, result) in [(open.port(), 0), (closed, nix::errno::Errno::ECONNREFUSED as i32)] {
            let pairs = connects(&capture, pid, port);
            assert_eq!(pairs.len(), 1, "connects to {on} {port}");
            let (begun, ended) = pairs[0];
            assert_eq!((begun.result, ended.result), (CONNECT_PENDING, result));
            assert_eq!((begun.destination, begun.family), (address(on), family(on)));
            assert_eq!((ended.destination, ended.destination_port), (address(on), port));
            assert_eq!(begun.protocol, 6);
        }
    }
    capture.cell(Kind::CONNECT, "family, addresses, ports");
    capture.cell(Kind::CONNECT_RESULT, "success and refusal, of the socket that connects");
}

#[test]
fn a_socket_connected_to_itself_has_a_result() {
    let Some(mut capture) = Capture::start() else { return };
    let port = free_port(V4).expect("a port is free");
    let folder = Folder::new();
    fs::write(folder.join("ports"), SocketAddr::new(V4, port).to_string()).expect("writable");
    let pid = capture.run(&mut actor("network/connect-self", &folder.path));
    let pairs = connects(&capture, pid, port);
    assert_eq!(pairs.len(), 1);
    let (begun, ended) = pairs[0];
    assert_eq!((begun.source_port, begun.destination_port), (port, port));
    assert_eq!((begun.result, ended.result), (CONNECT_PENDING, 0));
}

/// Opens from both ends at once, which a socket can do alone.
fn connect_self(to: SocketAddr) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime starts");
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
        socket.bind(to).expect("the port is free");
        socket.connect(to).await.expect("a socket connects to itself");
    });
}

#[test]
fn listen_is_seen_with_address_and_port() {
    let Some(mut capture) = Capture::start() else { return };
    for on in [V4, V6] {
        let Some(port) = free_port(on) else { continue };
        let folder = Folder::new();
        fs::write(folder.join("ports"), SocketAddr::new(on, port).to_string()).expect("writable");
        let pid = capture.run(&mut actor("network/listen", &folder.path));
        let seen = listens(&capture, pid);
        assert_eq!(seen.len(), 1, "listens on {on}");
        assert_eq!((seen[0].source, seen[0].source_port, seen[0].family), (address(on), port, family(on)));
        assert_eq!((seen[0].destination, seen[0].destination_port, seen[0].result), (Address([0; 16]), 0, 0));
    }
    capture.cell(Kind::LISTEN, "family, address, port");
}

#[test]
fn own_activity_is_left_out() {
    let Some(mut capture) = Capture::start() else { return };
    let listener = TcpListener::bind((V4, 0)).expect("loopback is there");
    let own = listener.local_addr().expect("a bound socket has an address");
    TcpStream::connect(own).expect("loopback connects");
    let folder = Folder::new();
    fs::write(folder.join("ports"), own.to_string()).expect("writable");
    let pid = capture.run(&mut actor("network/connect", &folder.path));
    let to_own_port = capture.all(|header, body| match body {
        RecordBody::Connect(socket) | RecordBody::ConnectResult(socket)
            if socket.body.destination_port == own.port() =>
        {
            Some((header.kind, header.kind == Kind::CONNECT && header.pid == pid))
        }
        _ => None,
    });
    assert_eq!(to_own_port, [(Kind::CONNECT, true), (Kind::CONNECT_RESULT, false)]);
    assert_eq!(listens(&capture, std::process::id()), []);
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    let ports = fs::read_to_string(folder.join("ports")).expect("the ports are there");
    for port in ports.lines() {
        let port: SocketAddr = port.parse().expect("an address and a port");
        match action {
            "connect-self" => connect_self(port),
            "connect" => drop(TcpStream::connect(port)),
            "listen" => drop(TcpListener::bind(port).expect("the port is free")),
            _ => panic!("unknown action {action}"),
        }
    }
}
