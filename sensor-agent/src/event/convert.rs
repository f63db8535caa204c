//! From a decoded record to an [`Event`]. Total: every record gives an event. It may call the event and baseline
//! (text) crates.

use super::{
    Actor, Arguments, Body, BootNs, BpfLoad, Cgroup, ConnectResult, Creds, Event, Exec, Exit, FileOpen, Fork,
    Identity, KernelPath, ModuleLoad, Name, Namespace, Rename, Socket, Target, Tier, path,
};
use nix::errno::Errno;
use sensor_baseline::text::escape;
use sensor_event::{
    Address, BpfBody, CONNECT_PENDING, CredsBody, Family, Header, Ids, NamespaceBody, Record, RecordBody,
    TargetBody,
};
use std::fmt::Write as _;
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
            new_namespaces: fork.new_namespaces,
        }),
        RecordBody::Exit(exit) => Body::Exit(Exit { wait_status: exit.wait_status }),
        RecordBody::Connect(record) => Body::Connect(socket(record)),
        RecordBody::ConnectResult(record) => Body::ConnectResult(socket(record)),
        RecordBody::Listen(record) => Body::Listen(socket(record)),
        RecordBody::Accept(record) => Body::Accept(socket(record)),
        RecordBody::Send(record) => Body::Send(socket(record)),
        RecordBody::Socket(record) => Body::Socket(socket(record)),
        RecordBody::FileOpen(record) => Body::FileOpen(file(record)),
        RecordBody::ExecMap(record) => Body::ExecMap(file(record)),
        RecordBody::Memfd(record) => Body::Memfd(file(record)),
        RecordBody::Unlink(record) => Body::Unlink(name(record)),
        RecordBody::Symlink(record) => Body::Symlink(name(record)),
        RecordBody::Mkdir(record) => Body::Mkdir(name(record)),
        RecordBody::Chmod(record) => Body::Chmod(name(record)),
        RecordBody::Chown(record) => Body::Chown(name(record)),
        RecordBody::Truncate(record) => Body::Truncate(name(record)),
        RecordBody::Setxattr(record) => Body::Setxattr(name(record)),
        RecordBody::Mount(record) => Body::Mount(name(record)),
        RecordBody::Rename(record) => Body::Rename(rename(record)),
        RecordBody::Link(record) => Body::Link(rename(record)),
        RecordBody::Creds(body) => Body::Creds(creds(body)),
        RecordBody::Ptrace(body) => Body::Ptrace(target(body)),
        RecordBody::VmWrite(body) => Body::VmWrite(target(body)),
        RecordBody::ModuleLoad(module) => {
            Body::ModuleLoad(ModuleLoad { name: escape(until_nul(&module.name)), taints: module.taints })
        }
        RecordBody::BpfLoad(bpf) => Body::BpfLoad(bpf_load(bpf)),
        RecordBody::Namespace(body) => Body::Namespace(namespace(body)),
        RecordBody::Process(record) => Body::Process(exec(record)),
        RecordBody::Cgroup(record) => {
            Body::Cgroup(Cgroup { id: record.body.id, path: KernelPath::walked(record.path) })
        }
        RecordBody::Unknown(kind) => Body::Unknown(kind.0),
    }
}

fn exec(record: &sensor_event::Exec<'_>) -> Exec {
    let root = path::task_root(&[record.exe, record.cwd]);
    let argv = record.argv.strip_suffix(&[0]).unwrap_or(record.argv);
    let argv = if record.argv.is_empty() {
        Arguments::default()
    } else {
        argv.split(|byte| *byte == 0).map(escape).collect()
    };
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
        cap_effective: record.body.cap_effective,
        cap_permitted: record.body.cap_permitted,
        namespaces: record.body.namespaces,
        tty: escape(until_nul(&record.body.tty)),
        flags: record.body.flags,
        exec_id: record.body.exec_id,
    }
}

/// What the kernel tells itself about an interrupted call, of `include/linux/errno.h`: it begins again, or fails with
/// `EINTR`, which a hook before that cannot know.
const ERESTARTSYS: i32 = 512;
const ERESTART_RESTARTBLOCK: i32 = 516;

fn socket(record: &sensor_event::Socket<'_>) -> Socket {
    let body = &record.body;
    Socket {
        socket: body.socket,
        source: address(body.family, body.source),
        source_port: body.source_port,
        destination: address(body.family, body.destination),
        destination_port: body.destination_port,
        family: body.family,
        socket_type: body.socket_type,
        protocol: body.protocol,
        result: match body.result {
            CONNECT_PENDING => ConnectResult::Pending,
            0 => ConnectResult::Established,
            ERESTARTSYS..=ERESTART_RESTARTBLOCK => ConnectResult::Failed(Errno::EINTR as i32),
            errno => ConnectResult::Failed(errno),
        },
        path: if record.path.bytes.is_empty() {
            KernelPath::default()
        } else {
            KernelPath::walked(record.path)
        },
    }
}

fn file(record: &sensor_event::File<'_>) -> FileOpen {
    FileOpen {
        path: KernelPath::joined(record.path, record.name),
        inode: record.body.inode,
        dev: record.body.dev,
        mode: record.body.mode,
        open_flags: record.body.open_flags,
        result: record.body.result,
        flags: record.body.flags,
    }
}

fn name(record: &sensor_event::Name<'_>) -> Name {
    Name {
        path: KernelPath::joined(record.base, record.name),
        result: record.body.result,
        flags: record.body.flags,
        value: record.body.value,
        text: escape(record.text),
        second_text: escape(record.second_text),
        inode: record.body.inode,
        dev: record.body.dev,
    }
}

fn rename(record: &sensor_event::Rename<'_>) -> Rename {
    Rename {
        from: KernelPath::joined(record.old_base, record.old_name),
        to: KernelPath::joined(record.new_base, record.new_name),
        result: record.body.result,
        rename_flags: record.body.rename_flags,
        inode: record.body.inode,
        dev: record.body.dev,
        flags: record.body.flags,
    }
}

fn creds(body: &CredsBody) -> Creds {
    let is_known = body.old != Ids { uid: u32::MAX, euid: u32::MAX, gid: u32::MAX, egid: u32::MAX };
    let has_caps = body.old_cap_permitted != u64::MAX;
    Creds {
        old: is_known.then_some(body.old),
        new: body.new,
        old_caps: has_caps.then_some((body.old_cap_effective, body.old_cap_permitted)),
        caps: (body.cap_effective, body.cap_permitted),
    }
}

fn target(body: &TargetBody) -> Target {
    let identity = Identity { pid: body.target_pid, start_time_ns: body.target_start_time_ns };
    Target {
        target: (body.target_pid != 0).then_some(identity),
        given_pid: body.given_pid,
        request: body.request,
        result: body.result,
    }
}

fn bpf_load(body: &BpfBody) -> BpfLoad {
    let tag = body.tag.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
        text
    });
    BpfLoad {
        name: escape(until_nul(&body.name)),
        tag,
        program_id: body.program_id,
        program_type: body.program_type,
        instructions: body.instructions,
        result: body.result,
    }
}

const fn namespace(body: &NamespaceBody) -> Namespace {
    Namespace {
        namespaces: body.namespaces,
        flags: body.flags,
        is_setns: body.is_setns != 0,
        result: body.result,
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
