//! Moves bytes for the two state machines: performs the actions they ask for and tells them what happened. Decides
//! nothing: when to connect is the session's, what a baseline is worth is [`BaselineKeeper`]'s. It may call tokio.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sensor_proto::v1;
use tokio::sync::{mpsc, watch};

use super::control::{Control, ControlAction, LearnedMark, Revision, Status};
use super::link::{self, Generation, Input, Inputs, Link};
use super::session::{Action, Session};
use crate::identity::Identity;
use crate::learned_store::LearnedReader;
use crate::runtime::baseline_keeper::BaselineKeeper;
use crate::runtime::vitals::Vitals;
use crate::spool::{Epoch, Seq, SpoolReader};
use crate::wire;

pub use super::link::Target;

/// What the uplink works with.
pub struct UplinkParts {
    /// Where the collector is.
    pub target: Target,
    /// Who this agent is.
    pub identity: Identity,
    /// Where a renewed identity is written.
    pub identity_folder: std::path::PathBuf,
    /// Findings to deliver.
    pub spool: SpoolReader,
    /// Learned behaviours to send.
    pub learned: LearnedReader,
    /// Takes baselines.
    pub baselines: Arc<BaselineKeeper>,
    /// What a heartbeat says.
    pub vitals: Vitals,
    /// Seed of the waits between attempts.
    pub seed: u64,
}

/// The driver.
pub struct Uplink {
    parts: UplinkParts,
    session: Session,
    control: Control,
    origin: Instant,
    inputs: Inputs,
    link: Option<Link>,
    is_renewing: bool,
    renewed_at: Option<Duration>,
    /// Whether the spool was degraded when it was last looked at.
    is_degraded: bool,
    last_trouble: String,
}

impl Uplink {
    /// Runs until `shutdown` becomes true, or the spool ends.
    pub async fn run(parts: UplinkParts, mut shutdown: watch::Receiver<bool>) {
        let (sender, mut received) = mpsc::channel(INPUTS_MAX);
        let mut spool_state = parts.spool.state();
        let mut learned_state = parts.learned.state();
        let mut uplink = Self {
            session: Session::new(parts.seed),
            control: Control::default(),
            origin: Instant::now(),
            inputs: Inputs { sender, generation: Generation(0) },
            link: None,
            is_renewing: false,
            renewed_at: None,
            is_degraded: false,
            last_trouble: String::new(),
            parts,
        };
        spool_state.mark_changed();
        learned_state.mark_changed();
        loop {
            uplink.act();
            let timeout = uplink.timeout();
            tokio::select! {
                _ = shutdown.wait_for(|is_ending| *is_ending) => return,
                Some((generation, input)) = received.recv() => uplink.handle(generation, input),
                changed = spool_state.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let (holding, is_degraded) = {
                        let state = spool_state.borrow_and_update();
                        (state.holding, state.health.degraded.is_some())
                    };
                    uplink.session.handle_spool(uplink.now(), holding);
                    if is_degraded != uplink.is_degraded {
                        uplink.is_degraded = is_degraded;
                        uplink.control.handle_vitals_changed(uplink.now());
                    }
                }
                Ok(()) = learned_state.changed() => {
                    let mark = learned_state.borrow_and_update().mark;
                    if let Some(mark) = mark {
                        uplink.control.handle_learned(mark);
                    }
                }
                () = tokio::time::sleep(timeout) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn timeout(&self) -> Duration {
        let now = self.now();
        [self.session.poll_timeout(), self.control.poll_timeout()]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_sub(now))
            .min()
            .map_or(RENEWAL_CHECK_INTERVAL, |wait| wait.min(RENEWAL_CHECK_INTERVAL))
    }

    /// Performs everything the state machines ask for.
    fn act(&mut self) {
        self.renew_if_due();
        loop {
            let now = self.now();
            if let Some(action) = self.session.poll_action(now) {
                self.perform(action);
            } else if let Some(action) = self.control.poll_action(now) {
                self.perform_control(action);
            } else {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect => {
                self.inputs.generation.0 += 1;
                let (inputs, target) = (self.inputs.clone(), self.parts.target.clone());
                let identity = self.parts.identity.clone();
                tokio::spawn(async move {
                    inputs.report(Input::Connected(link::connect(&target, &identity).await)).await;
                });
            }
            Action::SendHello(hello) => self.send_findings(v1::findings_up::Frame::Hello(v1::Hello {
                epoch: hello.epoch.0.to_vec(),
                first_seq: hello.first.0,
                last_seq: hello.last.0,
            })),
            Action::Read { from, limits } => {
                let (inputs, spool) = (self.inputs.clone(), self.parts.spool.clone());
                tokio::spawn(async move {
                    inputs.report(Input::Read(spool.read(from, limits).await)).await;
                });
            }
            Action::SendBatch { epoch, items } => {
                self.send_findings(v1::findings_up::Frame::Batch(v1::Batch {
                    epoch: epoch.0.to_vec(),
                    items: items.into_iter().map(wire::item_message).collect(),
                }));
            }
            Action::Acknowledge { epoch, upto } => self.parts.spool.acknowledge(epoch, upto),
            Action::Renumber => self.parts.spool.renumber(),
            Action::Close { reason } => {
                self.note_trouble(reason);
                self.drop_link();
            }
        }
    }

    fn perform_control(&mut self, action: ControlAction) {
        match action {
            ControlAction::SendHeartbeat => {
                let heartbeat = self.parts.vitals.heartbeat(self.session.counters(), &self.parts.baselines);
                self.send_control(v1::control_up::Frame::Heartbeat(heartbeat));
            }
            ControlAction::ReadLearned { since, behaviours_max } => {
                let (inputs, learned) = (self.inputs.clone(), self.parts.learned.clone());
                tokio::spawn(async move {
                    inputs.report(Input::Chunk(learned.read(since, behaviours_max).await)).await;
                });
            }
            ControlAction::SendLearned(chunk) => {
                self.send_control(v1::control_up::Frame::Learned(wire::learned_message(&chunk)));
            }
            ControlAction::Apply(offer) => {
                let (inputs, baselines) = (self.inputs.clone(), self.parts.baselines.clone());
                let ticket = baselines.announce();
                tokio::task::spawn_blocking(move || {
                    let status = Status {
                        version: offer.version,
                        sha256: offer.sha256.to_vec(),
                        outcome: baselines.take(ticket, &offer),
                    };
                    let _the_driver_has_ended =
                        inputs.sender.blocking_send((inputs.generation, Input::Applied(status)));
                });
            }
            ControlAction::SendStatus(status) => {
                self.send_control(v1::control_up::Frame::BaselineStatus(wire::status_message(status)));
            }
            ControlAction::Close { reason, retry_after } => {
                self.note_trouble(reason);
                self.session.handle_go_away(self.now(), retry_after.unwrap_or_default());
            }
        }
    }

    fn handle(&mut self, generation: Generation, input: Input) {
        if generation != self.inputs.generation {
            return;
        }
        let now = self.now();
        match input {
            Input::Connected(Ok(channel)) => {
                self.link = Some(Link::open(channel, &self.inputs));
                self.session.handle_connected(now);
                self.control.handle_connected(now);
            }
            Input::Connected(Err(reason)) => {
                self.note_trouble(reason);
                self.session.handle_connect_failed(now);
            }
            Input::Findings(frame) => self.handle_findings(now, frame),
            Input::Control(frame) => self.handle_control(now, frame),
            Input::Ended(reason) => self.end(reason),
            Input::Read(Ok(items)) => self.session.handle_read(now, items),
            Input::Read(Err(_reason_is_in_the_spools_health)) => self.session.handle_read_failed(now),
            Input::Chunk(chunk) => self.control.handle_chunk(now, chunk),
            Input::Applied(status) => self.control.handle_applied(now, status),
            Input::Renewed(Ok(identity)) => {
                tracing::info!("certificate renewed");
                self.parts.identity = identity;
                self.is_renewing = false;
                self.renewed_at = Some(now);
                self.end("connecting again with the renewed certificate".to_owned());
            }
            Input::Renewed(Err(reason)) => {
                tracing::warn!("certificate not renewed: {reason}");
                self.is_renewing = false;
            }
        }
    }

    fn handle_findings(&mut self, now: Duration, frame: v1::findings_down::Frame) {
        match frame {
            v1::findings_down::Frame::Welcome(welcome) => {
                self.session.handle_welcome(now, Seq(welcome.durable_upto), welcome.credit_bytes);
                if self.session.is_streaming() {
                    tracing::info!("connected to collector {}", self.parts.target.address);
                    self.last_trouble.clear();
                }
            }
            v1::findings_down::Frame::Ack(ack) => {
                let epoch = epoch_of(&ack.epoch).unwrap_or(NO_EPOCH);
                self.session.handle_ack(now, epoch, Seq(ack.upto));
            }
            v1::findings_down::Frame::GoAway(go_away) => {
                self.note_trouble(format!("the collector asked to go away: {}", go_away.reason));
                self.session.handle_go_away(now, Duration::from_millis(go_away.retry_after_ms));
            }
        }
    }

    fn handle_control(&mut self, now: Duration, frame: v1::control_down::Frame) {
        match frame {
            v1::control_down::Frame::Welcome(welcome) => {
                let revision = Revision(welcome.learned_revision);
                let stored = epoch_of(&welcome.learned_epoch).map(|epoch| LearnedMark { epoch, revision });
                let interval = Duration::from_millis(welcome.heartbeat_interval_ms);
                self.control.handle_welcome(now, interval, stored);
            }
            v1::control_down::Frame::LearnedAck(ack) => {
                let epoch = epoch_of(&ack.epoch).unwrap_or(NO_EPOCH);
                self.control.handle_learned_ack(LearnedMark { epoch, revision: Revision(ack.revision) });
            }
            v1::control_down::Frame::Baseline(offer) => {
                self.control.handle_offer(offer.version, &offer.sha256, offer.yaml);
            }
            v1::control_down::Frame::GoAway(go_away) => {
                self.control.handle_go_away(Duration::from_millis(go_away.retry_after_ms), &go_away.reason);
            }
        }
    }

    fn send_findings(&mut self, frame: v1::findings_up::Frame) {
        if self.link.as_ref().is_some_and(|link| !link.send_findings(frame)) {
            self.end("the connection does not keep up".to_owned());
        }
    }

    fn send_control(&mut self, frame: v1::control_up::Frame) {
        if self.link.as_ref().is_some_and(|link| !link.send_control(frame)) {
            self.end("the connection does not keep up".to_owned());
        }
    }

    /// The connection is gone: both machines hear of it.
    fn end(&mut self, reason: String) {
        self.note_trouble(reason);
        self.drop_link();
        self.session.handle_closed(self.now());
    }

    fn drop_link(&mut self) {
        self.link = None;
        self.is_renewing = false;
        self.control.handle_closed();
        // Whatever its tasks still report belongs to nothing.
        self.inputs.generation.0 += 1;
    }

    /// Logs a reason once, until it changes or a connection has worked.
    fn note_trouble(&mut self, reason: String) {
        if reason != self.last_trouble {
            tracing::warn!("collector {}: {reason}", self.parts.target.address);
            self.last_trouble = reason;
        }
    }

    fn renew_if_due(&mut self) {
        // A clock that runs ahead makes every certificate look old: no more than one in a while.
        let is_recent = self.renewed_at.is_some_and(|at| self.now() < at + RENEWAL_INTERVAL_MIN);
        let Some(link) = self.link.as_mut().filter(|_| !self.is_renewing && !is_recent) else { return };
        let due = self.parts.identity.validity().map(|validity| validity.renew_at() <= SystemTime::now());
        if !due.unwrap_or(false) {
            return;
        }
        self.is_renewing = true;
        let (inputs, channel) = (self.inputs.clone(), link.channel.clone());
        let (identity, folder) = (self.parts.identity.clone(), self.parts.identity_folder.clone());
        link.tasks.spawn(async move {
            let renewed = match link::renew(channel, identity).await {
                Ok(identity) => store(identity, folder).await,
                Err(reason) => Err(reason),
            };
            if renewed.is_err() {
                // Asked again after a while: until then this task says that a renewal is under way.
                tokio::time::sleep(RENEWAL_RETRY_INTERVAL).await;
            }
            inputs.report(Input::Renewed(renewed)).await;
        });
    }
}

async fn store(identity: Identity, folder: std::path::PathBuf) -> Result<Identity, String> {
    let writing = tokio::task::spawn_blocking(move || identity.store(&folder).map(|()| identity));
    match writing.await {
        Ok(written) => written.map_err(|error| format!("{error:#}")),
        Err(panic) => Err(panic.to_string()),
    }
}

fn epoch_of(bytes: &[u8]) -> Option<Epoch> {
    bytes.try_into().ok().map(Epoch)
}

/// Stands for an epoch that is none: it equals no real one.
const NO_EPOCH: Epoch = Epoch([0; 16]);
const INPUTS_MAX: usize = 256;
const RENEWAL_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const RENEWAL_INTERVAL_MIN: Duration = Duration::from_secs(3600);
const RENEWAL_RETRY_INTERVAL: Duration = Duration::from_secs(300);
