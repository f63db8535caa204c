//! `sensor-collector run`: opens the state, listens, serves, stops. It decides nothing about findings or baselines.
//! It may call everything in the crate.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;

use crate::collector::{Collector, QueuedBytes};
use crate::config::Config;
use crate::counters::Counters;
use crate::fleet::offers::Offers;
use crate::identity::authority::{Authority, Identity};
use crate::sessions::Sessions;
use crate::state::{MODE_SECRET, StateDir, replace};
use crate::store::{Store, StoreError, baselines, tokens};
use crate::{grpc, http, init};

/// A collector that serves.
pub struct Running {
    /// Where agents reach it.
    pub grpc_address: SocketAddr,
    /// Where operators reach it.
    pub http_address: SocketAddr,
    collector: Arc<Collector>,
    stop_grpc: oneshot::Sender<()>,
    http_handle: Handle<SocketAddr>,
    grpc: JoinHandle<anyhow::Result<()>>,
    http: JoinHandle<anyhow::Result<()>>,
    /// Holds the state directory.
    _lock: File,
}

/// Opens the state and starts to serve.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let state = StateDir::new(&config.state_dir);
    let lock = state.lock()?;
    let (collector, server) = open(config, &state).await?;
    let collector = Arc::new(collector);

    let incoming = TcpIncoming::bind(collector.config.listen_grpc)
        .with_context(|| format!("listening for grpc on {}", collector.config.listen_grpc))?
        .with_nodelay(Some(true));
    let grpc_address = incoming.local_addr()?;
    let listener = TcpListener::bind(collector.config.listen_http)
        .with_context(|| format!("listening for http on {}", collector.config.listen_http))?;
    listener.set_nonblocking(true)?;
    let http_address = listener.local_addr()?;
    if collector.config.listen_http.port() == 0 {
        write_port(&state, http_address.port())?;
    }

    let (stop_grpc, stopped) = oneshot::channel::<()>();
    let router = grpc::router(&collector, &server)?;
    let grpc = tokio::spawn(async move {
        let stop = async {
            // A dropped sender stops the server as well.
            let _ = stopped.await;
        };
        router.serve_with_incoming_shutdown(incoming, stop).await.context("serving grpc")
    });
    let http_handle = Handle::new();
    let tls = RustlsConfig::from_config(Arc::new(http_tls(&server)?));
    let http_server = axum_server::from_tcp_rustls(listener, tls)?
        .first_request_timeout(FIRST_REQUEST_TIMEOUT)
        .handle(http_handle.clone());
    let service = http::router(Arc::clone(&collector)).into_make_service();
    let http = tokio::spawn(async move { http_server.serve(service).await.context("serving http") });
    Ok(Running { grpc_address, http_address, collector, stop_grpc, http_handle, grpc, http, _lock: lock })
}

impl Running {
    /// Tells every agent to come back later, answers what is under way, and stops.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.collector.sessions.shut_down();
        // The server may have stopped by itself.
        let _ = self.stop_grpc.send(());
        self.http_handle.graceful_shutdown(Some(HTTP_GRACE));
        let grpc = tokio::time::timeout(GRPC_GRACE, self.grpc).await;
        let http = tokio::time::timeout(GRPC_GRACE, self.http).await;
        // The queue is drained in order, so this returns when everything before it is stored.
        self.collector.store.write(|_| Ok::<(), StoreError>(())).await?;
        match grpc {
            Ok(result) => result.context("grpc task")??,
            Err(_elapsed) => tracing::warn!("agents still connected: cutting them off"),
        }
        match http {
            Ok(result) => result.context("http task")??,
            Err(_elapsed) => tracing::warn!("operators still connected: cutting them off"),
        }
        Ok(())
    }

    /// The parts, for a look inside.
    pub fn collector(&self) -> &Arc<Collector> {
        &self.collector
    }

    /// Resolves when a server stops by itself, which is a fault.
    pub async fn failed(&mut self) -> anyhow::Error {
        let result = tokio::select! {
            result = &mut self.grpc => result,
            result = &mut self.http => result,
        };
        match result {
            Ok(Err(error)) => error,
            Ok(Ok(())) => anyhow::anyhow!("a server stopped without being told to"),
            Err(error) => anyhow::Error::from(error).context("a server task died"),
        }
    }
}

async fn open(config: Config, state: &StateDir) -> anyhow::Result<(Collector, Identity)> {
    let ca = read_identity(&state.ca_certificate(), &state.ca_key())?;
    let server = read_identity(&state.server_certificate(), &state.server_key())?;
    let authority = Authority::load(&ca)?;
    let store = Store::open(&state.database(), config.store_bytes_max)?;
    let (api_tokens, current) = store
        .read(|connection| -> Result<_, StoreError> {
            Ok((tokens::list_api(connection)?, baselines::all_current(connection)?))
        })
        .await?;
    let offers = Offers::default();
    for row in current {
        offers.publish(&row.fleet.clone(), row.into());
    }
    let collector = Collector {
        config,
        store,
        authority,
        sessions: Sessions::default(),
        offers,
        api_tokens,
        counters: Counters::default(),
        queued_bytes: QueuedBytes::default(),
    };
    Ok((collector, server))
}

fn read_identity(certificate: &Path, key: &Path) -> anyhow::Result<Identity> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("{}: has sensor-collector init been run?", path.display()))
    };
    Ok(Identity { certificate_pem: read(certificate)?, key_pem: read(key)? })
}

fn http_tls(server: &Identity) -> anyhow::Result<rustls::ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(server.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("server certificate")?;
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).context("server key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// The port was chosen just now, and sensorctl must know it.
fn write_port(state: &StateDir, port: u16) -> anyhow::Result<()> {
    let path = state.sensorctl();
    match std::fs::read_to_string(&path) {
        Ok(text) => replace(&path, &init::with_port(&text, port), MODE_SECRET),
        // An operator may have moved it away.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// A connection that asks for nothing is closed.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const GRPC_GRACE: Duration = Duration::from_secs(5);
const HTTP_GRACE: Duration = Duration::from_secs(2);
