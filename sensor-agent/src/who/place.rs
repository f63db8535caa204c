//! What a control group's path says of the processes in it: unit, login session, container, pod. Not which baseline
//! they belong to, which is `enrich::workload`, and nothing that has to be looked up. Pure: text in, text out.
//!
//! Whatever stands behind the first unit, session or container was named by whoever runs in there, and is read only
//! where it cannot be mistaken for the host's: a user's own units are told apart from the system's.
//!
//! | component, from the root | what it says |
//! |---|---|
//! | `NAME.service`, `NAME.scope` | the unit |
//! | `user.slice`, `user-UID.slice`, then `session-ID.scope` | login session ID of user UID |
//! | the same, then `user@UID.service`, then the first `NAME.service` or `NAME.scope` | a unit of that user's own manager |
//! | `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope` | a container (64 hex digits) |
//! | 64 hex digits | a container; its runtime by the component before it |
//! | `NAMESPACE`, then the id of the shim above the process | a container of containerd with a name of any form |
//! | `kubepods` or `kubepods.slice`, then one with `podUID` | pod UID, and its quality of service |

use crate::enrich::origin::Shim;
use sensor_baseline::text::unescape;

/// What a path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The system's unit, `nginx.service`, escaped as systemd does: `my\x2dapp.service`.
    pub unit: Option<String>,
    /// A unit of a user's own manager, `backup.service`, in the same form.
    pub user_unit: Option<String>,
    /// Login session as logind numbers it, `3` or `c1`.
    pub session: Option<String>,
    /// Whose login it is.
    pub login_uid: Option<u32>,
    /// The container.
    pub container: Option<ContainerRef>,
    /// The Kubernetes pod.
    pub pod: Option<Pod>,
}

/// Which container, as far as the path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerRef {
    /// Who runs it; `None` when the path fits several.
    pub runtime: Option<Runtime>,
    /// containerd's namespace, when the path tells.
    pub namespace: Option<String>,
    /// 64 hex digits, or with containerd a name of any form.
    pub id: String,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd, natively or for Kubernetes.
    Containerd,
    /// The Docker engine.
    Docker,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
}

impl Runtime {
    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
        }
    }
}

/// A Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its uid, with hyphens.
    pub uid: String,
    /// `guaranteed`, `burstable` or `besteffort`.
    pub qos: &'static str,
}

impl Place {
    /// What `path` says. `shim` is the container shim above the process, if there is one: it alone makes a name that
    /// has not the form of a container id one.
    #[must_use]
    pub fn of(path: &str, shim: Option<&Shim>) -> Self {
        let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
        let mut place = Self { pod: pod(&components), ..Self::default() };
        for (depth, component) in components.iter().enumerate() {
            if let Some(container) = container(&components[..=depth], shim) {
                place.container = Some(container);
                return place;
            }
            if depth == 0 && *component == "user.slice" {
                place.login(&components[1..]);
                return place;
            }
            if is_unit(component) {
                place.unit = Some(unit_name(component));
                return place;
            }
        }
        place
    }

    fn login(&mut self, below: &[&str]) {
        self.login_uid = below.first().and_then(|slice| login_uid(slice));
        let Some(second) = below.get(1).filter(|_| self.login_uid.is_some()) else { return };
        let session = second.strip_prefix("session-").and_then(|name| name.strip_suffix(".scope"));
        if let Some(session) = session {
            self.session = Some(session.to_owned());
        } else if second.starts_with("user@") {
            let own = below[2..].iter().find(|component| is_unit(component));
            self.user_unit = own.map(|unit| unit_name(unit));
        }
    }
}

/// The user of `user-UID.slice`.
#[must_use]
pub fn login_uid(slice: &str) -> Option<u32> {
    slice.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()
}

/// The name of a unit as its manager has it, which escapes by backslashes of its own; `component` has those escaped once
/// more. What no manager would call a unit stays as it is.
fn unit_name(component: &str) -> String {
    let plain = unescape(component).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    plain.filter(|name| has_unit_characters(name)).unwrap_or_else(|| component.to_owned())
}

/// Whether a name has only characters that names of units may have, `systemd.unit(5)`.
#[must_use]
pub fn has_unit_characters(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@'))
}

/// Whether a component is a unit that processes run in.
#[must_use]
pub fn is_unit(component: &str) -> bool {
    UNIT_SUFFIXES.iter().any(|suffix| component.len() > suffix.len() && component.ends_with(suffix))
}

/// The container that the last of `components` names, the ones before it being where it lies.
#[must_use]
pub fn container(components: &[&str], shim: Option<&Shim>) -> Option<ContainerRef> {
    let (component, above) = components.split_last()?;
    let named = |runtime, namespace: Option<&str>, id: &str| ContainerRef {
        runtime,
        namespace: namespace.map(str::to_owned),
        id: id.to_owned(),
    };
    let scope = component.strip_suffix(".scope").unwrap_or(component);
    for (prefix, runtime, namespace) in PREFIXES {
        if let Some(id) = scope.strip_prefix(prefix).filter(|id| is_container_id(id)) {
            return Some(named(Some(runtime), namespace, id));
        }
    }
    if let Some(shim) = shim.filter(|shim| shim.owns(components)) {
        return Some(named(Some(Runtime::Containerd), Some(&shim.namespace), &shim.id));
    }
    if !is_container_id(scope) {
        return None;
    }
    Some(match above {
        ["docker", ..] => named(Some(Runtime::Docker), None, scope),
        ["libpod_parent", ..] => named(Some(Runtime::Podman), None, scope),
        // The kubelet's cgroupfs layout is the same for every runtime that does not prefix its ids.
        [first, ..] if first.starts_with("kubepods") => named(None, None, scope),
        [namespace] => named(Some(Runtime::Containerd), Some(namespace), scope),
        _ => named(None, None, scope),
    })
}

/// Whether a name has the form that every runtime but plain containerd gives its ids.
#[must_use]
pub fn is_container_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The pod, by the kubelet's part of the path: above every container.
fn pod(components: &[&str]) -> Option<Pod> {
    let kubelet = components
        .iter()
        .take_while(|component| component.ends_with(".slice") || component.starts_with("kubepods"))
        .position(|component| {
            component.starts_with("kubepods") || component.starts_with("kubelet-kubepods")
        })?;
    let below = components.get(kubelet..components.len().min(kubelet + POD_DEPTH_MAX))?;
    let named = below.iter().find_map(|component| {
        let slice =
            component.strip_suffix(".slice").map(|slice| slice.rsplit_once("-pod").unwrap_or(("", "")).1);
        let uid = slice.or_else(|| component.strip_prefix("pod"))?.replace('_', "-");
        is_pod_uid(&uid).then_some(uid)
    });
    let is_class = |class: &str| below.iter().any(|component| component.contains(class));
    let qos = if is_class("burstable") {
        "burstable"
    } else if is_class("besteffort") {
        "besteffort"
    } else {
        "guaranteed"
    };
    named.map(|uid| Pod { uid, qos })
}

/// A UUID, or the 32 hex digits that static pods have.
fn is_pod_uid(uid: &str) -> bool {
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let hyphens = uid.bytes().filter(|byte| *byte == b'-').count();
    digits == 32 && digits + hyphens == uid.len() && matches!(hyphens, 0 | 4)
}

const UNIT_SUFFIXES: [&str; 2] = [".service", ".scope"];
/// Components from the kubelet's own to the pod's: `kubepods`, quality of service, pod.
const POD_DEPTH_MAX: usize = 3;
/// What stands before the id, by runtime; containerd's for Kubernetes is always in its namespace `k8s.io`.
const PREFIXES: [(&str, Runtime, Option<&str>); 4] = [
    ("docker-", Runtime::Docker, None),
    ("cri-containerd-", Runtime::Containerd, Some("k8s.io")),
    ("crio-", Runtime::CriO, None),
    ("libpod-", Runtime::Podman, None),
];

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "7c1f8a52-11d4-4f0e-9a39-5d6b2d3c4e5f";

    fn place(path: &str) -> Place {
        let slice_pod = POD.replace('-', "_");
        Place::of(&path.replace("ID", ID).replace("POD_", &slice_pod).replace("POD", POD), None)
    }

    #[test]
    fn units_and_sessions_are_read_from_the_root() {
        let check =
            |path: &str, unit: Option<&str>, user_unit: Option<&str>, session: Option<&str>, login| {
                let place = place(path);
                let found = (place.unit.as_deref(), place.user_unit.as_deref(), place.session.as_deref());
                assert_eq!(found, (unit, user_unit, session), "{path}");
                assert_eq!((place.login_uid, place.container), (login, None), "{path}");
            };
        check("/", None, None, None, None);
        check("/system.slice/x.service", Some("x.service"), None, None, None);
        check("/system.slice/x.service/y.service", Some("x.service"), None, None, None);
        check("/user.slice/user-1000.slice/session-3.scope", None, None, Some("3"), Some(1000));
        check("/user.slice/user-1000.slice/session-c12.scope/z", None, None, Some("c12"), Some(1000));
        check(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service",
            None,
            Some("sync.service"),
            None,
            Some(1000),
        );
        check(
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            None,
            Some("init.scope"),
            None,
            Some(1000),
        );
        check(r"/system.slice/my\x5cx2dapp.service", Some(r"my\x2dapp.service"), None, None, None);
        check(
            r"/user.slice/user-1000.slice/user@1000.service/app.slice/app-a\x5cx2db@1.service",
            None,
            Some(r"app-a\x2db@1.service"),
            None,
            Some(1000),
        );
        check(r"/system.slice/a\x0ab.service", Some(r"a\x0ab.service"), None, None, None);
        check(r"/system.slice/a\x5cx2d b.service", Some(r"a\x5cx2d b.service"), None, None, None);
        check("/user.slice/other/session-3.scope", None, None, None, None);
        check("/.service", None, None, None, None);
    }

    #[test]
    fn containers_are_told_by_runtime() {
        let check = |path: &str, runtime: Option<Runtime>, namespace: Option<&str>| {
            let container = place(path).container.unwrap_or_else(|| panic!("{path}"));
            assert_eq!((container.runtime, container.namespace.as_deref()), (runtime, namespace), "{path}");
            assert_eq!(container.id, ID, "{path}");
        };
        check("/docker/ID", Some(Runtime::Docker), None);
        check("/system.slice/docker-ID.scope", Some(Runtime::Docker), None);
        check("/default/ID", Some(Runtime::Containerd), Some("default"));
        check("/k8s.io/ID", Some(Runtime::Containerd), Some("k8s.io"));
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope",
            Some(Runtime::Containerd),
            Some("k8s.io"),
        );
        check("/kubepods/besteffort/podPOD/ID", None, None);
        check("/kubepods.slice/kubepods-podPOD_.slice/crio-ID.scope", Some(Runtime::CriO), None);
        check("/machine.slice/libpod-ID.scope/container", Some(Runtime::Podman), None);
        check("/libpod_parent/libpod-ID", Some(Runtime::Podman), None);
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for path in [
            "/machine.slice/libpod-conmon-ID.scope",
            "/machine.slice/crio-conmon-ID.scope",
            "/default/web",
            "/system.slice/x.service/docker-ID.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "/docker/0123",
        ] {
            assert_eq!(place(path).container, None, "{path}");
        }
    }

    #[test]
    fn a_pod_is_told_in_both_layouts() {
        let check = |path: &str, expected: Option<(&str, &str)>| {
            let pod = place(path).pod;
            assert_eq!(pod.as_ref().map(|pod| (pod.uid.as_str(), pod.qos)), expected, "{path}");
        };
        check("/kubepods/burstable/podPOD/ID", Some((POD, "burstable")));
        check("/kubepods/podPOD/ID", Some((POD, "guaranteed")));
        check(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPOD_.slice/cri-containerd-ID.scope",
            Some((POD, "besteffort")),
        );
        check(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podPOD_.slice/cri-containerd-ID.scope",
            Some((POD, "guaranteed")),
        );
        check("/kubepods/besteffort/podx/ID", None);
        // A pod's name below a container or a unit is somebody's joke.
        check("/docker/ID/kubepods/podPOD/x", None);
        check("/system.slice/x.service/kubepods/podPOD", None);
    }

    #[test]
    fn a_shim_makes_a_name_of_any_form_a_container() {
        let shim = Shim { namespace: "default".to_owned(), id: "web".to_owned() };
        let check = |path: &str, expected: Option<&str>| {
            let container = Place::of(path, Some(&shim)).container;
            assert_eq!(container.as_ref().map(|container| container.id.as_str()), expected, "{path}");
        };
        check("/default/web", Some("web"));
        check("/default/web/below", Some("web"));
        check("/system.slice/cri-containerd-web.scope", Some("web"));
        check("/default/other", None);
        check("/other/web", None);
        check("/a/default/web", None);
        check("/system.slice/evil.service/default/web", None);
        check("/user.slice/default/web", None);
    }
}
