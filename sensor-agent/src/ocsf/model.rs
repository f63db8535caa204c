//! The OCSF objects that are written, as serde structures. Not what fills them. It may call serde only.

use super::Class;
use serde::Serialize;

/// One event of any of the three classes.
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
    pub(super) src_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dst_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_info: Option<ConnectionInfo>,
    pub(super) unmapped: Unmapped<'a>,
}

impl Activity<'_> {
    /// Sets class, category, activity and what follows from them.
    pub(super) const fn classify(&mut self, class: Class, activity_id: u32, activity_name: &'static str) {
        let (class_uid, class_name, category_uid, category_name) = match class {
            Class::File => (1001, "File System Activity", 1, "System Activity"),
            Class::Process => (1007, "Process Activity", 1, "System Activity"),
            Class::Network => (4001, "Network Activity", 4, "Network Activity"),
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
    pub(super) user: Option<User>,
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

#[derive(Debug, Serialize)]
pub(super) struct User {
    pub(super) uid: String,
}

#[derive(Debug, Serialize)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a str,
    pub(super) parent_folder: &'a str,
    pub(super) type_id: u8,
}

#[derive(Debug, Serialize)]
pub(super) struct Endpoint {
    pub(super) ip: String,
    pub(super) port: u16,
}

#[derive(Debug, Serialize)]
pub(super) struct ConnectionInfo {
    pub(super) protocol_num: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol_name: Option<&'static str>,
    pub(super) protocol_ver_id: u8,
    pub(super) direction_id: u8,
    pub(super) direction: &'static str,
}

/// What OCSF has no place for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Unmapped<'a> {
    pub(super) tier: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) path_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) argv: Option<&'a [String]>,
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
}
