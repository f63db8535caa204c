//! The OCI runtime specification of a container, `config.json` of its bundle, as far as it says who the container is
//! and where its files lie. Not a validator: what is missing is unknown. It may call serde only.

use super::{Container, Files, Missing};
use sensor_baseline::text::escape;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The parts that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    annotations: BTreeMap<String, String>,
    root: Root,
    mounts: Vec<Mount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Root {
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mount {
    destination: String,
    r#type: String,
    source: String,
    options: Vec<String>,
}

impl Spec {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Missing> {
        serde_json::from_slice(bytes).map_err(|_| Missing::Unreadable)
    }

    /// Where the container's files lie, its bundle being `bundle`.
    pub(super) fn files(&self, bundle: &Path) -> Files {
        let absolute = |path: &str| escape(bundle.join(path).as_os_str().as_bytes());
        let mounts = self.mounts.iter().take(MOUNTS_MAX).map(|mount| {
            let is_bind = mount.r#type == "bind"
                || mount.options.iter().any(|option| option == "bind" || option == "rbind");
            let host = if is_bind { absolute(&mount.source) } else { String::new() };
            (escape(mount.destination.as_bytes()), host)
        });
        Files {
            root: (!self.root.path.is_empty()).then(|| absolute(&self.root.path)),
            mounts: mounts.filter(|(destination, _)| destination.starts_with('/')).collect(),
        }
    }

    /// Adds what the annotations say, of CRI (containerd) and of CRI-O, where nothing is known yet.
    pub(super) fn annotate(&self, container: &mut Container) {
        let first = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| self.annotations.get(*key));
            found.filter(|value| !value.is_empty()).map(|value| escape(value.as_bytes()))
        };
        let fill = |field: &mut Option<String>, keys: &[&str]| {
            if field.is_none() {
                *field = first(keys);
            }
        };
        fill(&mut container.name, &NAME_KEYS);
        fill(&mut container.image, &IMAGE_KEYS);
        fill(&mut container.image_id, &["io.kubernetes.cri-o.ImageRef"]);
        fill(&mut container.pod_name, &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
        fill(
            &mut container.pod_namespace,
            &["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"],
        );
        fill(&mut container.pod_uid, &["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]);
    }
}

const NAME_KEYS: [&str; 4] = [
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
    "nerdctl/name",
    "io.kubernetes.cri-o.Name",
];
const IMAGE_KEYS: [&str; 3] =
    ["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"];
/// Mounts kept of one container at most.
const MOUNTS_MAX: usize = 256;
