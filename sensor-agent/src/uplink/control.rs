//! The agent's half of the Control stream as a state machine: heartbeats, learned behaviours up, baselines down. No
//! socket, clock, file or parser of its own: `handle_*` takes what happened, `poll_action` says what to do next. It
//! may call sha2.
//!
//! It does not connect: the Findings session owns the connection, and this stream lives and ends with it. A baseline
//! is taken in these steps, and the first that fails is the reason in `FAILED`:
//! hash of the bytes, UTF-8, then (by the driver) parse, apply, keep as last good.

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::learned_store::LearnedRow;
use crate::spool::Epoch;

/// What the driver must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAction {
    /// Gather the counters and send them.
    SendHeartbeat,
    /// Read learned behaviours, then call `handle_chunk`.
    ReadLearned {
        /// Those with a later revision.
        since: Revision,
        /// At most so many.
        behaviours_max: usize,
    },
    /// Send the chunk that was read.
    SendLearned(Chunk),
    /// Parse, apply and keep a baseline, then call `handle_applied`.
    Apply(Offer),
    /// Tell the collector what became of a baseline.
    SendStatus(Status),
    /// Close the connection: the collector broke the protocol, or asked for it.
    Close {
        /// For the log.
        reason: String,
        /// What the collector asked to wait.
        retry_after: Option<Duration>,
    },
}

/// Counts changes of the learned state: every changed behaviour takes the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// How far the learned state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedMark {
    /// New whenever the learned state starts afresh.
    pub epoch: Epoch,
    /// The newest revision given.
    pub revision: Revision,
}

/// A part of the learned state, in the order of revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The epoch and the last row's revision.
    pub mark: LearnedMark,
    /// What changed.
    pub rows: Vec<LearnedRow>,
}

/// A baseline whose hash is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its version in the fleet.
    pub version: u64,
    /// Hash of the text.
    pub sha256: [u8; 32],
    /// The text.
    pub yaml: String,
}

/// What became of a baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its version in the fleet.
    pub version: u64,
    /// The hash as it was offered.
    pub sha256: Vec<u8>,
    /// `Err` says why it failed.
    pub outcome: Result<(), String>,
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Control {
    link: Option<Link>,
    learned: Option<LearnedMark>,
    outbox: VecDeque<ControlAction>,
}

#[derive(Debug)]
struct Link {
    heartbeat_at: Duration,
    heartbeat_interval: Duration,
    /// Set by the welcome: what the collector has of the learned state.
    upload: Option<Upload>,
}

#[derive(Debug)]
struct Upload {
    stored: LearnedMark,
    state: UploadState,
    not_before: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadState {
    Idle,
    Reading,
    Sent(LearnedMark),
}

impl Control {
    /// The stream stands: the first frame is a heartbeat.
    pub fn handle_connected(&mut self, now: Duration) {
        self.outbox.clear();
        self.link = Some(Link { heartbeat_at: now, heartbeat_interval: HEARTBEAT_MAX, upload: None });
    }

    /// The stream has ended. A baseline that is being applied stays applied; the next heartbeat says so.
    pub fn handle_closed(&mut self) {
        self.outbox.clear();
        self.link = None;
    }

    /// The collector says how often it wants to hear, and what it has of the learned state.
    pub fn handle_welcome(
        &mut self,
        now: Duration,
        heartbeat_interval: Duration,
        stored: Option<LearnedMark>,
    ) {
        let Some(link) = &mut self.link else { return };
        link.heartbeat_interval = heartbeat_interval.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        link.heartbeat_at = link.heartbeat_at.min(now + link.heartbeat_interval);
        let nothing = LearnedMark { epoch: Epoch([0; 16]), revision: Revision(0) };
        let stored = stored.unwrap_or(nothing);
        link.upload = Some(Upload { stored, state: UploadState::Idle, not_before: now });
    }

    /// The learned state is this far now.
    pub fn handle_learned(&mut self, mark: LearnedMark) {
        self.learned = Some(mark);
    }

    /// The rows that [`ControlAction::ReadLearned`] asked for; `None` when they could not be read.
    pub fn handle_chunk(&mut self, now: Duration, chunk: Option<Chunk>) {
        let Some(upload) = self.link.as_mut().and_then(|link| link.upload.as_mut()) else { return };
        if upload.state != UploadState::Reading {
            return;
        }
        match chunk.filter(|chunk| !chunk.rows.is_empty()) {
            Some(chunk) => {
                upload.state = UploadState::Sent(chunk.mark);
                self.outbox.push_back(ControlAction::SendLearned(chunk));
            }
            None => {
                upload.state = UploadState::Idle;
                upload.not_before = now + READ_RETRY;
            }
        }
    }

    /// The collector has stored what was sent up to `mark`. Anything but the answer to the last chunk is ignored.
    pub fn handle_learned_ack(&mut self, mark: LearnedMark) {
        let Some(upload) = self.link.as_mut().and_then(|link| link.upload.as_mut()) else { return };
        if upload.state == UploadState::Sent(mark) {
            upload.stored = mark;
            upload.state = UploadState::Idle;
        }
    }

    /// The collector offers a baseline.
    pub fn handle_offer(&mut self, version: u64, sha256: &[u8], yaml: Vec<u8>) {
        let computed: [u8; 32] = Sha256::digest(&yaml).into();
        let refused = if computed == sha256 {
            match String::from_utf8(yaml) {
                Ok(yaml) => {
                    let offer = Offer { version, sha256: computed, yaml };
                    self.outbox.push_back(ControlAction::Apply(offer));
                    return;
                }
                Err(error) => format!("not UTF-8 after byte {}", error.utf8_error().valid_up_to()),
            }
        } else {
            "the bytes do not have the hash they were offered with".to_owned()
        };
        let status = Status { version, sha256: sha256.to_vec(), outcome: Err(refused) };
        self.outbox.push_back(ControlAction::SendStatus(status));
    }

    /// What became of [`ControlAction::Apply`]. A heartbeat with the baseline in force follows at once.
    pub fn handle_applied(&mut self, now: Duration, status: Status) {
        let Some(link) = &mut self.link else { return };
        link.heartbeat_at = now;
        self.outbox.push_back(ControlAction::SendStatus(status));
    }

    /// Something that an operator waits to see has changed: the next heartbeat comes at once.
    pub fn handle_vitals_changed(&mut self, now: Duration) {
        if let Some(link) = &mut self.link {
            link.heartbeat_at = link.heartbeat_at.min(now);
        }
    }

    /// The collector asks to be left alone for a while.
    pub fn handle_go_away(&mut self, retry_after: Duration, reason: &str) {
        let reason = format!("the collector asked to go away: {reason}");
        self.outbox.push_back(ControlAction::Close { reason, retry_after: Some(retry_after) });
    }

    /// What to do next, if anything.
    pub fn poll_action(&mut self, now: Duration) -> Option<ControlAction> {
        let link = self.link.as_mut()?;
        if link.heartbeat_at <= now {
            link.heartbeat_at = now + link.heartbeat_interval;
            return Some(ControlAction::SendHeartbeat);
        }
        if let Some(action) = self.outbox.pop_front() {
            return Some(action);
        }
        let (upload, learned) = (link.upload.as_mut()?, self.learned?);
        if upload.not_before > now || upload.state != UploadState::Idle {
            return None;
        }
        let since = upload.unsent_since(learned)?;
        upload.state = UploadState::Reading;
        Some(ControlAction::ReadLearned { since, behaviours_max: CHUNK_BEHAVIOURS_MAX })
    }

    /// When `poll_action` may have something to do although nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let link = self.link.as_ref()?;
        let upload_at = link.upload.as_ref().and_then(|upload| {
            let idle = upload.state == UploadState::Idle;
            let unsent = self.learned.and_then(|learned| upload.unsent_since(learned)).is_some();
            (idle && unsent).then_some(upload.not_before)
        });
        Some(upload_at.map_or(link.heartbeat_at, |at| at.min(link.heartbeat_at)))
    }
}

impl Upload {
    /// The revision after which the collector lacks something; `None` when it lacks nothing.
    fn unsent_since(&self, learned: LearnedMark) -> Option<Revision> {
        let since = if self.stored.epoch == learned.epoch { self.stored.revision } else { Revision(0) };
        // A collector that claims more than there is has another agent's state: send nothing rather than loop.
        (learned.revision > since).then_some(since)
    }
}

/// Bounds of the interval that a collector may ask for.
const HEARTBEAT_MIN: Duration = Duration::from_millis(500);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// Behaviours of one frame: well under a message's size limit with paths of the greatest length.
const CHUNK_BEHAVIOURS_MAX: usize = 250;
const READ_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use sensor_baseline::{Action, Behaviour, Object, Subject, Workload};

    const NOW: Duration = Duration::from_secs(50);
    const EPOCH: Epoch = Epoch([1; 16]);

    fn mark(revision: u64) -> LearnedMark {
        LearnedMark { epoch: EPOCH, revision: Revision(revision) }
    }

    fn chunk(revision: u64) -> Chunk {
        let behaviour = Behaviour {
            workload: Workload("host".to_owned()),
            subject: Subject("/a".to_owned()),
            action: Action::Exec,
            object: Object::path("/b"),
        };
        Chunk {
            mark: mark(revision),
            rows: vec![LearnedRow { behaviour, count: 1, first_ns: 1, last_ns: 2, withheld_by: None }],
        }
    }

    fn read_since(revision: u64) -> ControlAction {
        ControlAction::ReadLearned { since: Revision(revision), behaviours_max: CHUNK_BEHAVIOURS_MAX }
    }

    fn welcomed(stored: Option<LearnedMark>) -> Control {
        let mut control = Control::default();
        control.handle_connected(NOW);
        assert_eq!(control.poll_action(NOW), Some(ControlAction::SendHeartbeat));
        control.handle_welcome(NOW, Duration::from_secs(5), stored);
        control
    }

    #[test]
    fn the_first_frame_is_a_heartbeat_and_then_one_each_interval() {
        let mut control = welcomed(None);
        assert_eq!(control.poll_action(NOW), None);
        let next = NOW + Duration::from_secs(5);
        assert_eq!(control.poll_timeout(), Some(next));
        assert_eq!(control.poll_action(next), Some(ControlAction::SendHeartbeat));
        assert_eq!(control.poll_action(next), None);
    }

    #[test]
    fn learned_behaviours_resume_where_the_collector_is() {
        let mut control = welcomed(Some(mark(7)));
        control.handle_learned(mark(9));
        assert_eq!(control.poll_action(NOW), Some(read_since(7)));
        assert_eq!(control.poll_action(NOW), None, "one chunk at a time");
        control.handle_chunk(NOW, Some(chunk(8)));
        assert_eq!(control.poll_action(NOW), Some(ControlAction::SendLearned(chunk(8))));
        assert_eq!(control.poll_action(NOW), None, "it waits for the ack");
        control.handle_learned_ack(mark(8));
        assert_eq!(control.poll_action(NOW), Some(read_since(8)));
    }

    #[test]
    fn another_epoch_is_sent_from_the_start() {
        let mut control = welcomed(Some(LearnedMark { epoch: Epoch([9; 16]), revision: Revision(100) }));
        control.handle_learned(mark(3));
        assert_eq!(control.poll_action(NOW), Some(read_since(0)));
    }

    #[test]
    fn an_ack_of_something_else_is_ignored() {
        let mut control = welcomed(None);
        control.handle_learned(mark(9));
        control.poll_action(NOW);
        control.handle_chunk(NOW, Some(chunk(4)));
        control.poll_action(NOW);
        control.handle_learned_ack(mark(9));
        control.handle_learned_ack(LearnedMark { epoch: Epoch([9; 16]), revision: Revision(4) });
        assert_eq!(control.poll_action(NOW), None);
    }

    fn check_offer(sha256: &[u8], yaml: &[u8], expected: Result<(), &str>) {
        let mut control = welcomed(None);
        control.handle_offer(3, sha256, yaml.to_vec());
        match (control.poll_action(NOW), expected) {
            (Some(ControlAction::Apply(offer)), Ok(())) => assert_eq!(offer.yaml.as_bytes(), yaml),
            (Some(ControlAction::SendStatus(status)), Err(reason)) => {
                assert_eq!((status.version, status.sha256.as_slice()), (3, sha256));
                assert_eq!(status.outcome, Err(reason.to_owned()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_bytes_that_were_hashed_are_applied() {
        check_offer(&Sha256::digest(b"fleet: a"), b"fleet: a", Ok(()));
        let wrong = "the bytes do not have the hash they were offered with";
        check_offer(&Sha256::digest(b"fleet: b"), b"fleet: a", Err(wrong));
        check_offer(b"short", b"fleet: a", Err(wrong));
        check_offer(&Sha256::digest(b"ab\xff"), b"ab\xff", Err("not UTF-8 after byte 2"));
    }

    #[test]
    fn a_status_is_followed_by_the_baseline_in_force() {
        let mut control = welcomed(None);
        let status = Status { version: 3, sha256: vec![1], outcome: Err("line 2: no".to_owned()) };
        control.handle_applied(NOW, status.clone());
        assert_eq!(control.poll_action(NOW), Some(ControlAction::SendHeartbeat));
        assert_eq!(control.poll_action(NOW), Some(ControlAction::SendStatus(status)));
    }

    #[test]
    fn trouble_shows_at_once() {
        let mut control = welcomed(None);
        assert_eq!(control.poll_action(NOW), None);
        control.handle_vitals_changed(NOW);
        assert_eq!(control.poll_action(NOW), Some(ControlAction::SendHeartbeat));
        assert_eq!(control.poll_action(NOW), None);
    }

    #[test]
    fn a_closed_stream_asks_for_nothing() {
        let mut control = welcomed(None);
        control.handle_learned(mark(3));
        control.handle_closed();
        assert_eq!((control.poll_action(NOW), control.poll_timeout()), (None, None));
    }
}
