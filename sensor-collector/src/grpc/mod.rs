//! The gRPC services: drivers that move frames between agents, the intake state machine and the store. They decide
//! nothing about sequences, tokens or baselines. They may call everything in the crate but `http`.

mod control;
mod enroll;
mod findings;
mod peer;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use sensor_proto::v1::control_server::ControlServer;
use sensor_proto::v1::enroll_server::EnrollServer;
use sensor_proto::v1::findings_server::FindingsServer;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::collector::Collector;
use crate::counters::add;
use crate::identity::authority;

/// The services with their transport, ready to be given connections.
pub fn router(
    collector: &Arc<Collector>,
    server: &authority::Identity,
) -> Result<Router, tonic::transport::Error> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&server.certificate_pem, &server.key_pem))
        .client_ca_root(Certificate::from_pem(collector.authority.certificate_pem()))
        // Enrollment has no certificate yet. Every other method asks for the agent that the certificate names.
        .client_auth_optional(true)
        .timeout(HANDSHAKE_TIMEOUT);
    let findings = FindingsServer::new(findings::FindingsService::new(Arc::clone(collector)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let control = ControlServer::new(control::ControlService::new(Arc::clone(collector)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let enroll = EnrollServer::new(enroll::EnrollService::new(Arc::clone(collector)))
        .max_decoding_message_size(ENROLL_BYTES_MAX);
    Ok(Server::builder()
        .tls_config(tls)?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(findings)
        .add_service(control)
        .add_service(enroll))
}

/// The way down to one agent.
struct Down<T> {
    frames: mpsc::Sender<Result<T, Status>>,
    collector: Arc<Collector>,
}

/// The agent is gone, or does not take what is sent to it.
struct Gone;

impl<T> Down<T> {
    /// An agent that stops reading must not hold a stream, and what it has in memory, for ever.
    async fn send(&self, frame: Result<T, Status>) -> Result<(), Gone> {
        match tokio::time::timeout(SEND_TIMEOUT, self.frames.send(frame)).await {
            Ok(sent) => sent.map_err(|_| Gone),
            Err(_elapsed) => {
                add(&self.collector.counters.streams_stalled, 1);
                Err(Gone)
            }
        }
    }
}

/// Largest frame an agent may send.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Largest enrollment request: a token, a certificate request and three short texts.
const ENROLL_BYTES_MAX: usize = 64 << 10;
/// Explicit: the default of 64 KiB limits a stream to one window per round trip.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
/// Two streams, a renewal, and room for a reconnection that overlaps.
const STREAMS_PER_CONNECTION_MAX: u32 = 8;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// An agent that does not take a frame for so long is stalled.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Frames on their way to one agent.
const DOWN_FRAMES_MAX: usize = 16;
/// A stream whose first frame does not come is ended.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// When to come back to a store that failed.
const STORE_RETRY_MS: u64 = 5_000;
