//! The Control service: heartbeats and learned behaviours up, baselines down. It does not read baselines: it hands on
//! the text that `fleet` accepted. An agent can do nothing here but describe itself.

use std::sync::Arc;

use prost::Message;
use sensor_proto::v1;
use sensor_proto::v1::control_down::Frame as DownFrame;
use sensor_proto::v1::control_server::Control;
use sensor_proto::v1::control_up::Frame as UpFrame;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock;
use crate::collector::Collector;
use crate::counters::add;
use crate::fleet::offers::Offer;
use crate::grpc::{DOWN_FRAMES_MAX, Down, FIRST_FRAME_TIMEOUT, STORE_RETRY_MS, peer, wire};
use crate::identity::AgentId;
use crate::intake::Epoch;
use crate::sessions::{EndReason, Session, StreamKind};
use crate::store::{StoreError, agents, learned};

/// Talks with agents about themselves and their baselines.
pub(super) struct ControlService {
    collector: Arc<Collector>,
}

impl ControlService {
    pub(super) fn new(collector: Arc<Collector>) -> Self {
        Self { collector }
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type SessionStream = ReceiverStream<Result<v1::ControlDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ControlUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let id = peer::named(&self.collector, &request)?;
        let session = self.collector.sessions.open(id, StreamKind::Control);
        let session = session.map_err(|reason| Status::unavailable(reason.to_string()))?;
        let agent = peer::enrolled(&self.collector, id).await?;
        let (frames, down) = mpsc::channel(DOWN_FRAMES_MAX);
        let offers = self.collector.offers.subscribe(&agent.fleet);
        let stream = Stream {
            down: Down { frames, collector: Arc::clone(&self.collector) },
            collector: Arc::clone(&self.collector),
            agent: agent.id,
            fleet: agent.fleet,
            learned: agent.learned,
            offers,
        };
        tokio::spawn(stream.run(request.into_inner(), session));
        Ok(Response::new(ReceiverStream::new(down)))
    }
}

struct Stream {
    collector: Arc<Collector>,
    down: Down<v1::ControlDown>,
    agent: AgentId,
    fleet: String,
    /// Where the agent's learned behaviours stood when the stream began.
    learned: Option<(Epoch, u64)>,
    offers: watch::Receiver<Option<Arc<Offer>>>,
}

/// Why a stream ends.
enum End {
    /// The agent broke the protocol.
    Violation(String),
    /// The store did not take what the agent sent.
    Store(StoreError),
    /// The agent is gone.
    Gone,
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What an agent says about itself, as it is kept: a list of agents holds that of all of them in memory.
fn kept(message: &impl Message) -> Result<Vec<u8>, End> {
    let bytes = message.encoded_len();
    if bytes > KEPT_BYTES_MAX {
        let text = format!("heartbeat or status of {bytes} bytes, at most {KEPT_BYTES_MAX} are allowed");
        return Err(End::Violation(text));
    }
    Ok(message.encode_to_vec())
}

impl Stream {
    async fn run(mut self, mut inbound: Streaming<v1::ControlUp>, mut session: Session) {
        let opened = tokio::select! {
            biased;
            reason = &mut session.ended => {
                self.go_away(reason.unwrap_or(EndReason::Superseded)).await;
                return;
            }
            first = tokio::time::timeout(FIRST_FRAME_TIMEOUT, inbound.message()) => match first {
                Ok(Ok(Some(frame))) => self.open(frame).await,
                // Nothing came, or nothing that can be answered.
                _ => return,
            },
        };
        let mut result = opened;
        while result.is_ok() {
            result = tokio::select! {
                biased;
                reason = &mut session.ended => {
                    self.go_away(reason.unwrap_or(EndReason::Superseded)).await;
                    return;
                }
                changed = self.offers.changed() => match changed {
                    Ok(()) => self.offer(&[]).await,
                    Err(_closed) => Err(End::Gone),
                },
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => self.received(frame).await,
                    Ok(None) => Err(End::Gone),
                    Err(status) => {
                        tracing::debug!(agent = %self.agent, %status, "control stream broke");
                        Err(End::Gone)
                    }
                },
            };
        }
        if let Err(end) = result {
            self.end(end).await;
        }
    }

    /// The first frame must say who is there; the answers are the welcome and, when the agent has another baseline
    /// than its fleet, the baseline.
    async fn open(&mut self, frame: v1::ControlUp) -> Result<(), End> {
        let Some(UpFrame::Heartbeat(heartbeat)) = frame.frame else {
            return Err(End::Violation("the first frame must be a heartbeat".to_owned()));
        };
        let in_force = heartbeat.baseline_sha256.clone();
        self.heartbeat(heartbeat).await?;
        let (learned_epoch, learned_revision) =
            self.learned.map_or((Vec::new(), 0), |(epoch, revision)| (epoch.0.to_vec(), revision));
        let interval = self.collector.config.heartbeat_interval.as_millis();
        self.send(DownFrame::Welcome(v1::ControlWelcome {
            heartbeat_interval_ms: u64::try_from(interval).unwrap_or(u64::MAX),
            fleet: self.fleet.clone(),
            learned_epoch,
            learned_revision,
        }))
        .await?;
        self.offer(&in_force).await
    }

    async fn received(&mut self, frame: v1::ControlUp) -> Result<(), End> {
        match frame.frame {
            Some(UpFrame::Heartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(UpFrame::Learned(learned)) => self.learn(learned).await,
            Some(UpFrame::BaselineStatus(status)) => self.status(status).await,
            // A frame of a later version: nothing here depends on it.
            None => Ok(()),
        }
    }

    async fn heartbeat(&self, heartbeat: v1::Heartbeat) -> Result<(), End> {
        let agent = self.agent;
        let claims = wire::claims(&heartbeat.hostname, &heartbeat.agent_version, &heartbeat.kernel_release);
        let body = kept(&heartbeat)?;
        let write =
            move |connection: &_| agents::set_heartbeat(connection, agent, &claims, &body, clock::now());
        Ok(self.collector.store.write(write).await?)
    }

    async fn learn(&self, learned: v1::Learned) -> Result<(), End> {
        let epoch = Epoch::from_wire(&learned.epoch).ok_or_else(|| {
            End::Violation(format!("learned epoch of {} bytes, expected 16", learned.epoch.len()))
        })?;
        let (agent, revision) = (self.agent, learned.revision);
        let behaviours = learned.behaviours.iter().filter_map(wire::learned_row);
        let rows: Vec<_> = behaviours.chain(learned.withheld.iter().filter_map(wire::withheld_row)).collect();
        let unreadable = (learned.behaviours.len() + learned.withheld.len() - rows.len()) as u64;
        let write =
            move |connection: &_| learned::apply(connection, agent, epoch, revision, &rows, unreadable);
        let over_bound = self.collector.store.write::<_, StoreError, _>(write).await?;
        add(&self.collector.counters.learned_unreadable, unreadable);
        add(&self.collector.counters.learned_over_bound, over_bound);
        self.send(DownFrame::LearnedAck(v1::LearnedAck { epoch: epoch.0.to_vec(), revision })).await
    }

    async fn status(&self, mut status: v1::BaselineStatus) -> Result<(), End> {
        // The start says what is wrong; a reason may quote the baseline at length.
        if let Some((end, _)) = status.reason.char_indices().nth(REASON_CHARS_MAX) {
            status.reason.truncate(end);
        }
        let (agent, body) = (self.agent, kept(&status)?);
        let write = move |connection: &_| agents::set_status(connection, agent, &body, clock::now());
        Ok(self.collector.store.write(write).await?)
    }

    /// Sends the fleet's baseline, unless the agent says that it is in force.
    async fn offer(&mut self, in_force: &[u8]) -> Result<(), End> {
        let offer = self.offers.borrow_and_update().clone();
        match offer {
            Some(offer) if offer.sha256.0 != in_force => {
                let offer = v1::BaselineOffer {
                    version: offer.version,
                    sha256: offer.sha256.0.to_vec(),
                    yaml: offer.yaml.as_bytes().to_vec(),
                };
                self.send(DownFrame::Baseline(offer)).await
            }
            _ => Ok(()),
        }
    }

    async fn end(&self, end: End) {
        let frame = match end {
            End::Gone => return,
            End::Violation(reason) => {
                add(&self.collector.counters.protocol_violations, 1);
                tracing::warn!(agent = %self.agent, reason, "control stream ended");
                Err(Status::invalid_argument(format!("protocol violation: {reason}")))
            }
            End::Store(error) => {
                tracing::error!(agent = %self.agent, %error, "control frame not stored");
                let go_away = v1::ControlGoAway { retry_after_ms: STORE_RETRY_MS, reason: error.to_string() };
                Ok(v1::ControlDown { frame: Some(DownFrame::GoAway(go_away)) })
            }
        };
        // The stream ends either way.
        let _ = self.down.send(frame).await;
    }

    async fn go_away(&self, reason: EndReason) {
        let go_away =
            v1::ControlGoAway { retry_after_ms: reason.retry_after_ms(), reason: reason.to_string() };
        // The stream ends either way.
        let _ = self.send(DownFrame::GoAway(go_away)).await;
    }

    async fn send(&self, frame: DownFrame) -> Result<(), End> {
        let frame = v1::ControlDown { frame: Some(frame) };
        self.down.send(Ok(frame)).await.map_err(|_gone| End::Gone)
    }
}

/// Longest reason of a baseline status.
const REASON_CHARS_MAX: usize = 4096;
/// Largest heartbeat or baseline status. An ordinary heartbeat has some 5 KiB.
const KEPT_BYTES_MAX: usize = 64 << 10;
