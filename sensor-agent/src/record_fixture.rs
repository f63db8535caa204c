//! Records for tests, built from the contract's structures. Not a recording. It may call the event crate.

pub(crate) mod kinds;

use sensor_event::{
    Address, CONNECT_PENDING, ExecBody, ExecFlags, ExitBody, Family, FileBody, FileFlags, ForkBody, Header,
    Kind, NameBody, PathFlags, PathRef, RECORD_VERSION, RenameBody, SocketBody, SocketType, Tier,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// A process that acts, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) pid: u32,
    pub(crate) start_time_ns: u64,
    pub(crate) ppid: u32,
    pub(crate) parent_start_time_ns: u64,
    pub(crate) cgroup_id: u64,
    pub(crate) time_ns: u64,
}

impl Who {
    /// Process `pid`, started at `pid` milliseconds, child of `ppid`.
    pub(crate) fn new(pid: u32, ppid: u32) -> Self {
        let start = |pid: u32| u64::from(pid) * 1_000_000;
        Self {
            pid,
            start_time_ns: start(pid),
            ppid,
            parent_start_time_ns: start(ppid),
            cgroup_id: 1,
            time_ns: 1_000_000_000_000,
        }
    }

    pub(crate) fn at(self, time_ns: u64) -> Self {
        Self { time_ns, ..self }
    }

    pub(crate) fn in_cgroup(self, cgroup_id: u64) -> Self {
        Self { cgroup_id, ..self }
    }

    fn record(self, kind: Kind, body: &[u8], sections: &[&[u8]]) -> Vec<u8> {
        let len =
            size_of::<Header>() + body.len() + sections.iter().map(|section| section.len()).sum::<usize>();
        let header = Header {
            len: len as u32,
            kind,
            version: RECORD_VERSION,
            tier: Tier::TRACEPOINT,
            time_ns: self.time_ns,
            start_time_ns: self.start_time_ns,
            parent_start_time_ns: self.parent_start_time_ns,
            cgroup_id: self.cgroup_id,
            pid: self.pid,
            tid: self.pid,
            ppid: self.ppid,
            uid: 0,
            gid: 0,
            euid: 0,
            egid: 0,
            loginuid: u32::MAX,
            session_id: u32::MAX,
            mnt_ns: 0,
            pid_ns: 0,
            cpu: 0,
            comm: *b"comm\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(body);
        sections.iter().for_each(|section| bytes.extend_from_slice(section));
        bytes
    }

    /// An exec in `/srv` of the control group `/system.slice/web.service`.
    pub(crate) fn exec(self, exe: &str, argv: &[&str]) -> Vec<u8> {
        self.exec_with(exe, argv, ExecFlags::default(), PathFlags::default(), "")
    }

    /// An exec of a script.
    pub(crate) fn exec_script(self, exe: &str, script: &str, argv: &[&str]) -> Vec<u8> {
        self.exec_with(exe, argv, ExecFlags::SCRIPT, PathFlags::default(), script)
    }

    /// As [`Self::exec_script`], in a chroot at `/jail`, whose names the caller gives.
    pub(crate) fn exec_script_in_jail(self, exe: &str, script: &str, argv: &[&str]) -> Vec<u8> {
        let mut bytes = self.exec_script(&format!("/jail{exe}"), script, argv);
        let at = size_of::<Header>() + std::mem::offset_of!(ExecBody, exe);
        let root_components = at + std::mem::offset_of!(PathRef, root_components);
        let below = exe.split('/').filter(|part| !part.is_empty()).count() as u16;
        bytes[root_components..root_components + 2].copy_from_slice(&below.to_ne_bytes());
        bytes
    }

    pub(crate) fn exec_with(
        self,
        exe: &str,
        argv: &[&str],
        flags: ExecFlags,
        path_flags: PathFlags,
        script: &str,
    ) -> Vec<u8> {
        let (exe_path, cwd, cgroup) =
            (leaf_first(exe), leaf_first("/srv"), leaf_first("/system.slice/web.service"));
        let filename = if script.is_empty() { exe } else { script };
        let interpreter = if script.is_empty() { "" } else { exe };
        let argv: Vec<u8> = argv.iter().flat_map(|argument| argument.bytes().chain([0])).collect();
        let body = ExecBody {
            inode: inode(exe),
            dev: 1,
            mode: 0o100_755,
            flags,
            argc: 1,
            exe: reference(&exe_path, path_flags),
            cwd: reference(&cwd, PathFlags::default()),
            cgroup: reference(&cgroup, PathFlags::default()),
            filename_len: filename.len() as u16,
            interpreter_len: interpreter.len() as u16,
            argv_len: argv.len() as u16,
            exec_id: 1,
            ..ExecBody::new_zeroed()
        };
        let sections = [&exe_path[..], &cwd, &cgroup, filename.as_bytes(), interpreter.as_bytes(), &argv];
        self.record(Kind::EXEC, body.as_bytes(), &sections)
    }

    pub(crate) fn fork(self, child: Self) -> Vec<u8> {
        let body = ForkBody {
            child_start_time_ns: child.start_time_ns,
            child_parent_start_time_ns: child.parent_start_time_ns,
            child_cgroup_id: child.cgroup_id,
            child_pid: child.pid,
            child_ppid: child.ppid,
            new_namespaces: 0,
            reserved: 0,
        };
        self.record(Kind::FORK, body.as_bytes(), &[])
    }

    pub(crate) fn exit(self, wait_status: u32) -> Vec<u8> {
        self.record(Kind::EXIT, ExitBody { wait_status, reserved: 0 }.as_bytes(), &[])
    }

    pub(crate) fn connect(self, socket: u64, port: u16) -> Vec<u8> {
        self.socket(Kind::CONNECT, socket, port, CONNECT_PENDING)
    }

    pub(crate) fn connect_result(self, socket: u64, port: u16, result: i32) -> Vec<u8> {
        self.socket(Kind::CONNECT_RESULT, socket, port, result)
    }

    pub(crate) fn listen(self, port: u16) -> Vec<u8> {
        self.socket(Kind::LISTEN, 1, port, 0)
    }

    fn socket(self, kind: Kind, socket: u64, port: u16, result: i32) -> Vec<u8> {
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        let is_listen = kind == Kind::LISTEN;
        let body = SocketBody {
            socket,
            source: Address(mapped),
            destination: Address(if is_listen { [0; 16] } else { mapped }),
            source_port: if is_listen { port } else { 40_000 },
            destination_port: if is_listen { 0 } else { port },
            family: Family::INET6,
            protocol: 6,
            result,
            socket_type: SocketType::STREAM,
            reserved: 0,
            path: PathRef::default(),
        };
        self.record(kind, body.as_bytes(), &[])
    }

    pub(crate) fn open(self, path: &str, open_flags: u32, flags: FileFlags) -> Vec<u8> {
        let section = leaf_first(path);
        let body = FileBody {
            inode: inode(path),
            dev: 1,
            mode: 0o100_644,
            open_flags,
            flags,
            path: reference(&section, PathFlags::default()),
            ..FileBody::new_zeroed()
        };
        self.record(Kind::FILE_OPEN, body.as_bytes(), &[&section])
    }

    pub(crate) fn unlink(self, base: &str, name: &str, result: i32) -> Vec<u8> {
        let base = leaf_first(base);
        let body = NameBody {
            base: reference(&base, PathFlags::default()),
            name: reference(name.as_bytes(), PathFlags::CALLER),
            result,
            ..NameBody::new_zeroed()
        };
        self.record(Kind::FILE_UNLINK, body.as_bytes(), &[&base, name.as_bytes()])
    }

    pub(crate) fn rename(self, from: &str, to: &str, result: i32) -> Vec<u8> {
        let body = RenameBody {
            old_base: PathRef::default(),
            old_name: reference(from.as_bytes(), PathFlags::CALLER),
            new_base: PathRef::default(),
            new_name: reference(to.as_bytes(), PathFlags::CALLER),
            result,
            ..RenameBody::new_zeroed()
        };
        self.record(Kind::FILE_RENAME, body.as_bytes(), &[from.as_bytes(), to.as_bytes()])
    }
}

/// The inode number that a path has in these tests.
pub(crate) fn inode(path: &str) -> u64 {
    path.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte))
}

fn leaf_first(path: &str) -> Vec<u8> {
    path.split('/').rev().filter(|part| !part.is_empty()).flat_map(|part| part.bytes().chain([0])).collect()
}

fn reference(section: &[u8], flags: PathFlags) -> PathRef {
    let components = section.iter().filter(|byte| **byte == 0).count() as u16;
    PathRef { len: section.len() as u16, flags, root_components: components, reserved: 0 }
}
