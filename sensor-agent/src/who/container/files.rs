//! Containers of Docker, CRI-O and Podman, read from the files in which these keep their state. Not their daemons' API.
//! It reads files below the host's root.
//!
//! | runtime | what is read |
//! |---|---|
//! | Docker | `var/lib/docker/containers/ID/config.v2.json`, `var/lib/docker/image/DRIVER/layerdb/mounts/ID/mount-id` |
//! | CRI-O, Podman | `var/lib/containers/storage/overlay-containers/containers.json`, and below it `ID/userdata/config.json` |

use super::spec::Spec;
use super::{Container, Files, Missing, is_file_name, read};
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
    let storage = host.join("var/lib/containers/storage/overlay-containers");
    let listed = read(&storage.join("containers.json"))?;
    let listed: Vec<StoredContainer> = serde_json::from_slice(&listed).map_err(|_| Missing::Unreadable)?;
    let Some(found) = listed.into_iter().find(|container| container.id == id) else {
        return Err(Missing::NotFound);
    };
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
    // With Kubernetes the annotation has the short name, the store the long one.
    container.name = container
        .name
        .or_else(|| text(&metadata.name))
        .or_else(|| found.names.first().and_then(|name| text(name)));
    Ok(container)
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| escape(value.as_bytes()))
}
