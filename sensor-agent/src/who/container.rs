//! What is known of a container by its id: name, image, pod, and where its files lie on the host. Not which process
//! is in it. It reads the state files of the runtimes, and asks containerd, which keeps images in a database of its
//! own, by its gRPC API.

mod containerd;
mod files;
mod spec;

use super::place::{ContainerRef, Runtime};
use containerd::Client;
use std::path::{Path, PathBuf};

/// A container as its runtime knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// As the runtime has it: 64 hex digits, or with containerd a name of any form.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// The image's name, `docker.io/library/nginx:1.27`.
    pub image: Option<String>,
    /// The image's digest or id, `sha256:...`.
    pub image_id: Option<String>,
    /// `containerd`, `docker`, `cri-o` or `podman`.
    pub runtime: &'static str,
    /// containerd's namespace.
    pub namespace: Option<String>,
    /// Kubernetes pod.
    pub pod_name: Option<String>,
    /// That pod's namespace.
    pub pod_namespace: Option<String>,
    /// That pod's uid.
    pub pod_uid: Option<String>,
    /// Where its files lie on the host.
    pub files: Files,
    /// The mount namespace of its first process, while that lives: what is called a file there is one of `files`.
    pub mnt_ns: Option<u32>,
    /// Why it is not known better.
    pub missing: Option<Missing>,
}

impl Container {
    /// Whether asking again would tell nothing new for a while.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing.is_none() && self.mnt_ns.is_some()
    }
}

/// Where a container's files lie on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Its root directory, escaped.
    pub root: Option<String>,
    /// Folders of the host that are mounted into it: where in the container, and where on the host; escaped.
    pub mounts: Vec<(String, String)>,
}

impl Files {
    /// The host's name of what is called `path` in the container; both escaped. `None` when it cannot be told.
    #[must_use]
    pub fn on_host(&self, path: &str) -> Option<String> {
        let below = |folder: &str| {
            let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)
        };
        let mounts =
            self.mounts.iter().filter_map(|(inside, host)| Some((inside.len(), host, below(inside)?)));
        let found = mounts.max_by_key(|(length, ..)| *length).map(|(_, host, rest)| (host, rest));
        let (host, rest) = match found {
            Some((host, _)) if host.is_empty() => return None,
            Some(found) => found,
            None => (self.root.as_ref()?, path),
        };
        path.starts_with('/').then(|| format!("{}{rest}", host.trim_end_matches('/')))
    }
}

/// Why a container is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No runtime that was asked has it.
    NotFound,
    /// It is there and cannot be read.
    Unreadable,
}

impl Missing {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not known to its runtime",
            Self::Unreadable => "its runtime's state cannot be read",
        }
    }
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The host's root directory: `/` but in tests.
    pub host: PathBuf,
    /// State folders of containerd, each with its socket `containerd.sock`, besides those it has by default.
    pub containerd: Vec<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { host: PathBuf::from("/"), containerd: Vec::new() }
    }
}

/// Looks containers up.
pub(super) struct Containers {
    roots: Roots,
    clients: Vec<Client>,
}

impl Containers {
    pub(super) fn new(roots: Roots) -> Self {
        let by_default = CONTAINERD_STATES.iter().map(|state| roots.host.join(state));
        let states = roots.containerd.iter().cloned().chain(by_default);
        let clients = states.map(|state| Client::new(roots.host.clone(), state)).collect();
        Self { roots, clients }
    }

    /// Looks one up, at the runtime that the control group's path tells, or at all of them.
    pub(super) fn find(&mut self, wanted: &ContainerRef) -> Result<Container, Missing> {
        if !is_file_name(&wanted.id) || !wanted.namespace.as_deref().is_none_or(is_file_name) {
            return Err(Missing::NotFound);
        }
        let host = self.roots.host.clone();
        match wanted.runtime {
            Some(Runtime::Docker) => files::docker(&host, &wanted.id),
            Some(Runtime::CriO) => files::crio(&host, &wanted.id),
            Some(Runtime::Podman) => files::podman(&host, &wanted.id),
            Some(Runtime::Containerd) => self.containerd(wanted),
            None => self
                .containerd(wanted)
                .or_else(|_| files::docker(&host, &wanted.id))
                .or_else(|_| files::crio(&host, &wanted.id))
                .or_else(|_| files::podman(&host, &wanted.id)),
        }
    }

    fn containerd(&mut self, wanted: &ContainerRef) -> Result<Container, Missing> {
        let mut result = Err(Missing::NotFound);
        for client in &mut self.clients {
            match client.find(wanted) {
                Ok(container) => return Ok(container),
                Err(Missing::Unreadable) => result = Err(Missing::Unreadable),
                Err(Missing::NotFound) => {}
            }
        }
        result
    }
}

/// Whether a text that came from a control group's name is safe as one component of a path.
fn is_file_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= ID_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(is_plain)
}

/// The mount namespace of a container's first process, whose number a runtime wrote down as `pid`. `None` when that
/// process is no more: the number may be another's by now, which is in another control group.
fn first_process_mounts(host: &Path, pid: &[u8], id: &str) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let pid: u32 = std::str::from_utf8(pid).ok()?.trim().parse().ok()?;
    let process = host.join("proc").join(pid.to_string());
    let mounts = std::fs::metadata(process.join("ns/mnt")).ok()?.ino();
    let cgroups = read(&process.join("cgroup")).ok()?;
    let is_its = |component: &str| component.strip_suffix(".scope").unwrap_or(component).ends_with(id);
    let is_in_it = String::from_utf8_lossy(&cgroups).split(['/', '\n']).any(is_its);
    is_in_it.then(|| u32::try_from(mounts).ok()).flatten()
}

/// Reads a state file, bounded.
fn read(path: &Path) -> Result<Vec<u8>, Missing> {
    read_up_to(path, STATE_BYTES_MAX)
}

fn read_up_to(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Missing> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Missing::NotFound,
        _ => Missing::Unreadable,
    })?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).map_err(|_| Missing::Unreadable)?;
    Ok(bytes)
}

/// Bytes of a state file read at most.
const STATE_BYTES_MAX: u64 = 4 << 20;
const ID_BYTES_MAX: usize = 128;
/// Where containerd keeps its state: its own default, that of k3s, and that of a Docker engine that brings its own.
const CONTAINERD_STATES: [&str; 3] = ["run/containerd", "run/k3s/containerd", "run/docker/containerd"];

#[cfg(test)]
mod tests;
