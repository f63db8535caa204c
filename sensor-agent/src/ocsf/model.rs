//! The OCSF objects that are written, as serde structures. Not what fills them. It may call serde and `event`'s types.

use super::Class;
use super::objects::{ConnectionInfo, Details, Endpoint, Objects};
use crate::event::Arguments;
use serde::Serialize;
use std::borrow::Cow;

/// One event of any class.
#[derive(Debug, Default, Serialize)]
pub(super) struct Activity<'a> {
    pub(super) class_uid: u32,
    pub(super) class_name: &'static str,
    pub(super) category_uid: u32,
    pub(super) category_name: &'static str,
    pub(super) activity_id: u32,
    pub(super) activity_name: &'static str,
    pub(super) type_uid: u32,
    pub(super) time: u64,
    pub(super) severity_id: u8,
    pub(super) severity: &'static str,
    pub(super) status_id: u8,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_code: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) device: Device<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) actor: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<Box<Process<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) launch_type_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) launch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file_result: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) src_endpoint: Option<Endpoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dst_endpoint: Option<Endpoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_info: Option<ConnectionInfo>,
    #[serde(flatten)]
    pub(super) objects: Objects<'a>,
    pub(super) unmapped: Unmapped<'a>,
}

impl Activity<'_> {
    /// Sets class, category, activity and what follows from them.
    pub(super) const fn classify(&mut self, class: Class, activity_id: u32, activity_name: &'static str) {
        let (class_uid, class_name, category_uid, category_name) = match class {
            Class::File => (1001, "File System Activity", 1, "System Activity"),
            Class::KernelExtension => (1002, "Kernel Extension Activity", 1, "System Activity"),
            Class::Kernel => (1003, "Kernel Activity", 1, "System Activity"),
            Class::Memory => (1004, "Memory Activity", 1, "System Activity"),
            Class::Module => (1005, "Module Activity", 1, "System Activity"),
            Class::Process => (1007, "Process Activity", 1, "System Activity"),
            Class::Network => (4001, "Network Activity", 4, "Network Activity"),
            Class::ProcessQuery => (5015, "Process Query", 5, "Discovery"),
        };
        self.class_uid = class_uid;
        self.class_name = class_name;
        self.category_uid = category_uid;
        self.category_name = category_name;
        self.activity_id = activity_id;
        self.activity_name = activity_name;
        self.type_uid = class_uid * 100 + activity_id;
        self.status_id = 0;
        self.status = "Unknown";
    }

    /// Sets the outcome, when it is known.
    pub(super) fn status(&mut self, status: Option<Status>) {
        let Some(status) = status else { return };
        (self.status_id, self.status) = if status.errno == 0 { (1, "Success") } else { (2, "Failure") };
        self.status_code = (status.errno != 0).then(|| errno_name(status.errno));
    }

    /// Sets how a process was launched.
    pub(super) const fn launch(&mut self, launch: Launch) {
        let (id, name) = match launch {
            Launch::Fork => (2, "Fork"),
            Launch::Exec => (3, "Exec"),
        };
        self.launch_type_id = Some(id);
        self.launch_type = Some(name);
    }
}

/// How a process was launched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Launch {
    Fork,
    Exec,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    errno: i32,
}

impl Status {
    pub(super) const fn success() -> Self {
        Self { errno: 0 }
    }

    pub(super) const fn failure(errno: i32) -> Self {
        Self { errno }
    }
}

fn errno_name(errno: i32) -> String {
    match nix::errno::Errno::from_raw(errno) {
        nix::errno::Errno::UnknownErrno => errno.to_string(),
        known => format!("{known:?}"),
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Metadata {
    pub(super) version: &'static str,
    pub(super) product: Product,
    pub(super) profiles: &'static [&'static str],
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Product {
    pub(super) name: &'static str,
    pub(super) vendor_name: &'static str,
    pub(super) version: &'static str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Device<'a> {
    pub(super) hostname: &'a str,
    pub(super) type_id: u8,
    pub(super) os: Os<'a>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Os<'a> {
    pub(super) name: &'static str,
    pub(super) type_id: u16,
    pub(super) kernel_release: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Actor<'a> {
    pub(super) process: Process<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Session<'a>>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Process<'a> {
    pub(super) pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cmd_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) working_directory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<Group<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Session<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<Container<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) euid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) egid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_process: Option<Box<Self>>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct User<'a> {
    pub(super) uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Group<'a> {
    pub(super) uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
}

/// A login, by the name logind gives it, else by that of the kernel's audit subsystem.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Session<'a> {
    pub(super) uid: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid_alt: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Container<'a> {
    pub(super) uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<Image<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod_uuid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) orchestrator: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Image<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Fingerprint<'a> {
    pub(super) algorithm_id: u8,
    pub(super) algorithm: &'static str,
    pub(super) value: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a str,
    pub(super) parent_folder: &'a str,
    pub(super) type_id: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) hashes: Vec<Fingerprint<'a>>,
}

/// What OCSF has no place for of who did it.
#[derive(Debug, Default, Serialize)]
pub(super) struct WhoUnmapped<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<OriginObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) euser: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) egroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) login_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) container_namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) container_missing: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod_namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod_qos: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exe_on_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_on_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hash_missing: Option<&'static str>,
}

/// Where a process comes from, and which ancestor says so.
#[derive(Debug, Serialize)]
pub(super) struct OriginObject<'a> {
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exe: Option<&'a str>,
}

/// What OCSF has no place for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Unmapped<'a> {
    pub(super) tier: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cgroup: Option<&'a str>,
    #[serde(flatten)]
    pub(super) who: WhoUnmapped<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) path_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) argv: Option<&'a Arguments>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) argc: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) script: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interpreter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exe_in_chroot: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) exec_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_flags: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dev: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rename_flags: Option<u32>,
    #[serde(flatten)]
    pub(super) details: Details<'a>,
}
