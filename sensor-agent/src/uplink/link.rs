//! One connection to the collector: mutual TLS, HTTP/2, the two streams on it, and tasks that turn what arrives into
//! inputs. Decides nothing. It may call tonic and tokio.

use std::time::Duration;

use sensor_proto::v1;
use sensor_proto::v1::control_client::ControlClient;
use sensor_proto::v1::enroll_client::EnrollClient;
use sensor_proto::v1::findings_client::FindingsClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};

use crate::identity::{Identity, Request};
use crate::spool::StoredItem;
use crate::uplink::control::{Chunk, Status};

/// Which connection an input belongs to: late ones of an earlier connection are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(pub(super) u64);

/// What the tasks report to the driver.
pub(super) enum Input {
    Connected(Result<Channel, String>),
    Findings(v1::findings_down::Frame),
    Control(v1::control_down::Frame),
    Ended(String),
    Read(Result<Vec<StoredItem>, String>),
    Chunk(Option<Chunk>),
    Applied(Status),
    Renewed(Result<Identity, String>),
}

/// Where the tasks report to.
#[derive(Clone)]
pub(super) struct Inputs {
    pub(super) sender: mpsc::Sender<(Generation, Input)>,
    pub(super) generation: Generation,
}

impl Inputs {
    pub(super) async fn report(&self, input: Input) {
        let _the_driver_has_ended = self.sender.send((self.generation, input)).await;
    }
}

/// Where a collector is, and what it is checked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `HOST:PORT`.
    pub address: String,
    /// The name its certificate is checked for.
    pub server_name: String,
}

/// A connection. Dropping it closes it.
pub(super) struct Link {
    pub(super) channel: Channel,
    findings: mpsc::Sender<v1::FindingsUp>,
    control: mpsc::Sender<v1::ControlUp>,
    pub(super) tasks: JoinSet<()>,
}

impl Link {
    /// Opens both streams on `channel`.
    pub(super) fn open(channel: Channel, inputs: &Inputs) -> Self {
        let (findings, findings_up) = mpsc::channel(FRAMES_MAX);
        let (control, control_up) = mpsc::channel(FRAMES_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(run_findings(channel.clone(), findings_up, inputs.clone()));
        tasks.spawn(run_control(channel.clone(), control_up, inputs.clone()));
        Self { channel, findings, control, tasks }
    }

    /// Queues a frame; `false` when the connection does not keep up or has ended.
    pub(super) fn send_findings(&self, frame: v1::findings_up::Frame) -> bool {
        self.findings.try_send(v1::FindingsUp { frame: Some(frame) }).is_ok()
    }

    /// Queues a frame; `false` when the connection does not keep up or has ended.
    pub(super) fn send_control(&self, frame: v1::control_up::Frame) -> bool {
        self.control.try_send(v1::ControlUp { frame: Some(frame) }).is_ok()
    }
}

/// Connects with the agent's certificate, trusting the collector's CA only.
pub(super) async fn connect(target: &Target, identity: &Identity) -> Result<Channel, String> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identity.ca_pem))
        .identity(TlsIdentity::from_pem(&identity.certificate_pem, &identity.key_pem))
        .domain_name(target.server_name.clone());
    let endpoint = Endpoint::from_shared(format!("https://{}", target.address))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| in_full(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    match tokio::time::timeout(CONNECT_TIMEOUT * 2, endpoint.connect()).await {
        Ok(connected) => connected.map_err(|error| in_full(&error)),
        Err(_) => Err(format!("no connection in {} s", (CONNECT_TIMEOUT * 2).as_secs())),
    }
}

/// Asks for a new certificate for a new key.
pub(super) async fn renew(channel: Channel, current: Identity) -> Result<Identity, String> {
    let request = Request::generate().map_err(|error| format!("{error:#}"))?;
    let message = v1::RenewRequest { csr_der: request.csr_der };
    let answer =
        EnrollClient::new(channel).renew(message).await.map_err(|status| status.message().to_owned())?;
    let answer = answer.into_inner();
    let renewed = Identity {
        key_pem: request.key_pem,
        certificate_pem: answer.certificate_pem,
        ca_pem: answer.ca_pem,
        ..current
    };
    renewed.validity().map_err(|error| format!("{error:#}"))?;
    Ok(renewed)
}

async fn run_findings(channel: Channel, frames: mpsc::Receiver<v1::FindingsUp>, inputs: Inputs) {
    let mut client = FindingsClient::new(channel).max_decoding_message_size(FINDINGS_DOWN_BYTES_MAX);
    let reason = match client.stream(ReceiverStream::new(frames)).await {
        Err(status) => status.message().to_owned(),
        Ok(response) => {
            let mut down = response.into_inner();
            loop {
                match down.message().await {
                    Ok(Some(v1::FindingsDown { frame: Some(frame) })) => {
                        inputs.report(Input::Findings(frame)).await;
                    }
                    Ok(Some(v1::FindingsDown { frame: None })) => {
                        break "a frame of an unknown kind".to_owned();
                    }
                    Ok(None) => break "the collector ended the findings stream".to_owned(),
                    Err(status) => break status.message().to_owned(),
                }
            }
        }
    };
    inputs.report(Input::Ended(reason)).await;
}

async fn run_control(channel: Channel, frames: mpsc::Receiver<v1::ControlUp>, inputs: Inputs) {
    let mut client = ControlClient::new(channel).max_decoding_message_size(CONTROL_DOWN_BYTES_MAX);
    let reason = match client.session(ReceiverStream::new(frames)).await {
        Err(status) => status.message().to_owned(),
        Ok(response) => {
            let mut down = response.into_inner();
            loop {
                match down.message().await {
                    Ok(Some(v1::ControlDown { frame: Some(frame) })) => {
                        inputs.report(Input::Control(frame)).await;
                    }
                    // A newer collector may say more than this agent understands.
                    Ok(Some(v1::ControlDown { frame: None })) => {}
                    Ok(None) => break "the collector ended the control stream".to_owned(),
                    Err(status) => break status.message().to_owned(),
                }
            }
        }
    };
    inputs.report(Input::Ended(reason)).await;
}

/// An error with its causes, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// Frames queued to the connection: more than the session keeps in flight.
const FRAMES_MAX: usize = super::session::BATCHES_MAX + 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the collector may send unread: acks and one baseline. What the agent sends is bounded by credit.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
const FINDINGS_DOWN_BYTES_MAX: usize = 64 * 1024;
/// The largest baseline an agent takes, and its framing.
const CONTROL_DOWN_BYTES_MAX: usize = 8 * 1024 * 1024;
