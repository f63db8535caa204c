//! Containers of Docker, CRI-O and Podman, read from the files in which these keep their state. Not their daemons' API.
//! It reads files below the host's root.
//!
//! | runtime | what is read |
//! |---|---|
//! | Docker | `var/lib/docker/containers/ID/config.v2.json`, `var/lib/docker/image/DRIVER/layerdb/mounts/ID/mount-id` |
//! | CRI-O, Podman | `var/lib/containers/storage/overlay-containers/containers.json`, for Podman's `--rm` `volatile-containers.json` beside it, and below it `ID/userdata/config.json`; `run/containers/storage/overlay-containers/ID/userdata/pidfile` |

use super::spec::Spec;
use super::{Container, Files, Missing, first_process_mounts, is_file_name, read, read_up_to};
use sensor_baseline::text::escape;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerConfig {
    name: String,
    image: String,
    driver: String,
    config: DockerImage,
    state: DockerState,
    mount_points: BTreeMap<String, DockerMount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerImage {
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerMount {
    source: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerState {
    pid: u32,
}

/// A container of the Docker engine.
pub(super) fn docker(host: &Path, id: &str) -> Result<Container, Missing> {
    let docker = host.join("var/lib/docker");
    let bytes = read(&docker.join("containers").join(id).join("config.v2.json"))?;
    let config: DockerConfig = serde_json::from_slice(&bytes).map_err(|_| Missing::Unreadable)?;
    let labels = config.config.labels.unwrap_or_default();
    let label = |key: &str| labels.get(key).map(|value| escape(value.as_bytes()));
    let mounts = config.mount_points.iter().map(|(inside, mount)| {
        (
            escape(inside.as_bytes()),
            if mount.source.starts_with('/') { escape(mount.source.as_bytes()) } else { String::new() },
        )
    });
    Ok(Container {
        id: id.to_owned(),
        name: text(config.name.trim_start_matches('/')),
        image: text(&config.config.image),
        image_id: text(&config.image),
        runtime: "docker",
        pod_name: label("io.kubernetes.pod.name"),
        pod_namespace: label("io.kubernetes.pod.namespace"),
        pod_uid: label("io.kubernetes.pod.uid"),
        files: Files { root: docker_root(&docker, &config.driver, id), mounts: mounts.collect() },
        mnt_ns: first_process_mounts(host, config.state.pid.to_string().as_bytes(), id),
        ..Container::default()
    })
}

/// Where the layers of a Docker container are mounted together.
fn docker_root(docker: &Path, driver: &str, id: &str) -> Option<String> {
    if !is_file_name(driver) {
        return None;
    }
    let mounts = docker.join("image").join(driver).join("layerdb/mounts");
    let mount = read(&mounts.join(id).join("mount-id")).ok()?;
    let mount = std::str::from_utf8(&mount).ok()?.trim();
    is_file_name(mount).then(|| escape(docker.join(driver).join(mount).join("merged").as_os_str().as_bytes()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StoredContainer {
    id: String,
    names: Vec<String>,
    image: String,
    /// JSON as text.
    metadata: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct StoredMetadata {
    image_name: String,
    name: String,
}

/// A container of CRI-O.
pub(super) fn crio(host: &Path, id: &str) -> Result<Container, Missing> {
    stored(host, id, "cri-o")
}

/// A container of Podman.
pub(super) fn podman(host: &Path, id: &str) -> Result<Container, Missing> {
    stored(host, id, "podman")
}

/// A container of the storage library that CRI-O and Podman share.
fn stored(host: &Path, id: &str, runtime: &'static str) -> Result<Container, Missing> {
    let storage = host.join("var/lib").join(STORAGE);
    let found = listed(&storage.join("containers.json"), id).or_else(|missing| {
        // That of those that do not outlive the boot; an error of the first list is not forgotten.
        let volatile = listed(&storage.join("volatile-containers.json"), id);
        volatile.map_err(|other| if other == Missing::NotFound { missing } else { other })
    })?;
    let metadata: StoredMetadata = serde_json::from_str(&found.metadata).unwrap_or_default();
    let mut container = Container {
        id: id.to_owned(),
        image: text(&metadata.image_name),
        image_id: text(&found.image),
        runtime,
        ..Container::default()
    };
    let userdata = storage.join(id).join("userdata");
    if let Ok(spec) = read(&userdata.join("config.json")).and_then(|bytes| Spec::parse(&bytes)) {
        container.files = spec.files(&userdata);
        spec.annotate(&mut container);
    }
    let pid = read(&host.join("run").join(STORAGE).join(id).join("userdata/pidfile"));
    container.mnt_ns = pid.ok().and_then(|pid| first_process_mounts(host, &pid, id));
    // With Kubernetes the annotation has the short name, the store the long one.
    container.name = container
        .name
        .or_else(|| text(&metadata.name))
        .or_else(|| found.names.first().and_then(|name| text(name)));
    Ok(container)
}

/// What a list of the storage library says of a container.
fn listed(list: &Path, id: &str) -> Result<StoredContainer, Missing> {
    let bytes = read_up_to(list, LIST_BYTES_MAX)?;
    let listed: Vec<StoredContainer> = serde_json::from_slice(&bytes).map_err(|_| Missing::Unreadable)?;
    listed.into_iter().find(|container| container.id == id).ok_or(Missing::NotFound)
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| escape(value.as_bytes()))
}

/// Where the storage library keeps its containers, below `/var/lib` and `/run`.
const STORAGE: &str = "containers/storage/overlay-containers";
/// Bytes of a list of all containers read at most: some kilobytes each.
const LIST_BYTES_MAX: u64 = 32 << 20;
