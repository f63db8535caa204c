//! OCSF objects of some classes only, and details that OCSF has no place for, as serde structures. Not what fills
//! them. It may call serde only.

use super::model::File;
use serde::Serialize;
use std::borrow::Cow;

/// What some classes have besides what all have.
#[derive(Debug, Default, Serialize)]
pub(super) struct Objects<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) module: Option<Module<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) driver: Option<Driver<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<Kernel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) injection_type_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) injection_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_result_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_result: Option<&'static str>,
}

/// Code mapped into a process.
#[derive(Debug, Serialize)]
pub(super) struct Module<'a> {
    pub(super) file: File<'a>,
    pub(super) load_type_id: u8,
    pub(super) load_type: &'static str,
}

/// A kernel module.
#[derive(Debug, Serialize)]
pub(super) struct Driver<'a> {
    pub(super) file: DriverFile<'a>,
}

/// Its file: the kernel keeps the module's name only.
#[derive(Debug, Serialize)]
pub(super) struct DriverFile<'a> {
    pub(super) name: &'a str,
    pub(super) type_id: u8,
}

/// Something the kernel was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Kernel<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) type_id: u8,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) system_call: &'static str,
}

/// One end of a connection; of a unix socket its name, of one without an address the host.
#[derive(Debug, Default, Serialize)]
pub(super) struct Endpoint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct ConnectionInfo {
    /// An IANA number, -1 for what IANA does not number.
    pub(super) protocol_num: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol_name: Option<&'static str>,
    pub(super) protocol_ver_id: u8,
    pub(super) direction_id: u8,
    pub(super) direction: &'static str,
}

/// Details of some kinds that OCSF has no place for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) io_uring: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) open_flags_from_caller: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_in_chroot: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner_uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner_gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) xattr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mount_source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mount_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mount_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link_flags: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protection: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memfd_flags: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) socket_family: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) socket_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) socket_protocol: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ids_before: Option<IdsObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ids_after: Option<IdsObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) capabilities_gained: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) capabilities_dropped: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities_permitted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities_effective: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) given_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) areas: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taints: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bpf_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bpf_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bpf_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bpf_instructions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cgroup_id: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) namespaces_changed: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespaces: Option<NamespacesObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tty: Option<&'a str>,
}

/// User and group ids.
#[derive(Debug, Serialize)]
pub(super) struct IdsObject {
    pub(super) uid: u32,
    pub(super) euid: u32,
    pub(super) gid: u32,
    pub(super) egid: u32,
}

impl From<sensor_event::Ids> for IdsObject {
    fn from(ids: sensor_event::Ids) -> Self {
        Self { uid: ids.uid, euid: ids.euid, gid: ids.gid, egid: ids.egid }
    }
}

/// Inode numbers of namespaces.
#[derive(Debug, Serialize)]
pub(super) struct NamespacesObject {
    mnt: u32,
    pid: u32,
    net: u32,
    user: u32,
    uts: u32,
    ipc: u32,
    cgroup: u32,
    time: u32,
}

impl From<sensor_event::Namespaces> for NamespacesObject {
    fn from(namespaces: sensor_event::Namespaces) -> Self {
        let sensor_event::Namespaces { mnt, pid, net, user, uts, ipc, cgroup, time } = namespaces;
        Self { mnt, pid, net, user, uts, ipc, cgroup, time }
    }
}
