//! Events as OCSF 1.8 objects, one JSON line each. Not the writer that buffers and flushes them. It may call
//! `event`, `finding` and `pipeline` types; no I/O.
//!
//! | event | class | activity |
//! |---|---|---|
//! | exec, fork | 1007 Process Activity | 1 Launch (launch type Exec, Fork) |
//! | exit | 1007 Process Activity | 2 Terminate |
//! | connect | 4001 Network Activity | 1 Open, 4 Fail, 5 Refuse |
//! | listen | 4001 Network Activity | 7 Listen |
//! | file open | 1001 File System Activity | 1 Create, 3 Update (truncating), 14 Open |
//! | unlink | 1001 File System Activity | 4 Delete |
//! | rename | 1001 File System Activity | 5 Rename |
//!
//! What OCSF has no place for is in `unmapped`.

mod model;

use crate::event::{Body, ConnectResult, Event, Exec, FileOpen, Fork, Identity, KernelPath, Socket};
use crate::finding::ProcessFacts;
use crate::pipeline::EnrichedEvent;
use model::{
    Activity, Actor, ConnectionInfo, Device, Endpoint, File, Launch, Metadata, Os, Process, Product, Status,
    Unmapped, User,
};
use sensor_baseline::UnixNs;
use sensor_event::ExecFlags;
use std::net::IpAddr;

/// The host that events are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel_release: String,
}

/// Turns events into lines.
#[derive(Clone, Debug)]
pub struct Ocsf {
    host: Host,
    boot_to_unix_offset_ns: i64,
}

impl Ocsf {
    /// For the events of one host and boot.
    #[must_use]
    pub const fn new(host: Host, boot_to_unix_offset_ns: i64) -> Self {
        Self { host, boot_to_unix_offset_ns }
    }

    /// Appends the event as one line, newline included. Nothing for a kind this build does not know.
    pub fn write_line(&self, event: &EnrichedEvent, line: &mut Vec<u8>) {
        let Some(activity) = self.activity(event) else { return };
        serde_json::to_writer(&mut *line, &activity)
            .expect("strings, numbers and maps with text keys are JSON");
        line.push(b'\n');
    }

    fn activity<'a>(&'a self, enriched: &'a EnrichedEvent) -> Option<Activity<'a>> {
        let mut activity = self.base(enriched);
        match &enriched.event.body {
            Body::Exec(exec) => self.exec(enriched, exec, &mut activity),
            Body::Fork(fork) => self.fork(enriched, fork, &mut activity),
            Body::Exit(exit) => {
                activity.classify(Class::Process, 2, "Terminate");
                activity.exit_code = Some(exit.code());
                activity.unmapped.signal = Some(exit.signal()).filter(|signal| *signal != 0);
                activity.process = enriched.process.as_ref().map(|facts| {
                    Box::new(self.process(facts, enriched.parent.as_ref(), Some(&enriched.event)))
                });
            }
            Body::Connect(socket) | Body::ConnectResult(socket) => connect(socket, &mut activity),
            Body::Listen(socket) => listen(socket, &mut activity),
            Body::FileOpen(file) => open(file, &mut activity),
            Body::Unlink(unlink) => {
                activity.classify(Class::File, 4, "Delete");
                activity.status(errno_status(unlink.result));
                let type_id = if unlink.is_directory() { FILE_TYPE_FOLDER } else { FILE_TYPE_UNKNOWN };
                activity.file = Some(file_object(&unlink.path, type_id));
                activity.unmapped.path_flags = unlink.path.flag_names().collect();
            }
            Body::Rename(rename) => {
                activity.classify(Class::File, 5, "Rename");
                activity.status(errno_status(rename.result));
                activity.file = Some(file_object(&rename.from, FILE_TYPE_UNKNOWN));
                activity.file_result = Some(file_object(&rename.to, FILE_TYPE_UNKNOWN));
                let mut flags: Vec<_> = rename.from.flag_names().chain(rename.to.flag_names()).collect();
                flags.sort_unstable();
                flags.dedup();
                activity.unmapped.path_flags = flags;
                activity.unmapped.rename_flags = Some(rename.rename_flags).filter(|flags| *flags != 0);
            }
            _ => return None,
        }
        Some(activity)
    }

    fn base<'a>(&'a self, enriched: &'a EnrichedEvent) -> Activity<'a> {
        let event = &enriched.event;
        let cgroup =
            enriched.process.as_ref().map(|facts| facts.cgroup.as_str()).filter(|path| !path.is_empty());
        Activity {
            time: millis(enriched.time),
            severity_id: 1,
            severity: "Informational",
            metadata: Metadata {
                version: OCSF_VERSION,
                product: Product {
                    name: "Sensor",
                    vendor_name: "Sensor",
                    version: env!("CARGO_PKG_VERSION"),
                },
                profiles: &["host", "linux/linux_users"],
            },
            device: Device {
                hostname: &self.host.hostname,
                type_id: 0,
                os: Os { name: "Linux", type_id: 200, kernel_release: &self.host.kernel_release },
            },
            actor: enriched
                .process
                .as_ref()
                .map(|facts| Actor { process: self.process(facts, enriched.parent.as_ref(), Some(event)) }),
            unmapped: Unmapped {
                tier: event.tier.name(),
                workload: Some(enriched.workload.0.as_str()).filter(|name| !name.is_empty()),
                cgroup,
                ..Unmapped::default()
            },
            ..Activity::default()
        }
    }

    fn exec<'a>(&'a self, enriched: &'a EnrichedEvent, exec: &'a Exec, activity: &mut Activity<'a>) {
        activity.classify(Class::Process, 1, "Launch");
        activity.launch(Launch::Exec);
        activity.status(Some(Status::success()));
        self.launched(enriched, activity);
        if let Some(process) = &mut activity.process {
            process.file = Some(file_object(&exec.exe, FILE_TYPE_REGULAR));
        }
        let flag = |flag: ExecFlags, name| exec.flags.contains(flag).then_some(name);
        let unmapped = &mut activity.unmapped;
        unmapped.path_flags = exec.exe.flag_names().collect();
        unmapped.argv = Some(&exec.argv);
        unmapped.argc = Some(exec.argc);
        unmapped.filename = Some(&exec.filename);
        unmapped.script = exec.is_script().then_some(exec.filename_absolute.as_str());
        unmapped.interpreter = Some(exec.interpreter.as_str()).filter(|text| !text.is_empty());
        unmapped.exe_in_chroot = exec.exe.in_chroot.as_deref();
        unmapped.exec_flags = [
            flag(ExecFlags::ARGV_TRUNCATED, "argv_truncated"),
            flag(ExecFlags::ARGV_FAULT, "argv_fault"),
            flag(ExecFlags::SCRIPT, "script"),
            flag(ExecFlags::SECURE, "secure"),
            flag(ExecFlags::MEMFD, "memfd"),
        ]
        .into_iter()
        .flatten()
        .collect();
    }

    fn fork<'a>(&'a self, enriched: &'a EnrichedEvent, _fork: &Fork, activity: &mut Activity<'a>) {
        activity.classify(Class::Process, 1, "Launch");
        activity.launch(Launch::Fork);
        activity.status(Some(Status::success()));
        self.launched(enriched, activity);
    }

    /// A launch: the new process, and its parent as the one that launched it.
    fn launched<'a>(&'a self, enriched: &'a EnrichedEvent, activity: &mut Activity<'a>) {
        let Some(facts) = &enriched.process else { return };
        let header = matches!(enriched.event.body, Body::Exec(_)).then_some(&enriched.event);
        let parent = enriched.parent.as_ref();
        activity.process = Some(Box::new(self.process(facts, parent, header)));
        activity.actor = match parent {
            Some(parent) => Some(Actor { process: self.process(parent, None, None) }),
            None => Some(Actor { process: bare_process(enriched.event.actor.parent) }),
        };
    }

    /// `header` is the event whose header describes this very process.
    fn process<'a>(
        &self,
        facts: &'a ProcessFacts,
        parent: Option<&'a ProcessFacts>,
        header: Option<&Event>,
    ) -> Process<'a> {
        let parent_process = match (parent, header) {
            (Some(parent), _) => Some(Box::new(self.process(parent, None, None))),
            (None, Some(event)) if event.actor.parent.pid != 0 => {
                Some(Box::new(bare_process(event.actor.parent)))
            }
            _ => None,
        };
        let start = facts.start_time_ns.saturating_add_signed(self.boot_to_unix_offset_ns);
        Process {
            pid: facts.pid,
            uid: Some(unique(Identity { pid: facts.pid, start_time_ns: facts.start_time_ns })),
            name: Some(&facts.comm),
            created_time: Some(millis(UnixNs(start))),
            file: (!facts.exe.is_empty()).then(|| file_named(&facts.exe, FILE_TYPE_REGULAR)),
            cmd_line: (!facts.argv.is_empty()).then(|| facts.argv.join(" ")),
            working_directory: Some(facts.cwd.as_str()).filter(|cwd| !cwd.is_empty()),
            user: Some(User { uid: facts.uid.to_string() }),
            euid: Some(facts.euid),
            egid: header.map(|event| event.actor.egid),
            auid: header.and_then(|event| event.actor.loginuid),
            tid: header.map(|event| event.actor.tid),
            parent_process,
        }
    }
}

/// The class of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// 1001.
    File,
    /// 1007.
    Process,
    /// 4001.
    Network,
}

fn connect(socket: &Socket, activity: &mut Activity<'_>) {
    let (id, name) = match socket.result {
        ConnectResult::Pending | ConnectResult::Established => (1, "Open"),
        ConnectResult::Failed(ECONNREFUSED) => (5, "Refuse"),
        ConnectResult::Failed(_) => (4, "Fail"),
    };
    activity.classify(Class::Network, id, name);
    activity.status(match socket.result {
        ConnectResult::Pending => None,
        ConnectResult::Established => Some(Status::success()),
        ConnectResult::Failed(errno) => errno_status(errno),
    });
    activity.src_endpoint = Some(Endpoint { ip: socket.source.to_string(), port: socket.source_port });
    activity.dst_endpoint =
        Some(Endpoint { ip: socket.destination.to_string(), port: socket.destination_port });
    activity.connection_info = Some(connection(socket, socket.destination, 2, "Outbound"));
}

fn listen(socket: &Socket, activity: &mut Activity<'_>) {
    activity.classify(Class::Network, 7, "Listen");
    activity.status(Some(Status::success()));
    activity.src_endpoint = Some(Endpoint { ip: socket.source.to_string(), port: socket.source_port });
    activity.connection_info = Some(connection(socket, socket.source, 1, "Inbound"));
}

fn connection(socket: &Socket, address: IpAddr, direction_id: u8, direction: &'static str) -> ConnectionInfo {
    ConnectionInfo {
        protocol_num: socket.protocol,
        protocol_name: (socket.protocol == 6).then_some("tcp"),
        protocol_ver_id: if address.is_ipv4() { 4 } else { 6 },
        direction_id,
        direction,
    }
}

fn open<'a>(file: &'a FileOpen, activity: &mut Activity<'a>) {
    let (id, name) = match (file.is_created(), file.open_flags & O_TRUNC != 0) {
        (true, _) => (1, "Create"),
        (false, true) => (3, "Update"),
        (false, false) => (14, "Open"),
    };
    activity.classify(Class::File, id, name);
    activity.status(Some(Status::success()));
    activity.file = Some(file_object(&file.path, file_type(file.mode)));
    activity.unmapped.path_flags = file.path.flag_names().collect();
    activity.unmapped.open_flags = Some(file.open_flags);
    activity.unmapped.inode = Some(file.inode);
    activity.unmapped.dev = Some(file.dev);
}

fn file_object(path: &KernelPath, type_id: u8) -> File<'_> {
    file_named(&path.text, type_id)
}

fn file_named(path: &str, type_id: u8) -> File<'_> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = if name.is_empty() { path } else { name };
    File { name, path, parent_folder: if folder.is_empty() { "/" } else { folder }, type_id }
}

fn bare_process(identity: Identity) -> Process<'static> {
    Process { pid: identity.pid, uid: Some(unique(identity)), ..Process::default() }
}

fn unique(identity: Identity) -> String {
    format!("{}-{}", identity.pid, identity.start_time_ns)
}

fn errno_status(errno: i32) -> Option<Status> {
    Some(if errno == 0 { Status::success() } else { Status::failure(errno) })
}

const fn millis(time: UnixNs) -> u64 {
    time.0 / 1_000_000
}

const fn file_type(mode: u32) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => FILE_TYPE_REGULAR,
        0o040_000 => FILE_TYPE_FOLDER,
        0o020_000 => 3,
        0o060_000 => 4,
        0o140_000 => 5,
        0o010_000 => 6,
        0o120_000 => 7,
        _ => FILE_TYPE_UNKNOWN,
    }
}

const OCSF_VERSION: &str = "1.8.0";
const ECONNREFUSED: i32 = 111;
const O_TRUNC: u32 = 0o1_000;
const FILE_TYPE_UNKNOWN: u8 = 0;
const FILE_TYPE_REGULAR: u8 = 1;
const FILE_TYPE_FOLDER: u8 = 2;

#[cfg(test)]
mod tests;
