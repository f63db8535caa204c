//! From a decoded record to an [`Event`]. Total: every record gives an event. It may call the event and baseline
//! (text) crates.

use super::{
    Actor, Body, BootNs, ConnectResult, Event, Exec, Exit, FileOpen, Fork, Identity, KernelPath, Rename,
    Socket, Tier, Unlink, path,
};
use sensor_baseline::text::escape;
use sensor_event::{Address, CONNECT_PENDING, Family, FileFlags, Header, Record, RecordBody, SocketBody};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

impl Event {
    /// The record as owned text.
    #[must_use]
    pub fn from_record(record: &Record<'_>) -> Self {
        let header = &record.header;
        Self {
            time: BootNs(header.time_ns),
            tier: tier(header.tier),
            actor: actor(header),
            body: body(&record.body),
        }
    }
}

fn tier(tier: sensor_event::Tier) -> Tier {
    match tier {
        sensor_event::Tier::LSM => Tier::Lsm,
        sensor_event::Tier::TRACEPOINT => Tier::Tracepoint,
        sensor_event::Tier::PROCFS => Tier::Procfs,
        _ => Tier::Unknown,
    }
}

fn actor(header: &Header) -> Actor {
    Actor {
        identity: Identity { pid: header.pid, start_time_ns: header.start_time_ns },
        parent: Identity { pid: header.ppid, start_time_ns: header.parent_start_time_ns },
        tid: header.tid,
        uid: header.uid,
        gid: header.gid,
        euid: header.euid,
        egid: header.egid,
        loginuid: (header.loginuid != u32::MAX).then_some(header.loginuid),
        session_id: (header.session_id != u32::MAX).then_some(header.session_id),
        cgroup_id: header.cgroup_id,
        mnt_ns: header.mnt_ns,
        pid_ns: header.pid_ns,
        comm: escape(until_nul(&header.comm)),
    }
}

fn body(body: &RecordBody<'_>) -> Body {
    match body {
        RecordBody::Exec(record) => Body::Exec(exec(record)),
        RecordBody::Fork(fork) => Body::Fork(Fork {
            child: Identity { pid: fork.child_pid, start_time_ns: fork.child_start_time_ns },
            parent: Identity { pid: fork.child_ppid, start_time_ns: fork.child_parent_start_time_ns },
            cgroup_id: fork.child_cgroup_id,
        }),
        RecordBody::Exit(exit) => Body::Exit(Exit { wait_status: exit.wait_status }),
        RecordBody::Connect(body) => Body::Connect(socket(body)),
        RecordBody::ConnectResult(body) => Body::ConnectResult(socket(body)),
        RecordBody::Listen(body) => Body::Listen(socket(body)),
        RecordBody::FileOpen(file) => Body::FileOpen(FileOpen {
            path: KernelPath::walked(file.path),
            inode: file.body.inode,
            dev: file.body.dev,
            mode: file.body.mode,
            open_flags: file.body.open_flags,
            flags: file.body.flags,
        }),
        RecordBody::Unlink(unlink) => Body::Unlink(Unlink {
            path: KernelPath::joined(unlink.base, unlink.name),
            result: unlink.body.result,
            is_directory: unlink.body.flags.contains(FileFlags::DIRECTORY),
        }),
        RecordBody::Rename(rename) => Body::Rename(Rename {
            from: KernelPath::joined(rename.old_base, rename.old_name),
            to: KernelPath::joined(rename.new_base, rename.new_name),
            result: rename.body.result,
            rename_flags: rename.body.rename_flags,
        }),
        RecordBody::Unknown(kind) => Body::Unknown(kind.0),
    }
}

fn exec(record: &sensor_event::Exec<'_>) -> Exec {
    let root = path::task_root(&[record.exe, record.cwd]);
    let argv = record.argv.strip_suffix(&[0]).unwrap_or(record.argv);
    let argv =
        if record.argv.is_empty() { Vec::new() } else { argv.split(|byte| *byte == 0).map(escape).collect() };
    Exec {
        exe: KernelPath::walked(record.exe),
        cwd: KernelPath::walked(record.cwd),
        cgroup: KernelPath::walked(record.cgroup),
        root: escape(&root),
        filename: escape(record.filename),
        filename_absolute: path::absolute(&root, &path::root_first(record.cwd), record.filename),
        interpreter: escape(record.interpreter),
        argv,
        argc: record.body.argc,
        inode: record.body.inode,
        dev: record.body.dev,
        mode: record.body.mode,
        flags: record.body.flags,
    }
}

fn socket(body: &SocketBody) -> Socket {
    Socket {
        socket: body.socket,
        source: address(body.family, body.source),
        source_port: body.source_port,
        destination: address(body.family, body.destination),
        destination_port: body.destination_port,
        protocol: body.protocol,
        result: match body.result {
            CONNECT_PENDING => ConnectResult::Pending,
            0 => ConnectResult::Established,
            errno => ConnectResult::Failed(errno),
        },
    }
}

/// IPv4 for `AF_INET` and for IPv4 mapped into IPv6: one peer has one text.
fn address(family: Family, address: Address) -> IpAddr {
    let Address(bytes) = address;
    if family == Family::INET {
        return IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]));
    }
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}
