//! Records of the kinds that are not in the parent: names, sockets other than of TCP, privileges. It may call the event
//! crate.

use super::{Who, inode, leaf_first, reference};
use sensor_event::{
    Address, BpfBody, CgroupBody, CredsBody, ExecBody, Family, FileBody, Ids, Kind, ModuleBody, NameBody,
    NamespaceBody, Namespaces, PathFlags, RenameBody, SocketBody, SocketType, TargetBody,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// User and group ids that are all the same.
pub(crate) const fn ids(id: u32) -> Ids {
    Ids { uid: id, euid: id, gid: id, egid: id }
}

impl Who {
    /// UDP from 127.0.0.1 port 40000 to 192.0.2.7: a connect, or a send.
    pub(crate) fn udp(self, kind: Kind, port: u16, result: i32) -> Vec<u8> {
        let address = |bytes: [u8; 4]| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&bytes);
            Address(address)
        };
        let body = SocketBody {
            socket: 9,
            source: address([127, 0, 0, 1]),
            destination: address([192, 0, 2, 7]),
            source_port: 40_000,
            destination_port: port,
            family: Family::INET,
            protocol: 17,
            result,
            socket_type: SocketType::DGRAM,
            ..SocketBody::new_zeroed()
        };
        self.record(kind, body.as_bytes(), &[])
    }

    /// A TCP connection from 192.0.2.7 port 40000, accepted on 127.0.0.1.
    pub(crate) fn accept(self, port: u16) -> Vec<u8> {
        let mut bytes = self.udp(Kind::ACCEPT, 40_000, 0);
        let at = size_of::<sensor_event::Header>();
        let mut put = |offset: usize, value: u16| {
            bytes[at + offset..at + offset + 2].copy_from_slice(&value.to_ne_bytes());
        };
        put(std::mem::offset_of!(SocketBody, source_port), port);
        put(std::mem::offset_of!(SocketBody, protocol), 6);
        put(std::mem::offset_of!(SocketBody, socket_type), 1);
        bytes
    }

    /// A unix stream socket: a connect, or a listen. A name that begins with `@` is abstract.
    pub(crate) fn unix(self, kind: Kind, name: &str, result: i32) -> Vec<u8> {
        let (section, path) = match name.strip_prefix('@') {
            Some(name) => (name.as_bytes().to_vec(), PathFlags::ABSTRACT),
            None => (leaf_first(name), PathFlags::default()),
        };
        let body = SocketBody {
            socket: 11,
            family: Family::UNIX,
            socket_type: SocketType::STREAM,
            result,
            path: reference(&section, path),
            ..SocketBody::new_zeroed()
        };
        self.record(kind, body.as_bytes(), &[&section])
    }

    /// A packet socket for every protocol.
    pub(crate) fn packet_socket(self, result: i32) -> Vec<u8> {
        let body = SocketBody {
            family: Family::PACKET,
            socket_type: SocketType::RAW,
            protocol: 3,
            result,
            ..SocketBody::new_zeroed()
        };
        self.record(Kind::SOCKET, body.as_bytes(), &[])
    }

    /// An operation on one name that the kernel gave.
    pub(crate) fn name(self, kind: Kind, path: &str, value: u64, texts: [&str; 2], result: i32) -> Vec<u8> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (base, name) = (leaf_first(folder), leaf_first(name));
        let body = NameBody {
            base: reference(&base, PathFlags::default()),
            name: reference(&name, PathFlags::default()),
            inode: if result == 0 { inode(path) } else { 0 },
            value,
            dev: 1,
            result,
            text_len: texts[0].len() as u16,
            second_text_len: texts[1].len() as u16,
            ..NameBody::new_zeroed()
        };
        self.record(kind, body.as_bytes(), &[&base, &name, texts[0].as_bytes(), texts[1].as_bytes()])
    }

    /// A rename or a link of names that the kernel gave, of the file with the inode of `of`.
    pub(crate) fn two_names(self, kind: Kind, of: &str, from: &str, to: &str, flags: u32) -> Vec<u8> {
        let parts = |path: &str| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            (leaf_first(folder), leaf_first(name))
        };
        let ((old_base, old_name), (new_base, new_name)) = (parts(from), parts(to));
        let walked = |section: &[u8]| reference(section, PathFlags::default());
        let body = RenameBody {
            old_base: walked(&old_base),
            old_name: walked(&old_name),
            new_base: walked(&new_base),
            new_name: walked(&new_name),
            inode: inode(of),
            dev: 1,
            rename_flags: flags,
            ..RenameBody::new_zeroed()
        };
        self.record(kind, body.as_bytes(), &[&old_base, &old_name, &new_base, &new_name])
    }

    /// A file that was mapped executable, or made without a name.
    pub(crate) fn mapped(self, kind: Kind, path: &str, flags: u32) -> Vec<u8> {
        let section = leaf_first(path);
        let body = FileBody {
            inode: inode(path),
            dev: 1,
            mode: 0o100_755,
            open_flags: flags,
            path: reference(&section, PathFlags::default()),
            ..FileBody::new_zeroed()
        };
        self.record(kind, body.as_bytes(), &[&section])
    }

    /// An open that failed.
    pub(crate) fn failed_open(self, path: &str, result: i32) -> Vec<u8> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let base = leaf_first(folder);
        let body = FileBody {
            result,
            path: reference(&base, PathFlags::default()),
            name: reference(name.as_bytes(), PathFlags::CALLER),
            ..FileBody::new_zeroed()
        };
        self.record(Kind::FILE_OPEN, body.as_bytes(), &[&base, name.as_bytes()])
    }

    pub(crate) fn creds(self, old: Ids, new: Ids, old_caps: u64, caps: u64) -> Vec<u8> {
        let body = CredsBody {
            old_cap_effective: old_caps,
            old_cap_permitted: old_caps,
            cap_effective: caps,
            cap_permitted: caps,
            old,
            new,
        };
        self.record(Kind::CREDS, body.as_bytes(), &[])
    }

    /// A ptrace or a memory write.
    pub(crate) fn reach(self, kind: Kind, target: Self, request: u32, result: i32) -> Vec<u8> {
        let body = TargetBody {
            target_start_time_ns: target.start_time_ns,
            target_pid: target.pid,
            given_pid: target.pid,
            request,
            result,
        };
        self.record(kind, body.as_bytes(), &[])
    }

    pub(crate) fn module(self, name: &str) -> Vec<u8> {
        let mut body = ModuleBody { taints: 1 << 12, ..ModuleBody::new_zeroed() };
        body.name[..name.len()].copy_from_slice(name.as_bytes());
        self.record(Kind::MODULE_LOAD, body.as_bytes(), &[])
    }

    pub(crate) fn bpf(self, name: &str, result: i32) -> Vec<u8> {
        let mut body = BpfBody {
            tag: [0xab; 8],
            program_id: 7,
            program_type: 26,
            result,
            instructions: 12,
            ..BpfBody::new_zeroed()
        };
        body.name[..name.len()].copy_from_slice(name.as_bytes());
        self.record(Kind::BPF_LOAD, body.as_bytes(), &[])
    }

    pub(crate) fn unshare(self, flags: u32, mnt: u32, result: i32) -> Vec<u8> {
        let namespaces = Namespaces { mnt, ..Namespaces::default() };
        let body = NamespaceBody { namespaces, flags, result, is_setns: 0, reserved: 0 };
        self.record(Kind::NAMESPACE, body.as_bytes(), &[])
    }

    /// A control group that the process made.
    pub(crate) fn cgroup(self, id: u64, path: &str) -> Vec<u8> {
        let section = leaf_first(path);
        let body = CgroupBody { id, path: reference(&section, PathFlags::default()) };
        self.record(Kind::CGROUP, body.as_bytes(), &[&section])
    }

    /// A process that the start-up scan in the kernel found in `/system.slice/web.service`, with all capabilities.
    pub(crate) fn found(self, exe: &str) -> Vec<u8> {
        let (path, cwd, cgroup) =
            (leaf_first(exe), leaf_first("/srv"), leaf_first("/system.slice/web.service"));
        let walked = |section: &[u8]| reference(section, PathFlags::default());
        let body = ExecBody {
            inode: if exe.is_empty() { 0 } else { inode(exe) },
            dev: 1,
            cap_effective: 0x3f,
            cap_permitted: 0x3f,
            exe: walked(&path),
            cwd: walked(&cwd),
            cgroup: walked(&cgroup),
            ..ExecBody::new_zeroed()
        };
        self.record(Kind::PROCESS, body.as_bytes(), &[&path, &cwd, &cgroup])
    }

    /// An exec that leaves the process with these capabilities.
    pub(crate) fn exec_gaining(self, exe: &str, caps: u64) -> Vec<u8> {
        let mut bytes = self.exec(exe, &["x"]);
        let at = size_of::<sensor_event::Header>() + std::mem::offset_of!(ExecBody, cap_permitted);
        bytes[at..at + 8].copy_from_slice(&caps.to_ne_bytes());
        bytes
    }
}

/// What a process with two children does that the older tests' records do not show: every kind but those.
pub(crate) fn one_of_each() -> Vec<Vec<u8>> {
    let (who, child) = (Who::new(21, 20), Who::new(22, 21));
    let name = |kind, path, value, texts| who.name(kind, path, value, texts, 0);
    vec![
        who.found("/usr/sbin/nginx"),
        who.fork(child),
        child.exec_gaining("/usr/bin/sudo", 0x3f | 1 << 21),
        who.udp(Kind::CONNECT, 53, 0),
        who.udp(Kind::SEND, 53, 0),
        who.udp(Kind::SEND, 54, 1),
        who.accept(80),
        who.unix(Kind::CONNECT, "/run/docker.sock", 0),
        who.unix(Kind::CONNECT, "@abstract", 111),
        who.unix(Kind::LISTEN, "/run/x.sock", 0),
        who.unix(Kind::ACCEPT, "/run/x.sock", 0),
        who.packet_socket(0),
        who.open("/etc/hosts", 0, sensor_event::FileFlags::default()),
        who.failed_open("/etc/shadow", 13),
        who.two_names(Kind::FILE_LINK, "/srv/a", "/srv/a", "/srv/h", 0x400),
        who.two_names(Kind::FILE_RENAME, "/srv/a", "/srv/a", "/srv/b", 2),
        name(Kind::FILE_SYMLINK, "/srv/s", 0, ["../target", ""]),
        name(Kind::FILE_MKDIR, "/srv/d", 0o40_700, ["", ""]),
        who.name(Kind::FILE_MKDIR, "/srv/d", 0o755, ["", ""], 17),
        name(Kind::FILE_CHMOD, "/srv/a", 0o4755, ["", ""]),
        name(Kind::FILE_CHOWN, "/srv/a", 33 | u64::from(u32::MAX) << 32, ["", ""]),
        name(Kind::FILE_TRUNCATE, "/srv/a", 5, ["", ""]),
        name(Kind::FILE_SETXATTR, "/srv/a", 0, ["user.x", ""]),
        name(Kind::MOUNT, "/mnt", 4096 | 1, ["/dev/vda1", "ext4"]),
        name(Kind::MOUNT, "/mnt", NameBody::UNMOUNT, ["", ""]),
        who.mapped(Kind::EXEC_MAP, "/usr/lib/x.so", 5),
        who.mapped(Kind::MEMFD, "/memfd:x", 1),
        who.creds(ids(0), ids(33), 0xff, 0x3),
        who.creds(ids(33), Ids { egid: 7, ..ids(33) }, 0x3, 0x3),
        who.creds(ids(33), ids(33), 0x3, 0x7),
        who.reach(Kind::PTRACE, child, 16, 0),
        who.reach(Kind::PTRACE, Who::new(77, 1), 0x4206, 1),
        who.reach(Kind::VM_WRITE, child, 2, 0),
        who.module("dummy"),
        who.bpf("probe", 0),
        who.bpf("refused", 22),
        who.unshare(0x4002_0000, 4_026_532_000, 0),
        who.cgroup(78, "/system.slice/web.service/worker"),
        child.exit(9),
    ]
}
