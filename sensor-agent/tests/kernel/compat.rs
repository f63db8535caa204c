//! What a 32-bit program does, on a 64-bit kernel: other numbers, other registers, arguments in memory. Not for other
//! architectures. It may call the agent's kernel module.

use crate::names::resolved;
use crate::raw_compat::{Argument, call};
use crate::support::{Capture, Folder, absolute, actor, bytes};
use sensor_event::{Family, Kind, RecordBody, SocketType};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::{fs, process};

/// `arch/x86/entry/syscalls/syscall_32.tbl`.
const OPEN: u32 = 5;
const UNLINK: u32 = 10;
const RENAME: u32 = 38;
const MKDIR: u32 = 39;
const SOCKETCALL: u32 = 102;
const CHOWN16: u32 = 182;
const TRUNCATE64: u32 = 193;

/// `include/uapi/linux/net.h`.
const SYS_SOCKET: u32 = 1;
const SYS_CONNECT: u32 = 3;

const O_CREAT_WRONLY: u32 = 0o101;

#[test]
fn calls_of_32_bit_programs_are_seen() {
    let Some(mut capture) = Capture::start() else { return };
    let folder = Folder::new();
    let pid = capture.run(&mut actor("compat/everything", &folder.path));
    let Ok(port) = fs::read_to_string(folder.join("port")) else {
        println!("skipped: this kernel runs no 32-bit programs");
        return;
    };
    let at = |name: &str| bytes(folder.join(name));
    let found = capture.all(|header, body| {
        if header.pid != pid {
            return None;
        }
        let named =
            |name: &sensor_event::Name<'_>| (header.kind, resolved(name.base, name.name), name.body.value);
        match body {
            RecordBody::FileOpen(file) if absolute(file.path) == at("file") => {
                Some((header.kind, absolute(file.path), file.body.open_flags.into()))
            }
            RecordBody::Mkdir(name) | RecordBody::Chown(name) | RecordBody::Truncate(name) => {
                Some(named(name))
            }
            RecordBody::Unlink(name) => Some(named(name)).filter(|(_, path, _)| *path == at("other")),
            RecordBody::Rename(rename) => Some((
                header.kind,
                resolved(rename.new_base, rename.new_name),
                rename.body.result.cast_unsigned().into(),
            )),
            _ => None,
        }
    });
    let expected = [
        (Kind::FILE_OPEN, at("file"), O_CREAT_WRONLY.into()),
        (Kind::FILE_CHOWN, at("file"), 1 | u64::from(u32::MAX) << 32),
        (Kind::FILE_TRUNCATE, at("file"), 1 << 32 | 5),
        (Kind::FILE_MKDIR, at("folder"), 0o750),
        (Kind::FILE_RENAME, at("other"), 0),
        (Kind::FILE_UNLINK, at("other"), 0),
    ];
    let found: Vec<_> = found
        .into_iter()
        .map(|(kind, path, value)| match kind {
            // What the kernel adds to the flags of every 64-bit program, or to a mode, is not asked for here.
            Kind::FILE_OPEN => (kind, path, value & u64::from(O_CREAT_WRONLY)),
            Kind::FILE_MKDIR => (kind, path, value & 0o777),
            _ => (kind, path, value),
        })
        .collect();
    assert_eq!(found, expected);
    let sockets = capture.all(|header, body| match body {
        RecordBody::Connect(socket) | RecordBody::Socket(socket) if header.pid == pid => {
            let body = socket.body;
            Some((header.kind, body.family, body.socket_type, body.protocol, body.destination_port))
        }
        _ => None,
    });
    let port = port.parse().expect("a number");
    assert_eq!(
        sockets,
        [
            (Kind::SOCKET, Family::INET, SocketType::RAW, 1, 0),
            (Kind::CONNECT, Family::INET, SocketType::DGRAM, 17, port),
        ]
    );
    capture.cell(Kind::SOCKET, "32-bit programs, socketcall");
}

/// What the actors of this module do.
pub(crate) fn act(action: &str, folder: &Path) {
    assert_eq!(action, "everything", "unknown action");
    std::env::set_current_dir(folder).expect("the folder can be entered");
    // A kernel without 32-bit programs ends the actor with a signal.
    let text = Argument::Bytes;
    let number = Argument::Number;
    if call(OPEN, &[text(b"file"), number(O_CREAT_WRONLY), number(0o600)]).is_err() {
        process::exit(0);
    }
    let none = u32::from(u16::MAX);
    call(CHOWN16, &[text(b"file"), number(1), number(none)]).expect("root may");
    call(TRUNCATE64, &[text(b"file"), number(5), number(1)]).expect("the file can be made longer");
    call(MKDIR, &[text(b"folder"), number(0o750)]).expect("a folder can be made");
    call(RENAME, &[text(b"file"), text(b"other")]).expect("the file can be renamed");
    call(UNLINK, &[text(b"other")]).expect("the file can be removed");
    let (raw, icmp) = (number(3), number(1));
    let made = call(SOCKETCALL, &[number(SYS_SOCKET), Argument::Array(&[number(2), raw, icmp])]);
    made.expect("root may");
    let datagrams = Argument::Array(&[Argument::Number(2), Argument::Number(2), Argument::Number(0)]);
    let socket = call(SOCKETCALL, &[Argument::Number(SYS_SOCKET), datagrams]).expect("anybody may");
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    let port = receiver.local_addr().expect("it is bound").port();
    let mut address = Family::INET.0.to_ne_bytes().to_vec();
    address.extend(port.to_be_bytes());
    address.extend(Ipv4Addr::LOCALHOST.octets());
    address.resize(16, 0);
    let arguments = [Argument::Number(socket), Argument::Bytes(&address), Argument::Number(16)];
    let connect = [Argument::Number(SYS_CONNECT), Argument::Array(&arguments)];
    call(SOCKETCALL, &connect).expect("a peer can be set");
    fs::write("port", port.to_string()).expect("writable");
}
