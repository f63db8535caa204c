//! Events as OCSF 1.8 objects, one JSON line each. Not the writer that buffers and flushes them. It may call
//! `event`, `finding` and `pipeline` types; no I/O.
//!
//! | event | class | activity |
//! |---|---|---|
//! | exec, fork | 1007 Process Activity | 1 Launch (launch type Exec, Fork) |
//! | exit | 1007 Process Activity | 2 Terminate |
//! | creds | 1007 Process Activity | 5 Set User ID; 99 Set Group ID, Set Capabilities |
//! | ptrace | 1007 Process Activity | 4 Inject (injection type 99 ptrace) |
//! | process | 5015 Process Query | 1 Query (result 1 Exists) |
//! | vm_write | 1004 Memory Activity | 8 Write |
//! | connect | 4001 Network Activity | 1 Open, 4 Fail, 5 Refuse |
//! | accept | 4001 Network Activity | 1 Open (inbound) |
//! | send | 4001 Network Activity | 6 Traffic |
//! | listen | 4001 Network Activity | 7 Listen |
//! | socket | 4001 Network Activity | 99 Socket |
//! | file open | 1001 File System Activity | 1 Create, 3 Update (truncating), 14 Open |
//! | unlink | 1001 File System Activity | 4 Delete |
//! | rename | 1001 File System Activity | 5 Rename |
//! | link, symlink, mkdir, memfd | 1001 File System Activity | 1 Create |
//! | truncate | 1001 File System Activity | 3 Update |
//! | setxattr | 1001 File System Activity | 6 Set Attributes |
//! | chmod, chown | 1001 File System Activity | 7 Set Security |
//! | mount | 1001 File System Activity | 12 Mount, 13 Unmount |
//! | exec_map | 1005 Module Activity | 1 Load (load type 4 Mapped) |
//! | module_load | 1002 Kernel Extension Activity | 1 Load |
//! | bpf_load | 1003 Kernel Activity | 1 Create |
//! | namespace | 1003 Kernel Activity | 4 Invoke |
//! | cgroup | 1003 Kernel Activity | 1 Create |
//!
//! What OCSF has no place for is in `unmapped`.

mod file;
mod model;
pub(crate) mod network;
mod objects;
mod privilege;
mod who;

use crate::event::{Body, Event, Exec, Fork, Identity, KernelPath, names};
use crate::finding::ProcessFacts;
use crate::pipeline::EnrichedEvent;
use file::file_named;
use model::{Activity, Device, File, Launch, Metadata, Os, Process, Product, Status, Unmapped};
use sensor_baseline::UnixNs;
use sensor_event::ExecFlags;

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
            Body::Creds(creds) => self.creds(enriched, creds, &mut activity),
            Body::Ptrace(target) => self.ptrace(enriched, target, &mut activity),
            Body::VmWrite(target) => self.vm_write(enriched, target, &mut activity),
            Body::Process(exec) => {
                self.process_found(enriched, &mut activity);
                of_program(exec, &mut activity);
            }
            Body::Connect(_)
            | Body::ConnectResult(_)
            | Body::Listen(_)
            | Body::Accept(_)
            | Body::Send(_)
            | Body::Socket(_) => self.network(&enriched.event.body, &mut activity),
            Body::ModuleLoad(module) => privilege::module(module, &mut activity),
            Body::BpfLoad(bpf) => privilege::bpf(bpf, &mut activity),
            Body::Namespace(namespace) => privilege::namespace(namespace, &mut activity),
            Body::Cgroup(cgroup) => privilege::cgroup(cgroup, &mut activity),
            Body::Unknown(_) => return None,
            of_file => file_activity(of_file, &mut activity),
        }
        if let (Some(facts), Some(file)) = (&enriched.process, &activity.file) {
            activity.unmapped.who.path_on_host = facts.on_host(file.path);
        }
        Some(activity)
    }

    fn network<'a>(&'a self, body: &'a Body, activity: &mut Activity<'a>) {
        match body {
            Body::Connect(socket) | Body::ConnectResult(socket) => network::connect(socket, activity),
            Body::Listen(socket) => network::listen(socket, activity),
            Body::Accept(socket) => network::accept(socket, activity),
            Body::Send(socket) => network::send(socket, activity),
            Body::Socket(socket) => network::socket(socket, &self.host.hostname, activity),
            _ => {}
        }
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
                profiles: match enriched.process.as_ref().and_then(who::container) {
                    Some(_) => &["host", "linux/linux_users", "container"],
                    None => &["host", "linux/linux_users"],
                },
            },
            device: Device {
                hostname: &self.host.hostname,
                type_id: 0,
                os: Os { name: "Linux", type_id: 200, kernel_release: &self.host.kernel_release },
            },
            actor: enriched.process.as_ref().map(|facts| {
                who::actor(self.process(facts, enriched.parent.as_ref(), Some(event)), Some(facts))
            }),
            unmapped: Unmapped {
                tier: event.tier.name(),
                workload: Some(enriched.workload_name().0).filter(|name| !name.is_empty()),
                cgroup,
                who: enriched.process.as_ref().map(who::unmapped).unwrap_or_default(),
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
            let hashes = process.file.take().map(|file| file.hashes).unwrap_or_default();
            process.file = Some(File { hashes, ..file_object(&exec.exe, FILE_TYPE_REGULAR) });
        }
        of_program(exec, activity);
        let unmapped = &mut activity.unmapped;
        unmapped.argv = Some(&exec.argv);
        unmapped.argc = Some(exec.argc);
        unmapped.filename = Some(&exec.filename);
        unmapped.script = exec.is_script().then_some(exec.filename_absolute.as_str());
        unmapped.interpreter = Some(exec.interpreter.as_str()).filter(|text| !text.is_empty());
        unmapped.details.capabilities_gained =
            enriched.capabilities_gained.map(names::capabilities).unwrap_or_default();
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
            Some(parent) => Some(who::actor(self.process(parent, None, None), Some(parent))),
            None => Some(who::actor(bare_process(enriched.event.actor.parent), None)),
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
            file: (!facts.exe.is_empty())
                .then(|| File { hashes: who::hashes(facts), ..file_named(&facts.exe, FILE_TYPE_REGULAR) }),
            cmd_line: (!facts.argv.is_empty()).then(|| facts.argv.joined()),
            working_directory: Some(facts.cwd.as_str()).filter(|cwd| !cwd.is_empty()),
            user: Some(who::user(facts)),
            group: Some(who::group(facts)),
            session: who::session(facts),
            container: who::container(facts),
            euid: Some(facts.euid),
            egid: Some(facts.egid),
            auid: facts.login_uid,
            tid: header.map(|event| event.actor.tid),
            parent_process,
        }
    }
}

/// What is known of a program that runs, however it was learnt.
fn of_program<'a>(exec: &'a Exec, activity: &mut Activity<'a>) {
    let flag = |flag: ExecFlags, name| exec.flags.contains(flag).then_some(name);
    let unmapped = &mut activity.unmapped;
    unmapped.path_flags = exec.exe.flag_names().collect();
    unmapped.exe_in_chroot = exec.exe.in_chroot.as_deref();
    unmapped.exec_flags = [
        flag(ExecFlags::ARGV_TRUNCATED, "argv_truncated"),
        flag(ExecFlags::ARGV_FAULT, "argv_fault"),
        flag(ExecFlags::SCRIPT, "script"),
        flag(ExecFlags::SECURE, "secure"),
        flag(ExecFlags::MEMFD, "memfd"),
        flag(ExecFlags::UPPER_LAYER, "upper_layer"),
    ]
    .into_iter()
    .flatten()
    .collect();
    unmapped.inode = Some(exec.inode).filter(|inode| *inode != 0);
    unmapped.dev = unmapped.inode.map(|_| exec.dev);
    unmapped.details.tty = Some(exec.tty.as_str()).filter(|tty| !tty.is_empty());
    let is_known = exec.namespaces != sensor_event::Namespaces::default();
    unmapped.details.namespaces = is_known.then(|| exec.namespaces.into());
}

fn file_activity<'a>(body: &'a Body, activity: &mut Activity<'a>) {
    match body {
        Body::FileOpen(file) => file::open(file, activity),
        Body::ExecMap(file) => file::exec_map(file, activity),
        Body::Memfd(file) => file::memfd(file, activity),
        Body::Unlink(name) => file::unlink(name, activity),
        Body::Symlink(name) => file::symlink(name, activity),
        Body::Mkdir(name) => file::mkdir(name, activity),
        Body::Chmod(name) => file::chmod(name, activity),
        Body::Chown(name) => file::chown(name, activity),
        Body::Truncate(name) => file::truncate(name, activity),
        Body::Setxattr(name) => file::setxattr(name, activity),
        Body::Mount(name) => file::mount(name, activity),
        Body::Rename(rename) => file::rename(rename, activity),
        Body::Link(link) => file::link(link, activity),
        _ => {}
    }
}

/// The class of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// 1001.
    File,
    /// 1002.
    KernelExtension,
    /// 1003.
    Kernel,
    /// 1004.
    Memory,
    /// 1005.
    Module,
    /// 1007.
    Process,
    /// 4001.
    Network,
    /// 5015.
    ProcessQuery,
}

fn file_object(path: &KernelPath, type_id: u8) -> File<'_> {
    file_named(&path.text, type_id)
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

const OCSF_VERSION: &str = "1.8.0";
const FILE_TYPE_UNKNOWN: u8 = 0;
const FILE_TYPE_REGULAR: u8 = 1;
const FILE_TYPE_FOLDER: u8 = 2;

#[cfg(test)]
mod tests;
