//! What is done through io_uring instead of system calls, on the running kernel. Not what is done otherwise. It may call
//! the agent's kernel module.

use crate::names::resolved;
use crate::raw_uring::Ring;
use crate::support::{Capture, Folder, absolute, actor, bytes, no_cell};
use sensor_agent::kernel::HookState;
use sensor_event::{Family, FileFlags, Header, Kind, RecordBody, SocketType};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;

const O_CREAT: i32 = 0o100;
const O_WRONLY: i32 = 1;

/// Where the actor says why it could not do it.
const REFUSAL: &str = "refusal";

/// Runs an action, unless this kernel has no rings or their completions tell nothing.
fn run(action: &str, kind: Kind) -> Option<(Capture, Folder, u32)> {
    let mut capture = Capture::start()?;
    let seen = capture.kernel.hooks().iter().find(|hook| hook.event == "file_open (io_uring)").cloned();
    if let Some(HookState::Failed(_)) = seen.map(|hook| hook.state) {
        no_cell(kind, "io_uring: completions do not carry their request before 5.19");
        return None;
    }
    let folder = Folder::new();
    let pid = capture.run(&mut actor(action, &folder.path));
    if let Ok(refusal) = fs::read_to_string(folder.join(REFUSAL)) {
        no_cell(kind, &format!("io_uring: {refusal}"));
        return None;
    }
    Some((capture, folder, pid))
}

#[test]
fn opens_by_ring_are_seen() {
    let Some((capture, folder, pid)) = run("rings/open", Kind::FILE_OPEN) else { return };
    let path = bytes(folder.join("by ring"));
    let found = capture.all(|header, body| match body {
        RecordBody::FileOpen(file) if is_by(header, pid) && absolute(file.path) == path => Some(file.body),
        _ => None,
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].flags.contains(FileFlags::CREATED));
    assert_eq!((found[0].open_flags & 3, found[0].result), (1, 0));
    let hook = capture.kernel.hooks().iter().find(|hook| hook.event == "file_open (io_uring)");
    let hook = hook.expect("it was attached");
    if hook.tier == "tracepoint" {
        assert!(found[0].flags.contains(FileFlags::IO_URING));
    }
    capture.cell(Kind::FILE_OPEN, "io_uring: resolved path, access, created or not");
}

#[test]
fn sockets_by_ring_are_seen() {
    let Some((capture, folder, pid)) = run("rings/sockets", Kind::CONNECT) else { return };
    let ports = fs::read_to_string(folder.join("ports")).expect("written");
    let ports: Vec<u16> = ports.lines().map(|port| port.parse().expect("a number")).collect();
    let found = capture.all(|header, body| match body {
        RecordBody::Connect(socket) if header.pid == pid => {
            Some((socket.body.socket_type, socket.body.destination_port))
        }
        _ => None,
    });
    assert_eq!(found, [(SocketType::STREAM, ports[0]), (SocketType::DGRAM, ports[1])]);
    let accepted = capture.all(|header, body| match body {
        RecordBody::Accept(socket) if header.pid == pid => Some(socket.body.source_port),
        _ => None,
    });
    assert_eq!(accepted, [ports[0]]);
    capture.cell(Kind::CONNECT, "io_uring: TCP and UDP");
    capture.cell(Kind::ACCEPT, "io_uring: addresses and ports");
    if ports[2] == 0 {
        no_cell(Kind::SOCKET, "io_uring: this kernel makes no sockets by ring");
        return;
    }
    let made = capture.all(|header, body| match body {
        RecordBody::Socket(socket) if header.pid == pid => {
            Some((socket.body.family, socket.body.socket_type))
        }
        _ => None,
    });
    assert_eq!(made, [(Family::INET, SocketType::RAW)]);
    capture.cell(Kind::SOCKET, "io_uring: family and type");
}

/// Whether a process did it, or before 5.12, a worker of a ring, which is a kernel thread there.
fn is_by(header: &Header, pid: u32) -> bool {
    header.pid == pid || header.comm.starts_with(b"io_wqe_worker")
}

#[test]
fn names_by_ring_are_seen() {
    let Some((capture, folder, pid)) = run("rings/names", Kind::FILE_RENAME) else { return };
    let tier = |kind: Kind| {
        let hook = capture.kernel.hooks().iter().find(|hook| hook.kind == kind);
        hook.expect("every kind has a hook").tier
    };
    if tier(Kind::FILE_RENAME) == "tracepoint" {
        no_cell(Kind::FILE_RENAME, "io_uring: a rename makes no system call of its own");
        no_cell(Kind::FILE_UNLINK, "io_uring: a removal makes no system call of its own");
        return;
    }
    let renamed = capture.all(|header, body| match body {
        RecordBody::Rename(rename) if is_by(header, pid) => {
            Some((resolved(rename.old_base, rename.old_name), resolved(rename.new_base, rename.new_name)))
        }
        _ => None,
    });
    assert_eq!(renamed, [(bytes(folder.join("one")), bytes(folder.join("two")))]);
    let removed = capture.all(|header, body| match body {
        RecordBody::Unlink(unlink) if is_by(header, pid) => {
            Some((resolved(unlink.base, unlink.name), unlink.body.result))
        }
        _ => None,
    });
    assert_eq!(removed, [(bytes(folder.join("two")), 0)]);
    capture.cell(Kind::FILE_RENAME, "io_uring: both names");
    capture.cell(Kind::FILE_UNLINK, "io_uring: name, result");
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    std::env::set_current_dir(folder).expect("the folder can be entered");
    let mut ring = match Ring::new() {
        Ok(ring) => ring,
        Err(error) => return fs::write(REFUSAL, error.to_string()).expect("writable"),
    };
    match action {
        "open" => drop(ring.open(c"by ring", O_CREAT | O_WRONLY).expect("the file can be made")),
        "names" => {
            fs::write("one", "").expect("a file can be written");
            // Since 5.11.
            if let Err(error) = ring.rename(c"one", c"two").and_then(|()| ring.unlink(c"two")) {
                fs::write(REFUSAL, error.to_string()).expect("writable");
            }
        }
        "sockets" => act_sockets(&mut ring),
        _ => panic!("unknown action {action}"),
    }
}

/// `struct sockaddr_in` of a port of loopback.
fn loopback(port: u16) -> Vec<u8> {
    let mut address = Family::INET.0.to_ne_bytes().to_vec();
    address.extend(port.to_be_bytes());
    address.extend(Ipv4Addr::LOCALHOST.octets());
    address.resize(16, 0);
    address
}

fn act_sockets(ring: &mut Ring) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    let stream = listener.local_addr().expect("it is bound").port();
    let datagrams = receiver.local_addr().expect("it is bound").port();
    let make = |kind| socket(AddressFamily::Inet, kind, SockFlag::empty(), None).expect("anybody may");
    let connecting = TcpStream::from(make(SockType::Stream));
    ring.connect(&connecting, &loopback(stream)).expect("there is a listener");
    ring.connect(&make(SockType::Datagram), &loopback(datagrams)).expect("a peer can be set");
    ring.accept(&listener).expect("a connection is there");
    // `AF_INET`, `SOCK_RAW`, `IPPROTO_ICMP`: since 5.19.
    let raw = ring.socket(2, 3, 1).is_ok();
    fs::write("ports", format!("{stream}\n{datagrams}\n{}\n", u16::from(raw))).expect("writable");
}
