//! Containers of containerd: where their files lie from the bundle in its state folder, image and labels from its gRPC
//! API. Not its event stream, and nothing is ever changed. It talks to one unix socket.
//!
//! The messages are the few fields that are read of `containerd.services.containers.v1.Containers/Get`, whose numbers
//! are containerd's promise since 1.0; a whole client crate brings every service, and generated code for it.

use super::spec::Spec;
use super::{Container, Missing, first_process_mounts, read};
use crate::who::place::ContainerRef;
use hyper_util::rt::TokioIo;
use sensor_baseline::text::escape;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// One containerd.
pub(super) struct Client {
    host: PathBuf,
    socket: PathBuf,
    state: PathBuf,
    /// Made when it is first needed.
    runtime: Option<tokio::runtime::Runtime>,
    channel: Option<Channel>,
    /// It did not answer in time: it is not asked before this.
    quiet_until: Option<Instant>,
}

/// `GetContainerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct GetRequest {
    #[prost(string, tag = "1")]
    id: String,
}

/// `GetContainerResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct GetResponse {
    #[prost(message, optional, tag = "1")]
    container: Option<Stored>,
}

/// `Container`.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
}

impl Client {
    /// The one with this state folder, on the host whose root directory is `host`.
    pub(super) fn new(host: PathBuf, state: PathBuf) -> Self {
        let socket = state.join("containerd.sock");
        Self { host, socket, state, runtime: None, channel: None, quiet_until: None }
    }

    /// Looks a container up.
    pub(super) fn find(&mut self, wanted: &ContainerRef) -> Result<Container, Missing> {
        let tasks = self.state.join(TASKS);
        let (namespace, bundle) = match &wanted.namespace {
            Some(namespace) => (namespace.clone(), tasks.join(namespace).join(&wanted.id)),
            None => search(&tasks, &wanted.id).ok_or(Missing::NotFound)?,
        };
        let spec = read(&bundle.join("config.json")).and_then(|bytes| Spec::parse(&bytes));
        let stored = self.get(&namespace, &wanted.id);
        let mut container = Container {
            id: wanted.id.clone(),
            runtime: "containerd",
            namespace: Some(namespace),
            ..Container::default()
        };
        match (&spec, &stored) {
            (Err(missing), Err(Missing::NotFound)) => return Err(*missing),
            (Err(Missing::NotFound), Err(missing)) => return Err(*missing),
            (_, Err(Missing::Unreadable)) => container.missing = Some(Missing::Unreadable),
            _ => {}
        }
        container.mnt_ns = read(&bundle.join("init.pid"))
            .ok()
            .and_then(|pid| first_process_mounts(&self.host, &pid, &wanted.id));
        if let Ok(stored) = stored {
            let label = |key: &str| stored.labels.get(key).map(|value| escape(value.as_bytes()));
            container.image = (!stored.image.is_empty()).then(|| escape(stored.image.as_bytes()));
            container.name = label("io.kubernetes.container.name").or_else(|| label("nerdctl/name"));
            container.pod_name = label("io.kubernetes.pod.name");
            container.pod_namespace = label("io.kubernetes.pod.namespace");
            container.pod_uid = label("io.kubernetes.pod.uid");
        }
        if let Ok(spec) = spec {
            container.files = spec.files(&bundle);
            spec.annotate(&mut container);
        }
        // containerd has no names besides ids: what people see in `ctr containers list` is the id.
        container.name.get_or_insert_with(|| wanted.id.clone());
        Ok(container)
    }

    fn get(&mut self, namespace: &str, id: &str) -> Result<Stored, Missing> {
        if !self.socket.exists() {
            return Err(Missing::NotFound);
        }
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Err(Missing::Unreadable);
        }
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|_| Missing::Unreadable)?,
        };
        let asked = runtime.block_on(async {
            tokio::time::timeout(ASK_TIMEOUT, ask(&mut self.channel, &self.socket, namespace, id)).await
        });
        self.runtime = Some(runtime);
        // Whoever waits behind this question waits as long: a socket that is silent is not asked each time.
        self.quiet_until = asked.is_err().then(|| Instant::now() + QUIET);
        let answer = asked.unwrap_or(Err(Missing::Unreadable));
        if answer == Err(Missing::Unreadable) {
            self.channel = None;
        }
        answer
    }
}

async fn ask(
    channel: &mut Option<Channel>,
    socket: &Path,
    namespace: &str,
    id: &str,
) -> Result<Stored, Missing> {
    let connected = match channel.take() {
        Some(connected) => connected,
        None => connect(socket).await?,
    };
    let mut client = tonic::client::Grpc::new(connected.clone());
    client.ready().await.map_err(|_| Missing::Unreadable)?;
    let mut request = tonic::Request::new(GetRequest { id: id.to_owned() });
    let namespace = namespace.parse().map_err(|_| Missing::NotFound)?;
    request.metadata_mut().insert("containerd-namespace", namespace);
    let codec = tonic_prost::ProstCodec::<GetRequest, GetResponse>::default();
    let path = PathAndQuery::from_static("/containerd.services.containers.v1.Containers/Get");
    let response = client.unary(request, path, codec).await.map_err(|status| match status.code() {
        tonic::Code::NotFound => Missing::NotFound,
        _ => Missing::Unreadable,
    })?;
    *channel = Some(connected);
    response.into_inner().container.ok_or(Missing::NotFound)
}

async fn connect(socket: &Path) -> Result<Channel, Missing> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The connector goes to the socket whatever the address is.
    let endpoint = Endpoint::from_static("http://containerd.invalid");
    endpoint.connect_with_connector(connector).await.map_err(|_| Missing::Unreadable)
}

/// The namespace and bundle of a container whose namespace the path does not tell.
fn search(tasks: &Path, id: &str) -> Option<(String, PathBuf)> {
    let namespaces = std::fs::read_dir(tasks).ok()?.filter_map(Result::ok).take(NAMESPACES_MAX);
    let found = namespaces.map(|namespace| (namespace.file_name(), namespace.path().join(id)));
    let (namespace, bundle) = found.into_iter().find(|(_, bundle)| bundle.join("config.json").exists())?;
    Some((namespace.into_string().ok()?, bundle))
}

/// Where the bundles lie below the state folder: NAMESPACE/ID.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Longest wait for containerd: less than an item's in the stage.
const ASK_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a containerd that did not answer in time is left alone.
const QUIET: Duration = Duration::from_secs(5);
const NAMESPACES_MAX: usize = 256;
