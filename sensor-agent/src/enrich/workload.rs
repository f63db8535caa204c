//! Which workload a control group is, and which path a control group id has. Not where a process is: that is the
//! process table's. It may call the baseline crate's types; no I/O.
//!
//! | cgroup v2 path | workload |
//! |---|---|
//! | `/` | `host` |
//! | a component that carries a container id (64 hex digits) | `container:` and the image's repository, or, while that is not known, the id's first 12 digits |
//! | `/NAMESPACE/ID` of the containerd shim above the process | the same, with `NAMESPACE/ID` when ID is no such id |
//! | below `user.slice` | `session:root` or `session:user`, by the login that `user-UID.slice` names |
//! | the first `.service` or `.scope` from the root, below slices only | `unit:NAME` |
//! | anything else | `cgroup:PATH` |
//!
//! The first match from the root wins: what is below a unit, a container or a session is named by whoever runs in
//! it, and must not be able to borrow another workload's name.

use crate::enrich::origin::Shim;
use crate::enrich::recent::Recent;
use crate::event::{BootNs, KernelPath};
use crate::who::place::{ContainerRef, container, is_container_id, is_unit, login_uid};
use sensor_baseline::Workload;
use std::sync::Arc;

/// A control group a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Its path; `None` when no record and no scan has told.
    pub path: Option<Arc<str>>,
}

impl Placement {
    /// The workload of a process of user `uid` below `shim` in this control group.
    #[must_use]
    pub fn workload(&self, uid: u32, shim: Option<&Shim>) -> Workload {
        match &self.path {
            Some(path) => workload_of(path, uid, shim),
            None => Workload(format!("cgroup:#{}", self.cgroup_id)),
        }
    }
}

/// The workload that owns the control group at `path`, of a process of user `uid` below the container shim `shim`.
#[must_use]
pub fn workload_of(path: &str, uid: u32, shim: Option<&Shim>) -> Workload {
    if path.is_empty() || path == "/" {
        return Workload("host".to_owned());
    }
    let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
    for (depth, component) in components.iter().enumerate() {
        if let Some(container) = container(&components[..=depth], shim) {
            return container_workload(&container);
        }
        if depth == 0 && *component == "user.slice" {
            // Whose login it is, not who a process has become since: sudo does not leave its session.
            let login = components.get(1).and_then(|slice| login_uid(slice)).unwrap_or(uid);
            return Workload(if login == 0 { "session:root" } else { "session:user" }.to_owned());
        }
        // A slice is systemd's own; below anything else whoever has the group may make what looks like a unit.
        if is_unit(component) && components[..depth].iter().all(|above| above.ends_with(".slice")) {
            return Workload(format!("unit:{component}"));
        }
    }
    Workload(format!("cgroup:{path}"))
}

/// What a container is as a workload as long as its image is not known.
#[must_use]
pub fn container_workload(container: &ContainerRef) -> Workload {
    Workload(format!("container:{}", short_id(container)))
}

/// What every container of an image is as a workload: `container:` and the image's repository, without tag and digest, in
/// the long form of Docker's references, so that `nginx` and `docker.io/library/nginx:1.27` are one. `None` for what is no
/// name, such as an image's own id.
#[must_use]
pub fn image_workload(image: &str) -> Option<Workload> {
    let named = image.split('@').next().unwrap_or_default();
    // A colon before the last slash is that of a port.
    let slash = named.rfind('/').map_or(0, |at| at + 1);
    let repository = named[slash..].find(':').map_or(named, |at| &named[..slash + at]);
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    let is_name = !repository.is_empty()
        && repository.len() <= IMAGE_BYTES_MAX
        && repository.bytes().all(is_plain)
        && !repository.split('/').any(str::is_empty)
        && repository != "sha256"
        && !is_container_id(repository);
    if !is_name {
        return None;
    }
    let (host, below) = repository.split_once('/').unwrap_or(("", repository));
    let has_host = host.contains(['.', ':']) || host == "localhost";
    Some(Workload(match (has_host, host) {
        (true, _) => format!("container:{repository}"),
        (false, "") => format!("container:docker.io/library/{below}"),
        (false, _) => format!("container:docker.io/{repository}"),
    }))
}

/// The first digits of a container id; a name of another form whole, behind its namespace, so that it is never taken
/// for digits.
fn short_id(container: &ContainerRef) -> String {
    match &container.namespace {
        _ if is_container_id(&container.id) => container.id[..CONTAINER_ID_DIGITS].to_owned(),
        Some(namespace) => format!("{namespace}/{}", container.id),
        None => container.id.clone(),
    }
}

/// Paths of control groups by id, learnt from the scan at start and from exec records.
#[derive(Debug)]
pub struct CgroupTable {
    paths: Recent<u64, Arc<str>>,
}

impl Default for CgroupTable {
    fn default() -> Self {
        Self { paths: Recent::new(CGROUPS_MAX, u64::MAX) }
    }
}

impl CgroupTable {
    /// Remembers the path the kernel gave.
    pub fn learn(&mut self, cgroup_id: u64, path: &KernelPath, now: BootNs) {
        if !path.is_incomplete() {
            self.learn_text(cgroup_id, &path.text, now);
        }
    }

    /// Remembers a path.
    pub fn learn_text(&mut self, cgroup_id: u64, path: &str, now: BootNs) {
        let known = self.paths.find(&cgroup_id, now).filter(|known| ***known == *path).cloned();
        // Also one that is known: what is used stays, whoever makes many groups.
        self.paths.put(cgroup_id, known.unwrap_or_else(|| Arc::from(path)), now);
    }

    /// Where a process with this cgroup id is.
    #[must_use]
    pub fn place(&self, cgroup_id: u64, now: BootNs) -> Placement {
        Placement { cgroup_id, path: self.paths.find(&cgroup_id, now).cloned() }
    }

    /// Paths that went to make room.
    #[must_use]
    pub const fn evicted_count(&self) -> u64 {
        self.paths.evicted_count()
    }
}

/// Control groups remembered at most.
const CGROUPS_MAX: usize = 16_384;
const CONTAINER_ID_DIGITS: usize = 12;
/// An image's repository is no longer, `reference.NameTotalLengthMax` of distribution.
const IMAGE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn workload_follows_the_table() {
        let check = |path: &str, uid: u32, expected: &str| {
            assert_eq!(workload_of(&path.replace("ID", ID), uid, None).0, expected, "{path}");
        };
        check("/", 0, "host");
        check("", 0, "host");
        check("/system.slice/nginx.service", 0, "unit:nginx.service");
        check("/system.slice/system-getty.slice/getty@tty1.service", 0, "unit:getty@tty1.service");
        check("/init.scope", 0, "unit:init.scope");
        check("/user.slice/user-0.slice/session-3.scope", 0, "session:root");
        check("/user.slice/user-1000.slice/session-3.scope", 1000, "session:user");
        check("/user.slice/user-1000.slice/session-3.scope", 0, "session:user");
        check("/user.slice/user-0.slice/session-3.scope", 33, "session:root");
        check("/user.slice", 0, "session:root");
        check("/user.slice/other.slice", 7, "session:user");
        check("/system.slice/docker-ID.scope", 0, "container:0123456789ab");
        check("/docker/ID", 0, "container:0123456789ab");
        check(
            "/kubepods.slice/kubepods-burstable.slice/cri-containerd-ID.scope",
            0,
            "container:0123456789ab",
        );
        check("/kubepods/besteffort/pod7c1/ID", 0, "container:0123456789ab");
        check("/machine.slice/libpod-ID.scope/container", 0, "container:0123456789ab");
        check("/crio-ID.scope", 0, "container:0123456789ab");
        check("/k8s.io/ID", 0, "container:0123456789ab");
        check("/process_api/abc", 0, "cgroup:/process_api/abc");
        check("/.service", 0, "cgroup:/.service");
        check("/lxc.payload.web/system.slice/x.service", 0, "cgroup:/lxc.payload.web/system.slice/x.service");
        check("/any/system.slice/x.service", 0, "cgroup:/any/system.slice/x.service");
    }

    #[test]
    fn an_image_is_its_repository_in_long_form() {
        let check = |image: &str, expected: Option<&str>| {
            let name = image_workload(image).map(|workload| workload.0);
            assert_eq!(name.as_deref(), expected, "{image}");
        };
        for image in ["nginx", "nginx:1.27", "docker.io/library/nginx:1.27", "nginx@sha256:0123"] {
            check(image, Some("container:docker.io/library/nginx"));
        }
        check("acme/shop:2", Some("container:docker.io/acme/shop"));
        check("registry.acme.eu:5000/shop/web:2@sha256:01", Some("container:registry.acme.eu:5000/shop/web"));
        check("registry.acme.eu:5000/web", Some("container:registry.acme.eu:5000/web"));
        check("localhost/web:latest", Some("container:localhost/web"));
        for image in ["", ":1", "sha256:0123", ID, "a//b", "/a", "a b", "a/\\x00"] {
            check(image, None);
        }
    }

    #[test]
    fn nothing_below_a_workload_borrows_a_name() {
        let check = |path: &str, expected: &str| {
            assert_eq!(workload_of(&path.replace("ID", ID), 1, None).0, expected);
        };
        check("/user.slice/user-1.slice/user@1.service/app.slice/nginx.service", "session:user");
        check("/system.slice/docker-ID.scope/system.slice/nginx.service", "container:0123456789ab");
        check("/system.slice/ci.service/nginx.service", "unit:ci.service");
    }

    #[test]
    fn an_id_without_a_path_is_a_workload_of_its_own() {
        let mut table = CgroupTable::default();
        assert_eq!(table.place(9, BootNs(0)).workload(0, None).0, "cgroup:#9");
        table.learn_text(9, "/system.slice/x.service", BootNs(0));
        assert_eq!(table.place(9, BootNs(1)).workload(0, None).0, "unit:x.service");
    }
}
