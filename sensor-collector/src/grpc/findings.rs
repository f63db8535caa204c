//! The Findings service: moves frames between one agent, its `Intake` and the store. It decides nothing: what a frame
//! means and when an ack is due is the intake's business.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use prost::Message;
use sensor_proto::v1;
use sensor_proto::v1::findings_down::Frame as DownFrame;
use sensor_proto::v1::findings_server::Findings;
use sensor_proto::v1::findings_up::Frame as UpFrame;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock;
use crate::collector::Collector;
use crate::counters::add;
use crate::grpc::{DOWN_FRAMES_MAX, Down, FIRST_FRAME_TIMEOUT, MESSAGE_BYTES_MAX, STORE_RETRY_MS, peer};
use crate::identity::AgentId;
use crate::intake::{CloseReason, Commit, Epoch, Intake, Limits, Output, Seq};
use crate::sessions::{EndReason, Session, StreamKind};
use crate::store::{StoreError, findings};

/// Takes findings.
pub(super) struct FindingsService {
    collector: Arc<Collector>,
}

impl FindingsService {
    pub(super) fn new(collector: Arc<Collector>) -> Self {
        Self { collector }
    }
}

#[tonic::async_trait]
impl Findings for FindingsService {
    type StreamStream = ReceiverStream<Result<v1::FindingsDown, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::FindingsUp>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let id = peer::named(&self.collector, &request)?;
        let session = self.collector.sessions.open(id, StreamKind::Findings);
        let session = session.map_err(|reason| Status::unavailable(reason.to_string()))?;
        let agent = peer::enrolled(&self.collector, id).await?;
        let (frames, down) = mpsc::channel(DOWN_FRAMES_MAX);
        let stream = Stream {
            down: Down { frames, collector: Arc::clone(&self.collector) },
            collector: Arc::clone(&self.collector),
            agent: agent.id,
            fleet: Arc::from(agent.fleet),
            intake: Intake::new(LIMITS),
            commits: VecDeque::new(),
        };
        tokio::spawn(stream.run(request.into_inner(), session));
        Ok(Response::new(ReceiverStream::new(down)))
    }
}

struct Stream {
    collector: Arc<Collector>,
    down: Down<v1::FindingsDown>,
    agent: AgentId,
    fleet: Arc<str>,
    intake: Intake,
    /// Results to come, oldest first; the store answers in this order.
    commits: VecDeque<oneshot::Receiver<Result<u64, StoreError>>>,
}

impl Stream {
    async fn run(mut self, mut inbound: Streaming<v1::FindingsUp>, mut session: Session) {
        let first_frame = tokio::time::sleep(FIRST_FRAME_TIMEOUT);
        tokio::pin!(first_frame);
        let mut awaits_first = true;
        let mut reading = true;
        let mut ending = None;
        while reading || !self.commits.is_empty() {
            let output = tokio::select! {
                biased;
                reason = &mut session.ended, if ending.is_none() => {
                    // What is on its way into the store is still acknowledged.
                    ending = Some(reason.unwrap_or(EndReason::Superseded));
                    reading = false;
                    continue;
                }
                result = next_result(&mut self.commits) => self.committed(result),
                () = &mut first_frame, if reading && awaits_first => break,
                frame = inbound.message(), if reading => match frame {
                    Ok(Some(frame)) => {
                        awaits_first = false;
                        self.received(frame)
                    }
                    Ok(None) => {
                        reading = false;
                        continue;
                    }
                    Err(status) => {
                        tracing::debug!(agent = %self.agent, %status, "findings stream broke");
                        // Too large a message, for example: the agent should hear it. If it is gone, it cannot.
                        let _ = self.down.send(Err(status)).await;
                        break;
                    }
                },
            };
            self.collector.counters.add_intake(self.intake.take_counters());
            if let Some(output) = output
                && self.perform(output).await.is_break()
            {
                return;
            }
        }
        if let Some(reason) = ending {
            let go_away = v1::GoAway { retry_after_ms: reason.retry_after_ms(), reason: reason.to_string() };
            // The stream ends either way.
            let _ = self.send(DownFrame::GoAway(go_away)).await;
        }
    }

    fn received(&mut self, frame: v1::FindingsUp) -> Option<Output> {
        match frame.frame {
            Some(UpFrame::Hello(hello)) => Some(self.intake.handle_hello(&hello)),
            Some(UpFrame::Batch(batch)) => {
                let wire_bytes = batch.encoded_len() as u64;
                self.intake.handle_batch(batch, wire_bytes)
            }
            None => Some(self.intake.handle_empty_frame()),
        }
    }

    fn committed(&mut self, result: Result<u64, StoreError>) -> Option<Output> {
        match result {
            Ok(rows) => {
                add(&self.collector.counters.items_stored, rows);
                self.intake.handle_committed()
            }
            Err(error) => {
                add(&self.collector.counters.commits_failed, 1);
                tracing::error!(agent = %self.agent, %error, "batch not stored");
                self.intake.handle_commit_failed(error.to_string())
            }
        }
    }

    async fn perform(&mut self, output: Output) -> ControlFlow<()> {
        match output {
            Output::Resume(epoch) => {
                let welcome = match self.high_water(epoch).await {
                    Ok(stored) => self.intake.handle_resumed(stored),
                    Err(error) => {
                        return self.close(&CloseReason::StoreFailed { cause: error.to_string() }).await;
                    }
                };
                Box::pin(self.perform(welcome)).await
            }
            Output::Welcome { durable_upto, credit_bytes } => {
                let welcome = v1::Welcome { durable_upto: durable_upto.0, credit_bytes };
                self.send(DownFrame::Welcome(welcome)).await
            }
            Output::Commit(commit) => match self.submit(commit).await {
                Ok(result) => {
                    self.commits.push_back(result);
                    ControlFlow::Continue(())
                }
                Err(error) => self.close(&CloseReason::StoreFailed { cause: error.to_string() }).await,
            },
            Output::Ack { epoch, upto } => {
                self.send(DownFrame::Ack(v1::Ack { epoch: epoch.0.to_vec(), upto: upto.0 })).await
            }
            Output::Close(reason) => self.close(&reason).await,
        }
    }

    /// Through the writer, so that it sees every batch that an earlier stream of this agent has queued.
    async fn high_water(&self, epoch: Epoch) -> Result<Option<Seq>, StoreError> {
        let agent = self.agent;
        self.collector.store.write(move |connection| findings::high_water(connection, agent, epoch)).await
    }

    async fn submit(&self, commit: Commit) -> Result<oneshot::Receiver<Result<u64, StoreError>>, StoreError> {
        let permit = self.collector.queued_bytes.reserve(&commit).await;
        let (agent, fleet) = (self.agent, Arc::clone(&self.fleet));
        let store = &self.collector.store;
        store
            .submit(move |connection| {
                let stored = findings::commit(connection, agent, &fleet, &commit, clock::now());
                drop(permit);
                stored
            })
            .await
    }

    async fn close(&self, reason: &CloseReason) -> ControlFlow<()> {
        let frame = match reason {
            CloseReason::Violation(violation) => {
                add(&self.collector.counters.protocol_violations, 1);
                tracing::warn!(agent = %self.agent, %violation, "findings stream ended");
                Err(Status::invalid_argument(reason.to_string()))
            }
            CloseReason::StoreFailed { .. } => {
                let go_away = v1::GoAway { retry_after_ms: STORE_RETRY_MS, reason: reason.to_string() };
                Ok(v1::FindingsDown { frame: Some(DownFrame::GoAway(go_away)) })
            }
        };
        // The stream ends either way.
        let _ = self.down.send(frame).await;
        ControlFlow::Break(())
    }

    async fn send(&self, frame: DownFrame) -> ControlFlow<()> {
        match self.down.send(Ok(v1::FindingsDown { frame: Some(frame) })).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(()),
        }
    }
}

/// The result of the oldest outstanding commit; never, when there is none.
async fn next_result(
    commits: &mut VecDeque<oneshot::Receiver<Result<u64, StoreError>>>,
) -> Result<u64, StoreError> {
    match commits.front_mut() {
        Some(oldest) => {
            let result = oldest.await;
            commits.pop_front();
            result.unwrap_or(Err(StoreError::Stopped))
        }
        None => std::future::pending().await,
    }
}

/// One agent may have one largest message outstanding, in at most so many batches.
const LIMITS: Limits = Limits { credit_bytes: MESSAGE_BYTES_MAX as u64, batches_max: 64 };
